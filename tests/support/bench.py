"""A session on the bench: world, passes and a fake cluster; the watch's echo is under the test's control."""

from __future__ import annotations

import copy
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from af_kube.store import key_of, version_of
from af_operator.agents import Agents
from af_operator.components import Components, shipped
from af_operator.hub import Hub, NoHub
from af_operator.model import Key
from af_operator.reconcile import QUIET, Ports, Reconciler
from af_operator.world import World
from tests.support.fake_cluster import FakeCluster
from tests.support.played_agents import NoAgents

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)

PROFILE: dict[str, Any] = {
    "images": [{"name": "analysis", "image": "registry.test/analysis@sha256:" + "a" * 64}],
    "sizes": [{"name": "small", "cpu": "250m", "memory": "1Gi"}],
    "nodePools": [
        {"name": "cpu", "nodeSelector": {"pool": "cpu"}},
        {"name": "gpu", "nodeSelector": {"pool": "gpu"}, "gpuResource": "nvidia.com/gpu"},
    ],
    "xcache": {"image": "registry.test/xcache:1", "origin": "origin.test:1094"},
    "results": {"url": "root://origin.test:1094//results"},
    "limits": {"workers": 10, "gpus": 2},
}

UNDER_DASK_KUBERNETES = PROFILE | {"dask": {"engine": "DaskKubernetes"}}

SPEC: dict[str, Any] = {
    "profile": "default",
    "user": "alice",
    "mode": "Headless",
    "run": {"command": ["python", "zmumu.py"], "source": {"files": {"zmumu.py": "print(1)\n"}}},
    "dask": {
        "pools": [
            {"name": "cpu", "nodePool": "cpu", "workers": {"min": 1, "max": 2}},
            {"name": "gpu", "nodePool": "gpu", "gpusPerWorker": 1, "workers": {"min": 0, "max": 1}},
        ]
    },
    "xcache": {},
}


class Bench:
    """One fake cluster, one world, and passes at a time that the test sets."""

    def __init__(
        self,
        spec: dict[str, Any] | None = None,
        profile: dict[str, Any] | None = None,
        hub: Hub | None = None,
        agents: Agents | None = None,
        components: Components | None = None,
    ) -> None:
        self.cluster = FakeCluster()
        self.now = NOW
        self.key = Key("physics", "zmumu")
        self.hub, self.agents = hub or NoHub(), agents or NoAgents()
        self.components = components or shipped()
        self._begin()
        self.cluster.store(
            {
                "apiVersion": "analysisfacility.io/v1alpha1",
                "kind": "AnalysisProfile",
                "metadata": {"name": "default"},
                "spec": profile or PROFILE,
            }
        )
        self.cluster.store(
            {
                "apiVersion": "analysisfacility.io/v1alpha1",
                "kind": "AnalysisSession",
                "metadata": {
                    "name": self.key.name,
                    "namespace": self.key.namespace,
                    "generation": 1,
                    "creationTimestamp": NOW.strftime("%Y-%m-%dT%H:%M:%SZ"),
                },
                "spec": copy.deepcopy(spec or SPEC),
            }
        )
        self.deliver()

    @property
    def session(self) -> dict[str, Any]:
        return self.cluster.objects["AnalysisSession", *self.key]

    @property
    def status(self) -> dict[str, Any]:
        return self.session.get("status", {})

    def condition(self, kind: str) -> dict[str, Any]:
        return next(c for c in self.status["conditions"] if c["type"] == kind)

    @property
    def made(self) -> dict[tuple[str, str], dict[str, Any]]:
        """What there is beside sessions and profiles: (kind, name) to the object."""
        found = self.cluster.objects.items()
        return {(kind, name): body for (kind, _, name), body in found if not kind.startswith("Analysis")}

    def change(self, **spec: Any) -> None:
        """Edit the session's spec as its user would."""
        body = copy.deepcopy(self.session)
        body["spec"] |= spec
        body["metadata"]["generation"] += 1
        self.cluster._put("MODIFIED", body)
        self.deliver()

    def deliver(self, shuffle: random.Random | None = None) -> int:
        """Let the watch tell the world everything that happened; return how many events there were."""
        events, self.cluster.events = self.cluster.events, []
        if shuffle:
            shuffle.shuffle(events)
        for event, body in events:
            self._tell(event, body)
        return len(events)

    def restart(self) -> None:
        """Put an operator that has just read every list in the place of this one."""
        self._begin()
        for body in self.cluster.objects.values():
            self._tell("ADDED", body)
        self.cluster.events.clear()

    async def settle(self, passes: int = 20, seconds: float = 2.0) -> None:
        """Alternate passes and echoes until nothing is written any more."""
        for _ in range(passes):
            before = len(self.cluster.writes)
            again = await self.reconcile(self.key)
            self.deliver()
            held = again is not None and again <= self.now + QUIET
            self.now += timedelta(seconds=seconds)
            if len(self.cluster.writes) == before and not held:
                return
        raise AssertionError(f"still writing after {passes} passes: {self.cluster.writes[-5:]}")

    def _begin(self) -> None:
        self.world = World(self.components)
        ports = Ports(self.cluster, self.hub, self.agents)
        self.reconcile = Reconciler(self.components, self.world, ports, lambda: self.now)

    def _tell(self, event: str, body: dict[str, Any]) -> None:
        if event != "DELETED":
            self.world.wrote(body)
        else:
            self.world.store_of(body).drop(key_of(body), body["metadata"]["uid"], version_of(body))
