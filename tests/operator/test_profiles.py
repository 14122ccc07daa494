"""Passes over profiles against a fake cluster: what is free is written once, and not often."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from af_operator.enforcement import Finding
from af_operator.errors import Unavailable
from af_operator.model import Key
from af_operator.names import SESSION_UID
from af_operator.profiles import QUIET, ProfilePass
from tests.support.bench import PROFILE, Bench

GPU = "nvidia.com/gpu"
KEY = Key("", "default")
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "n1", "uid": "n1", "resourceVersion": "1", "labels": {"pool": "gpu"}},
    "status": {"allocatable": {GPU: "2"}, "conditions": [{"type": "Ready", "status": "True"}]},
}


class Bed(Bench):
    def __init__(self, profile: dict[str, Any] | None = None) -> None:
        super().__init__(profile=profile)
        self.network: Finding | None = None
        self.world.nodes.put(NODE)
        self.count = ProfilePass(self.world, self.cluster, lambda: self.network, lambda: self.now)

    def worker(self, name: str) -> None:
        spec = {"containers": [{"resources": {"limits": {GPU: "1"}}}], "nodeName": "n1"}
        metadata = {"name": name, "namespace": "physics", "labels": {SESSION_UID: "s"}}
        self.cluster.store({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        self.deliver()

    @property
    def free(self) -> list[int]:
        status = self.cluster.objects["AnalysisProfile", "", "default"].get("status", {})
        return [pool["gpusFree"] for pool in status.get("nodePools", ())]


async def test_what_is_free_is_written_once() -> None:
    bed = Bed()
    for _ in range(2):  # the second one comes before the echo of the first one's write
        assert await bed.count(KEY) is None
    bed.deliver()
    bed.now += timedelta(minutes=1)
    assert await bed.count(KEY) is None
    assert [verb for verb, _ in bed.cluster.writes] == ["status"]
    assert bed.free == [2]


async def test_a_restarted_operator_writes_nothing() -> None:
    bed = Bed()
    await bed.count(KEY)
    bed.deliver()
    bed.cluster.writes.clear()
    await ProfilePass(bed.world, bed.cluster, lambda: bed.network, lambda: bed.now)(KEY)
    assert bed.cluster.writes == []


async def test_many_changes_in_a_short_time_are_one_write() -> None:
    bed = Bed()
    await bed.count(KEY)
    began = bed.now
    for name in ("a", "b"):
        bed.worker(name)
        bed.now += timedelta(seconds=1)
        assert await bed.count(KEY) == began + QUIET
        assert bed.free == [2]
    bed.now += QUIET
    assert await bed.count(KEY) is None
    assert bed.free == [0]
    assert len(bed.cluster.writes) == 2


def told(bed: Bed) -> list[dict[str, Any]]:
    conditions: list[dict[str, Any]] = bed.cluster.objects["AnalysisProfile", "", "default"]["status"]["conditions"]
    return conditions


async def test_what_the_network_is_like_is_a_condition_and_written_when_it_turns() -> None:
    bed = Bed({**PROFILE, "nodePools": [{"name": "cpu"}]})
    bed.network = Finding("true", "refused")
    for _ in range(3):
        await bed.count(KEY)
        bed.deliver()
        bed.now += timedelta(minutes=1)
    assert [(c["type"], c["status"], c["message"]) for c in told(bed)] == [("NetworkEnforced", "True", "refused")]
    assert [verb for verb, _ in bed.cluster.writes] == ["status"]
    since = told(bed)[0]["lastTransitionTime"]
    bed.network = Finding("false", "let through")
    await bed.count(KEY)
    assert told(bed)[0]["status"] == "False"
    assert told(bed)[0]["lastTransitionTime"] > since


async def test_what_was_told_of_the_network_stays_while_nothing_can_be_read() -> None:
    bed = Bed()
    bed.network = Finding("true", "refused")
    await bed.count(KEY)
    bed.deliver()
    bed.network = None
    bed.worker("a")
    bed.now += timedelta(minutes=1)
    await bed.count(KEY)
    assert bed.free == [1]
    assert told(bed)[0]["status"] == "True"


async def test_no_gpus_no_status() -> None:
    bed = Bed({**PROFILE, "nodePools": [{"name": "cpu"}]})
    assert await bed.count(KEY) is None
    assert bed.cluster.writes == []


async def test_a_profile_that_is_gone_or_cannot_be_read_is_no_failure() -> None:
    bed = Bed({**PROFILE, "sizes": "none"})
    assert await bed.count(KEY) is None
    assert await bed.count(Key("", "other")) is None
    assert bed.cluster.writes == []


async def test_another_profile_of_the_same_name_is_not_written() -> None:
    bed = Bed()
    bed.cluster.objects["AnalysisProfile", "", "default"]["metadata"]["uid"] = "another"
    assert await bed.count(KEY) is None
    assert bed.free == []


async def test_an_unavailable_server_is_tried_again() -> None:
    bed = Bed()
    bed.cluster.errors["status"] = Unavailable("503")
    with pytest.raises(Unavailable):
        await bed.count(KEY)
    del bed.cluster.errors["status"]
    await bed.count(KEY)
    assert bed.free == [2]
