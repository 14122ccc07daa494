"""Dask's configuration from the session: which of it may be set, and that Dask itself reads what we write."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dask.config
import distributed
import pytest

from af_operator.api.dask import DASK_KEY, DASK_PREFIXES
from af_operator.components import dask as component
from af_operator.components._shared import pod_spec
from af_operator.components.dask import programs
from af_operator.model import Body, PodPatch
from tests.support.objects import DASK, profile, session, world

# Words of what is no matter of how tasks are computed, by the parts of a key.
OWN = re.compile(
    r"preload|tls|http|dashboard|nanny|environ|address|security|handlers|imports|lifetime|idle-timeout|adaptive|deploy"
    r"|scheme|encryption|daemon|resources|event-loop|directory"
)


def leaves(config: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}"


def may_be_set(key: str) -> bool:
    return any(key.startswith(p) if p.endswith(".") else key == p for p in DASK_PREFIXES)


@pytest.fixture(scope="module")
def known() -> list[str]:
    """Every key that Dask and distributed know."""
    assert distributed.__version__
    return sorted(leaves(dask.config.merge(*dask.config.defaults)))


def with_config(**config: str) -> Any:
    return session(dask=DASK | {"config": config}, notebook={})


def env(container: Body) -> dict[str, str]:
    """Return a container's variables as its processes have them."""
    return {e["name"]: e["value"].replace("$$", "$") for e in container["env"] if "value" in e}


def test_nothing_that_is_the_sessions_own_may_be_set(known: list[str]) -> None:
    allowed = [key for key in known if may_be_set(key)]
    assert len(allowed) > 60
    assert not [key for key in allowed if OWN.search(key)]
    assert [key for key in known if OWN.search(key)]


def test_each_entry_of_the_list_is_something_that_dask_knows(known: list[str]) -> None:
    # awkward's come with dask-awkward, which is in the analysis image.
    for prefix in set(DASK_PREFIXES) - {"awkward."}:
        assert any(key.startswith(prefix) for key in known), prefix


def test_dask_reads_each_key_back(known: list[str]) -> None:
    for key in filter(may_be_set, known):
        assert re.fullmatch(DASK_KEY, key), key
        variables = programs.config(with_config(**{key: "7"}))
        read = dask.config.merge(*dask.config.defaults)
        dask.config.update(read, dask.config.collect_env(variables))
        assert dask.config.get(key, config=read) == 7, key


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("20", 20),
        ("0.7", 0.7),
        ("true", True),
        ("False", False),
        ("none", None),
        ("60s", "60s"),
        ("$(HOME)", "$(HOME)"),
    ],
)
def test_a_value_becomes_what_dask_makes_of_it_in_every_process(text: str, value: object) -> None:
    asked, key = with_config(**{"distributed.comm.timeouts.connect": text}), "distributed.comm.timeouts.connect"
    scheduler = programs.scheduler_pod(asked, profile(), world())["containers"][0]
    worker = programs.worker(asked, profile(), component.pools(asked)[0], PodPatch())
    user = pod_spec.patched({}, component.pod_patch(asked, profile(), world(), "user"))
    for container in (scheduler, worker, user):
        assert dask.config.get(key, config=dask.config.collect_env(env(container))) == value


def test_what_the_session_sets_itself_is_not_the_configurations() -> None:
    asked = with_config(**{"distributed.scheduler.allowed-failures": "20"})
    scheduler = env(programs.scheduler_pod(asked, profile(), world())["containers"][0])
    assert "distributed.http.scheduler.api" in scheduler["DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES"]
    assert component.pod_patch(asked, profile(), world(), "worker") == PodPatch(), "of others' workers"


@pytest.mark.parametrize(
    ("pool", "threads", "memory"),
    [
        ({}, "1", 2 * 2**30 * 9 // 10),
        ({"size": "medium"}, "2", 4 * 2**30 * 9 // 10),
        ({"threadsPerWorker": 8}, "8", 2 * 2**30 * 9 // 10),
        ({"size": "medium", "threadsPerWorker": 1, "memoryPercent": 50}, "1", 2 * 2**30),
    ],
)
def test_threads_and_share_of_memory(pool: Body, threads: str, memory: int) -> None:
    asked = session(dask={"pools": [{**DASK["pools"][0], **pool}]}, notebook={})
    args = programs.worker(asked, profile(), component.pools(asked)[0], PodPatch())["args"]
    assert args[args.index("--nthreads") + 1] == threads
    assert args[args.index("--memory-limit") + 1] == str(memory)


def test_the_page_lists_what_may_be_set() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/dask-config.md").read_text()
    assert tuple(re.findall(r"^- `([a-z0-9.-]+)\*?`$", page, re.MULTILINE)) == DASK_PREFIXES
