"""Does the cluster's network enforce NetworkPolicies? A Job of the chart's tries it, after an install or an upgrade.

Two pods listen, and the Job's own connects to both. Then a NetworkPolicy closes one of them: where policies are
enforced, connections to that one are refused from then on. The other pod shows that it was the policy that refused
them, and not the network, the node or a busy minute.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from af_kube.connection import Connection, Transport, call
from af_kube.errors import HttpError, KubeError
from af_kube.reflector import Reflector, Source
from af_kube.request import MERGE_PATCH, Request
from af_kube.store import Key, Store
from af_operator.components._shared.pod_reasons import worst
from af_operator.enforcement import CONFIG_MAP, Finding
from af_operator.model import Body
from af_operator.status import stamp

OPEN, CLOSED = f"{CONFIG_MAP}-open", f"{CONFIG_MAP}-closed"
NAME_LABEL = "app.kubernetes.io/name"
"""A pod's own name is its value: no Service and no policy of the chart chooses by that."""
PORT = 8080
LISTEN = ["tini", "--", "python", "-m", "http.server", str(PORT), "--directory", "/srv"]
CONTAINER_FIELDS = ("image", "imagePullPolicy", "resources", "securityContext")
POD_FIELDS = ("imagePullSecrets", "nodeSelector", "tolerations", "affinity", "priorityClassName", "securityContext")
"""The pods are like the Job's own, which fits the namespace: but with no right and no volume."""
START_SECONDS = 120.0
"""Until both pods run and answer: a node may have to pull their image."""
POLICY_SECONDS = 30.0
"""Within which a network that enforces policies enforces a new one."""
CONNECT_SECONDS = 1.0
PACE_SECONDS = 0.2
IN_A_ROW = 5
"""Refusals that are no accident."""
POD_SECONDS = 600
"""After which the kubelet ends a pod that nobody has deleted."""

Reach = Callable[[str], Awaitable[bool]]
"""Says whether a connection to an address comes about."""
T = TypeVar("T")

HOLDS = "a connection was let through without a NetworkPolicy, and refused with one"
HOLDS_NOTHING = (
    "a connection was let through that a NetworkPolicy forbids: this cluster's network enforces none, and sessions are "
    "not shut off from each other. Install a network plugin that enforces them (Calico, Cilium and others do), and "
    "upgrade the release: then it is tried again"
)


class Untried(Exception):
    """It did not come to a result; the message says why."""


@dataclass(frozen=True)
class Place:
    """Where this process runs: its namespace, its pod, and the Job that its pod is of."""

    namespace: str
    pod: str
    job: str
    job_uid: str

    def path(self, plural: str, name: str = "") -> str:
        """Return the path of a collection of the namespace, or of an object in it."""
        group = "apis/networking.k8s.io/v1" if plural == "networkpolicies" else "api/v1"
        return f"/{group}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def metadata(self, name: str) -> Body:
        """Return the metadata of an object that goes with the Job, at the latest."""
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": self.job, "uid": self.job_uid}
        return {"name": name, "labels": {NAME_LABEL: name}, "ownerReferences": [owner]}


def listener(place: Place, name: str, own: Body) -> dict[str, Any]:
    """Return a pod that listens, and is for the rest as the pod `own`."""
    (container, *_) = own["spec"]["containers"]
    spec = {field: own["spec"][field] for field in POD_FIELDS if field in own["spec"]}
    listens = {"name": "listener", "command": LISTEN, **{f: container[f] for f in CONTAINER_FIELDS if f in container}}
    spec |= {"containers": [listens], "restartPolicy": "Never", "activeDeadlineSeconds": POD_SECONDS}
    spec |= {"automountServiceAccountToken": False, "enableServiceLinks": False, "terminationGracePeriodSeconds": 1}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": place.metadata(name), "spec": spec}


def closing(place: Place) -> dict[str, Any]:
    """Return the policy that lets nobody connect to one of the pods."""
    spec = {"podSelector": {"matchLabels": {NAME_LABEL: CLOSED}}, "policyTypes": ["Ingress"]}
    metadata = place.metadata(CLOSED)
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


