"""Who changes, suspends and deletes a session, what nobody puts on one, and whose profile it has: asked of a server."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from af_client.hub.sessions import HubSessions
from af_client.hub.transport import AsyncCluster
from local_cluster.control_plane import ADMIN, ControlPlane, Options, control_plane
from local_cluster.errors import ClusterError
from local_cluster.processes import poll
from local_cluster.progress import Progress
from tests.support.bounded import TENANT, Account, Body, Bounded, bounded, tenant

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(300)]
GROUP = "analysisfacility.io"
SESSIONS = f"/apis/{GROUP}/v1alpha1/namespaces/{TENANT}/analysissessions"
VERBS = ["create", "get", "list", "patch", "update", "delete", "deletecollection"]
USE = {"apiGroups": [GROUP], "resources": ["analysisprofiles"], "verbs": ["use"]}
USER = [{"apiGroups": [GROUP], "resources": ["analysissessions"], "verbs": VERBS}, USE]
MANAGER = [{"apiGroups": [GROUP], "resources": ["analysissessions"], "verbs": [*VERBS, "impersonate", "manage"]}, USE]
LIMITED = [USER[0], {**USE, "resourceNames": ["small"]}]
PEOPLE = {"alice": USER, "bob": USER, "group-lead": MANAGER, "student": LIMITED}
OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "course", "uid": "1-2-3"}
THEIRS = "only its user changes, suspends or deletes it, and who has the verb manage on analysissessions"
HELD = "metadata.finalizers and metadata.ownerReferences of a session are set only by who has the verb manage"
NOTED = "annotations that begin with kopf. are an operator's own notes"
ORPHANED = "a session is deleted together with what it has made: leave out --cascade=orphan"
GONE_SECONDS = 60
UNKNOWN = "404"


@pytest.fixture(scope="module")
def control() -> Iterator[ControlPlane]:
    with control_plane(Progress(Console(quiet=True)), Options(controllers=True)) as found:
        yield found


@pytest.fixture(scope="module")
def plane(control: ControlPlane) -> Iterator[Bounded]:
    with bounded(control, {}) as found:
        yield found


@pytest.fixture(scope="module")
def people(control: ControlPlane, plane: Bounded) -> Iterator[dict[str, Account]]:
    course = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "course"}
    with ExitStack() as stack:
        found = {n: stack.enter_context(tenant(control, plane.admin, n, rules)) for n, rules in PEOPLE.items()}
        assert plane.admin.create(binding("course", "student", course), keep=True) == ""
        assert plane.admin.create(session("others"), keep=True) == ""
        assert poll(lambda: THEIRS in found["bob"].change(suspended("others")), 60), "the policy is not in force"
        assert poll(lambda: all(found[n].create(session("mine", n, profile="small")) == "" for n in PEOPLE), 60)
        yield found


def binding(name: str, role: str, subject: Body) -> Body:
    """Give somebody a Role of the tenant's namespace."""
    rbac = "rbac.authorization.k8s.io"
    body = {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "metadata": {"name": name, "namespace": TENANT}}
    return {**body, "roleRef": {"apiGroup": rbac, "kind": "Role", "name": role}, "subjects": [subject]}


def user(name: str) -> str:
    return f"system:serviceaccount:{TENANT}:{name}"


def session(name: str, of: str = "alice", profile: str = "default", **metadata: Any) -> Body:
    spec = {"user": user(of), "profile": profile, "mode": "Headless", "run": {"command": ["true"]}}
    metadata = {"name": name, "namespace": TENANT, **metadata}
    return {"apiVersion": f"{GROUP}/v1alpha1", "kind": "AnalysisSession", "metadata": metadata, "spec": spec}


def suspended(name: str) -> Body:
    return {**session(name), "spec": {"suspend": True}}


def marked(name: str, **metadata: Any) -> Body:
    return {**session(name, **metadata), "spec": {}}


