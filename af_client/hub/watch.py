"""Objects of one kind as the Hub knows them: read without a request, and kept up to date from the first question on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from af_client.errors import ClientError, from_kube
from af_client.hub.transport import AsyncTransport
from af_kube.reflector import AT_ONCE, Reflector, Source
from af_kube.store import Body, Index, Store, without_managed_fields

WATCH_SECONDS = 45.0, 60.0
"""Short: somebody who starts a server waits before the page that shows what this knows. They are few watches."""


class Watched:
    """What is at several sources, such as namespaces.

    Parameters
    ----------
    indexes
        See ``Store``.
    """

    def __init__(self, api: AsyncTransport, sources: Iterable[Source], indexes: Mapping[str, Index] = {}) -> None:
        self.store: Store[Body] = Store(_kept, indexes=indexes)
        pages = asyncio.Semaphore(AT_ONCE)
        self._reflectors = [Reflector(api, source, self.store, pages, WATCH_SECONDS) for source in sources]

    async def ready(self, seconds: float = 5.0) -> bool:
        """Start watching if need be, wait until everything is there, and return whether it is fresh."""
        return all(await asyncio.gather(*(each.ready(seconds) for each in self._reflectors)))

    @property
    def objects(self) -> list[Body]:
        """All of them."""
        return [body for key in self.store if (body := self.store.get(key)) is not None]

    @property
    def fresh(self) -> bool:
        """Whether what is known is what is so."""
        return all(each.fresh for each in self._reflectors)

    @property
    def failure(self) -> ClientError | None:
        """Why not."""
        return next((from_kube(each.failure) for each in self._reflectors if each.failure), None)

    async def close(self) -> None:
        """Stop watching."""
        for each in self._reflectors:
            await each.close()


def _kept(body: Body) -> dict[str, Any]:
    """Return an object without what nobody asks for here: who wrote what, and the text of a run's program."""
    found = dict(without_managed_fields(body))
    if run := (found.get("spec") or {}).get("run"):
        found["spec"] = {**found["spec"], "run": {name: value for name, value in run.items() if name != "source"}}
    return found
