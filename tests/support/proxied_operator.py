"""An operator of this machine before a control plane without nodes, with the proxy between the two."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from af_operator.model import Kind
from af_operator.reconcile import QUIET
from local_cluster.control_plane import OPERATOR, ControlPlane
from local_cluster.processes import poll
from local_cluster.progress import tail
from tests.support.api_proxy import ApiProxy
from tests.support.bare_client import kind_path
from tests.support.exchange import Call
from tests.support.faults import Match
from tests.support.local_operator import LocalOperator

HELD_BACK = QUIET.total_seconds() + 2
"""Seconds after which every status that was held back is written."""
PACE = 0.3
SYSTEM = "default"
"""The namespace of the Lease; it is always there."""


class ProxiedOperator:
    """The process, and what it asks."""

    def __init__(self, proxy: ApiProxy, process: LocalOperator) -> None:
        self.proxy, self.process = proxy, process

    def lists(self, kind: Kind) -> list[Call]:
        """Return how often it has begun a list of a kind."""
        match = of_kind("list", kind)
        return [call for call in self.proxy.calls if match(call) and not call.page]

    def settle(self, keys: int, seconds: float = 120) -> None:
        """Wait until it has looked at all sessions and profiles since its start, and has no more to write."""
        began = time.monotonic()

        def calm() -> bool:
            assert self.process.running(), f"the operator has ended:\n{tail(self.process.log)}"
            last = max([began, *(call.time for call in self.proxy.writes)])
            return time.monotonic() - last > HELD_BACK and self.process.looked_at(keys)

        written = self.proxy.writes
        assert poll(calm, seconds, PACE), f"{len(self.proxy.writes) - len(written)} writes, and no end in {seconds} s"


def of_kind(of: Any, kind: Kind) -> Match:
    """Return what matches the lists or watches of a kind, everywhere or in one namespace."""
    root, _, plural = kind_path(kind.api_version, kind.plural).rpartition("/")
    return Match(of, rf"^{root}(/namespaces/[^/]+)?/{plural}$")


@contextmanager
def proxied(plane: ControlPlane, directory: Path, **settings: str) -> Iterator[ProxiedOperator]:
    """Give an operator that has not been started, with a Lease of its own."""
    name = f"operator-{uuid.uuid4().hex[:8]}"
    directory.mkdir(exist_ok=True)
    # The identity stays over its starts, as that of a pod does.
    given = {"NAMESPACE": SYSTEM, "LEASE_NAME": name, "IDENTITY": name, **settings}
    with ApiProxy(plane.server, plane.token(OPERATOR), plane.authority) as proxy:
        kubeconfig = proxy.kubeconfig(directory / "kubeconfig")
        with LocalOperator(kubeconfig, directory, given) as process:
            yield ProxiedOperator(proxy, process)
