"""CI jobs with tokens of their own, before an API server with the example's configuration: who may do what."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from rich.console import Console

from local_cluster.control_plane import ControlPlane, Options, control_plane
from local_cluster.errors import ClusterError
from local_cluster.processes import poll
from local_cluster.progress import Progress
from local_cluster.settings import CHECKOUT
from tests.support import chart, ci_jobs
from tests.support.ci_jobs import Job, Pipeline
from tests.support.issuer import AUDIENCE, EXAMPLES, SECRET, Issuer, issuing
from tests.support.releases import Releases

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(300)]
API = "analysisfacility.io/v1alpha1"
PHYSICS, OTHER = "physics", "detector"
SESSIONS = f"/apis/{API}/namespaces/{{}}/analysissessions"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
USERS = {"/github": "github:physics/zmumu", "/gitlab": "gitlab:physics/zmumu"}
PIPELINES = {"/github": ci_jobs.github(), "/gitlab": ci_jobs.gitlab()}
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
READY_SECONDS = 60
RELOAD_SECONDS = 90
"""The API server looks at its configuration at least once a minute."""
CANCELLED_SECONDS = 10


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with issuing() as found:
        yield found


@pytest.fixture(scope="module")
def plane(issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    options = Options(authentication=issuer.authentication())
    with control_plane(Progress(Console(quiet=True)), options) as found:
        for name in (PHYSICS, OTHER):
            found.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        values = {"image": {"operator": chart.IMAGE}, "watchNamespaces": ["*"]}
        done = Releases(found, tmp_path_factory.mktemp("helm")).install("af-operator", "af-system", values)
        assert done.returncode == 0, done.stderr
        for body in yaml.safe_load_all((EXAMPLES / "access.yaml").read_text()):
            found.request("POST", collection(body), body)
        assert poll(lambda: all(known(found, issuer.token(path)) for path in USERS), READY_SECONDS), "nobody is trusted"
        asked = ("POST", SESSIONS.format(PHYSICS) + "?dryRun=All", session("bob"))
        assert poll(lambda: "but you are" in refusal(found, issuer.token(), *asked), READY_SECONDS)
        yield found


def collection(body: dict[str, Any]) -> str:
    group = body["apiVersion"] if "/" in body["apiVersion"] else ""
    root = f"/apis/{group}" if group else "/api/v1"
    return f"{root}/namespaces/{PHYSICS}/{body['kind'].lower()}s"


def session(user: str, name: str = "one") -> dict[str, Any]:
    spec = {"user": user, "mode": "Headless", "run": {"command": ["true"]}}
    return {"apiVersion": API, "kind": "AnalysisSession", "metadata": {"name": name}, "spec": spec}


def known(plane: ControlPlane, token: str) -> dict[str, Any] | None:
    """Return who the API server says that a token is, or None if it takes it for nobody's."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        found: dict[str, Any] = plane.ask(token, "POST", WHO, body)["status"]["userInfo"]
    except ClusterError as error:
        if ": 401 " not in str(error):
            raise
        return None
    return found


def refusal(plane: ControlPlane, token: str, verb: str, path: str, body: Any = None) -> str:
    """Return the API server's words if it refuses, else nothing."""
    try:
        plane.ask(token, verb, path, body)
    except ClusterError as error:
        return str(error)
    return ""


def rights(plane: ControlPlane, token: str, namespace: str) -> set[tuple[str, ...]]:
    """Return (group, resource, name, verb) of all that a token may do in a namespace."""
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}}
    return flat(plane.ask(token, "POST", REVIEWS, body)["status"]["resourceRules"])


