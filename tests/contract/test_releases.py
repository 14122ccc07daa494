"""What helm does with the chart on a real API server: a second release, what is kept, and an uninstall in time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from local_cluster.control_plane import ADMIN, ControlPlane, Options, control_plane
from local_cluster.errors import ClusterError
from local_cluster.processes import poll
from local_cluster.progress import Progress
from tests.support import chart
from tests.support.bare_client import collection
from tests.support.releases import Releases

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(600)]
NAME, SYSTEM, TENANT = "af-operator", "af-system", "physics"
IMAGE = {"operator": chart.IMAGE, "hub": chart.IMAGE}
VALUES: dict[str, Any] = {
    "image": IMAGE,
    "watchNamespaces": ["*"],
    "hub": {"enabled": True},
    "daskOperator": {"enabled": True},
}
API = "analysisfacility.io/v1alpha1"
SESSIONS = f"/apis/{API}/namespaces/{TENANT}/analysissessions"
CLUSTERS = f"/apis/kubernetes.dask.org/v1/namespaces/{TENANT}/daskclusters"
GOLDEN = Path(__file__).parents[1] / "golden"
GONE_SECONDS = 60
PAGE = chart.CHECKOUT / "docs" / "how-to" / "operate.md"
FINALIZER = {"finalizers": ["kopf.zalando.org/KopfFinalizerMarker"]}
POD = {"containers": [{"name": "main", "image": "example.org/x"}]}


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with control_plane(Progress(Console(quiet=True)), Options(controllers=True)) as found:
        found.request("POST", "/api/v1/namespaces", {"metadata": {"name": TENANT}})
        yield found


@pytest.fixture(scope="module")
def releases(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Releases:
    return Releases(plane, tmp_path_factory.mktemp("helm"))


@pytest.fixture
def installed(releases: Releases) -> Releases:
    done = releases.install(NAME, SYSTEM, VALUES)
    assert done.returncode == 0, done.stderr
    return releases


@pytest.fixture
def session(plane: ControlPlane) -> Iterator[str]:
    """A session that runs."""
    spec = {"user": "alice", "mode": "Headless", "run": {"command": ["true"]}}
    body = {"apiVersion": API, "kind": "AnalysisSession", "metadata": {"name": "zmumu"}, "spec": spec}
    plane.request("POST", SESSIONS, body)
    plane.request(
        "PATCH", f"{SESSIONS}/zmumu/status", {"status": {"phase": "Running", "observedGeneration": 1, "conditions": []}}
    )
    yield "zmumu"
    gone(plane, f"{SESSIONS}/zmumu")


def gone(plane: ControlPlane, path: str) -> None:
    if there(plane, path):
        plane.request("DELETE", path)
    assert poll(lambda: not there(plane, path), 30), f"{path} does not go"


def there(plane: ControlPlane, path: str) -> bool:
    try:
        plane.request("GET", path)
    except ClusterError as error:
        if "404" not in str(error):
            raise
        return False
    return True


def secrets(plane: ControlPlane) -> Any:
    return plane.request("GET", f"/api/v1/namespaces/{SYSTEM}/secrets/hub")["data"]


def dask_cluster(name: str) -> dict[str, Any]:
    """Return a DaskCluster as the Dask operator leaves it."""
    spec = {"worker": {"replicas": 0, "spec": POD}, "scheduler": {"spec": POD, "service": {"ports": [{"port": 8786}]}}}
    metadata = {"name": name, **FINALIZER}
    return {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster", "metadata": metadata, "spec": spec}


def test_a_second_release_is_refused_in_words(installed: Releases) -> None:
    group = {"image": IMAGE, "watchNamespaces": ["b1"], "userRoles": {"create": False}}
    for name, namespace in (("b", "b"), (NAME, "b"), ("b", SYSTEM)):
        done = installed.install(name, namespace, group)
        assert done.returncode != 0
        said = done.stderr.splitlines()[0] if done.stderr.startswith("Error") else done.stderr
        assert f'one af-operator per cluster, and release "{NAME}" in namespace "{SYSTEM}" is it' in said
        assert f"helm upgrade {NAME} CHART --namespace {SYSTEM}" in said


def test_an_upgrade_keeps_the_secrets_and_is_no_second_release(installed: Releases, plane: ControlPlane) -> None:
    before = secrets(plane)
    assert set(before) == {"proxy-token", "operator-token", "crypt-key", "shared-password"}
    assert len(set(before.values())) == 4
    done = installed.install(NAME, SYSTEM, VALUES)
    assert done.returncode == 0, done.stderr
    assert secrets(plane) == before
    asked = installed.install(NAME, SYSTEM, VALUES, "--dry-run=server")
    assert asked.returncode == 0, asked.stderr


def test_the_namespaces_are_said_and_all_of_them_with_a_warning(installed: Releases) -> None:
    unsaid = installed.install(NAME, SYSTEM, {**VALUES, "watchNamespaces": []})
    assert unsaid.returncode != 0
    assert "watchNamespaces is needed: the namespaces that hold sessions" in unsaid.stderr
    everywhere = installed.install(NAME, SYSTEM, VALUES, "--dry-run=server")
    named = installed.install(NAME, SYSTEM, {**VALUES, "watchNamespaces": [TENANT]}, "--dry-run=server")
    warning = 'WARNING: watchNamespaces is ["*"]. The operator reads the Secrets of all namespaces'
    assert [warning in done.stdout for done in (everywhere, named)] == [True, False], named.stderr


def test_a_namespace_without_pod_security_is_named(installed: Releases, plane: ControlPlane) -> None:
    path, label = f"/api/v1/namespaces/{TENANT}", "pod-security.kubernetes.io/enforce"
    for level, told in (("baseline", True), ("restricted", False), (None, True)):
        plane.request("PATCH", path, {"metadata": {"labels": {label: level}}})
        done = installed.install(NAME, SYSTEM, {**VALUES, "watchNamespaces": [TENANT]}, "--dry-run=server")
        warning = f"WARNING: namespace {TENANT} does not enforce Pod Security `restricted`"
        assert (warning in done.stdout) is told, done.stderr


def test_an_uninstall_stops_while_a_session_runs(installed: Releases, plane: ControlPlane, session: str) -> None:
    done, hook = installed.uninstall(NAME, SYSTEM)
    assert done.returncode != 0
    assert hook is not None
    assert f"analysissession {TENANT}/{session}: Running, of alice" in hook.stdout
    assert "kubectl delete analysissessions --all --all-namespaces" in hook.stdout
    assert there(plane, f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/af-operator")
    # helm has written down that it uninstalls, and would upgrade nothing any more: the words name the way back.
    [back] = [line for line in hook.stdout.splitlines() if line.startswith("To keep the release: helm ")]
    assert installed.install(NAME, SYSTEM, VALUES).returncode != 0
    before = secrets(plane)
    rolled = installed.helm(*back.partition(": helm ")[2].split())
    assert rolled.returncode == 0, rolled.stderr
    again = installed.install(NAME, SYSTEM, VALUES)
    assert again.returncode == 0, again.stderr
    assert secrets(plane) == before


def test_an_uninstall_waits_for_what_is_being_deleted(installed: Releases, plane: ControlPlane, session: str) -> None:
    owner = plane.request("GET", f"{SESSIONS}/{session}")
    reference = {"apiVersion": API, "kind": "AnalysisSession", "name": session, "uid": owner["metadata"]["uid"]}
    body = dask_cluster(session)
    body["metadata"]["ownerReferences"] = [reference]
    plane.request("POST", CLUSTERS, body)
    plane.request("DELETE", f"{SESSIONS}/{session}")
    # The garbage collector deletes it; the Dask operator takes its finalizer away.
    cluster = f"{CLUSTERS}/{session}"
    assert poll(lambda: "deletionTimestamp" in plane.request("GET", cluster)["metadata"], 30)
    plane.request("PATCH", cluster, {"metadata": {"finalizers": None}})
    done, hook = installed.uninstall(NAME, SYSTEM)
    assert done.returncode == 0, f"{done.stderr}\n{hook}"
    assert not there(plane, f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/af-operator")
    assert not there(plane, f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/dask-operator")


def test_what_is_left_behind_goes_without_an_operator(installed: Releases, plane: ControlPlane) -> None:
    """By its session, and by its namespace: nothing that the operator makes waits for it."""
    made = {namespace: left_behind(plane, namespace) for namespace in ("by-session", "by-namespace")}
    done, hook = installed.uninstall(NAME, SYSTEM, "--no-hooks")
    assert (done.returncode, hook) == (0, None), done.stderr
    plane.request("DELETE", f"/apis/{API}/namespaces/by-session/analysissessions/zmumu")
    plane.request("DELETE", "/api/v1/namespaces/by-namespace")
    assert poll(lambda: not [path for path in made["by-session"] if there(plane, path)], GONE_SECONDS)
    assert poll(lambda: not there(plane, "/api/v1/namespaces/by-namespace"), GONE_SECONDS)


def left_behind(plane: ControlPlane, namespace: str) -> list[str]:
    """Make a session, and of each kind what the operator makes for one; return the paths of the latter."""
    plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    spec = {"user": "alice", "mode": "Headless", "run": {"command": ["true"]}}
    body = {"apiVersion": API, "kind": "AnalysisSession", "metadata": {"name": "zmumu"}, "spec": spec}
    uid = plane.request("POST", f"/apis/{API}/namespaces/{namespace}/analysissessions", body)["metadata"]["uid"]
    paths = []
    for child in yaml.safe_load_all((GOLDEN / "native-zmumu" / "expected.yaml").read_text()):
        child["metadata"]["namespace"] = namespace
        for owner in child["metadata"]["ownerReferences"]:
            owner["uid"] = uid
        plane.request("POST", collection(child), child)
        paths.append(f"{collection(child)}/{child['metadata']['name']}")
    assert len(paths) > 5
    return paths


@pytest.mark.skipif(shutil.which("jq") is None, reason="the documented command needs jq")
def test_sessions_come_back_from_the_documented_backup(
    plane: ControlPlane, session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [block] = [found for found in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL) if "jq" in found]
    save, restore = block.split("\n", 1)
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig(ADMIN)))
    monkeypatch.setenv("PATH", f"{Path(plane.programs['kubectl']).parent}:{os.environ['PATH']}")
    subprocess.run(["bash", "-ec", save], cwd=tmp_path, check=True)
    before = plane.request("GET", f"{SESSIONS}/{session}")
    gone(plane, f"{SESSIONS}/{session}")
    subprocess.run(["bash", "-eco", "pipefail", restore], cwd=tmp_path, check=True)
    after = plane.request("GET", f"{SESSIONS}/{session}")
    assert after["spec"] == before["spec"]
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
