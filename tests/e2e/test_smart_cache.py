"""A session's cache that asks a model of the session: a log is replayed, and bytes are counted where they go."""

from __future__ import annotations

import itertools
import json
import re
import runpy
import statistics
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from benchmarks._access_log import Log, generate
from local_cluster.settings import CHECKOUT
from tests.support import served
from tests.support.tenant import DASK, ENVIRONMENT, Tenant, kubectl, poll

LEARN = runpy.run_path(str(CHECKOUT / "examples/smart_cache/learn.py"))
PROGRAM = (CHECKOUT / "tests/support/programs/opens.py").read_text()
ORIGIN = "root://origin.af-storage.svc.cluster.local:1094/"
INTERACTIVE = {"profile": "default", "user": "admin", "mode": "Interactive", "dask": DASK}
SMART, PLAIN, MODEL = "smart", "plain", "popularity"
CACHE_OF_SMART = f"analysisfacility.io/session={SMART},analysisfacility.io/component=xcache"
CACHE = {"placement": "Session", "size": "1Gi"}
PACE = 0.01
"""Seconds from open to open in the log that is learned from, about as in the one that is replayed."""

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Replay:
    """The small log: the URLs of its opens, and how many bytes each file has."""

    opens: list[str]
    sizes: dict[str, int]

    def more(self, tenant: Tenant, names: Sequence[str]) -> Replay:
        """Put more files to the origin, of 10 kB each, beside the first one; return one open of each."""
        folder = self.opens[0].rpartition("/")[0]
        sizes = {f"{folder}/{name}.root": 10_000 for name in names}
        put(tenant, sizes)
        return Replay([*sizes], sizes)

    def path(self, url: str) -> str:
        """Return a file as the cache knows it."""
        return urlsplit(url).path.replace("//", "/")


def small_log(seed: int) -> Log:
    """Return some hundred opens of a few data sets; each seed is another place."""
    return generate(seed=seed, rows=500, datasets=40)


def urls(log: Log, base: str) -> list[str]:
    """Return what is opened, in order."""
    return [base + path for path in log.paths()]


