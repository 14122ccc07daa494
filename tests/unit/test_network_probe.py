"""The program that tries the network, against an API server in memory and a network that is played."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from af_kube.errors import HttpError, Unreachable
from af_kube.request import Request
from af_operator import network_probe
from af_operator.enforcement import read
from af_operator.network_probe import CLOSED, OPEN, Place, Probe

PLACE = Place("af-system", "af-operator-network-1-x", "af-operator-network-1", "uid-of-the-job")
PODS = PLACE.path("pods")
OWN = {
    "metadata": {"name": PLACE.pod, "namespace": "af-system", "uid": "own", "resourceVersion": "1"},
    "spec": {
        "nodeSelector": {"role": "infra"},
        "imagePullSecrets": [{"name": "registry"}],
        "securityContext": {"runAsNonRoot": True},
        "serviceAccountName": "af-operator-network",
        "volumes": [{"name": "token", "projected": {}}],
        "containers": [
            {
                "name": "probe",
                "image": "registry.example.org/af-operator@sha256:0123",
                "resources": {"limits": {"cpu": "2"}},
                "securityContext": {"allowPrivilegeEscalation": False},
                "env": [{"name": "POD"}],
                "volumeMounts": [{"name": "token", "mountPath": "/token"}],
            }
        ],
    },
}


class Api:
    """Pods run as soon as they are made, unless `stuck`; `wrong` is raised by whatever is posted."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {f"{PODS}/{PLACE.pod}": OWN}
        self.made: list[dict[str, Any]] = []
        self.stuck = False
        self.wrong: Exception | None = None
        self._version = 1
        self._events: list[tuple[str, dict[str, Any]]] = []
        self._news = asyncio.Event()

    @property
    def left(self) -> set[str]:
        return {path.rpartition("/")[2] for path in self.objects} - {PLACE.pod}

    def put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        number = str(self._version)
        metadata = {**body["metadata"], "namespace": "af-system", "resourceVersion": number, "uid": f"uid-{number}"}
        running = {"phase": "Running", "podIP": f"address of {metadata['name']}"}
        status = {"status": {} if self.stuck else running} if body.get("kind") == "Pod" else {}
        self.objects[path] = {**body, "metadata": metadata, **status}
        self._tell("ADDED", path)
        return self.objects[path]

    def drop(self, path: str) -> None:
        self._version += 1
        self.objects[path]["metadata"]["resourceVersion"] = str(self._version)
        self._tell("DELETED", path)
        del self.objects[path]

    def _tell(self, kind: str, path: str) -> None:
        if path.startswith(PODS):
            self._events.append((kind, json.loads(json.dumps(self.objects[path]))))
        self._news.set()

    async def read(self, request: Request) -> bytes:
        await asyncio.sleep(0)
        return json.dumps(self._answer(request)).encode()

    def _answer(self, request: Request) -> Any:
        if request.verb == "POST":
            return self._create(request)
        if request.path == PODS:
            assert request.query["labelSelector"] == f"app.kubernetes.io/name in ({OPEN},{CLOSED})"
            items = [o for path, o in self.objects.items() if path in (f"{PODS}/{OPEN}", f"{PODS}/{CLOSED}")]
            return {
                "kind": "PodList",
                "apiVersion": "v1",
                "metadata": {"resourceVersion": str(self._version)},
                "items": items,
            }
        if request.verb == "PATCH":
            return self.objects.setdefault(request.path, {}) | request.body
        if request.path not in self.objects:
            raise HttpError(404, "not found")
        if request.verb == "DELETE":
            wanted = (request.body or {}).get("preconditions", {}).get("uid")
            if wanted not in (None, self.objects[request.path]["metadata"]["uid"]):
                raise HttpError(409, "another uid")
            self.drop(request.path)
            return {}
        return self.objects[request.path]

    def _create(self, request: Request) -> dict[str, Any]:
        path = f"{request.path}/{request.body['metadata']['name']}"
        if self.wrong:
            raise self.wrong
        if path in self.objects:
            raise HttpError(409, "exists")
        self.made.append(request.body)
        return self.put(path, request.body)

    @asynccontextmanager
    async def lines(self, request: Request) -> AsyncGenerator[AsyncIterator[bytes]]:
        yield self._watch(int(request.query["resourceVersion"]))

    async def _watch(self, version: int) -> AsyncIterator[bytes]:
        told = 0
        while True:
            while told < len(self._events):
                kind, body = self._events[told]
                told += 1
                if int(body["metadata"]["resourceVersion"]) > version:
                    yield json.dumps({"type": kind, "object": body}).encode()
            self._news.clear()
            await self._news.wait()


class Network:
    """`enforces`: the policy holds; `broken`: nobody is reached once there is a policy; `down`: nobody ever."""

    def __init__(self, api: Api, *, enforces: bool = True, broken: bool = False, down: bool = False) -> None:
        self._api = api
        self._enforces, self._broken, self._down = enforces, broken, down

    async def reach(self, address: str) -> bool:
        await asyncio.sleep(0)
        policy = PLACE.path("networkpolicies", CLOSED) in self._api.objects
        if self._down or (policy and self._broken):
            return False
        return not (policy and self._enforces and address == f"address of {CLOSED}")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"START_SECONDS": 0.3, "POLICY_SECONDS": 0.3, "PACE_SECONDS": 0.01}.items():
        monkeypatch.setattr(network_probe, name, seconds)


