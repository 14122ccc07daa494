"""The session that this code runs in, for notebooks and runs.

Pods of a session have no rights in Kubernetes; what can be said from inside is said to the session's own agent,
such as the one in Dask's scheduler, within what the session's spec allows.

>>> from af_client.here import session
>>> session.scale("gpu", 2)      # now, whatever the tasks ask for
>>> session.scale("gpu", None)   # as the tasks ask for again
>>> session.scale("dask/gpu", 2) # where the session has other pools too
>>> session.upload("cuts.py", "tables")  # to all workers, also to those that come later
>>> session.upload_packages()    # those that `%pip install` has installed in home
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from af_client.errors import BadInput, Unreachable
from af_client.pod import agents

SECONDS = 10.0


@dataclass(frozen=True)
class Here:
    """The session around this process.

    Attributes
    ----------
    environ
        Where its addresses stand.
    """

    environ: Mapping[str, str]

    def scale(self, pool: str, workers: int | None) -> None:
        """Want this many workers of an elastic pool, whatever its tasks ask for; None: as they ask for.

        They come and go within `workers.min` and `workers.max` of the session's spec, and go without losing results.

        Parameters
        ----------
        pool
            ``gpu``, or ``dask/gpu`` where more than one of the session's components has pools.

        Raises
        ------
        BadInput
            There is no such elastic pool, or this is no session with pools.
        Unreachable
            The agent does not answer.
        """
        asked, _, name = pool.rpartition("/")
        component, agent = self._agent(asked, name)
        _tell(component, agent, {"pool": name, "workers": workers})

    def upload(self, *paths: str | Path) -> None:
        """Send files to all workers, of Dask and of Spark, also to those that come later.

        Tasks open them by the path that they have from here, and import what is a module or a package. A file that has
        changed is sent anew by the same line.

        Parameters
        ----------
        paths
            Files, directories with all that is in them, and wheels, which are installed; 64 MiB each at most.

        Raises
        ------
        BadInput
            There is no such file, it is too large, or the session has no workers.
        """
        from af_client.pod import sending  # noqa: PLC0415 - of Dask, which takes a second to import

        sending.upload(self.environ, [Path(path) for path in paths])

    def upload_packages(self) -> None:
        """Send the packages that `%pip install` has installed in home to all workers, as `upload` does.

        Raises
        ------
        BadInput
            There are none, they are too large, or the session has no workers.
        """
        from af_client.pod import sending  # noqa: PLC0415 - as above

        sending.upload_packages(self.environ)

    def _agent(self, asked: str, pool: str) -> tuple[str, agents.Agent]:
        found = agents.of(self.environ)
        if not found:
            raise BadInput("this is not inside a session with pools: `af scale NAME POOL N` changes one from outside")
        if not asked and len(found) > 1:
            listed = " or ".join(f"{each}/{pool}" for each in found)
            raise BadInput(f"this session has several engines, so whose pool {pool!r} is must be said: write {listed}")
        if asked and asked not in found:
            raise BadInput(f"this session has no {asked!r} with elastic pools; it has: {', '.join(found)}")
        component = asked or next(iter(found))
        return component, found[component]


def _tell(component: str, agent: agents.Agent, wish: Mapping[str, object]) -> None:
    headers = {"Content-Type": "application/json"}
    if agent.token:
        headers["Authorization"] = f"Bearer {agent.token}"
    request = Request(agent.url, json.dumps(wish).encode(), headers)  # noqa: S310 - the URL is of ``agents``
    try:
        # Without the proxies of the environment: the agent is in the cluster.
        with build_opener(ProxyHandler({})).open(request, timeout=SECONDS):
            return
    except HTTPError as error:
        raise BadInput(_message(component, error)) from error
    except (URLError, OSError) as error:
        raise Unreachable(f"the agent of {component} at {agent.url} does not answer: {error}") from error


def _message(component: str, error: HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"])
    except (ValueError, KeyError, TypeError):
        return f"the agent of {component} answers {error.code}: it was made by an older operator"


session = Here(os.environ)
