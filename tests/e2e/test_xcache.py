"""Reads through XCache, in both placements, by the run itself and by a worker: the same numbers, read once.

Each session has an origin of its own, so that nobody else's reads are in its counters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skhep_testdata
import uproot
import yaml

from local_cluster import facility as demo
from tests.support import catalogue
from tests.support.people import af
from tests.support.tenant import DASK, ENVIRONMENT, HEADLESS, Body, Tenant

PROGRAM = """
import json, os, subprocess, sys
import uproot
from dask.distributed import Client

ORIGIN = os.environ["ORIGIN"]
ASK = '''
from XRootD.client import File
import sys
with File() as interfaces:
    interfaces.open(sys.argv[1] + "//proc/net/dev", timeout=20)
    print(interfaces.read(0, 4096, timeout=20)[1].decode())
'''

def read():
    with uproot.open(f"{ORIGIN}//data/uproot-Zmumu.root:events") as tree:
        return [float(m) for m in tree["M"].array(library="np")]

def sent():
    "What has left the origin's network interface: asked past the cache."
    plain = {k: v for k, v in os.environ.items() if k not in ("XRD_PLUGINCONFDIR", "XROOT_PROXY")}
    argv = [sys.executable, "-c", ASK, ORIGIN]
    answer = subprocess.run(argv, env=plain, capture_output=True, text=True, check=True).stdout
    return int(answer.partition("eth0:")[2].split()[8])

with Client() as client:
    readers = {
        "own": read, "own again": read,
        "worker": lambda: client.submit(read, pure=False).result(),
        "worker again": lambda: client.submit(read, pure=False).result(),
    }
    before, masses, cost = sent(), {}, {}
    for name, reader in readers.items():
        masses[name] = reader()
        after = sent()
        cost[name], before = after - before, after
with open(os.environ["AF_RESULTS"] + "/reads.json", "w") as file:
    json.dump({"masses": masses, "cost": cost}, file)
print("origin's bytes", cost)
"""
ANSWER = 4096
"""What the origin's answers to questions take: the file is many times that, and is read in blocks of 512 KiB."""


@pytest.fixture
def origin(tenant: Tenant) -> Iterator[str]:
    """An origin in the tenant's namespace; yields the profile that reads from it."""
    address = demo.node_address(tenant.facility.kubectl)
    documents = demo.facility_documents(demo.image_references(), address)
    mine = [d for d in documents if d["metadata"].get("namespace") == demo.STORAGE_NAMESPACE]
    for document in mine:
        document["metadata"]["namespace"] = tenant.namespace
        if document["kind"] == "Service":
            document["spec"] |= {"type": "ClusterIP", "ports": [{"name": "xrootd", "port": 1094}]}
    tenant.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(mine))
    tenant.kubectl("rollout", "status", "deployment/origin", "--timeout=90s")
    cache = catalogue.default_spec()["xcache"] | {"origin": f"{host(tenant)}:1094"}
    with catalogue.profile(xcache=cache) as name:
        yield name


def host(tenant: Tenant) -> str:
    """Return the name of the tenant's origin."""
    return f"origin.{tenant.namespace}.svc.cluster.local"


@pytest.mark.parametrize("placement", ["Session", "Sidecar"])
def test_reads(tenant: Tenant, origin: str, placement: str, tmp_path: Path) -> None:
    spec: Body = {
        **HEADLESS,
        "profile": origin,
        "run": {"command": ["python", "main.py"], "source": {"files": {"main.py": PROGRAM}}},
        "dask": DASK,
        "xcache": {"placement": placement, "size": "1Gi"},
        "env": [{"name": "ORIGIN", "value": f"root://{host(tenant)}:1094"}],
    }
    tenant.apply("reads", spec)
    tenant.wait_condition("reads", "RunComplete", reason="Succeeded", seconds=180)
    found = results(tenant, tmp_path)
    cost: dict[str, int] = found["cost"]
    print(placement, "origin's bytes:", cost)
    with uproot.open({skhep_testdata.data_path("uproot-Zmumu.root"): "events"}) as tree:
        expected = tree["M"].array(library="np")
    for who, masses in found["masses"].items():
        assert np.array_equal(masses, expected), who
    size = Path(skhep_testdata.data_path("uproot-Zmumu.root")).stat().st_size
    assert size <= cost["own"] < 2 * size + ANSWER, "the first read comes from the origin, whole and once"
    assert cost["own again"] < ANSWER, "the second does not reach it"
    if placement == "Session":
        assert cost["worker"] < ANSWER, "nor does the first of another pod"
    else:
        assert size <= cost["worker"] < 2 * size + ANSWER, "another pod has a cache of its own"
    assert cost["worker again"] < ANSWER


def results(tenant: Tenant, folder: Path) -> dict[str, Any]:
    """Return what the run left, fetched as its user would."""
    done = af("results", "reads", "-n", tenant.namespace, "-o", str(folder), environment=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((folder / "reads.json").read_text())
    return found
