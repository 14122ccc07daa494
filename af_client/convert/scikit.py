"""Estimators and pipelines of scikit-learn, by skl2onnx."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import skl2onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import is_classifier

from af_client.convert.model import INPUT, Array, Converted, checked, failure, given_rows
from af_client.errors import NotConvertible

INSTEAD = "train an estimator that skl2onnx knows, or one of XGBoost or LightGBM"
HISTOGRAMS = "LightGBM's LGBMClassifier and LGBMRegressor are the same method, and are converted"


def scikit_learn(model: Any, sample: Any) -> Converted:
    """Return a fitted estimator as ONNX, checked."""
    what = type(model).__name__
    columns = _columns(model)
    given = given_rows(sample, columns)
    found = _onnx(model, columns)
    converted = checked(found, lambda x: _answers(model, x), given, columns, what)
    return Converted(
        converted.file, converted.content, converted.sample, converted.params, tuple(map(str, _classes(model)))
    )


def _columns(model: Any) -> int:
    try:
        return int(model.n_features_in_)
    except AttributeError as error:
        raise NotConvertible(f"this {type(model).__name__} is not fitted: call .fit first") from error


def _onnx(model: Any, columns: int) -> Any:
    types = [(INPUT, FloatTensorType([None, columns]))]
    # Probabilities as an array, and not as a list of dictionaries; who has no such option has no such list.
    for options in ({"zipmap": False}, None) if is_classifier(model) else (None,):
        try:
            return skl2onnx.to_onnx(model, initial_types=types, options=options)
        except NameError as error:
            if options is None:
                raise failure(type(model).__name__, error, INSTEAD) from error
        except Exception as error:
            instead = HISTOGRAMS if _has_histograms(model) else INSTEAD
            raise failure(type(model).__name__, error, instead) from error
    raise AssertionError


def _has_histograms(model: Any) -> bool:
    steps = [step for _, step in getattr(model, "steps", [])]
    return any(type(each).__name__.startswith("HistGradientBoosting") for each in (model, *steps))


def _answers(model: Any, x: Array) -> Array:
    methods = ("predict_proba", "decision_function", "predict") if is_classifier(model) else ("predict",)
    method = next(name for name in methods if hasattr(model, name))
    with warnings.catch_warnings():
        # Of a model that was trained with a DataFrame: the columns are in its order.
        warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
        return np.asarray(getattr(model, method)(x))


def _classes(model: Any) -> Array:
    return np.asarray(getattr(model, "classes_", ()) if is_classifier(model) else ())
