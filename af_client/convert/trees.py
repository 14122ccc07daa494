"""Boosted trees of XGBoost and LightGBM, by onnxmltools."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnxmltools
from onnxmltools.convert.common.data_types import FloatTensorType

from af_client.convert.model import INPUT, Array, Converted, checked, failure, given_rows

INSTEAD = "train it with another booster or objective, or push an .onnx file of it"


def xgboost(model: Any, sample: Any) -> Converted:
    """Return a Booster, or a model of XGBoost's scikit-learn interface, as ONNX, checked."""
    import xgboost as xgb  # noqa: PLC0415 - the other function must not need it

    booster = model if isinstance(model, xgb.Booster) else model.get_booster()
    names, kinds, columns = booster.feature_names, booster.feature_types, booster.num_features()
    given = given_rows(sample, columns)
    last = booster.attr("best_iteration")
    # As XGBoost's own classes do it: after an early stop without the trees that made it worse.
    kept = booster.copy() if last is None else booster[: int(last) + 1]
    unnamed = kept.copy()
    unnamed.feature_names = unnamed.feature_types = None  # the converter takes no names but f0, f1, ...
    try:
        found = onnxmltools.convert_xgboost(unnamed, initial_types=[(INPUT, FloatTensorType([None, columns]))])
    except Exception as error:
        raise failure("this model of XGBoost", error, INSTEAD) from error

    def answers(x: Array) -> Array:
        return _of_classes(kept.predict(xgb.DMatrix(x, feature_names=names, feature_types=kinds)), found)

    return checked(found, answers, given, columns, "this model of XGBoost")


def lightgbm(model: Any, sample: Any) -> Converted:
    """Return a Booster, or a model of LightGBM's scikit-learn interface, as ONNX, checked."""
    import lightgbm as lgb  # noqa: PLC0415 - as above

    booster = model if isinstance(model, lgb.Booster) else model.booster_
    columns = booster.num_feature()
    given = given_rows(sample, columns)
    try:
        found = onnxmltools.convert_lightgbm(
            lgb.Booster(model_str=_in_32_bits(booster.model_to_string())),
            initial_types=[(INPUT, FloatTensorType([None, columns]))],
            zipmap=False,
        )
    except Exception as error:
        raise failure("this model of LightGBM", error, INSTEAD) from error
    for output in found.graph.output:  # which says that there is one label, however many rows
        if len(output.type.tensor_type.shape.dim) == 1:
            output.type.tensor_type.shape.dim[0].Clear()
    names = tuple(map(str, getattr(model, "classes_", ())))
    done = checked(found, lambda x: _of_classes(booster.predict(x), found), given, columns, "this model of LightGBM")
    return Converted(done.file, done.content, done.sample, done.params, names)


def _of_classes(predicted: Any, onnx_model: Any) -> Array:
    """Return the probabilities of both classes, where a Booster has said only that of the second."""
    found = np.asarray(predicted)
    both = found.ndim == 1 and len(onnx_model.graph.output) > 1
    return np.stack([1 - found, found], axis=1) if both else found


def _in_32_bits(text: str) -> str:
    """Return LightGBM's model with thresholds that ONNX does not round up.

    It compares in 64 bits. A number of 32 bits is at most a threshold if it is at most the largest number of 32 bits
    that is; the nearest one may be above, and the other side of the tree would answer.
    """
    text = re.sub(r"^tree_sizes=.*\n", "", text, flags=re.MULTILINE)  # the trees' lengths in bytes, which change
    return re.sub(r"^threshold=(.*)$", lambda found: f"threshold={_floors(found[1])}", text, flags=re.MULTILINE)


def _floors(numbers: str) -> str:
    exact = np.asarray(numbers.split(), np.float64)
    nearest = exact.astype(np.float32)
    floors = np.where(nearest > exact, np.nextafter(nearest, np.float32(-np.inf)), nearest)
    return " ".join(repr(float(each)) for each in floors)
