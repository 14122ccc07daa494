"""Passes over profiles against a fake cluster: what is free is written once, and not often."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

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
        self.world.nodes.put(NODE)
        self.count = ProfilePass(self.world, self.cluster, lambda: self.now)

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
    await ProfilePass(bed.world, bed.cluster, lambda: bed.now)(KEY)
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
