"""What a session can be begun as, in words: what of it a profile offers, and what comes of it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from af_client.hub import options_form, presets
from af_client.hub.choices import BadOption
from af_client.hub.offers import Offer
from af_operator.api.session import SessionSpec
from tests.support.forms import IMAGES, OFFERS, SERVING, SIZES, TWO, WITH_SPARK, Form, fields, offer, sent_by, spec

ALL = offer(
    images=IMAGES,
    sizes=SIZES,
    inference={"image": "i", "models": [{"name": f"m{i}", "version": "1"} for i in range(5)], "upload": True},
)
ONE = offer(limits={"workers": 1, "gpus": 1})
BARE = offer(nodePools=[], limits={"workers": 0})


def titles(offered: Offer) -> list[str]:
    return [preset.title for preset in presets.of(offered)]


def begun(name: str, offered: Offer, **more: str) -> dict[str, Any]:
    """Return the spec of who chooses this in words."""
    return spec(sent_by(fields(start=name, **more), [offered]), [offered])


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        (BARE, ["Just a notebook", "My own choice"]),
        (OFFERS[0], ["Just a notebook", "A few workers", "A GPU", "My own choice"]),
        (offer(limits={"workers": 4}), ["Just a notebook", "A few workers", "My own choice"]),
        (offer(nodePools=[{"name": "gpu", "gpuResource": "g"}]), ["Just a notebook", "A GPU", "My own choice"]),
        (SERVING[0], ["Just a notebook", "A few workers", "A GPU", "Models to ask", "My own choice"]),
        (
            ALL,
            ["Just a notebook", "A few workers", "A GPU", "A few Spark workers", "Models to ask", "My own choice"],
        ),
    ],
)
def test_what_a_profile_has_can_be_chosen_and_nothing_else(offered: Offer, expected: list[str]) -> None:
    assert titles(offered) == expected
    html = options_form.render([offered], "default", {})
    assert re.findall(r'<label[^>]* for="af-default-start-[^>]*>([^<]*)<', html) == expected


@pytest.mark.parametrize("offered", [BARE, *OFFERS, *WITH_SPARK, *SERVING, ALL, ONE])
def test_each_choice_is_a_session_that_the_api_takes(offered: Offer) -> None:
    for preset in presets.of(offered):
        SessionSpec.model_validate(begun(preset.name, offered) | {"user": "alice"})


def test_what_each_choice_asks_for() -> None:
    assert begun("notebook", ALL).keys() == {"profile", "mode", "notebook"}
    [pool] = begun("workers", ALL)["dask"]["pools"]
    assert (pool["nodePool"], pool["workers"]) == ("cpu", {"min": 1, "max": 4})
    [pool] = begun("gpu", ALL)["dask"]["pools"]
    assert (pool["nodePool"], pool["workers"], pool["gpusPerWorker"]) == ("gpu", {"min": 0, "max": 1}, 1)
    spark = begun("spark", ALL)
    assert spark["spark"]["pools"][0]["workers"] == {"min": 1, "max": 4}
    assert spark["image"] == "spark", "the first that has it"
    assert begun("spark", ALL, image="root")["image"] == "root"
    assert begun("models", ALL)["inference"]["models"] == [{"name": "m0"}, {"name": "m1"}, {"name": "m2"}]


def test_the_form_begins_with_just_a_notebook_and_its_numbers_folded() -> None:
    html = options_form.render(OFFERS, "default", {})
    assert Form(html).inputs["start"]["value"] == "notebook"
    assert "<details>" in html
    assert spec(sent_by(Form(html).sent())).keys() == {"profile", "mode", "notebook", "image"}


@pytest.mark.parametrize("name", [preset.name for preset in presets.of(ALL)[:-1]])
def test_what_was_chosen_in_words_is_shown_in_words(name: str) -> None:
    options = sent_by(fields(start=name), [ALL])
    html = options_form.render([ALL], "default", options)
    assert Form(html).inputs["start"]["value"] == name
    assert sent_by(Form(html).sent(), [ALL])["image"] in (ALL.images if name != "spark" else ("spark",))
    assert spec(sent_by(Form(html).sent(), [ALL]), [ALL]).keys() >= begun(name, ALL).keys()


def test_numbers_of_ones_own_are_shown_unfolded() -> None:
    html = options_form.render(OFFERS, "default", {"profile": "default", "pools": {"cpu": {"workers": 3}}})
    assert Form(html).inputs["start"]["value"] == "own"
    assert "<details open>" in html
    assert spec(sent_by(Form(html).sent()))["dask"]["pools"][0]["workers"]["max"] == 3


def test_a_choice_in_words_comes_before_numbers_that_stand_below_and_other_fields_stay() -> None:
    sent = fields(start="gpu", size="large", xcache="Session", **{"workers.cpu": "7", "min-workers.cpu": "1"})
    found = spec(sent_by(sent))
    assert [pool["name"] for pool in found["dask"]["pools"]] == ["gpu"]
    assert (found["notebook"]["size"], found["xcache"]["placement"]) == ("large", "Session")


def test_of_several_profiles_each_has_its_own_choices() -> None:
    sent = fields(**{"profile": "ml", "ml:start": "workers", "default:start": "gpu"})
    found = spec(sent_by(sent, TWO), TWO)
    assert found["profile"] == "ml"
    assert [pool["name"] for pool in found["dask"]["pools"]] == ["cpu"]


def test_what_is_not_offered_cannot_be_begun() -> None:
    with pytest.raises(BadOption, match="start: 'gpu' is not offered: allowed: notebook, own"):
        sent_by(fields(start="gpu"), [BARE])
    with pytest.raises(BadOption, match="profile: 'no' is not offered"):
        sent_by(fields(start="notebook", profile="no"))


def test_the_script_knows_the_numbers_of_each_choice() -> None:
    by_name = {preset.name: preset.fields for preset in presets.of(ALL)}
    assert by_name["notebook"] == {}
    assert by_name["workers"] == {"workers.cpu": 4, "min-workers.cpu": 1}
    assert by_name["spark"] == {"workers.spark/cpu": 4, "min-workers.spark/cpu": 1}
    assert by_name["models"] == {"model.m0": True, "model.m1": True, "model.m2": True}
