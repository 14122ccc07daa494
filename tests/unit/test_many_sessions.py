"""The sessions of scale tests and benchmarks are made of as much as these reckon with."""

from __future__ import annotations

from tests.support.many_sessions import CHILDREN, RUN, children_of, session


def test_a_run_has_as_many_children_as_is_said() -> None:
    assert len(children_of(session("zmumu", "physics", RUN))) == CHILDREN
