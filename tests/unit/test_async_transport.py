"""The Hub's connection: af_kube's, with errors in the client's words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from af_client import errors
from af_client.errors import ClientError, from_kube
from af_client.hub.transport import AsyncCluster
from af_kube import errors as kube
from af_kube.request import Request
from tests.support.list_watch_server import PATH, Answer, ListWatchServer, refusing, reset, saying

GET = Request("GET", PATH, {"limit": "10"})


@pytest.fixture
def server() -> ListWatchServer:
    return ListWatchServer()


@pytest.fixture
async def api(server: ListWatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncCluster]:
    api = AsyncCluster()  # before there is a kubeconfig, as when the Hub is imported
    async with server.served() as url:
        config = {
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {"token": "secret"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        (tmp_path / "config").write_text(yaml.safe_dump(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        yield api
        await api.close()


async def lines(api: AsyncCluster) -> list[bytes]:
    async with api.lines(Request("GET", PATH, {"watch": "true"})) as found:
        return [line async for line in found]


async def test_it_calls_reads_and_streams(server: ListWatchServer, api: AsyncCluster) -> None:
    server.put("zoe")
    assert [body["metadata"]["name"] for body in (await api.call(GET))["items"]] == ["zoe"]
    assert b'"zoe"' in await api.read(GET)
    server.next["watch"].append(saying(b"one\ntwo\n"))
    assert await lines(api) == [b"one", b"two"]
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer secret"}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusing(401), errors.NotLoggedIn),
        (refusing(403), errors.Forbidden),
        (refusing(410), errors.Expired),
        (refusing(422), errors.Invalid),
        (refusing(429, Retry_After="7"), errors.Unavailable),
        (reset, errors.Unreachable),
        (saying(b"<html>"), errors.Unreachable),
    ],
)
async def test_what_goes_wrong_is_the_clients_error(
    server: ListWatchServer, api: AsyncCluster, answer: Answer, kind: type[ClientError]
) -> None:
    server.next["list"].extend([answer] * 2)  # aiohttp asks again, once, where it was hung up upon
    with pytest.raises(kind) as error:
        await api.call(GET)
    assert isinstance(error.value, kube.KubeError)  # which a reflector understands
    assert error.value.retry_after == (7.0 if "429" in str(error.value) else None)


async def test_streams_too(server: ListWatchServer, api: AsyncCluster) -> None:
    server.next["watch"].extend([refusing(403), saying(b"one\n", b"tw", then=reset)])
    with pytest.raises(errors.Forbidden):
        await lines(api)
    with pytest.raises(errors.Unreachable):
        await lines(api)


async def test_without_a_kubeconfig_it_says_so(
    api: AsyncCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    with pytest.raises(errors.NoCluster, match="kubeconfig"):
        await api.call(GET)


def test_what_the_client_has_said_already_stays() -> None:
    error = errors.Forbidden("in words")
    assert from_kube(error) is error


def test_what_a_reflector_has_to_tell_apart() -> None:
    assert isinstance(from_kube(kube.Expired('{"message": "too old"}')), kube.Expired)
    assert str(from_kube(kube.Expired('{"message": "too old"}'))) == "too old"
    assert isinstance(from_kube(kube.Unreachable("no")), kube.Unreachable)
    assert not isinstance(from_kube(kube.HttpError(503, "")), kube.Unreachable)
    assert isinstance(from_kube(kube.KubeError("garbled")), errors.Unreachable)
