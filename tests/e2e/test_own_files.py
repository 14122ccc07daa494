"""What is a user's own where they compute: a run's files, a notebook's, packages, a terminal, a home that begins."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import programs
from tests.support.lab import Lab, lab
from tests.support.tenant import DASK, HEADLESS, Tenant
from tests.support.wheels import wheel, writing

PROGRAM = Path(programs.__file__).parent / "own_files.py"
pytestmark = pytest.mark.timeout(600)

PROFILE = "default"
TWO = {"pools": [DASK["pools"][0] | {"workers": {"min": 1, "max": 2}}]}
SPARK = {"pools": [{"name": "spark", "nodePool": "cpu", "size": "medium", "workers": {"min": 1, "max": 1}}]}
SQUARE = "def square(x):\n    return x * x\n"

# What a notebook's user has of their own: a module that data lies beside, and a package.
WHEEL, CONTENT = wheel("tinycuts", "1.0", {"tinycuts/__init__.py": "def pt():\n    return 25\n"})
# Another version of one that the image has.
NEWER, NEWER_CONTENT = wheel("vector", "99.0", {"vector/__init__.py": "__version__ = '99.0'\n"})
FIND = """
def find(_=0):
    import cuts, json, tinycuts, vector
    return f"{cuts.square(3)} {json.load(open('tables/pt.json'))} {tinycuts.pt()} {vector.__version__}"
