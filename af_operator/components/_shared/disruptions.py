"""Whether a pod was taken away from the program in it, by the cluster or by somebody, and how: in words. Pure.

An eviction, a drain, a preemption, a lost node and a deletion are no fault of the program. What a pod uses over its own
limits is: made anew, it would be evicted ever again.
"""

from __future__ import annotations

import re
from datetime import timedelta

from af_operator.components._shared import untrusted
from af_operator.model import Body

OWN_LIMIT = re.compile(r"exceeds the (total )?limit|exceeded its local ephemeral storage limit")
"""What the kubelet says where it evicts a pod for what this has used over its own limit, on whatever node."""
BY_KUBELET = "TerminationByKubelet"
KINDS = {
    "EvictionByEvictionAPI": "evicted through the API, as when its node is drained",
    "PreemptionByScheduler": "preempted by a pod of higher priority",
    "DeletionByTaintManager": "evicted from its node, which was lost or tainted",
    "DeletionByPodGC": "its node was lost",
}
DELETED = "its pod was deleted"
_LOW = re.compile(r"[Tt]he node was low on resource: ([-a-z]+)")
MAX_WORDS = 300


def words(pod: Body) -> str | None:
    """Return what took a pod away from its program; None where nothing has, or it was over its own limit."""
    status = pod.get("status", {})
    if over_its_limit(pod):
        return None
    target: Body = next((c for c in status.get("conditions", ()) if c["type"] == "DisruptionTarget"), {})
    if target.get("status") == "True":
        return _of_target(target, status)
    if status.get("phase") == "Failed" and status.get("reason") and not status.get("containerStatuses"):
        return f"its node did not take it ({_cut(status['reason'], status.get('message'))})"
    return DELETED if _deleted_before_its_end(pod) else None


def over_its_limit(pod: Body) -> bool:
    """Return whether the kubelet has evicted a pod for what it used over its own limits."""
    status = pod.get("status", {})
    return status.get("reason") == "Evicted" and bool(OWN_LIMIT.search(status.get("message", "")))


def _of_target(target: Body, status: Body) -> str:
    reason = target.get("reason", "")
    if reason != BY_KUBELET:
        return KINDS.get(reason) or _cut(reason, target.get("message"))
    message = status.get("message") or target.get("message") or ""
    low = _LOW.search(message)
    return f"evicted: its node was low on {low.group(1)}" if low else f"ended by its node ({_cut('', message)})"


def _deleted_before_its_end(pod: Body) -> bool:
    """Return whether somebody had asked the pod to go when its program ended, or still runs."""
    metadata = pod["metadata"]
    due = untrusted.time_of(metadata.get("deletionTimestamp"))
    if "deletionTimestamp" not in metadata:
        return False
    statuses = pod.get("status", {}).get("containerStatuses", ())
    ends = [untrusted.time_of(s.get("state", {}).get("terminated", {}).get("finishedAt")) for s in statuses]
    if due is None or not ends or None in ends:
        return True
    asked = due - timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0)
    return any(end >= asked for end in ends if end)


def _cut(reason: str, message: str | None) -> str:
    return ": ".join(filter(None, [reason, (message or "").strip().rstrip(".")]))[:MAX_WORDS]
