"""A run's source that somebody else has made: there before anything mounts it, and no other session's."""

from __future__ import annotations

from typing import Any

import pytest

from af_operator import names
from af_operator.memory import REFUSED_RETRY
from tests.support.bench import PROFILE, SPEC, UNDER_DASK_KUBERNETES, Bench

pytestmark = pytest.mark.usefixtures("same_names")
ENGINES = pytest.mark.parametrize("profile", [PROFILE, UNDER_DASK_KUBERNETES], ids=["Native", "DaskKubernetes"])
LENT = {**SPEC, "run": {"command": ["python", "main.py"], "source": {"configMap": "course"}}}


def config_map(bench: Bench, name: str = "course", **labels: str) -> None:
    metadata = {"name": name, "namespace": "physics", "labels": labels}
    bench.cluster.store({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"main.py": ""}})
    bench.deliver()


def mounts(bench: Bench, name: str) -> list[str]:
    """Return the kinds of what says the name of a ConfigMap somewhere."""
    return sorted({kind for (kind, called), body in bench.made.items() if called != name and f"'{name}'" in str(body)})


@ENGINES
async def test_one_that_is_there_is_looked_at_once(profile: dict[str, Any]) -> None:
    bench = Bench(LENT, profile)
    config_map(bench)
    await bench.settle()
    assert "Job" in mounts(bench, "course")
    for _ in range(3):
        bench.now += 2 * REFUSED_RETRY
        await bench.settle()
    assert [ref.name for ref in bench.cluster.reads].count("course") == 1


@ENGINES
async def test_until_it_is_there_nothing_would_mount_what_comes_by_its_name(profile: dict[str, Any]) -> None:
    bench = Bench(LENT, profile)
    await bench.settle()
    assert mounts(bench, "course") == []
    ready = bench.condition("RunReady")
    assert ready["reason"] == "SourceMissing"
    assert "there is no ConfigMap 'course'" in ready["message"]
    config_map(bench)
    bench.now += 2 * REFUSED_RETRY
    await bench.settle()
    assert "Job" in mounts(bench, "course")


@ENGINES
@pytest.mark.parametrize(
    "name", ["bob-source", "bob-run-log", "bob-dask-agent", "bob-xcache-config", "bob-spark-agent"]
)
async def test_another_sessions_is_refused_with_words(name: str, profile: dict[str, Any]) -> None:
    spec = {**LENT, "run": {"command": ["cat"], "source": {"configMap": name}}}
    bench = Bench(spec, profile)
    config_map(bench, name, **{names.SESSION_UID: "uid-of-bobs"})
    await bench.settle()
    assert {kind for kind, _ in bench.made} == {"ConfigMap"}
    accepted = bench.condition("Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "SourceRefused")
    assert f"ConfigMap '{name}' (run.source.configMap) belongs to another session" in accepted["message"]


async def test_what_is_named_before_it_is_another_sessions_is_not_mounted_then() -> None:
    bench = Bench({**LENT, "run": {"command": ["cat"], "source": {"configMap": "bob-source"}}})
    await bench.settle()
    config_map(bench, "bob-source", **{names.SESSION_UID: "uid-of-bobs"})
    bench.now += 2 * REFUSED_RETRY
    await bench.settle()
    assert mounts(bench, "bob-source") == []
    assert bench.condition("Accepted")["reason"] == "SourceRefused"


async def test_nor_is_what_the_session_itself_has_made() -> None:
    bench = Bench({**LENT, "run": {"command": ["cat"], "source": {"configMap": "zmumu-dask-agent"}}})
    config_map(bench, "zmumu-dask-agent", **{names.SESSION_UID: bench.session["metadata"]["uid"]})
    await bench.settle()
    assert "belongs to this session itself" in bench.condition("Accepted")["message"]
