"""What the Hub's pages say: words for who has a browser alone, and of what others wrote nothing but its text."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from af_client import errors
from af_client.hub.errors import from_client
from tests.support.fake_api import BASE, FakeApi
from tests.support.fake_transport import condition
from tests.support.hub_in_process import HubBrowser, HubInProcess
from tests.support.spawner_bench import GOOD, PROFILE, session_path

ROOT = Path(__file__).parents[2]
VERBS = "run|open|list|status|logs|results|scale|suspend|resume|delete|models|cache"
COMMAND = re.compile(rf"\b(kubectl|helm)\b|`af\b|\baf ({VERBS})\b|\s-n\b|--\w+|\b(kubeconfig|stdout)\b", re.IGNORECASE)
"""What somebody in a browser can neither run nor set."""
SAID_IN_LOGS = ("database.py",)
"""Words for who reads the Hub's log."""
SAID_TO_OTHERS = ("registration.py", "uninstall.py", "__main__.py", "crdgen.py", "world.py", "api", "agent", "run")
"""Not shown by the Hub: its own state there, a schema's descriptions, errors in users' own programs, headless runs."""


def texts(path: Path) -> Iterator[str]:
    """Yield the texts of a program that are not for its readers alone."""
    tree = ast.parse(path.read_text())
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    yield from (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    )


def test_no_text_of_the_hubs_names_a_command() -> None:
    found = [p for p in (ROOT / "af_client/hub").glob("*.py") if p.name not in SAID_IN_LOGS]
    assert len(found) > 10
    assert [(p.name, text) for p in found for text in texts(p) if COMMAND.search(text)] == []


@pytest.mark.parametrize("folder", ["af_client/hub/templates", "helm/af-operator/hub"])
def test_no_page_of_the_hubs_names_a_command(folder: str) -> None:
    pages = {
        path.name: re.sub(r"(?s)<style>.*?</style>|<script>.*?</script>|{.*?}|<[^>]*>", "", path.read_text())
        for path in (ROOT / folder).glob("*.html")
    }
    assert pages
    assert {name: COMMAND.findall(text) for name, text in pages.items() if COMMAND.search(text)} == {}


def test_nothing_that_the_operator_says_of_a_session_in_the_hub_names_a_command() -> None:
    modules = [p for p in (ROOT / "af_operator").rglob("*.py") if not set(p.parts) & set(SAID_TO_OTHERS)]
    modules = [p for p in modules if "agent" not in p.name]
    assert len(modules) > 60
    told = re.compile(rf"`(kubectl|af|helm) |\baf ({VERBS}) ")
    assert [(p.name, text) for p in modules for text in texts(p) if told.search(text)] == []


def answer(code: int, message: str, reason: str = "", **details: Any) -> errors.ApiError:
    return errors.from_response(code, json.dumps({"message": message, "reason": reason, "details": details}))


ANSWERS = {
    "no namespace": answer(404, 'namespaces "alice" not found', kind="namespaces", name="alice"),
    "no session": answer(404, "not found", kind="analysissessions", name="alice-z"),
    "no kind": answer(404, "the server could not find the requested resource"),
    "no right": answer(
        403, 'User "system:serviceaccount:s:hub" cannot create resource "analysissessions" in API group "g"'
    ),
    "no right there": answer(
        403, 'User "hub" cannot create resource "secrets" in API group "" in the namespace "alice"'
    ),
    "quota": answer(
        403, 'analysissessions.g "a" is forbidden: exceeded quota: few, requested: x=1, used: x=5, limited: x=5'
    ),
    "policy": answer(403, "x is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: not today"),
    "terminating": answer(403, "unable to create new content in namespace alice because it is being terminated"),
    "taken": answer(409, "exists", "AlreadyExists", name="alice"),
    "conflict": answer(409, "the object has been modified"),
    "invalid": answer(422, "invalid", causes=[{"field": "spec.lifetimeSeconds", "message": "must be at least 1"}]),
    "bad user": answer(422, "invalid", causes=[{"field": "spec.user", "message": "write it (kubectl auth whoami)"}]),
    "not logged in": answer(401, "Unauthorized"),
    "expired": answer(410, "too old resource version"),
    "busy": answer(429, "too many requests"),
    "broken": answer(500, "etcdserver: no leader"),
    "unreachable": errors.Unreachable("the API server does not answer: connection refused"),
    "no credentials": errors.NoCluster("no kubeconfig: set KUBECONFIG, or log in"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_of_the_api_server_is_said_without_a_command_and_with_a_next_step(case: str) -> None:
    failed = from_client(ANSWERS[case], "alice")
    assert COMMAND.search(failed.jupyterhub_message) is None, failed.jupyterhub_message
    assert re.fullmatch(r"[^.].*\. Next: .+\.", failed.jupyterhub_message)
    assert "system:serviceaccount" not in failed.jupyterhub_message


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("quota", "exceeded quota: few, requested: x=1, used: x=5, limited: x=5"),
        ("quota", "stop or delete a server that you do not need"),
        ("policy", "a rule of the facility refuses it: not today"),
        ("terminating", "namespace 'alice', where your sessions are, is being deleted"),
        ("no right", "JupyterHub has no right to do this in namespace 'alice'"),
        ("broken", "etcdserver: no leader"),
        ("invalid", "spec.lifetimeSeconds: must be at least 1"),
    ],
)
def test_what_is_so_is_said(case: str, words: str) -> None:
    assert words in from_client(ANSWERS[case], "alice").jupyterhub_message


