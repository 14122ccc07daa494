"""How much there may be of uploads, at once and in all."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from af_inference import sandbox
from af_inference.errors import Forbidden, Full, Invalid
from af_inference.repository import Repository
from af_inference.server import Server
from af_inference.settings import Limits, load
from af_inference.uploads import Uploads, body, room

from tests.support.inference import onnx_models
from tests.support.inference.bundles import bundle
from tests.support.inference.serving import TOKEN, config, serving

T = TypeVar("T")
MIB = 1 << 20
SECONDS = 20


def poll(check: Callable[[], T | None], what: str) -> T:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if found := check():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {SECONDS} s: {what}")


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    (tmp_path / "store").mkdir()
    return Uploads(Server.of(load(config(tmp_path, store=str(tmp_path / "store"), upload=True))))


@pytest.mark.parametrize(("limits", "words"), [({"versions": 2}, "2 versions"), ({"store": 200}, "bytes")])
def test_a_store_that_is_full_says_so(tmp_path: Path, limits: dict[str, int], words: str) -> None:
    for number in "12":
        onnx_models.put(tmp_path / "net", onnx_models.linear(), number)
    repository = Repository([], tmp_path)
    room.check(repository, Limits())
    with pytest.raises(Full, match=words):
        room.check(repository, Limits(**limits))


async def test_a_volume_that_is_full_says_so(tmp_path: Path, uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(body, "save", no_space)
    with pytest.raises(Full, match="delete models"):
        await uploads.take({"headers": []}, no_space)  # type: ignore[arg-type]
    assert list((tmp_path / "store/.staging").iterdir()) == []


def test_a_child_may_take_what_the_pod_has_left(tmp_path: Path) -> None:
    limits = Limits(conversion=1000 * MIB)
    assert room.memory(limits, tmp_path / "none") == 1000 * MIB
    (tmp_path / "memory.stat").write_text(f"anon {100 * MIB}\nfile {700 * MIB}\n")
    for most, left in (("max", 1000), (str(2000 * MIB), 1000), (str(800 * MIB), 636), (str(100 * MIB), 64)):
        (tmp_path / "memory.max").write_text(f"{most}\n")
        assert room.memory(limits, tmp_path) == left * MIB


def test_uploads_beyond_those_that_are_received_at_once_come_again(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    sent = bundle(onnx_models.linear(), "net")
    head = f"POST /upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len(sent)}\r\n\r\n"
    file = config(tmp_path, store=str(tmp_path / "store"), upload=True, limits={"uploads": 1})
    with serving(file) as server:

        def upload(status: int, content: bytes) -> Callable[[], object]:
            return lambda: answer if (answer := server.ask("POST", "/upload", content)).status == status else None

        with socket.create_connection(("127.0.0.1", server.http), SECONDS) as first:
            first.sendall(head.encode() + sent[:50])
            refused = poll(upload(429, b"x"), "one is on its way")
            assert int(refused.headers["retry-after"]) > 0  # type: ignore[attr-defined]
        poll(upload(200, sent), "it went away in the middle, and its place is free")
        assert list((tmp_path / "store/.staging").iterdir()) == []


def test_a_node_that_cannot_shut_a_child_in_takes_no_uploads(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "unavailable", lambda: "its kernel has no Landlock")
    with pytest.raises(Forbidden, match="its kernel has no Landlock"):
        uploads._check_allowed()


async def test_who_sends_nothing_more_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "STALLED_SECONDS", 0.05)

    async def nothing() -> dict[str, object]:
        await asyncio.sleep(SECONDS)
        return {}

    with pytest.raises(Invalid, match="send it again"):
        await body.save({"headers": []}, nothing, tmp_path / "body", MIB)


def test_an_upload_takes_no_room_of_bodies_that_are_held_in_memory(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    sent = bundle(onnx_models.linear(columns=60_000))
    file = config(tmp_path, store=str(tmp_path / "store"), upload=True, limits={"bodies": len(sent) // 2})
    with serving(file) as server:
        assert server.ask("POST", "/json", sent).status == 429
        assert server.ask("POST", "/upload", sent).status == 200
