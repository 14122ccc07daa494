"""Pools of a live session are resized while it computes: every result stays right, and nothing is computed again."""

from __future__ import annotations

import json
import os
import random
import re
import time

import pytest

from tests.support.audit import OPERATOR, Audit, all_told
from tests.support.tenant import HEADLESS, Body, Tenant, condition, kubectl, poll

SEEDS = [int(seed) for seed in os.environ.get("AF_SEEDS", "1").split(",")]
RESIZES = int(os.environ.get("AF_RESIZES", "10"))
HELD = 500

PROGRAM = """
import os, time
from dask.distributed import Client, Event, SchedulerPlugin

class Count(SchedulerPlugin):
    name = "count"
    def __init__(self):
        self.done = {}
    def transition(self, key, start, finish, *args, **kwargs):
        if (start, finish) == ("processing", "memory"):
            self.done[key] = self.done.get(key, 0) + 1

def square(number):
    return number, bytes(20_000)

def slow(number):
    time.sleep(0.05)
    return number + 1

with Client() as client:
    client.wait_for_workers(1)
    client.register_plugin(Count())
    held = client.map(square, range(HELD), pure=False, key="held")
    client.gather(held)
    keys = [f.key for f in held]
    print("held", len(held), flush=True)
    stop, streamed = Event("stop"), 0
    while not stop.is_set():
        part = client.map(slow, range(streamed, streamed + 40), pure=False)
        assert client.gather(part) == list(range(streamed + 1, streamed + 41)), "wrong"
        streamed += 40
    results = client.gather(held)
    assert [number for number, _ in results] == list(range(HELD)), "a held result is wrong"
    counts = client.run_on_scheduler(
        lambda dask_scheduler: [dask_scheduler.plugins["count"].done[key] for key in keys]
    )
    again = sum(1 for count in counts if count != 1)
    print("streamed", streamed, "again", again, flush=True)
    assert again == 0, "held results were computed again"
""".replace("HELD", str(HELD))
STOP = "from dask.distributed import Client, Event\nwith Client() as c: Event('stop').set()"


def pools(cpu: tuple[int, int], other: tuple[int, int]) -> Body:
    shape = {"nodePool": "cpu", "size": "small"}
    sizes = {"cpu": cpu, "other": other}
    return {"pools": [{"name": n, **shape, "workers": {"min": a, "max": b}} for n, (a, b) in sizes.items()]}


def start(tenant: Tenant, name: str, program: str, dask: Body) -> None:
    run = {"command": ["python", "main.py"], "source": {"files": {"main.py": program}}}
    tenant.apply(name, {**HEADLESS, "run": run, "dask": dask})


def said(tenant: Tenant, name: str) -> str:
    return tenant.kubectl("logs", f"job/{name}-run", "--container=run", check=False)


def stop(tenant: Tenant, name: str) -> str:
    """Let the program come to its end; return its log."""
    tenant.kubectl("exec", f"job/{name}-run", "--container=run", "--", "python", "-c", STOP)
    tenant.wait_condition(name, "RunComplete", seconds=120)
    log = json.loads(tenant.kubectl("get", "configmap", f"{name}-run-log", "-o", "json"))["data"]["log"]
    assert condition(tenant.session(name), "RunComplete")["reason"] == "Succeeded", log
    return str(log)


def sizes(body: Body) -> dict[str, tuple[int, int]]:
    """Return (ready, desired) of each pool."""
    found = body.get("status", {}).get("components", {}).get("dask", {}).get("pools", {})
    return {name: (pool["ready"], pool["desired"]) for name, pool in found.items()}


def deployments(tenant: Tenant, pool: str) -> list[str]:
    """Return the names of a pool's workers."""
    selector = f"analysisfacility.io/pool={pool},dask.org/component=worker"
    return tenant.kubectl("get", "deployments", "-l", selector, "-o", "name").split()


