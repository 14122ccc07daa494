"""What the classify example is made of, without workers or a model service: pairs, hits, the report."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import uproot
import yaml
from PIL import Image

from images.origin import generate

EXAMPLE = Path(__file__).parents[2] / "examples" / "classify"
EVENTS = 4_000
MODULES = ("pairs", "report", "figure", "hits", "training")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small generated file."""
    path = tmp_path_factory.mktemp("data") / "nano-0.root"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate, "EVENTS_PER_FILE", EVENTS)
        patch.setattr(generate, "EVENTS_PER_BASKET", EVENTS)
        generate.write_events(path, 0)
    return str(path)


@pytest.fixture(scope="module")
def example() -> Iterator[dict[str, ModuleType]]:
    """The modules, as the programs see them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        yield {name: __import__(name) for name in MODULES}
    for name in MODULES:
        del sys.modules[name]


@pytest.fixture(scope="module")
def found(example: dict[str, ModuleType], url: str) -> Any:
    shares = range(example["pairs"].SHARES)
    return example["pairs"].joined([example["pairs"].read([url], share) for share in reversed(shares)])


# --- pairs ----------------------------------------------------------------------------------------------------------


def test_pairs_are_those_that_are_found_event_by_event(found: Any, url: str) -> None:
    expected = list(by_hand(url))
    assert 0.4 * EVENTS < len(expected) < EVENTS
    assert found.event.tolist() == [event for event, *_ in expected]
    assert found.is_z.tolist() == [is_z for *_, is_z in expected]
    assert np.allclose(found.features, [features for _, features, _ in expected], rtol=1e-5, atol=1e-5)
    assert found.features.dtype == np.float32


def by_hand(url: str) -> Iterator[tuple[int, list[float], bool]]:
    """Yield the number, the features and the truth of each event that has a pair, one event after the other."""
    with uproot.open(f"{url}:Events") as tree:
        events = tree.arrays()
    columns = [events[f"Muon_{x}"].tolist() for x in ("pt", "eta", "phi", "charge")]
    for number, parent, *muons in zip(events.event, events.GenPart_pdgId[:, 0], *columns, strict=True):
        good = [muon for muon in zip(*muons, strict=True) if muon[0] > 10]
        if len(good) >= 2 and good[0][3] != good[1][3]:
            (pt1, eta1, phi1, _), (pt2, eta2, phi2, _) = good[:2]
            turn = math.acos(math.cos(phi1 - phi2))
            yield number, [math.log(pt1), math.log(pt2), eta1, eta2, turn], parent == 23


def test_features_are_enough_for_the_mass(found: Any) -> None:
    """Without it no model could learn what it is asked."""
    log_1, log_2, eta_1, eta_2, turn = found.features.T.astype(float)
    mass = np.sqrt(2 * np.exp(log_1 + log_2) * (np.cosh(eta_1 - eta_2) - np.cos(turn)))
    assert np.allclose(mass, found.mass, rtol=1e-4)
    assert abs(np.median(found.mass[found.is_z]) - 91) < 1
    assert np.mean(np.abs(found.mass[~found.is_z] - 91) < 5) < 0.2


def test_models_are_tested_on_what_they_have_not_seen(example: dict[str, ModuleType], found: Any) -> None:
    learned = example["pairs"].for_training([found])
    assert len(learned.event) == pytest.approx(len(found.event) / 2, rel=0.1)
    assert not set(learned.event) & set(found.event[example["pairs"].is_test(found)])


# --- the report -----------------------------------------------------------------------------------------------------


def answers(found: Any, off: float) -> Any:
    """Two models' answers in two ways, of which the second is off in one pair."""
    random = np.random.default_rng(0)
    direct = np.clip(found.is_z * 0.3 + random.random(len(found.event)) * 0.6, 0, 1).astype(np.float32)
    other = direct.astype(float)
    other[7] += off
    models = ("zmumu_network", "zmumu_trees")
    return {
        "model itself": dict.fromkeys(models, (direct, 2.0)),
        "client on Dask": dict.fromkeys(models, (other, 0.5)),
    }


