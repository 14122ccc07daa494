"""Sessions whose Dask pools are resized while a program computes."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.programs import held_results
from tests.support.tenant import HEADLESS, Body, Tenant, condition, poll

HELD = held_results.HELD
PROGRAM = Path(held_results.__file__).read_text()
"""Holds results and streams others, until it is stopped."""


def pools(cpu: tuple[int, int], other: tuple[int, int]) -> Body:
    """Return two pools of one shape, each with its (least, most) workers."""
    shape = {"nodePool": "cpu", "size": "small"}
    bounds = {"cpu": cpu, "other": other}
    return {"pools": [{"name": n, **shape, "workers": {"min": a, "max": b}} for n, (a, b) in bounds.items()]}


def start(tenant: Tenant, name: str, program: str, dask: Body, **more: object) -> None:
    """Run a program, once."""
    run = {"command": ["python", "main.py"], "source": {"files": {"main.py": program}}}
    tenant.apply(name, {**HEADLESS, "run": run, "dask": dask, **more})


def start_holding(tenant: Tenant, name: str, dask: Body, **more: object) -> None:
    """Run `PROGRAM` and wait until it holds its results."""
    start(tenant, name, PROGRAM, dask, **more)
    poll(lambda: f"held {HELD}" in said(tenant, name), "the program holds its results", 240)


def in_the_run(tenant: Tenant, name: str, command: str) -> None:
    """Run a shell command where the program runs."""
    tenant.kubectl("exec", f"job/{name}-run", "--container=run", "--", "sh", "-c", command)


def said(tenant: Tenant, name: str) -> str:
    """Return what the program has printed so far."""
    return tenant.kubectl("logs", f"job/{name}-run", "--container=run", check=False)


def stop(tenant: Tenant, name: str) -> str:
    """Let the program come to its end; return its log."""
    in_the_run(tenant, name, "touch stop")
    tenant.wait_condition(name, "RunComplete", seconds=120)
    log = json.loads(tenant.kubectl("get", "configmap", f"{name}-run-log", "-o", "json"))["data"]["log"]
    assert condition(tenant.session(name), "RunComplete")["reason"] == "Succeeded", log
    return str(log)


def sizes(body: Body) -> dict[str, tuple[int, int]]:
    """Return (ready, desired) of each pool, by a status that is not behind the spec."""
    status = body.get("status", {})
    if status.get("observedGeneration") != body["metadata"]["generation"]:
        return {}
    found = status.get("components", {}).get("dask", {}).get("pools", {})
    return {name: (pool["ready"], pool["desired"]) for name, pool in found.items()}


def workers(tenant: Tenant, pool: str) -> list[str]:
    """Return the names of the pods of a pool's workers, whichever engine made them, but for those that go."""
    pods = json.loads(tenant.kubectl("get", "pods", "-l", f"analysisfacility.io/pool={pool}", "-o", "json"))["items"]
    return [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def settled(tenant: Tenant, name: str, **asked: int) -> None:
    """Wait until these pools have the workers that were asked for, and no more."""
    wanted = {pool: (number, number) for pool, number in asked.items()}
    tenant.wait(name, lambda body: wanted.items() <= sizes(body).items(), 120, f"pools {wanted}")
    poll(lambda: {p: len(workers(tenant, p)) for p in asked} == asked, f"workers {asked}", 90)
