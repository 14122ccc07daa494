"""A session that an earlier version began without TLS, under this one: nothing is written, and all is understood."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from af_operator.components.dask import secret
from tests.support.bench import PROFILE, SPEC, UNDER_DASK_KUBERNETES, Bench
from tests.support.played_agents import PlayedAgents
from tests.support.played_controllers import come_up, lose, of_kind

NAME = "zmumu-scheduler"
POOL: dict[str, Any] = {"name": "cpu", "nodePool": "cpu"}
MORE: dict[str, Any] = {**POOL, "name": "more", "workers": {"min": 1, "max": 1}}
RUN = {**SPEC, "dask": {"pools": [{**POOL, "workers": {"min": 1, "max": 1}}]}}
NOTEBOOK = {k: v for k, v in RUN.items() if k != "run"} | {"mode": "Interactive", "notebook": {}}


async def begun(spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch, profile: dict[str, Any] = PROFILE) -> Bench:
    """Return a session as the version before has left it: that knew no Secret and no guard."""
    bench = Bench(spec, profile, agents=PlayedAgents())
    with monkeypatch.context() as patch:
        patch.setattr(secret, "is_encrypted", lambda observed: False)
        await come_up(bench)
    bench.cluster.writes.clear()
    bench.restart()
    return bench


def addresses(bench: Bench) -> set[str]:
    """Return by which addresses the pods that there are find the scheduler, and what new ones would be told."""
    return {each["value"] for each in _variables(bench.made) if each.get("name") == secret.ADDRESS}


def encrypted(bench: Bench) -> list[str]:
    """Return what mounts the certificates, or is them."""
    named = [body["metadata"]["name"] for body in bench.made.values() if f'"secretName": "{NAME}"' in json.dumps(body)]
    return named + [name for kind, name in bench.made if (kind, name) == ("Secret", NAME)]


@pytest.mark.parametrize("spec", [RUN, NOTEBOOK], ids=["run", "notebook"])
@pytest.mark.parametrize("profile", [PROFILE, UNDER_DASK_KUBERNETES], ids=["Native", "DaskKubernetes"])
async def test_nothing_is_written_and_more_workers_are_as_the_first(
    spec: dict[str, Any], profile: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await begun(spec, monkeypatch, profile)
    await come_up(bench)
    assert [key for verb, key in bench.cluster.writes if verb != "status"] == []
    before = {key for key in bench.made if key[0] in ("Pod", "DaskWorkerGroup")}
    bench.change(dask={"pools": [{**POOL, "workers": {"min": 2, "max": 2}}, MORE]})
    await come_up(bench)
    assert {key for key in bench.made if key[0] in ("Pod", "DaskWorkerGroup")} > before
    assert {address.partition(":")[0] for address in addresses(bench)} == {"tcp"}
    assert encrypted(bench) == []


async def test_a_scheduler_that_is_made_anew_is_still_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = await begun(NOTEBOOK, monkeypatch)
    [deployment] = of_kind(bench, "Deployment")
    lose(bench, deployment)
    bench.deliver()
    await come_up(bench)
    assert of_kind(bench, "Deployment")[0]["metadata"]["uid"] != deployment["metadata"]["uid"]
    assert encrypted(bench) == []


@pytest.mark.parametrize("spec", [RUN, NOTEBOOK], ids=["run", "notebook"])
async def test_after_a_suspension_it_is_encrypted(spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    bench = await begun(spec, monkeypatch)
    bench.change(suspend=True)
    await come_up(bench)
    bench.change(suspend=False)
    await come_up(bench)
    assert {address.partition(":")[0] for address in addresses(bench)} == {"tls"}
    [worker] = [p["metadata"]["name"] for p in of_kind(bench, "Pod") if "-worker-" in p["metadata"]["name"]]
    program = "zmumu-notebook" if "notebook" in spec else "zmumu-run"
    assert {NAME, worker, program} <= set(encrypted(bench))


def _variables(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield from value.get("env") or ()
        yield from (found for each in value.values() for found in _variables(each))
    elif isinstance(value, list):
        yield from (found for each in value for found in _variables(each))
