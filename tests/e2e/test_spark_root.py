"""ROOT's RDataFrame on a session's Spark, headless: the classic driver, as ROOT's tutorial writes it."""

from __future__ import annotations

import pytest

from tests.support import spark
from tests.support.tenant import HEADLESS, Body, Tenant

PROGRAM = """
import ROOT
from pyspark import SparkContext

URL = "root://origin.af-storage.svc:1094//data/uproot-Zmumu.root"
with SparkContext() as context:
    frame = ROOT.RDataFrame("events", [URL], executor=context)
    pairs = frame.Filter("Q1 * Q2 < 0 && M > 60 && M < 120")
    count, mean = pairs.Count(), pairs.Mean("M")
    print("counted", context.master, count.GetValue(), round(mean.GetValue(), 5))
"""
SESSION: Body = {
    **HEADLESS,
    "image": "root",
    "run": {"command": ["python", "main.py"], "source": {"files": {"main.py": PROGRAM}}, "size": "medium"},
    "spark": {"pools": [{"name": "cpu", "nodePool": "cpu", "size": "medium", "workers": {"min": 1, "max": 1}}]},
    "xcache": {"placement": "Session", "size": "1Gi"},
}
MASTER = "spark://rdf-spark.{}.svc:7077"


@pytest.mark.timeout(600)
def test_rdataframe_counts_on_spark_as_on_dask(tenant: Tenant) -> None:
    tenant.apply("rdf", SESSION)
    tenant.wait_condition("rdf", "RunComplete", reason="Succeeded", seconds=2 * spark.PATIENCE)
    log = tenant.kubectl("logs", "job/rdf-run")
    [found] = [line for line in log.splitlines() if line.startswith("counted")]
    assert found == f"counted {MASTER.format(tenant.namespace)} 2004 89.15881"
    assert "\r" not in log
