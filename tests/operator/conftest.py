"""Names that are drawn in a pass, drawn alike."""

from __future__ import annotations

import pytest

from af_operator import reconcile


@pytest.fixture
def same_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give workers the same names on each bench, as in a pass that is made anew."""
    monkeypatch.setattr(reconcile.secrets, "token_hex", lambda size: "0" * 2 * size)
