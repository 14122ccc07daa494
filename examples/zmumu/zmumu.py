"""Z → μμ in CMS open data: the invariant mass of muon pairs, computed on however many Dask workers there are.

Environment
-----------
DATASET
    Directory of the input, a ``root://`` URL or a local path.
AF_RESULTS
    Directory for what this leaves: ``zmumu.json``, ``zmumu.png``, ``masses.npy`` (the same wherever it ran)
    and ``performance.json``. ``./results`` if not set.
"""

import json
import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import awkward as ak
import hist
import numpy as np
import uproot
from dask.distributed import Client
from matplotlib.figure import Figure

DATASET = os.environ.get("DATASET", "root://origin.af-storage.svc.cluster.local:1094//data/")
FILES = ["uproot-Zmumu.root"]
FOUR_VECTORS = [f"{component}{muon}" for muon in (1, 2) for component in ("E", "px", "py", "pz")]
MASS_WINDOW = (60, 120)  # GeV
MASS_TOLERANCE = 1e-6  # GeV, against the mass that the file itself stores
Z_MASS = 91.1880  # GeV, PDG 2024
COUNTERS_SECONDS = 1.2  # a cache adds up the traffic of its open connections once a second

Range = tuple[str, int, int]  # URL, first entry, one past the last


def main() -> None:
    results = Path(os.environ.get("AF_RESULTS", "results"))
    results.mkdir(parents=True, exist_ok=True)
    urls = [f"{DATASET.rstrip('/')}/{name}" for name in FILES]
    with Client() as client:  # the session's cluster; on a machine of your own, a local one
        print(f"{len(client.nthreads())} workers, scheduler {client.scheduler.address}", flush=True)
        served, start = cache_bytes(client), time.monotonic()
        pairs = read(client, urls, step=256)
        first = time.monotonic()
        # The second pass finds every byte in the cache. It cuts the files differently, and must give the same.
        if not ak.array_equal(pairs, read(client, urls, step=601)):
            sys.exit("The two passes differ: the result depends on how the work is split.")
        performance = {
            "workers": len(client.nthreads()),
            "first_pass_seconds": round(first - start, 3),
            "second_pass_seconds": round(time.monotonic() - first, 3),
        }
        time.sleep(COUNTERS_SECONDS)
        performance["cache_bytes"] = cache_bytes(client) - served
    (results / "performance.json").write_text(json.dumps(performance, indent=2) + "\n")
    print(json.dumps(performance))
    analyse(pairs, results)


def read(client: Client, urls: list[str], step: int) -> ak.Array:
    """Return every muon pair of the files, in the files' order, whatever `step` and whoever computed what."""
    entries = client.gather(client.map(count, urls, pure=False))
    ranges = [(u, i, min(i + step, n)) for u, n in zip(urls, entries, strict=True) for i in range(0, n, step)]
    # Not pure: what is read twice shall be read twice, not remembered by the scheduler.
    return ak.concatenate(client.gather(client.map(muon_pairs, ranges, pure=False)))


def count(url: str) -> int:
    """Return the number of entries of a file. Runs on a worker."""
    with uproot.open(f"{url}:events") as tree:
        return int(tree.num_entries)


def muon_pairs(part: Range) -> ak.Array:
    """Return mass [GeV], the file's own mass, and whether the charges differ. Runs on a worker."""
    url, start, stop = part
    with uproot.open(f"{url}:events") as tree:
        mu = tree.arrays([*FOUR_VECTORS, "Q1", "Q2", "M"], entry_start=start, entry_stop=stop)
    energy, px, py, pz = (mu[f"{component}1"] + mu[f"{component}2"] for component in ("E", "px", "py", "pz"))
    mass = np.sqrt(energy * energy - px * px - py * py - pz * pz)
    return ak.zip({"mass": mass, "stored_mass": mu.M, "opposite_sign": mu.Q1 * mu.Q2 < 0})