def test_the_report_says_how_good_and_how_fast_each_way_is(
    example: dict[str, ModuleType], found: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example["report"].write(tmp_path, found, answers(found, 5e-6), {"step": 1.0})
    numbers = json.loads((tmp_path / "classify.json").read_text())
    tested = found.event % 2 == 1
    score = answers(found, 0)["model itself"]["zmumu_network"][0][tested]
    above = score[found.is_z[tested]][:, None] - score[~found.is_z[tested]]
    assert numbers["auc"]["zmumu_network"] == pytest.approx((above > 0).mean() + (above == 0).mean() / 2, abs=1e-5)
    assert numbers["auc"]["mass"] > 0.9
    assert numbers["pairs_per_second"]["client on Dask"]["zmumu_trees"] == len(found.event) * 2
    assert numbers["largest_difference"]["client on Dask"]["zmumu_network"] == pytest.approx(5e-6)
    assert (tmp_path / "classify.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert all(way in printed for way in numbers["pairs_per_second"])


@pytest.mark.parametrize("off", [2e-5, math.nan])
def test_ways_that_disagree_are_no_result(
    example: dict[str, ModuleType], found: Any, tmp_path: Path, off: float
) -> None:
    with pytest.raises(SystemExit, match="Not the numbers of the models themselves: client on Dask"):
        example["report"].write(tmp_path, found, answers(found, off), {})


# --- hits -----------------------------------------------------------------------------------------------------------


def test_a_track_crosses_the_layers_on_a_circle(
    example: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A circle through the middle: all its points are as far from its own middle; it begins where the track does."""
    hits = example["hits"]
    monkeypatch.setattr(hits, "EFFICIENCY", 1.0)
    x, y = hits.hits(np.array([2.0]), np.array([0.5]), np.random.default_rng(3))
    assert np.allclose(np.hypot(x, y), hits.LAYERS)
    radius = 100 * 2.0 / (0.3 * 3.8)  # cm, of 2 GeV in 3.8 T
    middles = [radius * np.array([math.cos(0.5 + side), math.sin(0.5 + side)]) for side in (math.pi / 2, -math.pi / 2)]
    away = [np.abs(np.hypot(x - middle[0], y - middle[1]) - radius).max() for middle in middles]
    assert min(away) < 1e-9 < max(away)


def test_soft_tracks_turn_back_before_the_outer_layers(example: dict[str, ModuleType]) -> None:
    hits = example["hits"]
    x, y = hits.hits(np.full(50, 0.4), np.zeros(50), np.random.default_rng(1))
    assert 50 < np.hypot(x, y).max() < 2 * 100 * 0.4 / (0.3 * 3.8)


@pytest.mark.parametrize("kind", ["JpsiMuMu", "QCD", "Higgs200Taus"])
def test_a_picture_is_seeded_and_survives_as_a_file(example: dict[str, ModuleType], kind: str) -> None:
    hits = example["hits"]
    picture = hits.picture(kind, np.random.default_rng(5))
    assert np.array_equal(picture, hits.picture(kind, np.random.default_rng(5)))
    assert not np.array_equal(picture, hits.picture(kind, np.random.default_rng(6)))
    assert set(np.unique(picture)) == {0, 255}
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(hits.png(picture)))), picture)


def test_kinds_differ_in_what_they_leave(example: dict[str, ModuleType]) -> None:
    hits = example["hits"]
    random = np.random.default_rng(2)
    mean = {kind: np.mean([hits.picture(kind, random).astype(bool).sum() for _ in range(100)]) for kind in hits.KINDS}
    assert mean["QCD"] > 1.5 * mean["JpsiMuMu"]


# --- sessions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["session.yaml", "session-images.yaml"])
def test_a_session_sends_all_modules_that_its_program_imports(name: str) -> None:
    spec = yaml.safe_load((EXAMPLE / name).read_text())["spec"]
    _, *sent = spec["run"]["command"]
    assert sent
    own = {path.stem for path in EXAMPLE.glob("*.py")}
    lines = [line.split() for file in sent for line in (EXAMPLE / file).read_text().splitlines()]
    imported = {words[1] for words in lines if words[:1] in (["import"], ["from"])} & own
    assert imported <= {Path(file).stem for file in sent}
