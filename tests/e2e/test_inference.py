"""A session's model service as its user meets it: one session with it, which the tests use in turn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from local_cluster import facility as demo
from tests.support import served as models
from tests.support.audit import OPERATOR, Audit
from tests.support.friends import befriend_everybody
from tests.support.people import af
from tests.support.tenant import ENVIRONMENT, Tenant, condition, kubectl, poll

pytestmark = pytest.mark.timeout(600)

NAME = "served"
NOTEBOOK = (f"{NAME}-notebook-0", "--container=notebook")
USER = {"user": "alice", "mode": "Interactive", "image": models.IMAGE}
SERVICE = f"{NAME}-inference"
ASKED = 1000
QUIET = timedelta(seconds=30)
FROM_DASK = """
from dask.distributed import Client
def ask(program):
    import subprocess, sys
    return subprocess.run([sys.executable, "-c", program, '["ask"]'], capture_output=True, text=True, check=True).stdout
with Client() as client:
    print(client.submit(ask, PROGRAM).result(), end="")
"""


@pytest.fixture(scope="module")
def served(facility: demo.Facility, shared_tenant: Tenant) -> Iterator[Tenant]:
    """A session with a notebook, Dask and a model service of two replicas, which is ready."""
    dask = {"pools": [{"name": "cpu", "nodePool": "cpu", "workers": {"min": 1, "max": 1}}]}
    service = models.DIMUON | {"upload": True, "replicas": 2}
    shared_tenant.apply(NAME, USER | {"notebook": {}, "dask": dask, "inference": service})
    shared_tenant.wait_condition(NAME, "Ready", seconds=240)
    yield shared_tenant
    shared_tenant.kubectl("delete", "analysissession", NAME, "--ignore-not-found")


def test_both_protocols_clients_have_the_known_answers(served: Tenant) -> None:
    found = models.ask(served, NOTEBOOK, "ask")
    assert set(found) == {"http", "grpc", "tfaas"}
    for masses in found.values():
        assert masses == pytest.approx(models.MASSES, rel=1e-6)


def test_a_dask_worker_asks_by_its_environment(served: Tenant) -> None:
    program = f"PROGRAM = {models.CLIENT!r}\n{FROM_DASK}"
    said = served.kubectl("exec", "-i", *NOTEBOOK, "--", "python", "-", stdin=program)
    assert json.loads(said.splitlines()[-1])["http"] == pytest.approx(models.MASSES, rel=1e-6)


def test_it_says_where_it_is_and_what_it_serves(served: Tenant) -> None:
    status = served.session(NAME)["status"]["components"]["inference"]
    host = f"{SERVICE}.{served.namespace}.svc"
    assert status == {
        "pools": {"replicas": {"ready": 2, "desired": 2}},
        "pods": {"replicas": [f"{SERVICE}-r0", f"{SERVICE}-r1"]},
        "models": {"dimuon": "1"},
        "endpoints": {"inference": f"http://{host}:8000", "grpc": f"{host}:8001"},
    }


def test_an_uploaded_model_is_served_by_every_replica(served: Tenant) -> None:
    assert models.ask(served, NOTEBOOK, "upload", "double", models.times(2)) == 200
    replicas = models.pods(served, NAME)
    assert len(replicas) == 2
    for pod in replicas.values():
        assert models.ask(served, NOTEBOOK, "predict", models.url(pod), "double", 21) == 42


def test_its_pods_may_do_nothing(served: Tenant) -> None:
    """The namespace enforces the restricted Pod Security Standard, so what runs there keeps to it."""
    for pod in models.pods(served, NAME).values():
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert all(c["securityContext"]["readOnlyRootFilesystem"] for c in pod["spec"]["containers"])
        mounts = [m["mountPath"] for c in pod["spec"]["containers"] for m in c["volumeMounts"]]
        assert not [path for path in mounts if "serviceaccount" in path]


def test_its_user_is_let_in_and_nobody_else(served: Tenant) -> None:
    def may(user: str, *asked: str) -> str:
        where = ("--namespace", served.namespace, f"--as={user}")
        return kubectl("auth", "can-i", *asked, *where, check=False).split()[-1]

    secret, forward = ("get", f"secret/{SERVICE}"), ("create", f"pods/{SERVICE}-r0", "--subresource=portforward")
    assert [may(user, *right) for user in ("alice", "bob") for right in (secret, forward)] == ["yes", "yes", "no", "no"]
    assert may("alice", "list", "secrets") == "no"


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same namespace", "another namespace"])
def test_another_session_gets_nothing(served: Tenant, tenant: Tenant, elsewhere: bool) -> None:
    """Not with no token, nor a guessed one, nor that of its own service, where no policy keeps it out."""
    place = tenant if elsewhere else served
    for each in {served.namespace: served, place.namespace: place}.values():
        befriend_everybody(each)
    place.apply("stranger", USER | {"notebook": {}, "inference": {"upload": True}})
    place.wait_condition("stranger", "Ready", seconds=240)
    host = f"{SERVICE}.{served.namespace}.svc"
    where = ("stranger-notebook-0", "--container=notebook")
    answers = models.ask(place, where, "intrude", f"http://{host}:8000", f"{host}:8001")
    assert len(answers) == 36
    refused = {what: answer for what, answer in answers.items() if answer in (401, "StatusCode.UNAUTHENTICATED")}
    assert refused == answers
    place.kubectl("delete", "analysissession", "stranger")
    assert models.ask(served, NOTEBOOK, "predict", "", "double", 2) == 4, "all is as it was"
    assert models.ask(served, NOTEBOOK, "ask")["grpc"] == pytest.approx(models.MASSES, rel=1e-6)


def test_it_costs_the_operator_no_request_while_it_is_calm(served: Tenant) -> None:
    begin = datetime.now(UTC)

    def calm() -> bool:
        calls = [c for c in audit.calls(OPERATOR, namespace=served.namespace) if SERVICE in c.name]
        return datetime.now(UTC) - max([begin, *(call.received for call in calls)]) > QUIET

    with Audit() as audit:
        poll(calm, "half a minute without a request about it", 4 * QUIET.total_seconds())


def test_replicas_are_fewer_and_more_while_it_serves(served: Tenant) -> None:
    before = models.pods(served, NAME)
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(models.ask, served, NOTEBOOK, "steadily", "double", ASKED)
        done = af("scale", NAME, "inference", "1", f"--namespace={served.namespace}", environment=ENVIRONMENT)
        assert done.stdout.endswith("inference: 1 replicas\n"), done.stderr
        gone = f"pod/{SERVICE}-r1"
        served.kubectl("wait", "--for=delete", gone, "--timeout=60s")
        running = not asking.done()
        assert asking.result(200) == {"200": ASKED}, "nobody who asks meets a closed port"
    assert running, "asked all the time"
    assert set(models.pods(served, NAME)) == {f"{SERVICE}-r0"}
    served.patch(NAME, inference={"replicas": 2})
    models.settled(served, NAME, 2)
    after = models.pods(served, NAME)
    assert after[f"{SERVICE}-r0"]["metadata"]["uid"] == before[f"{SERVICE}-r0"]["metadata"]["uid"]
    assert models.ask(served, NOTEBOOK, "predict", models.url(after[f"{SERVICE}-r1"]), "double", 4) == 8


def test_suspended_it_goes_and_what_was_uploaded_stays(served: Tenant) -> None:
    served.patch(NAME, suspend=True)
    served.wait_condition(NAME, "Suspended", seconds=90)
    poll(lambda: not models.pods(served, NAME), "no replica is left", 90)
    assert "Bound" in served.kubectl("get", "pvc", f"{SERVICE}-store")
    served.patch(NAME, suspend=False)
    served.wait_condition(NAME, "Ready", seconds=240)
    assert models.ask(served, NOTEBOOK, "predict", "", "double", 8) == 16
    assert condition(served.session(NAME), "InferenceLost").get("status") != "True", "who suspends knows what goes"


def test_deleted_it_leaves_nothing(served: Tenant) -> None:
    uid = served.session(NAME)["metadata"]["uid"]
    kinds = {kind for kind, name in served.children(uid) if name.startswith(SERVICE)}
    assert kinds >= {"ConfigMap", "PersistentVolumeClaim", "Pod", "Role", "RoleBinding", "Secret", "Service"}
    served.kubectl("delete", "analysissession", NAME, "--timeout=10s")
    poll(lambda: not served.children(uid), "nothing is left", 120)
