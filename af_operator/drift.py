"""Whether an object differs from what is wanted, and what sets it right. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from af_operator.model import NETWORK_POLICY, Body

WHOLE = {"ConfigMap": ("data",), "Secret": ("data",), NETWORK_POLICY.kind: ("spec",)}
"""Parts, by kind, to which somebody may have added what we do not say: a file more in a pod, an address more that it
reaches. Elsewhere what is added is the API server's, or no business of ours."""


def needs_apply(desired: Body, live: Body | None) -> bool:
    """Return whether an apply would change anything: we want something else than last time, or it has drifted."""
    if live is None:
        return True
    if "deletionTimestamp" in live["metadata"]:
        return False  # its end brings us back, and then it is created anew
    return not _subset(desired, live) or any(_adds(live.get(part), desired[part]) for part in _whole(desired))


def overwriting(desired: Body, live: Body) -> Body:
    """Return what sets this very object right by a merge patch, where an apply did not: lists as a whole."""
    patch = {**desired, "metadata": desired["metadata"] | {"uid": live["metadata"]["uid"]}}
    return patch | {part: _replacing(desired[part], live.get(part)) for part in _whole(desired)}


def _whole(desired: Body) -> list[str]:
    return [part for part in WHOLE.get(desired.get("kind", ""), ()) if part in desired]


def _adds(live: Any, desired: Any) -> bool:
    """Return whether somebody says more than we do."""
    if isinstance(live, Mapping) and isinstance(desired, Mapping):
        return any(key not in desired or _adds(value, desired[key]) for key, value in live.items())
    if isinstance(live, list) and isinstance(desired, list):
        return any(map(_adds, live, desired))
    return False


def _replacing(desired: Any, live: Any) -> Any:
    """Return the merge patch that leaves nothing of what is there but what is wanted."""
    if not isinstance(desired, Mapping) or not isinstance(live, Mapping):
        return desired
    gone = dict.fromkeys(live.keys() - desired.keys())
    return gone | {key: _replacing(value, live.get(key)) for key, value in desired.items()}


def _subset(desired: Any, live: Any) -> bool:
    if desired == live:
        return True
    if isinstance(desired, dict) and isinstance(live, dict):
        return all(k in live and _subset(v, live[k]) for k, v in desired.items())
    if isinstance(desired, list) and isinstance(live, list):
        return len(desired) == len(live) and all(map(_subset, desired, live))
    return False
