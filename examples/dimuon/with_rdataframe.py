"""The dimuon analysis as ROOT's RDataFrame, distributed on the session's Dask."""

from typing import Any

import dimuon
import ROOT
from dask.distributed import Client

COMPONENTS = ("pt", "eta", "phi", "mass")


def zmumu(client: Client) -> dimuon.Counts:
    events = ROOT.RDataFrame("events", dimuon.CMS, executor=client, npartitions=dimuon.TASKS_PER_FILE)
    square = {x: f"({x}1 + {x}2) * ({x}1 + {x}2)" for x in ("E", "px", "py", "pz")}
    pairs = events.Filter("Q1 * Q2 < 0").Define("m", "sqrt({E} - {px} - {py} - {pz})".format(**square))
    return histograms(pairs, "zmumu")


def generated(client: Client) -> dimuon.Counts:
    tasks = dimuon.TASKS_PER_FILE * len(dimuon.GENERATED)
    events = ROOT.RDataFrame("Events", dimuon.GENERATED, executor=client, npartitions=tasks)
    # InvariantMass computes in the type of its arguments.
    doubles = ", ".join(f"ROOT::RVecD(Take(Muon_{component}, leading))" for component in COMPONENTS)
    pairs = (
        events.Define("good", f"Muon_pt > {dimuon.MIN_PT} && abs(Muon_eta) < {dimuon.MAX_ETA}")
        .Filter("Sum(good) >= 2")
        .Define("leading", "Take(Nonzero(good), 2)")
        .Filter("Sum(Take(Muon_charge, leading)) == 0")
        .Define("m", f"InvariantMass({doubles})")
    )
    return histograms(pairs, "spectrum", "z_peak")


def histograms(pairs: Any, *names: str) -> dimuon.Counts:
    booked = {name: pairs.Histo1D((name, "", *dimuon.BINS[name]), "m") for name in names}  # all of them in one loop
    return {name: [each.GetBinContent(i + 1) for i in range(each.GetNbinsX())] for name, each in booked.items()}


if __name__ == "__main__":
    with Client() as client:
        dimuon.measure(
            "RDataFrame",
            lambda: zmumu(client),
            lambda: generated(client),
            lambda: len(client.nthreads()),
            f"ROOT {ROOT.__version__}, {dimuon.versions('dask')}",
        )
