"""The guard of Dask's pages where Dask is not as it expects: nothing starts that would let everybody in."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from distributed import node

GUARD = Path(__file__).parents[2] / "af_operator" / "components" / "dask" / "af_guard.py"
RENAMED = """
from distributed import node
del node.HTTPServer
"""
OTHERWISE = """
import distributed.node, tornado.httpserver

class ByAnotherName(tornado.httpserver.HTTPServer):
    pass

source = open(distributed.node.__file__).read().replace(" HTTPServer(self", " ByAnotherName(self")
distributed.node.ByAnotherName = ByAnotherName
exec(compile(source, distributed.node.__file__, "exec"), distributed.node.__dict__)
import distributed.scheduler
distributed.scheduler.ServerNode.start_http_server = distributed.node.ServerNode.start_http_server
"""
START = f"""
import asyncio
from distributed import Scheduler

async def start():
    async with Scheduler(port=0, dashboard_address="127.0.0.1:0", host="127.0.0.1", preload=[{str(GUARD)!r}]):
        print("it runs")

asyncio.run(start())
"""


@pytest.fixture
def guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, as a preload would import it; what it has changed is as before at the end."""
    monkeypatch.setattr(node, "HTTPServer", node.HTTPServer)
    spec = importlib.util.spec_from_file_location("af_guard", GUARD)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "TOKEN", tmp_path / "token")
    return module


@pytest.mark.parametrize("other", [RENAMED, OTHERWISE], ids=["no such name", "by another name"])
def test_a_scheduler_that_it_does_not_guard_does_not_start(other: str) -> None:
    done = _python(other + START)
    assert done.returncode != 0
    assert "it runs" not in done.stdout
    assert "it would let everybody in" in done.stderr


def test_one_that_it_guards_does() -> None:
    assert "it runs" in _python(START).stdout


def test_without_its_file_nobody_comes_in(guard: Any) -> None:
    assert not may_ask(guard, "Bearer")
    guard.TOKEN.write_text("")
    assert not may_ask(guard, "Bearer")
    guard.TOKEN.write_text("secret\n")
    assert may_ask(guard, "Bearer secret")
    assert not may_ask(guard, "secret")
    assert not may_ask(guard, "Basic secret")
    assert not may_ask(guard, "Bearer secret", "Bearer other")


def test_the_token_may_be_another_one_later(guard: Any) -> None:
    for token in ("first", "second"):
        guard.TOKEN.write_text(token)
        assert may_ask(guard, f"Bearer {token}")
    assert not may_ask(guard, "Bearer first")


def may_ask(guard: Any, *shown: str) -> bool:
    headers = guard.HTTPHeaders()
    for each in shown:
        headers.add("Authorization", each)
    return bool(guard.may_ask(guard.RequestStartLine("GET", "/metrics", "HTTP/1.1"), headers))


def _python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=90, check=False)
