"""The form of the Hub: what it offers, what comes of what it sends, and what is refused."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from af_client.hub import options_form
from af_client.hub.choices import BadOption
from af_client.hub.offers import Offer
from af_client.model import Session
from af_operator.api.pools import Pool
from af_operator.api.profile import ProfileSpec
from af_operator.api.session import SessionSpec
from tests.support.spawner_bench import PROFILE


def offer(name: str = "default", **spec: Any) -> Offer:
    return Offer.parse({**PROFILE, "metadata": {"name": name}, "spec": PROFILE["spec"] | spec})


OFFERS = [offer()]
TWO = [offer(), offer("ml", xcache=None)]


def spec(options: Any, offers: list[Offer] = OFFERS) -> dict[str, Any]:
    return options_form.spec(options, offers, "default")


def fields(**sent: str) -> dict[str, list[str]]:
    return {name: [value] for name, value in sent.items()}


class Form(HTMLParser):
    """What a browser, and who hears it read out, finds in a form."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.inputs: dict[str, dict[str, str | None]] = {}
        self.selected: dict[str, str | None] = {}
        self.labelled: set[str | None] = set()
        self._select = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "label":
            self.labelled.add(found["for"])
        if tag in ("input", "select"):
            self._select = found["name"] or ""
            self.inputs[self._select] = found
        if tag == "option" and ("selected" in found or self._select not in self.selected):
            self.selected[self._select] = found["value"]

    def sent(self) -> dict[str, list[str]]:
        boxes = {name for name, each in self.inputs.items() if each.get("type") == "checkbox" and "checked" not in each}
        values = {name: each["value"] for name, each in self.inputs.items() if "value" in each} | self.selected
        values = {name: value for name, value in values.items() if name not in boxes}
        return {name: [value or ""] for name, value in values.items()}


def test_the_form_as_it_is_gives_a_session_of_the_defaults() -> None:
    options = options_form.from_fields(Form(options_form.render(OFFERS, "default", {})).sent(), "default")
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
    assert options_form.from_fields(form.sent(), "default") == CHOICES
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


def test_a_pool_begins_with_one_worker_where_nobody_says_more() -> None:
    (pool,) = spec({"pools": {"cpu": {"workers": 4}}})["dask"]["pools"]
    assert pool["workers"] == {"min": 1, "max": 4}


IMAGES = [
    {"name": "analysis", "image": "r/analysis"},
    {"name": "spark", "image": "r/spark", "provides": ["Spark"]},
    {"name": "root", "image": "r/root", "provides": ["Spark"]},
]
SIZES = [
    {"name": "small", "cpu": "500m", "memory": "1Gi"},
    {"name": "medium", "cpu": "1", "memory": "1536Mi"},
    {"name": "large", "cpu": "4", "memory": "16Gi"},
]
WITH_SPARK = [offer(images=IMAGES, sizes=SIZES)]
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
    assert options_form.from_fields(form.sent(), "default") == ON_SPARK
    found = spec(ON_SPARK, WITH_SPARK)
    assert found["image"] == "root"
    assert [pool["workers"] for pool in found["dask"]["pools"]] == [{"min": 1, "max": 2}]
    [pool] = (Pool.model_validate(each) for each in found["spark"]["pools"])
    assert (pool.name, pool.node_pool, pool.size) == ("cpu", "cpu", "large")
    assert (pool.workers.min, pool.workers.max, pool.gpus_per_worker) == (2, 3, 0)


def test_a_form_with_spark_that_nobody_touched_asks_for_none() -> None:
    options = options_form.from_fields(Form(options_form.render(WITH_SPARK, "default", {})).sent(), "default")
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


def test_a_spark_worker_has_room_for_an_executor() -> None:
    form = Form(options_form.render(WITH_SPARK, "default", {}))
    assert (form.selected["worker-size.cpu"], form.selected["worker-size.spark/cpu"]) == ("small", "medium")
    [pool] = spec({"pools": {"spark/cpu": {"workers": 1}}}, WITH_SPARK)["spark"]["pools"]
    assert pool["size"] == "medium", "the profile's own size is too small"
    of_itself = [offer(images=IMAGES, sizes=SIZES, defaults={"size": "large"})]
    assert "size" not in spec({"pools": {"spark/cpu": {"workers": 1}}}, of_itself)["spark"]["pools"][0]
    tiny = [offer(images=IMAGES, sizes=[{"name": "small", "cpu": "1", "memory": "512Mi"}, *SIZES[1:]])]
    assert "size" not in spec({"pools": {"spark/cpu": {"workers": 1}}}, WITH_SPARK)["spark"]
    assert spec({"pools": {"spark/cpu": {"workers": 1}}}, tiny)["spark"]["size"] == "medium", "of the Connect server"
    small = {"pools": {"spark/cpu": {"workers": 1, "size": "small"}}}
    with pytest.raises(BadOption, match=r"spark/cpu\.size: 'small' is too small for Spark: allowed: large, medium"):
        spec(small, WITH_SPARK)


