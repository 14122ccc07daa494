"""The notebook: what its server is started with, whose home it mounts, and what is said of it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from jupyterhub import orm
from jupyterhub.objects import Hub
from jupyterhub.roles import create_role, get_default_roles
from jupyterhub.spawner import Spawner
from jupyterhub.user import User

from af_operator import names, plan
from af_operator.components import notebook, shipped
from af_operator.components.notebook.secret import data as secret_data
from af_operator.model import SECRET, Body, Finish, Keep, Manifest, ObjectRef, Profile, Session
from af_operator.observed import Settled, Terms
from af_operator.views import HubServer, HubView
from tests.support.objects import UNSCHEDULABLE, container, live, of_component, pod, profile, session, world

HOME: dict[str, Any] = {"home": {"storageClassName": "fast", "size": "1Gi"}}
HUB = HubView("http://hub.test:8081/lab/hub/api", "/lab/")
NONCE = "ab" * 32
TOKEN = world(nonce=NONCE).token("notebook token")
NOW = datetime(2026, 1, 1, 10, 10, tzinfo=UTC)
APPLIED = [{"manager": "af-operator", "operation": "Apply"}]


def lab(**spec: Any) -> Session:
    return session(notebook=spec.pop("notebook", {}), **spec)


def built(s: Session, observed: Settled, p: Profile | None = None) -> dict[str, Manifest]:
    found = plan.build(shipped(), s, p or profile(storage=HOME), observed, NOW)
    return {m.ref.kind: m for m in found.desired}


def owned(api_version: str, kind: str, **body: Any) -> dict[str, Any]:
    """Return an object of the notebook's, as the operator has made it."""
    found = live(api_version, kind, "zmumu-notebook", of_component("notebook"), **body)
    found["metadata"] |= {"ownerReferences": [{"uid": session().uid, "controller": True}], "managedFields": APPLIED}
    return found


def home(user: str = "alice", **metadata: Any) -> dict[str, Any]:
    found = live("v1", "PersistentVolumeClaim", "home-alice", {names.USER: "alice"}, status={"phase": "Bound"})
    found["metadata"] |= {"annotations": {names.USER: user}, "managedFields": APPLIED, **metadata}
    return found


def secret(token: str) -> dict[str, Any]:
    return owned("v1", "Secret", data={"JUPYTER_TOKEN": base64.b64encode(token.encode()).decode()})


def env_of(s: Session, observed: Settled) -> dict[str, str]:
    return {k: base64.b64decode(v).decode() for k, v in secret_data(s, observed).items()}


class AsTheHub(Spawner):
    """Says what a server would be started with, and starts none."""

    async def start(self) -> Any:
        raise Started(self.get_env())

    async def stop(self, now: bool = False) -> None:
        pass

    async def poll(self) -> int:
        return 0


class Started(Exception):
    """Carries the environment."""


async def env_of_the_hub(user: str, server: str) -> dict[str, str]:
    db = orm.new_session_factory("sqlite:///:memory:")()
    for role in get_default_roles():
        create_role(db, role)
    db.add(orm.OAuthClient(identifier="jupyterhub"))
    db.add(record := orm.User(name=user))
    db.add(orm.Spawner(name=server, user=record))
    db.commit()
    hub = Hub(
        bind_url="http://0.0.0.0:8081/lab/hub/", base_url="/lab/hub/", connect_url="http://hub.test:8081/lab/hub/"
    )
    settings = {"spawner_class": AsTheHub, "hub": hub, "base_url": "/lab/", "config": None}
    someone = User(record, settings)
    spawner = someone.spawners[server]
    spawner.ip, spawner.port, spawner.env_keep = "0.0.0.0", names.NOTEBOOK_PORT, []  # noqa: S104 -- as the pod has it
    with pytest.raises(Started) as started:
        await someone.spawn(server)
    return dict(started.value.args[0])


