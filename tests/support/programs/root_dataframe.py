"""RDataFrame on the session's Dask, in the words of ROOT's tutorial: reads, compiles, draws and writes.

It leaves what it found in ``root.json``, a plot, and the selected pairs at the results' URL.
"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import ROOT
import uproot
from dask.distributed import Client
from XRootD.client import FileSystem
from XRootD.client.flags import QueryCode

WINDOW = "Q1 * Q2 < 0 && M > 60 && M < 120"
CODE = "double half(double mass) { return mass / 2; }"
COUNTERS_SECONDS = 1.2
"""A cache adds up the traffic of its open connections once a second."""


def cache_bytes() -> int:
    """Return what the session's cache has sent."""
    time.sleep(COUNTERS_SECONDS)
    status, answer = FileSystem(os.environ["XROOT_PROXY"]).query(QueryCode.STATS, "l", timeout=20)
    assert status.ok, status.message
    return int(re.findall(rb"<out>(\d+)</out>", answer)[0])


def analyse(client: Client, url: str, results: Path) -> dict[str, Any]:
    """Return the numbers of the Z candidates; every event loop is on the workers."""
    frame = ROOT.RDataFrame("events", [url], executor=client)
    pairs = frame.Filter(WINDOW).Define("half", "half(M)")
    count, mean, half = pairs.Count(), pairs.Mean("M"), pairs.Mean("half")
    spectrum = pairs.Histo1D(("mass", ";m_{#mu#mu} [GeV];pairs", 60, 60, 120), "M")
    canvas = ROOT.TCanvas()
    spectrum.Draw()
    canvas.SaveAs(str(results / "mass.png"))
    stored = pairs.Snapshot("pairs", f"{os.environ['AF_RESULTS_URL']}/pairs.root", ["M", "half"])
    return {
        "count": count.GetValue(),
        "mean": mean.GetValue(),
        "half": half.GetValue(),
        "entries": spectrum.GetEntries(),
        "stored": stored.Count().GetValue(),
    }


def main() -> None:
    """Do it, and read back with uproot, in the process that has ROOT."""
    results, url = Path(os.environ["AF_RESULTS"]), os.environ["DATA"]
    ROOT.RDF.Distributed.DistributeCppCode(CODE)
    before = cache_bytes()
    with Client() as client:
        numbers = analyse(client, url, results)
        numbers["workers"] = len(client.nthreads())
    numbers["url"] = os.environ["AF_RESULTS_URL"]
    numbers["uproot"] = uproot.open(f"{url}:events").num_entries
    numbers["cache_bytes"] = cache_bytes() - before
    (results / "root.json").write_text(json.dumps(numbers))
    print(numbers)


if __name__ == "__main__":
    main()
