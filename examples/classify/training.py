"""The two models, how they learn, and what they say where they are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pairs import FEATURES, Pairs

SEED = 1
EPOCHS, BATCH = 8, 512

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Trained:
    """A model that can go from worker to worker, pickled: what Dask does with a bare Keras model was for Keras 2."""

    model: Any


def network(pairs: Pairs) -> Trained:
    """Return a Keras network that has learned from `pairs`: 1,300 numbers."""
    import keras  # noqa: PLC0415 - takes seconds, and most programs of a session never need it

    keras.utils.set_random_seed(SEED)
    scale = keras.layers.Normalization()
    scale.adapt(pairs.features)
    layers = [keras.layers.Dense(32, "swish"), keras.layers.Dense(32, "swish"), keras.layers.Dense(1, "sigmoid")]
    model = keras.Sequential([keras.Input((len(FEATURES),)), scale, *layers])
    # Large steps first, small ones at the end: what is learned is a narrow peak.
    steps = keras.optimizers.schedules.CosineDecay(0.01, EPOCHS * len(pairs.event) // BATCH)
    model.compile(keras.optimizers.Adam(steps), "binary_crossentropy")
    model.fit(pairs.features, pairs.is_z.astype(np.float32), BATCH, EPOCHS, verbose=0)
    return Trained(model)


def trees(pairs: Pairs) -> Trained:
    """Return boosted trees of XGBoost that have learned from `pairs`."""
    import xgboost  # noqa: PLC0415 - as above

    model = xgboost.XGBClassifier(n_estimators=100, max_depth=6, learning_rate=0.2, random_state=SEED, n_jobs=1)
    return Trained(model.fit(pairs.features, pairs.is_z))


MODELS = {"zmumu_network": network, "zmumu_trees": trees}


def predict(features: Array, trained: Trained) -> Array:
    """Return how likely each pair is a Z, as the model itself says: (n, 5) -> (n,)."""
    model = trained.model
    if hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(features)[:, 1])
    return np.asarray(model.predict(features, batch_size=8192, verbose=0)[:, 0])
