"""coffea's triton_wrapper as its user writes it, with all its defaults, on a session's model; prints JSON.

The model is the demo's `dimuon`: the mass of two muons, of pt, eta and phi of each. It is asked for lists of pairs, and
for so many rows that coffea pads none of its requests, or the last of several.
"""

import json
import os
import pickle
from typing import Any

import awkward as ak
import numpy as np
from coffea.ml_tools import triton_wrapper
from tritonclient.grpc.auth import BasicAuth

COLUMNS = ("pt1", "eta1", "phi1", "pt2", "eta2", "phi2")
PADDED = (0, 1, 1023, 1024, 1025, 3000)


class Mass(triton_wrapper):
    """The mass of pairs of muons."""

    def _create_client(self) -> Any:
        client = super()._create_client()
        client.register_plugin(BasicAuth("session", os.environ["AF_INFERENCE_TOKEN"]))
        return client

    def prepare_awkward(self, pairs: ak.Array) -> tuple[list[Any], dict[str, Any]]:
        flat = ak.flatten(pairs)
        muons = np.stack([ak.to_numpy(flat[name]) for name in COLUMNS], axis=1).astype(np.float32)
        return [["mass"], {"muons": ak.from_numpy(muons)}], {}

    def postprocess_awkward(self, answer: dict[str, ak.Array], pairs: ak.Array) -> ak.Array:
        return ak.unflatten(answer["mass"][:, 0], ak.num(pairs))


class Misspelt(Mass):
    """Asks for an output that the model does not have."""

    def prepare_awkward(self, pairs: ak.Array) -> tuple[list[Any], dict[str, Any]]:
        (_, inputs), _ = super().prepare_awkward(pairs)
        return [["masses"], inputs], {}


def events(rows: int, rng: np.random.Generator) -> ak.Array:
    """Return pairs in lists of zero to three, `rows` of them in all."""
    counts = []
    while sum(counts) < rows:
        counts.append(min(int(rng.integers(0, 4)), rows - sum(counts)))
    # Well apart in eta: of near ones single precision makes little.
    low, high = (5, -2, -3, 5, 1, -3), (90, -1, 3, 90, 2, 3)
    columns = {name: rng.uniform(a, b, rows) for name, a, b in zip(COLUMNS, low, high, strict=True)}
    return ak.unflatten(ak.zip(columns), counts or [0])


def mass(pairs: ak.Array) -> ak.Array:
    """Return what the model is to say, in double precision."""
    angle = np.cosh(pairs.eta1 - pairs.eta2) - np.cos(pairs.phi1 - pairs.phi2)
    return np.sqrt(2 * pairs.pt1 * pairs.pt2 * angle)


def refusal(wrapper: Mass, pairs: ak.Array) -> str:
    """Return the words of coffea or of the service, where there have to be some."""
    try:
        wrapper(pairs)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is to be read
        return str(error)
    return ""


def main() -> None:
    url = f"triton+grpc://{os.environ['AF_INFERENCE_GRPC']}/dimuon/1"
    insecure = {"ssl": False}
    wrapper = pickle.loads(pickle.dumps(Mass(url, client_args=insecure)))  # noqa: S301 - our own
    rng, largest, same_lists = np.random.default_rng(1), {}, {}
    for rows in PADDED:
        pairs = events(rows, rng)
        found, expected = wrapper(pairs), mass(pairs)
        same_lists[rows] = bool(ak.all(ak.num(found) == ak.num(expected)))
        off = ak.to_numpy(ak.flatten(abs(found / expected - 1)))
        largest[rows] = [len(off), float(off.max(initial=0))]
    print(
        json.dumps(
            {
                "batch_size": wrapper.batch_size,
                "largest": largest,
                "same_lists": same_lists,
                "misspelt": refusal(Misspelt(url, client_args=insecure), events(3, rng)),
            }
        )
    )


if __name__ == "__main__":
    main()
