"""JupyterHub goes, its database goes, the operator goes, a session goes: what runs lives on, and is found again."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import requests
from jupyterhub import __version__

from local_cluster.settings import CHECKOUT
from tests.support import operator_pod
from tests.support.hub_api import HubUser
from tests.support.hub_place import Hub, hub_pod, kill_hub, lives, replace_hub, sessions_of
from tests.support.operator_pod import system
from tests.support.tenant import Body, Tenant, kubectl, poll

SERVER = "lab"
FILE = "/srv/jupyterhub/jupyterhub.sqlite"
DATABASE = f"import os; os.unlink('{FILE}')"
OLDER = CHECKOUT / "tests" / "unit" / "hub_databases" / "jupyterhub-5.3.0.sql"
ADOPTED_SECONDS = 90
"""The operator asks the Hub every 15 s what it shows, and once a minute for a user whom it did not know."""


@dataclass(frozen=True)
class Running:
    """A user's server with a kernel that knows something, and the pods as they were."""

    user: HubUser
    kernel: str
    session: str
    lives: dict[str, tuple[str, int]]

    @classmethod
    def begin(cls, user: HubUser, tenant: Tenant) -> Running:
        """Start a server, and tell a kernel of it something."""
        user.launch(SERVER, {"size": "small"})
        user.ready(SERVER)
        kernel = user.kernel(SERVER)
        user.run(SERVER, kernel, "x = 42")
        [session] = sessions_of(tenant, user.name)
        name = str(session["metadata"]["name"])
        return cls(user, kernel, name, lives(tenant, name))

    def lives_on(self, tenant: Tenant, user: HubUser | None = None) -> None:
        """Nothing was restarted, the Hub shows the server, and the kernel still knows."""
        assert self.lives
        assert lives(tenant, self.session) == self.lives
        user = user or self.user
        user.ready(SERVER, ADOPTED_SECONDS)
        assert user.run(SERVER, self.kernel, "print(x)").strip() == "42"
        assert lives(tenant, self.session) == self.lives


@pytest.fixture(scope="module")
def two(hub: Hub, physics: Tenant) -> Iterator[list[Running]]:
    """Two people at work."""
    with hub.users(physics, "ada", "ben") as people, ThreadPoolExecutor() as pool:
        yield list(pool.map(lambda user: Running.begin(user, physics), people))


@pytest.mark.alone  # they stop the Hub, the next one loses its database
@pytest.mark.parametrize("end", [replace_hub, kill_hub])
def test_the_hub_dies(two: list[Running], hub: Hub, physics: Tenant, end: Callable[[], None]) -> None:
    end()
    poll(hub.answers, "JupyterHub answers again")
    for running in two:
        running.lives_on(physics)


@pytest.mark.alone
def test_the_database_is_lost(two: list[Running], hub: Hub, physics: Tenant) -> None:
    kill_hub(DATABASE)
    poll(hub.answers, "JupyterHub answers again")
    forgotten = two[0].user.hub("GET", "")
    assert forgotten.status_code in (403, 404), "the database is not lost"
    # Whoever comes back is known again; their session is in the list without a hand of theirs.
    for running, again in [(running, hub.login(running.user.name)) for running in two]:
        poll(lambda user=again: user.server(SERVER), f"{again.name} finds the server", ADOPTED_SECONDS)
        running.lives_on(physics, again)
        again.stop(SERVER)
        assert sessions_of(physics, again.name)[0]["spec"]["suspend"] is True, "it is the Hub's again"


@pytest.fixture
def eve(hub: Hub, physics: Tenant) -> Iterator[HubUser]:
    with hub.users(physics, "eve") as [user]:
        yield user


@pytest.mark.alone
def test_the_database_of_an_older_hub_is_upgraded_when_it_starts(eve: HubUser, hub: Hub, physics: Tenant) -> None:
    eve.launch(SERVER, {"size": "small"})
    eve.ready(SERVER)
    older = f"import sqlite3; sqlite3.connect('{FILE}').executescript({OLDER.read_text()!r})"
    kill_hub(f"{DATABASE}; {older}")
    poll(hub.answers, "JupyterHub answers again")
    pod = f"pod/{hub_pod()['metadata']['name']}"
    assert f"{FILE} is of an older JupyterHub: upgrading it" in system("logs", pod)
    assert f"{FILE}.before-{__version__}" in system("exec", pod, "--", "sh", "-c", f"ls {FILE}*").split()
    again = hub.login("eve")
    poll(lambda: again.server(SERVER), "she finds her server in it", ADOPTED_SECONDS)
    again.ready(SERVER)
    assert again.notebook("GET", SERVER, "api/status")["kernels"] == 0


@contextmanager
def operator_away() -> Iterator[None]:
    operator_pod.scale(0)
    try:
        yield
    finally:
        operator_pod.scale(1)


@pytest.mark.alone  # it takes the operator away
def test_the_operator_is_away_while_somebody_launches(eve: HubUser, hub: Hub) -> None:
    with operator_away():
        eve.launch(SERVER, {"size": "small"})
        said: list[str] = []
        for event in eve.progress(SERVER):
            said.append(str(event["message"]))
            if "operator has not answered" in said[-1]:
                break
        assert "Your request is kept" in said[-1], said
        assert hub.answers()
        assert eve.server(SERVER)["pending"] == "spawn"
    eve.ready(SERVER)
    print(*said, sep="\n")


