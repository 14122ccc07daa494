"""How good predictions are: area under the ROC curve, precision, recall."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Scores:
    """`auc` of what ranks the data sets, the others of the decision which are popular."""

    auc: float
    precision: float
    recall: float

    def rounded(self) -> dict[str, float]:
        """Return the numbers as they are printed."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def scores(labels: Array, ranks: Array, decided: Array) -> Scores:
    """Return how well what is popular was known before.

    Parameters
    ----------
    labels
        1 for what is popular, else 0.
    ranks
        Some number that is greater for what is more likely to be popular.
    decided
        Whether each was said to be popular.
    """
    right = np.sum(decided & (labels == 1))
    return Scores(auc(labels, ranks), float(right / np.sum(decided)), float(right / np.sum(labels == 1)))


def auc(labels: Array, ranks: Array) -> float:
    """Return the probability that something popular is ranked above something that is not; equal ranks count half."""
    _, inverse, counts = np.unique(ranks, return_inverse=True, return_counts=True)
    places = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    popular, others = int(np.sum(labels == 1)), int(np.sum(labels == 0))
    return float((places[labels == 1].sum() - popular * (popular + 1) / 2) / (popular * others))


def curve(labels: Array, ranks: Array) -> tuple[Array, Array]:
    """Return the ROC curve: rates of false and of true positives."""
    order = np.argsort(-ranks, kind="stable")
    last_of_equals = np.append(np.diff(ranks[order]) != 0, True)
    true, false = (np.cumsum(labels[order] == value)[last_of_equals] for value in (1, 0))
    return np.append(0, false / false[-1]), np.append(0, true / true[-1])
