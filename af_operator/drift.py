"""Whether an object differs from what is wanted, and what sets it right. Pure."""

from __future__ import annotations

from typing import Any

from af_operator.model import Body


def needs_apply(desired: Body, live: Body | None) -> bool:
    """Return whether an apply would change anything: we want something else than last time, or it has drifted."""
    if live is None:
        return True
    if "deletionTimestamp" in live["metadata"]:
        return False  # its end brings us back, and then it is created anew
    return not _subset(desired, live) or bool(_added(desired, live))


def overwriting(desired: Body, live: Body) -> Body:
    """Return what sets this very object right by a merge patch, where an apply did not: lists as a whole."""
    patch = {**desired, "metadata": desired["metadata"] | {"uid": live["metadata"]["uid"]}}
    added = _added(desired, live)
    return patch | ({"data": desired["data"] | dict.fromkeys(added)} if added else {})


def _added(desired: Body, live: Body) -> set[str]:
    """Return the keys that somebody has added to the data of a ConfigMap or Secret: it is a file more in a pod."""
    return set(live.get("data") or ()) - set(desired["data"]) if "data" in desired else set()


def _subset(desired: Any, live: Any) -> bool:
    if desired == live:
        return True
    if isinstance(desired, dict) and isinstance(live, dict):
        return all(k in live and _subset(v, live[k]) for k, v in desired.items())
    if isinstance(desired, list) and isinstance(live, list):
        return len(desired) == len(live) and all(map(_subset, desired, live))
    return False
