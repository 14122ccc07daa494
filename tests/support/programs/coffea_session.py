"""coffea and dask-awkward on a session's Dask, as their users write it; prints what came of it as JSON."""

from __future__ import annotations

import json
import os
from typing import Any

import awkward as ak
import dask
import hist.dask
import uproot
from coffea import processor
from coffea.nanoevents import NanoAODSchema
from dask.distributed import Client
from dimuon_mass import Dimuons, histogram, masses, square

FILES = {f"{os.environ['ORIGIN']}//data/nano-{number}.root": "Events" for number in range(2)}


def by_coffea(client: Client) -> Any:
    """Return what a processor of coffea's makes of the files."""
    run = processor.Runner(executor=processor.DaskExecutor(client=client), schema=NanoAODSchema, chunksize=50_000)
    return run({"nano": {"files": FILES}}, processor_instance=Dimuons())


def by_a_plain_loop() -> hist.Hist:
    """Return the same without any of it."""
    spectrum = histogram()
    names = ("pt", "eta", "phi", "charge")
    for file, tree in FILES.items():
        events = uproot.open({file: tree}).arrays([f"Muon_{name}" for name in names])
        spectrum.fill(masses(ak.zip({name: events[f"Muon_{name}"] for name in names})))
    return spectrum


def by_dask_awkward(*, optimized: bool) -> dict[str, Any]:
    """Return numbers of `uproot.dask`, and what was read for them."""
    events, report = uproot.dask(FILES, allow_read_errors_with_report=True)
    leading = ak.flatten(events.Muon_pt[:, :1])
    wanted = (ak.sum(events.nMuon), hist.dask.Hist.new.Reg(50, 0, 100).Double().fill(leading), report)
    muons, spectrum, read = dask.compute(*(dask.optimize(*wanted) if optimized else wanted))
    return {
        "muons": int(muons),
        "leading": spectrum.values().tolist(),
        "bytes": int(ak.sum(read.performance_counters.num_requested_bytes)),
    }


def first_run() -> int:
    """Return the number of the first event's run, of several partitions, by whatever computes."""
    return int(uproot.dask(FILES, steps_per_file=2)["run"].compute()[0])


def main() -> None:
    """Do all of it with one client, and one thing without."""
    without = first_run()
    with Client() as client:
        found = by_coffea(client)
        plain = by_a_plain_loop()
        result = {
            "events": found["events"],
            "coffea": found["mass"].values().tolist(),
            "plain": plain.values().tolist(),
            "first run": [without, first_run()],
            "as it is": by_dask_awkward(optimized=False),
            "optimized": by_dask_awkward(optimized=True),
            "squares": sum(client.gather(client.map(square, range(10)))),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
