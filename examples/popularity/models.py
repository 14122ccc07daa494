"""Trained models as plain numbers, which can be used without Spark: NumPy is enough.

Spark saves a model on its workers, each its own part, and a session's workers share no file system.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Model = dict[str, Any]
Node = Any
"""A leaf's number, or what is asked of which feature, and where either answer leads."""


def of_regression(model: Any) -> Model:
    """Return a logistic regression as numbers."""
    return {"kind": "logistic", "intercept": model.intercept, "coefficients": model.coefficients.tolist()}


def of_boosted(model: Any) -> Model:
    """Return gradient-boosted trees as numbers."""
    return {"kind": "boosted trees", "weights": list(model.treeWeights), "trees": _trees(model.toDebugString)}


def of_forest(model: Any, leaves: Sequence[Sequence[float]]) -> Model:
    """Return a random forest as numbers; Spark does not print the probabilities of its leaves."""
    return {"kind": "random forest", "trees": _trees(model.toDebugString, leaves)}


def probability(model: Model, features: Array) -> Array:
    """Return the probability of each row."""
    if model["kind"] == "logistic":
        return _logistic(features @ np.array(model["coefficients"]) + model["intercept"])
    found = np.array([_follow(tree, features) for tree in model["trees"]])
    return _logistic(2 * (np.array(model["weights"]) @ found)) if "weights" in model else found.mean(axis=0)


def _logistic(margin: Array) -> Array:
    return 1 / (1 + np.exp(-margin))


def _trees(text: str, leaves: Sequence[Sequence[float]] | None = None) -> list[Node]:
    trees = re.split(r"^ *Tree \d+ .*\n", text, flags=re.MULTILINE)[1:]
    values = [[]] * len(trees) if leaves is None else leaves
    return [_node(iter(tree.splitlines()), iter(those)) for tree, those in zip(trees, values, strict=True)]


def _node(lines: Iterator[str], leaves: Iterator[float]) -> Node:
    """Read `If (feature 3 <= 0.5)`, what follows, `Else …`, what follows; or `Predict: 0.25`, a leaf."""
    line = next(lines).strip()
    if line.startswith("Predict: "):
        return next(leaves, float(line.removeprefix("Predict: ")))
    found = re.fullmatch(r"If \(feature (\d+) <= (\S+)\)", line)
    if not found:
        raise ValueError(f"no tree of numbers has the line {line!r}")
    left = _node(lines, leaves)
    next(lines)
    return {"feature": int(found[1]), "at_most": float(found[2]), "left": left, "right": _node(lines, leaves)}


def _follow(tree: Node, features: Array) -> Array:
    if isinstance(tree, float):
        return np.full(len(features), tree)
    left = features[:, tree["feature"]] <= tree["at_most"]
    return np.where(left, _follow(tree["left"], features), _follow(tree["right"], features))
