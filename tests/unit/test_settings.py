"""Settings fail at start, with a line for each mistake."""

from __future__ import annotations

import pytest

from af_operator import settings


def test_defaults_and_values() -> None:
    assert settings.load({}).workers == 10
    found = settings.load({"AF_OPERATOR_WATCH_NAMESPACES": "a, b", "AF_OPERATOR_WORKERS": "3", "PATH": "/bin"})
    assert (found.watch_namespaces, found.workers) == (("a", "b"), 3)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("WORKERS", "0", "greater than or equal to 1"),
        ("WORKERS", "many", "valid integer"),
        ("LOG_LEVEL", "loud", "'debug', 'info'"),
        ("LOGLEVEL", "info", "Extra inputs are not permitted"),
        ("LEASE_SECONDS", "1", "greater than or equal to 5"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str, said: str) -> None:
    with pytest.raises(SystemExit) as caught:
        settings.load({f"AF_OPERATOR_{name}": value})
    assert f"AF_OPERATOR_{name}: " in str(caught.value)
    assert said in str(caught.value)
