"""What the children of a session are called: the names that the operator gives and the client looks for. Pure.

Both ask here, and neither formats such a name itself: a session may be called ``2018-zmumu`` or ``lab.2018``, but a
child's name is a DNS label that begins with a letter, of at most 63 characters. What does not fit is cut and gets eight
hex digits of its full text, so that no two share one. And which files a session may carry in itself: the schema refuses
what the client would have said of. Imports nobody: it is in every image.
"""

from __future__ import annotations

import hashlib
import re

MAX_NAME = 63
MAX_SESSION = 40
"""No session has a longer name, says the CRD: so this cuts none."""
NOTEBOOK_PORT = 8888
INFERENCE_PORT = 8000
"""Of the model service, for HTTP."""
INFERENCE_GRPC_PORT = 8001
INFERENCE_TOKEN = "token"  # noqa: S105 - the name of a key
"""Key of the token in the model service's Secret."""
DASK_SCHEDULER_PORT = 8786
DASK_DASHBOARD_PORT = 8787
DASK_DIRECTORY = "/af/dask"
"""Where certificates and token of a session's Dask are mounted: ``ca.crt``, ``tls.crt``, ``tls.key`` and ``token``."""
RUN_CONTAINER = "run"
SESSION_UID = "analysisfacility.io/session-uid"
"""Label of what belongs to a session: its uid. An admission policy lets the operators and the Hub alone set it."""
SOURCE_DIRECTORY = "/af/source"
"""Where a run's files are mounted, in its own pod and in those that compute for it."""
WORK_DIRECTORY = "/af/work"
"""Where a run works, on a copy of them."""

FILE_NAME = r"^[A-Za-z0-9_][-A-Za-z0-9_.]*$"
MAX_FILE_NAME = 100
MAX_SOURCE_BYTES = 262_144
"""All inline source files together; an object must stay far below etcd's 1.5 MiB."""

_SAFE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def fit(text: str, limit: int = MAX_NAME) -> str:
    """Return `text` if it is a safe name of at most `limit` characters, else a cut of it and a hash."""
    if len(text) <= limit and _SAFE.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{stem(text, limit - 9)}-{digest}"


def stem(text: str, limit: int) -> str:
    """Return what a name can keep of `text`, for a hash to follow: at most `limit` characters."""
    found = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    found = found if found[:1].isalpha() else f"s-{found}"
    return found[:limit].rstrip("-")


def label_value(text: str) -> str:
    """Return `text` if it is a label value, else a safe form of it with a hash."""
    return text if _LABEL_VALUE.fullmatch(text) else fit(text)


def child(session: str, suffix: str, limit: int = MAX_NAME) -> str:
    """Return the name of a child object: <session>-<suffix>."""
    return fit(f"{session}-{suffix}", limit)


def run_log(session: str) -> str:
    """Return the name of the ConfigMap that keeps the last lines of the run's log."""
    return child(session, "run-log")


def dask_cluster(session: str) -> str:
    """Return the name of the DaskCluster."""
    return fit(session, MAX_SESSION)


def dask_scheduler(session: str) -> str:
    """Return the name of the scheduler's Deployment, Service, Secret, Role and RoleBinding; its pods begin with it.

    So at most 50 characters long. The Role gives ``spec.user`` the right to Secret and pod (`af dask`).
    """
    return f"{dask_cluster(session)}-scheduler"


def notebook(session: str) -> str:
    """Return the name of the notebook's StatefulSet, Service, Secret, Role and RoleBinding; its pod is <name>-0."""
    return child(session, "notebook", 52)  # a StatefulSet's pods carry <name>-<10 characters> as a label


def notebook_pod(session: str) -> str:
    """Return the name of the notebook's one pod."""
    return f"{notebook(session)}-0"


def notebook_url(session: str, namespace: str) -> str:
    """Return the URL of the notebook's Service, without the path."""
    return f"http://{notebook(session)}.{namespace}.svc:{NOTEBOOK_PORT}"


def inference(session: str) -> str:
    """Return the name of the model service's Service, Secret, ConfigMap, Role and RoleBinding; its pods: <name>-r0 …

    Its pods have names that are known before, as the notebook's, for a right to forward ports is given by name: to
    ``spec.user``, by a Role of the session, for ``secrets`` (the token) and ``pods/portforward`` (`af models`).
    """
    return child(session, "inference", 52)


def inference_pod(session: str, replica: int = 0) -> str:
    """Return the name of a pod of the model service; the first is always there.

    No StatefulSet has a pod of such a name: nobody gets rights on one of somebody else's.
    """
    return f"{inference(session)}-r{replica}"


def hub_secret(session: str) -> str:
    """Return the name of the Secret in which JupyterHub's spawner puts the environment.

    It is the session's only if the session is its controller and `SESSION_UID` its label, as of all other children.
    """
    return child(session, "hub")


def hub_server(session: str, wanted: str | None) -> str:
    """Return the name of the JupyterHub server that shows the session; empty is the user's default one."""
    return session if wanted is None else wanted