async def find(api: Api, **network: bool) -> tuple[str, str]:
    finding = await Probe(api, PLACE, Network(api, **network).reach).find()
    return finding.enforced, finding.message


async def test_a_policy_that_holds_is_told_from_one_that_does_not() -> None:
    api = Api()
    assert (await find(api, enforces=True))[0] == "true"
    assert api.left == set()
    enforced, message = await find(api, enforces=False)
    assert enforced == "false"
    assert "Install a network plugin" in message
    assert api.left == set()


async def test_the_pods_have_no_right_no_volume_and_what_fits_the_namespace() -> None:
    api = Api()
    await find(api)
    pods = [body for body in api.made if body["kind"] == "Pod"]
    assert [pod["metadata"]["name"] for pod in pods] == [OPEN, CLOSED]
    for pod in pods:
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert not spec.keys() & {"volumes", "serviceAccountName"}
        assert not spec["containers"][0].keys() & {"env", "envFrom", "volumeMounts"}
        assert spec["nodeSelector"] == {"role": "infra"}
        assert spec["securityContext"] == {"runAsNonRoot": True}
        assert spec["containers"][0]["image"] == "registry.example.org/af-operator@sha256:0123"
        assert spec["containers"][0]["securityContext"] == {"allowPrivilegeEscalation": False}
    assert {body["metadata"]["ownerReferences"][0]["uid"] for body in api.made} == {"uid-of-the-job"}


async def test_a_connection_that_fails_now_and_then_is_not_refused() -> None:
    api, tries = Api(), 0

    async def reach(address: str) -> bool:
        nonlocal tries
        await asyncio.sleep(0)
        tries += 1
        return address != f"address of {CLOSED}" or tries < 10 or tries % 10 == 0

    assert (await Probe(api, PLACE, reach).find()).enforced == "false"


@pytest.mark.parametrize(
    ("network", "words"), [({"down": True}, "without any policy of its own"), ({"broken": True}, "in a steady way")]
)
async def test_a_network_that_reaches_nobody_is_none_that_enforces(network: dict[str, bool], words: str) -> None:
    api = Api()
    enforced, message = await find(api, **network)
    assert enforced == "unknown"
    assert words in message
    assert api.left == set()


async def test_pods_that_do_not_run_are_waited_for_and_not_for_ever() -> None:
    api = Api()
    api.stuck = True
    assert await find(api) == (
        "unknown",
        f"whether NetworkPolicies are enforced was not found out: the pods {OPEN} and {CLOSED} do not run within 0 s",
    )
    assert api.left == set()


@pytest.mark.parametrize("wrong", [HttpError(403, "exceeded quota: pods"), Unreachable("reset")])
async def test_an_api_server_that_refuses_is_told(wrong: Exception) -> None:
    api = Api()
    api.wrong = wrong
    enforced, message = await find(api)
    assert enforced == "unknown"
    assert str(wrong) in message
    assert api.left == set()


async def test_what_a_try_that_was_killed_has_left_goes_first() -> None:
    api = Api()
    for path in (PLACE.path("pods", OPEN), PLACE.path("pods", CLOSED), PLACE.path("networkpolicies", CLOSED)):
        api.put(path, {"kind": "Pod", "metadata": {"name": path.rpartition("/")[2]}})
    assert (await find(api))[0] == "true"
    assert api.left == set()


async def test_a_try_that_is_ended_takes_along_what_it_has_made() -> None:
    api = Api()
    api.stuck = True
    running = asyncio.ensure_future(find(api))
    async with asyncio.timeout(5):
        while len(api.made) < 2:  # noqa: ASYNC110 (what is waited for has no event of its own)
            await asyncio.sleep(0)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert api.left == set()


async def test_what_a_later_try_has_made_is_left_to_it() -> None:
    """An upgrade while the Job still runs: the next one takes the names over."""
    api = Api()

    async def reach(_: str) -> bool:
        if len(api.made) == 2:
            for name in (OPEN, CLOSED):
                api.drop(f"{PODS}/{name}")
                api.put(f"{PODS}/{name}", {"kind": "Pod", "metadata": {"name": name}})
            api.made.append({})
        return False

    assert (await Probe(api, PLACE, reach).find()).enforced == "unknown"
    assert api.left == {OPEN, CLOSED}


async def test_a_connection_is_let_through_or_not() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_probe, "PORT", server.sockets[0].getsockname()[1])
        assert await network_probe.connects("127.0.0.1")
        server.close()
        await server.wait_closed()
        assert not await network_probe.connects("127.0.0.1")


async def test_a_finding_is_written_as_the_operator_reads_it() -> None:
    written: list[Request] = []

    class Writes(Api):
        async def read(self, request: Request) -> bytes:
            written.append(request)
            return b"{}"

    finding = network_probe.Finding("false", "let through")
    await network_probe.write(Writes(), PLACE, finding)
    (request,) = written
    assert request.path == "/api/v1/namespaces/af-system/configmaps/af-operator-network"
    assert read(request.body) == finding
    assert request.body["data"]["checked"].endswith("Z")
