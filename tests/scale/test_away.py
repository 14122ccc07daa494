"""The API server is away for longer than the Lease lasts, and comes back: the same end, and nothing is made twice."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

import pytest

from af_operator.world import SESSION
from local_cluster.control_plane import OPERATOR, ControlPlane
from local_cluster.processes import poll
from tests.support.audit import Audit
from tests.support.many_sessions import RUN, spread
from tests.support.proxied_operator import ProxiedOperator, proxied
from tests.support.site import KINDS, Ref, Site

NAMESPACE = "away"
AWAY_SECONDS = 20
LEASE_SECONDS = 5
BACK_OFF = 2.0
"""Seconds that a kubelet, of a patient kind, waits before it starts again what has ended."""
END_SECONDS = 60
SESSIONS = 10
WORKER = re.compile(r"-worker-[0-9a-f]{10}$")


@pytest.mark.timeout(200)
def test_an_api_server_that_comes_back(plane: ControlPlane, site: Site, tmp_path: Path) -> None:
    site.open_namespaces(NAMESPACE)
    bodies = spread(SESSIONS + 1, [NAMESPACE], RUN)
    *first, last = bodies
    with proxied(plane, tmp_path, LEASE_SECONDS=str(LEASE_SECONDS)) as operator, Audit(plane.audit_log) as audit:
        operator.process.start()
        site.create(first)
        operator.settle(1 + SESSIONS)
        before = shapes(site)
        operator.proxy.go_away()
        goes, loses = (each["metadata"]["name"] for each in first[:2])
        site.delete(SESSION, Ref(SESSION.plural, NAMESPACE, goes))
        lost = next(ref for ref in sorted(site.of(loses)) if ref.plural == "services")
        site.delete(next(kind for kind in KINDS if kind.plural == lost.plural), lost)
        site.create([last])
        kept_alive(operator, AWAY_SECONDS)
        operator.proxy.come_back()
        expected = {renamed(ref, goes, last["metadata"]["name"]) for ref in before}
        end = time.monotonic() + END_SECONDS
        while shapes(site) != expected:
            assert time.monotonic() < end, shapes(site) ^ expected
            kept_alive(operator, 1.0)
        operator.settle(1 + SESSIONS)
        assert shapes(site) == expected
        created = Counter(audit.created(OPERATOR, namespace=NAMESPACE))
    assert {name: times for name, times in created.items() if times > 1} == {f"services/{lost.name}": 2}


def shapes(site: Site) -> set[Ref]:
    """Return what there is; a worker without what tells it from others of its group, which has one here."""
    return {ref._replace(name=WORKER.sub("-worker", ref.name)) for ref in site.objects()}


def kept_alive(operator: ProxiedOperator, seconds: float) -> None:
    """Be the kubelet for a while: start what has ended."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if poll(lambda: not operator.process.running(), min(left, 1.0)):
            time.sleep(BACK_OFF)
            operator.process.wait()
            operator.process.start()


def renamed(ref: Ref, session: str, other: str) -> Ref:
    """Return what another session has instead."""
    mine = ref.name == session or ref.name.startswith(f"{session}-")
    return ref._replace(name=ref.name.replace(session, other)) if mine else ref
