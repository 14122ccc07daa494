"""Names that operator and client share: valid for every session that the API server takes, and needing nobody."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import af_names
from af_operator.api.common import NAME

DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
CHILDREN = (
    af_names.run_log,
    af_names.notebook,
    af_names.notebook_pod,
    af_names.inference,
    af_names.inference_pod,
    af_names.hub_secret,
)


@given(st.from_regex(NAME, fullmatch=True))
def test_every_child_has_a_dns_label(session: str) -> None:
    assert [name for child in CHILDREN if not DNS_LABEL.fullmatch(name := child(session))] == []


@pytest.mark.parametrize(
    ("session", "name"),
    [
        ("zmumu", "zmumu-run-log"),
        ("2018-zmumu", r"s-2018-zmumu-run-log-[0-9a-f]{8}"),
        ("lab.2018", r"lab-2018-run-log-[0-9a-f]{8}"),
    ],
)
def test_a_child_is_called_after_its_session(session: str, name: str) -> None:
    assert re.fullmatch(name, af_names.run_log(session))


@given(st.lists(st.from_regex(NAME, fullmatch=True), min_size=2, max_size=2, unique=True))
def test_two_sessions_share_no_child(sessions: list[str]) -> None:
    one, other = ({child(session) for child in CHILDREN} for session in sessions)
    assert not one & other


def test_it_imports_nobody() -> None:
    tree = ast.parse(Path(af_names.__file__).read_text())
    plain = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    asked = [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in plain + asked} <= sys.stdlib_module_names
