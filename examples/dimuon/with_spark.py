"""The dimuon analysis as a query on the session's Spark: its executors read with uproot, and Spark does the rest."""

import os
from collections.abc import Iterator, Mapping, Sequence

import awkward as ak
import dimuon
import pandas as pd
import pyarrow as pa
import uproot
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it

PAIR = {f"{x}{muon}": "double" for x in ("E", "px", "py", "pz") for muon in (1, 2)} | {"Q1": "int", "Q2": "int"}
MUONS = {f"Muon_{x}": "array<float>" for x in ("pt", "eta", "phi", "mass")} | {"Muon_charge": "array<int>"}
WIDENED = "array<struct<pt: double, eta: double, phi: double, mass: double, charge: int>>"


def zmumu(spark: SparkSession) -> dimuon.Counts:
    pairs = read(spark, [dimuon.CMS], "events", PAIR).where("Q1 * Q2 < 0")
    return histograms(pairs, [F.col(f"{x}1") + F.col(f"{x}2") for x in ("E", "px", "py", "pz")], "zmumu")


def generated(spark: SparkSession) -> dimuon.Counts:
    events = read(spark, dimuon.GENERATED, "Events", MUONS)
    muons = F.filter(F.arrays_zip(*MUONS).cast(WIDENED), is_good)
    leading = events.select(muons.alias("muons")).where("size(muons) >= 2").selectExpr("muons[0] one", "muons[1] other")
    pairs = leading.where("one.charge * other.charge < 0")
    both = zip(four_vector(F.col("one")), four_vector(F.col("other")), strict=True)
    return histograms(pairs, [one + other for one, other in both], "spectrum", "z_peak")


def is_good(muon: Column) -> Column:
    return (muon.pt > dimuon.MIN_PT) & (F.abs(muon.eta) < dimuon.MAX_ETA)


def read(spark: SparkSession, urls: Sequence[str], tree: str, columns: Mapping[str, str]) -> DataFrame:
    def events(tasks: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for task in (number for batch in tasks for number in batch["id"].to_pylist()):
            file, part = divmod(task, dimuon.TASKS_PER_FILE)
            with uproot.open(f"{urls[file]}:{tree}") as entries:
                start, stop = (entries.num_entries * cut // dimuon.TASKS_PER_FILE for cut in (part, part + 1))
                found = entries.arrays(list(columns), entry_start=start, entry_stop=stop)
            yield from ak.to_arrow_table(found, list_to32=True, extensionarray=False).to_batches()

    tasks = len(urls) * dimuon.TASKS_PER_FILE
    return spark.range(0, tasks, 1, tasks).mapInArrow(events, ", ".join(map(" ".join, columns.items())))


def four_vector(muon: Column) -> tuple[Column, ...]:
    momentum = muon.pt * F.cosh(muon.eta)
    energy = F.sqrt(momentum * momentum + muon.mass * muon.mass)
    return energy, muon.pt * F.cos(muon.phi), muon.pt * F.sin(muon.phi), muon.pt * F.sinh(muon.eta)


def histograms(pairs: DataFrame, total: Sequence[Column], *names: str) -> dimuon.Counts:
    energy, px, py, pz = total
    mass = F.sqrt(energy * energy - px * px - py * py - pz * pz)
    # One query for all: a row says how many pairs are in the same bin of each histogram.
    rows = pairs.groupBy(*(bin_of(mass, name) for name in names)).count().toPandas()
    counts = {name: rows.groupby(name)["count"].sum() for name in names}
    return {name: each.reindex(range(dimuon.BINS[name][0]), fill_value=0) for name, each in counts.items()}


def bin_of(mass: Column, name: str) -> Column:
    bins, low, high = dimuon.BINS[name]
    return F.floor((mass - low) * bins / (high - low)).alias(name)


def workers() -> int:
    """Return how many executors have computed, by the session's page of Spark."""
    pages = f"{os.environ['AF_SPARK_UI']}/api/v1/applications"
    shown = {"Authorization": f"Bearer {os.environ['AF_SPARK_TOKEN']}"}  # headers, to pandas
    (application,) = pd.read_json(pages, storage_options=shown)["id"]
    executors = pd.read_json(f"{pages}/{application}/executors", storage_options=shown)
    return int((executors["completedTasks"] > 0).sum())


if __name__ == "__main__":
    spark = SparkSession.builder.getOrCreate()
    versions = dimuon.versions("pyspark", "uproot")
    dimuon.measure("Spark", lambda: zmumu(spark), lambda: generated(spark), workers, versions)
