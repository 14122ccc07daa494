"""The demo's JupyterHub in the cluster: its pod, and what its users leave behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from signal import Signals

import requests

from local_cluster.facility import SYSTEM_NAMESPACE
from tests.support import signals
from tests.support.hub_api import HubUser
from tests.support.operator_pod import system
from tests.support.tenant import Body, Tenant, poll

SESSIONS = "analysissessions.analysisfacility.io"
HUB = "app.kubernetes.io/name=hub"


@dataclass(frozen=True)
class Hub:
    """JupyterHub as users outside see it."""

    base: str
    password: str = field(repr=False)

    def login(self, name: str) -> HubUser:
        """Log somebody in."""
        return HubUser.login(self.base, name, self.password)

    def answers(self) -> bool:
        """Return whether the Hub is there, seen through the proxy."""
        try:
            return requests.get(f"{self.base}/hub/health", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    @contextmanager
    def users(self, tenant: Tenant, *names: str) -> Iterator[list[HubUser]]:
        """Log people in who have nothing yet; afterwards nothing of them is left, their homes included."""
        people = [self.login(name) for name in names]
        clear(tenant, people)
        try:
            yield people
        finally:
            clear(tenant, [self.login(name) for name in names])  # anew: a test may have lost the Hub's database


def hub_pod() -> Body:
    """Return the Hub's pod, the one that nobody has asked to go."""

    def alone() -> Body:
        found = json.loads(system("get", "pods", "-l", HUB, "-o", "json"))["items"]
        left = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
        return left[0] if len(left) == 1 else {}

    return poll(alone, "one pod of JupyterHub")


def sessions_of(tenant: Tenant, *users: str) -> list[Body]:
    """Return the sessions of these users."""
    found = json.loads(tenant.kubectl("get", SESSIONS, "-o", "json"))["items"]
    return [body for body in found if body["spec"]["user"] in users]


def clear(tenant: Tenant, people: list[HubUser]) -> None:
    """Delete servers, sessions and homes of these users, and wait for it: what comes next has nothing of them."""
    names = [user.name for user in people]
    if found := [body["metadata"]["name"] for body in sessions_of(tenant, *names)]:
        tenant.kubectl("delete", SESSIONS, *found, "--cascade=foreground")
    for user in people:
        user.forget_servers()
    homes = json.loads(tenant.kubectl("get", "pvc", "-l", "analysisfacility.io/user", "-o", "json"))["items"]
    if ours := [pvc["metadata"]["name"] for pvc in homes if _owner(pvc) in names]:
        tenant.kubectl("delete", "pvc", *ours)


def _owner(home: Body) -> str:
    return str(home["metadata"].get("annotations", {}).get("analysisfacility.io/user", ""))


def kill_hub(program: str = "") -> None:
    """Let the Hub's process die by SIGKILL where it is, after `program` has run there; wait for the next one."""
    name = hub_pod()["metadata"]["name"]
    before = restarts(name)
    if program:
        system("exec", name, "--", "python", "-c", program)
    signals.send(SYSTEM_NAMESPACE, name, "jupyterhub", Signals.SIGKILL)
    poll(lambda: restarts(name) == before + 1, "the Hub's container is started again")


def replace_hub() -> None:
    """Delete the Hub's pod; wait until there is another one."""
    old = hub_pod()["metadata"]["name"]
    system("delete", "pod", old, "--wait=false")
    poll(lambda: hub_pod()["metadata"]["name"] != old, "another pod of JupyterHub")


def restarts(name: str) -> int:
    """Return how often the Hub's container in this pod was started again."""
    pod = hub_pod()
    assert pod["metadata"]["name"] == name, "the Hub's pod has been replaced"
    return int(pod["status"]["containerStatuses"][0]["restartCount"])


def lives(tenant: Tenant, *sessions: str) -> dict[str, tuple[str, int]]:
    """Return uid and number of restarts of each pod of these sessions: one that lives on changes neither."""
    chosen = f"analysisfacility.io/session in ({','.join(sessions)})"
    pods = json.loads(tenant.kubectl("get", "pods", "-l", chosen, "-o", "json"))["items"]
    return {
        pod["metadata"]["name"]: (
            pod["metadata"]["uid"],
            sum(c["restartCount"] for c in pod["status"].get("containerStatuses", ())),
        )
        for pod in pods
    }
