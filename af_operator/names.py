"""Every child name, label, selector and address. Nobody else formats a name, but for those in ``af_names``.

A child's name is a DNS label of at most 63 characters, and of fewer where more is appended to it: 45 for a group of
workers (`MAX_GROUP`), 40 for what is called as its session is (`MAX_SESSION`), 52 for a notebook (both ``af_names``).
Names are collision-safe: what does not fit is cut and gets eight hex digits of its full text.
An address ends with ``.svc``: what comes after it, the cluster's domain, each pod's resolver adds.
"""

from __future__ import annotations

from urllib.parse import quote

import af_names
from af_names import MAX_NAME
from af_operator.api import GROUP
from af_operator.model import Session

MANAGER = "af-operator"
"""Field manager of every apply, and value of the managed-by label."""

SESSION_UID = af_names.SESSION_UID
SESSION_NAME = f"{GROUP}/session"
COMPONENT = f"{GROUP}/component"
POOL = f"{GROUP}/pool"
WORKER_GROUP = f"{GROUP}/worker-group"
"""The workers of one shape of a pool: what replaces them has another group."""
NODE_POOL = f"{GROUP}/node-pool"
ROLE = f"{GROUP}/role"
"""What a pod is in its component: ``scheduler`` or ``worker``."""
USER = f"{GROUP}/user"
"""Label of what belongs to a user and outlives their sessions: the home volume. Also the annotation with the name as
it is: two users may have the same label value."""
MANAGED_BY = "app.kubernetes.io/managed-by"
APPLIED_HASH = f"{GROUP}/applied-hash"
"""Annotation on children: hash of what we last applied."""
TEMPLATE_HASH = f"{GROUP}/template-hash"
"""Annotation on the run's Job: hash of its template, which cannot be edited."""
HAS_ROOM = "HasRoom"
"""Condition: whether there is room for all that a session needs at its minimum."""
DISRUPTIONS = f"{GROUP}/disruptions"
"""Label of a run's Job: how many of the tries before it were disrupted."""

CONFIG_HASH = f"{GROUP}/config-hash"
"""Annotation on pods that read their configuration once: hash of what they were made by."""
HUB_SECRET = f"{GROUP}/hub-secret"
"""Annotation on a notebook's StatefulSet: the version of the Hub's Secret that its server was begun with."""
MODELS = f"{GROUP}/models"
"""Annotation on pods of the model service: the versions that they were begun with."""

MAX_GROUP = 45
"""A worker is <group>-worker-<10 hex>, by dask-kubernetes as by us: 45 + 8 + 10 = 63."""


# The words that the client has as well.
fit = af_names.fit
label_value = af_names.label_value
NOTEBOOK_PORT = af_names.NOTEBOOK_PORT
DASK_DIRECTORY = af_names.DASK_DIRECTORY
RUN_CONTAINER = af_names.RUN_CONTAINER
SOURCE_DIRECTORY = af_names.SOURCE_DIRECTORY
WORK_DIRECTORY = af_names.WORK_DIRECTORY


def labels(session: Session, component: str, pool: str | None = None) -> dict[str, str]:
    """Return the labels of a child, and of the pods that come of it."""
    values = {
        SESSION_UID: session.uid,
        SESSION_NAME: label_value(session.name),
        COMPONENT: component,
        MANAGED_BY: MANAGER,
    }
    return values | ({POOL: pool} if pool else {})


def session_selector(session: Session) -> dict[str, str]:
    """Return the labels by which all pods of a session are chosen: nobody else can set them."""
    return {SESSION_UID: session.uid}


def selector(session: Session, component: str) -> dict[str, str]:
    """Return the labels by which a component's pods are chosen: nobody else can set them."""
    return {SESSION_UID: session.uid, COMPONENT: component}


def shared_labels(session: Session, component: str) -> dict[str, str]:
    """Return the labels of what belongs to the session's user and outlives the session."""
    return {USER: label_value(session.spec.user), COMPONENT: component, MANAGED_BY: MANAGER}


