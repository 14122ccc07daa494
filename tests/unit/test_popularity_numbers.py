"""What the benchmark of counted accesses makes of what it finds."""

from __future__ import annotations

from typing import Any

from benchmarks import popularity

FOUND: dict[str, Any] = {
    "accesses": 5_000_000,
    "rows": 48_000,
    "seconds": {
        "one core": {"first": 3.0, "then": [2.0, 1.0, 4.0]},
        "Dask": {"first": 9.5, "then": [1.5, 1.0, 1.25]},
    },
}


def test_times_are_told_by_one_core_of_the_same_run() -> None:
    rows = {name: rest for name, *rest in popularity.rows(FOUND)}
    assert rows["one core"] == ["3.00 s", "2.00 s", "1.00 to 4.00 s", "1.00"]
    assert rows["Dask"] == ["9.50 s", "1.25 s", "1.00 to 1.50 s", "0.62"]
    assert popularity.table(FOUND).title.startswith("5,000,000 accesses")


def test_dask_and_spark_have_the_same_pools() -> None:
    spec = popularity.session({"ROWS": 1, "DATASETS": 1, "ROUNDS": 1})["spec"]
    assert spec["dask"]["pools"] == spec["spark"]["pools"]
    assert {"name": "ROWS", "value": "1"} in spec["env"]
