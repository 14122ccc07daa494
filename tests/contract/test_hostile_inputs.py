"""Hostile inputs: refused as what a user writes, and again by an operator that forwards all of them.

No operator runs here, nor any pod: whatever refuses, the API server does it. Beside each stands the like that is let
through, so that the refusal is of the one thing that is hostile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from dask_kubernetes.operator.controller import controller
from rich.console import Console

import af_names
from local_cluster.control_plane import ControlPlane, Options, control_plane
from local_cluster.errors import ClusterError
from local_cluster.processes import poll
from local_cluster.progress import Progress
from tests.contract.schema import merged
from tests.contract.test_operator_objects import golden
from tests.support import chart
from tests.support.bounded import LABEL, UID, token
from tests.support.forwarding_operator import Body, forwarded, forwarding
from tests.support.hostile import IN_PODS, LAX, OBJECTS, POD_PATHS, SYSTEM, TENANT
from tests.support.releases import Releases

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(600)]
ALICE = f"system:serviceaccount:{TENANT}:alice"
GROUP = "analysisfacility.io"
SESSIONS = f"/apis/{GROUP}/v1alpha1/namespaces/{TENANT}/analysissessions"
QUOTAS = f"/api/v1/namespaces/{TENANT}/resourcequotas"
COUNT = f"count/analysissessions.{GROUP}"
FORCE_SECONDS = 150
"""In which policies are heard of, however busy the machine."""
LIMIT = 5
"""Sessions that the namespace's quota lets in."""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    values = {
        "image": {"operator": chart.IMAGE},
        "watchNamespaces": [TENANT, LAX],
        "daskOperator": {"enabled": True},
        "network": {"probe": False},
    }
    with control_plane(Progress(Console(quiet=True)), Options(controllers=True)) as found:
        namespaces(found)
        count_anew(found)
        done = Releases(found, tmp_path_factory.mktemp("helm")).install("af-operator", SYSTEM, values)
        assert done.returncode == 0, done.stderr
        assert poll(lambda: "but you are" in asked(found, session(user="admin")), FORCE_SECONDS)
        pod = forwarded(PLANS["Pod"], {"metadata/namespace": LAX, "spec/hostNetwork": True})
        path = f"/api/v1/namespaces/{LAX}/pods?dryRun=All"
        operator = (SYSTEM, "af-operator")
        assert poll(lambda: "own-pods" in asked(found, pod, path=path, of=operator), FORCE_SECONDS)
        yield found