@pytest.fixture(scope="module")
def sessions(shared_tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Tenant:
    """Two sessions with a cache each, of which one asks."""
    decision = {"decision": {"model": MODEL, "thresholdPercent": 30}}
    shared_tenant.apply(PLAIN, INTERACTIVE | {"xcache": CACHE})
    shared_tenant.apply(SMART, INTERACTIVE | {"xcache": CACHE | decision, "inference": {"upload": True}})
    for name in (SMART, PLAIN):
        shared_tenant.wait_condition(name, "Ready", seconds=240)
    _push_model(shared_tenant, tmp_path_factory.mktemp("model") / f"{MODEL}.onnx")
    return shared_tenant


def _push_model(tenant: Tenant, file: Path) -> None:
    """Learn from other logs, what was opened again in the rest of each, and push the model into the session."""
    rows, used = [], []
    for seed in range(10, 40):
        log = small_log(seed)
        times = np.arange(len(log.files)) * PACE
        rows.append(LEARN["features"](zip(times.tolist(), log.paths(), strict=True)))
        used.append(LEARN["until_next"](times, log.files) < np.inf)
    file.write_bytes(LEARN["as_onnx"](LEARN["learn"](np.concatenate(rows), np.concatenate(used))))
    argv = [sys.executable, "-m", "af_client.cli", "models", "push", SMART, str(file), "-n", tenant.namespace]
    done = subprocess.run(argv, env=ENVIRONMENT, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def replay(sessions: Tenant) -> Iterator[Replay]:
    """A log that was not learned from, whose files are at the origin: a hundred kilobytes each in the median."""
    tag = f"e2e-smart-cache-{uuid.uuid4().hex[:8]}"
    log = small_log(2)
    opens = urls(log, f"{ORIGIN}/results/{tag}")
    sizes = {url: int(min(size / 2e4, 500_000)) for url, size in zip(opens, log.bytes.tolist(), strict=True)}
    put(sessions, sizes)
    yield Replay(opens, sizes)
    kubectl("-n", "af-storage", "exec", "deploy/origin", "--", "rm", "-rf", f"/results/{tag}")


def put(tenant: Tenant, sizes: Mapping[str, int]) -> None:
    """Write files to the origin, and have them be there for an hour: what changes just now is not cached."""
    run(tenant, PLAIN, {"write": dict(sizes)})
    new = ("find", "/results", "-name", "*.root", "-newermt", "-30 min", "-exec", "touch", "-d", "-1 hour", "{}", "+")
    kubectl("-n", "af-storage", "exec", "deploy/origin", "--", *new)


def run(tenant: Tenant, session: str, asked: Mapping[str, Any]) -> list[tuple[float, int]]:
    """Run the program in a worker of a session; return what was read: seconds of each open, and bytes."""
    out = tenant.kubectl("exec", "-i", worker(tenant, session), "--", "python", "-c", PROGRAM, stdin=json.dumps(asked))
    return [(seconds, size) for seconds, size in json.loads(out)]


def worker(tenant: Tenant, session: str) -> str:
    """Return the one worker of a session."""
    selector = (
        f"analysisfacility.io/session={session},analysisfacility.io/component=dask,analysisfacility.io/role=worker"
    )
    return tenant.kubectl("get", "pods", "-l", selector, "-o", "name").strip()


def read(tenant: Tenant, session: str, opens: Sequence[str], replay: Replay) -> list[float]:
    """Open and read files, one after the other; return the seconds of each open."""
    found = run(tenant, session, {"read": list(opens)})
    assert [size for _, size in found] == [replay.sizes[url] for url in opens]
    return [seconds for seconds, _ in found]


def counters(tenant: Tenant) -> dict[str, int]:
    """Return how many opens went which way, and why, as the cache's metrics say."""
    url = f"http://{SMART}-xcache.{tenant.namespace}.svc:8791/metrics"
    shown = "{'Authorization': 'Bearer ' + open('/af/xcache/token').read()}"
    code = f"from urllib.request import *; print(urlopen(Request({url!r}, headers={shown}), timeout=5).read().decode())"
    text = tenant.kubectl("exec", worker(tenant, SMART), "--", "python", "-c", code)
    print(text)
    lines = re.findall(r'^xcache_opens_total\{way="(\w+)",reason="(\w+)"\} (\d+)$', text, re.MULTILINE)
    return {f"{way} {reason}": int(count) for way, reason, count in lines}


def on_disk(tenant: Tenant, session: str) -> dict[str, int]:
    """Return the files that a cache has on its disk, and the bytes of each that are there."""
    # Holes count as nothing: of a file that was read in part only its blocks are there.
    found = in_cache(tenant, session, "find", "/cache", "-name", "*.root", "-printf", "%b %P\\n")
    return {f"/{path}": int(blocks) * 512 for blocks, path in (line.split() for line in found.splitlines())}


def received(tenant: Tenant, session: str) -> int:
    """Return the bytes that a cache's pod has received: nearly all of them from the origin."""
    [line] = [each for each in in_cache(tenant, session, "cat", "/proc/net/dev").splitlines() if "eth0" in each]
    return int(line.split(":")[1].split()[0])


def in_cache(tenant: Tenant, session: str, *command: str) -> str:
    return tenant.kubectl("exec", f"deploy/{session}-xcache", "-c", "xcache", "--", *command)


def past(tenant: Tenant) -> list[str]:
    """Return the paths that the cache has let pass it by, in order."""
    log = tenant.kubectl("logs", f"deploy/{SMART}-xcache", "-c", "xcache", "--tail=-1")
    return re.findall(r"Decision: past the cache: (\S+)$", log, re.MULTILINE)


@dataclass(frozen=True)
class Bytes:
    """What a replay has cost a cache."""

    from_origin: int
    written: int


def expected(opens: Sequence[str], replay: Replay, passed: Sequence[str]) -> tuple[Bytes, set[str]]:
    """Return what opens cost the cache that these passed by, one after the other; and the files that are kept."""
    kept, left, came = set[str](), list(passed), 0
    for url in opens:
        path = replay.path(url)
        if path in kept:
            continue
        if left and left[0] == path:
            left.pop(0)
        else:
            came += replay.sizes[url]
            kept.add(path)
    assert not left
    return Bytes(came, sum({replay.path(url): replay.sizes[url] for url in opens}[path] for path in kept)), kept


def test_a_replayed_log_costs_what_its_decisions_say(sessions: Tenant, replay: Replay) -> None:
    found = {}
    for name in (PLAIN, SMART):
        before = received(sessions, name)
        seconds = read(sessions, name, replay.opens, replay)
        passed = past(sessions) if name == SMART else []
        wanted, kept = expected(replay.opens, replay, passed)
        poll(lambda name=name, kept=kept: on_disk(sessions, name).keys() == kept, f"{name} has on disk what it kept")
        files = on_disk(sessions, name)
        found[name] = Bytes(received(sessions, name) - before, sum(files.values()))
        print(name, found[name], wanted, f"open: median {1e3 * statistics.median(seconds):.1f} ms")
        # Requests, acknowledgements and the ends of blocks are counted as well.
        assert wanted.from_origin <= found[name].from_origin <= 1.2 * wanted.from_origin + 500_000
        assert wanted.written <= found[name].written <= wanted.written + 4096 * len(files)
    ways = counters(sessions)
    assert sum(ways.values()) == len(replay.opens)
    # The cache waits for 50 ms, and keeps the file if it has not heard by then: on a busy machine that happens.
    unheard = ways["past model"] + ways["past remembered"] - len(past(sessions))
    assert 0 <= unheard <= 0.05 * len(past(sessions))
    assert past(sessions)
    assert ways["cache model"] > 0
    # What the model is there for. Nothing had to go, so it can only cost: some of what passes is read again.
    assert found[SMART].written < 0.8 * found[PLAIN].written
    sizes = {replay.path(url): size for url, size in replay.sizes.items()}
    came = found[SMART].from_origin + sum(sizes[path] for path in past(sessions))
    assert found[PLAIN].from_origin < came < 1.5 * found[PLAIN].from_origin


def test_while_the_service_hangs_files_are_cached_as_usual(sessions: Tenant, replay: Replay) -> None:
    fresh = replay.more(sessions, [f"fresh-{number}" for number in range(60)])
    before = counters(sessions)
    # Not deleted: for some seconds a pod that goes still answers, and then another one does.
    served.send(sessions, f"{SMART}-inference-r0", "SIGSTOP")
    try:
        seconds = read(sessions, SMART, fresh.opens, fresh)
        after = counters(sessions)
    finally:
        served.send(sessions, f"{SMART}-inference-r0", "SIGCONT")
    print(f"opens: median {1e3 * statistics.median(seconds):.1f} ms, longest {1e3 * max(seconds):.1f} ms")
    ways = {way: after[way] - before[way] for way in after if after[way] != before[way]}
    assert sum(ways.values()) == len(fresh.opens)
    assert ways.keys() == {"cache late", "cache paused"}
    # The first ones find out, the others do not wait for it.
    assert 1 <= ways["cache late"] <= 6
    assert {replay.path(url) for url in fresh.opens} <= on_disk(sessions, SMART).keys()
    asked_again(sessions, replay)


def asked_again(tenant: Tenant, replay: Replay) -> None:
    """Wait until the model has said something of a file."""
    before, tag, numbers = counters(tenant), uuid.uuid4().hex[:8], itertools.count()

    def is_asked() -> bool:
        """Each time with a file that nobody has opened: of what is on disk nothing is asked."""
        again = replay.more(tenant, [f"again-{tag}-{next(numbers)}"])
        read(tenant, SMART, again.opens, again)
        now = counters(tenant)
        return now["cache model"] + now["past model"] > before["cache model"] + before["past model"]

    poll(is_asked, "the model is asked again", 240)


def test_without_the_program_beside_it_the_cache_is_a_cache(sessions: Tenant, replay: Replay) -> None:
    pod = sessions.kubectl("get", "pods", "-l", CACHE_OF_SMART, "-o", "name").strip()
    restarts = "jsonpath={.status.containerStatuses[?(@.name=='decision')].restartCount}"
    before = sessions.kubectl("get", pod, "-o", restarts)
    one = replay.more(sessions, ["alone"])
    # The first process of a container is tini, which passes it on.
    sessions.kubectl("exec", pod, "-c", "decision", "--", "python3", "-c", "import os; os.kill(1, 15)", check=False)
    read(sessions, SMART, one.opens * 2, one)
    poll(lambda: sessions.kubectl("get", pod, "-o", restarts) != before, "the program is started again")
    sessions.wait_condition(SMART, "Ready")


def test_after_a_suspension_the_model_is_asked_with_its_new_token(sessions: Tenant, replay: Replay) -> None:
    """The cache stays while the session is suspended, and with it the program, which knew the old one."""
    secret = ("get", "secret", f"{SMART}-inference", "-o", "jsonpath={.data.token}")
    cache, old = sessions.kubectl("get", "pods", "-l", CACHE_OF_SMART, "-o", "name"), sessions.kubectl(*secret)
    sessions.patch(SMART, suspend=True)
    sessions.wait_condition(SMART, "Ready", "False", seconds=120)
    poll(
        lambda: "NotFound" in sessions.kubectl("get", "secret", f"{SMART}-inference", check=False),
        "it is suspended",
        120,
    )
    sessions.patch(SMART, suspend=False)
    sessions.wait_condition(SMART, "Ready", seconds=240)
    assert sessions.kubectl(*secret) != old
    assert sessions.kubectl("get", "pods", "-l", CACHE_OF_SMART, "-o", "name") == cache
    asked_again(sessions, replay)
