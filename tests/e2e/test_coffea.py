"""coffea and dask-awkward on a session's Dask; modules of one's own there and on Spark, headless and in a notebook."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import programs
from tests.support.tenant import DASK, HEADLESS, Tenant

PROGRAMS = Path(programs.__file__).parent
MODULE = PROGRAMS / "dimuon_mass.py"
pytestmark = pytest.mark.timeout(600)

ORIGIN = {"name": "ORIGIN", "value": "root://origin.af-storage.svc.cluster.local:1094"}
EVENTS = 400_000
"""Of the two files that the program reads."""
PROFILE = "default"

SPARK = {"pools": [{"name": "spark", "nodePool": "cpu", "size": "medium", "workers": {"min": 1, "max": 1}}]}

SPARK_PROGRAM = """
import cuts
from pyspark.sql import SparkSession, functions

spark = SparkSession.builder.getOrCreate()
def add(f):
    return spark.range(10).select(functions.sum(functions.udf(f, "long")("id"))).first()[0]
"""
NOTEBOOK = [
    "from dask.distributed import Client\nclient = Client()\n",
    SPARK_PROGRAM,
    "print('Dask', sum(client.gather(client.map(cuts.square, range(10)))))\nprint('Spark', add(cuts.square))",
    "from pathlib import Path\nimport importlib\nPath('cuts.py').write_text('def square(x):\\n    return x + 1\\n')\n"
    "importlib.reload(cuts)\nclient = Client()\n"
    "print('edited', client.submit(cuts.square, 41).result(), add(cuts.square))",
    "client.restart()\nprint('restarted', client.submit(cuts.square, 42).result())",
]
SQUARE = "def square(x):\n    return x * x\n"


@pytest.fixture(scope="module")
def log(shared_tenant: Tenant) -> str:
    """What a run of all of it has written; two workers, and a cache for all."""
    program = (PROGRAMS / "coffea_session.py").read_text()
    shared_tenant.apply(
        "coffea",
        HEADLESS
        | {
            "profile": PROFILE,
            "run": {
                "command": ["python", "main.py"],
                "source": {"files": {"main.py": program, MODULE.name: MODULE.read_text()}},
            },
            "dask": {"pools": [DASK["pools"][0] | {"workers": {"min": 2, "max": 2}}]},
            "xcache": {"placement": "Session", "size": "1Gi"},
            "env": [ORIGIN],
        },
    )
    return log_of(shared_tenant, "coffea")


@pytest.fixture(scope="module")
def result(log: str) -> dict[str, Any]:
    """Its last words."""
    return next(json.loads(line) for line in log.splitlines() if line.startswith("{"))


def test_a_processor_of_coffeas_makes_the_histogram_of_a_plain_loop(result: dict[str, Any]) -> None:
    assert result["events"] == EVENTS
    assert result["coffea"] == result["plain"]
    assert sum(result["coffea"]) > EVENTS / 2
    assert int(np.argmax(result["coffea"])) in (30, 31), "the peak is the Z's"


def test_dask_awkward_computes_the_same_whether_optimized_or_not(result: dict[str, Any]) -> None:
    assert result["first run"] == [1, 1], "without a client, and with one"
    assert result["as it is"]["muons"] == result["optimized"]["muons"] > 0
    assert result["as it is"]["leading"] == result["optimized"]["leading"]
    assert sum(result["optimized"]["leading"]) > EVENTS / 2


def test_what_is_optimized_here_reads_only_the_columns_that_it_needs(result: dict[str, Any]) -> None:
    """And what is not reads all: where this fails on a newer Dask, the docs promise too little."""
    assert 0 < 3 * result["optimized"]["bytes"] < result["as it is"]["bytes"]


def test_a_module_beside_the_script_is_found(result: dict[str, Any]) -> None:
    assert result["squares"] == 285


def test_a_progress_bar_does_not_flood_the_log(log: str) -> None:
    assert "Processing 100%" in log
    assert "\r" not in log
    assert len(log.splitlines()) < 30


def test_sparks_workers_find_a_module_beside_the_script(shared_tenant: Tenant) -> None:
    files = {"main.py": f"{SPARK_PROGRAM}\nprint('Spark', add(cuts.square))", "cuts.py": SQUARE}
    run = {"command": ["python", "main.py"], "source": {"files": files}}
    shared_tenant.apply("spark", HEADLESS | {"profile": PROFILE, "run": run, "spark": SPARK})
    assert "Spark 285\n" in log_of(shared_tenant, "spark")


def test_a_module_beside_a_notebook_is_found_and_follows_an_edit(shared_tenant: Tenant) -> None:
    both = {"dask": DASK, "spark": SPARK}
    shared_tenant.apply("lab", {"profile": PROFILE, "user": "carla", "mode": "Interactive", "notebook": {}, **both})
    shared_tenant.wait_condition("lab", "Ready", seconds=280)
    write_home(shared_tenant, "cuts.py", SQUARE)
    write_home(shared_tenant, "lab.ipynb", notebook(NOTEBOOK))
    in_notebook(shared_tenant, "jupyter", "execute", "--inplace", "lab.ipynb")
    cells = json.loads(in_notebook(shared_tenant, "cat", "lab.ipynb"))["cells"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    said = [line for output in outputs if output.get("name") == "stdout" for line in output["text"]]
    assert said == ["Dask 285\n", "Spark 285\n", "edited 42 55\n", "restarted 43\n"]
    # PySpark warns of pandas there, at each import.
    assert "preload" not in json.dumps(outputs)


def log_of(tenant: Tenant, name: str) -> str:
    tenant.wait_condition(name, "RunComplete", seconds=280, reason="Succeeded")
    kept: str = json.loads(tenant.kubectl("get", "configmap", f"{name}-run-log", "-o", "json"))["data"]["log"]
    return kept


def notebook(cells: list[str]) -> str:
    def cell(number: int, source: str) -> dict[str, Any]:
        return {
            "cell_type": "code",
            "id": str(number),
            "source": source,
            "metadata": {},
            "outputs": [],
            "execution_count": None,
        }

    content = [cell(number, source) for number, source in enumerate(cells)]
    return json.dumps({"cells": content, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def write_home(tenant: Tenant, name: str, text: str) -> None:
    tenant.kubectl("exec", "-i", "lab-notebook-0", "-c", "notebook", "--", "sh", "-c", f"cat > {name}", stdin=text)


def in_notebook(tenant: Tenant, *command: str) -> str:
    return tenant.kubectl("exec", "lab-notebook-0", "-c", "notebook", "--", *command)
