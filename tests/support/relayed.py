"""Sessions with a relay beside their Dask, on a bench that knows of it."""

from __future__ import annotations

import json
from typing import Any

from af_operator import names
from af_operator.components import Components, in_package, shipped
from tests.support import components
from tests.support.bench import PROFILE, SPEC, Bench
from tests.support.played_agents import PlayedAgents
from tests.support.played_controllers import come_up, of_kind

Body = dict[str, Any]


def everything() -> Components:
    """Return the components of the operator, and those of the tests."""
    return (*shipped(), *in_package(components))


def pool(name: str, least: int, most: int, **more: Any) -> Body:
    return {"name": name, "nodePool": "cpu", "workers": {"min": least, "max": most}, **more}


def relay(*pools: Body) -> list[Body]:
    """Return the session's variables."""
    return [{"name": "RELAY", "value": json.dumps(pools)}]


TWO = (pool("cpu", 1, 3), pool("gpu", 1, 1, nodePool="gpu", gpusPerWorker=1))
"""Called as the pools of Dask beside them are."""
DASK = {"pools": [pool("cpu", 1, 2), pool("gpu", 0, 1, nodePool="gpu", gpusPerWorker=1)]}
BESIDE_DASK = {**SPEC, "env": relay(*TWO), "dask": DASK}
INTERACTIVE = {key: value for key, value in BESIDE_DASK.items() if key != "run"} | {"mode": "Interactive"}


def bench(spec: Body | None = None, **profile: Any) -> Bench:
    catalogue = PROFILE | {"sizes": [*PROFILE["sizes"], {"name": "big", "cpu": "1", "memory": "2Gi"}]} | profile
    return Bench(spec or BESIDE_DASK, catalogue, agents=PlayedAgents(), components=everything())


async def up(spec: Body | None = None, **profile: Any) -> Bench:
    """Return a bench whose session is ready."""
    found = bench(spec, **profile)
    await come_up(found)
    return found


def agents(of: Bench) -> PlayedAgents:
    assert isinstance(of.agents, PlayedAgents)
    return of.agents


def workers(of: Bench, component: str, pool: str | None = None) -> list[str]:
    """Return the names of a component's workers, those of one pool or all."""
    return [pod["metadata"]["name"] for pod in pods(of, component, pool)]


def pods(of: Bench, component: str, pool: str | None = None) -> list[Body]:
    wanted = {names.COMPONENT: component, names.ROLE: "worker"} | ({names.POOL: pool} if pool else {})
    return [pod for pod in of_kind(of, "Pod") if wanted.items() <= pod["metadata"]["labels"].items()]


def group(of: Bench, component: str, pool: str) -> str:
    """Return the group of a pool that the agent of a component is asked about."""
    [found] = [name for name in agents(of).asked[component].asked["pools"] if f"-{pool}-" in name]
    return found


def retire(of: Bench, component: str) -> None:
    """Have an agent retire as many as it is asked to, the first ones by name."""
    said = {}
    for name, asked in agents(of).asked[component].asked["pools"].items():
        there = [
            pod["metadata"]["name"]
            for pod in pods(of, component)
            if pod["metadata"]["labels"][names.WORKER_GROUP] == name
        ]
        said[name] = {"wanted": 1, "workers": there, "retired": there[: len(there) - asked.get("keep", len(there))]}
    agents(of).answer(component, pools=said)