def flat(rules: list[dict[str, Any]]) -> set[tuple[str, ...]]:
    return {
        (group, resource, name, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames") or [""]
        for verb in rule["verbs"]
    }


@pytest.mark.parametrize("path", USERS)
def test_a_job_is_its_repository(plane: ControlPlane, issuer: Issuer, path: str) -> None:
    who = known(plane, issuer.token(path))
    assert who is not None
    assert (who["username"], who["groups"]) == (USERS[path], ["system:authenticated"])
    assert set(who["extra"]) == {"ci.facility.example.org/ref", "ci.facility.example.org/run"}


GITHUB, GITLAB = "/github", "/gitlab"
NOW = int(time.time())
REFUSED: list[tuple[str, str, dict[str, Any]]] = [
    ("for another audience", GITHUB, {"aud": "https://elsewhere.example.org"}),
    ("for no audience", GITHUB, {"aud": None}),
    ("of an issuer that is not trusted", GITHUB, {"iss": "https://token.example.org"}),
    ("without an issuer", GITHUB, {"iss": None}),
    ("signed by somebody else", GITHUB, {"key": STRANGER}),
    ("that has expired", GITHUB, {"exp": NOW - 60}),
    ("that is not valid yet", GITHUB, {"nbf": NOW + 3600}),
    ("without an end", GITHUB, {"exp": None}),
    ("of another organization", GITHUB, {"repository_owner_id": "666"}),
    ("of who has taken the organization's name", GITHUB, {"repository_owner_id": "667", "repository": "physics/zmumu"}),
    ("of a pull request", GITHUB, {"event_name": "pull_request", "ref": "refs/pull/3/merge"}),
    ("of a fork's pull request with the base's rights", GITHUB, {"event_name": "pull_request_target"}),
    ("of a branch that is not protected", GITHUB, {"ref": "refs/heads/x", "ref_protected": "false"}),
    ("that does not say whether it is protected", GITHUB, {"ref_protected": None}),
    ("without a repository", GITHUB, {"repository": None}),
    ("for another audience", GITLAB, {"aud": "https://elsewhere.example.org"}),
    ("signed by somebody else", GITLAB, {"key": STRANGER}),
    ("that has expired", GITLAB, {"exp": NOW - 60}),
    ("of another group", GITLAB, {"namespace_id": "43"}),
    ("of a merge request", GITLAB, {"pipeline_source": "merge_request_event"}),
    ("of a branch that is not protected", GITLAB, {"ref": "x", "ref_protected": "false"}),
    ("with the claims of the other system", GITLAB, {"project_path": None, "repository": "physics/zmumu"}),
]


@pytest.mark.parametrize(("path", "claims"), [r[1:] for r in REFUSED], ids=[f"{r[1]} {r[0]}" for r in REFUSED])
def test_a_token_is_nobodys(plane: ControlPlane, issuer: Issuer, path: str, claims: dict[str, Any]) -> None:
    assert known(plane, issuer.token(path)), "the right one is somebody's"
    assert known(plane, issuer.token(path, **claims)) is None


@pytest.mark.parametrize("path", USERS)
def test_it_has_the_role_of_users_in_one_namespace_and_nothing_else(
    plane: ControlPlane, issuer: Issuer, path: str
) -> None:
    role = plane.request("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/analysisfacility-user")
    token = issuer.token(path)
    everybodys = rights(plane, issuer.token(repository="physics/other"), PHYSICS)
    assert rights(plane, token, PHYSICS) == everybodys | flat(role["rules"])
    assert rights(plane, token, OTHER) == everybodys
    assert {resource for _, resource, _, _ in everybodys} <= {
        "selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews",
    }  # fmt: skip


def test_each_verb_works_here_and_none_elsewhere(plane: ControlPlane, issuer: Issuer) -> None:
    token, mine = issuer.token(), SESSIONS.format(PHYSICS)
    watch = "?watch=true&timeoutSeconds=1&resourceVersion=0&limit=1"
    asked = [
        ("POST", "", session(USERS[GITHUB])),
        ("GET", "/one", None),
        ("GET", "", None),
        ("PATCH", "/one", {"spec": {"suspend": True}}),
        ("DELETE", "/one", None),
    ]
    for verb, rest, body in asked:
        assert refusal(plane, token, verb, mine + rest, body) == ""
        assert ": 403 " in refusal(plane, token, verb, SESSIONS.format(OTHER) + rest, body)
    # Which answers with a line for each event, and so with nothing of one here.
    assert ": 403 " in refusal(plane, token, "GET", SESSIONS.format(OTHER) + watch)
    assert ": 403 " in refusal(plane, token, "GET", f"/apis/{API}/analysissessions")
    assert ": 403 " in refusal(plane, token, "DELETE", mine)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/physics/secrets",
        "/api/v1/namespaces/physics/pods",
        "/api/v1/namespaces/physics/configmaps",
        "/apis/apps/v1/namespaces/physics/deployments",
        "/apis/batch/v1/namespaces/physics/jobs",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/physics/rolebindings",
        "/api/v1/namespaces/physics/serviceaccounts/ci/token",
        "/api/v1/namespaces",
        "/api/v1/nodes",
        f"/apis/{API}/analysisprofiles",
    ],
)
def test_nothing_but_sessions_is_read_or_made(plane: ControlPlane, issuer: Issuer, path: str) -> None:
    for verb, body in (("GET", None), ("POST", {"metadata": {"name": "x"}})):
        said = refusal(plane, issuer.token(), verb, path, body)
        assert ": 403 " in said or ": 405 " in said, said


