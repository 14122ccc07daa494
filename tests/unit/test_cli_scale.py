"""`af scale` against a scripted API server."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from click.testing import CliRunner, Result

from af_client import sessions
from af_client.cli.commands import cli
from tests.support.fake_transport import FakeTransport, condition, status

SPEC = {"pools": [{"name": "cpu", "workers": {"max": 2}}, {"name": "gpu", "workers": {"max": 1}}]}
BOTH = {"pools": [{"name": "cpu", "workers": {"max": 3}}, {"name": "mem", "workers": {"max": 1}}]}
"""Pools of a component that the client has never heard of."""
OVER = "dask pool 'gpu': 4 workers is over the limit of profile 'default': at most 2"


def af(fake: FakeTransport, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["scale", *arguments], obj=fake)


def of_gpu(ready: int, desired: int, message: str = "") -> dict[str, Any]:
    sizes = {"dask": {"pools": {"cpu": {"ready": 2, "desired": 2}, "gpu": {"ready": ready, "desired": desired}}}}
    return status("Ready", condition("DaskReady", True, "Ready", message), components=sizes)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "RECONNECT_SECONDS", 0.01)


@pytest.fixture
def fake() -> FakeTransport:
    found = FakeTransport()
    found.add("z", dask=deepcopy(SPEC), mode="Interactive")
    return found


@pytest.mark.parametrize(("asked", "workers"), [("4", (4, 4)), ("0..2", (0, 2)), ("0", (0, 0))])
def test_the_pool_is_edited_and_no_other(fake: FakeTransport, asked: str, workers: tuple[int, int]) -> None:
    done = af(fake, "z", "gpu", asked, "--no-wait")
    assert "pool dask/gpu" in done.stdout
    assert "`af status z` says how far it is" in done.stdout
    cpu, gpu = fake.objects["z"]["spec"]["dask"]["pools"]
    assert gpu["workers"] == dict(zip(("min", "max"), workers, strict=True))
    assert cpu == SPEC["pools"][0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("z", "tpu", "1"), "its pools: dask/cpu, dask/gpu"),
        (("z", "cpu", "many"), "neither a number nor a range"),
        (("z", "cpu", "3..1"), "the smaller number first"),
        (("z", "cpu", "1.5"), "neither a number"),
        (("nobody", "cpu", "1"), "nobody"),
    ],
)
def test_wrong_input_changes_nothing(fake: FakeTransport, arguments: tuple[str, ...], words: str) -> None:
    done = af(fake, *arguments)
    assert done.exit_code != 0
    assert words in done.stderr
    assert fake.objects["z"]["spec"]["dask"] == SPEC


@pytest.fixture
def two(fake: FakeTransport) -> FakeTransport:
    """Return the same session with a second component."""
    fake.objects["z"]["spec"] |= {"quark": deepcopy(BOTH), "env": [{"name": "pools", "value": "x"}]}
    return fake


@pytest.mark.parametrize(
    ("pool", "component", "position"),
    [("gpu", "dask", 1), ("mem", "quark", 1), ("quark/cpu", "quark", 0), ("dask/cpu", "dask", 0)],
)
def test_a_pool_is_found_whatever_computes_in_it(two: FakeTransport, pool: str, component: str, position: int) -> None:
    before = deepcopy(two.objects["z"]["spec"])
    done = af(two, "z", pool, "4", "--no-wait")
    assert done.exit_code == 0, done.stderr
    before[component]["pools"][position]["workers"] = {"min": 4, "max": 4}
    assert two.objects["z"]["spec"] == before
    assert f"pool {component}/{pool.rpartition('/')[2]}: 4 workers" in done.stdout


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        ("cpu", "several pools 'cpu': write dask/cpu or quark/cpu"),
        ("tpu", "no pool 'tpu'; its pools: dask/cpu, dask/gpu, quark/cpu, quark/mem"),
        ("quark/gpu", "no pool 'quark/gpu'; its pools: dask/cpu,"),
        ("lepton/cpu", "no pool 'lepton/cpu'"),
    ],
)
def test_a_pool_that_could_be_another_is_not_guessed(two: FakeTransport, pool: str, words: str) -> None:
    done = af(two, "z", pool, "4")
    assert (done.exit_code, words in done.stderr) == (2, True), done.stderr
    assert {r.verb for r in two.requests} == {"GET"}


def test_the_pool_of_the_other_component_is_not_waited_for(two: FakeTransport) -> None:
    def sizes(dask: int, quark: int) -> dict[str, Any]:
        each = {"dask": dask, "quark": quark}
        return status(
            "Ready", components={name: {"pools": {"cpu": {"ready": n, "desired": 2}}} for name, n in each.items()}
        )

    two.script = [[sizes(2, 0), sizes(2, 1), sizes(2, 2)]]
    done = af(two, "z", "quark/cpu", "2")
    assert "quark pool cpu: 1 of 2 workers" in done.stderr
    assert done.stdout == "session z pool quark/cpu: 2 workers\n"


@pytest.fixture
def served(two: FakeTransport) -> FakeTransport:
    """Return the same session with servers that are all alike, and a pool of that component's name."""
    two.objects["z"]["spec"]["inference"] = {"upload": True, "replicas": 1}
    two.objects["z"]["spec"]["dask"]["pools"].append({"name": "inference", "workers": {"max": 1}})
    return two


