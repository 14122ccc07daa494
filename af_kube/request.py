"""One request to an API server, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

READ_SECONDS = 30.0
JSON = "application/json"
APPLY_PATCH = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"


def api_path(api_version: str) -> str:
    """Return the path of a version of an API group: the first of them has no group, and a root of its own."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


@dataclass(frozen=True)
class Request:
    """One HTTP request; `body` is sent as JSON.

    Attributes
    ----------
    path
        Below the server's URL, such as ``/api/v1/namespaces/physics/pods``.
    read_seconds
        For a call, until the whole answer is there; for a stream, between two lines.
    last_bytes
        For a call: so much of the answer's end is kept, and no more of it is in memory, however long it is.
    """

    verb: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    content_type: str = JSON
    read_seconds: float = READ_SECONDS
    accept: str = JSON
    last_bytes: int | None = None
