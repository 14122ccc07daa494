"""Whom the operator asks in the golden cases, it reaches: its door in the policy is at these very ports."""

from __future__ import annotations

from urllib.parse import urlsplit

from af_operator import plan
from af_operator.components import shipped
from af_operator.components.network import ingress
from tests.support.lived import CASES, NOW, lives


def test_each_agent_that_is_asked_lets_the_operator_in_and_no_door_is_left_over() -> None:
    asked: dict[str, set[int | None]] = {}
    for case in CASES:
        for life in lives(case).values():
            todo = plan.build(shipped(), life.session, life.profile, life.observed, NOW)
            for component, question in todo.questions.items():
                asked.setdefault(component, set()).add(urlsplit(question.url).port)
    assert set(asked) == {"dask", "spark"}
    assert set().union(*asked.values()) == set(ingress.ASKED)
