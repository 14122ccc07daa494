"""The form of the Hub: what it offers, and what comes of what it sends."""

from __future__ import annotations

import json
import re

import pytest

from af_client.hub import options_form
from af_client.hub.choices import BadOption
from af_client.hub.offers import Offer
from af_client.model import Session
from af_operator.api.pools import Pool
from af_operator.api.profile import ProfileSpec
from af_operator.api.session import SessionSpec
from tests.support.forms import (
    CATALOGUE,
    IMAGES,
    OFFERS,
    SERVING,
    SIZES,
    TWO,
    WITH_SPARK,
    Form,
    fields,
    offer,
    sent_by,
    spec,
)
from tests.support.spawner_bench import PROFILE


def test_the_form_as_it_is_gives_a_session_of_the_defaults() -> None:
    options = sent_by(Form(options_form.render(OFFERS, "default", {})).sent())
    found = spec(options)
    assert found == {
        "profile": "default",
        "mode": "Interactive",
        "image": "analysis",
        "notebook": {"size": "small"},
    }


CHOICES = {
    "profile": "default",
    "image": "ml",
    "size": "large",
    "xcache": "Session",
    "pools": {
        "cpu": {"workers": 4, "minWorkers": 2, "size": "large"},
        "gpu": {"workers": 1, "minWorkers": 0, "size": "small"},
    },
}


def test_what_is_chosen_comes_back_from_the_form_and_fits_the_api() -> None:
    form = Form(options_form.render(OFFERS, "default", CHOICES))
    assert sent_by(form.sent()) == CHOICES
    chosen = SessionSpec.model_validate({**spec(CHOICES), "user": "alice"})
    assert chosen.dask is not None
    assert [(p.name, p.node_pool, p.workers.min, p.workers.max, p.gpus_per_worker) for p in chosen.dask.pools] == [
        ("cpu", "cpu", 2, 4, 0),
        ("gpu", "gpu", 0, 1, 1),
    ]
    assert chosen.notebook is not None
    assert (chosen.image, chosen.notebook.size) == ("ml", "large")
    assert chosen.xcache is not None
    assert chosen.xcache.placement == "Session"


ON_SPARK = {
    "profile": "default",
    "image": "root",
    "size": "small",
    "xcache": "none",
    "pools": {
        "cpu": {"workers": 2, "minWorkers": 1, "size": "small"},
        "gpu": {"workers": 0, "minWorkers": 0, "size": "small"},
        "spark/cpu": {"workers": 3, "minWorkers": 2, "size": "large"},
    },
}


def test_spark_pools_are_chosen_beside_those_of_dask() -> None:
    form = Form(options_form.render(WITH_SPARK, "default", ON_SPARK))
    assert sent_by(form.sent(), WITH_SPARK) == ON_SPARK
    found = spec(ON_SPARK, WITH_SPARK)
    assert found["image"] == "root"
    assert [pool["workers"] for pool in found["dask"]["pools"]] == [{"min": 1, "max": 2}]
    [pool] = (Pool.model_validate(each) for each in found["spark"]["pools"])
    assert (pool.name, pool.node_pool, pool.size) == ("cpu", "cpu", "large")
    assert (pool.workers.min, pool.workers.max, pool.gpus_per_worker) == (2, 3, 0)


def test_a_form_with_spark_that_nobody_touched_asks_for_none() -> None:
    options = sent_by(Form(options_form.render(WITH_SPARK, "default", {})).sent(), WITH_SPARK)
    assert {"dask", "spark"}.isdisjoint(spec(options, WITH_SPARK))


def test_spark_is_offered_where_an_image_and_a_size_are_for_it_on_nodes_without_gpus() -> None:
    def offered(*offers: Offer) -> list[str]:
        return [name for name in Form(options_form.render(offers, "default", {})).inputs if "spark" in name]

    assert offered(*WITH_SPARK) == ["workers.spark/cpu", "min-workers.spark/cpu", "worker-size.spark/cpu"]
    assert offered(offer(sizes=SIZES)) == []
    assert offered(offer(images=IMAGES, sizes=SIZES[:1])) == []
    assert offered(offer(images=IMAGES, sizes=SIZES, nodePools=PROFILE["spec"]["nodePools"][1:])) == []
    with pytest.raises(BadOption, match="'spark/cpu' is unknown: allowed: cpu, gpu"):
        spec({"pools": {"spark/cpu": {"workers": 1}}})


