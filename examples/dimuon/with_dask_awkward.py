"""The dimuon analysis with lazy arrays: uproot.dask, dask-awkward and hist.dask, on the session's Dask."""

import awkward as ak
import dask
import dask_awkward as dak
import dimuon
import hist.dask
import uproot
from dask.distributed import Client
from vector.backends.awkward import behavior


def zmumu() -> dimuon.Counts:
    events = read([dimuon.CMS], "events")
    one, other = (muon({x: events[f"{x}{i}"] for x in ("px", "py", "pz", "E")}) for i in (1, 2))
    return histograms((one + other).mass[events.Q1 * events.Q2 < 0], "zmumu")


def generated() -> dimuon.Counts:
    events = read(dimuon.GENERATED, "Events")
    muons = muon({x: ak.values_astype(events[f"Muon_{x}"], float) for x in ("pt", "eta", "phi", "mass", "charge")})
    muons = muons[(muons.pt > dimuon.MIN_PT) & (abs(muons.eta) < dimuon.MAX_ETA)]
    muons = muons[ak.num(muons) >= 2]
    one, other = muons[:, 0], muons[:, 1]
    return histograms((one + other).mass[one.charge * other.charge < 0], "spectrum", "z_peak")


def read(urls: list[str], tree: str) -> dak.Array:
    # Workers open the files: here only the first one is looked at, for its columns.
    return uproot.dask(dict.fromkeys(urls, tree), open_files=False, steps_per_file=dimuon.TASKS_PER_FILE)


def muon(columns: dict[str, dak.Array]) -> dak.Array:
    # The behavior goes along to the workers, which have nothing registered: by it muons add up, and a sum has a mass.
    return dak.zip(columns, with_name="Momentum4D", behavior=behavior)


def histograms(mass: dak.Array, *names: str) -> dimuon.Counts:
    lazy = {name: hist.dask.Hist.new.Reg(*dimuon.BINS[name]).Int64().fill(mass) for name in names}
    # Optimized here, before it is sent, so that only the columns that are needed are read.
    (found,) = dask.compute(*dask.optimize(lazy))
    return {name: each.values() for name, each in found.items()}


if __name__ == "__main__":
    with Client() as client:
        versions = dimuon.versions("dask-awkward", "dask-histogram", "dask")
        dimuon.measure("dask-awkward", zmumu, generated, lambda: len(client.nthreads()), versions)
