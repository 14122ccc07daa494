"""Who may load and unload models, over whichever protocol."""

from __future__ import annotations

from collections.abc import Iterable

from af_inference.errors import Forbidden, Invalid
from af_inference.settings import Settings


def check_changes(settings: Settings, parameters: Iterable[str]) -> None:
    """Refuse to load or unload where the profile allows no changes, and whatever would replace a model's files.

    Raises
    ------
    Forbidden
        The profile does not allow it.
    Invalid
        There are parameters that are not known here.
    """
    if not settings.upload:
        raise Forbidden(
            "models of this session are those of its spec: its profile allows no uploads, loads and unloads"
        )
    if unknown := sorted(set(parameters) - {"unload_dependents"}):
        raise Invalid(f"parameter {unknown[0]} is not offered: a model's files come by POST /upload")
