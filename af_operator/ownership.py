"""Whose an object is: a session's, its user's, or somebody else's. The one room where that is decided. Pure.

An object is the session's if it carries the session's label, which the chart's admission policy lets the operators
alone set or take away; if its controller is the session, or a child of the session; and if the operator's field manager
has made it. Each alone could be written by others. Annotations prove nothing: anybody can write them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from af_operator.api import API_VERSION
from af_operator.model import Body, Session, grouped, label_of
from af_operator.names import MANAGER, SESSION_UID, USER
from af_operator.observed import Children, Observed


def controller(body: Body) -> Mapping[str, Any]:
    """Return the controller ownerReference of an object, or an empty mapping."""
    owners = body["metadata"].get("ownerReferences", ())
    return next((o for o in owners if o.get("controller")), {})


def our_entries(body: Body) -> list[dict[str, str]]:
    """Return the entries of managedFields by which the operator has made or changed an object, without the fields."""
    entries = body["metadata"].get("managedFields", ())
    own_entries = (e for e in entries if e.get("manager") == MANAGER and not e.get("subresource"))
    return [{"manager": MANAGER, "operation": str(e.get("operation"))} for e in own_entries]


def of_session(session: Session, body: Body, observed: Observed) -> bool:
    """Return whether we made this object, for this session, whose label it carries.

    Its controller is the session, or a child of the session: dask-kubernetes makes its DaskCluster the owner of worker
    groups.
    """
    return _made_by_us(body) and _in_family(controller(body).get("uid"), session, observed)


def of_family(session: Session, body: Body, observed: Observed) -> bool:
    """Return whether an object is the session's, or of a child of it, whoever has made it; its label says so, too."""
    return label_of(body, SESSION_UID) == session.uid and _in_family(controller(body).get("uid"), session, observed)


def left_by(uid: str, body: Body) -> bool:
    """Return whether we made an object for the session of this uid, and it has no other owner, or none any more."""
    owners = body["metadata"].get("ownerReferences", ())
    others = any(owner.get("uid") != uid for owner in owners)
    going = "deletionTimestamp" in body["metadata"]
    return label_of(body, SESSION_UID) == uid and _made_by_us(body) and not others and not going


def of_user(body: Body, user: str) -> bool:
    """Return whether we made this object for a user, to outlive their sessions."""
    labels, annotations = (body["metadata"].get(part, {}) for part in ("labels", "annotations"))
    return USER in labels and _made_by_us(body) and bool(annotations.get(USER) == user)


def same_owner(stored: Body, desired: Body) -> bool:
    """Return whether we made a stored object for whom we want one of its name: a session, or a user."""
    if controller(desired):
        same_session = label_of(stored, SESSION_UID) == label_of(desired, SESSION_UID)
        return same_session and controller(stored).get("uid") == controller(desired)["uid"] and _made_by_us(stored)
    user = desired["metadata"].get("annotations", {}).get(USER)
    return user is not None and of_user(stored, user)


def reference(session: Session, live: Body | None, observed: Observed) -> Body:
    """Return the controller reference of a child: to the session, or to the child of it that a live one has."""
    owner = dict(controller(live)) if live else {}
    if owner.get("uid") != session.uid and _in_family(owner.get("uid"), session, observed):
        return owner
    return {
        "apiVersion": API_VERSION,
        "kind": "AnalysisSession",
        "name": session.name,
        "uid": session.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _made_by_us(body: Body) -> bool:
    # Anybody may call themselves so. It counts only beside the label that nobody else can set; the Dask operator, which
    # copies our labels to what it makes, does not call itself so.
    return bool(our_entries(body))


def _in_family(uid: str | None, session: Session, observed: Observed) -> bool:
    return uid == session.uid or uid in observed.once(_uids_by_owner).get(session.uid, ())


def _uids_by_owner(children: Children) -> dict[str | None, frozenset[str]]:
    by_owner = grouped(children, lambda child: controller(child).get("uid"))
    return {owner: frozenset(child["metadata"]["uid"] for child in owned) for owner, owned in by_owner.items()}
