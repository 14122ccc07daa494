"""Inference: a session's model service, as replicas of one server that speak TFaaS' protocol and Triton's.

Models come from the profile's catalogue, and from a store of the session's own, which stays while it is suspended.
What a session asks for, and what is begun of it, is in `spec`; configuration and pod of a server in `server` (the
objects' shape in ``templates/``), who the replicas are in `replicas`, how all that is in `health`. The server itself is
a program of its own, in ``images/inference``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from af_operator import names
from af_operator.api.pools import Pool
from af_operator.components._shared import access, pod_spec, secrets, volumes, worker_pods
from af_operator.components._shared.budget import Demand
from af_operator.components._shared.defaults import activity, finish, loans, log_wanted, question, registration, report
from af_operator.components.inference import replicas, server, spec
from af_operator.components.inference.health import health
from af_operator.components.inference.spec import NAME, REPLICAS, TITLE, check
from af_operator.model import (
    CONFIG_MAP,
    POD,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE,
    VOLUME_CLAIM,
    Audience,
    Body,
    Keep,
    Kind,
    Lifetime,
    Manifest,
    PodPatch,
    Profile,
    Session,
)
from af_operator.observed import Observed, Settled, Terms
from af_operator.render import render

__all__ = [
    "KEPT",
    "KINDS",
    "LIFETIME",
    "NAME",
    "SHARED",
    "TITLE",
    "WATCHED",
    "activity",
    "check",
    "deadline",
    "demands",
    "desired",
    "enabled",
    "finish",
    "health",
    "loans",
    "log_wanted",
    "pod_patch",
    "pools",
    "question",
    "registration",
    "report",
]

KINDS: tuple[Kind, ...] = (CONFIG_MAP, SECRET, SERVICE, POD, ROLE, ROLE_BINDING)
WATCHED: tuple[Kind, ...] = ()
SHARED: tuple[Kind, ...] = ()
KEPT: tuple[Kind, ...] = (VOLUME_CLAIM,)
LIFETIME: Lifetime = "compute"


def enabled(session: Session) -> bool:
    """Return whether the session asks for a model service."""
    return session.spec.inference is not None


def pools(session: Session) -> Sequence[Pool]:
    """Return the replicas, which count as workers do."""
    return [spec.pool(session)]


def pod_patch(session: Session, profile: Profile, observed: Observed, audience: Audience) -> PodPatch:
    """Return where the service is, and its token: whatever computes for the user may ask models."""
    url = names.inference_url(session)
    addresses = {"TFAAS_URL": url, "AF_INFERENCE_URL": url, "AF_INFERENCE_GRPC": names.inference_grpc(session)}
    secret = {"name": names.inference(session), "key": names.INFERENCE_TOKEN}
    token: Body = {"name": "AF_INFERENCE_TOKEN", "valueFrom": {"secretKeyRef": secret}}
    return PodPatch(env=(*pod_spec.env(addresses), token))


def demands(session: Session, profile: Profile, observed: Settled) -> Sequence[Demand]:
    """Return what the replicas ask of the one budget."""
    asked, there = spec.spec(session), len(observed.pods(NAME))
    nodes = asked.node_pool or profile.spec.defaults.node_pool or ""
    return [Demand(REPLICAS, nodes, asked.replicas, there, asked.gpus_per_replica)]


def desired(session: Session, profile: Profile, observed: Settled, terms: Terms) -> Sequence[Manifest | Keep]:
    """Return what the service is found, entered and configured by, its store, and the replicas."""
    name, store = names.inference(session), spec.store(session, profile)
    items: list[Manifest | Keep] = [
        render(__name__, "secret", name=name, data=_secret(session, observed)),
        render(__name__, "config", name=name, config=server.config(session, profile)),
        render(__name__, "service", name=name, selector=names.selector(session, NAME), ports=server.service_ports()),
        *_access(session, observed),
    ]
    if store:
        items.append(replace(volumes.claim(names.inference_store(session), store), kept=True))
    return items + list(replicas.planned(session, profile, observed, terms.workers[REPLICAS]))


def deadline(session: Session, observed: Settled) -> datetime | None:
    """Return when a pod that failed at once is to be replaced."""
    return worker_pods.deadline(NAME, observed)


def _secret(session: Session, observed: Observed) -> dict[str, str]:
    kept = secrets.kept(session, observed, names.inference(session), names.INFERENCE_TOKEN)
    return secrets.encoded({names.INFERENCE_TOKEN: kept or observed.token("inference token")})


def _access(session: Session, observed: Observed) -> Iterator[Manifest | Keep]:
    """Yield the user's right to token and first pod: once that pod is ours, for the name may be somebody else's."""
    name, pod = names.inference(session), names.inference_pod(session, 0)
    if observed.get(POD.ref(pod)):
        yield from access.of_user(session, name, pod)
    else:
        yield from (Keep(kind.ref(name)) for kind in (ROLE, ROLE_BINDING) if observed.get(kind.ref(name)))