def test_spark_takes_an_image_that_has_it() -> None:
    pools = {"spark/cpu": {"workers": 1}}
    assert "image" not in spec({"pools": pools}, WITH_SPARK), "the operator takes the first that has Spark"
    with pytest.raises(BadOption, match="image: 'analysis' has no Spark: allowed: root, spark"):
        spec({"image": "analysis", "pools": pools}, WITH_SPARK)
    html = options_form.render(WITH_SPARK, "default", {})
    assert "Spark is in images spark, root." in html
    assert re.findall(r'<option value="(\w+)" data-af-lacking="spark"', html) == ["analysis"]
    assert "data-af-lacking" not in options_form.render(OFFERS, "default", {})


SERVED = {
    "profile": "default",
    "image": "ml",
    "size": "small",
    "xcache": "none",
    "pools": {
        name: {"workers": 0, "minWorkers": 1 if name == "cpu" else 0, "size": "small"} for name in ("cpu", "gpu")
    },
    "inference": {"models": ["topjet", "b.tag"], "upload": True, "size": "large", "replicas": 2},
}


def test_models_of_the_catalogue_and_ones_own_are_chosen() -> None:
    form = Form(options_form.render(SERVING, "default", SERVED))
    assert sent_by(form.sent(), SERVING) == SERVED
    found = spec(SERVED, SERVING)
    assert found["inference"] == {
        "models": [{"name": "topjet"}, {"name": "b.tag"}],
        "upload": True,
        "size": "large",
        "replicas": 2,
    }
    chosen = SessionSpec.model_validate({**found, "user": "alice"}).inference
    assert chosen is not None
    assert [each.name for each in chosen.models] == ["topjet", "b.tag"]


def test_a_form_with_models_that_nobody_touched_asks_for_none() -> None:
    form = Form(options_form.render(SERVING, "default", {}))
    options = sent_by(form.sent(), SERVING)
    assert "inference" not in spec(options, SERVING)


def test_models_are_shown_once_with_the_version_that_a_session_gets() -> None:
    html = options_form.render(SERVING, "default", {})
    assert re.findall(r"(topjet, version \d+[^<]*|b\.tag, version \d+)", html) == [
        "topjet, version 10: hadronic &lt;tops&gt;",
        "b.tag, version 1",
    ]
    assert "which I push" in html


def test_a_profile_without_models_shows_nothing_of_them() -> None:
    for offers in (OFFERS, [offer(inference={"image": "r/inference", "models": [], "upload": False})]):
        page = re.sub(r"(?s)<script>.*?</script>", "", options_form.render(offers, "default", {}))
        assert "odel" not in page
        with pytest.raises(BadOption, match="'topjet' is not offered: allowed: nothing"):
            spec({"inference": {"models": ["topjet"]}}, offers)
    only_catalogue = [offer(inference={"image": "r/inference", "models": CATALOGUE})]
    assert "which I push" not in options_form.render(only_catalogue, "default", {})
    with pytest.raises(BadOption, match="profile 'default' takes no models of one's own"):
        spec({"inference": {"upload": True}}, only_catalogue)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"model-replicas": "many"}, "model-replicas: 'many' is not a number"),
        ({"model.topjet": "maybe"}, "'model.topjet': 'maybe' means nothing: write yes, or leave it out"),
        ({"model-upload": "on"}, "'model-upload': 'on' means nothing"),
        ({"model.": "yes"}, "unknown field 'model.'"),
    ],
)
def test_fields_of_models_that_mean_nothing_are_refused(sent: dict[str, str], message: str) -> None:
    with pytest.raises(BadOption, match=re.escape(message)):
        sent_by(fields(**sent))


def test_every_field_has_a_label_and_numbers_have_their_bounds() -> None:
    for offers in (OFFERS, TWO, WITH_SPARK, SERVING):
        form = Form(options_form.render(offers, "default", {}))
        assert set(form.ids) == form.labelled
        assert len(form.ids) == len(form.labelled)
        assert form.described <= form.texts, "what describes a field is there"
    assert Form(options_form.render(OFFERS, "default", {})).inputs["workers.gpu"]["max"] == "2"  # limits.gpus


def test_free_gpus_are_said() -> None:
    assert "3 of 4 GPUs free now" in options_form.render(OFFERS, "default", {})


