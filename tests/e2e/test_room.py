"""A namespace with too little room, on a real cluster: what is made, what is said, and who gets it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from local_cluster import facility as demo
from tests.support.tenant import DASK, HEADLESS, Body, Tenant, condition

STARVED = HEADLESS | {"dask": DASK}
LAB: Body = {k: v for k, v in HEADLESS.items() if k != "run"} | {"mode": "Interactive", "notebook": {}}
SMALL = {"limits": [{"type": "Container", "max": {"memory": "512Mi"}}]}


@pytest.fixture(scope="module")
def tight(facility: demo.Facility) -> Iterator[Tenant]:
    """A namespace of its own, with room for two pods: scheduler and worker, and not the run."""
    tenant = Tenant.create(facility)
    tenant.kubectl("create", "quota", "tight", "--hard=pods=2")
    yield tenant
    tenant.delete()


def test_what_never_fits_is_said_at_once_and_holds_nothing(tight: Tenant) -> None:
    tight.apply("starved", STARVED)
    found = tight.wait_condition("starved", "HasRoom", "False", reason="QuotaTooSmall")
    words = "exceeded quota: tight, requested: pods=3, limited: pods=2"
    assert words in found["message"]
    session = tight.session("starved")
    assert condition(session, "Ready")["message"] == found["message"]
    assert {kind for kind, _ in tight.children(session["metadata"]["uid"])} == {"Job", "NetworkPolicy"}


def test_two_in_a_room_for_one_and_a_half_both_run(tight: Tenant) -> None:
    tight.kubectl("patch", "quota", "tight", "--type=merge", "--patch", '{"spec": {"hard": {"pods": "4"}}}')
    tight.apply("other", STARVED)
    for name in ("starved", "other"):
        assert tight.wait_condition(name, "RunComplete", seconds=300)["reason"] == "Succeeded"


def test_what_the_api_server_says_of_a_pod_is_quoted_where_its_maker_says_nothing(tight: Tenant) -> None:
    body = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"}, "spec": SMALL}
    tight.kubectl("create", "--filename=-", stdin=json.dumps(body))
    tight.apply("alone", HEADLESS)
    tight.apply("lab", LAB)
    words = "has no pod: maximum memory usage per Container is 512Mi, but limit is 1Gi"
    for name, kind, program in (("alone", "RunReady", "run"), ("lab", "NotebookReady", "notebook")):
        found = tight.wait_condition(name, kind, "False", seconds=60, reason="Refused")
        assert found["message"].removeprefix("the ") == f"{program} {words}"
