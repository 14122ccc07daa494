"""`af open` as its user calls it: their own notebook at a port of their machine, with no rights but their own."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import select
import signal
import socket
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import aiohttp
import pytest
from yarl import URL

from af_client.errors import Forbidden
from af_client.sessions import Sessions
from local_cluster.settings import CHECKOUT
from tests.support.catalogue import profile
from tests.support.hubs import free_port
from tests.support.people import Person
from tests.support.tenant import DASK, HEADLESS, Tenant, poll

Opened = Mapping[str, Any]
LARGE = 20_000_000


@pytest.fixture(scope="module")
def alice(shared_tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Whose notebook it is."""
    return Person.create(shared_tenant, "alice", tmp_path_factory.mktemp("alice"))


@pytest.fixture(scope="module")
def bob(shared_tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Another one with the same rights."""
    return Person.create(shared_tenant, "bob", tmp_path_factory.mktemp("bob"))


@pytest.fixture(scope="module")
def lab(shared_tenant: Tenant, alice: Person) -> str:
    """A session with a notebook, not ready yet when it is first used."""
    shared_tenant.apply("lab", {"user": alice.user, "mode": "Interactive", "notebook": {}})
    return "lab"


@contextmanager
def opened(person: Person, *args: str, command: str = "open") -> Iterator[tuple[subprocess.Popen[str], Opened]]:
    """Run `af open --output json` until the block ends; yields the process and what it says on stdout."""
    argv = [sys.executable, "-m", "af_client", command, *args, "--output", "json"]
    process = subprocess.Popen(
        argv, env=person.environment, cwd=CHECKOUT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    assert process.stderr
    try:
        ready, _, _ = select.select([process.stdout], [], [], 120)
        line = process.stdout.readline() if ready else ""
        assert line, f"`af open` says nothing: {process.poll()}"
        yield process, json.loads(line)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0, process.stderr.read()
    finally:
        process.kill()
        process.communicate()


def get(url: str, token: str = "") -> str:
    """Return a page, or nothing if it cannot be had."""
    headers = {"Authorization": f"token {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - ours, on loopback
    try:
        with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
            return str(response.read().decode())
    except (OSError, http.client.HTTPException):
        return ""


def exact(url: str) -> URL:
    """Return a URL as a browser asks for it: %3A stays."""
    return URL(url, encoded=True)


async def status(url: str, token: str) -> int:
    async with aiohttp.ClientSession() as client:
        headers = {"Authorization": f"token {token}"}
        async with client.get(exact(f"{url}api/status"), headers=headers) as response:
            return response.status


async def execute(at: Opened, code: str) -> str:
    """Start a kernel, run code in it over its websocket, and return what it prints."""
    async with aiohttp.ClientSession(headers={"Authorization": f"token {at['token']}"}) as client:
        async with client.post(exact(f"{at['url']}api/kernels"), json={}) as response:
            assert response.status == 201, await response.text()
            kernel = (await response.json())["id"]
        message = uuid.uuid4().hex
        header = {"msg_id": message, "msg_type": "execute_request", "session": "s", "username": "", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
        async with client.ws_connect(exact(f"{at['url']}api/kernels/{kernel}/channels"), max_msg_size=0) as channels:
            request = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
            await channels.send_json(request)
            while True:
                found = await channels.receive_json(timeout=60)
                if found["parent_header"].get("msg_id") == message and found["msg_type"] == "stream":
                    return str(found["content"]["text"])


async def test_it_waits_and_then_the_notebook_is_there(alice: Person, lab: str) -> None:
    with opened(alice, lab) as (process, at):
        assert at["lab"] == f"{at['url']}lab?token={at['token']}"
        assert at["pid"] == process.pid
        assert await status(at["url"], at["token"]) == 200
        assert await status(at["url"], "wrong") == 403
        assert await execute(at, "print(6 * 7)") == "42\n"
        # Larger than any buffer on the way, and closed by the server at its end.
        assert await execute(at, f"print(open('large.txt', 'w').write('x' * {LARGE}))") == f"{LARGE}\n"
        page = await asyncio.to_thread(get, at["url"] + "files/large.txt", at["token"])
        assert page == "x" * LARGE


async def test_it_goes_on_when_the_pod_starts_again(alice: Person, lab: str, shared_tenant: Tenant) -> None:
    with opened(alice, lab) as (_, at):
        assert await status(at["url"], at["token"]) == 200
        shared_tenant.kubectl("delete", "pod", f"{lab}-notebook-0")

        poll(lambda: get(at["url"] + "api/status", at["token"]), "the notebook answers again at the same port", 90)
    shared_tenant.wait_condition(lab, "Ready", seconds=60)


def test_the_port_of_ones_choice(alice: Person, lab: str) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        done = alice.af("open", lab, "--port", str(port))
        assert (done.returncode, done.stderr) == (
            2,
            f"Error: port {port} is taken: choose another, or leave --port out\n",
        )
    with opened(alice, lab, "--port", str(port)) as (_, at):
        assert at["url"].startswith(f"http://127.0.0.1:{port}/user/")


def test_nobody_elses(bob: Person, lab: str, alice: Person) -> None:
    done = bob.af("open", lab, "--timeout", "60")
    assert done.returncode == 1
    assert f"the notebook of session {lab} is {alice.user}'s: Role {lab}-notebook" in done.stderr
    assert not bob.may("get", f"secret/{lab}-notebook")
    assert not bob.may("get", f"pod/{lab}-notebook-0", "--subresource=portforward")
    assert not alice.may("get", f"pod/{lab}-notebook-0")
    assert not alice.may("list", "secrets")


def test_from_python(alice: Person, bob: Person, lab: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(alice.kubeconfig))
    with Sessions(alice.namespace).open(lab, timeout=60) as notebook:
        assert "JupyterLab" in get(notebook.lab)
    monkeypatch.setenv("KUBECONFIG", str(bob.kubeconfig))
    with pytest.raises(Forbidden, match=re.escape(f"is {alice.user}'s")):
        Sessions(alice.namespace).open(lab).__enter__()


def test_what_cannot_be_opened_says_what_to_do(shared_tenant: Tenant, alice: Person, lab: str) -> None:
    shared_tenant.apply("run", {**HEADLESS, "user": alice.user})
    shared_tenant.apply("cluster", {"user": alice.user, "mode": "Interactive", "dask": DASK})
    for name, said in (("run", "`af logs run`"), ("cluster", "`spec.notebook: {}`")):
        done = alice.af("open", name)
        assert done.returncode == 2
        assert f"session {name} has no notebook: {said}" in done.stderr
    assert f"next: af open {lab}" in alice.af("status", lab).stdout
    alice.af("suspend", lab)
    done = alice.af("open", lab)
    assert (done.returncode, "`af resume lab`" in done.stderr) == (1, True)
    alice.af("resume", lab)


def test_a_notebook_that_does_not_come_up_is_not_waited_for_for_ever(shared_tenant: Tenant, alice: Person) -> None:
    with profile(sizes=[{"name": "small", "cpu": "64", "memory": "1Gi"}]) as too_large:
        spec = {"user": alice.user, "mode": "Interactive", "profile": too_large, "notebook": {}}
        shared_tenant.apply("large", spec)
        shared_tenant.wait_condition("large", "NotebookReady", "False", reason="Unschedulable")
        done = alice.af("open", "large", "--timeout", "1.5")
        shared_tenant.kubectl("delete", "analysissession", "large")
    assert done.returncode == 124
    assert "notebook of session large is not ready after 1.5 s: waiting for Notebook (Unschedulable): " in done.stderr
