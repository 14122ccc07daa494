"""Whether the cluster's network enforces NetworkPolicies, as the installation has found out: told to admins.

``network_probe`` tries it, in a Job of the chart's, and leaves what it has found in a ConfigMap. Nothing here decides
anything by it: sessions get their policies in any case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import structlog
from prometheus_client import Gauge

from af_kube.connection import Transport, call
from af_kube.errors import HttpError, KubeError
from af_kube.request import Request
from af_names import plain
from af_operator.model import Body
from af_operator.status import since

CONFIG_MAP = "af-operator-network"
CONDITION = "NetworkEnforced"
LOOK_SECONDS = 60.0
MAX_MESSAGE = 1000
"""Characters of a finding that are told on."""
Answer = Literal["true", "false", "unknown"]
SAID = {"true": ("True", "Enforced"), "false": ("False", "NotEnforced"), "unknown": ("Unknown", "NotFoundOut")}
"""The answer as a condition has it: status and reason."""
NUMBERS = {"true": 1.0, "false": 0.0, "unknown": float("nan")}
ENFORCED = Gauge(
    "af_operator_network_policies_enforced",
    "Whether the cluster's network enforces NetworkPolicies: 1 or 0, and NaN where that is not known",
)
ENFORCED.set(NUMBERS["unknown"])  # also in a replica that waits for its Lease, and does not look
log = structlog.get_logger()


@dataclass(frozen=True)
class Finding:
    """What was found out, and in words why it is that."""

    enforced: Answer
    message: str


NOT_TRIED = Finding(
    "unknown",
    "whether this cluster's network enforces NetworkPolicies was not tried yet: a Job of the release does, if it can "
    f"run; kubectl get jobs,pods --all-namespaces -l app.kubernetes.io/name={CONFIG_MAP}",
)


def read(config_map: Mapping[str, Any]) -> Finding:
    """Return what a ConfigMap says; until the Job has ended it says nothing."""
    data = config_map.get("data") or {}
    answer: Any = data.get("enforced")
    if answer not in SAID:
        return NOT_TRIED
    return Finding(answer, plain.line(str(data.get("message", "")))[:MAX_MESSAGE])


def condition(finding: Finding, before: Iterable[Body], now: datetime) -> dict[str, Any]:
    """Return the finding as a condition; `before` are those that the object has."""
    status, reason = SAID[finding.enforced]
    told = {"status": status, "reason": reason, "message": finding.message}
    return {"type": CONDITION, **told, "lastTransitionTime": since(CONDITION, status, before, now)}


class Enforcement:
    """Looks at the ConfigMap each minute: a watch would cost more than it tells, for it changes with an upgrade.

    Parameters
    ----------
    namespace
        The operator's own.
    changed
        Called when another thing was found out than before.
    """

    def __init__(self, api: Transport, namespace: str, changed: Callable[[], None]) -> None:
        self.finding: Finding | None = None
        """None: it could not be read yet, and what was told before stays."""
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/configmaps/{CONFIG_MAP}"
        self._changed = changed

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Read the ConfigMap; where that fails all stays as it is."""
        try:
            found = read(await call(self._api, Request("GET", self._path)))
        except HttpError as error:
            if error.status not in (403, 404):
                return
            found = NOT_TRIED  # the chart has made none, or not for this operator
        except KubeError:
            return
        if found != self.finding:
            self.finding = found
            self._tell(found)
            self._changed()

    @staticmethod
    def _tell(found: Finding) -> None:
        ENFORCED.set(NUMBERS[found.enforced])
        say = log.info if found.enforced == "true" else log.warning
        say("NetworkPolicies of this cluster", enforced=found.enforced, message=found.message)
