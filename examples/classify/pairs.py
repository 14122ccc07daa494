"""Pairs of muons: which are taken, how a model sees them, and what they truly are."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import uproot

MIN_PT = 10  # GeV
FEATURES = ("log_pt_1", "log_pt_2", "eta_1", "eta_2", "delta_phi")
BRANCHES = ["event", "Muon_pt", "Muon_eta", "Muon_phi", "Muon_charge", "GenPart_pdgId"]
Z = 23  # in the numbering scheme of the Particle Data Group
SHARES = 4  # of each file: what a worker reads at a time

Array = np.ndarray[Any, Any]


class Pairs(NamedTuple):
    """The two leading muons of events, where their charges differ."""

    event: Array  # (n,) its number
    features: Array  # (n, 5) in single precision, as models take them
    mass: Array  # (n,) GeV; no model sees it
    is_z: Array  # (n,) whether a Z has decayed, and not a virtual photon


def read(urls: Sequence[str], number: int) -> Pairs:
    """Return the pairs of one share of the files, of which each has `SHARES`."""
    file, share = divmod(number, SHARES)
    with uproot.open(f"{urls[file]}:Events") as tree:
        start, stop = (tree.num_entries * cut // SHARES for cut in (share, share + 1))
        return of_events(tree.arrays(BRANCHES, entry_start=start, entry_stop=stop))


def of_events(events: ak.Array) -> Pairs:
    """Return the pairs of events with the branches of `BRANCHES`."""
    muons = ak.zip({x: events[f"Muon_{x}"] for x in ("pt", "eta", "phi", "charge")})
    muons = muons[muons.pt > MIN_PT]
    two = ak.num(muons) >= 2
    muons, events = muons[two], events[two]
    opposite = muons.charge[:, 0] * muons.charge[:, 1] < 0
    muons, events = muons[opposite], events[opposite]
    one, other = muons[:, 0], muons[:, 1]  # by falling pt, as NanoAOD has them
    delta_phi = abs((one.phi - other.phi + np.pi) % (2 * np.pi) - np.pi)
    features = (np.log(one.pt), np.log(other.pt), one.eta, other.eta, delta_phi)
    mass = np.sqrt(2 * one.pt * other.pt * (np.cosh(one.eta - other.eta) - np.cos(delta_phi)))
    return Pairs(
        ak.to_numpy(events.event).astype(np.int64),
        np.stack([ak.to_numpy(feature) for feature in features], axis=1).astype(np.float32),
        ak.to_numpy(mass),
        ak.to_numpy(events.GenPart_pdgId[:, 0] == Z),
    )


def joined(parts: Sequence[Pairs]) -> Pairs:
    """Return all pairs of some, by the numbers of their events."""
    together = Pairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    return chosen(together, np.argsort(together.event))


def for_training(parts: Sequence[Pairs]) -> Pairs:
    """Return the pairs of events with even numbers: models are tested on the others."""
    together = joined(parts)
    return chosen(together, ~is_test(together))


def is_test(pairs: Pairs) -> Array:
    """Return which pairs no model has learned from: (n,)."""
    return pairs.event % 2 == 1


def chosen(pairs: Pairs, which: Array) -> Pairs:
    """Return some of the pairs, by a mask or by places."""
    return Pairs(*(column[which] for column in pairs))
