"""A hyper-parameter scan: features on the CPU pool, training on the GPU pool of the same Dask cluster.

A small neural network learns to tell muon pairs of opposite charge near the Z from the others, by their kinematics.
Every trial is a task that asks for a GPU (`resources={"GPU": 1}`), so it runs where there is one; the preparation asks
for none, and a restriction keeps it off the workers that have. A trial uses the device with CuPy if there is one, and
NumPy if not, and says which.

Environment
-----------
DATASET
    Directory of the input, a ``root://`` URL or a local path.
TRIALS
    Number of points of the scan; 12 if not set.
AF_RESULTS
    Directory for ``hyperscan.json`` and ``hyperscan.png``; ``./results`` if not set.
"""

import importlib
import json
import os
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import uproot
from dask.distributed import Client, get_task_stream, get_worker
from matplotlib.figure import Figure

DATASET = os.environ.get("DATASET", "root://origin.af-storage.svc.cluster.local:1094//data/")
TRIALS = int(os.environ.get("TRIALS", "12"))
FILE = "uproot-Zmumu.root"
COLUMNS = ["pt1", "eta1", "phi1", "pt2", "eta2", "phi2"]
PARTS = 4
STEPS = 300
GRID = list(product((4, 8, 16, 32), (0.3, 0.1, 0.03)))  # hidden units, learning rate

Trial = dict[str, Any]


def main() -> None:
    results = Path(os.environ.get("AF_RESULTS", "results"))
    results.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    with Client() as client, get_task_stream(client) as stream:
        parts = client.map(features, range(PARTS), workers=without_gpu(client), pure=False)
        points = [GRID[index % len(GRID)] for index in range(TRIALS)]
        trials = [client.submit(train, parts, *point, resources={"GPU": 1}, pure=False) for point in points]
        print(f"{len(trials)} trials wait for GPUs", flush=True)
        found = client.gather(trials)
    where = placement(stream.data, {f.key for f in parts}, {f.key for f in trials})
    report(found, where, results, time.monotonic() - begin)


def without_gpu(client: Client) -> list[str]:
    """Return the workers that have no GPU; the preparation would only keep one from the trials."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return [address for address, worker in workers.items() if not worker["resources"].get("GPU")]


def features(part: int) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs of shape (pairs, 6), scaled, and labels of shape (pairs,). Runs on a CPU worker."""
    with uproot.open(f"{DATASET.rstrip('/')}/{FILE}:events") as tree:
        first, last = (tree.num_entries * index // PARTS for index in (part, part + 1))
        pairs = tree.arrays([*COLUMNS, "Q1", "Q2", "M"], entry_start=first, entry_stop=last, library="np")
    inputs = np.column_stack([pairs[name] for name in COLUMNS])
    inputs[:, [0, 3]] = np.log(np.clip(inputs[:, [0, 3]], 1, None)) - 3.5  # GeV; most are near 30
    return inputs, ((pairs["Q1"] * pairs["Q2"] < 0) & (abs(pairs["M"] - 91.2) < 10)).astype(float)


def train(parts: list[tuple[np.ndarray, np.ndarray]], hidden: int, rate: float) -> Trial:
    """Train on three quarters of the pairs, test on the rest. Runs on a GPU worker."""
    xp, device = arrays()
    inputs, labels = (xp.asarray(np.concatenate(each)) for each in zip(*parts, strict=True))
    cut = len(labels) * 3 // 4
    random = np.random.default_rng(hidden)
    weights = [xp.asarray(random.normal(0, 0.3, shape)) for shape in ((inputs.shape[1] + 1, hidden), (hidden + 1,))]
    start = time.monotonic()
    for _ in range(STEPS):
        learn(xp, weights, inputs[:cut], labels[:cut], rate)
    _, probability = forward(xp, weights, inputs[cut:])
    accuracy = float(((probability > 0.5) == (labels[cut:] > 0.5)).mean())
    seconds = round(time.monotonic() - start, 3)
    return {
        "hidden": hidden,
        "rate": rate,
        "accuracy": accuracy,
        "seconds": seconds,
        "device": device,
        "worker": get_worker().name,
        "address": get_worker().address,
    }


def arrays() -> tuple[Any, str]:
    """Return CuPy and the device's name if there is one, else NumPy."""
    try:
        cupy = importlib.import_module("cupy")
        return cupy, str(cupy.cuda.runtime.getDeviceProperties(0)["name"].decode())
    except (ImportError, RuntimeError) as error:
        return np, f"none ({type(error).__name__}): NumPy"


def forward(xp: Any, weights: list[Any], inputs: Any) -> tuple[Any, Any]:
    """Return the hidden layer and the probabilities."""
    layer = xp.tanh(with_one(xp, inputs) @ weights[0])
    return layer, 1 / (1 + xp.exp(-(with_one(xp, layer) @ weights[1])))


def learn(xp: Any, weights: list[Any], inputs: Any, labels: Any, rate: float) -> None:
    """Take one step down the gradient of the cross entropy."""
    layer, probability = forward(xp, weights, inputs)
    error = (probability - labels) / len(labels)
    back = xp.outer(error, weights[1][:-1]) * (1 - layer**2)
    weights[1] -= rate * (with_one(xp, layer).T @ error)
    weights[0] -= rate * (with_one(xp, inputs).T @ back)


def with_one(xp: Any, values: Any) -> Any:
    """Return the values with a column of ones, for the bias."""
    return xp.concatenate([values, xp.ones((len(values), 1))], axis=1)


def placement(record: list[dict[str, Any]], prepared: set[str], trained: set[str]) -> dict[str, list[str]]:
    """Return the workers that computed them, by the scheduler's record and not by what the tasks say."""
    return {
        name: sorted({str(task["worker"]) for task in record if task["key"] in keys})
        for name, keys in (("features", prepared), ("trials", trained))
    }


def report(trials: list[Trial], where: dict[str, list[str]], results: Path, seconds: float) -> None:
    """Print and write what was found."""
    best = max(trials, key=lambda trial: trial["accuracy"])
    summary = {"best": best, "trials": trials, "placement": where, "seconds": round(seconds, 1)}
    (results / "hyperscan.json").write_text(json.dumps(summary, indent=2) + "\n")
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for rate in sorted({trial["rate"] for trial in trials}):
        some = sorted((t["hidden"], t["accuracy"]) for t in trials if t["rate"] == rate)
        axes.plot(*zip(*some, strict=True), "o-", label=f"rate {rate:g}")
    axes.set(xlabel="Hidden units", ylabel="Accuracy on pairs not trained on", xscale="log")
    axes.set_xticks([4, 8, 16, 32], labels=["4", "8", "16", "32"])
    axes.minorticks_off()
    axes.legend(frameon=False)
    figure.savefig(results / "hyperscan.png", dpi=150)
    print(json.dumps({"best": best, "placement": where, "seconds": summary["seconds"]}))
    if not best["accuracy"] > 0.5:
        sys.exit("No trial is better than chance: something is wrong with the input.")


if __name__ == "__main__":
    main()