async def connects(address: str) -> bool:
    """Say whether a TCP connection to a pod's port comes about."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(address, PORT)
    except OSError:  # refused, unreachable, or nothing in time
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


class Probe:
    """One try. What it has made it deletes, also what an earlier one, which was killed, has left."""

    def __init__(self, api: Transport, place: Place, reach: Reach = connects) -> None:
        self._api, self._place, self._reach = api, place, reach
        self._pods: Store[Body] = Store()
        source = Source("/api/v1/pods", place.namespace, labels=f"{NAME_LABEL} in ({OPEN},{CLOSED})")
        self._reflector = Reflector(api, source, self._pods)
        self._made: dict[str, str] = {}

    async def find(self) -> Finding:
        """Return what was found out; "unknown" where it did not come to that, with the reason."""
        try:
            return await self._try()
        except (Untried, KubeError) as error:
            return Finding("unknown", f"whether NetworkPolicies are enforced was not found out: {error}")

    async def _try(self) -> Finding:
        try:
            await self._clear()
            own = await call(self._api, Request("GET", self._place.path("pods", self._place.pod)))
            for name in (OPEN, CLOSED):
                await self._make("pods", listener(self._place, name, own))
            await self._await_both_open()
            await self._make("networkpolicies", closing(self._place))
            return await self._verdict()
        finally:
            await self._delete_made()
            await self._reflector.close()

    async def _clear(self) -> None:
        """Wait until nothing is left of an earlier try."""
        for plural, name in (("networkpolicies", CLOSED), ("pods", OPEN), ("pods", CLOSED)):
            await self._delete(self._place.path(plural, name))
        if not await self._reflector.ready(START_SECONDS):
            raise Untried(f"the API server does not list pods: {self._reflector.failure}")
        await self._when(lambda: not len(self._pods) or None, "the pods of an earlier try have not gone")

    async def _make(self, plural: str, body: Body) -> None:
        stored = await call(self._api, Request("POST", self._place.path(plural), body=body))
        self._made[self._place.path(plural, stored["metadata"]["name"])] = stored["metadata"]["uid"]

    async def _delete_made(self) -> None:
        for path, uid in self._made.items():
            with suppress(KubeError):  # the Job that owns it takes it along
                await self._delete(path, {"preconditions": {"uid": uid}})

    async def _delete(self, path: str, options: Body | None = None) -> None:
        try:
            await call(self._api, Request("DELETE", path, body=options))
        except HttpError as error:
            if error.status not in (404, 409):  # 409: another one has the name by now
                raise

    async def _await_both_open(self) -> None:
        await self._when(self._addresses, f"the pods {OPEN} and {CLOSED} do not run")
        end = time.monotonic() + START_SECONDS
        while not all(await self._reached()):
            if time.monotonic() > end:
                raise Untried("without any policy of its own two pods are not reached: another policy may close them")
            await asyncio.sleep(PACE_SECONDS)

    async def _verdict(self) -> Finding:
        end, refused, let_through = time.monotonic() + POLICY_SECONDS, 0, 0.0
        while time.monotonic() < end:
            opened, closed = await self._reached()
            refused = refused + 1 if opened and not closed else 0
            if refused == IN_A_ROW:
                return Finding("true", HOLDS)
            if closed:
                let_through = time.monotonic()
            await asyncio.sleep(PACE_SECONDS)
        if let_through > end - POLICY_SECONDS / 3:  # one that fails on a busy node is no refusal
            return Finding("false", HOLDS_NOTHING)
        raise Untried(f"the pods were not reached in a steady way for {POLICY_SECONDS:.0f} s")

    async def _reached(self) -> tuple[bool, bool]:
        addresses = self._addresses()
        if addresses is None:
            raise Untried("a pod went away while it was tried")
        opened, closed = await asyncio.gather(*(self._reach(address) for address in addresses))
        return opened, closed

    def _addresses(self) -> tuple[str, str] | None:
        """Return those of the open and of the closed pod, if both run."""
        found = (self._pods.get(Key(self._place.namespace, name)) for name in (OPEN, CLOSED))
        statuses = [pod.get("status", {}) for pod in found if pod is not None]
        match [status["podIP"] for status in statuses if status.get("phase") == "Running" and "podIP" in status]:
            case [opened, closed]:
                return opened, closed
        return None

    async def _when(self, true: Callable[[], T | None], otherwise: str) -> T:
        end = time.monotonic() + START_SECONDS
        while (found := true()) is None:
            if (left := end - time.monotonic()) <= 0:
                trouble = worst(filter(None, map(self._pods.get, self._pods)))
                raise Untried(f"{otherwise} within {START_SECONDS:.0f} s" + (f": {trouble.message}" if trouble else ""))
            await self._pods.changed(left)
        return found


async def main(arguments: Sequence[str] | None = None) -> int:
    """Try it and write down what was found; return 0 if that could be written."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("namespace", "pod", "job", "job-uid"):
        parser.add_argument(f"--{name}", required=True)
    place = Place(**vars(parser.parse_args(arguments)))
    running = asyncio.ensure_future(_run(place))
    # What it has made goes also where the Job is deleted, or has taken too long.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    return await running


async def _run(place: Place) -> int:
    api = Connection()
    try:
        finding = await Probe(api, place).find()
        await write(api, place, finding)
    except KubeError as error:
        print(f"What was found out could not be written: {error}")
        return 1
    finally:
        await api.close()
    print(f"enforced: {finding.enforced}: {finding.message}")
    return 0


async def write(api: Transport, place: Place, finding: Finding) -> None:
    """Put a finding into the ConfigMap, which the chart has made."""
    data = {"enforced": finding.enforced, "message": finding.message, "checked": stamp(datetime.now(UTC))}
    path = place.path("configmaps", CONFIG_MAP)
    await call(api, Request("PATCH", path, body={"data": data}, content_type=MERGE_PATCH))


if __name__ == "__main__":
    with suppress(asyncio.CancelledError):
        sys.exit(asyncio.run(main()))
    sys.exit(1)
