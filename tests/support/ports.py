"""What the pods of a session listen on, as their kernel says it: a new port is there without anyone telling of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.tenant import Body, kubectl

TABLES = ("tcp", "tcp6", "udp", "udp6")
LISTENS, UNCONNECTED = "0A", "07"
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
BASE_URL = "AF_BASE_URL"
"""Variable of a notebook: the path under which its server stands."""
EPHEMERAL = 32768
"""From here on the kernel gives ports to who asks for any."""


@dataclass(frozen=True)
class Port:
    """A port that others than the pod itself can reach.

    Attributes
    ----------
    component
        The session's component whose pod it is, with the pod's role where it has one: ``dask worker``.
    at
        The number, in this pod.
    path
        Under which a server stands, if not at the root.
    """

    pod: str
    component: str
    ip: str
    at: int
    udp: bool
    path: str = ""

    @property
    def number(self) -> int:
        """The port by which it is known, or 0."""
        return self.at if self.at < EPHEMERAL else 0

    def target(self) -> dict[str, Any]:
        """Return it for the program that asks."""
        paths = sorted({"", self.path.rstrip("/")})
        return {"pod": self.pod, "ip": self.ip, "port": self.at, "udp": self.udp, "paths": paths}


def pods(namespace: str, *selector: str) -> list[Body]:
    """Return pods, but for those that go."""
    found = json.loads(kubectl("-n", namespace, "get", "pods", "-o", "json", *selector))["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def of_session(namespace: str, session: str) -> list[Body]:
    """Return the pods of a session."""
    return pods(namespace, "--selector", f"analysisfacility.io/session={session}")


def listening(pods: Iterable[Body]) -> list[Port]:
    """Return every port of pods that are ready which is not on loopback."""
    return [port for pod in pods if _ready(pod) for port in _of_pod(pod)]


def _ready(pod: Body) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


def _of_pod(pod: Body) -> Iterator[Port]:
    meta = pod["metadata"]
    path = next((v["value"] for c in pod["spec"]["containers"] for v in c.get("env", ()) if v["name"] == BASE_URL), "")
    # All containers of a pod have one network: whichever is asked knows all of it.
    tables = (f"/proc/net/{table}" for table in TABLES)
    text = kubectl("-n", meta["namespace"], "exec", meta["name"], "--", "cat", *tables)
    for at, udp in sorted(_numbers(text)):
        yield Port(meta["name"], _component(meta["labels"]), pod["status"]["podIP"], at, udp, path)


def _component(labels: Mapping[str, str]) -> str:
    role = labels.get("analysisfacility.io/role") or labels.get("dask.org/component", "")
    name = labels.get("analysisfacility.io/component") or labels["app.kubernetes.io/name"]
    return f"{name} {role}".strip()


def _numbers(text: str) -> set[tuple[int, bool]]:
    """Return (port, whether UDP) of who listens, from the kernel's tables one after the other."""
    found, udp = set(), False
    for words in map(str.split, text.splitlines()):
        if words[0] == "sl":
            udp = "ref" in words  # which only UDP's tables have
            continue
        address, _, port = words[1].partition(":")
        if words[3] == (UNCONNECTED if udp else LISTENS) and address not in LOOPBACK:
            found.add((int(port, 16), udp))
    return found
