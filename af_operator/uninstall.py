"""Before the chart is uninstalled: is anything left that needs an operator? The chart runs it as a hook of helm."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from af_kube.connection import Connection, Transport, call
from af_kube.errors import HttpError, KubeError
from af_kube.request import Request, api_path
from af_operator import settings
from af_operator.api import API_VERSION
from af_operator.world import ENDED

SESSIONS = f"{api_path(API_VERSION)}/{{where}}analysissessions"
DASK = tuple(f"/apis/kubernetes.dask.org/v1/{{where}}{plural}" for plural in ("daskclusters", "daskworkergroups"))
"""What the Dask operator puts a finalizer on: without that operator it can never go, nor can its namespace."""
WAIT_SECONDS = 60.0
"""For what is on its way out: who deletes the sessions uninstalls in the next breath."""
PAUSE_SECONDS = 1.0
SHOWN = 20

Body = dict[str, Any]


@dataclass(frozen=True)
class Left:
    """One object that still needs an operator."""

    text: str
    leaving: bool


def of_session(body: Body) -> Left | None:
    """Return what is to be said of a session, or None if it has ended: nobody has to look after that one."""
    metadata, phase = body["metadata"], body.get("status", {}).get("phase", "new")
    leaving = "deletionTimestamp" in metadata
    if phase in ENDED and not leaving:
        return None
    what = "is being deleted" if leaving else f"{phase}, of {body['spec']['user']}"
    return Left(f"analysissession {metadata['namespace']}/{metadata['name']}: {what}", leaving)


def of_dask(body: Body) -> Left:
    """Return what is to be said of an object of Dask; one that a session owns follows that session."""
    metadata = body["metadata"]
    leaving = "deletionTimestamp" in metadata or bool(metadata.get("ownerReferences"))
    return Left(f"{body['kind'].lower()} {metadata['namespace']}/{metadata['name']}", leaving)


async def left(api: Transport, namespaces: Sequence[str], *, dask: bool) -> list[Left]:
    """Return what is left in these namespaces, or in all if none is named.

    Raises
    ------
    KubeError
        The API server did not answer, or refused.
    """
    places = [f"namespaces/{each}/" for each in namespaces] or [""]
    found = [of_session(body) for place in places for body in await _list(api, SESSIONS.format(where=place))]
    paths = [path.format(where=place) for path in (DASK if dask else ()) for place in places]
    return [one for one in found if one] + [of_dask(body) for path in paths for body in await _list(api, path)]


async def _list(api: Transport, path: str) -> list[Body]:
    try:
        answer = await call(api, Request("GET", path))
    except HttpError as error:
        # No such kind: none of it is left. A namespace that is gone has taken the right to look into it along.
        if error.status == 404 or (error.status == 403 and "/namespaces/" in path):
            return []
        raise
    kind = answer["kind"].removesuffix("List")
    return [{"kind": kind, **body} for body in answer["items"]]


async def settled(api: Transport, namespaces: Sequence[str], *, dask: bool) -> list[Left]:
    """Return what is left when nothing is on its way out any more, or has been for too long."""
    end = time.monotonic() + WAIT_SECONDS
    while (found := await left(api, namespaces, dask=dask)) and all(one.leaving for one in found):
        if time.monotonic() > end:
            break
        await asyncio.sleep(PAUSE_SECONDS)
    return found


def refusal(found: Sequence[Left], namespaces: Sequence[str], back: str) -> Iterator[str]:
    """Yield why it is not uninstalled, and what to do; `back` is how the release is kept."""
    yield "Not uninstalled: nobody would end these any more, nor finish their deletion."
    yield from (f"  {one.text}" for one in found[:SHOWN])
    if len(found) > SHOWN:
        yield f"  and {len(found) - SHOWN} more"
    where = [f"--namespace={each}" for each in namespaces] or ["--all-namespaces"]
    yield "Next: let them end, or delete them, and uninstall again:"
    yield from (f"  kubectl delete analysissessions --all {each}" for each in where)
    if any(one.text.startswith("dask") for one in found):
        yield from (f"  kubectl delete daskclusters --all {each}" for each in where)
    yield "To leave them as they are, until an operator is installed again: helm uninstall --no-hooks"
    # helm has written down already that it uninstalls, and upgrades nothing that it uninstalls.
    yield f"To keep the release: {back}"


async def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if nothing is left, else 1 after saying what."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dask", action="store_true", help="the Dask operator goes, too")
    parser.add_argument("--back", default="helm rollback", help="the command that keeps the release")
    options = parser.parse_args(arguments)
    config = settings.load()
    api = Connection()
    try:
        found = await settled(api, config.watch_namespaces, dask=options.dask)
    except KubeError as error:
        print(f"Not uninstalled: the API server does not say which sessions are left: {error}")
        return 1
    finally:
        await api.close()
    for line in refusal(found, config.watch_namespaces, options.back) if found else ():
        print(line)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
