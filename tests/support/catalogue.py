"""Profiles of the tests' own: they are cluster-wide, so each has a name of its own and goes at the end."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.support.tenant import API, kubectl


def new_name() -> str:
    """Return a name that no other profile has."""
    return f"e2e-{uuid.uuid4().hex[:8]}"


def default_spec() -> dict[str, Any]:
    """Return what the facility's own profile says."""
    found: dict[str, Any] = json.loads(kubectl("get", "analysisprofile", "default", "-o", "json"))["spec"]
    return found


@contextmanager
def profile(name: str | None = None, **changes: Any) -> Iterator[str]:
    """Create a profile that is the facility's own but for some fields; yield its name."""
    name = name or new_name()
    create_profile(name, default_spec() | changes)
    try:
        yield name
    finally:
        kubectl("delete", "analysisprofile", name)


def create_profile(name: str, spec: Mapping[str, Any]) -> None:
    """Create a profile."""
    body = {"apiVersion": API, "kind": "AnalysisProfile", "metadata": {"name": name}, "spec": spec}
    kubectl("create", "--filename=-", stdin=json.dumps(body))
