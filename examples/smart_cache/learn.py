"""Learns from an access log which files are read again within a week, and writes the model that a session's cache asks.

    python learn.py accesses.csv popularity.onnx

The log has a line for each open, ``time,path``: seconds on any clock, and the path as the origin knows it. What a model
is asked with must be what it has learned from, so features are those of the program beside the cache: `af_decision`.
"""

import csv
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from af_decision.history import DAY, FEATURES, History

HORIZON = 7 * DAY
"""As in the popularity study: used again is what is read within the week."""
SEED = 1

Array = np.ndarray[Any, Any]


def features(opens: Iterable[tuple[float, str]]) -> Array:
    """Return what is known at each open, in the order of time: rows of `FEATURES`, of 32 bits, as a model is asked."""
    # Nothing is forgotten here; the program beside a cache remembers the last hundred thousand files.
    history = History(files=sys.maxsize, datasets=sys.maxsize)
    return np.array([history.opened(path, time) for time, path in opens], dtype=np.float32).reshape(-1, len(FEATURES))


def until_next(times: Array, files: Array) -> Array:
    """Return the seconds from each open to the next one of the same file; infinity where there is none."""
    order = np.lexsort((times, files))
    same = files[order][1:] == files[order][:-1]
    waits = np.full(len(times), np.inf)
    waits[order[:-1][same]] = np.diff(times[order])[same]
    return waits


def known(times: Array, end: float) -> Array:
    """Return of which opens it is known, at the end of a log, whether their files were used within the week."""
    return times + HORIZON <= end


def learn(rows: Array, used: Array) -> Any:
    """Return gradient-boosted trees that have learned from rows of features whether a file was used again."""
    from xgboost import XGBClassifier  # noqa: PLC0415 - the rest needs NumPy only

    model = XGBClassifier(n_estimators=150, max_depth=5, learning_rate=0.1, subsample=0.7, random_state=SEED, n_jobs=1)
    return model.fit(rows, used)


def as_onnx(model: Any) -> bytes:
    """Return the model as the inference service takes it: one input of rows of features, the probability last."""
    from onnxmltools import convert_xgboost  # noqa: PLC0415 - as above
    from onnxmltools.convert.common.data_types import FloatTensorType  # noqa: PLC0415

    shape = FloatTensorType([None, len(FEATURES)])
    return bytes(convert_xgboost(model, initial_types=[("features", shape)]).SerializeToString())


def main(log: Path, output: Path) -> None:
    """Learn, and say how often the file was used again."""
    with log.open(newline="") as file:
        opens = sorted((float(time), path) for time, path in csv.reader(file))
    times = np.array([time for time, _ in opens])
    _, files = np.unique([path for _, path in opens], return_inverse=True)
    chosen = known(times, times[-1])
    used = until_next(times, files)[chosen] <= HORIZON
    if not 0 < used.sum() < len(used):
        sys.exit(f"{log}: too short to learn from; it must be longer than a week, with files read once and again")
    output.write_bytes(as_onnx(learn(features(opens)[chosen], used)))
    print(f"{output}: {len(used):,} opens, {used.mean():.0%} of them of files read again within a week")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
