"""The chart on a real cluster, and the accounts that its tests act as."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from local_cluster.api import Kubectl
from local_cluster.errors import ClusterError

LABEL = "analysisfacility.io/session-uid"
USER = "analysisfacility.io/user"


def account(namespace: str, name: str) -> tuple[str, ...]:
    """Return what makes kubectl act as a service account."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return (f"--as=system:serviceaccount:{namespace}:{name}", *(f"--as-group={group}" for group in groups))


def create(kubectl: Kubectl, who: tuple[str, ...], body: dict[str, Any]) -> None:
    """Have the server judge the creation of an object, without creating it."""
    kubectl("create", "--dry-run=server", "--filename=-", *who, stdin=yaml.safe_dump(body))


def answer(ask: Callable[[], object]) -> str:
    """Return the server's words if it refuses, else nothing: for what is refused only after a while."""
    try:
        ask()
    except ClusterError as error:
        return str(error)
    return ""


def refused(ask: Callable[[], object]) -> str:
    """Return the server's words; it must refuse."""
    with pytest.raises(ClusterError) as refusal:
        ask()
    return str(refusal.value)


def until(what: str, check: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition; an error of kubectl counts as not yet."""
    deadline, last = time.monotonic() + seconds, ""
    while time.monotonic() < deadline:
        try:
            if check():
                return
        except ClusterError as error:
            last = str(error)
        time.sleep(0.3)
    pytest.fail(f"after {seconds:.0f} s still not: {what}. {last}")


def restricted_pod(image: str, command: list[str], env: dict[str, str] | None = None) -> dict[str, Any]:
    """Return a pod spec that Pod Security `restricted` lets in."""
    container = {
        "name": "main",
        "image": image,
        "command": command,
        "env": [{"name": name, "value": value} for name, value in (env or {}).items()],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    pod = {"containers": [container], "securityContext": security, "terminationGracePeriodSeconds": 5}
    return pod | {"automountServiceAccountToken": False}
