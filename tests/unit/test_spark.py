"""Spark: what it refuses, what is in its pods, who gets which secret, and what stays while it runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from af_operator import names, plan
from af_operator.components import shipped, spark
from af_operator.components._shared import pools as worker_pools
from af_operator.components.spark import programs, workers
from af_operator.components.spark import spec as specs
from af_operator.components.spark.spec import Executors, SparkAnswer
from af_operator.errors import InvalidSession
from af_operator.model import Body, Keep, Manifest, Profile, Session, label_of
from af_operator.observed import Observed, Settled
from af_operator.views import AgentView, PoolAnswer
from tests.support.objects import live, of_component, ours, profile, session, world
from tests.support.objects import pod as pod_of
from tests.support.spark_objects import (
    IMAGES,
    SIZES,
    decoded,
    facility,
    named,
    objects,
    pool,
    terms,
    with_spark,
    worker_pod,
)

# What is refused.


@pytest.mark.parametrize(
    ("asked", "reason", "words"),
    [
        (with_spark(image="analysis"), "UnfitImage", "image 'analysis' has no Spark.*: spark, root"),
        (with_spark(image="other"), "UnknownImage", "choose one of: analysis, root, spark"),
        (
            with_spark(pool(size="tiny")),
            "SizeTooSmall",
            "a worker of spark pool 'cpu' needs at least 1536 MiB.* in profile 'default': small, medium, wide",
        ),
        (with_spark(size="other"), "UnknownSize", "size 'other' is not in profile"),
        (with_spark(pool(), pool("wide", size="wide")), "SizesTooUneven", "choose sizes with more memory per core"),
        (with_spark(pool(), pool("many", size="many")), "SizesTooUneven", "with 1 cores, .* each only 460 MiB of heap"),
        (with_spark(pool(nodePool="other")), "UnknownNodePool", "node pool 'other'"),
        (with_spark(pool(gpusPerWorker=1)), "NoGPUs", "spark pool 'cpu': node pool 'cpu' has no GPUs"),
    ],
)
def test_check(asked: Session, reason: str, words: str) -> None:
    with pytest.raises(InvalidSession, match=words) as caught:
        spark.check(asked, facility())
    assert caught.value.reason == reason


def test_a_connect_server_must_have_room_for_itself() -> None:
    sizes = [*SIZES, {"name": "least", "cpu": "1", "memory": "1000Mi"}]
    with pytest.raises(InvalidSession, match=r"the Spark Connect server \(spark.size\) needs at least 1024 MiB"):
        spark.check(with_spark(size="least"), profile(images=IMAGES, sizes=sizes))
    spark.check(with_spark(size="tiny"), facility())


def test_without_an_image_it_is_the_first_that_has_spark_and_the_same_for_all_pods() -> None:
    asked = session(spark={"pools": [pool()]}, dask={"pools": [pool("dask")]}, notebook={})
    found = plan.build(shipped(), asked, facility(), Observed(nonce="n" * 64), asked.created)
    assert not found.rejected
    images = {c["image"] for m in found.desired for p in pods_of(m.body) for c in p["containers"]}
    assert images == {"registry.example.org/spark:1"}
    without = session(dask={"pools": [pool("dask")]}, notebook={})
    found = plan.build(shipped(), without, facility(), Observed(nonce="n" * 64), without.created)
    assert {c["image"] for m in found.desired for p in pods_of(m.body) for c in p["containers"]} == {
        "registry.example.org/analysis:1"
    }


def pods_of(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [found for each in value for found in pods_of(each)]
    if not isinstance(value, dict):
        return []
    return [value] if "containers" in value else [found for each in value.values() for found in pods_of(each)]


def test_both_engines_share_the_budget_of_a_node_pool() -> None:
    asked = session(
        spark={"pools": [pool(workers={"max": 5})]}, dask={"pools": [pool(workers={"max": 4})]}, notebook={}
    )
    found = plan.build(shipped(), asked, facility(), Observed(nonce="n" * 64), asked.created)
    assert found.rejected
    assert found.rejected[0] == "LimitExceeded"
    assert "9 workers on node pool 'cpu'" in found.rejected[1]


# How large executors are.


@pytest.mark.parametrize(
    ("pools", "shape"),
    [
        ([pool()], Executors(1, 832)),
        ([pool(size="medium")], Executors(2, 1856)),
        # The smaller worker has the cores; of the larger one's heap two executors have half each.
        ([pool(size="medium"), pool("b")], Executors(1, 832)),
        ([pool(size="wide")], Executors(8, 1856)),
        ([pool(size="medium", threadsPerWorker=4)], Executors(4, 1856)),
        ([pool(size="medium", memoryPercent=75)], Executors(2, 2784)),
        # The worker of one thread has the cores; in the other two executors have half the heap each.
        ([pool(size="medium", threadsPerWorker=1), pool("b", size="medium", threadsPerWorker=2)], Executors(1, 928)),
    ],
)
def test_executors_fit_every_worker(pools: list[dict[str, Any]], shape: Executors) -> None:
    asked, catalogue = with_spark(*pools), facility()
    spark.check(asked, catalogue)
    assert specs.executors(asked, catalogue) == shape
    for each in specs.spec(asked).pools:
        size = next(s for s in catalogue.spec.sizes if s.name == (each.size or "small"))
        at_once = worker_pools.threads(each, size) // shape.cores
        assert at_once >= 1
        assert at_once * shape.heap_mib <= specs.heap_mib(each, size)


# The objects.


def test_a_worker_offers_what_its_size_has() -> None:
    asked = with_spark(pool(size="medium"))
    worker = programs.worker(asked, facility(), spark.PodPatch(), specs.spec(asked).pools[0])
    args = worker["containers"][0]["args"]
    assert args[args.index("--cores") + 1] == "2"
    assert args[args.index("--memory") + 1] == "1856m"
    assert args[-1] == "spark://zmumu-spark.physics.svc:7077"


def test_the_master_has_the_name_of_its_service_and_listens_under_it() -> None:
    spec = named(objects(with_spark()), "Deployment", "zmumu-spark")["spec"]["template"]["spec"]
    [args] = [c["args"] for c in spec["containers"] if c["name"] == "master"]
    name = args[args.index("--host") + 1]
    assert f"spark://{name}:7077" == "spark://zmumu-spark.physics.svc:7077", "by which workers know it"
    assert spec["hostAliases"] == [{"ip": programs.ANY_ADDRESS, "hostnames": [name]}]


def test_what_a_session_may_set_never_wins_over_what_we_set() -> None:
    conf_of_session = {"spark.sql.shuffle.partitions": "8", "spark.authenticate": "false"}
    asked = with_spark(conf=conf_of_session)  # the API server would have refused the second
    lines = decoded(named(objects(asked), "Secret", "zmumu-spark"))["spark-defaults.conf"].splitlines()
    assert "spark.sql.shuffle.partitions 8" in lines
    assert [line for line in lines if line.startswith("spark.authenticate ")] == ["spark.authenticate true"]


def test_the_connect_server_gets_no_variable_of_the_session() -> None:
    asked = session(
        spark={"pools": [pool()]}, notebook={}, env=[{"name": "JAVA_TOOL_OPTIONS", "value": "-javaagent:/tmp/a.jar"}]
    )
    deployment = named(objects(asked), "Deployment", "zmumu-spark")
    variables = {e["name"] for c in deployment["spec"]["template"]["spec"]["containers"] for e in c.get("env", ())}
    assert "JAVA_TOOL_OPTIONS" not in variables
    assert "SPARK_CONNECT_AUTHENTICATE_TOKEN" in variables


def test_dasks_workers_may_connect_and_no_more() -> None:
    asked = with_spark()
    user, worker = (spark.pod_patch(asked, facility(), world(), audience) for audience in ("user", "worker"))
    assert {e["name"] for e in worker.env} == {"AF_SPARK_TOKEN", "SPARK_REMOTE"}
    assert not worker.volumes
    assert {"SPARK_CONF_DIR", "SPARK_LOCAL_HOSTNAME", "AF_SPARK_AGENT", "AF_SPARK_UI"} < {e["name"] for e in user.env}
    [volume] = user.volumes
    files = {"spark-defaults.conf", "log4j2.properties", "spark-env.sh"}
    assert {item["key"] for item in volume["secret"]["items"]} == files
    [remote] = [e["value"] for e in worker.env if e["name"] == "SPARK_REMOTE"]
    # With ``token`` in its place, or with SPARK_CONNECT_AUTHENTICATE_TOKEN set, the client would insist on TLS.
    assert remote.endswith(":15002/;authorization=Bearer%20$(AF_SPARK_TOKEN)")


def running(asked: Session, catalogue: Profile | None = None) -> dict[str, Any]:
    made = spark.desired(asked, catalogue or facility(), Settled(nonce="n" * 64), terms(asked))
    return ours(named(list(made), "Deployment", "zmumu-spark"))


def test_a_server_that_runs_is_left_alone_by_an_edit_of_the_catalogue() -> None:
    asked = with_spark()
    there = running(asked)
    newer = [{**image, "image": f"{image['image']}.1"} for image in IMAGES]
    seen = Settled(children=(there,), nonce="m" * 64)
    items = spark.desired(asked, profile(images=newer, sizes=SIZES), seen, terms(asked))
    assert [i for i in items if isinstance(i, Keep)] == [Keep(programs.DEPLOYMENT.ref("zmumu-spark"))]


@pytest.mark.parametrize(
    ("before", "after", "stays"),
    [("small", "medium", True), ("medium", "small", False), ("small", "small", True)],
)
def test_it_is_made_anew_only_where_its_executors_have_no_room(before: str, after: str, stays: bool) -> None:
    there = running(with_spark(pool(size=before)))
    items = objects(with_spark(pool(size=after)), there)
    assert (Keep(programs.DEPLOYMENT.ref("zmumu-spark")) in items) is stays


@pytest.mark.parametrize("args", [None, [], ["--conf", "spark.executor.memory=x"], ["spark.executor.cores="]])
def test_a_server_that_somebody_has_edited_is_set_right(args: Any) -> None:
    there = running(with_spark())
    there["spec"]["template"]["spec"]["containers"][0]["args"] = args or []
    assert not [i for i in objects(with_spark(), there) if isinstance(i, Keep)]


# Workers.


def said(asked: Session, **more: Any) -> AgentView:
    [group] = specs.desired_groups(asked)
    answer = SparkAnswer(
        pools={group: PoolAnswer(**{k: v for k, v in more.items() if k != "lost"})}, lost=more.get("lost", 0)
    )
    return AgentView(answer)


def test_a_worker_that_is_retired_is_replaced_where_the_pool_wants_as_many() -> None:
    asked = with_spark(pool(workers={"min": 2, "max": 2}))
    there = [worker_pod(asked, f"000000000{i}", ready=True) for i in (1, 2)]
    view = said(asked, retired=[there[0]["metadata"]["name"]])
    items = objects(asked, *there, agent=view)
    kept = {i.ref.name for i in items if isinstance(i, Keep)}
    made = [i.ref.name for i in items if isinstance(i, Manifest) and i.ref.kind == "Pod"]
    assert kept == {there[1]["metadata"]["name"]}
    assert len(made) == 1
    assert made[0] not in {p["metadata"]["name"] for p in there}


def test_a_worker_that_goes_has_its_place_until_it_has_nothing_left() -> None:
    asked = with_spark(pool(workers={"min": 1, "max": 1}))
    there = [worker_pod(asked, f"000000000{i}", ready=True) for i in (1, 2)]
    view = said(asked, retiring=[there[0]["metadata"]["name"]])
    items = objects(asked, *there, agent=view)
    assert {i.ref.name for i in items if isinstance(i, Keep)} == {p["metadata"]["name"] for p in there}
    seen = Settled(children=tuple(there), agents={"spark": view})
    [group] = specs.desired_groups(asked)
    question = spark.question(asked, facility(), seen, terms(asked))
    assert question
    assert question.asked["pools"][group]["keep"] == 1
    assert question.url == "http://zmumu-spark.physics.svc:8790/af/v1/pools"


def test_nothing_is_asked_before_a_pod_has_run() -> None:
    asked = with_spark()
    assert spark.question(asked, facility(), Settled(), terms(asked)) is None
    pending = worker_pod(asked, "0000000001", phase="Pending")
    assert spark.question(asked, facility(), Settled(children=(pending,)), terms(asked)) is None


def test_groups_of_both_engines_differ_in_their_names() -> None:
    asked = session(spark={"pools": [pool()]}, dask={"pools": [pool()]}, notebook={})
    of_dask = names.dask_group(asked, "cpu", "0" * 6)
    assert all(not of_dask.startswith(group) and not group.startswith(of_dask) for group in specs.desired_groups(asked))


# Health.


def master(ready: bool = True, **status: Any) -> dict[str, Any]:
    statuses = [
        {"name": name, "state": {}, "restartCount": status.pop(name, 0)} for name in ("connect", "master", "agent")
    ]
    return ours(pod_of("zmumu-spark-1", of_component("spark", **programs.ROLE), *statuses, ready=ready, **status))


def deployment() -> dict[str, Any]:
    found = ours(live("apps/v1", "Deployment", "zmumu-spark", of_component("spark", **programs.ROLE)))
    found["metadata"]["creationTimestamp"] = "2026-01-01T10:00:30Z"
    return found


def health(asked: Session, *children: Body, agent: AgentView | None = None) -> Any:
    return spark.health(asked, Settled(children=children, agents={"spark": agent} if agent else {}))


def test_ready_with_master_and_the_minimum_of_workers() -> None:
    asked = with_spark()
    found = health(asked, deployment(), master(), worker_pod(asked, "0000000001", ready=True))
    assert found.ready
    assert found.message == "pool cpu: 1 of 1 workers"
    assert found.endpoints["spark"] == "sc://zmumu-spark.physics.svc:15002"
    assert found.endpoints["ui"] == "http://zmumu-spark.physics.svc:4040"
    assert found.details == {"pools": {"cpu": {"ready": 1, "desired": 1}}}
    assert found.condition is None


def test_not_ready_without_either() -> None:
    asked = with_spark()
    worker = worker_pod(asked, "0000000001", ready=True)
    assert not health(asked, deployment(), worker).ready
    assert not health(asked, deployment(), master(ready=False), worker).ready
    assert health(asked, deployment(), master()).message.startswith("pool cpu: 0 of at least 1 workers ready")


@pytest.mark.parametrize(("container", "lost"), [("connect", "Restarted"), ("master", None), ("agent", None)])
def test_a_loss_is_what_the_connect_server_held(container: str, lost: str | None) -> None:
    """The master reads what it knew from the pod's volume, and the agent knows nothing that it cannot ask again."""
    asked = with_spark()
    found = health(asked, deployment(), master(**{container: 1}), worker_pod(asked, "0000000001", ready=True))
    assert found.ready
    assert (found.condition and found.condition.reason) == lost
    if found.condition:
        assert found.condition.type == "SparkLost"
        assert "getOrCreate()` again" in found.condition.message


def test_a_deployment_that_was_deleted_is_a_loss() -> None:
    ready = {"type": "SparkReady", "status": "True", "lastTransitionTime": "2026-01-01T10:01:00Z"}
    asked = replace(with_spark(), status={"conditions": [ready]})
    assert health(asked).condition.reason == "Deleted"


def test_it_says_how_many_workers_were_lost() -> None:
    asked = with_spark()
    there = (deployment(), master(), worker_pod(asked, "0000000001", ready=True))
    assert "workers that were lost: 2" in health(asked, *there, agent=said(asked, lost=2)).message


def test_activity_is_what_the_agent_says() -> None:
    asked = with_spark()
    seen = Settled(agents={"spark": AgentView(SparkAnswer(active=1_800_000_000))})
    active = spark.activity(asked, seen)
    assert active
    assert active.timestamp() == 1_800_000_000
    assert spark.activity(asked, Settled()) is None


def test_master_and_workers_are_told_apart() -> None:
    asked = with_spark()
    assert programs.is_master(master())
    assert not programs.is_master(worker_pod(asked, "0000000001"))
    assert list(workers.groups(asked, Settled(children=(master(),)))) == []
    assert label_of(master(), names.ROLE) == "master"
