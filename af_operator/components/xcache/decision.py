"""The program beside the cache that asks a model of the session whether a file is worth keeping. Pure.

It is in the cache's image (``images/xcache``), as is the plugin by which the cache asks it. The cache does without:
whoever has not answered within 50 ms, the file is cached.
"""

from __future__ import annotations

from af_operator import names
from af_operator.api.xcache import ProfileXCache, XCacheDecision
from af_operator.components._shared import pod_spec
from af_operator.components.xcache import secret
from af_operator.model import Body, Session

CONTAINER = "decision"
PORT_NAME = "metrics"
RUN_DIR = "/run/xcache"
TOKEN_VOLUME, TOKEN_DIR = "inference-token", "/etc/inference-token"
SOCKET = f"{RUN_DIR}/decision.sock"

CONFIG = f"""\
# Asked at each open; what it declines is read past this server.
setenv AF_XCACHE_DECISION = {SOCKET}
"""


def container(session: Session, facility: ProfileXCache, spec: XCacheDecision) -> Body:
    """Return the container of that program."""
    program = pod_spec.container(
        CONTAINER,
        facility.image,
        ["tini", "-g", "--", "python3", "-m", "af_decision"],
        workingDir="/opt/af",
        env=pod_spec.env(_variables(session, spec)),
        ports=[{"name": PORT_NAME, "containerPort": names.XCACHE_METRICS_PORT, "protocol": "TCP"}],
        # One that hangs costs each open its 50 ms. While it starts the cache works as without it.
        livenessProbe={
            "httpGet": {"path": "/health", "port": PORT_NAME, "scheme": "HTTP"},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
        },
        resources=pod_spec.fixed_resources(("10m", "64Mi"), ("1", "256Mi")),
        volumeMounts=[
            {"name": "xcache-run", "mountPath": RUN_DIR},
            {"name": TOKEN_VOLUME, "mountPath": TOKEN_DIR, "readOnly": True},
            secret.MOUNT,
        ],
    )
    program["securityContext"] |= {"readOnlyRootFilesystem": True}
    return program


def volume(session: Session) -> Body:
    """Return the volume with the token of the session's model service."""
    # The cache outlives a suspension, the Secret does not: it is another one afterwards, and meanwhile there is none.
    return {"name": TOKEN_VOLUME, "secret": {"secretName": names.inference(session), "optional": True}}


def _variables(session: Session, spec: XCacheDecision) -> dict[str, str]:
    return {
        "AF_INFERENCE_URL": names.inference_url(session),
        "AF_INFERENCE_TOKEN_FILE": f"{TOKEN_DIR}/{names.INFERENCE_TOKEN}",
        "AF_DECISION_MODEL": spec.model,
        "AF_DECISION_THRESHOLD": str(spec.threshold_percent / 100),
        "AF_DECISION_SOCKET": SOCKET,
        "AF_DECISION_TOKEN_FILE": f"{names.XCACHE_DIRECTORY}/{secret.TOKEN}",
        "AF_DECISION_PORT": str(names.XCACHE_METRICS_PORT),
    }