WAYS: dict[str, tuple[str, str, Body | None]] = {
    "suspend": ("PATCH", "", {"spec": {"suspend": True}}),
    "label": ("PATCH", "", {"metadata": {"labels": {"a": "b"}}}),
    "delete": ("DELETE", "", None),
    "delete in the foreground": ("DELETE", "?propagationPolicy=Foreground", None),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_session_is_its_users(plane: Bounded, people: dict[str, Account], way: str) -> None:
    verb, query, body = WAYS[way]
    for who in ("alice", "group-lead"):
        name = f"{way}-{who}".replace(" ", "-")
        assert plane.admin.create(session(name), keep=True) == ""
        said = people["bob"].request(verb, f"{SESSIONS}/{name}{query}", body)
        assert f"session '{name}' is of '{user('alice')}', and you are '{user('bob')}': {THEIRS}" in said
        assert people[who].request(verb, f"{SESSIONS}/{name}{query}", body) == ""


def test_it_is_its_users_whatever_verb_writes_it(
    control: ControlPlane, plane: Bounded, people: dict[str, Account]
) -> None:
    assert plane.admin.create(session("written"), keep=True) == ""
    path = f"{SESSIONS}/written"
    replaced = control.request("GET", path)
    replaced["spec"]["suspend"] = True
    again = {**session("written"), "spec": replaced["spec"]}
    assert THEIRS in people["bob"].put(path, replaced)
    assert THEIRS in people["bob"].apply(again)
    assert people["alice"].put(path, replaced) == people["alice"].apply(again) == ""
    assert control.request("GET", path)["spec"]["suspend"] is True


def test_a_collection_is_not_deleted_with_others_sessions_in_it(plane: Bounded, people: dict[str, Account]) -> None:
    for of in ("alice", "bob"):
        assert plane.admin.create(session(f"all-of-{of}", of, labels={"all": of}), keep=True) == ""
    assert THEIRS in people["bob"].request("DELETE", f"{SESSIONS}?labelSelector=all")
    assert plane.admin.get(f"{SESSIONS}/all-of-alice") == ""
    assert people["bob"].request("DELETE", f"{SESSIONS}?labelSelector=all%3Dbob") == ""
    assert plane.admin.get(f"{SESSIONS}/all-of-alice") == ""
    assert people["group-lead"].request("DELETE", f"{SESSIONS}?labelSelector=all") == ""


MARKS: dict[str, tuple[Body, str]] = {
    "a finalizer": ({"finalizers": ["example.org/mine"]}, HELD),
    "many": ({"finalizers": [f"example.org/f{n}" for n in range(100)]}, HELD),
    "an orphaning one": ({"finalizers": ["orphan"]}, HELD),
    "one of Kubernetes": ({"finalizers": ["foregroundDeletion"]}, HELD),
    # Of a kind that the garbage collector cannot ask for: one that is absent would take the session along.
    "an owner": ({"ownerReferences": [{**OWNER, "apiVersion": "example.org/v1", "kind": "Course"}]}, HELD),
    "what kopf handled": ({"annotations": {"kopf.zalando.org/last-handled-configuration": "{}"}}, NOTED),
    "that kopf succeeded": ({"annotations": {"kopf.zalando.org/on_create": '{"success": true}'}}, NOTED),
    "that kopf waits": ({"annotations": {"kopf.zalando.org/on_create": '{"delayed": "2099-01-01"}'}}, NOTED),
    "no JSON": ({"annotations": {"kopf.zalando.org/on_create": "{"}}, NOTED),
    "much": ({"annotations": {"kopf.zalando.org/x": "x" * 200_000}}, NOTED),
    "kopf's other domain": ({"annotations": {"kopf.dev/x": "x"}}, NOTED),
}


@pytest.mark.parametrize("mark", MARKS)
def test_nothing_is_put_on_a_session_that_is_not_its_users_to_say(
    plane: Bounded, people: dict[str, Account], mark: str
) -> None:
    metadata, words = MARKS[mark]
    name = mark.replace(" ", "-").replace("'", "").lower()
    assert words in people["alice"].create(session(name, **metadata))
    assert people["alice"].create(session(name, annotations={"example.org/note": "x"}), keep=True) == ""
    assert words in people["alice"].change(marked(name, **metadata))
    assert people["group-lead"].change(marked(name, **metadata)) == ""
    # What others have put there is no reason not to work with it, nor not to take it away.
    assert people["alice"].change(suspended(name)) == ""
    more = {"finalizers": [*metadata.get("finalizers", []), "example.org/more"]}
    assert HELD in people["alice"].change(marked(name, **more))
    assert people["alice"].change(marked(name, **dict.fromkeys(metadata))) == ""
    assert people["alice"].delete(session(name)) == ""


def test_an_annotation_of_kopf_that_others_have_put_there_is_not_changed(
    plane: Bounded, people: dict[str, Account]
) -> None:
    key = "kopf.zalando.org/x"
    assert plane.admin.create(session("noted", annotations={key: "1"}), keep=True) == ""
    assert NOTED in people["alice"].change(marked("noted", annotations={key: "2"}))
    assert people["alice"].change(marked("noted", annotations={key: "1", "example.org/note": "x"})) == ""


ORPHANING = {
    "in the query": ("?propagationPolicy=Orphan", None),
    "in the body": ("", {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan"}),
    "as it was said before": ("?orphanDependents=true", None),
}


@pytest.mark.parametrize("how", ORPHANING)
def test_nothing_is_left_running_by_a_deletion(plane: Bounded, people: dict[str, Account], how: str) -> None:
    query, body = ORPHANING[how]
    name = how.replace(" ", "-")
    assert plane.admin.create(session(name), keep=True) == ""
    assert ORPHANED in people["alice"].request("DELETE", f"{SESSIONS}/{name}{query}", body)
    assert ORPHANED in people["alice"].request(
        "DELETE", f"{SESSIONS}{query}&fieldSelector=" if query else SESSIONS, body
    )
    assert people["group-lead"].request("DELETE", f"{SESSIONS}/{name}{query}", body) == ""


@pytest.mark.parametrize("way", ["Background", "Foreground"])
def test_an_ordinary_deletion_is_fine(people: dict[str, Account], way: str) -> None:
    assert people["alice"].create(session("ordinary"), keep=True) == ""
    assert people["alice"].request("DELETE", f"{SESSIONS}/ordinary?propagationPolicy={way}") == ""


def test_the_operator_deletes_them_too(plane: Bounded) -> None:
    assert plane.admin.create(session("over"), keep=True) == ""
    assert plane.operator.delete(session("over")) == ""


def there(control: ControlPlane, path: str) -> bool:
    try:
        control.request("GET", path)
    except ClusterError as error:
        if UNKNOWN not in str(error):
            raise
        return False
    return True


def test_a_namespace_ends_with_its_sessions(control: ControlPlane, plane: Bounded) -> None:
    control.request("POST", "/api/v1/namespaces", {"metadata": {"name": "ended"}})
    assert plane.admin.create(session("last", namespace="ended"), keep=True) == ""
    control.request("DELETE", "/api/v1/namespaces/ended")
    assert poll(lambda: not there(control, "/api/v1/namespaces/ended"), GONE_SECONDS)


def test_a_session_ends_with_what_an_admin_has_made_its_owner(control: ControlPlane, plane: Bounded) -> None:
    body = {"metadata": {"name": "course", "namespace": TENANT}}
    uid = control.request("POST", f"/api/v1/namespaces/{TENANT}/configmaps", body)["metadata"]["uid"]
    assert plane.admin.create(session("of-a-course", ownerReferences=[{**OWNER, "uid": uid}]), keep=True) == ""
    control.request("DELETE", f"/api/v1/namespaces/{TENANT}/configmaps/course")
    assert poll(lambda: not there(control, f"{SESSIONS}/of-a-course"), GONE_SECONDS)


def test_a_profile_is_for_those_who_may_use_it(people: dict[str, Account]) -> None:
    student, alice = people["student"], people["alice"]
    assert student.create(session("s", "student", profile="small")) == ""
    said = student.create(session("s", "student", profile="large"))
    assert f"you ('{user('student')}') may not use profile 'large' in namespace '{TENANT}': choose another" in said
    unsaid = session("s", "student")
    del unsaid["spec"]["profile"]
    assert "may not use profile 'default'" in student.create(unsaid)
    assert alice.create(session("s", profile="large")) == ""


@pytest.mark.parametrize(
    ("who", "groups", "profile", "allowed"),
    [
        ("student", [], "small", True),
        ("student", [], "large", False),
        ("alice", [], "large", True),
        ("carol", [], "small", False),
        ("carol", ["course"], "small", True),
        # A name that only an identity provider has given: Kubernetes' own groups are not its to give.
        ("carol", ["system:masters"], "large", False),
    ],
)
async def test_the_hub_asks_as_the_policy_does(
    control: ControlPlane,
    people: dict[str, Account],
    monkeypatch: pytest.MonkeyPatch,
    who: str,
    groups: list[str],
    profile: str,
    allowed: bool,
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(control.kubeconfig(ADMIN)))
    api = AsyncCluster()
    name = user(who) if who in people else who
    assert await HubSessions(api, [TENANT]).may_use(profile, name, groups, TENANT) is allowed
    await api.close()


def test_who_creates_a_session_for_another_needs_the_profile_too(people: dict[str, Account]) -> None:
    assert people["group-lead"].create(session("s", "student", profile="large")) == ""


def test_a_namespace_without_pod_security_is_told_and_counted(control: ControlPlane, tmp_path: Path) -> None:
    """To who creates a session there, by a warning; to who watches the API server, by its metric."""
    label, warning = "pod-security.kubernetes.io/enforce", "does not enforce Pod Security 'restricted'"
    for level, told in ((None, True), ("restricted", False), ("baseline", True)):
        control.request("PATCH", f"/api/v1/namespaces/{TENANT}", {"metadata": {"labels": {label: level}}})
        assert poll(lambda told=told: (warning in warned(control, tmp_path)) is told, 30)  # type: ignore[misc]
    counted = [line for line in metrics(control) if 'policy="af-operator-session-namespace-af-system"' in line]
    assert any('enforcement_action="warn"' in line and not line.endswith(" 0") for line in counted), counted


def warned(control: ControlPlane, folder: Path) -> str:
    """Return what `af` says on stderr when it creates a session."""
    file = folder / "session.yaml"
    body = session("warned", "nobody")
    file.write_text(yaml.safe_dump({**body, "spec": {**body["spec"], "user": "admin"}}))
    environment = os.environ | {"KUBECONFIG": str(control.kubeconfig(ADMIN))}
    argv = [sys.executable, "-m", "af_client", "run", str(file), "--no-wait", "--name", f"warned-{time.time_ns()}"]
    done = subprocess.run([*argv, "-n", TENANT], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def metrics(control: ControlPlane) -> list[str]:
    """Return what the API server says of policies to Prometheus."""
    argv = [control.programs["kubectl"], f"--kubeconfig={control.kubeconfig(ADMIN)}", "get", "--raw", "/metrics"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return [line for line in said.splitlines() if line.startswith("apiserver_validating_admission_policy_check_total")]
