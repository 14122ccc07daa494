"""What JupyterHub's users and servers are called in Kubernetes, and the other way round. Pure.

Names of children are the operator's; those of a session's Service and Secrets are repeated here, because the client
knows the CRD and nothing of the operator. A test compares them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

Body = Mapping[str, Any]

MAX_SESSION = 40
MAX_NAMESPACE = 63
NOTEBOOK_PORT = 8888
SERVER_NAME = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
"""What the CRD allows as ``spec.notebook.serverName``."""
MAX_SERVER_NAME = 100

_SAFE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_PLAIN_USER = re.compile(r"[a-z][a-z0-9]*")
_PLAIN_SERVER = re.compile(r"([a-z0-9]+(-[a-z0-9]+)*)?")
_LOOKS_HASHED = re.compile(r".*-[0-9a-f]{10}")


def session_names(user: str, server: str) -> tuple[str, ...]:
    """Return the names that a new session of this server may have, the nicest first; the last is always its own.

    Two servers never share the last one. They never share the first either: a plain user has no hyphen, so the first
    hyphen ends it, and what looks hashed is hashed.
    """
    text = f"{user}-{server}".strip("-")
    digest = hashlib.sha256(f"{user}\0{server}".encode()).hexdigest()[:10]
    own = f"{_stem(text, MAX_SESSION - 11)}-{digest}"
    plain = _PLAIN_USER.fullmatch(user) and _PLAIN_SERVER.fullmatch(server)
    if plain and len(text) <= MAX_SESSION and not _LOOKS_HASHED.fullmatch(text):
        return text, own
    return (own,)


def _stem(text: str, limit: int) -> str:
    stem = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    stem = stem if stem[:1].isalpha() else f"s-{stem}"
    return stem[:limit].rstrip("-")


def fit(text: str, limit: int = MAX_NAMESPACE) -> str:
    """Return `text` if it is a safe name of at most `limit` characters, else a cut of it and a hash."""
    if len(text) <= limit and _SAFE.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{_stem(text, limit - 9)}-{digest}"


def namespace(template: str, user: str, group: str) -> str:
    """Return the namespace that a template with ``{username}`` and ``{group}`` stands for.

    Raises
    ------
    KeyError, ValueError, IndexError
        The template has other placeholders, or is none.
    """
    room = MAX_NAMESPACE - len(template.format(username="", group=""))
    return template.format(username=fit(user, room), group=fit(group, room))


def server_name(body: Body) -> str | None:
    """Return the name of the JupyterHub server that shows a session; None if it has no notebook."""
    spec = body.get("spec") or {}
    notebook = spec.get("notebook")
    if notebook is None:
        return None
    name = notebook.get("serverName")
    return str(body["metadata"]["name"] if name is None else name)


def notebook(session: str) -> str:
    """Return the name of the notebook's Service, and of the Secret that the operator makes."""
    return fit(f"{session}-notebook", 52)


def hub_secret(session: str) -> str:
    """Return the name of the Secret with the Hub's environment."""
    return fit(f"{session}-hub")


def notebook_url(namespace: str, session: str) -> str:
    """Return the URL of the notebook's Service, without the path."""
    return f"http://{notebook(session)}.{namespace}.svc.cluster.local:{NOTEBOOK_PORT}"
