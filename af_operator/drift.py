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
    wanted = {**desired, "metadata": desired["metadata"] | {"uid": live["metadata"]["uid"]}}
    added = _added(desired, live)
    return wanted | ({"data": desired["data"] | dict.fromkeys(added)} if added else {})


def _added(desired: Body, live: Body) -> set[str]:
    """Return the keys that somebody has added to the data of a ConfigMap or Secret: it is a file more in a pod."""
    return set(live.get("data") or ()) - set(desired["data"]) if "data" in desired else set()


def _subset(want: Any, have: Any) -> bool:
    if want == have:
        return True
    if isinstance(want, dict) and isinstance(have, dict):
        return all(k in have and _subset(v, have[k]) for k, v in want.items())
    if isinstance(want, list) and isinstance(have, list):
        return len(want) == len(have) and all(map(_subset, want, have))
    return False