def settled(tenant: Tenant, name: str, **asked: int) -> None:
    """Wait until each pool has the workers that were asked for, and no more."""
    wanted = {pool: (number, number) for pool, number in asked.items()}
    tenant.wait(name, lambda body: sizes(body) == wanted, 120, f"pools {wanted}")
    poll(lambda: {p: len(deployments(tenant, p)) for p in asked} == asked, f"workers {asked}", 90)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_over_many_resizes(tenant: Tenant, seed: int) -> None:
    dice, name = random.Random(seed), f"resize-{seed}"
    with Audit() as audit:
        start(tenant, name, PROGRAM, pools((2, 2), (1, 1)))
        poll(lambda: f"held {HELD}" in said(tenant, name), "the program holds its results", 180)
        number = {"cpu": 2, "other": 1}
        for _ in range(RESIZES):
            pool = dice.choice(list(number))
            others = sum(number.values()) - number[pool]
            number[pool] = dice.choice([n for n in range(5) if n != number[pool] and n + others > 0])
            tenant.patch(name, dask=pools(*((n, n) for n in number.values())))
            if dice.random() < 0.6:  # the others come before the last is done
                settled(tenant, name, **number)
        settled(tenant, name, **number)
        log = scheduler_log(tenant, name)
        print(stop(tenant, name).strip().splitlines()[-1])
        removed = [
            w.name
            for w in audit.writes(OPERATOR, namespace=tenant.namespace)
            if w.verb == "delete" and w.resource == "deployments"
        ]
    retired = set(re.findall(r"Worker (\S+) has nothing left", log))
    assert removed, "no worker was removed: nothing was tested"
    assert set(removed) <= retired, "each was retired by the scheduler first"
    print(f"seed {seed}: {len(removed)} workers removed in {RESIZES} resizes")


def scheduler_log(tenant: Tenant, name: str) -> str:
    return tenant.kubectl("logs", f"deployment/{name}-scheduler", "--container=scheduler")


GPU_PROGRAM = """
import time
from dask.distributed import Client
with Client() as client:
    begin = time.time()
    first = client.submit(lambda: time.time(), resources={"GPU": 1}, pure=False)
    more = client.map(lambda index: time.sleep(1) or index, range(8), resources={"GPU": 1}, pure=False)
    print(f"first GPU task after {first.result(180) - begin:.1f} s", flush=True)
    assert sorted(client.gather(more)) == list(range(8))
    print("workers", len(client.nthreads()), flush=True)
    del more
    end = time.time() + 150
    while len(client.nthreads()) > 1 and time.time() < end:
        time.sleep(0.5)
    print("workers at the end", len(client.nthreads()), flush=True)
"""


@pytest.mark.timeout(400)
def test_an_elastic_gpu_pool_comes_for_its_tasks_and_goes_after_them(tenant: Tenant) -> None:
    cpu = {"name": "cpu", "nodePool": "cpu", "workers": {"min": 1, "max": 1}}
    gpu = {"name": "gpu", "nodePool": "gpu", "size": "gpu", "gpusPerWorker": 1, "workers": {"min": 0, "max": 2}}
    start(tenant, "elastic", GPU_PROGRAM, {"pools": [cpu, gpu]})
    tenant.wait("elastic", lambda body: sizes(body).get("gpu", (0, 0))[1] == 2, 120, "two GPU workers are wanted")
    tenant.wait_condition("elastic", "RunComplete", reason="Succeeded", seconds=240)
    log = json.loads(tenant.kubectl("get", "configmap", "elastic-run-log", "-o", "json"))["data"]["log"]
    assert "workers at the end 1" in log
    print(re.findall(r"first GPU task after .*", log))


