"""The reflector against a real API server: what only that can prove of watches that are cut, pages and versions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from rich.console import Console

from af_kube import reflector as reflector_module
from af_kube.connection import Connection, call
from af_kube.credentials import kubeconfig as from_kubeconfig
from af_kube.errors import HttpError, Unreachable
from af_kube.reflector import Reflector, Source
from af_kube.request import MERGE_PATCH, Request
from af_kube.store import Change, Key, Store
from local_cluster.control_plane import CLIENT, ControlPlane, Options, control_plane
from local_cluster.progress import Progress
from tests.support.list_watch_server import until

CONFIG_MAPS = "/api/v1/configmaps"
LABEL = "reflector-contract"


class Cuttable:
    """A connection that counts its lists and watches, and whose streams can be cut, and kept from coming back."""

    def __init__(self, path: str) -> None:
        self.api = Connection(lambda: from_kubeconfig(path))
        self.lists = self.watches = 0
        self.down = asyncio.Event()

    async def read(self, request: Request) -> bytes:
        self.lists += request.verb == "GET"
        return await self.api.read(request)

    @asynccontextmanager
    async def lines(self, request: Request) -> AsyncGenerator[AsyncIterator[bytes]]:
        if self.down.is_set():
            raise Unreachable("cut")
        async with self.api.lines(request) as lines:
            self.watches += 1
            yield self._until_cut(lines)

    async def _until_cut(self, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        cut = asyncio.create_task(self.down.wait())
        line = None
        try:
            while True:
                line = asyncio.ensure_future(anext(lines, None))
                await asyncio.wait({line, cut}, return_when=asyncio.FIRST_COMPLETED)
                if cut.done():
                    raise Unreachable("cut")
                if (found := line.result()) is None:
                    return
                yield found
        finally:
            for task in filter(None, (line, cut)):
                task.cancel()
                await asyncio.wait({task})


class Bed:
    """ConfigMaps of one namespace that have our label, and a watch of them."""

    def __init__(self, api: Cuttable, namespace: str, metadata_only: bool = False) -> None:
        self.api, self.namespace = api, namespace
        self.store: Store[Any] = Store()
        self.heard: list[Change] = []
        self.store.listen(self.heard.append)
        source = Source(CONFIG_MAPS, namespace, f"{LABEL}=yes", metadata_only=metadata_only)
        self.watch = Reflector(api, source, self.store)

    def key(self, name: str) -> Key:
        return Key(self.namespace, name)

    def gone(self) -> list[str]:
        return [change.key.name for change in self.heard if change.gone]

    async def make(self, name: str, **data: str) -> dict[str, Any]:
        metadata = {"name": name, "labels": {LABEL: "yes"}}
        return await self._send("POST", "", {"metadata": metadata, "data": data})

    async def change(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self._send("PATCH", f"/{name}", body)

    async def delete(self, name: str) -> None:
        await self._send("DELETE", f"/{name}", None)

    async def _send(self, verb: str, name: str, body: Any) -> dict[str, Any]:
        path = f"/api/v1/namespaces/{self.namespace}/configmaps{name}"
        kind = MERGE_PATCH if verb == "PATCH" else "application/json"
        return await call(self.api.api, Request(verb, path, body=body, content_type=kind))

    async def empty(self) -> None:
        path = f"/api/v1/namespaces/{self.namespace}/configmaps"
        await call(self.api.api, Request("DELETE", path, {"labelSelector": f"{LABEL}=yes"}))


@asynccontextmanager
async def bed_in(path: str, namespace: str, metadata_only: bool = False) -> AsyncIterator[Bed]:
    api = Cuttable(path)
    bed = Bed(api, namespace, metadata_only)
    try:
        yield bed
    finally:
        await bed.watch.close()
        await bed.empty()
        await api.api.close()


def few(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pages be of three."""
    bed.watch._limit = 3
    for name in ("LEAST_PAGE", "PAGE"):
        monkeypatch.setattr(reflector_module, name, 3)