USERS = ["alice", "Ada@example.org", "../admin", "x" * 200, "zμμ ~$(HOME)", "system:serviceaccount:physics:alice"]


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("server", ["", "Plots.2_x"])
async def test_the_environment_is_what_the_hub_would_write(user: str, server: str) -> None:
    theirs = await env_of_the_hub(user, server)
    ours = env_of(lab(user=user, notebook={"serverName": server}), world(hub=HUB, nonce=NONCE))
    token = theirs.pop("JUPYTERHUB_API_TOKEN")
    assert theirs.pop("JPY_API_TOKEN") == token  # for servers of 2016
    assert ours.pop("JUPYTERHUB_API_TOKEN") == ours.pop("JUPYTER_TOKEN") == TOKEN
    assert ours == theirs


def test_without_a_hub_there_is_a_token_and_nothing_else() -> None:
    assert env_of(lab(), world(nonce=NONCE)) == {"JUPYTER_TOKEN": TOKEN}


def test_the_token_is_kept_as_long_as_its_server() -> None:
    assert env_of(lab(), world(secret("kept"), nonce=NONCE))["JUPYTER_TOKEN"] == "kept"


@pytest.mark.parametrize(
    "data", [None, {}, {"JUPYTER_TOKEN": ""}, {"JUPYTER_TOKEN": "not base64"}, {"JUPYTER_TOKEN": "/w=="}]
)
def test_a_secret_that_has_lost_its_token_gets_a_new_one(data: Mapping[str, str] | None) -> None:
    assert env_of(lab(), world(secret("") | {"data": data}, nonce=NONCE))["JUPYTER_TOKEN"] == TOKEN


@pytest.mark.parametrize("lacks", ["ownerReferences", "managedFields"])
def test_a_token_that_somebody_else_has_put_there_is_not_used(lacks: str) -> None:
    foreign = secret("known to others")
    foreign["metadata"][lacks] = []
    assert env_of(lab(), world(foreign, nonce=NONCE))["JUPYTER_TOKEN"] == TOKEN


def test_no_secret_is_in_what_a_log_would_print() -> None:
    assert NONCE not in repr(world(nonce=NONCE))


def test_the_server_waits_until_its_home_is_known_to_be_its_users() -> None:
    first = built(lab(), world())
    assert "StatefulSet" not in first
    assert first["PersistentVolumeClaim"].shared
    assert "StatefulSet" in built(lab(), world(shared=(home(),)))


@pytest.mark.parametrize(
    "foreign",
    [
        home("alice-1a2b3c4d"),
        home(managedFields=[]),
        home(managedFields=[{"manager": "af-operator", "operation": "Update", "subresource": "status"}]),
        home(labels={}),
        home(annotations={}),
        home(name="home-bob"),
    ],
    ids=["another user", "made by hand", "only its status", "not labelled", "no user", "another volume"],
)
def test_a_home_that_is_not_the_users_is_never_mounted(foreign: Body) -> None:
    found = plan.build(shipped(), lab(), profile(storage=HOME), world(shared=(foreign,)), NOW)
    kinds = {m.ref.kind for m in found.apply}
    assert "PersistentVolumeClaim" in kinds, "the port finds out whose it is, and says so"
    assert "StatefulSet" not in kinds


def test_a_server_that_runs_outlives_the_loss_of_its_claim() -> None:
    running = owned("apps/v1", "StatefulSet", spec={"replicas": 1})
    found = plan.build(shipped(), lab(), profile(storage=HOME), world(running), NOW)
    assert "StatefulSet" not in {m.ref.kind for m in found.apply}
    assert found.delete == ()


def test_a_home_is_made_once_and_never_changed_or_deleted() -> None:
    bigger = profile(storage={"home": {"size": "5Gi", "accessMode": "ReadWriteMany"}})
    found = plan.build(shipped(), lab(), bigger, world(shared=(home(),)), NOW)
    assert "PersistentVolumeClaim" not in {m.ref.kind for m in found.apply}
    without = plan.build(shipped(), session(), profile(), world(shared=(home(),)), NOW)
    assert without.delete == ()


