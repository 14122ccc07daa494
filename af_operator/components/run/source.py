"""The source of a run: files of the session's own, or a ConfigMap that somebody else has made. Pure.

The operator can read every ConfigMap of the namespace, and its user perhaps none. Whether they may read the one that
the session names is settled as the session is created, by the chart's admission policy; that it belongs to no other
session is settled here, whatever the policies are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from af_operator import names
from af_operator.api.session import Source
from af_operator.components._shared.pod_reasons import Reason
from af_operator.components.run import tries
from af_operator.components.run.tries import spec
from af_operator.errors import InvalidSession
from af_operator.model import CONFIG_MAP, Body, Keep, Loan, Manifest, ObjectRef, Session, label_of
from af_operator.observed import Observed, Settled
from af_operator.render import render

PATH = names.SOURCE_DIRECTORY
MOUNT: Body = {"name": "source", "mountPath": PATH, "readOnly": True}


def planned(session: Session, files: Mapping[str, str], observed: Observed) -> Manifest | Keep:
    """Return the ConfigMap with the session's own files."""
    ref = CONFIG_MAP.ref(names.run_source(session))
    if observed.get(ref):  # immutable, as the session's files are: what is there is right
        return Keep(ref)
    return replace(render(__package__, "source", name=ref.name, files=dict(files)), from_source=True)


def volume(session: Session, source: Source, **more: Any) -> Body:
    """Return the volume that it is mounted from."""
    return {"name": "source", "configMap": {"name": source.config_map or names.run_source(session), **more}}


def loans(session: Session, observed: Settled) -> Sequence[Loan]:
    """Return the ConfigMap of somebody else, until the run has been let go with it.

    Raises
    ------
    InvalidSession
        It is another session's.
    """
    ref = _lent(session)
    if ref is None or session.spec.suspend or observed.finished or _is_released(session, observed):
        return ()
    there = observed.read.get(ref)
    if there is not None:
        _check(session, ref, there)
    return [Loan(ref, fits=there is not None, unread=ref not in observed.read)]


def missing(session: Session, observed: Observed) -> Reason | None:
    """Return that there is no such ConfigMap, if that is so."""
    ref = _lent(session)
    if ref is None or observed.read.get(ref, ref) is not None:
        return None
    return Reason(
        "SourceMissing", f"there is no ConfigMap {ref.name!r} in this namespace: create it, and the run starts"
    )


def _lent(session: Session) -> ObjectRef | None:
    source = spec(session).source
    return CONFIG_MAP.ref(source.config_map) if source and source.config_map else None


def _is_released(session: Session, observed: Observed) -> bool:
    job = tries.current_job(session, observed)
    return job is not None and job.get("spec", {}).get("suspend") is False


def _check(session: Session, ref: ObjectRef, there: Body) -> None:
    uid = label_of(there, names.SESSION_UID)
    if uid is not None:
        whose = "this session itself" if uid == session.uid else "another session"
        words = f"ConfigMap {ref.name!r} (run.source.configMap) belongs to {whose}: name one that people have made"
        raise InvalidSession("SourceRefused", words)
