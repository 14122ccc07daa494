"""The options of a server, whoever sent them: the spec that comes of them, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from af_client.hub import options_form
from af_client.hub.choices import BadOption
from af_client.hub.offers import Offer
from af_operator.api.pools import Pool
from af_operator.api.session import SessionSpec
from tests.support.forms import (
    IMAGES,
    OFFERS,
    SERVING,
    SIZES,
    WITH_SPARK,
    Form,
    offer,
    spec,
)


def test_a_pool_begins_with_one_worker_where_nobody_says_more() -> None:
    (pool,) = spec({"pools": {"cpu": {"workers": 4}}})["dask"]["pools"]
    assert pool["workers"] == {"min": 1, "max": 4}


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


def test_engines_share_the_nodes_and_the_limit_of_workers() -> None:
    both = {"pools": {"cpu": {"workers": 5}, "spark/cpu": {"workers": 4}}}
    with pytest.raises(BadOption, match="workers on cpu: 9 is over the limit: allowed: at most 8"):
        spec(both, WITH_SPARK)
    wide = offer(images=IMAGES, sizes=SIZES, nodePools=[{"name": "cpu"}, {"name": "more"}], limits={"workers": 8})
    with pytest.raises(BadOption, match="workers over all pools: 9 is over the limit: allowed: at most 8"):
        spec({"pools": {"cpu": {"workers": 5}, "spark/more": {"workers": 4}}}, [wide])


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
