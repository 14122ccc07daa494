"""TFaaS' routes, as its clients see them."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from af_inference.app import application
from af_inference.server import Server
from af_inference.settings import load
from af_inference.tfaas import rows
from af_inference.tfaas.model import Models
from numpy.typing import NDArray
from PIL import Image

from local_cluster.processes import poll
from tests.support.inference import onnx_models
from tests.support.inference.bundles import BOUNDARY, form
from tests.support.inference.pictures import picture, png_header
from tests.support.inference.serving import Answer, Running, config, serving

CLASSES = ["muon", "electron", "photon", "tau", "jet", "nothing"]


MODELS = {
    "linear": (onnx_models.linear(), None),
    "counts": (onnx_models.identity("INT64"), None),
    "words": (onnx_models.identity("STRING"), None),
    "pair": (onnx_models.two_inputs(), None),
    "table": (onnx_models.looked_up(), None),
    "classes": (onnx_models.classifier(), None),
    "labels": (onnx_models.classifier(), {"output_name": "label"}),
    "hits": (onnx_models.colours(3), {"img_channels": 3}),
    "grey": (onnx_models.colours(1), {}),
    "frozen": (onnx_models.colours(3), {"img_channels": 3, "input_node": "x", "output_node": "y"}),
    "broken": (onnx_models.linear(), "no JSON"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("tfaas")
    for name, (model, params) in MODELS.items():
        onnx_models.put(folder / name, model)
        if params is not None:
            text = params if isinstance(params, str) else json.dumps({"name": name, **params})
            (folder / name / "params.json").write_text(text)
    (folder / "frozen/labels.txt").write_text("\n".join(CLASSES))
    models = [{"name": name, "path": str(folder / name)} for name in MODELS]
    with serving(config(folder, models=models, base="/tfaas")) as running:
        yield running


def ask(server: Running, path: str, values: Any, model: str = "linear") -> Answer:
    return server.post(f"/tfaas{path}", {"keys": ["a", "b"], "values": values, "model": model})


def error(answer: Answer) -> str:
    assert answer.headers["content-type"] == "application/json"
    (key, words), *rest = answer.json.items()
    assert (key, rest) == ("error", [])
    return str(words)


# --- rows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/json", "/predict/json"])
def test_one_row_is_answered_by_the_first_row_of_the_output(server: Running, path: str) -> None:
    answer = ask(server, path, [1, 2.5, 3, 0.1])
    assert (answer.status, answer.body) == (200, b"[6.6]\n")  # the fewest digits that are that float32
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_rows_are_answered_each(server: Running) -> None:
    assert ask(server, "/json", [[1, 2, 3, 4], [0, 0, 0, 0.5]]).json == [[10.0], [0.5]]


def test_the_type_of_the_content_is_not_looked_at_and_neither_is_the_case_of_keys(server: Running) -> None:
    body = json.dumps({"KEYS": [], "Values": [1, 1, 1, 1], "mOdel": "linear", "more": None}).encode()
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
        answer = server.ask("POST", "/tfaas/json", body, {"Content-Type": kind})
        assert answer.json == [4.0]


@pytest.mark.parametrize(
    ("values", "model", "status", "words"),
    [
        ([1, 2, 3], "linear", 400, r"shape \[-1, 4\].*not \[1, 3\]"),
        ([[1, 2], [3]], "linear", 400, "same number"),
        ([[[1, 2, 3, 4]]], "linear", 400, "one row or a list of rows"),
        ([], "linear", 400, "shape"),
        ([[]], "linear", 400, "shape"),
        (["1", "2", "3", "4"], "linear", 400, "numbers"),
        ([None, 1, 1, 1], "linear", 400, "numbers"),
        ([[1, 2, 3, 4], 5], "linear", 400, "numbers"),
        ([True, False, True, True], "linear", 400, "numbers"),
        ([{}, 1, 1, 1], "linear", 400, "numbers"),
        (["x" * 1_000_000, *[1] * 1_000_000], "linear", 400, "numbers"),
        ([[[[[[[[[[1]]]]]]]]]], "linear", 400, "numbers"),
        ([1] * 9_000_000, "linear", 413, "bytes"),
        ({"a": 1}, "linear", 400, "list"),
        (None, "linear", 400, "list"),
        ("1234", "linear", 400, "list"),
        ([1] * 100_001, "linear", 400, "shape"),
        ([1e300, 1, 1, 1], "linear", 422, "not finite"),
        ([1.5, 2], "counts", 400, "INT64"),
        ([1, 2], "pair", 400, "inputs a, b"),
        ([1, 2], "words", 400, "text"),
        ([7], "table", 400, "refuses this input|indices element out of data bounds"),
        ([1, 2, 3, 4], "nothing", 404, "'nothing'; there are: broken, classes, "),
        ([1, 2, 3, 4], "", 404, "no model is named; there are: broken"),
        ([1, 2, 3, 4], "../linear", 404, "no model"),
        ([1, 2, 3, 4], 5, 400, "name"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(
    server: Running, values: Any, model: Any, status: int, words: str
) -> None:
    answer = ask(server, "/json", values, model)
    assert answer.status == status
    assert re.search(words, error(answer))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b"\xff", b"{}", b'{"model": "linear"}', b"[" * 100_000])
def test_what_is_no_row_is_refused(server: Running, body: bytes) -> None:
    answer = server.ask("POST", "/tfaas/json", body)
    assert answer.status in (400, 404)
    assert error(answer)


def test_integers_go_to_a_model_of_integers(server: Running) -> None:
    assert ask(server, "/json", [3, 4], "counts").json == [3, 4]
    assert ask(server, "/json", [3.0, 4.0], "counts").json == [3, 4]


def test_of_several_outputs_the_probabilities_are_the_answer_unless_another_is_named(server: Running) -> None:
    assert ask(server, "/json", [0, 0], "classes").json == [0.5, 0.5]
    assert ask(server, "/json", [0, 1], "labels").json == [1]
    assert ask(server, "/json", [[0, 1], [1, 0]], "labels").json == [1, 0]


# --- protobuf -------------------------------------------------------------------------------------------------------


def row(values: list[float], model: str = "linear") -> bytes:
    return bytes(rows._ROW(key=["a"] * len(values), value=values, model=model).SerializeToString())


@pytest.mark.parametrize("path", ["/proto", "/predict/proto"])
def test_a_row_in_a_message_is_answered_by_a_message(server: Running, path: str) -> None:
    # What upstream's C++ client says, whose type libcurl makes up; and the wire format, written out.
    body = b"\x0a\x01a\x0a\x01b\x12\x10" + np.array([1, 2, 3, 0.5], "<f4").tobytes() + b"\x1a\x06linear"
    answer = server.ask("POST", f"/tfaas{path}", body, {"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.status == 200
    assert answer.body == b"\x0a\x05\x15" + np.array([6.5], "<f4").tobytes()


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 404, "no model"),
        (b"\xff\xff", 400, "tfaaspb.Row"),
        (row([1, 2]), 400, "shape"),
        (row([float("nan"), 1, 1, 1]), 422, "not finite"),
        (row([1, 1, 1, 1], "nothing"), 404, "there are"),
        (row([1, 2], "words"), 400, "text"),
        (b"\x0a\x00" * 100_001, 413, "keys"),
        (bytes(9 << 20), 413, "bytes"),
    ],
)
def test_a_message_that_does_not_fit_is_refused(server: Running, body: bytes, status: int, words: str) -> None:
    answer = server.ask("POST", "/tfaas/proto", body)
    assert answer.status == status
    assert words in error(answer)


# --- pictures -------------------------------------------------------------------------------------------------------


def show(server: Running, content: bytes, model: str = "hits", name: str = "hits.png", query: str = "") -> Answer:
    body, headers = form({"model": model} if model else {}, {"image": (name, content)})
    return server.ask("POST", f"/tfaas/image{query}", body, headers)


def test_a_picture_is_answered_with_the_output(server: Running) -> None:
    assert show(server, picture()).json == [10.0, 200.0, 90.0, 300.0]
    assert show(server, picture(), model="", query="?model=hits").json == [10.0, 200.0, 90.0, 300.0]
    assert show(server, picture(mode="RGBA")).json == [10.0, 200.0, 90.0, 300.0]


def test_a_jpeg_is_a_picture_whatever_it_is_called(server: Running) -> None:
    found = np.array(show(server, picture("JPEG"), name="hits").json)
    assert np.abs(found - [10, 200, 90, 300]).max() < 4


def test_a_grey_model_sees_a_picture_in_grey(server: Running) -> None:
    expected = float(np.asarray(Image.new("RGB", (1, 1), (10, 200, 90)).convert("L"))[0, 0])
    assert show(server, picture(), "grey").json == [expected, expected]


def test_a_frozen_graph_is_answered_with_its_best_labels(server: Running) -> None:
    answer = show(server, picture(), "frozen", name="event 1.png").json
    assert answer == {
        "filename": "event 1.png",
        "labels": [
            {"label": "tau", "probability": 300.0},
            {"label": "electron", "probability": 200.0},
            {"label": "photon", "probability": 90.0},
            {"label": "muon", "probability": 10.0},
        ],
    }


@pytest.mark.parametrize(
    ("content", "model", "status", "words"),
    [
        (b"", "hits", 400, "PNG or a JPEG"),
        (b"GIF89a", "hits", 400, "PNG or a JPEG"),
        (picture()[:45], "hits", 400, "PNG or a JPEG"),
        (picture("GIF"), "hits", 400, "PNG or a JPEG"),
        (png_header(60_000, 60_000), "hits", 413, "pixels"),
        (picture(), "nothing", 404, "there are"),
        (picture(), "pair", 400, "inputs a, b"),
        (picture(), "linear", 400, "shape"),
        (picture(), "classes", 400, "img_channels"),
    ],
    ids=["nothing", "head", "part", "gif", "huge", "no-model", "two-inputs", "rows", "no-channels"],
)
def test_what_is_no_picture_for_the_model_is_refused(
    server: Running, content: bytes, model: str, status: int, words: str
) -> None:
    answer = show(server, content, model)
    assert answer.status == status
    assert words in error(answer)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", f"multipart/form-data; boundary={BOUNDARY}", 404),
        (b"nonsense", f"multipart/form-data; boundary={BOUNDARY}", 400),
        (b"--x\r\n\r\n", "multipart/form-data", 400),
        (b"--x\r\n\r\n", "multipart/form-data; boundary=" + "x" * 1000, 400),
        (b"{}", "application/json", 400),
        (form({str(n): "x" for n in range(40)}, {})[0], f"multipart/form-data; boundary={BOUNDARY}", 413),
        (form({"model": "hits"}, {})[0], f"multipart/form-data; boundary={BOUNDARY}", 400),
    ],
)
def test_what_is_no_form_is_refused(server: Running, body: bytes, kind: str, status: int) -> None:
    answer = server.ask("POST", "/tfaas/image", body, {"Content-Type": kind})
    assert answer.status == status
    assert error(answer)


# --- what there is --------------------------------------------------------------------------------------------------


def test_models_are_listed_with_all_keys_of_upstream(server: Running) -> None:
    answer = server.ask("GET", "/tfaas/models")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.body.endswith(b"]\n")
    listed = {model["name"]: model for model in answer.json}
    assert list(listed) == sorted(MODELS)
    assert list(listed["frozen"].items()) == [
        ("name", "frozen"),
        ("model", ""),
        ("labels", ""),
        ("op", ""),
        ("input_name", ""),
        ("output_name", ""),
        ("img_channels", 3),
        ("options", None),
        ("input_node", "x"),
        ("output_node", "y"),
        ("description", ""),
        ("timestamp", ""),
    ]


def test_no_models_are_null(tmp_path: Path) -> None:
    with serving(config(tmp_path)) as server:
        assert server.ask("GET", "/models").body == b"null\n"


def test_params_are_shown_as_they_were_written(server: Running) -> None:
    assert server.ask("GET", "/tfaas/params/hits").body == b'{"name": "hits", "img_channels": 3}'
    assert server.ask("GET", "/tfaas/params/linear").json == {"name": "linear"}
    missing = server.ask("GET", "/tfaas/params/nothing")
    assert missing.status == 404
    assert "there are: broken" in error(missing)


def test_status_is_a_sign_of_life(server: Running) -> None:
    said = server.ask("GET", "/tfaas/status").json
    assert said["NGo"] > 0
    assert said["Memory"]["Virtual"]["total"] > said["Memory"]["Virtual"]["free"] > 0
    assert said["Uptime"] > 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/tfaas/params", 405),
        ("GET", "/tfaas/json", 405),
        ("PUT", "/tfaas/predict/proto", 405),
        ("GET", "/tfaas/upload", 405),
        ("POST", "/tfaas/models", 405),
        ("GET", "/tfaas/data?model=/etc/passwd", 404),
        ("GET", "/tfaas/download/", 404),
        ("GET", "/tfaas/netron/", 404),
        ("GET", "/tfaas/", 404),
        ("GET", "/models", 404),
        ("POST", "/json", 404),
        ("POST", "/tfaas/upload", 403),
        ("DELETE", "/tfaas/delete/linear", 403),
    ],
)
def test_other_routes_and_methods(server: Running, method: str, path: str, status: int) -> None:
    answer = server.ask(method, path, b"")
    assert answer.status == status
    assert error(answer)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/json"),
        ("POST", "/proto"),
        ("POST", "/image"),
        ("POST", "/upload"),
        ("GET", "/models"),
        ("GET", "/params/linear"),
        ("GET", "/status"),
        ("DELETE", "/delete/linear"),
        ("GET", "/openapi.json"),
    ],
)
def test_nothing_is_answered_without_the_token(server: Running, method: str, path: str) -> None:
    for wrong in ("", "Bearer x", "Basic eDp4"):
        assert server.ask(method, f"/tfaas{path}", b"{}", {"Authorization": wrong}).status == 401


def test_all_routes_are_described(server: Running, tmp_path: Path) -> None:
    described = server.ask("GET", "/tfaas/openapi.json").json
    assert described["servers"] == [{"url": "/tfaas"}]
    app = application(Server.of(load(config(tmp_path))))
    routed = {path: methods - {"HEAD"} for path, methods in _routes(app._rest)}
    # Triton's clients ask for both; no model has its params set; who reads the document knows where it is.
    for path in ("/v2/", "/params", "/openapi.json"):
        del routed[path]
    for stem in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        routed[f"{stem}/infer"] = {"POST"}  # on bare ASGI, and by its path
    assert {path: {method.upper() for method in said} for path, said in described["paths"].items()} == routed


def _routes(app: Any) -> Iterator[tuple[str, set[str]]]:
    return ((route.path, set(route.methods or {"POST"})) for route in app.routes)


# --- one function ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "one", "text"),
    [
        (np.array([[0.719595]], np.float32), True, b"[0.719595]\n"),
        (np.array([0.5, 1.0], np.float32), True, b"[0.5]\n"),
        (np.array([0.5, 1.0], np.float32), False, b"[0.5,1.0]\n"),
        (np.array([[0.5], [1.0]], np.float16), False, b"[[0.5],[1.0]]\n"),
        (np.array([[1, 2]], np.int64).T[:1], True, b"[1]\n"),
        (np.array([["a", b"b"]], object), True, b'["a","b"]\n'),
    ],
)
def test_answers_in_json(output: NDArray[Any], one: bool, text: bytes) -> None:
    assert rows.to_json(output, one) == text


async def test_what_is_known_of_a_model_keeps_it_not_loaded(tmp_path: Path) -> None:
    onnx_models.put(tmp_path / "linear", onnx_models.linear())
    server = Server.of(load(config(tmp_path, models=[{"name": "linear", "path": str(tmp_path / "linear")}])))
    models = Models(server.registry)
    served = weakref.ref((await models.get("linear")).served)
    assert (await models.get("linear")).single is (await models.get("linear")).single
    server.registry.unload("linear")

    def is_gone() -> bool:
        gc.collect()
        return served() is None

    # The thread that has looked at it answers, and lets go of it a moment later.
    assert await asyncio.to_thread(poll, is_gone, 5, 0.02)