def child(session: Session, suffix: str, limit: int = MAX_NAME) -> str:
    """Return the name of a child object: <session>-<suffix>."""
    return af_names.child(session.name, suffix, limit)


def network_policy(session: Session) -> str:
    """Return the name of the NetworkPolicy of all the session's pods."""
    return fit(session.name, af_names.MAX_SESSION)


# Dask. The same names and addresses whatever engine makes the objects: they are in the environment of running pods.
# A DaskCluster has the session's own name; the scheduler's Deployment and Service are <that>-scheduler.
DASK_SCHEDULER_PORT = af_names.DASK_SCHEDULER_PORT
DASK_DASHBOARD_PORT = af_names.DASK_DASHBOARD_PORT


def dask_cluster(session: Session) -> str:
    """Return the name of the DaskCluster."""
    return af_names.dask_cluster(session.name)


def dask_scheduler(session: Session) -> str:
    """Return the name of the scheduler's Deployment and Service, and of the Secret and the Role beside them."""
    return af_names.dask_scheduler(session.name)


def dask_group(session: Session, pool: str, shape: str) -> str:
    """Return the name of a pool's group of workers; `shape` hashes what cannot be edited in place."""
    return fit(f"{session.name}-{pool}-{shape[:6]}", MAX_GROUP)


def worker(group: str, token: str) -> str:
    """Return the name of a worker's pod, which is also its name to the agent; `token` is 10 hex digits."""
    return f"{group}-worker-{token}"


def dask_scheduler_address(session: Session, scheme: str = "tls") -> str:
    """Return the address that `Client()` finds in DASK_SCHEDULER_ADDRESS; ``tcp`` where there is no TLS."""
    return f"{scheme}://{dask_scheduler(session)}.{session.namespace}.svc:{DASK_SCHEDULER_PORT}"


def dask_dashboard_url(session: Session) -> str:
    """Return the URL of the Dask dashboard inside the cluster."""
    return f"http://{dask_scheduler(session)}.{session.namespace}.svc:{DASK_DASHBOARD_PORT}/status"


def dask_agent_url(session: Session) -> str:
    """Return where the agent in the scheduler is asked about pools."""
    return f"http://{dask_scheduler(session)}.{session.namespace}.svc:{DASK_DASHBOARD_PORT}/af/v1/pools"


def dask_agent(session: Session) -> str:
    """Return the name of the ConfigMap with the agent's code."""
    return child(session, "dask-agent")


def dask_secret(session: Session) -> str:
    """Return the name of the Secret with the certificates and the token of the session's Dask.

    As all is called that the session's user may read or reach of it: a Role is called as what it gives a right to.
    """
    return dask_scheduler(session)


# Spark. Master, agent and Connect server are in one pod, behind one Service.
SPARK_MASTER_PORT = 7077
SPARK_MASTER_UI_PORT = 8080
SPARK_AGENT_PORT = 8790
SPARK_CONNECT_PORT = 15002
SPARK_UI_PORT = 4040


def spark(session: Session) -> str:
    """Return the name of the Deployment and Service of master and Connect server, and of the Secret beside them."""
    return child(session, "spark")


def spark_programs(session: Session) -> str:
    """Return the name of the ConfigMap with the code of Spark's agent."""
    return child(session, "spark-agent")


def spark_group(session: Session, pool: str, shape: str) -> str:
    """Return the name of a pool's group of workers; `shape` hashes what cannot be edited in place."""
    return child(session, f"spark-{pool}-{shape[:6]}", MAX_GROUP)


def spark_host(session: Session) -> str:
    """Return the name inside the cluster of master and Connect server."""
    return f"{spark(session)}.{session.namespace}.svc"


