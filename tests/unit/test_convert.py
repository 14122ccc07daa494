"""Models of each library, converted: they answer as the original does, or are not sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import onnx
import onnxruntime
import pytest
import xgboost
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from af_client.convert import TOLERANCE, Converted, convert
from af_client.convert.model import checked, seeded_rows
from af_client.errors import NotConvertible

RANDOM = np.random.default_rng(3)
X: NDArray[Any] = RANDOM.normal(size=(600, 4))
CLASSES = (X[:, 0] + X[:, 1] ** 2 > 0.5).astype(int)
THREE = RANDOM.integers(0, 3, len(X))
ENERGY = 300 * X[:, 0] + X[:, 2]
NAMES = np.asarray(["background", "signal"])[CLASSES]
SERVED = X.astype(np.float32)


def served(found: Converted) -> NDArray[Any]:
    """Return what the service will say: of 32-bit numbers, by the output that was chosen."""
    session = onnxruntime.InferenceSession(found.content, providers=["CPUExecutionProvider"])
    (said,) = session.run([found.params["output_name"]], {found.params["input_name"]: SERVED})
    return np.asarray(said)


def booster(params: dict[str, Any], target: NDArray[Any], names: list[str] | None = None) -> xgboost.Booster:
    return xgboost.train(params, xgboost.DMatrix(SERVED, target, feature_names=names), 10)


CLASSIFIERS = [
    (RandomForestClassifier(20, random_state=0), CLASSES),
    (RandomForestClassifier(5, random_state=0), NAMES),
    (make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=50, random_state=0)), CLASSES),
    (xgboost.XGBClassifier(n_estimators=20), CLASSES),
    (xgboost.XGBClassifier(n_estimators=20), THREE),
    (lightgbm.LGBMClassifier(n_estimators=20, verbose=-1), NAMES),
    (lightgbm.LGBMClassifier(n_estimators=20, verbose=-1), THREE),
]
REGRESSORS = [
    RandomForestRegressor(10, random_state=0),
    GradientBoostingRegressor(n_estimators=20),
    xgboost.XGBRegressor(n_estimators=20),
    lightgbm.LGBMRegressor(n_estimators=20, verbose=-1),
]


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize(("model", "target"), CLASSIFIERS, ids=[type(model).__name__ for model, _ in CLASSIFIERS])
@pytest.mark.parametrize("sample", [None, X], ids=["seeded", "given"])
def test_a_classifier_gives_its_probabilities(model: Any, target: NDArray[Any], sample: Any) -> None:
    model.fit(SERVED, target)
    found = convert(model, sample)
    assert np.abs(served(found) - model.predict_proba(SERVED)).max() <= TOLERANCE
    assert (found.file, found.params["output_name"]) == ("model.onnx", "probabilities")
    assert set(found.sample) == {"input", "probabilities"}
    assert found.labels in ((), tuple(map(str, np.unique(target))))


@pytest.mark.parametrize("model", REGRESSORS, ids=lambda model: type(model).__name__)
def test_a_regressor_gives_its_numbers(model: Any) -> None:
    model.fit(SERVED, ENERGY)
    wanted = model.predict(SERVED)
    assert np.all(np.abs(served(convert(model))[:, 0] - wanted) <= TOLERANCE * np.maximum(1, np.abs(wanted)))


def test_a_classifier_without_probabilities_gives_its_decision() -> None:
    model = LinearSVC().fit(SERVED, CLASSES)
    assert np.abs(served(convert(model))[:, 0] - model.decision_function(SERVED)).max() <= TOLERANCE


def test_boosters_alone_are_taken_and_columns_may_have_names() -> None:
    binary = booster({"objective": "binary:logistic"}, CLASSES, ["pt", "eta", "phi", "mass"])
    wanted = binary.predict(xgboost.DMatrix(SERVED, feature_names=binary.feature_names))
    assert np.abs(served(convert(binary))[:, 1] - wanted).max() <= TOLERANCE
    assert binary.feature_names == ["pt", "eta", "phi", "mass"], "the original is as it was"
    number = booster({"objective": "reg:squarederror"}, CLASSES)
    assert np.abs(served(convert(number))[:, 0] - number.predict(xgboost.DMatrix(SERVED))).max() <= TOLERANCE
    light = lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(SERVED, CLASSES), 10)
    assert np.abs(served(convert(light))[:, 1] - light.predict(SERVED)).max() <= TOLERANCE


def test_trees_after_an_early_stop_do_not_count() -> None:
    model = xgboost.XGBClassifier(n_estimators=50, early_stopping_rounds=3)
    model.fit(SERVED, CLASSES, eval_set=[(SERVED, RANDOM.permutation(CLASSES))], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds(), "this test needs an early stop"
    assert np.abs(served(convert(model)) - model.predict_proba(SERVED)).max() <= TOLERANCE


def test_seeded_rows_lie_at_the_thresholds_of_trees() -> None:
    model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(SERVED, CLASSES)
    found = onnx.load_from_string(convert(model).content)
    values = next(a for node in found.graph.node for a in node.attribute if a.name == "nodes_values").floats
    assert np.isin(seeded_rows(found, 4), np.asarray(values, np.float32)).mean() > 0.4
    assert np.array_equal(seeded_rows(found, 4), seeded_rows(found, 4))


def test_a_threshold_of_64_bits_is_not_rounded_up() -> None:
    below = np.float32(1)
    above = np.nextafter(below, np.float32(2))
    # LightGBM splits halfway between both, and the nearest number of 32 bits to that may be `above`.
    column = np.repeat([below, above, np.nextafter(above, np.float32(2))], 100)
    target = np.repeat([0, 1, 1], 100)
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, min_child_samples=1, min_data_in_bin=1)
    x = column[:, None].astype(np.float32)
    model.fit(x, target)
    session = onnxruntime.InferenceSession(convert(model).content, providers=["CPUExecutionProvider"])
    (said,) = session.run(["probabilities"], {"input": x})
    assert np.abs(said - model.predict_proba(x)).max() <= TOLERANCE


def test_rounding_that_changes_an_answer_is_said() -> None:
    column = np.repeat([1.0, 1.0 + 1e-9], 100)
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, min_child_samples=1, min_data_in_bin=1)
    model.fit(column[:, None], np.repeat([0, 1], 100))
    with pytest.raises(NotConvertible, match=r"rounded to 32 bits.*100 of 200 rows differ, by up to 0\.\d+.*float32"):
        convert(model, column[:, None])


def test_a_converter_that_makes_something_else_is_found_out() -> None:
    model = RandomForestClassifier(3, random_state=0).fit(SERVED, CLASSES)
    right = onnx.load_from_string(convert(model).content)
    with pytest.raises(NotConvertible, match=r"answers otherwise once it is converted: \d+ of 512 rows differ"):
        checked(right, lambda x: model.predict_proba(x) + 3e-5, None, 4, "this forest")
    checked(right, lambda x: model.predict_proba(x) + 3e-6, None, 4, "this forest")


REFUSED = [
    (HistGradientBoostingClassifier(max_iter=3).fit(X, CLASSES), "HistGradientBoostingClassifier cannot be converted"),
    (make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=3)).fit(X, CLASSES), "LGBMClassifier"),
    (RandomForestClassifier(), "is not fitted: call .fit first"),
    (xgboost.XGBClassifier(n_estimators=2, booster="gblinear").fit(X, CLASSES), "XGBoost cannot be converted"),
    (KMeans(2, n_init=1).fit(SERVED), "push a predictor"),
    (object(), "no converter for builtins.object; there are those of xgboost, lightgbm, sklearn, keras"),
]


@pytest.mark.parametrize(("model", "said"), REFUSED, ids=[type(model).__name__ for model, _ in REFUSED])
def test_what_cannot_be_converted_says_what_to_do(model: Any, said: str) -> None:
    with pytest.raises(NotConvertible) as error:
        convert(model)
    assert said in str(error.value)
    assert len(str(error.value)) < 700


def test_a_sample_must_fit() -> None:
    model = RandomForestClassifier(3).fit(SERVED, CLASSES)
    with pytest.raises(NotConvertible, match="no rows"):
        convert(model, X[:0])
    columns = dict(zip("abcd", X.T, strict=True))
    assert np.allclose(convert(model, columns).sample["input"], SERVED[:512])


def test_a_pickled_model_is_the_same_model(tmp_path: Path) -> None:
    model = RandomForestClassifier(3, random_state=0).fit(SERVED, CLASSES)
    joblib.dump(model, tmp_path / "m.joblib")
    assert convert(joblib.load(tmp_path / "m.joblib")).content == convert(model).content
