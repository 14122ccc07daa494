"""Pods that a Job or a StatefulSet should have and has not, and why. Pure.

Their controllers say only in Events what the API server answers them. So it is asked the same, in a dry run: a quota, a
LimitRange, Pod Security and policies answer in the same words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from af_operator.components._shared import pod_reasons, untrusted
from af_operator.components._shared.pod_reasons import Reason
from af_operator.model import Body, Manifest
from af_operator.observed import Observed, Settled
from af_operator.render import render

PATIENCE = timedelta(seconds=5)
"""A controller makes a pod within a moment, if it may."""


def tried(name: str, maker: Body, since: Any, observed: Settled) -> Iterator[Manifest]:
    """Yield the pod of a name, to be tried, where it is missing for longer than it should.

    Parameters
    ----------
    maker
        Whose pod it is: it has a template.
    since
        When that was asked for one, as Kubernetes writes it.
    """
    due = due_at(since)
    if due is not None and observed.now >= due and _batch(name) not in observed.refused:
        template = maker["spec"]["template"]
        labels = template["metadata"]["labels"]
        pod = render(__package__, "worker", name=name, labels=labels, pod=template["spec"])
        yield replace(pod, batch=_batch(name), tried=True)


def due_at(since: Any) -> datetime | None:
    """Return when a pod should be there that was asked for then; None where that is not known."""
    begun = untrusted.time_of(since)
    return begun + PATIENCE if begun else None


def why(name: str, called: str, observed: Observed) -> Reason:
    """Return why a pod is missing; `called` is what people call what is in it."""
    refused = observed.refused.get(_batch(name))
    if refused is None:
        return Reason("PodMissing", f"{called} has no pod yet")
    reason, message = pod_reasons.refused_pod(refused.reason, refused.message)
    return Reason(reason, f"{called} has no pod: {message}")


def _batch(name: str) -> str:
    return f"pod {name}"