def test_it_makes_sessions_for_nobody_else(plane: ControlPlane, issuer: Issuer) -> None:
    said = refusal(plane, issuer.token(), "POST", SESSIONS.format(PHYSICS), session("alice"))
    assert "spec.user is 'alice', but you are 'github:physics/zmumu'" in said


def test_another_repository_of_the_organization_has_no_right(plane: ControlPlane, issuer: Issuer) -> None:
    token = issuer.token(repository="physics/other")
    assert known(plane, token)
    assert ": 403 " in refusal(plane, token, "GET", SESSIONS.format(PHYSICS))


def test_the_documented_rule_asks_for_an_environment(plane: ControlPlane, issuer: Issuer) -> None:
    """And the API server reads its configuration again."""
    file, page = plane.directory / "authentication.yaml", (CHECKOUT / "docs" / "how-to" / "ci.md").read_text()
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    [[rule]] = [block for block in blocks if "environment" in str(block) and "expression" in str(block)]
    before = file.read_text()
    config = yaml.safe_load(before)
    config["jwt"][0]["claimValidationRules"].append(rule)
    file.write_text(yaml.safe_dump(config))
    try:
        assert poll(lambda: known(plane, issuer.token()) is None, RELOAD_SECONDS)
        assert known(plane, issuer.token(environment="facility"))
        assert known(plane, issuer.token(environment="elsewhere")) is None
    finally:
        file.write_text(before)
    assert poll(lambda: known(plane, issuer.token()) is not None, RELOAD_SECONDS)


# --- the pipelines --------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(plane: ControlPlane, issuer: Issuer, tmp_path: Path) -> Path:
    """An analysis, with what the repository has for CI."""
    folder = ci_jobs.checked_out(tmp_path, plane.server, plane.authority, PHYSICS)
    spec = {"mode": "Headless", "run": {"command": ["true"]}}
    body = {"apiVersion": API, "kind": "AnalysisSession", "spec": spec}
    (folder / "session.yaml").write_text(yaml.safe_dump(body))
    (folder / ".ci" / "issuer.crt").write_text(issuer.certificate)
    return folder


@pytest.fixture(params=PIPELINES)
def job(request: pytest.FixtureRequest, issuer: Issuer, checkout: Path) -> Job:
    """A job of each system."""
    return in_job(request.param, issuer, checkout)


def in_job(path: str, issuer: Issuer, checkout: Path) -> Job:
    number = str(time.time_ns())[-9:]
    given = {
        **issuer.job(path),
        "SSL_CERT_FILE": str(checkout / ".ci" / "issuer.crt"),
        "GITHUB_WORKSPACE": str(checkout),
        "GITHUB_RUN_ID": number,
        "GITHUB_RUN_ATTEMPT": "1",
        "CI_PROJECT_DIR": str(checkout),
        "CI_JOB_ID": number,
    }
    return Job(PIPELINES[path], checkout, given)


def there(plane: ControlPlane, name: str) -> bool:
    found = plane.request("GET", SESSIONS.format(PHYSICS))["items"]
    return name in [each["metadata"]["name"] for each in found]


def await_session(plane: ControlPlane, name: str, script: subprocess.Popen[str]) -> None:
    assert poll(lambda: there(plane, name) or script.poll() is not None, READY_SECONDS), f"{name} was not created"
    assert script.poll() is None, script.communicate()


