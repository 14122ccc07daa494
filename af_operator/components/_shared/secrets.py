"""Secrets that a session has once: made by the first pass, and kept by all that follow. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from af_operator import ownership
from af_operator.model import SECRET, Session
from af_operator.observed import Observed


def kept(session: Session, observed: Observed, name: str, key: str) -> str:
    """Return what the session's own Secret of this name has under a key; empty where there is no such thing.

    What runs was started with it. A Secret of somebody else gives nothing: they would know what it protects.
    """
    live = observed.get(SECRET.ref(name))
    if live is None or not ownership.of_session(session, live, observed):
        return ""
    try:
        return base64.b64decode((live.get("data") or {}).get(key) or "").decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def encoded(values: Mapping[str, str]) -> dict[str, str]:
    """Return values as a Secret's ``data`` has them."""
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
