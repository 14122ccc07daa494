"""The broker: a Deployment with its address, its program, and the token of those who may send."""

from __future__ import annotations

from collections.abc import Iterator

from af_operator import names
from af_operator.components._shared import choices, placement, pod_spec, secrets
from af_operator.model import CONFIG_MAP, DEPLOYMENT, SECRET, SERVICE, Body, Kind, Manifest, Profile, Session
from af_operator.observed import Observed
from af_operator.render import render
from tests.support.components.relay.spec import NAME

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
    return f"http://{name(session)}.{session.namespace}.svc:{PORT}"


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
    kept = secrets.kept(session, observed, name(session), "token")
    return secrets.encoded({"token": kept or observed.token("relay token")})


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
    return pod_spec.pod([own], [program], placement.of(profile, None))
