"""What came of it: how good the models are, whether all ways agree, how fast each is, and a picture."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from figure import draw
from pairs import Pairs, chosen, is_test
from sklearn.metrics import roc_auc_score

DIRECT = "model itself"
BEST = "mass"
SAME = 1e-5
MASSES = np.linspace(20, 220, 401)  # GeV

Array = np.ndarray[Any, Any]
Answers = Mapping[str, Mapping[str, tuple[Array, float]]]
"""Way -> name of a model -> how likely each pair is a Z, and the seconds that it took to say so."""


def write(results: Path, pairs: Pairs, answers: Answers, seconds: dict[str, float]) -> None:
    """Write ``classify.json`` and ``classify.png``, print a table, and stop where ways disagree."""
    tested = is_test(pairs)
    scores = {name: probability[tested] for name, (probability, _) in answers[DIRECT].items()}
    scores[BEST] = likelihood_ratio(pairs)[tested]
    numbers = {
        "pairs": len(pairs.event),
        "tested": int(tested.sum()),
        "share_of_z": round(float(pairs.is_z.mean()), 4),
        "auc": {name: round(float(roc_auc_score(pairs.is_z[tested], score)), 5) for name, score in scores.items()},
        "largest_difference": {way: differences(found, answers[DIRECT]) for way, found in answers.items()},
        "pairs_per_second": {
            way: {model: round(len(pairs.event) / spent) for model, (_, spent) in found.items()}
            for way, found in answers.items()
        },
        "seconds": seconds,
    }
    (results / "classify.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(results / "classify.png", chosen(pairs, tested), scores, numbers)
    print(table(numbers), flush=True)
    if wrong := [way for way, found in numbers["largest_difference"].items() if not max(found.values()) <= SAME]:
        sys.exit(f"Not the numbers of the models themselves: {', '.join(wrong)}")


def differences(
    found: Mapping[str, tuple[Array, float]], direct: Mapping[str, tuple[Array, float]]
) -> dict[str, float]:
    """Return by how much a way's answers are off, by model, at most."""
    return {model: float(np.max(np.abs(answer - direct[model][0]))) for model, (answer, _) in found.items()}


def likelihood_ratio(pairs: Pairs) -> Array:
    """Return how much more often a Z has a pair's mass than a photon, in the pairs that models have learned from."""
    learned = ~is_test(pairs)
    of_z, of_photons = (np.histogram(pairs.mass[learned & (pairs.is_z == truth)], MASSES)[0] for truth in (True, False))
    place = np.clip(np.digitize(pairs.mass, MASSES) - 1, 0, len(of_z) - 1)
    return (of_z / np.maximum(of_photons, 1))[place]


def table(numbers: Mapping[str, Any]) -> str:
    """Return the numbers in lines of a log."""
    auc = ", ".join(f"{name} {value:.4f}" for name, value in numbers["auc"].items())
    lines = [f"{numbers['tested']:,} of {numbers['pairs']:,} pairs tested. AUC: {auc}", ""]
    lines.append(f"{'':16}" + "".join(f"{model:>38}" for model in numbers["largest_difference"][DIRECT]))
    for way, rates in numbers["pairs_per_second"].items():
        off = numbers["largest_difference"][way]
        lines.append(f"{way:16}" + "".join(f"{rate:>16,} pairs/s, off by {off[m]:7.1e}" for m, rate in rates.items()))
    return "\n".join(lines)
