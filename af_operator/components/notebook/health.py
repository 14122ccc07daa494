"""Whether the notebook is ready, and if not, the real reason: from its pod and its home volume."""

from __future__ import annotations

from af_operator import names
from af_operator.components._shared import missing_pods, pod_reasons
from af_operator.components._shared.pod_reasons import STARTING, Reason
from af_operator.components.notebook.lost import NAME, lost
from af_operator.model import Body, Health, Kind, Session
from af_operator.observed import Observed, Settled

STATEFUL_SET = Kind("apps/v1", "StatefulSet", "statefulsets")
REMEDY = "the profile has changed since: suspend and resume the session to start anew"


def health(session: Session, observed: Settled) -> Health:
    """Return ready once the server answers."""
    if observed.finished:
        return Health(False, "Finished", "gone: the session has finished; the files in home stay")
    if session.spec.suspend:
        return Health(False, "Suspended", "gone while the session is suspended; the files in home stay")
    pods, told = observed.pods(NAME), lost(session, observed)
    ready = next((pod for pod in pods if pod_reasons.is_ready(pod)), None)
    if ready is not None:
        url = names.notebook_url(session) + names.hub_path(session, observed.hub_base_url)
        return Health(True, "Ready", _ready(ready, session), {"notebook": url}, condition=told)
    reason, message = _no_pod(session, observed) if not pods else _why(pods[0], session, observed)
    return Health(False, reason, message, condition=told)


def _ready(pod: Body, session: Session) -> str:
    if _home_claim(pod) is None:
        return "JupyterLab is ready; this profile has no home volume: files are lost when the session is suspended"
    return f"JupyterLab is ready; its files are in volume {names.home(session.spec.user)}"


def _no_pod(session: Session, observed: Observed) -> Reason:
    live = _stateful_set(session, observed)
    if live is None or not live.get("spec", {}).get("replicas"):
        return Reason(STARTING, "the notebook is starting")
    return missing_pods.why(names.notebook_pod(session), "the notebook", observed)


def without_pod(session: Session, observed: Settled) -> Body | None:
    """Return the StatefulSet where its controller has seen that it should have a pod, and it has none."""
    live = _stateful_set(session, observed)
    if live is None or live.get("spec", {}).get("replicas") != 1 or "observedGeneration" not in live.get("status", {}):
        return None
    return None if session.spec.suspend or observed.finished or observed.pods(NAME) else live


def _why(pod: Body, session: Session, observed: Observed) -> Reason:
    if "deletionTimestamp" in pod["metadata"]:
        return Reason("Stopping", "the last server is still ending; a new one starts after it")
    reason, message = _home_trouble(pod, observed) or pod_reasons.why(pod)
    stuck = reason != STARTING and _outdated(pod, _stateful_set(session, observed))
    return Reason(reason, f"{message}; {REMEDY}" if stuck else message)


def _outdated(pod: Body, live: Body | None) -> bool:
    """Return whether a pod that does not come up is of an earlier catalogue: nobody replaces it."""
    newest = live.get("status", {}).get("updateRevision") if live else None
    return newest is not None and newest != pod["metadata"].get("labels", {}).get("controller-revision-hash")


def _stateful_set(session: Session, observed: Observed) -> Body | None:
    return observed.get(STATEFUL_SET.ref(names.notebook(session)))


def _home_trouble(pod: Body, observed: Observed) -> Reason | None:
    """Return what is wrong with the volume that the pod waits for; its provisioner says more, but only in Events."""
    name = _home_claim(pod)
    claim = next((b for b in observed.shared if b["metadata"]["name"] == name), None)
    if claim is None or pod.get("spec", {}).get("nodeName"):
        return None
    hint = f"the Events of volume claim {name} say why: ask your facility's admin"
    if "deletionTimestamp" in claim["metadata"]:
        return Reason("HomeDeleted", f"home volume {name} is being deleted: the notebook can start when it is gone")
    if claim.get("status", {}).get("phase") == "Lost":
        return Reason("HomeLost", f"home volume {name} has lost its storage; {hint}")
    trouble = pod_reasons.why(pod)
    if claim.get("status", {}).get("phase") == "Pending" and trouble.reason != STARTING:
        return Reason("HomePending", f"home volume {name} is not there yet: {trouble.message}; {hint}")
    return None


def _home_claim(pod: Body) -> str | None:
    claims = (
        v["persistentVolumeClaim"] for v in pod.get("spec", {}).get("volumes", ()) if "persistentVolumeClaim" in v
    )
    return next((str(claim["claimName"]) for claim in claims), None)