def test_spark_takes_an_image_that_has_it() -> None:
    pools = {"spark/cpu": {"workers": 1}}
    assert "image" not in spec({"pools": pools}, WITH_SPARK), "the operator takes the first that has Spark"
    with pytest.raises(BadOption, match="image: 'analysis' has no Spark: allowed: root, spark"):
        spec({"image": "analysis", "pools": pools}, WITH_SPARK)
    html = options_form.render(WITH_SPARK, "default", {})
    assert "Spark is in images spark, root." in html
    assert re.findall(r'<option value="(\w+)" data-af-lacking="spark"', html) == ["analysis"]
    assert "data-af-lacking" not in options_form.render(OFFERS, "default", {})


def test_engines_share_the_nodes_and_the_limit_of_workers() -> None:
    both = {"pools": {"cpu": {"workers": 5}, "spark/cpu": {"workers": 4}}}
    with pytest.raises(BadOption, match="workers on cpu: 9 is over the limit: allowed: at most 8"):
        spec(both, WITH_SPARK)
    wide = offer(images=IMAGES, sizes=SIZES, nodePools=[{"name": "cpu"}, {"name": "more"}], limits={"workers": 8})
    with pytest.raises(BadOption, match="workers over all pools: 9 is over the limit: allowed: at most 8"):
        spec({"pools": {"cpu": {"workers": 5}, "spark/more": {"workers": 4}}}, [wide])


def model(name: str, version: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "version": version, "source": {"volumeClaim": {"claimName": "models"}}} | more


CATALOGUE = [model("topjet", "2"), model("topjet", "10", description="hadronic <tops>"), model("b.tag", "1")]
SERVING = [offer(inference={"image": "r/inference", "models": CATALOGUE, "upload": True})]
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
    assert options_form.from_fields(form.sent(), "default") == SERVED
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
    options = options_form.from_fields(form.sent(), "default")
    assert options["inference"] == {"size": "small", "replicas": 1}
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
        assert "odel" not in options_form.render(offers, "default", {})
        with pytest.raises(BadOption, match="'topjet' is not offered: allowed: nothing"):
            spec({"inference": {"models": ["topjet"]}}, offers)
    only_catalogue = [offer(inference={"image": "r/inference", "models": CATALOGUE})]
    assert "which I push" not in options_form.render(only_catalogue, "default", {})
    with pytest.raises(BadOption, match="profile 'default' takes no models of one's own"):
        spec({"inference": {"upload": True}}, only_catalogue)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (["topjet"], "inference: ['topjet'] is not an object"),
        ({"gpu": 1}, "inference: 'gpu' is unknown: allowed: models, replicas, size, upload"),
        ({"models": "topjet"}, "inference.models: 'topjet' is not a list"),
        ({"models": ["nobody"]}, "inference.models: 'nobody' is not offered: allowed: b.tag, topjet"),
        ({"models": [{}]}, "inference.models: {} is not offered"),
        ({"models": ["topjet"] * 33}, "inference.models: 33 is over the limit: allowed: at most 32"),
        ({"upload": "yes"}, "inference.upload: 'yes' is neither true nor false"),
        ({"upload": True, "size": "huge"}, "inference.size: 'huge' is not offered: allowed: large, small"),
        ({"upload": True, "replicas": 0}, "inference.replicas: 0: allowed: 1 to 10"),
        ({"upload": True, "replicas": 11}, "inference.replicas: 11 is over the limit: allowed: at most 10"),
    ],
)
def test_models_that_are_not_offered_are_refused(chosen: Any, message: str) -> None:
    with pytest.raises(BadOption, match=re.escape(message)):
        spec({"inference": chosen}, SERVING)


def test_servers_of_models_count_as_workers_do() -> None:
    with pytest.raises(BadOption, match="replicas and workers together: 11 is over the limit: allowed: at most 10"):
        spec({"pools": {"cpu": {"workers": 8}}, "inference": {"upload": True, "replicas": 3}}, SERVING)


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
        options_form.from_fields(fields(**sent), "default")


def test_every_field_has_a_label_and_numbers_have_their_bounds() -> None:
    for offers in (OFFERS, TWO, WITH_SPARK, SERVING):
        form = Form(options_form.render(offers, "default", {}))
        ids = {each["id"] for each in form.inputs.values()}
        assert ids == form.labelled
        assert len(ids) == len(form.inputs)
    assert Form(options_form.render(OFFERS, "default", {})).inputs["workers.gpu"]["max"] == "2"  # limits.gpus


def test_free_gpus_are_said() -> None:
    assert "3 of 4 GPUs free now" in options_form.render(OFFERS, "default", {})


def test_without_a_script_the_fields_of_the_chosen_profile_count() -> None:
    form = Form(options_form.render(TWO, "default", {}))
    sent = form.sent() | fields(**{"profile": "ml", "ml:workers.cpu": "2", "default:workers.cpu": "7"})
    found = spec(options_form.from_fields(sent, "default"), TWO)
    assert found["profile"] == "ml"
    assert found["dask"]["pools"][0]["workers"]["max"] == 2
    assert "xcache" not in found


def test_a_facility_without_profiles_says_so() -> None:
    assert "no profile yet" in options_form.render([], "default", {})
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


