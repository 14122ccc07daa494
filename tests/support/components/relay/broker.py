"""The broker: a Deployment with its address, its program, and the token of those who may send."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from af_operator import names, ownership
from af_operator.components._shared import choices, pod_spec
from af_operator.model import Body, Kind, Manifest, Profile, Session
from af_operator.observed import Observed
from af_operator.render import render
from tests.support.components.relay.spec import NAME

CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
SECRET = Kind("v1", "Secret", "secrets")
SERVICE = Kind("v1", "Service", "services")
DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
"""Which no component of the operator makes: watches, rights and admission follow from the component alone."""
KINDS = (CONFIG_MAP, DEPLOYMENT, SECRET, SERVICE, DISRUPTION_BUDGET)
PORT = 7000
PROGRAM = "import relay.broker\n\nrelay.broker.serve()\n"
ROLE = {names.ROLE: "broker"}


def name(session: Session) -> str:
    """Return the name of all that the broker is made of."""
    return names.child(session, NAME)


def url(session: Session) -> str:
    """Return the broker's URL inside the cluster."""
    return f"http://{name(session)}.{session.namespace}.svc.cluster.local:{PORT}"


def token(session: Session) -> Body:
    """Return the variable with the token, for the pods of those who may send."""
    return {"name": "RELAY_TOKEN", "valueFrom": {"secretKeyRef": {"name": name(session), "key": "token"}}}


def desired(session: Session, profile: Profile, observed: Observed) -> Iterator[Manifest]:
    """Yield the broker with its program, its token and its address."""
    called, labels = name(session), names.labels(session, NAME) | ROLE
    selector = {key: labels[key] for key in (names.SESSION_UID, names.COMPONENT, names.ROLE)}
    yield render(__package__, "program", name=called, files={"broker.py": PROGRAM})
    yield render(__package__, "secret", name=called, data=_secret(session, observed))
    yield render(__package__, "service", name=called, selector=selector, port=PORT)
    yield render(__package__, "disruption", name=called, selector=selector)
    pod = _pod(session, profile)
    yield render(__package__, "broker", name=called, selector=selector, labels=labels, pod=pod)


def _secret(session: Session, observed: Observed) -> dict[str, str]:
    live = observed.get(SECRET.ref(name(session)))
    kept = live.get("data", {}).get("token") if live and ownership.of_session(session, live, observed) else None
    return {"token": kept or base64.b64encode(observed.token("relay token").encode()).decode()}


def _pod(session: Session, profile: Profile) -> Body:
    program = {"name": "program", "configMap": {"name": name(session)}}
    own = pod_spec.container(
        "broker",
        choices.image(session, profile),
        ["python", "/relay/broker.py"],
        env=[token(session)],
        ports=[{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        resources=pod_spec.resources(choices.size(profile, None)),
        volumeMounts=[{"name": "program", "mountPath": "/relay", "readOnly": True}],
    )
    return pod_spec.pod([own], [program])