def spark_url(session: Session, scheme: str, port: int) -> str:
    """Return the URL inside the cluster of what listens there: ``spark://…:7077`` is the master."""
    return f"{scheme}://{spark_host(session)}:{port}"


# XCache.
XCACHE_PORT = 1096
XCACHE_METRICS_PORT = 8791
XCACHE_DIRECTORY = "/af/xcache"
"""Where a session's cache, and all that read through it, have its Secret as files."""


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
    return f"{xcache(session)}.{session.namespace}.svc:{XCACHE_PORT}"


# Model service.
INFERENCE_PORT = af_names.INFERENCE_PORT
INFERENCE_GRPC_PORT = af_names.INFERENCE_GRPC_PORT
INFERENCE_TOKEN = af_names.INFERENCE_TOKEN


def inference(session: Session) -> str:
    """Return the name of the model service's Service, Secret, ConfigMap, Role and RoleBinding."""
    return af_names.inference(session.name)


def inference_pod(session: Session, replica: int) -> str:
    """Return the name of one of the model service's pods."""
    return af_names.inference_pod(session.name, replica)


def inference_store(session: Session) -> str:
    """Return the name of the claim of the volume with the models that the session has uploaded."""
    return child(session, "inference-store")


def inference_url(session: Session) -> str:
    """Return the URL of the model service inside the cluster."""
    return f"http://{inference(session)}.{session.namespace}.svc:{INFERENCE_PORT}"


def inference_grpc(session: Session) -> str:
    """Return host:port of the model service's gRPC inside the cluster."""
    return f"{inference(session)}.{session.namespace}.svc:{INFERENCE_GRPC_PORT}"


# Run.
def run_job(session: Session, number: int = 1) -> str:
    """Return the name of the Job of one try of the run; the first is 1."""
    return child(session, "run" if number == 1 else f"run-{number}")


def run_number(session: Session, job: str) -> int:
    """Return which try of the run a Job of ours is, by its name."""
    number = job.removeprefix(run_job(session)).removeprefix("-")
    return int(number) if number.isdecimal() else 1


def run_source(session: Session) -> str:
    """Return the name of the ConfigMap with the run's inline files."""
    return child(session, "source")


def run_log(session: Session) -> str:
    """Return the name of the ConfigMap that keeps the last lines of the run's log."""
    return af_names.run_log(session.name)


def results_url(session: Session, base: str) -> str:
    """Return where the run's results go: unique per session, also after delete and create under one name."""
    return f"{base.rstrip('/')}/{session.namespace}/{session.name}-{session.uid}"


# Notebook.
NOTEBOOK_CONTAINER = "notebook"


def notebook(session: Session) -> str:
    """Return the name of the notebook's StatefulSet, Service, Secret, Role and RoleBinding; its pod is <name>-0."""
    return af_names.notebook(session.name)


def notebook_pod(session: Session) -> str:
    """Return the name of the notebook's one pod."""
    return af_names.notebook_pod(session.name)


def notebook_hub_secret(session: Session) -> str:
    """Return the name of the Secret in which JupyterHub's spawner puts the environment; made by it, never by us."""
    return af_names.hub_secret(session.name)


def home(user: str) -> str:
    """Return the name of a user's home volume."""
    return fit(f"home-{user}")


def hub_server(session: Session) -> str:
    """Return the name of the JupyterHub server that shows the session; empty is the user's default one."""
    notebook = session.spec.notebook
    return af_names.hub_server(session.name, notebook.server_name if notebook else None)


def hub_path(session: Session, base: str = "/") -> str:
    """Return the path of the notebook server, as JupyterHub under `base` has it: ``/user/alice/zmumu/``."""
    parts = ["user", quote(session.spec.user, safe="@~"), hub_server(session)]
    return base.rstrip("/") + "/" + "".join(f"{part}/" for part in parts if part)


def notebook_url(session: Session) -> str:
    """Return the URL of the notebook's Service, without the path."""
    return af_names.notebook_url(session.name, session.namespace)