def analyse(pairs: ak.Array, results: Path) -> None:
    """Check the masses, select, fill, write."""
    difference = float(ak.max(abs(pairs.mass - pairs.stored_mass)))
    if not difference < MASS_TOLERANCE:  # so written that NaN fails
        sys.exit(f"Masses differ from the file's by up to {difference} GeV, allowed are {MASS_TOLERANCE}.")
    low, high = MASS_WINDOW
    opposite = pairs[pairs.opposite_sign]
    selected = opposite[(opposite.mass > low) & (opposite.mass < high)].mass
    spectrum = hist.Hist.new.Reg(high - low, low, high, name="mass").Int64().fill(mass=selected)
    numbers: dict[str, Any] = {
        "events": len(pairs),
        "opposite_sign": len(opposite),
        "selected": len(selected),
        "mass_mean": float(np.mean(ak.to_numpy(selected))),
        "mass_peak": float(spectrum.axes[0].centers[np.argmax(spectrum.values())]),  # centre of the fullest bin
        "largest_mass_difference": difference,
        "histogram": {"edges": spectrum.axes[0].edges.tolist(), "counts": spectrum.values().tolist()},
    }
    np.save(results / "masses.npy", ak.to_numpy(pairs.mass))
    (results / "zmumu.json").write_text(json.dumps(numbers, indent=2) + "\n")
    plot(spectrum, numbers, results / "zmumu.png")
    print(json.dumps({name: value for name, value in numbers.items() if name != "histogram"}))


def plot(spectrum: hist.Hist, numbers: dict[str, Any], path: Path) -> None:
    """Draw the spectrum: counts with their Poisson errors."""
    figure = Figure(figsize=(7, 5.2), layout="constrained")
    axes = figure.subplots()
    counts, mass = spectrum.values(), spectrum.axes[0]
    data = axes.errorbar(mass.centers, counts, np.sqrt(counts), mass.widths / 2, "k.", elinewidth=1, label="Data")
    axes.stairs(counts, mass.edges, fill=True, color="#5790fc", alpha=0.35)
    line = axes.axvline(Z_MASS, color="#e42536", linestyle="--", linewidth=1, label=rf"$m_Z$ = {Z_MASS:.3f} GeV")
    axes.set(xlim=MASS_WINDOW, ylim=(0, None), xlabel=r"$m_{\mu^+\mu^-}$ [GeV]", ylabel="Muon pairs / 1 GeV")
    axes.set_title(r"$\bf{CMS}$ $\it{Open\ Data}$", loc="left")
    axes.set_title(r"$\sqrt{s}$ = 7 TeV", loc="right")
    axes.legend(
        handles=[data, line],
        title=f"{numbers['selected']} opposite-sign pairs\nmean {numbers['mass_mean']:.2f} GeV",
        frameon=False,
        alignment="left",
    )
    axes.tick_params(direction="in", which="both", top=True, right=True)
    axes.minorticks_on()
    figure.savefig(path, dpi=150)


def cache_bytes(client: Client) -> int:
    """Return how many bytes the caches have sent to the workers so far."""
    # A cache beside each worker counts once for each; one at a common address counts once.
    return sum({key: sent for key, sent in client.run(cache_of_this_worker).values() if key}.values())


def cache_of_this_worker() -> tuple[str, int]:
    """Return which cache this worker reads through, and the bytes it has sent; nothing where there is none."""
    if not (proxy := os.environ.get("XROOT_PROXY")):
        return "", 0
    from XRootD.client import FileSystem  # noqa: PLC0415 - only where there is a cache
    from XRootD.client.flags import QueryCode  # noqa: PLC0415

    status, answer = FileSystem(proxy).query(QueryCode.STATS, "l", timeout=10)
    if not status.ok:
        raise RuntimeError(f"The cache at {proxy} does not answer: {status.message}")
    sent = re.search(rb"<stats id=\"link\">.*?<out>(\d+)</out>", answer)
    if sent is None:
        raise RuntimeError(f"The cache at {proxy} answers without its counters: {answer!r}")
    local = urlsplit(proxy).hostname in ("localhost", "127.0.0.1", "::1")
    return (socket.gethostname() if local else proxy), int(sent[1])


if __name__ == "__main__":
    main()