def test_an_elastic_pool_costs_nothing_while_nothing_changes(tenant: Tenant) -> None:
    cpu = {"name": "cpu", "nodePool": "cpu", "workers": {"min": 1, "max": 4}}
    with Audit() as before:
        tenant.apply("calm", {"user": "admin", "mode": "Interactive", "dask": {"pools": [cpu]}})
        tenant.wait_condition("calm", "Ready")
        poll(lambda: all_told(before, tenant.namespace), "no status is held back any more")
    with Audit() as audit:
        begin = time.monotonic()
        poll(lambda: time.monotonic() - begin > 10, "ten seconds in which the scheduler is asked five times", 20)
        assert audit.writes(OPERATOR, namespace=tenant.namespace) == []


def test_another_shape_replaces_workers_new_before_old(tenant: Tenant) -> None:
    start(tenant, "reshape", PROGRAM, pools((2, 2), (1, 1)))
    poll(lambda: f"held {HELD}" in said(tenant, "reshape"), "the program holds its results", 180)
    before = deployments(tenant, "cpu")
    changed = pools((2, 2), (1, 1))
    changed["pools"][0]["size"] = "medium"
    tenant.patch("reshape", dask=changed)
    fewest = 9

    def replaced() -> bool:
        nonlocal fewest
        now = deployments(tenant, "cpu")
        fewest = min(fewest, len(now))
        return len(now) == 2 and not set(now) & set(before)

    poll(replaced, "both workers are of the other size", 120)
    assert fewest == 2, "never fewer than asked for"
    stop(tenant, "reshape")


def test_a_removed_pool_goes_and_a_new_one_comes(tenant: Tenant) -> None:
    start(tenant, "swap", PROGRAM, pools((1, 1), (1, 1)))
    poll(lambda: f"held {HELD}" in said(tenant, "swap"), "the program holds its results", 180)
    shape = {"nodePool": "cpu", "size": "small", "workers": {"min": 1, "max": 1}}
    tenant.patch("swap", dask={"pools": [{"name": "cpu", **shape}, {"name": "third", **shape}]})
    settled(tenant, "swap", cpu=1, third=1)
    poll(lambda: not deployments(tenant, "other"), "the workers of the removed pool are gone", 90)
    groups = tenant.kubectl("get", "daskworkergroups", "-l", "analysisfacility.io/pool=other", "-o", "name")
    assert groups == ""
    stop(tenant, "swap")


def test_a_lost_scheduler_is_said(tenant: Tenant) -> None:
    tenant.apply("lost", {"user": "admin", "mode": "Interactive", "dask": pools((1, 1), (1, 1))})
    tenant.wait_condition("lost", "Ready")
    tenant.kubectl("delete", "pod", "-l", "dask.org/component=scheduler,dask.org/cluster-name=lost", "--wait=false")
    found = tenant.wait_condition("lost", "SchedulerLost", seconds=60)
    assert found["reason"] == "Replaced"
    assert "is lost" in found["message"]
    tenant.wait_condition("lost", "Ready", seconds=120)
    events = kubectl("get", "events", "-n", tenant.namespace, "--field-selector=type=Warning")
    assert "the Dask scheduler was lost" in events


def test_a_silent_scheduler_keeps_its_workers(tenant: Tenant) -> None:
    tenant.apply("silent", {"user": "admin", "mode": "Interactive", "dask": pools((2, 2), (0, 0))})
    tenant.wait_condition("silent", "Ready")
    stopped = "import os, signal; [os.kill(int(p), signal.SIGSTOP) for p in os.listdir('/proc') if p.isdigit() and b'scheduler' in open(f'/proc/{p}/cmdline','rb').read() and int(p) not in (1, os.getpid())]"  # noqa: E501
    tenant.kubectl("exec", "deployment/silent-scheduler", "--", "python", "-c", stopped)
    tenant.patch("silent", dask=pools((1, 1), (0, 0)))
    tenant.wait("silent", lambda body: "does not answer" in condition(body, "DaskReady").get("message", ""), 60)
    assert len(deployments(tenant, "cpu")) == 2
    resumed = stopped.replace("SIGSTOP", "SIGCONT")
    tenant.kubectl("exec", "deployment/silent-scheduler", "--", "python", "-c", resumed)
    settled(tenant, "silent", cpu=1, other=0)
