"""The Job that tries the network, on a real API server: what its account may do is enough, and no more than that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest
import yaml
from rich.console import Console

from af_kube import credentials
from af_kube.connection import Connection
from af_operator.enforcement import CONFIG_MAP, Finding, read
from af_operator.network_probe import CLOSED, NAME_LABEL, OPEN, Place, Probe, closing, listener, write
from local_cluster.api import Kubectl
from local_cluster.control_plane import ControlPlane, Options, control_plane
from local_cluster.errors import ClusterError
from local_cluster.processes import poll
from local_cluster.progress import Progress
from tests.contract.on_cluster import answer, until
from tests.support import chart
from tests.support.releases import Releases

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(600)]
NAME, SYSTEM = "af-operator", "af-system"
VALUES: dict[str, Any] = {"image": {"operator": chart.IMAGE}, "watchNamespaces": ["*"]}
PODS = f"/api/v1/namespaces/{SYSTEM}/pods"
JOBS = f"/apis/batch/v1/namespaces/{SYSTEM}/jobs"
POLICY = f"/apis/networking.k8s.io/v1/namespaces/{SYSTEM}/networkpolicies/{CLOSED}"
FOUND = f"/api/v1/namespaces/{SYSTEM}/configmaps/{CONFIG_MAP}"
WARNING = "THIS CLUSTER DOES NOT ENFORCE NetworkPolicies"
ALL_PRIVATE = "Its sessions reach no private address but of the servers that it names."
HOLDS_NOTHING = Finding("false", "it was let through")


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with control_plane(Progress(Console(quiet=True)), Options(controllers=True)) as found:
        yield found


@pytest.fixture(scope="module")
def releases(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Releases:
    """The chart, installed where no pod ever runs."""
    found = Releases(plane, tmp_path_factory.mktemp("helm"))
    done = found.install(NAME, SYSTEM, VALUES)
    assert done.returncode == 0, done.stderr
    assert "kubectl get analysisprofiles" in done.stdout
    assert WARNING not in done.stdout
    return found


@pytest.fixture(scope="module")
def kubectl(plane: ControlPlane, releases: Releases) -> Kubectl:
    """As the account of the Job, once its policy is in force."""
    found = Kubectl(plane.programs["kubectl"], releases.account(SYSTEM, CONFIG_MAP))  # type: ignore[arg-type]
    until("the policy is in force", lambda: "denied request" in answer(lambda: create(found, pod("other"))))
    return found


@pytest.fixture
async def api(releases: Releases) -> AsyncIterator[Connection]:
    found = Connection(partial(credentials.kubeconfig, str(releases.account(SYSTEM, CONFIG_MAP))))
    yield found
    await found.close()


@pytest.fixture
def place(plane: ControlPlane, releases: Releases) -> Place:
    """Where the Job's pod would be."""
    [job] = jobs(plane)
    [template] = [job["spec"]["template"]["spec"]]
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "own"}, "spec": template}
    if not there(plane, f"{PODS}/own"):
        plane.request("POST", PODS, body)
    return Place(SYSTEM, "own", job["metadata"]["name"], job["metadata"]["uid"])


def jobs(plane: ControlPlane) -> list[dict[str, Any]]:
    items = plane.request("GET", JOBS)["items"]
    return [job for job in items if job["metadata"]["labels"][NAME_LABEL] == CONFIG_MAP]


def there(plane: ControlPlane, path: str) -> bool:
    try:
        plane.request("GET", path)
    except ClusterError as error:
        if "404" not in str(error):
            raise
        return False
    return True


def pod(name: str, **spec: Any) -> dict[str, Any]:
    """Return a pod as the probe makes it, but for its name and what is said of it here."""
    own = {"spec": {"containers": [{"image": "example.org/x", "securityContext": {"allowPrivilegeEscalation": False}}]}}
    body = listener(Place(SYSTEM, "own", "job", "uid"), name, own)
    return body | {"spec": body["spec"] | spec}


