"""A session's Dask from outside: `af dask` as its user calls it, the dashboard in the notebook; and how tokens end."""

from __future__ import annotations

import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.test_open import opened as af_opened
from tests.support.catalogue import profile
from tests.support.people import Person
from tests.support.tenant import DASK, Tenant

COMPUTES = (
    "from distributed import Client; c = Client(); print('sum', c.submit(sum, [20, 22]).result(), c.dashboard_link)"
)
ENGINES = ("Native", "DaskKubernetes")


@pytest.fixture(scope="module")
def alice(shared_tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Whose sessions they are."""
    return Person.create(shared_tenant, "alice", tmp_path_factory.mktemp("alice"))


@pytest.fixture(scope="module")
def bob(shared_tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Another one with the same rights."""
    return Person.create(shared_tenant, "bob", tmp_path_factory.mktemp("bob"))


@pytest.fixture(scope="module", params=ENGINES)
def lab(request: pytest.FixtureRequest, shared_tenant: Tenant, alice: Person) -> Iterator[str]:
    """A session with Dask under an engine, and a notebook; not ready yet when it is first used."""
    name = f"lab-{request.param.lower()}"
    with profile(dask={"engine": request.param}) as engine:
        spec = {"profile": engine, "user": alice.user, "mode": "Interactive", "dask": DASK, "notebook": {}}
        shared_tenant.apply(name, spec)
        yield name
        shared_tenant.kubectl("delete", "analysissession", name)


def get(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_program_of_ones_own_computes_there(alice: Person, bob: Person, lab: str, shared_tenant: Tenant) -> None:
    done = alice.af("dask", lab, "--timeout", "200", "--", sys.executable, "-c", COMPUTES)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"sum 42 http://127\.0\.0\.1:\d+/[0-9a-f]{32}/status\n", done.stdout), done.stdout
    refused = bob.af("dask", lab, "--", "true")
    assert refused.returncode == 1
    assert f"the Dask scheduler of session {lab} is {alice.user}'s: Role {lab}-scheduler" in refused.stderr
    [pod] = shared_tenant.session(lab)["status"]["components"]["dask"]["pods"]["scheduler"]
    for person, may in ((alice, True), (bob, False)):
        assert person.may("get", f"secret/{lab}-scheduler") is may
        assert person.may("get", f"pod/{pod}", "--subresource=portforward") is may


@contextmanager
def dask(person: Person, name: str) -> Iterator[Mapping[str, Any]]:
    with af_opened(person, name, command="dask") as (_, at):
        yield at


def test_the_dashboard_is_there_for_who_was_told_its_address(alice: Person, lab: str) -> None:
    with dask(alice, lab) as at:
        code, page = get(at["dashboard"])
        assert (code, "bokeh" in page.lower()) == (200, True)
        port = at["dashboard"].split("/")[2]
        assert get(f"http://{port}/status")[0] == 404


def test_the_notebook_shows_it_and_the_pages_of_workers(alice: Person, lab: str, shared_tenant: Tenant) -> None:
    shared_tenant.wait_condition(lab, "Ready", seconds=200)
    host = f"{lab}-scheduler.{shared_tenant.namespace}.svc:8787"
    with af_opened(alice, lab) as (_, at):
        login, base = {"Authorization": f"token {at['token']}"}, f"{at['url']}proxy/{host}"
        code, page = get(f"{base}/status", **login)
        assert (code, "bokeh" in page.lower()) == (200, True)
        [worker] = json.loads(get(f"{base}/json/identity.json", **login)[1])["workers"].values()
        at_worker = f"proxy/{worker['services']['dashboard']}/{worker['host']}/status"
        assert get(f"{base}/{at_worker}", **login)[0] == 200
        assert get(f"{base}/status")[0] in (302, 403), "it is shown to anybody"
        assert get(f"{at['url']}proxy/{worker['host']}:{worker['services']['dashboard']}/status", **login)[0] == 403


SECRETS = {"notebook": "JUPYTER_TOKEN", "scheduler": "token", "inference": "token", "spark": "token"}
"""What of a session asks who is there: its Secret, and the key of the token in it."""


@pytest.mark.timeout(600)
def test_tokens_end_with_a_suspension(alice: Person, shared_tenant: Tenant) -> None:
    pools = {"pools": [{"name": "spark", "nodePool": "cpu", "size": "medium", "workers": {"min": 0, "max": 1}}]}
    models = {"models": [{"name": "dimuon"}]}
    spec = {"user": alice.user, "mode": "Interactive", "notebook": {}, "inference": models, "spark": pools}
    shared_tenant.apply("all", {**spec, "dask": {"pools": [{**DASK["pools"][0], "workers": {"min": 0, "max": 1}}]}})
    shared_tenant.wait_condition("all", "NotebookReady", seconds=240)
    before = tokens(shared_tenant)
    assert set(before) == set(SECRETS)
    cookie = cookie_of(alice)
    alice.af("suspend", "all")
    shared_tenant.wait_condition("all", "NotebookReady", "False", reason="Suspended")
    assert tokens(shared_tenant) == {}
    shared_tenant.kubectl("wait", "--for=delete", "pod/all-notebook-0", "--timeout=90s")
    alice.af("resume", "all")
    shared_tenant.wait_condition("all", "NotebookReady", seconds=240)
    with af_opened(alice, "all") as (_, at):
        contents = f"{at['url']}api/contents"
        assert get(contents, Authorization=f"token {at['token']}")[0] == 200
        for was in (
            {"Authorization": f"token {before['notebook']}"},
            {"Cookie": cookie.replace("PORT", str(at["port"]))},
        ):
            assert get(contents, **was)[0] == 403, was
    after = tokens(shared_tenant)
    assert {name for name in SECRETS if after[name] != before[name]} == set(SECRETS)


def tokens(tenant: Tenant) -> dict[str, str]:
    listed = json.loads(tenant.kubectl("get", "secrets", "-o", "json"))["items"]
    data = {secret["metadata"]["name"]: secret["data"] for secret in listed}
    return {name: data[f"all-{name}"][key] for name, key in SECRETS.items() if f"all-{name}" in data}


def cookie_of(person: Person) -> str:
    """Return the cookie of a browser that was logged in, PORT where the port is part of its name."""
    with af_opened(person, "all") as (_, at):
        with urllib.request.urlopen(at["lab"], timeout=60) as answer:  # noqa: S310 - ours, on loopback
            given = answer.headers.get_all("Set-Cookie") or ()
        login = next(each.partition(";")[0] for each in given if each.startswith("username"))
        assert get(f"{at['url']}api/contents", Cookie=login)[0] == 200, "it lets in"
        return login.replace(str(at["port"]), "PORT")
