"""Strangers: pods that ask a session's ports for whatever they give, and what of it was not theirs to have."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import programs
from tests.support.ports import Port
from tests.support.tenant import ENVIRONMENT, Body, Tenant

# Not imported: they are for another image.
_FOLDER = Path(programs.__file__).parent
KNOCKS, ASKS, READS = ((_FOLDER / name).read_text() for name in ("knock.py", "stranger.py", "asks_a_cache.py"))
READER = """
umask 077; key=$(mktemp); trap 'rm "$key"' EXIT; cat > "$key"; unset XROOT_PROXY XRD_PLUGINCONFDIR
XRD_CONNECTIONRETRY=2 XRD_CONNECTIONWINDOW=10 XrdSecSSSKT="$key" python -c "$@"
"""
"""Asks the cache that is named, not the one that the pod may have of its own."""
SECONDS = 240.0
REFUSED = {"401", "403"}
NOTHING_THERE = {"404", "405", "501"}
"""No such path, no such method: nobody was let in to anything."""
UNLOCKED = {"UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED", "UNAVAILABLE", "DEADLINE_EXCEEDED"}
OPEN = {
    "GET /health",
    "GET /v2/health/live",
    "GET /v2/health/ready",
    "/inference.GRPCInferenceService/ServerLive",
    "/grpc.health.v1.Health/Check",
}
"""Whether a program lives, which the kubelet asks without a token."""


@dataclass(frozen=True)
class Found:
    """What came back of one probe.

    Attributes
    ----------
    said
        In the protocol's words; empty where nothing came.
    """

    stranger: str
    port: Port
    probe: str
    credential: str
    asked: str
    said: str

    @property
    def gained(self) -> bool:
        """Whether the stranger got anything but a refusal."""
        return bool(self.said) and JUDGES[self.probe](self)

    @property
    def heard(self) -> bool:
        """Whether what listens there answered in its own protocol, be it by a refusal."""
        # Dask refuses by its end of the handshake; whoever is not there gives another error.
        return bool(self.said) and (not self.said.startswith("error ") or "CommClosed" in self.said)

    @property
    def is_login(self) -> bool:
        """Whether HTTP sent the stranger to the page to log in."""
        return self.said.startswith("3") and self.said.split(" ", 2)[1].startswith("/hub/")

    def __str__(self) -> str:
        where = f"{self.port.component} {self.port.at}"
        return (
            f"{self.stranger} at {where}: {self.probe} {self.asked} [{self.credential or '-'}] -> {self.said[:160]!r}"
        )


def _http(found: Found) -> bool:
    status, location = [*found.said.split(" ", 2), ""][:2]
    method, _, path = found.asked.partition(" ")
    stem = found.port.path.rstrip("/")
    if status.startswith("3") and location == f"{path}/":
        return False  # Jetty's own way, before anything is asked
    if status.startswith("3") and stem:
        # To the login, or to the same path without its last slash: Jupyter's own way.
        return not location.startswith(("/hub/", f"{stem}/"))
    if f"{method} {path.removeprefix(stem)}" in OPEN | ({"GET /api"} if stem else set()):
        return status not in {"200", *REFUSED, *NOTHING_THERE}
    return status not in REFUSED | NOTHING_THERE and not found.said.startswith("error")


def _grpc(found: Found) -> bool:
    return found.said not in UNLOCKED and found.asked not in OPEN


def _spark(found: Found) -> bool:
    """Whoever shows no secret is asked for it; each other answer to an RPC comes of what was asked."""
    asked = ("Expected SaslMessage", "Unknown challenge message")
    return not any(words in found.said for words in asked) and not found.said.startswith("file refused")


JUDGES = {
    "connect": lambda _: False,
    # With a certificate that it does not know, or with none: all that speak TLS here want the session's.
    "tls": lambda found: found.said == "ok",
    "datagram": lambda _: True,
    "http": _http,
    "https": _http,
    "grpc": _grpc,
    "dask": lambda found: found.said.startswith("ok"),
    "xrootd": lambda found: found.asked != "login" and found.said.startswith("ok"),
    "spark": _spark,
}


@dataclass(frozen=True)
class Credentials:
    """What a stranger shows: tokens by name, and certificates by name, each with its parts in PEM."""

    tokens: Mapping[str, str] = field(default_factory=lambda: {"": ""}, repr=False)
    certificates: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Stranger:
    """A pod from which a session's ports are asked."""

    name: str
    tenant: Tenant
    pod: str

    def reach(self, ports: Sequence[Port]) -> list[Found]:
        """Try which ports can be reached at all."""
        return self._run(KNOCKS, ports, {})

    def ask(self, ports: Sequence[Port], shown: Credentials) -> list[Found]:
        """Return what comes of all probes."""
        certificates = {name: dict(parts) for name, parts in shown.certificates.items()}
        return self._run(ASKS, ports, {"tokens": dict(shown.tokens), "certificates": certificates})

    def read(self, cache: Port, key: str, path: str) -> list[str]:
        """Return what a cache does for who shows a key of XRootD's, or none."""
        command = ("sh", "-c", READER, "sh", READS, f"root://{cache.ip}:{cache.at}/", path)
        found: list[str] = json.loads(self._exec(command, key))
        return found

    def _run(self, program: str, ports: Sequence[Port], given: Mapping[str, Any]) -> list[Found]:
        by = {(port.pod, port.at, port.udp): port for port in ports}
        text = json.dumps({"targets": [port.target() for port in ports], **given})
        answers = json.loads(self._exec(("python", "-c", program), text))
        return [Found(self.name, by[e.pop("pod"), e.pop("port"), e.pop("udp")], **e) for e in answers]

    def _exec(self, command: Sequence[str], text: str) -> str:
        """Return the last line of what a command prints in the pod."""
        argv = ["kubectl", "-n", self.tenant.namespace, "exec", "-i", self.pod, "--", *command]
        done = subprocess.run(
            argv, input=text, env=ENVIRONMENT, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert done.returncode == 0, f"{self.name}: {done.stderr[-3000:]}"
        return done.stdout.splitlines()[-1]


def pod(name: str, image: str, labels: Mapping[str, str] | None = None) -> Body:
    """Return a pod without any right, which waits to be told what to do."""
    restricted = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {
        "name": "stranger",
        "image": image,
        "command": ["sleep", "3600"],
        "resources": {"requests": {"cpu": "10m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": restricted,
        "containers": [container],
    }
    metadata = {"name": name, "labels": dict(labels or {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def reached(found: Iterable[Found]) -> list[Found]:
    """Return the ports that a stranger got a connection to, or an answer from."""
    return [f for f in found if f.said == "connected" or (f.probe == "datagram" and f.said)]


def gained(found: Iterable[Found]) -> list[Found]:
    """Return what was not refused."""
    return [f for f in found if f.gained]
