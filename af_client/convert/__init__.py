"""Models of scikit-learn, XGBoost, LightGBM and Keras as the service takes them, on the machine of who trained them.

Trees and what else scikit-learn has become ONNX here, for the service knows none of these libraries; Keras' own file is
converted by the service, which need not trust it. What is converted must answer as the original does: to `TOLERANCE`,
on data that are given or that the model's own thresholds say. The data go along, and the service checks them once more.

Needs the packages of ``af-operator[convert]``, of which only those of the model's own library are imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from af_client.convert.model import TOLERANCE, Converted
from af_client.errors import NotConvertible

__all__ = ["LIBRARIES", "TOLERANCE", "Converted", "convert"]

LIBRARIES: Mapping[str, str] = {
    # XGBoost's and LightGBM's classifiers are scikit-learn's too, so these are asked first.
    "xgboost": "trees:xgboost",
    "lightgbm": "trees:lightgbm",
    "sklearn": "scikit:scikit_learn",
    "keras": "keras_file:keras",
}
"""Package of a model's class -> where it is converted."""
ADVICE = {"torch": "export it with torch.onnx.export and push the .onnx file"}


def convert(model: Any, sample: Any = None) -> Converted:
    """Return a model as the service takes it, checked.

    Parameters
    ----------
    model
        A fitted estimator or pipeline of scikit-learn, a model or Booster of XGBoost or LightGBM, a Keras model.
    sample
        Rows like those that it will be asked of: (rows, columns). Without them, seeded ones.

    Raises
    ------
    NotConvertible
        Of another library, not convertible, or what comes out answers otherwise.
    """
    packages = {cls.__module__.partition(".")[0] for cls in type(model).__mro__}
    for package, where in LIBRARIES.items():
        if package in packages:
            return _converter(where, package)(model, sample)
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    advice = next((ADVICE[package] for package in packages if package in ADVICE), "push an .onnx file of it")
    raise NotConvertible(f"no converter for {kind}; there are those of {', '.join(LIBRARIES)}: {advice}")


def _converter(where: str, package: str) -> Callable[[Any, Any], Converted]:
    module, _, function = where.partition(":")
    try:
        found: Callable[[Any, Any], Converted] = getattr(import_module(f"{__name__}.{module}"), function)
    except ImportError as error:
        raise NotConvertible(
            f"a model of {package} cannot be converted here: {error}: pip install 'af-operator[convert]'"
        ) from error
    return found
