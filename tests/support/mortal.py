"""An operator that is killed at one of its writes."""

from __future__ import annotations

from typing import Any

from tests.support.fake_cluster import FakeCluster

WRITES = ("create", "apply", "overwrite", "delete", "write_status", "record")


class Killed(Exception):
    """The operator is no more."""


class Mortal:
    """The port to the API server until its last write; after it nothing is written any more.

    Parameters
    ----------
    last
        The number of that write, from 0.
    heard
        It has come to the API server, and only the answer is lost.
    """

    def __init__(self, cluster: FakeCluster, last: int, *, heard: bool) -> None:
        self._cluster, self._last, self._heard = cluster, last, heard
        self._begun = 0

    @property
    def alive(self) -> bool:
        return self._begun <= self._last

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._cluster, name)
        return self._mortal(method) if name in WRITES else method

    def _mortal(self, method: Any) -> Any:
        async def write(*args: Any) -> Any:
            mine, self._begun = self._begun, self._begun + 1
            if mine < self._last or (mine == self._last and self._heard):
                answer = await method(*args)
            if mine >= self._last:
                raise Killed
            return answer

        return write
