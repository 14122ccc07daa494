"""The dimuon analysis as a plain loop on one core, with uproot: the reference, and the unit of time."""

import sys
from collections.abc import Iterable

import awkward as ak
import dimuon
import numpy as np
import uproot

NEAR = 1e-9  # GeV: a hundred times what dialects differ by

FourVector = Iterable[ak.Array]  # E, px, py, pz, GeV


def zmumu(shift: float = 0) -> dimuon.Counts:
    with uproot.open(f"{dimuon.CMS}:events") as tree:
        events = tree.arrays()
    one, other = ([events[f"{x}{muon}"] for x in ("E", "px", "py", "pz")] for muon in (1, 2))
    mass = pair_mass(one, other)[events.Q1 * events.Q2 < 0]
    return {"zmumu": np.histogram(mass + shift, dimuon.edges("zmumu"))[0]}


def generated(shift: float = 0) -> dimuon.Counts:
    mass = np.concatenate([leading_pairs(url) for url in dimuon.GENERATED]) + shift
    return {name: np.histogram(mass, dimuon.edges(name))[0] for name in ("spectrum", "z_peak")}


def leading_pairs(url: str) -> ak.Array:
    """Return the mass of each event's two leading muons, where their charges differ."""
    with uproot.open(f"{url}:Events") as tree:
        events = tree.arrays(filter_name="Muon_*")
    muons = ak.zip({x: ak.values_astype(events[f"Muon_{x}"], float) for x in ("pt", "eta", "phi", "mass", "charge")})
    muons = muons[(muons.pt > dimuon.MIN_PT) & (abs(muons.eta) < dimuon.MAX_ETA)]
    muons = muons[ak.num(muons) >= 2]
    one, other = muons[:, 0], muons[:, 1]  # by falling pt, as NanoAOD has them
    return pair_mass(four_vector(one), four_vector(other))[one.charge * other.charge < 0]


def four_vector(muon: ak.Array) -> FourVector:
    momentum = muon.pt * np.cosh(muon.eta)
    energy = np.sqrt(momentum**2 + muon.mass**2)
    return energy, muon.pt * np.cos(muon.phi), muon.pt * np.sin(muon.phi), muon.pt * np.sinh(muon.eta)


def pair_mass(one: FourVector, other: FourVector) -> ak.Array:
    energy, px, py, pz = (a + b for a, b in zip(one, other, strict=True))
    return np.sqrt(energy**2 - px**2 - py**2 - pz**2)


def near_an_edge() -> bool:
    """Return whether a mass is so near to an edge of a bin that another library might count it elsewhere."""
    return any(
        not np.array_equal(below, above)
        for analysis in (zmumu, generated)
        for below, above in zip(analysis(-NEAR).values(), analysis(NEAR).values(), strict=True)
    )


if __name__ == "__main__":
    dimuon.measure("plain", zmumu, generated, lambda: 1, dimuon.versions("uproot", "awkward"))
    if near_an_edge():
        sys.exit("A mass is on an edge of a bin: that dialects agree would be chance.")