def test_the_home_belongs_to_no_session() -> None:
    metadata = built(lab(user="../admin"), world())["PersistentVolumeClaim"].body["metadata"]
    assert metadata["annotations"][names.USER] == "../admin"
    assert metadata["labels"][names.USER] == names.label_value("../admin")
    assert names.SESSION_UID not in metadata["labels"]
    assert "ownerReferences" not in metadata


def test_without_a_home_in_the_profile_files_are_lost_and_that_is_said() -> None:
    volumes = built(lab(), world(), profile())["StatefulSet"].body["spec"]["template"]["spec"]["volumes"]
    assert volumes[0] == {"name": "home", "emptyDir": {"sizeLimit": "10Gi"}}
    up = pod("p", of_component("notebook"), container("notebook", running={}), ready=True)
    assert "files are lost" in notebook.health(lab(), world(up)).message


@pytest.mark.parametrize(("replicas", "applied"), [(1, False), (0, True)])
def test_what_the_catalogue_has_now_is_for_the_next_start(replicas: int, applied: bool) -> None:
    """Whoever upgrades the facility, or its image, ends nobody's kernels: a resumed session gets the new ones."""
    newer = profile(storage=HOME, images=[{"name": "analysis", "image": "registry.example.org/analysis:2"}])
    there = owned("apps/v1", "StatefulSet", spec={"replicas": replicas})
    found = plan.build(shipped(), lab(), newer, world(there, shared=(home(),)), NOW)
    assert ("StatefulSet" in {m.ref.kind for m in found.apply}) is applied
    assert found.delete == ()


OVER = Finish("LifetimeExceeded", "the session's lifetime is over", NOW)


@pytest.mark.parametrize("p", [profile(), profile(images=[{"name": "other", "image": "other"}])])
@pytest.mark.parametrize(("suspend", "finished"), [(True, None), (False, OVER)])
def test_it_stops_from_what_runs_and_not_from_the_catalogue(p: Profile, suspend: bool, finished: Finish | None) -> None:
    spec = {"replicas": 1, "template": {"spec": {"containers": [{"name": "notebook", "image": "of-old"}]}}}
    s = lab(image="analysis", suspend=suspend)
    observed = world(owned("apps/v1", "StatefulSet", spec=spec), finished=finished)
    found = {m.ref.kind: m.body for m in notebook.desired(s, p, observed, Terms()) if isinstance(m, Manifest)}
    assert found["StatefulSet"]["spec"]["replicas"] == 0
    assert found["StatefulSet"]["spec"]["template"]["spec"] == spec["template"]["spec"]
    assert set(found) == {"StatefulSet", "Service"}, "its token goes with it, and the right to that"


@pytest.mark.parametrize("p", [None, profile(images=[{"name": "other", "image": "other"}])])
def test_a_suspended_session_stops_though_its_profile_is_gone(p: Profile | None) -> None:
    spec = {"replicas": 1, "template": {"spec": {"containers": []}}}
    observed = world(owned("apps/v1", "StatefulSet", spec=spec))
    running = plan.build(shipped(), lab(image="analysis"), p, observed, NOW)
    assert (running.apply, running.delete) == ((), ())
    found = plan.build(shipped(), lab(image="analysis", suspend=True), p, observed, NOW)
    assert found.rejected is not None
    assert next(m for m in found.apply if m.ref.kind == "StatefulSet").body["spec"]["replicas"] == 0


def test_a_suspended_session_that_never_fitted_gets_nothing() -> None:
    found = plan.build(shipped(), lab(image="none-such", suspend=True), profile(), world(), NOW)
    assert (found.apply, found.health) == ((), {})


