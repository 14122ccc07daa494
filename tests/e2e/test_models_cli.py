"""`af models` and the client: what was trained here is served in a session, and asked from outside and inside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import xgboost
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from tests.support.people import Person
from tests.support.tenant import DASK, HEADLESS, Tenant

SESSION = "served"
TOLERANCE = 1e-5
RANDOM = np.random.default_rng(8)
X = RANDOM.normal(size=(300, 4)).astype(np.float32)
CLASSES = (X[:, 0] * X[:, 1] > 0).astype(int)
MUONS = RANDOM.uniform(1, 3, (50, 6)).astype(np.float32)
COLUMNS = ("pt1", "eta1", "phi1", "pt2", "eta2", "phi2")

INSIDE = """
import json, pickle
import awkward as ak, numpy as np
from dask.distributed import Client
from af_client.models import Models

models = Models()
pairs = ak.Array([[[1., 0., 0., 1., 1., 3.]], [], [[2., 0., 0., 2., 1., 3.], [4., 0., 0., 4., 1., 3.]]])
pairs = ak.to_regular(pairs, axis=2)
masses = models.predict("dimuon", pairs)
with Client() as client:
    tasks = client.map(lambda n: models.predict("dimuon", np.full((n, 6), [2, 0, 0, 2, 1, 3]))[:, 0].tolist(), [1, 3])
    print(json.dumps({"events": masses[..., 0].tolist(), "tasks": client.gather(tasks)}))
"""


TRAINED = """
import json
import keras, lightgbm, numpy as np, sklearn.ensemble
from af_client.models import Models

x = np.random.default_rng(1).normal(size=(300, 6)).astype("f4")
y = (x[:, 0] > 0).astype(int)
network = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1, "sigmoid")])
inputs = {"a": keras.Input((4,), name="a"), "b": keras.Input((2,), name="b")}
both = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Concatenate()([*inputs.values()])))
parts = {"a": x[:, :4], "b": x[:, 4:]}
forest = sklearn.ensemble.RandomForestClassifier(5).fit(x, y)
boosted = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(x, y)
network.export("saved", verbose=False)
models, probabilities = Models(), {"output": "probabilities"}
pushed = {
    "network": (network, x, network.predict(x, verbose=0), {}),
    "saved": ("saved", x, network.predict(x, verbose=0), {}),
    "both": (both, parts, both.predict(parts, verbose=0), {}),
    "forest": (forest, x, forest.predict_proba(x), probabilities),
    "boosted": (boosted, x, boosted.predict_proba(x), probabilities),
}
found = {}
for name, (model, asked, wanted, output) in pushed.items():
    models.push(name, model)
    found[name] = float(abs(models.predict(name, asked, **output) - wanted).max())
print(json.dumps(found))
"""


def mass(muons: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the masses that the catalogue's model works out, in float64."""
    pt1, eta1, phi1, pt2, eta2, phi2 = muons.T.astype(np.float64)
    found: NDArray[np.float64] = np.sqrt(2 * pt1 * pt2 * (np.cosh(eta1 - eta2) - np.cos(phi1 - phi2)))
    return found


