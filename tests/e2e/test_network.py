"""What pods of sessions reach on a network that enforces policies, and what they do not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from local_cluster import facility as demo
from tests.support import catalogue
from tests.support.tenant import DASK, HEADLESS, Body, Tenant, kubectl, poll

UP_SECONDS = 240
PORT = 8787
SERVES = ["python", "-m", "http.server", str(PORT)]
CONNECTS = """
import socket, sys
for host, port in (each.rsplit(":", 1) for each in sys.argv[1:]):
    try:
        socket.create_connection((host, int(port)), 3).close()
        print(f"{host}:{port}")
    except OSError:
        pass
"""
KUBERNETES = "10.96.0.1:443"


@dataclass(frozen=True)
class Island:
    """A closed session, an open one and a stranger, in one namespace.

    Attributes
    ----------
    profile
        That of the closed session.
    pods
        Name of a pod of each, with Python in it.
    doors
        Where each listens.
    node
        The node's address.
    """

    tenant: Tenant
    profile: str
    pods: dict[str, str]
    doors: dict[str, str]
    node: str

    def reached(self, who: str, *addresses: str) -> set[str]:
        """Return to which addresses a pod can connect."""
        return set(self.tenant.kubectl("exec", self.pods[who], "--", "python", "-c", CONNECTS, *addresses).split())

    @property
    def of_the_cluster(self) -> list[str]:
        """The API server by its Service and by its node, the kubelet, the registry, and JupyterHub by its NodePort."""
        ports = (6443, 10250, 5000, demo.HUB_NODE_PORT)
        return [KUBERNETES, *(f"{self.node}:{port}" for port in ports)]

    @property
    def of_the_facility(self) -> list[str]:
        """The origin by its name, and the results as a profile writes them."""
        return ["origin.af-storage.svc:1094", f"{self.node}:{demo.ORIGIN_NODE_PORT}"]


@pytest.fixture(scope="module")
def island(shared_tenant: Tenant) -> Iterator[Island]:
    with catalogue.profile(network={"egress": "Closed"}) as closed:
        shared_tenant.apply("closed", {"profile": closed, "user": "admin", "mode": "Interactive", "dask": DASK})
        shared_tenant.apply("open", {**HEADLESS, "run": {"command": SERVES}})
        shared_tenant.kubectl("create", "--filename=-", stdin=json.dumps(stranger()))
        shared_tenant.wait_condition("closed", "Ready", seconds=UP_SECONDS)
        shared_tenant.wait_condition("open", "RunReady", reason="Running", seconds=UP_SECONDS)
        shared_tenant.kubectl("wait", "pod/stranger", "--for=condition=Ready", "--timeout=100s")
        yield found(shared_tenant, closed)
        shared_tenant.kubectl("delete", "afs", "closed", "open", "--wait=false")


def found(tenant: Tenant, profile: str) -> Island:
    every = json.loads(tenant.kubectl("get", "pods", "-o", "json"))["items"]
    pods = {
        "closed": named(every, "closed-cpu-"),
        "open": named(every, "open-run-"),
        "stranger": named(every, "stranger"),
    }
    scheduler = named(every, "closed-scheduler-")
    doors = {
        "closed": f"{scheduler['status']['podIP']}:8786",
        **{who: f"{pods[who]['status']['podIP']}:{PORT}" for who in ("open", "stranger")},
    }
    node = pods["open"]["status"]["hostIP"]
    return Island(tenant, profile, {who: pod["metadata"]["name"] for who, pod in pods.items()}, doors, node)


def named(pods: list[Body], beginning: str) -> Body:
    return next(pod for pod in pods if pod["metadata"]["name"].startswith(beginning))


def stranger() -> Body:
    """Return a pod that is no session's: what it reaches, nothing but a policy keeps sessions from."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    image = demo.image_references()["analysis"]
    container = {"name": "main", "image": image, "command": SERVES, "securityContext": security}
    user = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"containers": [container], "securityContext": user, "terminationGracePeriodSeconds": 1}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger"}, "spec": spec}


@pytest.mark.parametrize("who", ["closed", "open"])
def test_a_session_reaches_origin_and_results_and_nothing_of_the_cluster(island: Island, who: str) -> None:
    assert island.reached(who, *island.of_the_facility, *island.of_the_cluster) == set(island.of_the_facility)
    everything = {*island.of_the_facility, *island.of_the_cluster}
    assert island.reached("stranger", *everything) == everything, "it is the policy that refuses"


def test_a_session_reaches_itself_and_no_other(island: Island) -> None:
    by_name = f"closed-scheduler.{island.tenant.namespace}.svc:8786"
    assert island.reached("closed", by_name, *island.doors.values()) == {by_name, island.doors["closed"]}
    assert island.reached("open", by_name, *island.doors.values()) == {island.doors["open"]}


def test_nobody_reaches_a_session(island: Island) -> None:
    assert island.reached("stranger", *island.doors.values()) == {island.doors["stranger"]}


def test_an_edit_of_the_profile_opens_what_it_says_to_sessions_that_run(island: Island) -> None:
    allow = [{"namespace": island.tenant.namespace, "ports": [PORT]}]
    patch = {"spec": {"network": {"egress": "Closed", "allow": allow}}}
    before = island.pods["closed"]
    kubectl("patch", "analysisprofile", island.profile, "--type=merge", f"--patch={json.dumps(patch)}")
    doors = [island.doors["stranger"], island.doors["open"]]
    poll(lambda: island.doors["stranger"] in island.reached("closed", *doors), "the stranger is reached")
    assert island.reached("closed", *doors) == {island.doors["stranger"]}, "another session is in that namespace, too"
    assert before in island.tenant.kubectl("get", "pods", "-o", "name")
