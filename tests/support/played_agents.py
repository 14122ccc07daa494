"""Agents that say what the test has them say, and remember what they are asked."""

from __future__ import annotations

import json
from collections.abc import Mapping

from af_operator.model import Key, Session, SessionRef
from af_operator.views import AgentView, Answer, Question


class NoAgents:
    """The port to agents where nobody may ask."""

    def views(self, session: Session) -> Mapping[str, AgentView]:
        return {}

    def ask(self, session: SessionRef, questions: Mapping[str, Question]) -> None:
        """Ask nobody."""

    def forget(self, key: Key) -> None:
        """There is nothing to forget."""


class PlayedAgents:
    """The port to agents, of one session; what they say is cut as a real one's is (``Question``)."""

    def __init__(self) -> None:
        self.asked: Mapping[str, Question] = {}
        """By component, what the last pass asked."""
        self._said: dict[str, AgentView] = {}

    def views(self, session: Session) -> Mapping[str, AgentView]:
        return dict(self._said)

    def ask(self, session: SessionRef, questions: Mapping[str, Question]) -> None:
        self.asked = questions

    def forget(self, key: Key) -> None:
        self.asked = {}

    def answer(self, component: str, **said: object) -> Answer:
        """Have the agent of a component answer what it was asked last; raises where that is no answer."""
        question = self.asked[component]
        found = question.answer.model_validate_json(json.dumps(said)).about(question.asked)
        self._said[component] = AgentView(found)
        return found

    def say(self, component: str, view: AgentView) -> None:
        """Let this be known of the agent of a component."""
        self._said[component] = view