def test_kept_things_of_the_cache_are_not_pruned_when_the_facility_gives_it_up() -> None:
    cache = live("apps/v1", "Deployment", "zmumu-xcache", of_component("xcache"))
    cache["metadata"] |= {"ownerReferences": [{"uid": session().uid, "controller": True}], "managedFields": APPLIED}
    dask = live("kubernetes.dask.org/v1", "DaskCluster", "zmumu", of_component("dask"))
    dask["metadata"] |= {"ownerReferences": [{"uid": session().uid, "controller": True}], "managedFields": APPLIED}
    s = lab(
        suspend=True,
        xcache={"placement": "Session"},
        dask={"pools": [{"name": "a", "nodePool": "cpu", "workers": {"max": 1}}]},
    )
    found = plan.build(shipped(), s, profile(xcache=None), world(cache, dask), NOW)
    assert [b["kind"] for b in found.delete] == ["DaskCluster"]


def test_users_may_read_one_secret_and_reach_one_pod() -> None:
    found = built(lab(user="system:serviceaccount:physics:alice"), world(), profile())
    assert {(r["resources"][0], *r["resourceNames"], *r["verbs"]) for r in found["Role"].body["rules"]} == {
        ("secrets", "zmumu-notebook", "get"),
        ("pods/portforward", "zmumu-notebook-0", "get", "create"),
    }
    subjects = found["RoleBinding"].body["subjects"]
    assert [s["name"] for s in subjects] == ["system:serviceaccount:physics:alice"]


def test_the_right_to_a_pod_comes_with_its_stateful_set() -> None:
    """Until home is there no server is planned: whoever had its name would be reached by the session's user."""
    assert not built(lab(), world()).keys() & {"StatefulSet", "Role", "RoleBinding"}


def env_from(read: Mapping[ObjectRef, Body | None]) -> list[dict[str, Any]]:
    manifests = built(lab(), world(shared=(home(),), read=read))
    container = manifests["StatefulSet"].body["spec"]["template"]["spec"]["containers"][0]
    return [each["secretRef"] for each in container["envFrom"]]


def test_the_hubs_secret_wins_where_the_session_owns_it() -> None:
    s = lab()
    ours, hubs = {"name": names.notebook(s)}, {"name": names.notebook_hub_secret(s), "optional": True}
    ref = SECRET.ref(names.notebook_hub_secret(s))

    def owned(uid: str, label: str) -> Body:
        owner = {"kind": "AnalysisSession", "uid": uid, "controller": True}
        marks = {"ownerReferences": [owner], "labels": {names.SESSION_UID: label}}
        return {"metadata": {**marks, "resourceVersion": "7"}}

    assert env_from({ref: owned(s.uid, s.uid)}) == [ours, hubs]
    foreign: list[Body] = [{"metadata": {}}, owned("other", "other"), owned("other", s.uid), owned(s.uid, "other")]
    assert [env_from({ref: each}) for each in foreign] == [[ours]] * 4
    assert env_from({}) == env_from({ref: None}) == [ours]


def test_no_liveness_probe_can_kill_hours_of_work() -> None:
    pod_spec = built(lab(), world(shared=(home(),)))["StatefulSet"].body["spec"]["template"]["spec"]
    assert "livenessProbe" not in pod_spec["containers"][0]
    assert pod_spec["terminationGracePeriodSeconds"] == 60


def test_the_hub_is_told_of_every_session_with_a_notebook() -> None:
    assert notebook.registration(lab(), world()) == HubServer("alice", "zmumu")
    assert notebook.registration(lab(notebook={"serverName": ""}), world()) == HubServer("alice", "")


