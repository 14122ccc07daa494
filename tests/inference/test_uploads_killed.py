"""A server that is killed in the middle of an upload: its successor finds whole versions, and nothing else."""

from __future__ import annotations

import contextlib
import http.client
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.inference import onnx_models
from tests.support.inference.bundles import bundle
from tests.support.inference.serving import TOKEN, Running, config, serving

SECONDS = 20
ROW = {"values": [1, 1, 1, 1], "model": "net"}
# Large enough that its stages can be seen.
AFTER = bundle(onnx_models.linear(scale=2.0), padding="x" * 20_000)

Stage = Callable[[Path], bool]
STAGES: dict[str, Stage] = {
    "received in part": lambda store: any(store.glob(".staging/*/work/body")),
    "being unpacked": lambda store: any(store.glob(".staging/*/work/source")),
    "being tried": lambda store: any(store.glob(".staging/*/work/model")),
    "brought together": lambda store: any(store.glob(".staging/*/version")),
    "in the store": lambda store: (store / "net/2").exists(),
}


@pytest.mark.parametrize("stage", STAGES)
def test_killed_while_an_upload_is(tmp_path: Path, stage: str) -> None:
    store = tmp_path / "store"
    onnx_models.put(store / "net", onnx_models.linear(scale=1.0))
    file = config(tmp_path, store=str(store), upload=True)
    killed = False
    with contextlib.suppress(AssertionError), serving(file) as server:  # it does not go by itself
        upload = _begin(server, whole=stage != "received in part")
        _kill_when(server, lambda: STAGES[stage](store))
        killed = True
        upload.join()
    assert killed
    _wait_until(lambda: _programs_in(store) == [], "the server's children are gone with it")
    with serving(file) as server:
        versions = sorted(path.name for path in store.glob("net/*"))
        assert versions in (["1"], ["1", "2"])
        assert server.post("/json", ROW).json == [4.0 * len(versions)]
        assert list((store / ".staging").iterdir()) == []
        assert server.ask("POST", "/upload", AFTER).headers["x-model-version"] == str(len(versions) + 1)
        assert server.post("/json", ROW).json == [8.0]


def _begin(server: Running, whole: bool) -> threading.Thread:
    def send() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.http, timeout=SECONDS)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.putrequest("POST", "/upload")
            connection.putheader("Authorization", f"Bearer {TOKEN}")
            connection.putheader("Content-Length", str(len(AFTER)))
            connection.endheaders(AFTER if whole else AFTER[:100])
            connection.getresponse().read()

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def _kill_when(server: Running, reached: Callable[[], bool]) -> None:
    _wait_until(reached, "the stage is reached", pause=0.0)
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()


def _wait_until(reached: Callable[[], bool], what: str, pause: float = 0.02) -> None:
    end = time.monotonic() + SECONDS
    while not reached():
        assert time.monotonic() < end, f"not within {SECONDS} s: {what}"
        time.sleep(pause)


def _programs_in(store: Path) -> list[bytes]:
    """Return the command lines that name the store."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes())
    return [line for line in found if str(store).encode() in line]
