"""Which pods of a component have something in their logs, by what they are in it: for `af logs`. Pure.

Users may read logs and list no pods, for a pod's spec shows more than its log: so a status says what they are called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from af_operator import names
from af_operator.components._shared import pod_reasons
from af_operator.model import Body, label_of

MOST = 16
"""Pods of one role or pool. Those that are not ready come first: theirs are the logs that are asked for."""


def with_logs(component: str, pods: Sequence[Body]) -> Mapping[str, list[str]]:
    """Return the names of the pods of which a program has begun, by pool, else by role, else under the component's."""

    def place(pod: Body) -> str:
        role = label_of(pod, names.ROLE) or label_of(pod, "dask.org/component")
        return label_of(pod, names.POOL) or role or component

    begun = sorted(filter(_has_begun, pods), key=lambda pod: (place(pod), pod_reasons.is_ready(pod), _name(pod)))
    return {key: sorted(map(_name, list(found)[:MOST])) for key, found in groupby(begun, place)}


def _name(pod: Body) -> str:
    return str(pod["metadata"]["name"])


def _has_begun(pod: Body) -> bool:
    states = (state for status in pod_reasons.container_statuses(pod) for state in _states(status))
    return any("running" in state or "terminated" in state for state in states)


def _states(status: Body) -> tuple[Body, Body]:
    return status.get("state") or {}, status.get("lastState") or {}