def test_replicas_are_a_number(served: FakeTransport) -> None:
    before = deepcopy(served.objects["z"]["spec"])
    done = af(served, "z", "inference", "3", "--no-wait")
    assert done.exit_code == 0, done.stderr
    assert "session z inference: 3 replicas" in done.stdout
    before["inference"]["replicas"] = 3
    assert served.objects["z"]["spec"] == before
    assert af(served, "z", "dask/inference", "2", "--no-wait").exit_code == 0


def test_replicas_are_not_elastic(served: FakeTransport) -> None:
    done = af(served, "z", "inference", "1..3")
    assert (done.exit_code, "inference has a fixed number of replicas: write one number, not 1..3" in done.stderr) == (
        2,
        True,
    )
    assert {r.verb for r in served.requests} == {"GET"}


def test_replicas_are_waited_for(served: FakeTransport) -> None:
    def sizes(ready: int) -> dict[str, Any]:
        return status("Ready", components={"inference": {"pools": {"replicas": {"ready": ready, "desired": 2}}}})

    served.script = [[sizes(1), sizes(2)]]
    done = af(served, "z", "inference", "2")
    assert "inference: 1 of 2 replicas" in done.stderr
    assert done.stdout == "session z inference: 2 replicas\n"


def test_it_is_shown_until_the_pool_has_its_size(fake: FakeTransport) -> None:
    fake.script = [[of_gpu(1, 1), of_gpu(1, 2), of_gpu(2, 2)]]
    done = af(fake, "z", "gpu", "2")
    assert done.exit_code == 0, done.stderr
    assert "dask pool gpu: 1 of 2 workers" in done.stderr
    assert done.stdout == "session z pool dask/gpu: 2 workers\n"


def test_workers_that_still_go_are_waited_for(fake: FakeTransport) -> None:
    fake.script = [[of_gpu(2, 0), of_gpu(1, 0), of_gpu(0, 0)]]
    assert "dask pool gpu: 1 of 0 workers" in af(fake, "z", "gpu", "0").stderr


def test_an_elastic_pool_is_as_asked_with_any_size_in_between(fake: FakeTransport) -> None:
    fake.script = [[of_gpu(1, 1)]]
    assert "0 to 2 workers, as its tasks ask" in af(fake, "z", "gpu", "0..2").stdout


def test_what_the_profile_does_not_allow_is_an_error(fake: FakeTransport) -> None:
    fake.script = [[status("Ready", condition("Accepted", False, "LimitExceeded", OVER))]]
    done = af(fake, "z", "gpu", "4")
    assert done.exit_code == 2
    assert f"Error: {OVER}; the session's workers stay as they are" in done.stderr


def test_a_suspended_session_gets_it_later(fake: FakeTransport) -> None:
    fake.objects["z"]["spec"]["suspend"] = True
    assert "as soon as it is resumed: `af resume -n physics z`" in af(fake, "z", "gpu", "2", "-n", "physics").stdout


def test_who_waits_no_longer_hears_why(fake: FakeTransport) -> None:
    missing = condition("DaskReady", False, "Unschedulable", "asks for 1 more nvidia.com/gpu, 0 free")
    fake.script = [[of_gpu(1, 1) | {"conditions": [missing]}]]
    done = af(fake, "z", "gpu", "2", "--timeout", "0.3")
    assert done.exit_code == 124
    assert "has not got its workers after 0.3 s: " in done.stderr