def test_without_a_script_the_fields_of_the_chosen_profile_count() -> None:
    form = Form(options_form.render(TWO, "default", {}))
    sent = form.sent() | fields(
        **{"profile": "ml", "ml:start": "own", "ml:workers.cpu": "2", "default:workers.cpu": "7"}
    )
    found = spec(sent_by(sent, TWO), TWO)
    assert found["profile"] == "ml"
    assert found["dask"]["pools"][0]["workers"]["max"] == 2
    assert "xcache" not in found


def test_a_facility_without_profiles_says_so() -> None:
    assert "offers you no profile" in options_form.render([], "default", {})
    with pytest.raises(BadOption, match="AnalysisProfile"):
        spec({}, [])


def test_nodes_with_gpus_are_for_workers_with_gpus_unless_the_profile_says_otherwise() -> None:
    gpu = {"name": "gpu", "nodeSelector": {"gpu": "1"}, "gpuResource": "nvidia.com/gpu"}
    inside = {"name": "inside", "nodeSelector": {"gpu": "1", "disk": "nvme"}}
    choice = {"pools": {"gpu": {"workers": 1, "gpusPerWorker": 0}}}
    closed = [offer(nodePools=[gpu, inside])]
    with pytest.raises(BadOption, match="allowed: 1 to 16"):
        spec(choice, closed)
    assert "workers.inside" not in Form(options_form.render(closed, "default", {})).inputs
    opened = [offer(nodePools=[gpu | {"cpuWorkers": True}, inside])]
    assert "gpusPerWorker" not in spec(choice, opened)["dask"]["pools"][0]
    assert "workers.inside" in Form(options_form.render(opened, "default", {})).inputs


def test_pools_that_cannot_be_had_are_not_shown() -> None:
    form = Form(options_form.render([offer(limits={"workers": 4})], "default", {}))
    assert "workers.cpu" in form.inputs
    assert "workers.gpu" not in form.inputs


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"workers.cpu": "many"}, "'workers.cpu': 'many' is not a number"),
        ({"workers.cpu": "-1"}, "not a number"),
        ({"workers.cpu": "\u0661"}, "not a number"),
        ({"workers.cpu": "9" * 5000}, "not a number"),
        ({"nodeSelector": "x"}, "unknown field 'nodeSelector'"),
        ({"pools": "x"}, "unknown field 'pools'"),
    ],
)
def test_fields_that_mean_nothing_are_refused(sent: dict[str, str], message: str) -> None:
    with pytest.raises(BadOption, match=re.escape(message)):
        sent_by(fields(**sent))


def test_what_jupyterhub_adds_to_the_fields_is_left_out() -> None:
    assert sent_by(fields(_xsrf="token", size="")) == {"profile": "default"}


def test_names_and_choices_are_escaped() -> None:
    evil = '"><script>alert(1)</script>'
    html = options_form.render([offer(evil, images=[{"name": evil, "image": "x"}])], evil, {"pools": {"cpu": evil}})
    html += options_form.render(OFFERS, "default", {"pools": {"cpu": {"workers": evil}}})
    assert "<script>alert" not in html


def test_a_server_that_exists_says_what_it_is() -> None:
    body = {
        "metadata": {"name": "alice-z", "namespace": "physics", "uid": "u"},
        "spec": {
            "user": "alice",
            "suspend": True,
            "profile": "default",
            "notebook": {"size": "<b>"},
            "dask": {"pools": [{"name": "cpu", "nodePool": "cpu", "workers": {"max": 3}}]},
            "quark": {"pools": [{"name": "mem", "nodePool": "large", "workers": {"max": 5}}]},
            "inference": {"models": [{"name": "topjet", "version": "3"}], "upload": True},
        },
    }
    html = options_form.render_existing(Session.parse(body))
    assert re.search(r"Dask workers on cpu.*at most 3.*Quark workers on large.*at most 5", html, re.DOTALL)
    assert re.search(r"Models</dt><dd>topjet, your own<", html)
    assert "comes back as it was" in html
    assert "<b>" not in html
    assert "<input" not in html


def test_the_profile_of_these_tests_is_one() -> None:
    for more in ({}, {"inference": {"image": "r/inference", "models": CATALOGUE, "upload": True}}):
        ProfileSpec.model_validate(json.loads(json.dumps(PROFILE["spec"] | more)))