@pytest.mark.cluster
class TestCluster:
    @pytest.fixture
    async def bed(self, kubeconfig: str, namespace: str) -> AsyncIterator[Bed]:
        async with bed_in(kubeconfig, namespace) as bed:
            yield bed

    async def test_what_is_made_changed_and_deleted_while_the_watch_is_cut(self, bed: Bed) -> None:
        created = {name: await bed.make(name, at="first") for name in ("changes", "goes", "stays", "is-another")}
        assert await bed.watch.ready(10)
        await until(lambda: bed.api.watches == 1)
        bed.heard.clear()
        bed.api.down.set()
        await until(lambda: bed.watch.failure)
        await bed.change("changes", {"data": {"at": "second"}})
        for name in ("goes", "is-another"):
            await bed.delete(name)
        await bed.make("is-another")
        await bed.make("is-new")
        bed.api.down.clear()
        await until(lambda: bed.key("is-new") in bed.store, 20)
        assert {key.name for key in bed.store} == {"changes", "stays", "is-another", "is-new"}
        assert bed.store.get(bed.key("changes"))["data"] == {"at": "second"}
        assert sorted(bed.gone()) == ["goes", "is-another"]
        assert not bed.store.put(created["goes"])  # a late answer
        assert bed.store.uid(bed.key("is-another")) != created["is-another"]["metadata"]["uid"]
        assert bed.api.lists == 1
        assert bed.watch.fresh

    async def test_a_label_that_is_taken_off_and_put_on_again(self, bed: Bed) -> None:
        await bed.make("z")
        await bed.watch.ready(10)
        await bed.change("z", {"metadata": {"labels": {LABEL: None}}})
        await until(lambda: bed.gone() == ["z"], 10)
        await bed.change("z", {"metadata": {"labels": {LABEL: "yes"}}})
        await until(lambda: bed.key("z") in bed.store, 10)
        assert bed.gone() == ["z"]

    async def test_names_and_versions_alone(self, kubeconfig: str, namespace: str) -> None:
        async with bed_in(kubeconfig, namespace, metadata_only=True) as bed:
            made = await bed.make("listed", text="x" * 1000)
            await bed.watch.ready(10)
            changed = await bed.make("watched", text="x" * 1000)
            await until(lambda: len(bed.store) == 2, 10)
            for name, body in (("listed", made), ("watched", changed)):
                key = bed.key(name)
                assert (bed.store.uid(key), str(bed.store.version(key))) == (
                    body["metadata"]["uid"],
                    body["metadata"]["resourceVersion"],
                )
                assert "data" not in bed.store.get(key)
            await bed.delete("watched")
            await until(lambda: bed.gone() == ["watched"], 10)

    async def test_pages(self, bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
        few(bed, monkeypatch)
        for n in range(7):
            await bed.make(f"w{n}")
        await bed.watch.ready(10)
        assert {key.name for key in bed.store} == {f"w{n}" for n in range(7)}
        assert bed.api.lists == 3
        assert {bed.store.get(key)["kind"] for key in bed.store} == {"ConfigMap"}

    async def test_a_kind_that_is_not_there(self, bed: Bed) -> None:
        watch = Reflector(bed.api, Source("/apis/example.org/v1/nothings"), Store())
        assert not await watch.ready(0.5)
        assert isinstance(watch.failure, HttpError)
        assert watch.failure.status == 404
        await watch.close()


@pytest.fixture(scope="module")
def forgetful() -> Iterator[ControlPlane]:
    """A control plane whose API server remembers nothing that etcd has forgotten."""
    with control_plane(Progress(Console(quiet=True)), Options(watch_cache=False)) as found:
        yield found


@pytest.mark.control_plane
@pytest.mark.timeout(180)
class TestTooOld:
    @pytest.fixture
    async def bed(self, forgetful: ControlPlane) -> AsyncIterator[Bed]:
        async with bed_in(str(forgetful.kubeconfig(CLIENT)), "default") as bed:
            yield bed

    async def test_a_version_makes_it_list_once_and_tell_the_difference(
        self, bed: Bed, forgetful: ControlPlane
    ) -> None:
        for name in ("goes", "stays"):
            await bed.make(name)
        assert await bed.watch.ready(10)
        bed.api.down.set()
        await until(lambda: bed.watch.failure)
        await bed.delete("goes")
        await bed.make("is-new")
        await asyncio.to_thread(forgetful.compact)
        bed.api.down.clear()
        await until(lambda: bed.key("is-new") in bed.store, 20)
        assert {key.name for key in bed.store} == {"stays", "is-new"}
        assert bed.gone() == ["goes"]
        assert bed.api.lists == 2

    async def test_a_page_makes_the_list_begin_anew(
        self, bed: Bed, forgetful: ControlPlane, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        few(bed, monkeypatch)
        for n in range(7):
            await bed.make(f"w{n}")
        read = bed.api.read

        async def forgetting(request: Request) -> bytes:
            if request.query.get("continue") and bed.api.lists == 1:
                assert not bed.watch.listed
                await bed.delete("w0")  # which was on the page before
                await asyncio.to_thread(forgetful.compact)
            return await read(request)

        monkeypatch.setattr(bed.api, "read", forgetting)
        assert await bed.watch.ready(20)
        assert {key.name for key in bed.store} == {f"w{n}" for n in range(1, 7)}
        assert bed.api.lists == 2 + 2
