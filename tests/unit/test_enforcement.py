"""What the operator makes of what was found out about the cluster's network."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest

from af_kube.connection import Transport
from af_kube.errors import HttpError, KubeError, Unreachable
from af_kube.request import Request
from af_operator import enforcement
from af_operator.enforcement import NOT_TRIED, Enforcement, Finding

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
LATER = datetime(2026, 11, 26, 13, tzinfo=UTC)
HOLDS = {"enforced": "true", "message": "it was refused", "checked": "2026-11-26T11:59:00Z"}


class Api:
    """A ConfigMap, or what a request for it raises."""

    def __init__(self, answer: dict[str, Any] | KubeError) -> None:
        self.answer = answer
        self.requests: list[Request] = []

    async def read(self, request: Request) -> bytes:
        self.requests.append(request)
        if isinstance(self.answer, KubeError):
            raise self.answer
        return json.dumps({"data": self.answer} if self.answer else {}).encode()

    lines = Transport.lines


class Seen:
    def __init__(self, answer: dict[str, Any] | KubeError) -> None:
        self.api = Api(answer)
        self.changes = 0
        self.enforcement = Enforcement(self.api, "af-system", self._changed)

    def _changed(self) -> None:
        self.changes += 1

    async def look(self, answer: dict[str, Any] | KubeError | None = None) -> Finding | None:
        self.api.answer = self.api.answer if answer is None else answer
        await self.enforcement.look()
        return self.enforcement.finding


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (HOLDS, Finding("true", "it was refused")),
        ({"enforced": "false", "message": "let\nthrough"}, Finding("false", "let through")),
        ({"enforced": "unknown", "message": "no room"}, Finding("unknown", "no room")),
        ({"enforced": "yes", "message": "?"}, NOT_TRIED),
        ({}, NOT_TRIED),
    ],
)
def test_what_the_job_says_is_read_and_nothing_else(data: dict[str, Any], said: Finding) -> None:
    assert enforcement.read({"data": data} if data else {}) == said


async def test_a_look_is_one_request_and_news_are_told_once() -> None:
    seen = Seen(HOLDS)
    assert await seen.look() == await seen.look() == Finding("true", "it was refused")
    assert seen.changes == 1
    assert [r.path for r in seen.api.requests] == ["/api/v1/namespaces/af-system/configmaps/af-operator-network"] * 2
    assert await seen.look({"enforced": "false", "message": "let through"}) == Finding("false", "let through")
    assert seen.changes == 2


@pytest.mark.parametrize("error", [Unreachable("gone"), HttpError(503, "busy")])
async def test_a_server_that_is_away_changes_nothing(error: KubeError) -> None:
    assert await Seen(error).look() is None
    seen = Seen(HOLDS)
    await seen.look()
    assert await seen.look(error) == Finding("true", "it was refused")


@pytest.mark.parametrize("status", [403, 404])
async def test_without_the_chart_it_was_not_tried(status: int) -> None:
    assert await Seen(HttpError(status, "no")).look() == NOT_TRIED


@pytest.mark.parametrize(("answer", "number"), [("true", 1.0), ("false", 0.0), ("unknown", math.nan)])
async def test_the_metric_is_a_number_that_an_alert_can_ask_for(answer: str, number: float) -> None:
    await Seen({"enforced": answer, "message": ""}).look()
    (sample,) = next(iter(enforcement.ENFORCED.collect())).samples
    assert sample.value == number or (math.isnan(number) and math.isnan(sample.value))


def test_a_condition_keeps_the_time_of_its_last_turn() -> None:
    first = enforcement.condition(Finding("true", "a"), (), NOW)
    assert first == {
        "type": "NetworkEnforced",
        "status": "True",
        "reason": "Enforced",
        "message": "a",
        "lastTransitionTime": "2026-11-26T12:00:00Z",
    }
    again = enforcement.condition(Finding("true", "b"), [first], LATER)
    assert (again["lastTransitionTime"], again["message"]) == ("2026-11-26T12:00:00Z", "b")
    turned = enforcement.condition(Finding("false", "c"), [again], LATER)
    assert (turned["status"], turned["lastTransitionTime"]) == ("False", "2026-11-26T13:00:00Z")
