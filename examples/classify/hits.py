"""Hits of a tracker as pictures: what three kinds of events leave in it, seen along the beam.

Tracks are circles through the middle, bent by the field, which cross the layers of the tracker; a hit is where they do.
Nothing of an event is reconstructed: a picture of its hits is all that is known of it.
"""

import io
from typing import Any

import numpy as np
from PIL import Image

KINDS = ("JpsiMuMu", "QCD", "Higgs200Taus")
LAYERS = np.array([2.9, 6.8, 10.9, 16.0, 25, 34, 42, 50, 61, 69, 78, 87, 97, 108])  # cm: pixels, then strips
FIELD = 3.8  # T
EFFICIENCY = 0.97  # of a layer
NOISE, SOFT_TRACKS = 8, 5  # how many a picture has in the mean
PIXELS, HALF = 48, 110  # on each side of a picture; from its middle to an edge, cm

Array = np.ndarray[Any, Any]
Rng = np.random.Generator


def picture(kind: str, rng: Rng) -> Array:
    """Return the picture of one event: (48, 48), 255 where there is a hit."""
    pt, phi = (np.concatenate(both) for both in zip(TRACKS[kind](rng), soft_tracks(rng), strict=True))
    x, y = np.concatenate([hits(pt, phi, rng), noise(rng)], axis=1)
    canvas = np.zeros((PIXELS, PIXELS), dtype=np.uint8)
    column, row = ((position + HALF) * PIXELS / (2 * HALF) for position in (x, -y))
    canvas[row.astype(int), column.astype(int)] = 255
    return canvas


def png(canvas: Array) -> bytes:
    """Return a picture as a file."""
    file = io.BytesIO()
    Image.fromarray(canvas).save(file, format="PNG")
    return file.getvalue()


def hits(pt: Array, phi: Array, rng: Rng) -> Array:
    """Return where tracks of `pt` [GeV] that start at `phi`, of either charge, cross the layers: (2, n) in cm."""
    charge = rng.choice([-1, 1], pt.size)
    turn = LAYERS / (2 * 100 * pt[:, None] / (0.3 * FIELD))  # half of a layer's radius over the track's
    reached = (turn < 1) & (rng.random(turn.shape) < EFFICIENCY)
    angle = phi[:, None] + charge[:, None] * np.arcsin(np.minimum(turn, 1))
    return np.stack([LAYERS * np.cos(angle), LAYERS * np.sin(angle)])[:, reached]


def noise(rng: Rng) -> Array:
    """Return hits that belong to no track: (2, n) in cm."""
    count = rng.poisson(NOISE)
    radius, angle = rng.choice(LAYERS, count), rng.uniform(-np.pi, np.pi, count)
    return radius * np.stack([np.cos(angle), np.sin(angle)])


def soft_tracks(rng: Rng) -> tuple[Array, Array]:
    """Return pt [GeV] and phi of what every event has."""
    count = rng.poisson(SOFT_TRACKS)
    return 0.3 + rng.exponential(0.6, count), rng.uniform(-np.pi, np.pi, count)


def two_muons(rng: Rng) -> tuple[Array, Array]:
    """Return the tracks of a J/psi: two muons, not far from each other."""
    return 4 + rng.exponential(4, 2), rng.uniform(-np.pi, np.pi) + rng.normal(0, 0.15, 2)


def two_jets(rng: Rng) -> tuple[Array, Array]:
    """Return the tracks of two jets back to back: many, of all momenta."""
    counts = 2 + rng.poisson(3, 2)
    axis = np.repeat(rng.uniform(-np.pi, np.pi) + np.array([0, np.pi]), counts)
    return 1 + rng.exponential(6, axis.size), axis + rng.normal(0, 0.2, axis.size)


def two_taus(rng: Rng) -> tuple[Array, Array]:
    """Return the tracks of two tau leptons back to back: one or three each, close together and straight."""
    counts = rng.choice([1, 3], 2, p=[0.6, 0.4])
    axis = np.repeat(rng.uniform(-np.pi, np.pi) + np.array([0, np.pi]), counts)
    return 10 + rng.exponential(25, axis.size), axis + rng.normal(0, 0.04, axis.size)


TRACKS = dict(zip(KINDS, (two_muons, two_jets, two_taus), strict=True))
