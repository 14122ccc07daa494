"""Trained models as plain numbers, which can be used without Spark: NumPy is enough.

Spark saves a model on its workers, each its own part, and they share no file system. What it tells of a logistic
regression and of gradient-boosted trees is all that they are; of a random forest it does not tell the leaves.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def portable(model: Any) -> dict[str, Any] | None:
    """Return a model as plain numbers, or None if Spark does not tell them: it keeps those of a forest's leaves."""
    if hasattr(model, "coefficients"):
        return {"kind": "logistic", "intercept": model.intercept, "coefficients": model.coefficients.tolist()}
    if "GBT" in type(model).__name__:
        trees = [_node(lines) for lines in _trees(model.toDebugString)]
        return {"kind": "boosted trees", "weights": list(model.treeWeights), "trees": trees}
    return None


def probability(model: Mapping[str, Any], features: Array) -> Array:
    """Return the probability of each row by a portable model."""
    if model["kind"] == "logistic":
        margin = features @ np.array(model["coefficients"]) + model["intercept"]
    else:
        margin = 2 * sum(w * _follow(tree, features) for w, tree in zip(model["weights"], model["trees"], strict=True))
    return 1 / (1 + np.exp(-margin))


def _trees(text: str) -> Iterator[Iterator[str]]:
    for tree in re.split(r"^ *Tree \d+ .*\n", text, flags=re.MULTILINE)[1:]:
        yield iter(tree.splitlines())


def _node(lines: Iterator[str]) -> Any:
    """Read `If (feature 3 <= 0.5)`, what follows, `Else …`, what follows; or `Predict: 0.25`."""
    line = next(lines).strip()
    if line.startswith("Predict: "):
        return float(line.removeprefix("Predict: "))
    found = re.fullmatch(r"If \(feature (\d+) <= (\S+)\)", line)
    if not found:
        raise ValueError(f"no tree of numbers has the line {line!r}")
    left = _node(lines)
    next(lines)
    return {"feature": int(found[1]), "at_most": float(found[2]), "left": left, "right": _node(lines)}


def _follow(tree: Any, features: Array) -> Array:
    if isinstance(tree, float):
        return np.full(len(features), tree)
    left = features[:, tree["feature"]] <= tree["at_most"]
    return np.where(left, _follow(tree["left"], features), _follow(tree["right"], features))
