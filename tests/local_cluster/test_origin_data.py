"""The generated events of the demo's origin: the same in every build, and like what they stand for."""

import runpy
from types import SimpleNamespace

import awkward as ak
import numpy as np
import pytest

from local_cluster.settings import CHECKOUT


@pytest.fixture(scope="module")
def generate() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(CHECKOUT / "images/origin/generate.py")))


@pytest.fixture(scope="module")
def basket(generate: SimpleNamespace) -> dict[str, ak.Array]:
    return generate.events(np.random.default_rng(0), first=1)


def test_one_seed_gives_one_set_of_events(generate: SimpleNamespace, basket: dict[str, ak.Array]) -> None:
    again = generate.events(np.random.default_rng(0), first=1)
    other = generate.events(np.random.default_rng(1), first=1)
    assert all(ak.array_equal(basket[name], again[name]) for name in basket)
    assert not ak.array_equal(basket["Muon"], other["Muon"])


def test_events_are_numbered_through(generate: SimpleNamespace, basket: dict[str, ak.Array]) -> None:
    assert ak.to_list(basket["event"][[0, -1]]) == [1, generate.EVENTS_PER_BASKET]
    assert ak.to_list(basket["luminosityBlock"][[0, 999, 1000]]) == [1, 1, 2]


def test_muons_come_by_falling_pt_within_the_acceptance(basket: dict[str, ak.Array]) -> None:
    muons = basket["Muon"]
    assert ak.all(muons.pt[:, :-1] >= muons.pt[:, 1:])
    assert ak.all(muons.pt > 3)
    assert ak.all(abs(muons.eta) < 2.4)
    assert ak.all(abs(muons.charge) == 1)
    assert ak.min(ak.num(muons)) == 0
    assert ak.max(ak.num(muons)) > 2


def test_an_event_says_what_has_decayed(generate: SimpleNamespace, basket: dict[str, ak.Array]) -> None:
    """One particle in each: a Z, which peaks, or a virtual photon, which falls from 40 GeV on."""
    parents = basket["GenPart"].pdgId
    assert ak.all(ak.num(parents) == 1)
    is_z = parents[:, 0] == 23
    assert set(parents[:, 0].tolist()) == {22, 23}
    assert ak.mean(is_z) == pytest.approx(generate.Z_FRACTION, abs=0.01)
    assert ak.mean(abs(masses(basket["Muon"][is_z]) - 91) < 10) > 0.9
    assert ak.mean(abs(masses(basket["Muon"][~is_z]) - 91) < 10) < 0.15


def test_pairs_of_opposite_sign_peak_at_the_z(basket: dict[str, ak.Array]) -> None:
    counts, edges = np.histogram(ak.to_numpy(masses(basket["Muon"])), bins=60, range=(60, 120))
    assert edges[counts.argmax()] in {90, 91}
    assert counts.max() > 10 * counts[0]


def masses(muons: ak.Array) -> ak.Array:
    """The invariant masses of events with two muons, of opposite charge."""
    pairs = muons[(ak.num(muons) == 2) & (ak.sum(muons.charge, axis=1) == 0)]
    one, two = pairs[:, 0], pairs[:, 1]
    return np.sqrt(2 * one.pt * two.pt * (np.cosh(one.eta - two.eta) - np.cos(one.phi - two.phi)))
