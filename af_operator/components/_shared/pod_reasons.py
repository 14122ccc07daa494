"""Why a pod is not ready, in the words of whoever knows it best. Pure, from the pod alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from af_operator import names
from af_operator.components._shared import disk_usage, disruptions
from af_operator.components._shared.untrusted import time_of
from af_operator.model import Body, label_of

MAX_LINE = 300
MAX_WORDS = 4096
"""A registry says in as many words as it likes why it gives no image."""


class Reason(NamedTuple):
    """A CamelCase constant and a sentence."""

    reason: str
    message: str


STARTING = "Starting"
OOM = "OOMKilled"
_IMAGE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
_QUIET = {"ContainerCreating", "PodInitializing", ""}
# What the runtime and the scheduler say around what matters: which of their own steps failed, and what cannot help.
_RUNTIME = re.compile(r"^failed to create containerd task: .*?(?=exec: )|(?<=in \$PATH): unknown$")
_PULL = re.compile(
    r'^Back-off pulling image "[^"]*"(: ErrImagePull)?:? ?|rpc error: code = \w+ desc = |failed to [a-z ]+ "[^"]*": '
)
_PREEMPTION = re.compile(r"[.,] (no new claims to deallocate|preemption:).*")


def is_ready(pod: Body) -> bool:
    """Return whether the pod's Ready condition is true and nobody has asked it to go."""
    return "deletionTimestamp" not in pod["metadata"] and _condition(pod, "Ready").get("status") == "True"


def runs(pod: Body) -> bool:
    """Return whether any container of a pod is running."""
    return bool(pod.get("status", {}).get("phase") == "Running")


def is_over(pod: Body) -> bool:
    """Return whether a pod has ended for good, well or not."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def why(pod: Body) -> Reason:
    """Return why a pod is not ready; ``Starting`` when nothing is wrong yet."""
    trouble = next(_troubles(pod), None)
    return trouble or Reason(STARTING, f"pod {pod['metadata']['name']} is starting")


def silent_since(pod: Body) -> datetime | None:
    """Return since when a pod that was ready does not answer its probe, though all its containers run."""
    ready, statuses = _condition(pod, "Ready"), pod.get("status", {}).get("containerStatuses", ())
    if "deletionTimestamp" in pod["metadata"] or ready.get("status") != "False" or "lastTransitionTime" not in ready:
        return None
    started = [time_of(s["state"]["running"].get("startedAt")) for s in statuses if "running" in s.get("state", {})]
    times, since = [time for time in started if time], time_of(ready["lastTransitionTime"])
    # One that starts is not ready since before its containers ran.
    was_ready = len(times) == len(statuses) and since is not None and since > max(times, default=since)
    return since if was_ready else None


def worst(pods: Iterable[Body]) -> Reason | None:
    """Return the first real trouble among pods, or None when all are ready or just starting."""
    reasons = (why(pod) for pod in pods if not is_ready(pod))
    return next((r for r in reasons if r.reason != STARTING), None)


def deployment_refused(deployment: Body) -> Reason | None:
    """Return why a Deployment's pods do not even exist: quota, or an admission policy."""
    for condition in deployment.get("status", {}).get("conditions", ()):
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return refused_pod(condition.get("reason", "FailedCreate"), condition.get("message", "pods are refused"))
    return None


def no_pod(deployment: Body, program: str) -> Reason:
    """Return why a Deployment has no pod, before there is any; `program` is what people call it."""
    refused = deployment_refused(deployment)
    message = f"{program}: {refused.message if refused else 'no pod yet'}"
    return Reason(refused.reason if refused else STARTING, message)


def refused_pod(reason: str, message: str) -> Reason:
    """Return why a pod does not exist, without its name: it is another one in each try."""
    cause = " ".join(re.sub(r'^(Error creating: )?pods "[^"]*" is forbidden: ', "", message).split())
    return Reason("QuotaExceeded" if "exceeded quota" in cause else reason, cause)


def never_started(pod: Body) -> bool:
    """Return whether a pod is in trouble before any of its containers ran."""
    # Its own containers: a sidecar is up before them.
    statuses = pod.get("status", {}).get("containerStatuses", ())
    ran = any(s.get("restartCount") or s.get("lastState") or set(s.get("state", {})) - {"waiting"} for s in statuses)
    return not ran and why(pod).reason != STARTING


def container_trouble(pod: Body, status: Body) -> Reason | None:
    """Return what is wrong with one container, from its status."""
    name, state = status["name"], status.get("state", {})
    if "waiting" in state:
        return _waiting(pod, status, state["waiting"])
    if "terminated" in state:
        if _is_no_failure(pod, name, state["terminated"]):
            return None
        end = ended(pod, name, state["terminated"])
        return _repeated(end) if status.get("restartCount") else end
    # One that comes up once more after a crash is in the same trouble, until it has shown that it is not.
    last = _last_terminated(status)
    return _repeated(ended(pod, name, last)) if last.get("exitCode") and not status.get("ready") else None