@pytest.fixture(scope="module")
def alice(shared_tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Whose models these are."""
    return Person.create(shared_tenant, "alice", tmp_path_factory.mktemp("alice"))


@pytest.fixture(scope="module")
def bob(shared_tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Another one with the same rights."""
    return Person.create(shared_tenant, "bob", tmp_path_factory.mktemp("bob"))


@pytest.fixture(scope="module")
def served(shared_tenant: Tenant, alice: Person) -> str:
    """A session with a model of the catalogue and room for more, not ready yet when it is first used."""
    spec = {"user": alice.user, "mode": "Interactive", "inference": {"models": [{"name": "dimuon"}], "upload": True}}
    shared_tenant.apply(SESSION, spec)
    return SESSION


def models(person: Person, *args: str | Path, folder: Path | None = None) -> str:
    """Run `af models`, which must do well, and return what it says."""
    done = person.af("models", *map(str, args), folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def answers(person: Person, name: str, rows: NDArray[np.float32], folder: Path) -> NDArray[np.float64]:
    """Ask a model about the rows of a file; return what came into another."""
    np.savetxt(folder / "rows.csv", rows, delimiter=",", fmt="%.9g")
    models(person, "predict", SESSION, name, "rows.csv", "-o", "out.csv", folder=folder)
    return np.loadtxt(folder / "out.csv", delimiter=",", ndmin=2)


def test_the_catalogue_is_listed_and_asked(alice: Person, served: str, tmp_path: Path) -> None:
    listed = json.loads(models(alice, "list", served, "--output", "json"))["items"]
    assert listed == [{"name": "dimuon", "version": "1", "ready": True, "reason": ""}]
    found = answers(alice, "dimuon", MUONS, tmp_path)
    assert np.all(np.abs(found[:, 0] - mass(MUONS)) <= TOLERANCE * np.maximum(1, mass(MUONS)))
    text = ",".join(COLUMNS) + "\n" + ",".join(map(str, MUONS[0])) + "\n"
    (tmp_path / "named.csv").write_text(text)
    name, value = models(alice, "predict", served, "dimuon", "named.csv", folder=tmp_path).split()
    assert (name, round(float(value), 3)) == ("mass", round(float(found[0, 0]), 3))


def test_what_was_trained_here_is_pushed_asked_and_deleted(alice: Person, served: str, tmp_path: Path) -> None:
    forest = RandomForestClassifier(10, random_state=0).fit(X, CLASSES)
    boosted = xgboost.XGBClassifier(n_estimators=10).fit(X, CLASSES)
    joblib.dump(forest, tmp_path / "forest.joblib")
    boosted.get_booster().save_model(tmp_path / "boosted.json")
    for name, file, trained in (("forest", "forest.joblib", forest), ("boosted", "boosted.json", boosted)):
        options = ["--unpickle"] if name == "forest" else []
        said = models(alice, "push", served, file, *options, folder=tmp_path)
        assert said.startswith(f"model {name}, version 1: ")
        label, *probabilities = answers(alice, name, X, tmp_path).T
        assert np.abs(np.stack(probabilities, 1) - trained.predict_proba(X)).max() <= TOLERANCE
        assert label.tolist() == trained.predict(X).tolist()
    assert models(alice, "list", served).split()[3:] == [
        each for name in ("boosted", "dimuon", "forest") for each in (name, "1", "ready")
    ]
    for name in ("forest", "boosted"):
        models(alice, "delete", served, name, "--yes")
    refused = alice.af("models", "delete", served, "dimuon", "--yes")
    assert (refused.returncode, "a model of the catalogue" in refused.stderr) == (1, True), refused.stderr
    assert models(alice, "list", served).split()[3:] == ["dimuon", "1", "ready"]


def test_who_has_no_right_to_it_is_told_whose_it_is(alice: Person, bob: Person, served: str) -> None:
    models(alice, "list", served)
    done = bob.af("models", "list", served)
    assert done.returncode == 1
    assert f"the model service of session {served} is {alice.user}'s: Role {served}-inference" in done.stderr


def test_inside_a_session_the_client_finds_it_and_goes_along_into_tasks(shared_tenant: Tenant, alice: Person) -> None:
    spec = {
        "user": alice.user,
        "dask": DASK,
        "inference": {"models": [{"name": "dimuon"}]},
        "run": {"command": ["python", "-c", INSIDE]},
    }
    found = said(shared_tenant, alice, "inside", spec)
    unit = float(mass(np.asarray([[1, 0, 0, 1, 1, 3]], np.float32))[0])
    assert [len(event) for event in found["events"]] == [1, 0, 2]
    assert np.allclose(list(chain(*found["events"])), [unit, 2 * unit, 4 * unit], rtol=TOLERANCE)
    assert np.allclose(list(chain(*found["tasks"])), 2 * unit, rtol=TOLERANCE)


def test_models_of_each_library_are_pushed_from_where_they_were_trained(shared_tenant: Tenant, alice: Person) -> None:
    spec = {
        "user": alice.user,
        "image": "ml",
        "inference": {"upload": True},
        "run": {"command": ["python", "-c", TRAINED], "size": "medium"},
    }
    found = said(shared_tenant, alice, "trained", spec)
    assert found.keys() == {"network", "saved", "both", "forest", "boosted"}
    assert max(found.values()) <= TOLERANCE, found


def said(tenant: Tenant, person: Person, name: str, spec: Mapping[str, Any]) -> Any:
    """Return the JSON that a run writes into its log."""
    tenant.apply(name, HEADLESS | spec)
    tenant.wait(name, lambda body: body.get("status", {}).get("phase") == "Succeeded")
    log = person.af("logs", name).stdout
    return json.loads(next(line for line in log.splitlines() if line.startswith("{")))