def namespaces(plane: ControlPlane) -> None:
    """Make two for sessions, one of which enforces nothing; in the other alice has the role for users."""
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    for name, labels in ((TENANT, label), (LAX, {})):
        plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    plane.request("POST", f"/api/v1/namespaces/{TENANT}/serviceaccounts", {"metadata": {"name": "alice"}})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "analysisfacility-user"}
    subject = {"kind": "ServiceAccount", "name": "alice", "namespace": TENANT}
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{TENANT}/rolebindings"
    plane.request("POST", path, {"metadata": {"name": "alice"}, "roleRef": role, "subjects": [subject]})
    plane.request("POST", QUOTAS, {"metadata": {"name": "sessions"}, "spec": {"hard": {COUNT: str(LIMIT)}}})
    # What a user may try to have used: it is there.
    runtime = {"metadata": {"name": "unconfined"}, "handler": "x"}
    plane.request("POST", "/apis/node.k8s.io/v1/runtimeclasses", runtime)
    role = {"metadata": {"name": PLANS["Role"]["metadata"]["name"]}, "rules": PLANS["Role"]["rules"]}
    plane.request("POST", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{TENANT}/roles", role)


def count_anew(plane: ControlPlane) -> None:
    """Say what is used of the quota, as its controller would, which does not run here."""
    status = {"hard": {COUNT: str(LIMIT)}, "used": {COUNT: "0"}}
    plane.request("PATCH", f"{QUOTAS}/sessions/status", {"status": status})


def session(**spec: Any) -> Body:
    base = {"user": ALICE, "mode": "Headless", "run": {"command": ["true"]}}
    kind = {"apiVersion": f"{GROUP}/v1alpha1", "kind": "AnalysisSession", "metadata": {"name": "s"}}
    return {**kind, "spec": merged(base, spec)}


def asked(
    plane: ControlPlane, body: Body, *, path: str = f"{SESSIONS}?dryRun=All", of: tuple[str, str] = (TENANT, "alice")
) -> str:
    """Return the words in which the API server refuses to make an object for a service account, else nothing."""
    strict = path + ("&" if "?" in path else "?") + "fieldValidation=Strict"
    try:
        plane.ask(token(plane, *of), "POST", strict, body)
    except ClusterError as error:
        return str(error)
    return ""


POOL = {"name": "cpu", "nodePool": "cpu", "workers": {"min": 0, "max": 1}}


def pool(**workers: Any) -> Body:
    return {"dask": {"pools": [{**POOL, "workers": workers}]}}


def run(**fields: Any) -> Body:
    return {"run": {"command": ["true"], **fields}}


def environment(name: str, value: Any = "x") -> Body:
    return {"env": [{"name": name, "value": value}]}


UNKNOWN = "unknown field"
# PYTHONSTARTUP and the like reach programs of the user alone, which run what that user says anyway.
VARIABLES = ("LD_PRELOAD", "PATH", "JUPYTERHUB_API_TOKEN", "DASK_X", "KUBERNETES_SERVICE_HOST")
IMAGES = ("evil.io/x", "a@evil.io/x", "a:latest", "a\nb", "../a", "a ", "\u0430nalysis", "a" * 300)


class Said(NamedTuple):
    """What a user writes into a session, in its spec or beside it; how that is refused; and the like that is not."""

    what: str
    hostile: Body
    words: str
    neutral: Body


def named(name: str) -> Body:
    return {"metadata": {"name": name}}


def marked(**metadata: Any) -> Body:
    return {"metadata": metadata}


def spec(**fields: Any) -> Body:
    return {"spec": fields}


NAMES = ("a" * 253, "a" * 41, "-a", "a.", "a..b", "Zmumu", "zμμ", "..", "a/b")
CONF = "spark.kubernetes.driver.volumes.hostPath.root.mount.path"
SPARK = {"pools": [POOL]}
SAID = [
    *(Said(f"name {name[:9]} of {len(name)}", named(name), "metadata.name", named("a" * 40)) for name in NAMES),
    Said("a note of kopf's", marked(annotations={"kopf.zalando.org/x": "{"}), "kopf.", marked(annotations={"a": "b"})),
    Said("a finalizer", marked(finalizers=["example.org/f"]), "metadata.finalizers", marked(labels={"a": "b"})),
    Said(
        "an owner",
        marked(ownerReferences=[{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "1"}]),
        "metadata.ownerReferences",
        marked(ownerReferences=[]),
    ),
    Said("1.5 MB", spec(**run(source={"files": {"a": "x" * 1_500_000}})), "Too long", spec(**run())),
    Said("100000 items", spec(env=[{"name": "A", "value": ""}] * 100_000), "Too many", spec(**environment("A"))),
    Said("200 levels", spec(run=json.loads('{"a":' * 200 + "1" + "}" * 200)), UNKNOWN, spec(**run())),
    *(
        Said(f"workers {value!r}", spec(**pool(max=value)), "workers.max", spec(**pool(min=0, max=3)))
        for value in (-1, 2**31, 2**63, 10**9, 1.5, "3")
    ),
    *(
        Said(f"cache of {size!r}", spec(xcache={"size": size}), "xcache.size", spec(xcache={"size": "10Gi"}))
        for size in ("1e100", "-1", "0", "0.0001m", "1 Gi", "\u0661Gi", " 1Gi")
    ),
    Said(
        "its own resources", spec(**run(resources={"requests": {"cpu": "1e100"}})), UNKNOWN, spec(**run(size="small"))
    ),
    *(
        Said(f"lifetime {value!r}", spec(lifetimeSeconds=value), "lifetimeSeconds", spec(lifetimeSeconds=60))
        for value in (0, -1, 10**9, "P1Y")
    ),
    Said("a schedule", spec(schedule="* * * * *"), UNKNOWN, spec(ttlSecondsAfterFinished=1)),
    Said("min over max", spec(**pool(min=2, max=1)), "min must not be larger", spec(**pool(min=1, max=1))),
    *(Said(f"image {image[:9]!r}", spec(image=image), "spec.image", spec(image="analysis")) for image in IMAGES),
    *(Said(f"variable {n}", spec(**environment(n)), "set by the session", spec(**environment("A"))) for n in VARIABLES),
    Said("a NUL", spec(**environment("A", "a\0b")), "NUL", spec(**environment("A", "$(B)\n"))),
    Said("a directory", spec(mode="Interactive", run=None, notebook={"dir": "/proc"}), UNKNOWN, spec(**run())),
    Said("a base URL", spec(mode="Interactive", run=None, notebook={"baseUrl": "//x"}), UNKNOWN, spec(**run())),
    Said("a volume", spec(volumes=[{"hostPath": {"path": "/"}}]), UNKNOWN, spec(**run())),
    Said("a sub-path", spec(**run(subPath="..")), UNKNOWN, spec(**run())),
    Said("an origin", spec(xcache={"origin": "root://169.254.169.254//"}), UNKNOWN, spec(xcache={"size": "10Gi"})),
    Said(
        "an option of Spark",
        spec(spark={**SPARK, "conf": {CONF: "/host"}}),
        "these options of Spark may be set",
        spec(spark={**SPARK, "conf": {"spark.sql.shuffle.partitions": "8"}}),
    ),
    Said("a model's URL", spec(inference={"models": [{"name": "m", "url": "http://x"}]}), UNKNOWN, spec(**run())),
    *(
        Said(f"{field} of a pod", spec(**run(**{field: value})), UNKNOWN, spec(**run(nodePool="cpu")))
        for field, value in {
            "securityContext": {"privileged": True},
            "serviceAccountName": "af-operator",
            "envFrom": [{"secretRef": {"name": "s"}}],
            "priorityClassName": "system-node-critical",
            "initContainers": [{"name": "x", "image": "x"}],
            "runtimeClassName": "x",
        }.items()
    ),
    Said("a Service", spec(service={"type": "LoadBalancer"}), UNKNOWN, spec(**run())),
    Said("somebody else", spec(user="admin"), "but you are", spec(user=ALICE)),
    Said("another's files", spec(**run(source={"configMap": "bob-source"})), "may not read", spec(**run())),
    Said("another version", {"apiVersion": f"{GROUP}/v1"}, f"{GROUP}/v1", {"apiVersion": f"{GROUP}/v1alpha1"}),
]


@pytest.mark.parametrize("said", SAID, ids=[said.what for said in SAID])
def test_a_session_cannot_say_it(plane: ControlPlane, said: Said) -> None:
    assert asked(plane, merged(session(), said.neutral)) == ""
    assert said.words in asked(plane, merged(session(), said.hostile))


def test_children_of_two_sessions_have_two_names() -> None:
    """No name is so long that it is cut; what is not safe in a child's name gets a hash of all of it."""
    for child in (af_names.notebook, af_names.dask_scheduler, af_names.inference, af_names.hub_secret):
        assert (
            len({child(name) for name in ("a" * 39 + "1", "a" * 39 + "2", "1" * 40, "1" * 39 + "2", "1.1", "1-1")}) == 6
        )


def test_a_flood_ends_at_the_quota(plane: ControlPlane) -> None:
    count_anew(plane)
    body = {**session(), "metadata": {"generateName": "flood-"}}
    said = [asked(plane, body, path=SESSIONS) for _ in range(LIMIT + 1)]
    assert said[:LIMIT] == [""] * LIMIT
    assert "exceeded quota: sessions" in said[LIMIT]


def test_a_status_is_not_its_users_to_write(plane: ControlPlane) -> None:
    """Nor does one that is only tried out leave anything behind."""
    count_anew(plane)
    plane.request("POST", SESSIONS, session())
    path = f"{SESSIONS}/s"
    try:
        forged = {"status": {"phase": "Ready", "observedGeneration": 1, "conditions": []}}
        with pytest.raises(ClusterError, match="cannot patch resource"):
            plane.ask(token(plane, TENANT, "alice"), "PATCH", f"{path}/status", forged)
        for change, words in (({"profile": "gpu"}, "profile cannot be changed"), ({"user": "bob"}, "user cannot be")):
            with pytest.raises(ClusterError, match=words):
                plane.ask(token(plane, TENANT, "alice"), "PATCH", path, {"spec": change})
        before = plane.request("GET", path)
        tried = f"{path}?dryRun=All&fieldManager=af-operator"
        plane.ask(token(plane, TENANT, "alice"), "PATCH", tried, {"spec": {"suspend": True}})
        assert plane.request("GET", path) == before
    finally:
        plane.request("DELETE", path)


PLANS = {body["kind"]: body for case in ("notebook", "native-zmumu") for body in golden(case)}
# As Kubernetes fills it in, where its plugin for that is not left out as here.
PLANS["Pod"]["spec"]["serviceAccountName"] = "default"
# Without it Kubernetes takes no Secret that is to be filled with the token of an account.
PLANS["Secret"]["metadata"]["annotations"] = {"kubernetes.io/service-account.name": "default"}
SERVICE = {"name": "x", "port": {"number": 80}}
MORE_PLANS = {
    "Ingress": {
        **PLANS["ConfigMap"],
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "spec": {"defaultBackend": {"service": SERVICE}},
    },
    "ServiceAccount": {**PLANS["ConfigMap"], "kind": "ServiceAccount"},
}
for made in MORE_PLANS.values():
    made.pop("data", None)


@pytest.mark.parametrize("kind", POD_PATHS)
@pytest.mark.parametrize("what", IN_PODS)
async def test_an_operator_that_forwards_it_makes_no_such_pod(
    plane: ControlPlane, tmp_path: Path, kind: str, what: str
) -> None:
    path, hostile, neutral = IN_PODS[what]
    where = f"{POD_PATHS[kind]}/{path}"
    async with forwarding(plane, (SYSTEM, "af-operator"), PLANS, tmp_path) as operator:
        # Where no Pod Security stands behind it, and where it does.
        for namespace in (LAX, TENANT):
            assert await operator.forward(kind, {where: neutral}, namespace) == ""
            said = await operator.forward(kind, {where: hostile}, namespace)
            assert "af-operator-own-pods" in said or (namespace == TENANT and "violates PodSecurity" in said)


@pytest.mark.parametrize("what", OBJECTS)
async def test_an_operator_that_forwards_it_makes_no_such_object(
    plane: ControlPlane, tmp_path: Path, what: str
) -> None:
    kind, path, hostile, neutral = OBJECTS[what]
    async with forwarding(plane, (SYSTEM, "af-operator"), PLANS, tmp_path) as operator:
        assert await operator.forward(kind, {path: neutral}, TENANT) == ""
        said = await operator.forward(kind, {path: hostile}, TENANT)
        assert "af-operator-own-objects" in said or "cannot create resource" in said


@pytest.mark.parametrize("kind", MORE_PLANS)
async def test_of_other_kinds_it_makes_nothing(plane: ControlPlane, tmp_path: Path, kind: str) -> None:
    async with forwarding(plane, (SYSTEM, "af-operator"), {**PLANS, **MORE_PLANS}, tmp_path) as operator:
        assert await operator.forward("ConfigMap", {}, TENANT) == ""
        assert "cannot create resource" in await operator.forward(kind, {}, TENANT)


def dask_plans() -> dict[str, Body]:
    """Return what the Dask operator makes of the golden session's cluster."""
    bodies = {body["kind"]: body for body in golden("zmumu")}
    cluster, group = bodies["DaskCluster"], bodies["DaskWorkerGroup"]
    name, labels, scheduler = cluster["metadata"]["name"], cluster["metadata"]["labels"], cluster["spec"]["scheduler"]
    owner = {"apiVersion": cluster["apiVersion"], "kind": "DaskCluster", "name": name, "uid": UID, "controller": True}
    worker = group["spec"]["worker"]["spec"]
    made = (
        controller.build_worker_deployment_spec(
            group["metadata"]["name"], TENANT, name, "0123456789", worker, {}, labels
        ),
        controller.build_scheduler_service_spec(name, scheduler["service"], {}, labels),
    )
    # Written out, for it uses some of its parts twice.
    bodies = {body["kind"]: json.loads(json.dumps(body)) for body in made}
    for body in bodies.values():
        body["metadata"]["ownerReferences"] = [owner]
    return bodies


@pytest.mark.parametrize("what", IN_PODS)
async def test_a_dask_operator_that_forwards_it_makes_no_such_pod(
    plane: ControlPlane, tmp_path: Path, what: str
) -> None:
    path, hostile, neutral = IN_PODS[what]
    where = f"{POD_PATHS['Deployment']}/{path}"
    async with forwarding(plane, (SYSTEM, "dask-operator"), dask_plans(), tmp_path) as operator:
        assert await operator.forward("Deployment", {where: neutral}, LAX) == ""
        assert "af-operator-dask-pods" in await operator.forward("Deployment", {where: hostile}, LAX)


@pytest.mark.parametrize(
    ("kind", "path", "hostile", "neutral"),
    [
        ("Deployment", "metadata/namespace", SYSTEM, LAX),
        ("Deployment", "metadata/ownerReferences", None, dask_plans()["Deployment"]["metadata"]["ownerReferences"]),
        ("Service", "spec/type", "LoadBalancer", "ClusterIP"),
        ("Service", "spec/selector", {"app": "database"}, {LABEL: UID}),
    ],
)
async def test_a_dask_operator_that_forwards_it_makes_no_such_object(
    plane: ControlPlane, tmp_path: Path, kind: str, path: str, hostile: Any, neutral: Any
) -> None:
    async with forwarding(plane, (SYSTEM, "dask-operator"), dask_plans(), tmp_path) as operator:
        assert await operator.forward(kind, {path: neutral}, LAX) == ""
        said = await operator.forward(kind, {path: hostile}, LAX)
        assert "af-operator-dask-objects" in said or "cannot create resource" in said


def test_what_belongs_to_a_session_that_never_was_goes(plane: ControlPlane) -> None:
    """No policy can look for the session: what says that it belongs to one has its time until it is collected."""
    path = f"/api/v1/namespaces/{TENANT}/secrets"
    secret = {**PLANS["Secret"], "metadata": {**PLANS["Secret"]["metadata"], "namespace": TENANT}}
    assert asked(plane, secret, path=path, of=(SYSTEM, "af-operator")) == ""
    name = secret["metadata"]["name"]
    assert poll(lambda: name not in [item["metadata"]["name"] for item in plane.request("GET", path)["items"]], 60)


def test_no_operator_runs(plane: ControlPlane) -> None:
    assert plane.request("GET", "/api/v1/pods")["items"] == []
    assert plane.request("GET", "/apis/apps/v1/deployments")["items"]
