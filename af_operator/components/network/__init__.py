"""Network: one NetworkPolicy, of all pods of a session, which no other session and no stranger gets through.

It stays as long as the session does: pods that end may take their time. It names no pod, worker or node, so it is
written once, and again when the profile's `network` or what the facility says of itself changes.
"""

from __future__ import annotations

from collections.abc import Sequence

from af_operator import names
from af_operator.components._shared.defaults import (
    activity,
    deadline,
    demands,
    finish,
    loans,
    log_wanted,
    pod_patch,
    pools,
    question,
    registration,
    report,
)
from af_operator.components.network import egress, ingress
from af_operator.model import NETWORK_POLICY, Kind, Lifetime, Manifest, Profile, Session
from af_operator.observed import Settled, Terms
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

NAME = "network"
TITLE = "Network"
KINDS: tuple[Kind, ...] = (NETWORK_POLICY,)
WATCHED: tuple[Kind, ...] = ()
SHARED: tuple[Kind, ...] = ()
KEPT: tuple[Kind, ...] = ()
LIFETIME: Lifetime = "record"


def enabled(session: Session) -> bool:
    """Every session is closed, whatever it asks for."""
    return True


def check(session: Session, profile: Profile) -> None:
    """A session says nothing of its network."""


def desired(session: Session, profile: Profile, observed: Settled, terms: Terms) -> Sequence[Manifest]:
    """Return the policy, where the facility has sessions closed."""
    if observed.network is None:
        return []
    policy = render(
        __name__,
        "policy",
        name=names.network_policy(session),
        selector=names.session_selector(session),
        ingress=ingress.rules(session, observed.network),
        egress=egress.rules(session, profile, observed.network, observed.hub),
    )
    return [policy]


def health(session: Session, observed: Settled) -> None:
    """Nothing to tell: what is refused of it is told all the same, and what holds it is the cluster's network."""
