"""Every child name, label, selector and address. Nobody else formats a name.

Names are at most 63 characters (45 for a group of workers, to whose name a worker's is appended), valid DNS
labels, and collision-safe: what does not fit is cut and gets eight hex digits of its full text.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

from af_operator.api import GROUP
from af_operator.model import Session

MANAGER = "af-operator"
"""Field manager of every apply, and value of the managed-by label."""

SESSION_UID = f"{GROUP}/session-uid"
SESSION_NAME = f"{GROUP}/session"
COMPONENT = f"{GROUP}/component"
POOL = f"{GROUP}/pool"
WORKER_GROUP = f"{GROUP}/worker-group"
"""The workers of one shape of a pool: what replaces them has another group."""
NODE_POOL = f"{GROUP}/node-pool"
ROLE = f"{GROUP}/role"
"""What a pod is in its engine: ``scheduler`` or ``worker``."""
USER = f"{GROUP}/user"
"""Label of what belongs to a user and outlives their sessions: the home volume. Also the annotation with the name as
it is: two users may have the same label value."""
MANAGED_BY = "app.kubernetes.io/managed-by"
APPLIED_HASH = f"{GROUP}/applied-hash"
"""Annotation on children: hash of what we last applied."""

SAFE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
MAX_NAME = 63
MAX_GROUP = 45
"""A worker is <group>-worker-<10 hex>, by dask-kubernetes as by us: 45 + 8 + 10 = 63."""


def fit(text: str, limit: int = MAX_NAME) -> str:
    """Return `text` if it is a safe name of at most `limit` characters, else a cut of it and a hash."""
    if len(text) <= limit and SAFE.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    stem = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    stem = stem if stem[:1].isalpha() else f"s-{stem}"
    return f"{stem[: limit - 9].rstrip('-')}-{digest}"


def label_value(text: str) -> str:
    """Return `text` if it is a label value, else a safe form of it with a hash."""
    return text if re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", text) else fit(text)


def labels(session: Session, component: str, pool: str | None = None) -> dict[str, str]:
    """Return the labels of a child, and of the pods that come of it."""
    found = {
        SESSION_UID: session.uid,
        SESSION_NAME: label_value(session.name),
        COMPONENT: component,
        MANAGED_BY: MANAGER,
    }
    return found | ({POOL: pool} if pool else {})


def shared_labels(session: Session, component: str) -> dict[str, str]:
    """Return the labels of what belongs to the session's user and outlives the session."""
    return {USER: label_value(session.spec.user), COMPONENT: component, MANAGED_BY: MANAGER}


def child(session: Session, suffix: str, limit: int = MAX_NAME) -> str:
    """Return the name of a child object: <session>-<suffix>."""
    return fit(f"{session.name}-{suffix}", limit)


# Dask. The same names and addresses whatever engine makes the objects: they are in the environment of running pods.
# A DaskCluster has the session's own name (<= 40); its scheduler's Deployment and Service are <name>-scheduler.
def dask_cluster(session: Session) -> str:
    """Return the name of the DaskCluster."""
    return fit(session.name, 40)


def dask_scheduler(session: Session) -> str:
    """Return the name of the scheduler's Deployment and Service."""
    return f"{dask_cluster(session)}-scheduler"


def dask_group(session: Session, pool: str, shape: str) -> str:
    """Return the name of a pool's group of workers; `shape` hashes what cannot be edited in place."""
    return fit(f"{session.name}-{pool}-{shape[:6]}", MAX_GROUP)


def worker(group: str, token: str) -> str:
    """Return the name of a worker's pod, which is also its name in the engine; `token` is 10 hex digits."""
    return f"{group}-worker-{token}"


def dask_scheduler_address(session: Session) -> str:
    """Return the address that `Client()` finds in DASK_SCHEDULER_ADDRESS."""
    return f"tcp://{dask_scheduler(session)}.{session.namespace}.svc.cluster.local:8786"


def dask_dashboard_url(session: Session) -> str:
    """Return the URL of the Dask dashboard inside the cluster."""
    return f"http://{dask_scheduler(session)}.{session.namespace}.svc.cluster.local:8787/status"


def dask_agent_url(session: Session) -> str:
    """Return where the agent in the scheduler is asked about pools."""
    return f"http://{dask_scheduler(session)}.{session.namespace}.svc.cluster.local:8787/af/v1/pools"


def dask_agent(session: Session) -> str:
    """Return the name of the ConfigMap with the agent's code."""
    return child(session, "dask-agent")


# XCache.
XCACHE_PORT = 1096


def xcache_config(session: Session) -> str:
    """Return the name of the ConfigMap with the cache's configuration."""
    return child(session, "xcache-config")


def xcache(session: Session) -> str:
    """Return the name of the session's cache: Deployment and Service (placement Session)."""
    return child(session, "xcache")


def xcache_host(session: Session, placement: str) -> str:
    """Return host:port at which the session's pods find their cache."""
    if placement == "Sidecar":
        return f"localhost:{XCACHE_PORT}"
    return f"{xcache(session)}.{session.namespace}.svc.cluster.local:{XCACHE_PORT}"


# Run.
RUN_CONTAINER = "run"


def run_job(session: Session) -> str:
    """Return the name of the run's Job."""
    return child(session, "run")


def run_source(session: Session) -> str:
    """Return the name of the ConfigMap with the run's inline files."""
    return child(session, "source")


def run_log(session: Session) -> str:
    """Return the name of the ConfigMap that keeps the last lines of the run's log."""
    return child(session, "run-log")


def results_url(session: Session, base: str) -> str:
    """Return where the run's results go: unique per session, also after delete and create under one name."""
    return f"{base.rstrip('/')}/{session.namespace}/{session.name}-{session.uid}"


# Notebook.
NOTEBOOK_PORT = 8888
NOTEBOOK_CONTAINER = "notebook"


def notebook(session: Session) -> str:
    """Return the name of the notebook's StatefulSet, Service, Secret, Role and RoleBinding; its pod is <name>-0."""
    return child(session, "notebook", 52)  # a StatefulSet's pods carry <name>-<10 characters> as a label


def notebook_pod(session: Session) -> str:
    """Return the name of the notebook's one pod."""
    return f"{notebook(session)}-0"


def notebook_hub_secret(session: Session) -> str:
    """Return the name of the Secret in which JupyterHub's spawner puts the environment; made by it, never by us."""
    return child(session, "hub")


def home(user: str) -> str:
    """Return the name of a user's home volume."""
    return fit(f"home-{user}")


def hub_server(session: Session) -> str:
    """Return the name of the JupyterHub server that shows the session; empty is the user's default one."""
    notebook = session.spec.notebook
    return session.name if notebook is None or notebook.server_name is None else notebook.server_name


def hub_path(session: Session, base: str = "/") -> str:
    """Return the path of the notebook server, as JupyterHub under `base` has it: ``/user/alice/zmumu/``."""
    parts = ["user", quote(session.spec.user, safe="@~"), hub_server(session)]
    return base.rstrip("/") + "/" + "".join(f"{part}/" for part in parts if part)


def notebook_url(session: Session) -> str:
    """Return the URL of the notebook's Service, without the path."""
    return f"http://{notebook(session)}.{session.namespace}.svc.cluster.local:{NOTEBOOK_PORT}"
