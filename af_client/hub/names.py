"""What JupyterHub's users and servers are called in Kubernetes, and the other way round. Pure.

What the children of a session are called is in ``af_names``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from secrets import token_hex
from typing import Any

from af_names import MAX_NAME, fit, hub_server, stem

Body = Mapping[str, Any]

MAX_SESSION = 40
SERVER_NAME = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
"""What the CRD allows as ``spec.notebook.serverName``."""
MAX_SERVER_NAME = 100

_PLAIN_USER = re.compile(r"[a-z][a-z0-9]*")
_PLAIN_SERVER = re.compile(r"([a-z0-9]+(-[a-z0-9]+)*)?")
_LOOKS_HASHED = re.compile(r".*-[0-9a-f]{10}(-[0-9a-f]{8})?")


def session_names(user: str, server: str) -> tuple[str, ...]:
    """Return the names that a new session of this server may have, the nicest first; the last is always its own.

    Two servers never share the last one. They never share the first either: a plain user has no hyphen, so the first
    hyphen ends it, and what looks hashed is hashed.
    """
    text = _text(user, server)
    own = f"{stem(text, MAX_SESSION - 11)}-{_digest(user, server)}"
    plain = _PLAIN_USER.fullmatch(user) and _PLAIN_SERVER.fullmatch(server)
    if plain and len(text) <= MAX_SESSION and not _LOOKS_HASHED.fullmatch(text):
        return text, own
    return (own,)


def another(user: str, server: str) -> str:
    """Return a further name for a session of this server, which nobody can have taken before: it is random."""
    found = stem(_text(user, server), MAX_SESSION - 20)
    return f"{found}-{_digest(user, server)}-{token_hex(4)}"


def made_here(session: str, user: str, server: str) -> bool:
    """Return whether a session of this server has a name that is given here."""
    own = rf".*-{_digest(user, server)}-[0-9a-f]{{8}}"
    return session in session_names(user, server) or bool(re.fullmatch(own, session))


def _text(user: str, server: str) -> str:
    return f"{user}-{server}".strip("-")


def _digest(user: str, server: str) -> str:
    return hashlib.sha256(f"{user}\0{server}".encode()).hexdigest()[:10]


def namespace(template: str, user: str, group: str) -> str:
    """Return the namespace that a template with ``{username}`` and ``{group}`` stands for.

    Raises
    ------
    KeyError, ValueError, IndexError
        The template has other placeholders, or is none.
    """
    room = MAX_NAME - len(template.format(username="", group=""))
    return template.format(username=fit(user, room), group=fit(group, room))


def server_name(body: Body) -> str | None:
    """Return the name of the JupyterHub server that shows a session; None if it has no notebook."""
    spec = body.get("spec") or {}
    notebook = spec.get("notebook")
    if notebook is None:
        return None
    return hub_server(body["metadata"]["name"], notebook.get("serverName"))
