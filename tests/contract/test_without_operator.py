"""No operator runs here, and nothing of ours that could be away: what is wrong is refused all the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kubernetes import client
from rich.console import Console

from local_cluster.control_plane import ADMIN, ControlPlane, control_plane
from local_cluster.progress import Progress
from tests.contract import test_schema_models, test_schema_refused, test_schema_shapes
from tests.contract.schema import Body, Server, load, merged
from tests.support import chart
from tests.support.bounded import TENANT, Account, bounded, tenant

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(300)]
HOSTILE = (test_schema_refused, test_schema_shapes, test_schema_models)
USER = [
    {"apiGroups": ["analysisfacility.io"], "resources": ["analysissessions"], "verbs": ["create", "get"]},
    {"apiGroups": ["analysisfacility.io"], "resources": ["analysisprofiles"], "verbs": ["use"]},
]


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with control_plane(Progress(Console(quiet=True))) as found:
        yield found


@pytest.fixture(scope="module")
def alice(plane: ControlPlane) -> Iterator[Account]:
    """With the chart's policies in force."""
    with bounded(plane, {}) as policies, tenant(plane, policies.admin, "alice", USER) as found:
        yield found


@pytest.fixture(scope="module")
def server(plane: ControlPlane, alice: Account) -> Iterator[Server]:
    settings = client.Configuration(host=plane.server)
    settings.ssl_ca_cert = str(plane.authority)
    settings.api_key = {"authorization": f"Bearer {plane.token(ADMIN)}"}
    with client.ApiClient(settings) as found:
        yield Server(client.CustomObjectsApi(found), TENANT)


def refusals(server: Server, kind: str, cases: dict[str, tuple[Body, str]]) -> dict[str, str]:
    """Return what was not refused in the words that stand beside it, and what was said."""
    said = {case: server.create(merged(load(f"{kind}-minimal.yaml"), patch)) for case, (patch, _) in cases.items()}
    return {case: answer.message for case, answer in said.items() if cases[case][1] not in answer.message}


@pytest.mark.parametrize("module", HOSTILE, ids=lambda module: module.__name__.rpartition("_")[2])
def test_the_schema_refuses_by_itself(server: Server, module: object) -> None:
    sessions: dict[str, tuple[Body, str]] = vars(module)["SESSIONS"]
    assert not refusals(server, "session", sessions)
    assert not refusals(server, "profile", vars(module)["PROFILES"])


def test_so_do_the_policies(alice: Account) -> None:
    body = merged(load("session-minimal.yaml"), {"metadata": {"namespace": TENANT}, "spec": {"user": "bob"}})
    assert "af-operator-session-user" in alice.create(body)


def test_the_chart_has_no_webhook() -> None:
    """Which could be away, and then let through or hold up whatever is asked."""
    values = {"image": {"operator": chart.IMAGE}, "watchNamespaces": ["*"]}
    kinds = {body["kind"] for body in chart.rendered(values, "af-system")}
    assert "ValidatingAdmissionPolicy" in kinds
    assert not {kind for kind in kinds if "Webhook" in kind or kind == "APIService"}
