"""A module of a physicist's own, beside the program: what coffea's processor and a plain loop have in common."""

from __future__ import annotations

from typing import Any

import awkward as ak
import hist
import numpy as np
from coffea import processor


def square(x: int) -> int:
    """Do what can be checked by hand."""
    return x * x


def histogram() -> hist.Hist:
    """Return the spectrum, empty."""
    return hist.Hist.new.Reg(60, 60, 120, name="mass", label="GeV").Double()


def masses(muons: Any) -> Any:
    """Return the mass of the two hardest muons of each event, where their charges differ."""
    muons = muons[ak.num(muons) >= 2]
    # In double precision: sums of single ones fall into another bin where they are made in another order.
    pt, eta, phi = (ak.values_astype(muons[name], np.float64) for name in ("pt", "eta", "phi"))
    angles = np.cosh(eta[:, 0] - eta[:, 1]) - np.cos(phi[:, 0] - phi[:, 1])
    return np.asarray(np.sqrt(2 * pt[:, 0] * pt[:, 1] * angles)[muons.charge[:, 0] != muons.charge[:, 1]])


class Dimuons(processor.ProcessorABC):
    """The mass of the two hardest muons, of opposite charge, from NanoEvents."""

    def process(self, events: Any) -> Any:
        """Fill a histogram with a chunk of events."""
        return {"events": len(events), "mass": histogram().fill(masses(events.Muon))}

    def postprocess(self, accumulator: Any) -> Any:
        """Leave the sum as it is."""
        return accumulator