def test_a_cache_is_no_larger_than_the_profile_allows() -> None:
    small = offer(xcache={"image": "i", "origin": "o", "maxSize": "512Mi"})
    assert spec({"xcache": True}, [small])["xcache"] == {"placement": "Session", "size": "512Mi"}
    assert spec({"xcache": "Sidecar"})["xcache"] == {"placement": "Sidecar"}


@pytest.mark.parametrize("off", [None, False, "", "none"])
def test_no_cache(off: Any) -> None:
    assert "xcache" not in spec({"xcache": off})


REFUSED: list[tuple[Any, str]] = [
    ([], "options"),
    ("alice", "options"),
    ({"podSpec": {}}, "'podSpec' is unknown: allowed: image, inference, pools, profile, size, xcache"),
    ({"profile": "secret"}, "profile: 'secret' is not offered: allowed: default"),
    ({"profile": None}, "profile: None"),
    ({"image": "evil/image"}, "image: 'evil/image' is not offered: allowed: analysis, ml"),
    ({"image": 7}, "image: 7"),
    ({"image": ["ml"]}, "image: "),
    ({"image": {}}, "image: "),
    ({"size": "huge"}, "size: 'huge' is not offered: allowed: large, small"),
    ({"xcache": "everywhere"}, "xcache: 'everywhere'"),
    ({"xcache": {"size": "1Ti"}}, "xcache: "),
    ({"pools": [1]}, "pools: "),
    ({"pools": {"tape": {"workers": 1}}}, "'tape' is unknown: allowed: cpu, gpu"),
    ({"pools": {"cpu": 4}}, "pools.cpu: 4 is not an object"),
    ({"pools": {"cpu": {"workers": 9}}}, "pools.cpu.workers: 9 is over the limit: allowed: at most 8"),
    ({"pools": {"cpu": {"workers": -1}}}, "pools.cpu.workers: -1"),
    ({"pools": {"cpu": {"workers": "4"}}}, "pools.cpu.workers: '4' is not a number of them: allowed: 0 to 8"),
    ({"pools": {"cpu": {"workers": True}}}, "pools.cpu.workers: True"),
    ({"pools": {"cpu": {"workers": 1.5}}}, "pools.cpu.workers: 1.5"),
    ({"pools": {"cpu": {"workers": 10**30}}}, "over the limit"),
    (
        {"pools": {"cpu": {"workers": 2, "minWorkers": 3}}},
        "pools.cpu.minWorkers: 3 is over the limit: allowed: at most 2",
    ),
    ({"pools": {"cpu": {"workers": 1, "size": "huge"}}}, "pools.cpu.size: 'huge'"),
    ({"pools": {"cpu": {"workers": 1, "gpusPerWorker": 1}}}, "pools.cpu.gpusPerWorker: 1 is over the limit"),
    (
        {"pools": {"cpu": {"workers": 1, "image": "x"}}},
        "'image' is unknown: allowed: gpusPerWorker, minWorkers, size, workers",
    ),
    ({"pools": {"cpu": {"workers": 8}, "gpu": {"workers": 2}}, "size": "small", "image": 0}, "image: 0"),
    ({"pools": {"gpu": {"workers": 2, "gpusPerWorker": 2}}}, "GPUs over all pools: 4 is over the limit: allowed: at"),
    ({"image": "x" * 10_000}, "image: 'xxx"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_what_is_not_offered_is_refused_with_the_field_and_what_is_allowed(options: Any, message: str) -> None:
    with pytest.raises(BadOption, match=re.escape(message)) as error:
        spec(options)
    assert len(str(error.value)) < 300


def test_workers_over_all_pools_are_limited() -> None:
    with pytest.raises(BadOption, match="workers over all pools: 9 is over the limit: allowed: at most 8"):
        spec({"pools": {"cpu": {"workers": 8}, "gpu": {"workers": 1}}}, [offer(limits={"workers": 8, "gpus": 2})])


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
        options_form.from_fields(fields(**sent), "default")


def test_what_jupyterhub_adds_to_the_fields_is_left_out() -> None:
    assert options_form.from_fields(fields(_xsrf="token", size=""), "default") == {"profile": "default"}


KNOWN = ["profile", "image", "pools", "cpu", "spark/cpu", "workers", "size", "xcache"]
KNOWN += ["inference", "models", "upload", "replicas"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KNOWN), inner, max_size=4),
    max_leaves=8,
)


@given(JSON, st.sampled_from([OFFERS, WITH_SPARK, SERVING]))
def test_whatever_a_rest_body_holds_gives_a_spec_or_a_clear_refusal(options: Any, offers: list[Offer]) -> None:
    try:
        found = spec(options, offers)
    except BadOption:
        return
    for pool in found.pop("spark", {"pools": []})["pools"]:
        Pool.model_validate(pool)
    SessionSpec.model_validate({**found, "user": "alice"})


@given(JSON)
def test_whatever_is_stored_the_form_can_be_shown(options: Any) -> None:
    if isinstance(options, dict):
        assert "<fieldset>" in options_form.render(SERVING, "default", options)


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
