"""The dimuon analysis as coffea's processors, on the session's Dask."""

from typing import Any

import awkward as ak
import dimuon
import hist
from coffea.nanoevents import BaseSchema, NanoAODSchema
from coffea.nanoevents.methods import vector
from coffea.processor import DaskExecutor, ProcessorABC, Runner
from dask.distributed import Client

EVENTS_PER_TASK = 50_000
NanoAODSchema.warn_missing_crossrefs = False  # of jets and electrons, which these events have none of


class LeadingPair(ProcessorABC):
    """The mass of each event's two leading muons, where their charges differ."""

    def process(self, events: Any) -> dict[str, hist.Hist]:
        muons = ak.values_astype(events.Muon, float)
        muons = muons[(muons.pt > dimuon.MIN_PT) & (abs(muons.eta) < dimuon.MAX_ETA)]
        muons = muons[ak.num(muons) >= 2]
        one, other = muons[:, 0], muons[:, 1]
        mass = (one + other).mass[one.charge * other.charge < 0]
        return {name: histogram(name).fill(mass) for name in ("spectrum", "z_peak")}

    def postprocess(self, accumulator: Any) -> Any:
        return accumulator


class StoredPair(ProcessorABC):
    """The CMS file has one pair in each entry, as two four-vectors."""

    def process(self, events: Any) -> dict[str, hist.Hist]:
        one, other = (four_vector(events, muon) for muon in (1, 2))
        return {"zmumu": histogram("zmumu").fill((one + other).mass[events.Q1 * events.Q2 < 0])}

    def postprocess(self, accumulator: Any) -> Any:
        return accumulator


def four_vector(events: Any, muon: int) -> ak.Array:
    columns = {"x": f"px{muon}", "y": f"py{muon}", "z": f"pz{muon}", "t": f"E{muon}"}
    parts = {component: events[name] for component, name in columns.items()}
    return ak.zip(parts, with_name="LorentzVector", behavior=vector.behavior)


def histogram(name: str) -> hist.Hist:
    return hist.Hist.new.Reg(*dimuon.BINS[name]).Int64()


def run(client: Client, urls: list[str], tree: str, schema: Any, analysis: ProcessorABC) -> dimuon.Counts:
    executor = DaskExecutor(client=client, status=False)  # its progress bar is not for a log
    runner = Runner(executor, schema=schema, chunksize=EVENTS_PER_TASK, metadata_cache={})
    found = runner({"muons": urls}, analysis, treename=tree)
    return {name: each.values() for name, each in found.items()}


if __name__ == "__main__":
    with Client() as client:
        dimuon.measure(
            "coffea",
            lambda: run(client, [dimuon.CMS], "events", BaseSchema, StoredPair()),
            lambda: run(client, dimuon.GENERATED, "Events", NanoAODSchema, LeadingPair()),
            lambda: len(client.nthreads()),
            dimuon.versions("coffea", "dask"),
        )
