"""Z → μμ in CMS open data, in one cell of a notebook."""

import matplotlib.pyplot as plt
import numpy as np
import uproot
from dask.distributed import Client

EVENTS = "root://origin.af-storage.svc.cluster.local:1094//data/uproot-Zmumu.root:events"

client = Client()  # no arguments: the session's own cluster


def masses(start: int, stop: int) -> np.ndarray:  # runs on a worker, which reads through the cache
    with uproot.open(EVENTS) as tree:
        names = [f"{part}{muon}" for part in ("E", "px", "py", "pz", "Q") for muon in (1, 2)]
        mu = tree.arrays(names, entry_start=start, entry_stop=stop, library="np")
    energy, px, py, pz = (mu[f"{part}1"] + mu[f"{part}2"] for part in ("E", "px", "py", "pz"))
    mass = np.sqrt(energy**2 - px**2 - py**2 - pz**2)
    return mass[mu["Q1"] * mu["Q2"] < 0]


parts = client.map(masses, range(0, 2304, 256), range(256, 2305, 256))
mass = np.concatenate(client.gather(parts))
plt.hist(mass, bins=60, range=(60, 120))
plt.xlabel(r"$m_{\mu\mu}$ [GeV]")
plt.ylabel("muon pairs / GeV")
plt.show()
print(f"{len(mass)} pairs, computed by {len(client.nthreads())} workers")