def with_metadata(body: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return body | {"metadata": {**body["metadata"], **metadata}}


def in_container(**fields: Any) -> dict[str, Any]:
    body = pod(OPEN)
    return body | {"spec": body["spec"] | {"containers": [body["spec"]["containers"][0] | fields]}}


def policy(**spec: Any) -> dict[str, Any]:
    body = closing(Place(SYSTEM, "own", "job", "uid"))
    return body | {"spec": {**body["spec"], **spec}}


def create(kubectl: Kubectl, body: dict[str, Any]) -> None:
    kubectl("create", "--dry-run=server", "--filename=-", f"--namespace={SYSTEM}", stdin=yaml.safe_dump(body))


async def run_pods(plane: ControlPlane) -> None:
    """Be the kubelet of the two pods."""
    running: set[str] = set()
    while running != {OPEN, CLOSED}:
        for name in {OPEN, CLOSED} - running:
            if await asyncio.to_thread(there, plane, f"{PODS}/{name}"):
                status = {"status": {"phase": "Running", "podIP": "192.0.2.1" if name == OPEN else "192.0.2.2"}}
                await asyncio.to_thread(plane.request, "PATCH", f"{PODS}/{name}/status", status)
                running.add(name)
        await asyncio.sleep(0.05)


async def test_its_rights_are_enough_for_its_work(plane: ControlPlane, api: Connection, place: Place) -> None:
    async def reach(address: str) -> bool:
        closed = await asyncio.to_thread(there, plane, POLICY)
        return not closed or address == "192.0.2.1"

    kubelet = asyncio.ensure_future(run_pods(plane))
    finding = await Probe(api, place, reach).find()
    await kubelet
    assert finding.enforced == "true", finding.message
    assert poll(lambda: not any(there(plane, f"{PODS}/{name}") for name in (OPEN, CLOSED)), 30)
    assert not there(plane, POLICY)
    await write(api, place, finding)
    assert read(plane.request("GET", FOUND)) == finding


NO_ACCOUNT = "no account, no volume, no environment"
REFUSED = {
    "a token": (pod(OPEN, automountServiceAccountToken=True), NO_ACCOUNT),
    "the operator's account": (pod(OPEN, serviceAccountName="af-operator"), NO_ACCOUNT),
    "a Secret": (pod(OPEN, volumes=[{"name": "x", "secret": {"secretName": "hub"}}]), NO_ACCOUNT),
    "a Secret in its environment": (in_container(envFrom=[{"secretRef": {"name": "hub"}}]), NO_ACCOUNT),
    "a variable from a Secret": (
        in_container(env=[{"name": "X", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "x"}}}]),
        NO_ACCOUNT,
    ),
    "privilege": (in_container(securityContext={"allowPrivilegeEscalation": True}), NO_ACCOUNT),
    "a capability": (
        in_container(securityContext={"allowPrivilegeEscalation": False, "capabilities": {"add": ["NET_RAW"]}}),
        NO_ACCOUNT,
    ),
    "its node's network": (pod(OPEN, hostNetwork=True), NO_ACCOUNT),
    "another name": (pod("hub-0"), "the names af-operator-network-open"),
    "the Hub's label": (with_metadata(pod(OPEN), labels={NAME_LABEL: "hub"}), "no label but that name"),
    "a policy that opens": (policy(ingress=[{}]), "lets nobody connect"),
    "a policy about others": (policy(podSelector={}), "lets nobody connect"),
    "a policy of another name": (with_metadata(policy(), name="hub"), "the names af-operator-network-open"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_makes_nothing_that_has_or_opens_anything(kubectl: Kubectl, what: str) -> None:
    for made in (pod(OPEN), pod(CLOSED), policy()):
        create(kubectl, made)
    body, words = REFUSED[what]
    said = answer(lambda: create(kubectl, body))
    assert "denied request" in said
    assert words in said


@pytest.mark.parametrize(
    "asked",
    [
        ("delete", "pod", "af-operator"),
        ("delete", "networkpolicy", "hub"),
        ("get", "secrets"),
        ("get", "configmaps"),
        ("patch", "configmap", "hub-program", "--type=merge", "--patch={}"),
        ("create", "configmap", "other"),
        ("get", "pods", "--namespace=default"),
    ],
    ids=" ".join,
)
def test_it_touches_nothing_of_others(kubectl: Kubectl, asked: tuple[str, ...]) -> None:
    where = () if any(part.startswith("--namespace") for part in asked) else (f"--namespace={SYSTEM}",)
    assert "cannot " in answer(lambda: kubectl(*asked, *where))


def test_an_upgrade_keeps_what_was_found_tries_again_and_warns(plane: ControlPlane, releases: Releases) -> None:
    for finding in (Finding("true", "refused"), HOLDS_NOTHING):
        data = {"enforced": finding.enforced, "message": finding.message, "checked": "2026-11-26T12:00:00Z"}
        plane.request("PATCH", FOUND, {"data": data})
        before = [job["metadata"]["name"] for job in jobs(plane)]
        done = releases.install(NAME, SYSTEM, VALUES)
        assert done.returncode == 0, done.stderr
        assert (WARNING in done.stdout) == (finding == HOLDS_NOTHING)
        assert read(plane.request("GET", FOUND)) == finding
        until("the Job of before has gone", lambda: len(jobs(plane)) == 1)
        assert [job["metadata"]["name"] for job in jobs(plane)] != before


def test_an_admin_who_has_not_said_the_clusters_ranges_is_told_what_that_closes(releases: Releases) -> None:
    for network, told in (({}, True), ({"clusterCidrs": ["10.42.0.0/16"]}, False), ({"policies": False}, False)):
        done = releases.install(NAME, SYSTEM, {**VALUES, "network": network}, "--dry-run=client")
        assert (done.returncode, ALL_PRIVATE in done.stdout) == (0, told), done.stderr


def test_what_a_job_that_was_deleted_has_left_goes_with_it(plane: ControlPlane, place: Place) -> None:
    for name in (OPEN, CLOSED):
        plane.request("POST", PODS, with_metadata(pod(name), ownerReferences=place.metadata(name)["ownerReferences"]))
    plane.request("DELETE", f"{JOBS}/{place.job}?propagationPolicy=Background")
    until("its pods have gone", lambda: not any(there(plane, f"{PODS}/{name}") for name in (OPEN, CLOSED)))