"""
DASK_FINDS = FIND + "print(sorted(set(client.run(find).values())), client.run_on_scheduler(find))"
SPARK_FINDS = """
from pyspark.sql import SparkSession, functions
spark = SparkSession.builder.getOrCreate()
print(spark.range(1).select(functions.udf(find, "string")("id")).first()[0])
"""
BEGIN = """
from pathlib import Path
from dask.distributed import Client
from af_client.here import session
client = Client()
Path("tables").mkdir(exist_ok=True)
Path("tables/pt.json").write_text("20")
# Spark gets a module with a function that names it; one that is imported in the function is sent.
session.upload("tables", "cuts.py")
session.upload_packages()
"""


@pytest.fixture(scope="module")
def found(shared_tenant: Tenant) -> dict[str, Any]:
    """What a run on Dask and Spark finds of its own files."""
    files = {"main.py": PROGRAM.read_text(), "cuts.py": SQUARE, "cuts.json": '{"pt": 20}'}
    run = {"command": ["python", "main.py"], "source": {"files": files}}
    shared_tenant.apply("run", HEADLESS | {"profile": PROFILE, "run": run, "dask": TWO, "spark": SPARK})
    shared_tenant.wait_condition("run", "RunComplete", seconds=280, reason="Succeeded")
    log = json.loads(shared_tenant.kubectl("get", "configmap", "run-run-log", "-o", "json"))["data"]["log"]
    return next(json.loads(line) for line in log.splitlines() if line.startswith("{"))


def test_a_runs_files_are_where_its_tasks_begin(found: dict[str, Any]) -> None:
    assert found["sum"] == 285
    assert found["scheduler"] == found["spark"] == "9 20"


def test_a_worker_that_comes_later_has_them_too(found: dict[str, Any]) -> None:
    assert found["workers"] == ["9 20", "9 20"]


def test_what_a_run_changes_follows(found: dict[str, Any]) -> None:
    assert found["uploaded"] == ["9 30", "9 30"]
    assert found["changed"] == ["10 30", "10 30"]


@pytest.fixture(scope="module")
def home(shared_tenant: Tenant) -> Tenant:
    """A session with a notebook, of a user who was never here."""
    both = {"dask": TWO, "spark": SPARK}
    shared_tenant.apply("lab", {"profile": PROFILE, "user": "dora", "mode": "Interactive", "notebook": {}, **both})
    shared_tenant.wait_condition("lab", "Ready", seconds=280)
    return shared_tenant


@pytest.fixture
def server(home: Tenant) -> Iterator[Lab]:
    """Its server."""
    with lab(home, "lab") as found:
        yield found


def test_a_new_home_has_the_tutorial_and_examples_that_run(home: Tenant) -> None:
    assert in_pod(home, "ls").split() == ["examples", "first-session.ipynb"]
    for notebook in ("first-session.ipynb", "examples/columns.ipynb", "examples/own-files.ipynb"):
        in_pod(home, "jupyter", "execute", "--inplace", notebook)
    assert re.search(r"[1-9][0-9]+ pairs, computed by [12] workers", in_pod(home, "cat", "first-session.ipynb"))
    assert "[False, True, False]" in in_pod(home, "cat", "examples/own-files.ipynb")


async def test_a_terminal_is_a_login_bash_of_the_image(home: Tenant, server: Lab) -> None:
    async with server.terminal() as terminal:
        await terminal.type("", r"lab:~\$ $")
        said = await terminal.type("shopt login_shell; command -v python jupyter dask\r", r"/dask\r\n")
        assert "login_shell    \ton" in said
        assert all(f"/opt/venv/bin/{name}\r\n" in said for name in ("python", "jupyter", "dask"))
        await terminal.type("ls first-\t\r", r"first-session.ipynb\s")
        await terminal.type("echo once more | tr a-z A-Z\r", r"ONCE MORE\s")
        # The arrow key brings it back.
        await terminal.type("\x1b[A\r", r"ONCE MORE\s")
    assert in_pod(home, "cat", ".bash_history").count("once more") == 2
    assert in_pod(home, "sh", "-lc", "command -v python") == "/opt/venv/bin/python\n"


async def test_packages_go_into_home_and_to_all_workers(home: Tenant, server: Lab) -> None:
    async with server.kernel() as kernel:
        for name, content in ((WHEEL, CONTENT), (NEWER, NEWER_CONTENT), ("cuts.py", SQUARE.encode())):
            await kernel.run(writing(name, content))
        said = await kernel.run(f"%pip install --no-index {WHEEL} {NEWER}")
        assert "Successfully installed tinycuts-1.0 vector-99.0" in said, said
    async with server.kernel() as kernel:
        await kernel.run(BEGIN + FIND)
        assert await kernel.run("print(find())") == "9 20 25 99.0\n"
        assert await kernel.run(DASK_FINDS) == "['9 20 25 99.0'] 9 20 25 99.0\n"
        assert (await kernel.run(SPARK_FINDS)).endswith("9 20 25 99.0\n")
        await kernel.run("session.scale('dask/cpu', 2)\nclient.wait_for_workers(2, timeout=100)")
        assert await kernel.run("print(list(client.run(find).values()))") == "['9 20 25 99.0', '9 20 25 99.0']\n"
        # What changes goes there by the same line.
        await kernel.run("Path('tables/pt.json').write_text('30')\nsession.upload('tables')")
        assert await kernel.run(DASK_FINDS) == "['9 30 25 99.0'] 9 30 25 99.0\n"
        assert (await kernel.run(SPARK_FINDS)).endswith("9 30 25 99.0\n")


async def test_packages_that_break_kernels_keep_no_server_from_starting(home: Tenant) -> None:
    packages = "~/.local/af/spark-py3.11"
    in_pod(
        home, "sh", "-c", f"echo 'raise SystemExit(\"broken\")' > {packages}/lib/python3.11/site-packages/traitlets.py"
    )
    in_pod(home, "sh", "-c", "rm first-session.ipynb; echo mine > examples/cuts.py")
    home.patch("lab", suspend=True)
    home.kubectl("wait", "--for=delete", "pod/lab-notebook-0", "--timeout=90s")
    home.patch("lab", suspend=False)
    home.wait_condition("lab", "NotebookReady")
    with lab(home, "lab") as server:
        async with server.terminal() as terminal:
            await terminal.type("python -c 'import traitlets'\r", r"broken\s")
            await terminal.type('rm -r "$AF_PACKAGES"; python -c "import traitlets; print(6 * 7)"\r', r"42\s")
            await terminal.type(f"pip install --no-index {WHEEL}\r", r"Successfully installed tinycuts-1.0")
        async with server.kernel() as kernel:
            assert (
                await kernel.run("import tinycuts, vector; print(tinycuts.pt(), vector.__version__ < '99')")
                == "25 True\n"
            )
    assert in_pod(home, "cat", "examples/cuts.py") == "mine\n"
    assert "first-session.ipynb" not in in_pod(home, "ls"), "what a user has deleted does not come back"


def in_pod(tenant: Tenant, *command: str) -> str:
    return tenant.kubectl("exec", "lab-notebook-0", "-c", "notebook", "--", *command)