def play(plane: ControlPlane, name: str, storage: Path, script: subprocess.Popen[str]) -> dict[str, Any]:
    """Be the operator of a session: it has run, and left a file. Return it as it was created."""
    path = f"{SESSIONS.format(PHYSICS)}/{name}"
    await_session(plane, name, script)
    created: dict[str, Any] = plane.request("GET", path)
    results = storage / PHYSICS / f"{name}-{created['metadata']['uid']}"
    results.mkdir(parents=True)
    (results / "plot.txt").write_text("a peak")
    file = {"url": f"file://{results}/plot.txt", "bytes": 6, "adler32": "07080223"}
    (results / "manifest.json").write_text(json.dumps({"complete": True, "count": 1, "files": [file]}))
    left = {"url": f"file://{results}", "count": 1, "bytes": 6, "files": [file]}
    over = {"type": "RunComplete", "status": "True", "reason": "Succeeded", "message": "exit code 0"}
    condition = {**over, "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}
    run = {"exitCode": 0, "reason": "Succeeded", "results": left}
    status = {"phase": "Succeeded", "observedGeneration": 1, "conditions": [condition], "run": run}
    plane.request("PATCH", f"{path}/status", {"status": status})
    return created


def test_a_pipeline_runs_and_leaves_its_results_and_nothing_else(plane: ControlPlane, job: Job, tmp_path: Path) -> None:
    with job.begun() as script:
        created = play(plane, job.session, tmp_path / "storage", script)
        out, err = script.communicate(timeout=READY_SECONDS)
    assert script.returncode == 0, err
    job.clean_up()
    assert created["spec"]["user"] in USERS.values()
    assert created["spec"]["lifetimeSeconds"] == 3600, "by --rm: whatever becomes of the job"
    assert (job.checkout / "results" / "plot.txt").read_text() == "a peak"
    assert not there(plane, job.session)
    for secret in (SECRET, job.given.get("AF_CI_TOKEN", SECRET), "eyJ"):
        assert secret not in out + err


def test_kubectl_takes_the_kubeconfig_too(plane: ControlPlane, job: Job) -> None:
    kubectl = Path(plane.programs["kubernetes"]).with_name("kubectl")
    assert any(user in job.shell(f"{kubectl} auth whoami") for user in USERS.values())


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_cancelled_pipeline_leaves_nothing(plane: ControlPlane, job: Job, sent: signal.Signals) -> None:
    with job.begun() as script:
        await_session(plane, job.session, script)
        job.cancel(script, sent)
        # GitHub kills after ten seconds in all, GitLab later.
        script.communicate(timeout=CANCELLED_SECONDS)
    assert not there(plane, job.session), "af run --rm leaves nothing"
    job.clean_up()


def test_a_job_that_is_killed_is_cleaned_up_by_its_last_step(plane: ControlPlane, job: Job) -> None:
    with job.begun() as script:
        await_session(plane, job.session, script)
        os.killpg(script.pid, signal.SIGKILL)
        script.communicate()
    assert there(plane, job.session)
    job.clean_up()
    assert not there(plane, job.session)


def test_a_job_without_a_token_is_told_so(plane: ControlPlane, job: Job) -> None:
    given = {k: v for k, v in job.given.items() if not k.startswith(("ACTIONS_", "AF_CI_"))}
    with Job(job.pipeline, job.checkout, given).begun() as script:
        _, said = script.communicate(timeout=60)
    assert script.returncode != 0
    assert "this job has no token of its own" in said


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"aud": "https://elsewhere.example.org"}, "the API server does not know you (401)"),
        ({"project_path": "physics/other"}, "you (gitlab:physics/other) may not create analysissessions in namespace"),
    ],
    ids=["unknown", "without a right"],
)
def test_what_a_job_is_told_that_may_not(
    plane: ControlPlane, issuer: Issuer, checkout: Path, claims: dict[str, Any], said: str
) -> None:
    found = in_job("/gitlab", issuer, checkout)
    given = {**found.given, "AF_CI_TOKEN": issuer.token("/gitlab", **claims)}
    with Job(found.pipeline, found.checkout, given).begun() as script:
        _, told = script.communicate(timeout=READY_SECONDS)
    assert script.returncode != 0
    assert said in told
    page = (CHECKOUT / "docs" / "how-to" / "ci.md").read_text()
    assert "the API server does not know you (401)" in page
    assert "may not create analysissessions in namespace" in page


# --- what the files say ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=PIPELINES)
def test_a_pipeline_installs_what_there_is(pipeline: Pipeline) -> None:
    project = (CHECKOUT / "pyproject.toml").read_text()
    [install] = pipeline.installs
    [extras] = [word.partition("[")[2].rstrip("]'") for word in install.split() if "af-operator[" in word]
    assert all(f"\n{extra} = [" in project for extra in extras.split(","))


def test_audiences_and_namespace_are_the_same_everywhere() -> None:
    audiences = {
        each["issuer"]["audiences"][0] for each in yaml.safe_load((EXAMPLES / "authentication.yaml").read_text())["jwt"]
    }
    config = yaml.safe_load((EXAMPLES / "kubeconfig.yaml").read_text())
    asked = config["users"][0]["user"]["exec"]["args"][1]
    given = yaml.safe_load((EXAMPLES / "gitlab-ci.yml").read_text())["zmumu"]["id_tokens"]["AF_CI_TOKEN"]["aud"]
    assert audiences == {asked} == {given} == {AUDIENCE}
    for body in yaml.safe_load_all((EXAMPLES / "access.yaml").read_text()):
        assert body["metadata"]["namespace"] == config["contexts"][0]["context"]["namespace"] == PHYSICS