def test_what_the_admin_needs_is_in_the_log() -> None:
    assert 'User "system:serviceaccount:s:hub" cannot create' in from_client(ANSWERS["no right"], "a").log_message


# --- what others wrote ----------------------------------------------------------------------------------------------

HOSTILE = "<script>alert(1)</script>\x1b[2J\u202egnp.exe\x00\r\nSet-Cookie: a=b\u2028\"'>&{{7*7}}"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
SERVER = "/users/alice/servers/z"


def only_text(page: str) -> None:
    """Check that a page has what was written as nothing but text."""
    assert "alert(1)" in page, "it is there"
    assert "<script>alert" not in page
    assert "{{7*7}}" in page
    assert OBEYED.findall(page) == []
    assert "\nSet-Cookie" not in page


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[HubInProcess]:
    api = FakeApi()
    spec = PROFILE["spec"] | {
        "images": [{"name": "analysis", "image": "r/a"}, {"name": HOSTILE, "image": "r/b"}],
        "sizes": [{"name": "small", "cpu": "1", "memory": "1Gi"}, {"name": HOSTILE, "cpu": "1", "memory": HOSTILE}],
        "nodePools": [{"name": "cpu", "maxWorkers": 8}, {"name": HOSTILE, "maxWorkers": 8}],
        "inference": {"models": [{"name": HOSTILE, "version": "1", "description": HOSTILE}], "upload": True},
    }
    for name in ("default", "another"):
        await api.put(f"{BASE}/analysisprofiles/{name}", {"spec": spec})
    async with HubInProcess.opened(api, tmp_path) as hub:
        await hub.ask("POST", "/users/alice")
        yield hub


@pytest.fixture
async def alice(hub: HubInProcess) -> AsyncIterator[HubBrowser]:
    browser = HubBrowser(hub)
    await browser.login("alice")
    yield browser
    await browser.http.close()


async def test_what_a_profile_says_is_text_in_the_form(alice: HubBrowser) -> None:
    status, page = await alice.get("/spawn/alice/z")
    assert status == 200
    only_text(page)


async def test_what_a_link_says_is_text_in_the_form(hub: HubInProcess, alice: HubBrowser) -> None:
    async with alice.http.get(f"{hub.url}/hub/spawn/alice/z", params={"opt-image": HOSTILE + "?"}) as answered:
        page = await answered.text()
    assert answered.status == 400
    assert "<script>alert" not in page
    assert OBEYED.findall(page) == []


async def test_what_a_session_is_called_and_asks_for_is_text_where_it_is_shown(
    hub: HubInProcess, alice: HubBrowser
) -> None:
    spec = {"user": "alice", "mode": "Interactive", "suspend": True, "profile": HOSTILE, "image": HOSTILE}
    spec |= {"notebook": {"serverName": "z", "size": HOSTILE}, "inference": {"models": [{"name": HOSTILE}]}}
    spec |= {"dask": {"pools": [{"name": "p", "nodePool": HOSTILE, "workers": {"min": 0, "max": 1}}]}}
    await hub.api.put(session_path("alice-z", "physics"), {"spec": spec})
    _, page = await alice.get("/spawn/alice/z")
    only_text(page)


async def test_what_a_pod_says_is_text_in_the_progress_and_on_the_page_of_a_failed_start(
    hub: HubInProcess, alice: HubBrowser
) -> None:
    hub.operator = ("Starting", condition("Accepted", True), condition("NotebookReady", False, "Crashing", HOSTILE))
    hub.answer_before_the_end()
    assert (await hub.ask("POST", SERVER, {}))[0] == 202
    said = await alice.events(SERVER, until="Notebook: ")
    message = said[-1]["message"]
    assert "<script>alert(1)</script>" in message, "JupyterHub's page sets it as text"
    assert "html_message" not in said[-1]
    assert OBEYED.findall(message) == []
    assert "\n" not in message
    path = session_path("alice-z", "physics")
    await hub.api.say(path, "Refused", condition("Accepted", False, "Refused", HOSTILE))
    await hub.until("alice", "z", ready=False, pending=None)
    _, page = await alice.get("/spawn-pending/alice/z")
    only_text(page)
    [last] = await alice.events(SERVER, until="")
    assert "<script>alert" not in last["html_message"]
    assert OBEYED.findall(last["html_message"] + last["message"]) == []


async def test_good_words_are_left_as_they_are(hub: HubInProcess) -> None:
    words = "Ω → μμ: l'été, 中文, “quoted” 🙂"
    hub.operator = ("Refused", condition("Accepted", False, "Refused", words), *GOOD[1:])
    status, text = await hub.ask("POST", SERVER, {})
    assert status == 400
    assert words in json.loads(text)["message"]
