"""Write the files that the demo's origin serves: real CMS events, and a seeded NanoAOD-like set for load."""

import shutil
import sys
from importlib.resources import files
from pathlib import Path

import awkward as ak
import numpy as np
import uproot

REAL_FILES = ("uproot-Zmumu.root", "uproot-HZZ.root")
GENERATED_FILES = 4
EVENTS_PER_FILE = 200_000
EVENTS_PER_BASKET = 50_000
EVENTS_PER_LUMINOSITY_BLOCK = 1_000
Z_MASS, Z_WIDTH, MUON_MASS = 91.1876, 2.4952, 0.1056584  # GeV
Z_RANGE = (60.0, 120.0)  # GeV; the Breit-Wigner is cut there
Z_FRACTION = 0.8
Z, PHOTON = 23, 22  # by the numbering scheme of the Particle Data Group
ACCEPTANCE = {"pt": 3.0, "eta": 2.4}  # what the detector sees: pt above (GeV), |eta| below
RESOLUTION = 0.012  # relative, of pt

Array = np.ndarray


def main(directory: Path) -> None:
    """Fill `directory`: the real files as they are, and ``nano-<i>.root`` with a tree ``Events`` each."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in REAL_FILES:
        shutil.copyfile(str(files("skhep_testdata") / "data" / name), directory / name)
    for number in range(GENERATED_FILES):
        write_events(directory / f"nano-{number}.root", number)


def write_events(path: Path, number: int) -> None:
    """Write file `number`; the seed is the number, so that every build has the same events."""
    rng = np.random.default_rng(seed=number)
    with uproot.recreate(path, compression=uproot.ZSTD(5)) as file:
        tree = None
        for start in range(0, EVENTS_PER_FILE, EVENTS_PER_BASKET):
            branches = events(rng, first=number * EVENTS_PER_FILE + start + 1)
            if tree is None:  # mktree: the TTree that analyses expect, where `file[name] = ...` writes an RNTuple
                tree = file.mktree("Events", {name: array.type.content for name, array in branches.items()})
            tree.extend(branches)


def events(rng: np.random.Generator, first: int) -> dict[str, ak.Array]:
    """One basket, numbered from `first`: decay products and soft muons together, by falling pt."""
    parents, products = decays(rng)
    muons = ak.concatenate([products, soft_muons(rng)], axis=1)
    muons = muons[(muons.pt > ACCEPTANCE["pt"]) & (abs(muons.eta) < ACCEPTANCE["eta"])]
    number = first + np.arange(EVENTS_PER_BASKET)
    return {
        "run": ak.Array(np.ones(EVENTS_PER_BASKET, dtype=np.uint32)),
        "luminosityBlock": ak.Array(((number - 1) // EVENTS_PER_LUMINOSITY_BLOCK + 1).astype(np.uint32)),
        "event": ak.Array(number.astype(np.uint64)),
        "Muon": ak.to_packed(muons[ak.argsort(muons.pt, ascending=False)]),
        "GenPart": parents,
    }


def decays(rng: np.random.Generator) -> tuple[ak.Array, ak.Array]:
    """What decays in each event, a Z or a virtual photon, and its two muons: isotropic, then boosted."""
    n = EVENTS_PER_BASKET
    resonance = Z_MASS + Z_WIDTH / 2 * np.tan(rng.uniform(*np.arctan(2 * (np.array(Z_RANGE) - Z_MASS) / Z_WIDTH), n))
    is_z = rng.random(n) < Z_FRACTION
    mass = np.where(is_z, resonance, 40 + rng.exponential(25, n))
    parent_pt, rapidity = rng.gamma(1.4, 9.0, n), rng.normal(0, 1.6, n)
    parent_phi, phi, cos_theta = rng.uniform(-np.pi, np.pi, n), rng.uniform(-np.pi, np.pi, n), rng.uniform(-1, 1, n)
    momentum = np.sqrt(mass**2 / 4 - MUON_MASS**2)
    sin_theta = np.sqrt(1 - cos_theta**2)
    direction = momentum * np.stack([sin_theta * np.cos(phi), sin_theta * np.sin(phi), cos_theta])
    parent_pz = np.hypot(mass, parent_pt) * np.sinh(rapidity)
    parent = np.stack([parent_pt * np.cos(parent_phi), parent_pt * np.sin(parent_phi), parent_pz])
    legs = [boost(sign * direction, mass / 2, parent, mass) for sign in (1, -1)]
    charge = rng.choice([-1, 1], n)
    products = jagged(np.stack(legs, axis=-1), np.stack([charge, -charge], axis=-1), rng)
    return generated(parent, mass, np.where(is_z, Z, PHOTON)), products


def boost(momentum: Array, energy: Array, parent: Array, mass: Array) -> Array:
    """Take `momentum` (3, n), of a particle with `energy`, from the rest frame of `parent` into the laboratory."""
    parent_energy = np.sqrt(mass**2 + (parent**2).sum(axis=0))
    along = (momentum * parent).sum(axis=0)
    return momentum + parent * (along / (mass * (parent_energy + mass)) + energy / mass)


def generated(momentum: Array, mass: Array, kind: Array) -> ak.Array:
    """Lists of the one particle that decays, as it was generated, of `momentum` (3, n)."""
    pt = np.hypot(momentum[0], momentum[1])
    columns = {"pt": pt, "eta": np.arcsinh(momentum[2] / pt), "phi": np.arctan2(momentum[1], momentum[0]), "mass": mass}
    floats = {name: column.astype(np.float32) for name, column in columns.items()}
    return ak.unflatten(ak.zip({**floats, "pdgId": kind.astype(np.int32)}), np.ones(len(kind), dtype=int))


def soft_muons(rng: np.random.Generator) -> ak.Array:
    """A few muons from elsewhere: none in most events, sometimes more than one."""
    counts = rng.poisson(0.25, EVENTS_PER_BASKET)
    total = int(counts.sum())
    pt, phi, eta = 2 + rng.exponential(4, total), rng.uniform(-np.pi, np.pi, total), rng.uniform(-2.6, 2.6, total)
    momentum = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)])
    return ak.unflatten(measured(momentum, rng.choice([-1, 1], total), rng), counts)


def jagged(momentum: Array, charge: Array, rng: np.random.Generator) -> ak.Array:
    """Lists of two muons from `momentum` (3, n, 2) and `charge` (n, 2)."""
    flat = measured(momentum.reshape(3, -1), charge.reshape(-1), rng)
    return ak.unflatten(flat, np.full(len(charge), 2))


def measured(momentum: Array, charge: Array, rng: np.random.Generator) -> ak.Array:
    """Muons as a detector reports them: single precision, pt smeared."""
    pt = np.hypot(momentum[0], momentum[1])
    columns = {
        "pt": pt * rng.normal(1, RESOLUTION, pt.size),
        "eta": np.arcsinh(momentum[2] / pt),
        "phi": np.arctan2(momentum[1], momentum[0]),
        "mass": np.full(pt.size, MUON_MASS),
    }
    floats = {name: column.astype(np.float32) for name, column in columns.items()}
    return ak.zip({**floats, "charge": charge.astype(np.int32)})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