UP = pod("p", of_component("notebook"), container("notebook", running={}), ready=True)
STARTING = pod("p", of_component("notebook"), container("notebook", waiting={"reason": "ContainerCreating"}))
NO_NODE = pod("p", of_component("notebook"), conditions=[UNSCHEDULABLE])
NO_IMAGE = pod("p", of_component("notebook"), container("notebook", waiting={"reason": "ErrImagePull"}))
CRASHED = pod(
    "p",
    of_component("notebook"),
    container("notebook", waiting={"reason": "CrashLoopBackOff"}, last={"exitCode": 1, "message": "a\nno such port\n"}),
)
ENDING = pod("p", of_component("notebook"), ready=True)
ENDING["metadata"]["deletionTimestamp"] = "2026-01-01T10:09:00Z"
MOUNTED = {"spec": {"containers": [], "volumes": [{"persistentVolumeClaim": {"claimName": "home-alice"}}]}}
SET = owned("apps/v1", "StatefulSet", spec={"replicas": 1})
NEWER = SET | {"status": {"updateRevision": "zmumu-notebook-2"}}
PENDING = home() | {"status": {"phase": "Pending"}}


@pytest.mark.parametrize(
    ("observed", "reason", "says"),
    [
        (world(), "Starting", "is starting"),
        (world(SET), "PodMissing", "the notebook has no pod yet"),
        (world(SET, STARTING), "Starting", "is starting"),
        (world(SET, NO_NODE), "Unschedulable", "Insufficient nvidia.com/gpu"),
        (world(SET, NO_IMAGE), "ImagePullBackOff", "tell the facility's admin"),
        (world(SET, CRASHED), "CrashLoopBackOff", "exit code 1: no such port"),
        (world(NEWER, NO_IMAGE), "ImagePullBackOff", "the profile has changed since: suspend and resume"),
        (world(SET, ENDING), "Stopping", "a new one starts after it"),
        (world(SET, NO_NODE | MOUNTED, shared=(PENDING,)), "HomePending", "Events of volume claim home-alice"),
        (world(SET, STARTING | MOUNTED, shared=(PENDING,)), "Starting", "is starting"),
        (world(SET, STARTING | MOUNTED, shared=(home(deletionTimestamp="x"),)), "HomeDeleted", "is being deleted"),
        (
            world(SET, STARTING | MOUNTED, shared=(home() | {"status": {"phase": "Lost"}},)),
            "HomeLost",
            "lost its storage",
        ),
        (world(SET, STARTING, finished=OVER), "Finished", "the files in home stay"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_health_says_what_is_wrong(observed: Settled, reason: str, says: str) -> None:
    found = notebook.health(lab(), observed)
    assert (found.ready, found.reason, found.endpoints) == (False, reason, {})
    assert says in found.message


@pytest.mark.parametrize(("revision", "old"), [("zmumu-notebook-2", False), ("zmumu-notebook-1", True)])
def test_only_a_pod_of_an_older_template_is_called_old(revision: str, old: bool) -> None:
    labels = of_component("notebook", **{"controller-revision-hash": revision})
    stuck = pod("p", labels, conditions=[UNSCHEDULABLE])
    assert ("has changed since" in notebook.health(lab(), world(NEWER, stuck)).message) is old


def test_health_of_a_suspended_session() -> None:
    assert notebook.health(lab(suspend=True), world(UP)).reason == "Suspended"


@pytest.mark.parametrize(
    ("hub", "path"), [(None, "/user/..%2Fadmin/zmumu/"), (HUB, "/lab/user/..%2Fadmin/zmumu/")], ids=["no Hub", "Hub"]
)
def test_where_it_is_when_it_is_ready(hub: HubView | None, path: str) -> None:
    found = notebook.health(lab(user="../admin"), world(UP | MOUNTED, hub=hub))
    assert found.ready
    assert found.endpoints == {"notebook": f"http://zmumu-notebook.physics.svc:8888{path}"}


def test_what_is_kept_is_not_applied() -> None:
    running = owned("apps/v1", "StatefulSet", spec={"replicas": 1})
    found = notebook.desired(lab(), profile(storage=HOME), world(running), Terms())
    assert [k.ref.kind for k in found if isinstance(k, Keep)] == ["StatefulSet"]
