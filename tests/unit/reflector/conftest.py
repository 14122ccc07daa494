"""A reflector over a store, before a server that each file of tests makes as it needs it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from af_kube.connection import Connection
from af_kube.reflector import Reflector, Source
from af_kube.store import Change, Store
from tests.support.list_watch_server import PATH, ListWatchServer, connection


@pytest.fixture
async def api(server: ListWatchServer, tmp_path: Path) -> AsyncIterator[Connection]:
    (tmp_path / "token").write_text("secret")
    async with server.served() as url:
        api = connection(url, tmp_path / "token")
        yield api
        await api.close()


@pytest.fixture
def store() -> Store[Any]:
    return Store()


@pytest.fixture
async def watch(api: Connection, store: Store[Any]) -> AsyncIterator[Reflector]:
    watch = Reflector(api, Source(PATH), store)
    yield watch
    await watch.close()


@pytest.fixture
def heard(store: Store[Any]) -> list[Change]:
    heard: list[Change] = []
    store.listen(heard.append)
    return heard