def test_a_session_is_deleted_under_the_hub(eve: HubUser, physics: Tenant) -> None:
    eve.launch(SERVER, {"size": "small"})
    eve.ready(SERVER)
    [session] = sessions_of(physics, eve.name)
    physics.kubectl("delete", "analysissession", session["metadata"]["name"], "--wait=false")
    begin = time.monotonic()
    poll(lambda: eve.server(SERVER)["stopped"], "the server is shown as stopped", 5)
    print(f"shown as stopped after {time.monotonic() - begin:.1f} s")
    assert not eve.server(SERVER)["pending"]


def test_names_that_are_no_names_of_objects(hub: Hub, physics: Tenant) -> None:
    with pytest.raises(AssertionError, match="cannot log in: 403"):
        hub.login("../admin")  # JupyterHub itself lets no slash in, but everything that is not yet one
    ugly = ["..%2fadmin", "u" * 200, "u" * 199 + "v", "Zoë O'Neil@example.org".lower()]
    with hub.users(physics, *ugly) as people, ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda user: _come_up(user, physics), people))
        names = {body["metadata"]["name"] for body in found}
        assert len(names) == len(ugly)
        assert all(len(name) <= 63 and re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) for name in names), names
        homes = {name: _home(physics, name) for name in names}
        assert len(set(homes.values())) == len(ugly), homes


def _come_up(user: HubUser, tenant: Tenant) -> Body:
    user.launch(SERVER, {"size": "small"})
    user.ready(SERVER, 180)
    assert user.notebook("GET", SERVER, "api/status")["kernels"] == 0
    [session] = sessions_of(tenant, user.name)
    return session


def _home(tenant: Tenant, session: str) -> str:
    path = "jsonpath={.items[0].spec.volumes[*].persistentVolumeClaim.claimName}"
    return tenant.kubectl("get", "pods", "-l", f"analysisfacility.io/session={session}", "-o", path)


def test_nobody_gets_at_what_is_another_users(eve: HubUser, hub: Hub, physics: Tenant) -> None:
    eve.launch(SERVER, {"size": "small"})
    eve.ready(SERVER)
    [session] = sessions_of(physics, eve.name)
    with hub.users(physics, "mallory") as [mallory]:
        theirs = eve.path(SERVER, "api/contents")
        assert eve.ask("GET", theirs).status_code == 200
        assert mallory.ask("GET", theirs).status_code == 403
        assert requests.get(hub.base + theirs, timeout=10).status_code == 403
        page = mallory.browser.get(hub.base + eve.path(SERVER, "lab"), timeout=10)
        assert page.status_code == 403, "the login of another user is worth nothing here"
        for method, path in (("GET", ""), ("POST", f"/servers/{SERVER}"), ("DELETE", f"/servers/{SERVER}")):
            answer = mallory.ask(method, f"/hub/api/users/{eve.name}{path}")
            assert answer.status_code in (403, 404), f"{method} {path}: {answer.status_code}"
        _nor_in_kubernetes(physics, session["metadata"]["name"])
    assert eve.server(SERVER)["ready"]


def _nor_in_kubernetes(tenant: Tenant, session: str) -> None:
    """`bob` may make sessions in this namespace, as every user of it."""
    secrets = json.loads(tenant.kubectl("get", "secrets", "-o", "json"))["items"]
    names = {s["metadata"]["name"] for s in secrets if _belongs(s, session)}
    assert names == {f"{session}-notebook", f"{session}-hub"}
    for what in (
        *(("get", f"secret/{name}") for name in names),
        ("create", f"pods/{session}-notebook-0", "--subresource=portforward"),
    ):
        said = tenant.kubectl("auth", "can-i", *what, "--as=bob", check=False)
        assert said.splitlines()[-1] == "no", f"{what}: {said}"
    spec = {"user": "eve", "mode": "Interactive", "notebook": {}}
    body = {"apiVersion": "analysisfacility.io/v1alpha1", "kind": "AnalysisSession", "spec": spec}
    body["metadata"] = {"name": "of-another"}
    said = tenant.kubectl("create", "-f", "-", "--as=bob", stdin=json.dumps(body), check=False)
    assert "forbidden" in said.lower(), said
    assert (
        kubectl("auth", "can-i", "list", "analysissessions", "-n", "default", "--as=bob", check=False)
        .strip()
        .endswith("no")
    )


def _belongs(secret: Body, session: str) -> bool:
    return any(owner["name"] == session for owner in secret["metadata"].get("ownerReferences", ()))


def test_the_hubs_own_rights_are_the_listed_ones() -> None:
    said = kubectl("auth", "can-i", "--list", "-n", "physics", "--as=system:serviceaccount:af-system:hub")
    rows = [re.split(r"\s{2,}", line.strip()) for line in said.splitlines()[1:]]
    rights = [(row[0], row[2].strip("[]"), sorted(row[3].strip("[]").split())) for row in rows if len(row) == 4]
    ours = {resource: verbs for resource, named, verbs in rights if not named and "selfsubject" not in resource}
    sessions = ["create", "delete", "get", "impersonate", "list", "manage", "patch", "watch"]
    assert ours == {
        "analysissessions.analysisfacility.io": sessions,
        "analysisprofiles.analysisfacility.io": ["get", "list", "use", "watch"],
        "secrets": ["create", "delete"],
    }
    # The Roles of notebooks that are there now name their Secrets, and pods; no port is forwarded to it, by a policy.
    more = {(resource, *verbs) for resource, named, verbs in rights if named}
    assert more <= {("secrets", "get"), ("pods/portforward", "create", "get")}
