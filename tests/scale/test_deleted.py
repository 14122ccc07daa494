"""A session that is being deleted stops, whatever holds it; and what one leaves that was deleted alone is swept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from af_operator.model import Kind
from af_operator.world import SESSION
from local_cluster.control_plane import ControlPlane
from local_cluster.processes import poll
from tests.support.bare_client import kind_path
from tests.support.many_sessions import NOTEBOOK, RUN, session
from tests.support.proxied_operator import HELD_BACK, ProxiedOperator, proxied
from tests.support.site import Body, Ref, Site

NAMESPACE = "deleted"
HOLD = "example.org/archive"
ORPHAN_SECONDS = 4
END_SECONDS = 60
RECORD = {"configmaps", "secrets", "services", "roles", "rolebindings", "networkpolicies", "analysissessions"}
"""Kinds of what may stay with a session that is held: nothing that runs."""


@pytest.fixture(scope="module")
def operator(plane: ControlPlane, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedOperator]:
    site.open_namespaces(NAMESPACE)
    with proxied(plane, tmp_path_factory.mktemp("deleted"), ORPHAN_SECONDS=str(ORPHAN_SECONDS)) as found:
        found.process.start()
        found.process.wait_ready()
        yield found


def begun(site: Site, name: str, spec: Body) -> dict[Ref, Body]:
    """Create a session, and return what it consists of when the operator has made all of it."""
    site.create([session(name, NAMESPACE, spec, name)])
    seen: list[dict[Ref, Body]] = [{}]

    def calm() -> bool:
        seen.append(site.of(name))
        return len(seen[-1]) > 3 and seen[-1].keys() == seen[-2].keys()

    assert poll(calm, END_SECONDS, 1.0), site.of(name).keys()
    return seen[-1]


def path(name: str) -> str:
    return f"{kind_path(SESSION.api_version, SESSION.plural, NAMESPACE)}/{name}"


def finalizers(site: Site, name: str, *held: str) -> None:
    body = site.get(SESSION, NAMESPACE, name)
    site.plane.request("PUT", path(name), {**body, "metadata": {**body["metadata"], "finalizers": [*held]}})


def runs(ref: Ref, body: Body) -> bool:
    spec: dict[str, Any] = body.get("spec", {})
    return ref.plural not in RECORD and spec.get("replicas") != 0 and spec.get("suspend") is not True


def is_calm(operator: ProxiedOperator) -> bool:
    """Return whether nothing was written for as long as any status is held back."""
    before = len(operator.proxy.writes)
    threading.Event().wait(HELD_BACK)
    return len(operator.proxy.writes) == before


@pytest.mark.parametrize("spec", [RUN, NOTEBOOK], ids=["run", "notebook"])
def test_a_session_that_is_held_stops_and_says_by_what(
    site: Site, operator: ProxiedOperator, spec: Body, request: pytest.FixtureRequest
) -> None:
    name = f"held-{request.node.callspec.id}"
    there = begun(site, name, spec)
    assert any(runs(ref, body) for ref, body in there.items())
    finalizers(site, name, HOLD)
    site.plane.request("DELETE", path(name), {"propagationPolicy": "Background"})
    assert poll(lambda: not [r for r, b in site.of(name).items() if runs(r, b)], END_SECONDS, 0.5), site.of(name).keys()

    def words() -> str:
        conditions = site.get(SESSION, NAMESPACE, name).get("status", {}).get("conditions", ())
        return next((c["message"] for c in conditions if c["type"] == "Ready"), "")

    assert poll(lambda: f"held by finalizer {HOLD}" in words(), END_SECONDS, 0.5), words()
    assert poll(lambda: is_calm(operator), END_SECONDS), "and soon nothing more is written"
    finalizers(site, name)
    assert poll(lambda: not site.of(name), END_SECONDS, 0.5), site.of(name).keys()


@pytest.mark.parametrize("spec", [RUN, NOTEBOOK], ids=["run", "notebook"])
def test_what_an_orphaning_delete_leaves_is_swept(
    site: Site, operator: ProxiedOperator, spec: Body, request: pytest.FixtureRequest
) -> None:
    name = f"orphan-{request.node.callspec.id}"
    begun(site, name, spec)
    site.create([foreign(name)])
    site.plane.request("DELETE", path(name), {"propagationPolicy": "Orphan"})
    mine = Ref("configmaps", NAMESPACE, f"{name}-of-mine")
    assert poll(lambda: site.of(name).keys() == {mine}, END_SECONDS, 0.5), site.of(name).keys()


def foreign(name: str) -> Body:
    """Return what somebody has put beside a session."""
    kind = Kind("v1", "ConfigMap", "configmaps")
    metadata = {"name": f"{name}-of-mine", "namespace": NAMESPACE}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "data": {"a": "b"}}
