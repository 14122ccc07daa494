"""What the benchmark sends is what the server understands, and its goals are worked out as they are written."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from benchmarks import _inference_numbers as numbers
from benchmarks._inference_load import GRPC, MODEL, TFAAS, V2_BINARY, V2_JSON, Case, Load, body, median, rows
from tests.support.inference import onnx_models
from tests.support.inference.serving import Running

LOAD = Load(1000, 100, 0.9, 0.1, 1, 4)


def direct(count: int) -> list[float]:
    session = onnxruntime.InferenceSession(
        onnx_models.network().SerializeToString(), providers=["CPUExecutionProvider"]
    )
    answer: list[float] = session.run(["y"], {"x": rows(count)})[0].ravel().tolist()
    return answer


@pytest.mark.parametrize("count", [1, 100])
def test_each_protocol_asks_for_the_same(running: Running, count: int) -> None:
    data, headers = body(TFAAS, count)
    found = {TFAAS: np.ravel(running.ask("POST", "/json", data, headers).json)}
    data, headers = body(V2_JSON, count)
    path = f"/v2/models/{MODEL}/infer"
    found[V2_JSON] = running.ask("POST", path, data, headers).json["outputs"][0]["data"]
    data, headers = body(V2_BINARY, count)
    answer = running.ask("POST", path, data, headers)
    length = int(answer.headers["inference-header-content-length"])
    found[V2_BINARY] = np.frombuffer(answer.body[length:], np.float32)
    for protocol, values in found.items():
        assert np.allclose(values, direct(count), atol=1e-6), protocol
    assert len(body(GRPC, count)[0]) > count * 80


def found(**changes: float) -> numbers.Found:
    cases = [Case(p, n, c) for p in numbers.PROTOCOLS for n in numbers.ROWS for c in (numbers.FEW, numbers.MANY)]
    return numbers.Found("ours", changes.get("ready", 1), changes.get("mib", 100), dict.fromkeys(cases, LOAD))


def test_goals() -> None:
    met = {goal.title.partition(":")[0]: goal.met for goal in numbers.goals(found(), baseline=80_000)}
    assert list(met.values()) == [True, False, False, True, True, True, True]
    late = [goal.met for goal in numbers.goals(found(ready=2.1, mib=151), baseline=100_000)]
    assert late == [False, False, False, True, True, False, False]


def test_the_slowest_protocol_counts() -> None:
    one = found()
    slow = {**one.loads, Case(GRPC, 1, numbers.FEW): replace(LOAD, p99_ms=5.1)}
    assert [goal.met for goal in numbers.goals(replace(one, loads=slow), 80_000)][4] is False


def test_medians_are_taken_number_by_number() -> None:
    loads = [replace(LOAD, requests=n, cpu_us=10 - n) for n in (1, 2, 9)]
    assert (median(loads).requests, median(loads).cpu_us) == (2, 8)


def test_all_of_it_is_shown() -> None:
    shown = json.dumps([each.rows for each in numbers.tables([found()], 80_000)])
    for protocol in numbers.PROTOCOLS:
        assert shown.count(f'"{protocol}"') == 4
    assert len(numbers.draw([found()], 80_000).axes) == 2
