"""What one choice may be, and what is said of one that is not offered. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from af_client.errors import BadInput

MAX_SHOWN = 60


class BadOption(BadInput):
    """A choice that is not offered; the message names the field and what is allowed."""


def known(where: str, given: Any, keys: Iterable[str]) -> None:
    """Refuse an object that has anything but these."""
    if not isinstance(given, Mapping):
        raise BadOption(f"{where}: {shown(given)} is not an object with any of {listed(keys)}")
    for key in given:
        if key not in keys:
            raise BadOption(f"{where}: {shown(key)} is unknown: allowed: {listed(keys)}")


def one_of(field: str, value: Any, allowed: Iterable[str]) -> str:
    """Return a choice, if it is among these."""
    if not isinstance(value, str) or value not in allowed:
        raise BadOption(f"{field}: {shown(value)} is not offered: allowed: {listed(allowed)}")
    return value


def count(field: str, value: Any, most: int) -> int:
    """Return a number from 0 to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadOption(f"{field}: {shown(value)} is not a number of them: allowed: 0 to {most}")
    at_most(field, value, most)
    return value


def at_most(field: str, value: int, most: int) -> None:
    """Refuse a number above a limit."""
    if value > most:
        raise BadOption(f"{field}: {value} is over the limit: allowed: at most {most}")


def listed(names: Iterable[str]) -> str:
    """Return names as an error lists them."""
    return ", ".join(sorted(names)) or "nothing"


def shown(value: Any) -> str:
    """Return a value as an error shows it, however long it is."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
