"""Two sessions in a room for one and a half: neither keeps the other out, with or without a quota that can be read."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from af_operator.errors import Refused
from af_operator.model import Body, Key
from tests.support import played_controllers as controllers
from tests.support.bench import PROFILE, Bench
from tests.support.fake_cluster import key_of
from tests.support.played_controllers import of_kind

WORDS = 'pods "{}" is forbidden: exceeded quota: tight, requested: pods=1, used: pods={most}, limited: pods={most}'
STEP = timedelta(seconds=5)
RUN = {"profile": "default", "user": "alice", "mode": "Headless", "run": {"command": ["python", "-V"]}}
POOL = {"name": "cpu", "nodePool": "cpu", "workers": {"min": 2, "max": 2}}
WITH_DASK = RUN | {"dask": {"pools": [POOL]}}
WITH_SPARK = RUN | {"spark": {"pools": [POOL]}}
LAB = {k: v for k, v in WITH_DASK.items() if k != "run"} | {"mode": "Interactive", "notebook": {}}
ALL = PROFILE | {
    "images": [PROFILE["images"][0] | {"provides": ["Spark"]}],
    "sizes": [{"name": "small", "cpu": "250m", "memory": "2Gi"}],
}


class Tight:
    """A namespace with room for so many pods, its controllers and its kubelet.

    Parameters
    ----------
    visible
        Whether what refuses is a ResourceQuota; else it is something that cannot be read, such as a webhook.
    """

    def __init__(self, spec: dict[str, Any], most: int, *, sessions: int = 2, visible: bool = True) -> None:
        self.bench, self.most, self.visible = Bench(copy.deepcopy(spec), ALL), most, visible
        self.keys = [self.bench.key, *(Key("physics", f"other{number}") for number in range(1, sessions))]
        for key in self.keys[1:]:
            body = copy.deepcopy(self.bench.session)
            body["metadata"] = {k: v for k, v in body["metadata"].items() if k not in ("uid", "resourceVersion")}
            self.bench.cluster.store({**body, "metadata": body["metadata"] | {"name": key.name}})
        self.due = dict.fromkeys(self.keys, self.bench.now)
        self._create, self.largest = self.bench.cluster.create, 0
        self.bench.cluster.create = self.create  # type: ignore[method-assign]
        self.bench.cluster.try_out = self.try_out  # type: ignore[method-assign]
        self.deliver()

    @property
    def pods(self) -> list[dict[str, Any]]:
        return [
            p for p in of_kind(self.bench, "Pod") if p.get("status", {}).get("phase") not in ("Succeeded", "Failed")
        ]

    async def try_out(self, body: Body) -> None:
        if body["kind"] == "Pod" and len(self.pods) >= self.most:
            raise Refused(WORDS.format(body["metadata"]["name"], most=self.most))

    async def create(self, body: Body) -> Body:
        await self.try_out(body)
        return await self._create(body)

    def status(self, key: Key) -> dict[str, Any]:
        found: dict[str, Any] = self.bench.cluster.objects["AnalysisSession", *key].get("status", {})
        return found

    def condition(self, key: Key, kind: str) -> dict[str, Any]:
        return next((c for c in self.status(key)["conditions"] if c["type"] == kind), {})

    def deliver(self) -> None:
        self.bench.deliver()
        if self.visible:
            amounts = {"hard": {"pods": str(self.most)}, "used": {"pods": str(len(self.pods))}}
            metadata = {"name": "tight", "namespace": "physics", "uid": "q", "resourceVersion": str(self._version())}
            quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {}, "status": amounts}
            self.bench.world.quotas.put(quota)

    async def turn(self) -> None:
        """Let each session have a pass, and then the controllers and the kubelet."""
        for key in self.keys:
            await self.bench.reconcile(key)
            self.deliver()
        self.play()
        self.largest = max(self.largest, len(self.pods))
        self.bench.now += STEP

    def play(self) -> None:
        for pod in self._to_make():
            refused = len(self.pods) >= self.most
            if not refused:
                pod["metadata"]["creationTimestamp"] = self._now()
                self.bench.cluster._put("ADDED", pod)
            if pod["metadata"]["ownerReferences"][0]["kind"] == "Deployment":
                self._say_of_deployment(pod["metadata"]["ownerReferences"][0]["name"], refused=refused)
        for pod in controllers._pods_to_run(self.bench):
            self.bench.cluster._put("MODIFIED", pod)
        for pod in list(controllers._orphans(self.bench)):
            controllers.lose(self.bench, pod)
        for job in of_kind(self.bench, "Job"):
            self._say(job)
        self.deliver()

    def end_runs(self) -> None:
        """End the programs that run."""
        for job in of_kind(self.bench, "Job"):
            pod = self.bench.made.get(("Pod", f"{job['metadata']['name']}-0"))
            if pod and pod["status"]["phase"] == "Running":
                ended = {"type": "Complete", "status": "True", "reason": "x", "lastTransitionTime": self._now()}
                self.bench.cluster._put("MODIFIED", {**pod, "status": {"phase": "Succeeded"}})
                self.bench.cluster._put("MODIFIED", {**job, "status": {"conditions": [ended], "succeeded": 1}})
        self.deliver()

    def _to_make(self) -> Iterator[dict[str, Any]]:
        for owner in of_kind(self.bench, "StatefulSet"):
            pod = controllers._pod_of(owner)
            if owner["spec"]["replicas"] and key_of(pod) not in self.bench.cluster.objects:
                yield pod
        ended = {job["metadata"]["uid"] for job in of_kind(self.bench, "Job") if "conditions" in job.get("status", {})}
        for pod in list(controllers._pods_to_make(self.bench)):
            if pod["metadata"]["ownerReferences"][0]["uid"] not in ended:
                yield pod

    def _scaled_down(self) -> Iterator[dict[str, Any]]:
        for owner in of_kind(self.bench, "StatefulSet"):
            pod = controllers._pod_of(owner)
            if not owner["spec"]["replicas"] and key_of(pod) in self.bench.cluster.objects:
                yield pod

    def _say_of_deployment(self, name: str, *, refused: bool) -> None:
        live = self.bench.made["Deployment", name]
        words = WORDS.format("p", most=self.most)
        failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": words}
        self.bench.cluster._put("MODIFIED", {**live, "status": {"conditions": [failure] if refused else []}})

    def _say(self, job: dict[str, Any]) -> None:
        if not job["spec"]["suspend"] and "status" not in job:
            self.bench.cluster._put("MODIFIED", {**job, "status": {"startTime": self._now()}})
        elif job["spec"]["suspend"] and "status" in job:
            self.bench.cluster._put("MODIFIED", {k: v for k, v in job.items() if k != "status"})

    def _now(self) -> str:
        return self.bench.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def _version(self) -> int:
        return int(self.bench.now.timestamp()) * 1000 + len(self.bench.cluster.writes)


class FullNodes(Tight):
    """Every pod is made, and so many have a node."""

    def __init__(self, spec: dict[str, Any], most: int, *, sessions: int = 2) -> None:
        super().__init__(spec, most, sessions=sessions, visible=False)

    async def try_out(self, body: Body) -> None:
        pass

    def play(self) -> None:
        for pod in self._to_make():
            self.bench.cluster._put("ADDED", pod)
        for pod in [*controllers._orphans(self.bench), *self._scaled_down()]:
            controllers.lose(self.bench, pod)
        for pod in self.pods:
            self._schedule(pod)
        for job in of_kind(self.bench, "Job"):
            self._say(job)
        self.deliver()

    @property
    def on_nodes(self) -> list[dict[str, Any]]:
        return [pod for pod in self.pods if pod["spec"].get("nodeName")]

    def _schedule(self, pod: dict[str, Any]) -> None:
        if pod["spec"].get("nodeName"):
            return
        has_room = len(self.on_nodes) < self.most
        self.largest_on_nodes = max(getattr(self, "largest_on_nodes", 0), len(self.on_nodes) + has_room)
        metadata = {"creationTimestamp": self._now()} | pod["metadata"]
        if has_room:
            placed = {k: v for k, v in pod.items() if k != "status"} | {"metadata": metadata}
            placed["spec"] = placed["spec"] | {"nodeName": "node-1"}
            self.bench.cluster._put("MODIFIED", placed)
            for running in controllers._pods_to_run(self.bench):
                if running["metadata"]["name"] == metadata["name"]:
                    self.bench.cluster._put("MODIFIED", running)
        else:
            said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node has room"}
            waiting = {"phase": "Pending", "conditions": [said]}
            self.bench.cluster._put("MODIFIED", {**pod, "metadata": metadata, "status": waiting})


async def until_over(tight: Tight, hours: int = 3) -> dict[str, set[str]]:
    """Let time go by until all runs are over; return what was told of room in between."""
    told: dict[str, set[str]] = {key.name: set() for key in tight.keys}
    for number in range(hours * 720):
        await tight.turn()
        if number % 6 == 5:
            tight.end_runs()
        for key in tight.keys:
            told[key.name] |= {tight.condition(key, "HasRoom").get("reason", "")}
        if all(tight.status(key).get("phase") == "Succeeded" for key in tight.keys):
            return told
    raise AssertionError({key.name: tight.status(key) for key in tight.keys})


@pytest.mark.parametrize("visible", [True, False], ids=["a quota", "something that cannot be read"])
@pytest.mark.parametrize("spec", [WITH_DASK, WITH_SPARK], ids=["Dask", "Spark"])
async def test_two_sessions_in_a_room_for_one_and_a_half_both_come_to_their_end(
    spec: dict[str, Any], visible: bool
) -> None:
    tight = Tight(spec, 6, visible=visible)
    told = await until_over(tight)
    assert tight.largest <= 6
    assert set.union(*told.values()) & {"QuotaExceeded", "LetGo"}


async def test_two_sessions_on_nodes_for_one_and_a_half_both_come_to_their_end() -> None:
    full = FullNodes(WITH_DASK, 5)
    told = await until_over(full)
    assert full.largest_on_nodes == 5
    assert "LetGo" in set.union(*told.values())


async def test_five_sessions_in_a_room_for_one() -> None:
    tight = Tight(WITH_DASK, 4, sessions=5, visible=False)
    await until_over(tight, hours=12)
    assert tight.largest <= 4


async def test_a_run_that_no_room_is_left_for_is_not_held_for_by_its_workers() -> None:
    """Scheduler and two workers fit, the run does not, and nobody says so beforehand."""
    tight = Tight(WITH_DASK, 3, sessions=1, visible=False)
    [key] = tight.keys
    held = 0
    for _ in range(60):
        await tight.turn()
        held = max(held, len(tight.pods))
        if tight.condition(key, "HasRoom").get("status") == "False":
            break
    await tight.turn()
    assert (held, tight.pods) == (3, [])
    words = "exceeded quota: tight, requested: pods=1, used: pods=3, limited: pods=3"
    assert words in tight.condition(key, "HasRoom")["message"]
    assert words in tight.condition(key, "Ready")["message"]
    [job] = of_kind(tight.bench, "Job")
    assert job["spec"]["suspend"] is True


async def test_a_run_without_a_pod_says_within_a_minute_what_the_api_server_says_of_one() -> None:
    tight = Tight(RUN, 0, sessions=1, visible=False)
    for _ in range(6):
        await tight.turn()
    found = tight.condition(tight.keys[0], "RunReady")
    assert (found["status"], found["reason"]) == ("False", "QuotaExceeded")
    assert found["message"].startswith("the run has no pod: exceeded quota: tight")


async def test_what_the_api_server_says_of_a_pod_is_not_asked_in_every_pass() -> None:
    """Its controller is slow: nobody refuses the pod, and it is not there."""
    tight = Tight(RUN, 1, sessions=1, visible=False)
    asked: list[str] = []

    async def count(body: Body) -> None:
        asked.append(body["metadata"]["name"])

    tight.bench.cluster.try_out = count  # type: ignore[method-assign]
    await tight.turn()
    tight.most = 0
    controllers.lose(tight.bench, tight.pods[0])
    for _ in range(13):
        await tight.turn()
    assert asked == ["zmumu-run"] * 2  # once in half a minute


async def test_a_quota_that_can_never_hold_it_is_said_at_once_and_nothing_is_made() -> None:
    tight = Tight(WITH_DASK, 3, sessions=1)
    await tight.turn()
    found = tight.condition(tight.keys[0], "HasRoom")
    assert (found["status"], found["reason"]) == ("False", "QuotaTooSmall")
    assert "exceeded quota: tight, requested: pods=4, limited: pods=3" in found["message"]
    assert {kind for kind, _ in tight.bench.made} == {"Job"}
    for _ in range(4):
        await tight.turn()
    written = len(tight.bench.cluster.writes)
    for _ in range(100):
        await tight.turn()
    assert len(tight.bench.cluster.writes) == written, "what goes on waiting costs no write"


async def test_it_begins_when_the_quota_has_grown() -> None:
    tight = Tight(WITH_DASK, 3, sessions=1)
    await tight.turn()
    tight.most = 4
    tight.deliver()
    await until_over(tight, hours=1)


async def test_a_notebook_and_its_workers_are_one_need() -> None:
    tight = Tight(LAB, 6)
    for _ in range(10):
        await tight.turn()
    phases = sorted(tight.status(key)["phase"] for key in tight.keys)
    assert phases == ["Ready", "Starting"]
    waits = next(key for key in tight.keys if tight.status(key)["phase"] == "Starting")
    assert tight.condition(waits, "HasRoom")["reason"] == "QuotaExceeded"
    assert len(tight.pods) == 4


async def test_a_pool_that_computes_is_not_taken_away_for_a_worker_that_is_lost() -> None:
    tight = Tight(LAB, 4, sessions=1, visible=False)
    for _ in range(6):
        await tight.turn()
    [key] = tight.keys
    assert tight.status(key)["phase"] == "Ready"
    lost = next(pod for pod in tight.pods if pod["metadata"]["labels"].get("analysisfacility.io/role") == "worker")
    tight.most = 3
    controllers.lose(tight.bench, lost)
    for _ in range(360):
        await tight.turn()
    assert len(tight.pods) == 3
    assert tight.condition(key, "HasRoom")["reason"] == "Complete"
    assert tight.condition(key, "DaskReady")["reason"] == "QuotaExceeded"


async def test_a_session_that_is_resumed_lets_go_again_of_what_it_holds_in_vain() -> None:
    """It was complete before, and used; and its cache, which stays while it is suspended, is older than that."""
    full = FullNodes(LAB | {"xcache": {"placement": "Session", "size": "1Gi"}}, 5, sessions=1)
    [key] = full.keys
    for _ in range(72):
        await full.turn()
    assert full.status(key)["phase"] == "Ready"
    body = copy.deepcopy(full.bench.session)
    full.bench.cluster._put("MODIFIED", body | {"status": body["status"] | {"lastActivity": full._now()}})
    full.bench.change(suspend=True)
    for _ in range(12):
        await full.turn()
    assert len(full.pods) == 1
    full.most = 4
    full.bench.change(suspend=False)
    reasons = []
    for _ in range(150):
        await full.turn()
        reasons += [full.condition(key, "HasRoom").get("reason")]
    assert set(reasons) <= {None, "Trying", "LetGo"}
    assert "LetGo" in reasons