def ended(pod: Body, name: str, terminated: Body) -> Reason:
    """Return how a container died, with the last line that it wrote."""
    code, signal = terminated.get("exitCode", 0), terminated.get("signal")
    if terminated.get("reason") == OOM:
        return Reason(OOM, f"container {name} used more memory than {_remedy(pod, name)}")
    how = f"signal {signal}" if signal else f"exit code {code}"
    last = last_line(terminated.get("message"))
    return Reason("Error", f"container {name} ended with {how}" + (f": {last}" if last else ""))


def taken(pod: Body) -> str | None:
    """Return what took a pod away, be it the cluster or what it used over its own limits; None where nothing has."""
    return why(pod).message if disruptions.over_its_limit(pod) else disruptions.words(pod)


def size_field(pod: Body, name: str | None = None) -> str | None:
    """Return the field of a session that says how large a container is; None where the session has no say in it."""
    containers = pod.get("spec", {}).get("containers", ())
    component, pool = label_of(pod, names.COMPONENT), label_of(pod, names.POOL)
    if component in (None, "xcache") or (name and containers and containers[0]["name"] != name):
        return None
    role = label_of(pod, names.ROLE) or label_of(pod, "dask.org/component")
    if role == "worker" and component != "inference":
        return f"spec.{component}.pools[name={pool}].size"
    return f"spec.{component}.scheduler.size" if role == "scheduler" else f"spec.{component}.size"


def _end(pod: Body, status: Body) -> str:
    """Return why a pod ended as a whole: by what it wrote, or in the words of whoever ended it."""
    over = disk_usage.exceeded(pod) if disruptions.over_its_limit(pod) else None
    if over is None:
        return str(status.get("message", "has failed"))
    container, where = over
    field = size_field(pod, container)
    larger = f"write less there, or choose a larger size ({field}), with more ephemeralStorage"
    return f"{where}: {larger if field else 'tell the admin of the facility'}"


def _remedy(pod: Body, name: str | None) -> str:
    field = size_field(pod, name)
    return f"its size has: choose a larger size ({field})" if field else "it may: tell the facility's admin"


def last_line(text: str | None) -> str:
    """Return the last line of a log that says something."""
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return _RUNTIME.sub("", lines[-1])[:MAX_LINE] if lines else ""


def container_statuses(pod: Body) -> list[Body]:
    """Return the statuses of all containers, init containers first."""
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]


def _troubles(pod: Body) -> Iterator[Reason]:
    status = pod.get("status", {})
    if status.get("phase") == "Failed" and status.get("reason"):
        yield Reason(status["reason"], f"pod {pod['metadata']['name']}: {_end(pod, status)}")
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        message = _PREEMPTION.sub("", scheduled.get("message", "no node takes the pod"))
        yield Reason(scheduled.get("reason", "Unschedulable"), message)
    for each in container_statuses(pod):
        trouble = container_trouble(pod, each)
        if trouble:
            yield trouble


def _waiting(pod: Body, status: Body, waiting: Body) -> Reason | None:
    name, reason, message = status["name"], waiting.get("reason", ""), waiting.get("message", "")[:MAX_WORDS]
    if reason in _QUIET:
        return None
    if reason in _IMAGE:
        # The kubelet alternates between ErrImagePull and ImagePullBackOff; one reason for both is one write.
        cause = _PULL.sub("", message).removeprefix(f"{status['image']}: ")
        failure = f"image {status['image']} cannot be pulled" + (f": {cause}" if cause else "")
        return Reason(
            "ImagePullBackOff", f"container {name}: {failure}; the profile names it: tell the facility's admin"
        )
    last = _last_terminated(status)
    if reason == "CrashLoopBackOff" and last:
        return _repeated(ended(pod, name, last))
    return Reason(reason, f"container {name}: {message or reason}")


def _last_terminated(status: Body) -> Body:
    terminated: Body = status.get("lastState", {}).get("terminated", {})
    return terminated


def _repeated(end: Reason) -> Reason:
    # The same in all that follow each other: terminated, waiting, running, terminated.
    reason = OOM if end.reason == OOM else "CrashLoopBackOff"
    return Reason(reason, f"{end.message} (again and again)")


def _is_no_failure(pod: Body, name: str, terminated: Body) -> bool:
    """Init containers that succeeded are done; sidecars die of SIGTERM when a Job's pod ends."""
    if terminated.get("exitCode") == 0:
        return True
    # The phase is Running until the last sidecar is gone, so the other containers are asked.
    statuses = pod.get("status", {}).get("containerStatuses", ())
    over = bool(statuses) and all("terminated" in s.get("state", {}) for s in statuses)
    return over and name in {c["name"] for c in pod.get("spec", {}).get("initContainers", ()) if c.get("restartPolicy")}


def _condition(pod: Body, kind: str) -> Body:
    return next((c for c in pod.get("status", {}).get("conditions", ()) if c["type"] == kind), {})
