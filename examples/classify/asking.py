"""What workers do with the session's model service: push to it, and ask it, by our client and by coffea's wrapper."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pairs
import pyarrow as pa
from training import Trained

from af_client.models import Models

TABLE = "event long, " + ", ".join(f"{name} float" for name in pairs.FEATURES)
ANSWERS = "event long, probability float"

Array = np.ndarray[Any, Any]


def push(name: str, trained: Trained, sample: pairs.Pairs) -> str:
    """Push a model, with features on which the service must answer as it does; return the version it has got."""
    return Models().push(name, trained.model, sample.features)


def by_client(features: Array, models: Models, model: str) -> Array:
    """Return how likely each pair is a Z: (n, 5) -> (n,)."""
    answer = models.predict(model, features)
    if isinstance(answer, dict):  # trees say the class, too
        answer = answer["probabilities"]
    return np.asarray(answer[:, -1])


def by_coffea(features: Array, wrapper: Any) -> Array:
    """Return the same by coffea's wrapper, which takes awkward arrays."""
    import awkward as ak  # noqa: PLC0415 - Spark's workers need none

    return np.asarray(ak.to_numpy(wrapper(ak.from_numpy(features))))


def read_in_spark(urls: Sequence[str], shares: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the pairs of the shares whose numbers are given."""
    for number in (number for batch in shares for number in batch["id"].to_pylist()):
        found = pairs.read(urls, number)
        yield pa.record_batch([found.event, *found.features.T], names=["event", *pairs.FEATURES])


def ask_in_spark(model: str, table: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the answers to a table of pairs, batch by batch."""
    models = Models()
    for batch in table:
        features = np.stack([batch[name].to_numpy() for name in pairs.FEATURES], axis=1)
        yield pa.record_batch([batch["event"], by_client(features, models, model)], names=["event", "probability"])
