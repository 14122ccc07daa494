"""The two kinds as models: what they parse, and that their CEL rules say what their descriptions promise."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from af_operator.api import ProfileSpec, SessionSpec
from af_operator.api.common import VALIDATIONS
from af_operator.crdgen import structural

SESSION: dict[str, Any] = {
    "profile": "default",
    "user": "alice",
    "mode": "Headless",
    "image": "analysis",
    "run": {"command": ["python", "zmumu.py"], "source": {"files": {"zmumu.py": "print(1)"}}, "backoffLimit": 1},
    "dask": {"pools": [{"name": "gpu", "nodePool": "gpu", "workers": {"min": 0, "max": 2}, "gpusPerWorker": 1}]},
    "xcache": {"placement": "Session"},
    "env": [{"name": "DATASET", "value": "a"}],
    "lifetimeSeconds": 43200,
}
PROFILE: dict[str, Any] = {
    "images": [{"name": "analysis", "image": "registry.example.org/analysis:1"}],
    "sizes": [{"name": "small", "cpu": "1", "memory": "2Gi"}],
}


def test_a_session_is_parsed_from_what_the_server_sends() -> None:
    spec = SessionSpec.model_validate(SESSION)
    assert spec.run is not None
    assert spec.run.backoff_limit == 1
    assert spec.dask is not None
    assert spec.dask.pools[0].gpus_per_worker == 1
    assert spec.dask.pools[0].size is None
    assert spec.xcache is not None
    assert spec.xcache.size == "10Gi"
    assert not spec.suspend


def test_what_is_parsed_is_written_back_the_same() -> None:
    written = SessionSpec.model_validate(SESSION).model_dump(by_alias=True, exclude_unset=True)
    assert written == SESSION


def test_a_profile_has_limits_and_defaults_though_it_says_none() -> None:
    spec = ProfileSpec.model_validate(PROFILE)
    assert (spec.limits.workers, spec.limits.gpus, spec.limits.lifetime_seconds) == (100, 0, None)
    assert spec.defaults.ttl_seconds_after_finished == 86_400


@pytest.mark.parametrize(
    "wrong",
    [
        {"image": "docker.io/evil"},
        {"user": ""},
        {"mode": "Batch"},
        {"env": [{"name": "1X", "value": ""}]},
        {"xcache": {"size": "10 GB"}},
        {"lifetimeSeconds": 0},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_the_server_would_refuse_is_not_parsed(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SessionSpec.model_validate(SESSION | wrong)


def test_a_field_of_a_newer_schema_is_left_alone() -> None:
    newer = PROFILE | {"newer": 1, "limits": {"workers": 3, "newer": 1}}
    assert ProfileSpec.model_validate(newer).limits.workers == 3
    assert SessionSpec.model_validate(SESSION | {"newer": {}}) == SessionSpec.model_validate(SESSION)


def test_a_parsed_spec_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        SessionSpec.model_validate(SESSION).suspend = True


def test_exactly_what_is_described_as_immutable_is_guarded() -> None:
    schema = structural(SessionSpec)
    described = {name for name, prop in schema["properties"].items() if "Immutable." in prop["description"]}
    guarded = {r["fieldPath"][1:] for r in schema[VALIDATIONS] if "cannot be changed" in r["message"]}
    assert described == guarded == {"profile", "user", "mode", "image", "run", "notebook", "xcache", "env"}


def test_no_transition_rule_is_on_an_optional_field_that_comes_and_goes() -> None:
    """There it would not be evaluated when the field is added or removed."""
    schema = structural(SessionSpec)
    of_spec = [r["rule"] for r in schema[VALIDATIONS]]
    stays = {
        name for name in schema["properties"] if any(f"has(self.{name}) == has(oldSelf.{name})" in r for r in of_spec)
    }
    with_transitions = {
        name
        for name, prop in schema["properties"].items()
        if any("oldSelf" in r["rule"] for r in prop.get(VALIDATIONS, []))
    }
    assert with_transitions <= stays
    assert "dask" in stays
