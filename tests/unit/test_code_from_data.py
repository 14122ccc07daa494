"""What has rights, or is asked by others, makes no program out of data, and loads none that somebody left."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PROGRAMS = ("af_operator", "af_kube", "af_names", "images/inference/af_inference", "images/xcache/af_decision")
LOADERS = {"pickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "shelve", "pkg_resources", "imp"}
"""Modules that run what they read."""
CALLS = {"eval", "exec", "compile", "__import__", "import_module", "entry_points", "unsafe_load", "full_load"}
OURS = {
    # Components are found by their folders, in the package itself.
    "af_operator/components/__init__.py": {"import_module"},
    # Of the libraries that are written there.
    "images/inference/af_inference/convert/formats.py": {"import_module"},
}
"""By file: what is loaded there is named in the file, or lies beside it."""
PLUGINS = re.compile("operator|kopf")


def source(package: str) -> list[Path]:
    return sorted((CHECKOUT / package).rglob("*.py"))


def used(tree: ast.AST) -> Iterator[str]:
    """Yield the modules that are imported and the functions that are called, by their last name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            # `re.compile` makes no program of Python's.
            of = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            yield "" if of == "re" else node.func.attr


@pytest.mark.parametrize("package", PROGRAMS)
def test_no_data_becomes_a_program(package: str) -> None:
    assert source(package)
    found = {}
    for path in source(package):
        name = str(path.relative_to(CHECKOUT))
        if wrong := set(used(ast.parse(path.read_text()))) & (LOADERS | CALLS) - OURS.get(name, set()):
            found[name] = wrong
    assert not found


@pytest.mark.parametrize("text", ["import pickle", "from joblib import load", "eval(x)", "importlib.import_module(x)"])
def test_it_would_be_found(text: str) -> None:
    assert set(used(ast.parse(text))) & (LOADERS | CALLS)


def test_no_package_of_the_operators_image_brings_a_plugin() -> None:
    """dask-kubernetes runs whatever calls itself one; kopf looks for none."""
    lock = (CHECKOUT / "requirements/operator.lock").read_text()
    installed = set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))
    found = {
        (one.name, point.group)
        for one in distributions()
        for point in one.entry_points
        if one.name.lower().replace("_", "-") in installed and PLUGINS.search(point.group)
    }
    assert found == {("dask-kubernetes", "dask_operator_plugin")}
