"""Dimuon spectrum of NanoAOD-like events, by baskets on however many Dask workers there are.

Environment
-----------
DATASET
    Directory of the input, a ``root://`` URL or a local path.
FILES
    Number of files ``nano-<i>.root`` to read; 4 if not set.
AF_RESULTS
    Directory for ``dimuons.json``, ``dimuons.png`` and ``performance.json``; ``./results`` if not set.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import awkward as ak
import hist
import numpy as np
import uproot
from dask.distributed import Client, as_completed
from matplotlib.figure import Figure

DATASET = os.environ.get("DATASET", "root://origin.af-storage.svc.cluster.local:1094//data/")
FILES = int(os.environ.get("FILES", "4"))
EVENTS_PER_TASK = 50_000
BRANCHES = ["nMuon", "Muon_pt", "Muon_eta", "Muon_phi", "Muon_mass", "Muon_charge"]
MIN_PT, MAX_ETA = 10, 2.4  # GeV, units of pseudorapidity

Range = tuple[str, int, int]  # URL, first entry, one past the last


def main() -> None:
    results = Path(os.environ.get("AF_RESULTS", "results"))
    results.mkdir(parents=True, exist_ok=True)
    urls = [f"{DATASET.rstrip('/')}/nano-{number}.root" for number in range(FILES)]
    with Client() as client:
        workers, start = len(client.nthreads()), time.monotonic()
        events, spectrum = fill(client, urls)
        seconds = time.monotonic() - start
    counts = spectrum.values()
    numbers = {
        "events": events,
        "pairs": int(spectrum.sum(flow=True)),
        "mass_peak": float(spectrum.axes[0].centers[np.argmax(counts)]),  # GeV, centre of the fullest bin
        "histogram": {"edges": spectrum.axes[0].edges.tolist(), "counts": counts.tolist()},
    }
    performance = {"workers": workers, "seconds": round(seconds, 3), "events_per_second": round(events / seconds)}
    (results / "dimuons.json").write_text(json.dumps(numbers, indent=2) + "\n")
    (results / "performance.json").write_text(json.dumps(performance, indent=2) + "\n")
    plot(spectrum, numbers, results / "dimuons.png")
    print(json.dumps({**{name: value for name, value in numbers.items() if name != "histogram"}, **performance}))


def fill(client: Client, urls: list[str]) -> tuple[int, hist.Hist]:
    """Return the number of events and the sum of all parts' histograms: integers, so their order does not matter."""
    ranges = [part for parts in client.gather(client.map(split, urls)) for part in parts]
    events, spectrum = 0, empty()
    for done, (_, (count, part)) in enumerate(as_completed(client.map(dimuon_masses, ranges), with_results=True), 1):
        events, spectrum = events + count, spectrum + part
        print(f"{done}/{len(ranges)} parts, {events} events", flush=True)
    return events, spectrum


def split(url: str) -> list[Range]:
    """Return the ranges of entries of a file. Runs on a worker."""
    with uproot.open(f"{url}:Events") as tree:
        total = int(tree.num_entries)
    return [(url, i, min(i + EVENTS_PER_TASK, total)) for i in range(0, total, EVENTS_PER_TASK)]


def dimuon_masses(part: Range) -> tuple[int, hist.Hist]:
    """Return the number of events, and the masses of each event's leading pair if it has opposite charges."""
    url, start, stop = part
    with uproot.open(f"{url}:Events") as tree:
        read = tree.arrays(BRANCHES, entry_start=start, entry_stop=stop)
    muons = ak.zip({name: read[f"Muon_{name}"] for name in ("pt", "eta", "phi", "mass", "charge")})
    muons = muons[(muons.pt > MIN_PT) & (abs(muons.eta) < MAX_ETA)]
    muons = muons[ak.num(muons) >= 2]
    first, second = muons[:, 0], muons[:, 1]  # by falling pt, as NanoAOD has them
    opposite = first.charge * second.charge < 0
    return len(read), empty().fill(mass=pair_mass(first[opposite], second[opposite]))


def pair_mass(one: ak.Array, other: ak.Array) -> Any:
    """Return the invariant mass [GeV] of pairs of muons."""
    energy, px, py, pz = (sum(parts) for parts in zip(four_vector(one), four_vector(other), strict=True))
    return ak.to_numpy(np.sqrt(np.maximum(energy * energy - px * px - py * py - pz * pz, 0)))


def four_vector(muon: ak.Array) -> tuple[Any, Any, Any, Any]:
    """Return E, px, py, pz [GeV] in double precision: in single, the difference of squares loses a per mille."""
    pt, eta, phi, mass = (ak.values_astype(muon[name], np.float64) for name in ("pt", "eta", "phi", "mass"))
    momentum = pt * np.cosh(eta)
    return np.sqrt(momentum * momentum + mass * mass), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)


def empty() -> hist.Hist:
    return hist.Hist.new.Reg(120, 0, 120, name="mass").Int64()


def plot(spectrum: hist.Hist, numbers: dict[str, Any], path: Path) -> None:
    """Draw the spectrum: counts with their Poisson errors."""
    figure = Figure(figsize=(7, 5.2), layout="constrained")
    axes = figure.subplots()
    counts, mass = spectrum.values(), spectrum.axes[0]
    axes.errorbar(mass.centers, counts, np.sqrt(counts), mass.widths / 2, "k.", elinewidth=1, markersize=3)
    axes.set(xlim=(0, 120), yscale="log", xlabel=r"$m_{\mu^+\mu^-}$ [GeV]", ylabel="Muon pairs / 1 GeV")
    axes.set_title("Generated events", loc="left")
    axes.set_title(f"{numbers['events']:,} events, {numbers['pairs']:,} pairs", loc="right")
    axes.tick_params(direction="in", which="both", top=True, right=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
