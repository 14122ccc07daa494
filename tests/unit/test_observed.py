"""What a pass is given: tokens that nobody shares, and what is settled on the way."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime

from af_operator.model import Finish, PodPatch
from af_operator.observed import Observed, Settled, Terms
from tests.support.objects import live

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PURPOSES = ("notebook token", "worker a 0", "worker a 1", "worker b 0", "")


def test_each_purpose_has_a_token_of_its_own() -> None:
    observed = Observed(nonce="ab" * 32)
    tokens = [observed.token(purpose) for purpose in PURPOSES]
    assert len(set(tokens)) == len(PURPOSES)
    assert all(len(bytes.fromhex(token)) == 32 for token in tokens)
    assert observed.nonce not in tokens, "who has one of them has no other"
    assert tokens == [Observed(nonce="ab" * 32).token(purpose) for purpose in PURPOSES]


def test_another_pass_has_other_tokens() -> None:
    assert Observed(nonce="ab" * 32).token("x") != Observed(nonce="cd" * 32).token("x")


def test_no_secret_is_printed() -> None:
    observed = Observed(nonce="ab" * 32)
    for printed in (repr(observed), repr(Settled.at(NOW, observed, None))):
        assert observed.nonce not in printed


def test_what_is_settled_is_what_was_observed_and_more() -> None:
    children = (live("v1", "Pod", "a"), live("v1", "Pod", "b"))
    observed = Observed(children=children, log_tail="x", gpus_free={"gpu": 1}, nonce="ab" * 32)
    calls: list[int] = []

    def count(found: object) -> int:
        calls.append(1)
        return len(children)

    observed.once(count)
    end = Finish("Succeeded", "m", NOW)
    settled = Settled.at(NOW, observed, end)
    assert (settled.finished, settled.now) == (end, NOW)
    assert all(getattr(settled, field.name) == getattr(observed, field.name) for field in fields(Observed))
    assert settled.once(count) == 2
    assert calls == [1], "what was looked up is looked up once"


def test_who_is_not_spoken_of_gets_no_patch() -> None:
    patch = PodPatch(env=({"name": "TOKEN", "value": "x"},))
    assert Terms(patches={"user": patch}).patch("worker") == PodPatch()
    assert Terms(patches={"user": patch}).patch("user") == patch
