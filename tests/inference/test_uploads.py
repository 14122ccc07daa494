"""Models that are sent to a real server: taken, or refused with nothing left."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from af_inference.errors import Problem
from af_inference.unpack.__main__ import unpack

from tests.support.inference import onnx_models
from tests.support.inference.bundles import bundle, form, gzipped, member, tar, tar_of
from tests.support.inference.serving import Answer, Running, config, serving

MIB = 1 << 20
LIMITS = {"upload": 4 * MIB, "model": 8 * MIB, "load_seconds": 30, "conversion": 512 * MIB}
LINEAR = onnx_models.linear().SerializeToString()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Running]:
    (place / "store").mkdir()
    onnx_models.put(place / "catalogue", onnx_models.linear())
    models = [{"name": "catalogue", "path": str(place / "catalogue")}]
    with serving(config(place, models=models, store=str(place / "store"), upload=True, limits=LIMITS)) as running:
        yield running


@pytest.fixture
def store(place: Path) -> Iterator[Path]:
    yield place / "store"
    # Whatever a test did: nothing is left of it but whole versions.
    assert left(place / "store") == []


def left(store: Path) -> list[str]:
    """Return what lies in a store and is no whole version."""
    staged = store / ".staging"
    halves = [str(path) for path in staged.iterdir()] if staged.exists() else []
    return halves + [str(path) for path in store.glob("[!.]*/*") if not (path / "model.onnx").is_file()]


def upload(server: Running, body: bytes, query: str = "", **headers: str) -> Answer:
    return server.ask("POST", f"/upload{query}", body, {k.replace("_", "-"): v for k, v in headers.items()})


def refused(answer: Answer, status: int, words: str) -> None:
    assert (answer.status, words in answer.json["error"]) == (status, True), answer


def params(name: str, **more: object) -> bytes:
    return json.dumps({"name": name, **more}).encode()


# --- taken ----------------------------------------------------------------------------------------------------------


def test_an_archive_serves_at_once(server: Running, store: Path) -> None:
    said = b'{ "name": "first",\n "description": "of the tests" }'
    answer = upload(server, gzipped({"x/model.onnx": LINEAR, "x/params.json": said}), Content_Encoding="gzip")
    assert (answer.status, answer.body, answer.headers["x-model-version"]) == (200, b"", "1")
    assert server.post("/json", {"values": [1, 2, 3, 4], "model": "first"}).json == [10.0]
    assert server.ask("GET", "/params/first").body == said
    listed = {model["name"]: model["description"] for model in server.ask("GET", "/models").json}
    assert listed["first"] == "of the tests"
    assert sorted(path.name for path in (store / "first/1").iterdir()) == ["model.onnx", "params.json"]


@pytest.mark.usefixtures("store")
def test_an_archive_is_taken_plain_or_gzipped_whatever_its_header_says(server: Running) -> None:
    files = {"plain/model.onnx": LINEAR}
    assert upload(server, tar(files), Content_Encoding="gzip").status == 200
    assert upload(server, gzipped(files)).status == 200
    assert upload(server, tar({"model.onnx": LINEAR, "params.json": params("plain")})).status == 200
    assert server.ask("GET", "/v2/models/plain").json["versions"] == ["1", "2", "3"]
    refused(upload(server, tar({"model.onnx": LINEAR})), 400, "nothing names the model")


@pytest.mark.usefixtures("store")
def test_a_new_upload_is_the_next_version_and_a_version_never_changes(server: Running) -> None:
    for scale in (1.0, 2.0):
        assert upload(server, bundle(onnx_models.linear(scale=scale), "grows")).status == 200
    assert server.post("/json", {"values": [1, 1, 1, 1], "model": "grows"}).json == [8.0]
    refused(upload(server, bundle(onnx_models.linear(), "grows"), "?version=1"), 409, "never changes: take 3")
    assert upload(server, bundle(onnx_models.linear(scale=3), "grows"), "?version=7").headers["x-model-version"] == "7"
    refused(upload(server, bundle(onnx_models.linear(), "grows"), "?version=../8"), 400, "whole number")
    refused(upload(server, bundle(onnx_models.linear(), "catalogue")), 409, "catalogue")


def test_the_form_of_curl_and_its_labels(server: Running, store: Path) -> None:
    files = {
        "params": ("params.json", params("formed", labels="labels.txt")),
        "model": ("some.onnx", LINEAR),
        "labels": ("labels.txt", b"muon\nelectron"),
    }
    body, headers = form({"name": "formed"}, files)
    assert server.ask("POST", "/upload", body, headers).status == 200
    assert (store / "formed/1/labels.txt").read_bytes() == b"muon\nelectron"
    body, headers = form({"name": "other"}, files)
    refused(server.ask("POST", "/upload", body, headers), 400, "other")


@pytest.mark.usefixtures("store")
def test_a_form_with_its_model_in_base64(server: Running) -> None:
    files = {
        "params": ("params.json", params("lines")),
        "model": ("m.onnx", base64.encodebytes(LINEAR)),
        "op": ("op", b""),
    }
    body, headers = form({}, files)
    assert server.ask("POST", "/upload", body, {**headers, "Content-Encoding": "base64"}).status == 200
    assert server.post("/json", {"values": [1, 1, 1, 1], "model": "lines"}).json == [4.0]
    files["model"] = ("m.onnx", base64.encodebytes(LINEAR)[:-3])
    body, headers = form({}, files)
    refused(server.ask("POST", "/upload", body, {**headers, "Content-Encoding": "base64"}), 400, "base64")


# --- compared -------------------------------------------------------------------------------------------------------


def sampled(difference: float = 0.0, **more: object) -> bytes:
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((50, 4))
    arrays = io.BytesIO()
    np.savez(arrays, input=rows, output=rows.astype(np.float32).sum(axis=1, keepdims=True) * (1 + difference), **more)
    return arrays.getvalue()


@pytest.mark.usefixtures("store")
def test_a_sample_is_compared_with_the_models_own_answers(server: Running) -> None:
    files = {"same/model.onnx": LINEAR, "same/sample.npz": sampled()}
    assert upload(server, tar(files)).status == 200
    refused(upload(server, tar({**files, "same/sample.npz": sampled(1e-3)})), 422, "differ from the source's by")
    refused(upload(server, tar({**files, "same/sample.npz": sampled(float("nan"))})), 422, "by inf")
    refused(upload(server, tar({**files, "same/sample.npz": b"PK\x03\x04 no"})), 422, "numpy.savez")
    refused(upload(server, tar({**files, "same/sample.npz": sampled(y=np.ones(3))})), 422, "with shape")


@pytest.mark.usefixtures("store")
def test_a_sample_is_no_pickle(server: Running, tmp_path: Path) -> None:
    class Program:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    arrays = io.BytesIO()
    np.savez(arrays, input=np.array([Program()], dtype=object))
    refused(upload(server, tar({"p/model.onnx": LINEAR, "p/sample.npz": arrays.getvalue()})), 422, "numpy.savez")
    assert not (tmp_path / "ran").exists()


def open_picture() -> onnx.ModelProto:
    """Return a convolution, which has no answer to a picture of one pixel."""
    weight = onnx.numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "w")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["x", "w"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 1, "H", "W"])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 1, "A", "B"])],
        [weight],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.usefixtures("store")
def test_a_model_of_pictures_of_any_size_is_tried_at_some(server: Running) -> None:
    assert upload(server, bundle(open_picture(), "convolution")).status == 200


def test_labels_have_the_name_that_params_give_them(server: Running, store: Path) -> None:
    said = params("named", labels="classes.csv")
    files = {"n/model.onnx": LINEAR, "n/params.json": said, "n/classes.csv": b"muon"}
    assert upload(server, tar(files)).status == 200
    assert (store / "named/1/labels.txt").read_bytes() == b"muon"


# --- refused --------------------------------------------------------------------------------------------------------


def bomb() -> bytes:
    return gzip.compress(tar({"b/model.onnx": bytes(64 * MIB)}))


ARCHIVES = {
    "nonsense": (b"\x00\xff" * 400, 400, "no tar archive"),
    "half": (gzipped({"h/model.onnx": LINEAR})[:-20], 400, "no tar archive"),
    "no-model": (tar({"n/params.json": params("n")}), 422, "there is no model.onnx"),
    "pickle": (tar({"n/model.pkl": b"\x80\x04."}), 422, "af models push"),
    "hdf5": (tar({"n/model.h5": b"\x89HDF"}), 422, "af models push"),
    "params": (tar({"n/model.onnx": LINEAR, "n/params.json": b"[]"}), 422, "must be an object"),
    "params-deep": (tar({"n/model.onnx": LINEAR, "n/params.json": b"[" * 60_000}), 422, "no JSON"),
    "params-long": (tar({"n/model.onnx": LINEAR, "n/params.json": b" " * 70_000}), 400, "65536"),
    "params-directory": (
        tar_of([member("n/params.json", kind=tarfile.DIRTYPE), member("n/model.onnx", LINEAR)]),
        400,
        "params.json is a directory",
    ),
    "labels-model": (
        tar({"n/model.onnx": LINEAR, "n/params.json": b'{"labels": "model.onnx"}'}),
        400,
        "labels are in model.onnx: put them into a file of their own",
    ),
    "labels-params": (
        tar({"n/model.onnx": LINEAR, "n/params.json": b'{"labels": "params.json"}'}),
        400,
        "labels are in params.json",
    ),
    "name-number": (tar({"n/model.onnx": LINEAR, "n/params.json": b'{"name": 5}'}), 400, "nothing names"),
    "absolute": (tar({"/etc/model.onnx": LINEAR}), 400, "leads out"),
    "parent": (tar({"n/../../model.onnx": LINEAR}), 400, "leads out"),
    "backslash": (tar({"n\\..\\model.onnx": LINEAR}), 400, "leads out"),
    "control": (tar({"n/mod\nel.onnx": LINEAR}), 400, "leads out"),
    "deep": (tar({"/".join("abcdefghij") + "/model.onnx": LINEAR}), 400, "deeper"),
    "long": (tar({"n/" + "x" * 250: b""}), 400, "longer"),
    "twice": (tar_of([member("n/model.onnx", LINEAR)] * 2), 400, "twice"),
    "file-and-directory": (tar({"n": b"", "n/model.onnx": LINEAR}), 400, "twice"),
    "hardlink": (tar_of([member("n/model.onnx", kind=tarfile.LNKTYPE, link="/etc/passwd")]), 400, "is a link"),
    "device": (tar_of([member("n/model.onnx", kind=tarfile.CHRTYPE)]), 400, "is a link, a device"),
    "pipe": (tar_of([member("n/model.onnx", kind=tarfile.FIFOTYPE)]), 400, "is a link, a device"),
    "sparse": (tar_of([member("n/model.onnx", b"x" * 512, kind=tarfile.GNUTYPE_SPARSE)]), 400, "sparse"),
    "many": (tar({f"n/{number}": b"" for number in range(1100)}), 413, "1000 members"),
}
UPLOADS = {
    "nothing": (b"", 400, "empty"),
    "no-onnx": (tar({"n/model.onnx": b"nonsense"}), 422, "onnxruntime cannot load it"),
    "empty-onnx": (tar({"n/model.onnx": b""}), 422, "onnxruntime cannot load it"),
    "keras": (tar({"n/model.keras": b"PK"}), 422, "this server takes ONNX"),
    "labels-long": (tar({"n/model.onnx": LINEAR, "n/labels.txt": b"x" * 2 * MIB}), 422, "labels.txt has more"),
    "name": (tar({"n/model.onnx": LINEAR, "n/params.json": params("../n")}), 400, "name has up to"),
    "name-long": (tar({"n/model.onnx": LINEAR, "n/params.json": params("n" * 64)}), 400, "name has up to"),
    "symlink": (tar_of([member("n/model.onnx", kind=tarfile.SYMTYPE, link="/etc/passwd")]), 400, "is a link"),
    "bomb": (bomb(), 413, "unpacks to more than"),
    "large": (bytes(5 * MIB), 413, "may have 4194304 bytes"),
}


@pytest.mark.parametrize(("body", "status", "words"), ARCHIVES.values(), ids=ARCHIVES.keys())
def test_an_archive_that_is_none_is_refused(tmp_path: Path, body: bytes, status: int, words: str) -> None:
    """As the child does it, without its start."""
    (tmp_path / "body").write_bytes(body)
    with pytest.raises(Problem, match=words) as caught:
        unpack(tmp_path, ("", "", str(LIMITS["model"])))
    assert caught.value.status == status
    assert {path.name for path in tmp_path.iterdir()} <= {"body", "source"}


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(("body", "status", "words"), UPLOADS.values(), ids=UPLOADS.keys())
def test_an_upload_that_is_none_is_refused(server: Running, body: bytes, status: int, words: str) -> None:
    refused(upload(server, body), status, words)


def model_of(nodes: list[onnx.NodeProto], kind: int = onnx.TensorProto.FLOAT) -> bytes:
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("x", kind, ["N", 2])],
        [onnx.helper.make_tensor_value_info("y", kind, ["N", 2])],
    )
    imports = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("custom", 1)]
    return bytes(onnx.helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString())


MODELS = {
    "custom": (model_of([onnx.helper.make_node("Mine", ["x"], ["y"], domain="custom")]), "onnxruntime cannot load it"),
    "outside": (onnx_models.external("../../../../etc/passwd").SerializeToString(), "onnxruntime cannot load it"),
    "absolute": (onnx_models.external("/etc/passwd").SerializeToString(), "onnxruntime cannot load it"),
    "beside": (onnx_models.external("weights").SerializeToString(), "onnxruntime cannot load it"),
    "sequence": (model_of([onnx.helper.make_node("SequenceConstruct", ["x"], ["y"])]), "cannot load it"),
    "fails": (onnx_models.looked_up(1).SerializeToString(), "it does not run on i int64[3, 1]"),
}


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(("model", "words"), MODELS.values(), ids=MODELS.keys())
def test_a_model_that_cannot_be_served_is_refused(server: Running, model: bytes, words: str) -> None:
    refused(upload(server, tar({"m/model.onnx": model, "m/weights": bytes(16)})), 422, words)


@pytest.mark.usefixtures("store")
def test_an_encoding_that_is_not_known_is_refused_before_the_body_is_read(server: Running) -> None:
    refused(upload(server, b"x", Content_Encoding="zstd"), 415, "gzip")


@pytest.mark.usefixtures("store")
def test_a_form_that_is_none_is_refused(server: Running) -> None:
    for kind in ("multipart/form-data", "multipart/form-data; boundary=é", "multipart/form-data; boundary=x"):
        refused(upload(server, b"--y\r\nx", Content_Type=kind), 400, "no multipart form")
    body, headers = form({}, {"model": ("m.exe", LINEAR), "params": ("p", params("f"))})
    refused(server.ask("POST", "/upload", body, headers), 422, "there is no model.onnx")
    body, headers = form({str(n): "" for n in range(200)}, {})
    refused(server.ask("POST", "/upload", body, headers), 413, "parts")


@pytest.mark.usefixtures("store")
def test_a_model_that_fails_leaves_what_serves(server: Running) -> None:
    assert upload(server, bundle(onnx_models.linear(), "stays")).status == 200
    refused(upload(server, tar({"stays/model.onnx": b"nonsense"})), 422, "cannot load")
    assert server.post("/json", {"values": [1, 1, 1, 1], "model": "stays"}).json == [4.0]
    assert upload(server, bundle(onnx_models.linear(), "stays")).headers["x-model-version"] == "2"


# --- away -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("store")
def test_a_deleted_model_answers_no_more_and_its_versions_never_come_back(server: Running) -> None:
    assert upload(server, bundle(onnx_models.linear(), "goes")).status == 200
    body, headers = form({"model": "goes"}, {})
    assert server.ask("DELETE", "/delete", body, headers).body == b""
    assert server.post("/json", {"values": [1, 1, 1, 1], "model": "goes"}).status == 404
    assert server.ask("DELETE", "/delete/goes").status == 200  # like upstream: it is not there
    assert upload(server, bundle(onnx_models.linear(scale=2), "goes")).headers["x-model-version"] == "2"
    assert upload(server, bundle(onnx_models.linear(scale=3), "goes")).headers["x-model-version"] == "3"
    assert server.ask("DELETE", "/delete/goes?version=3").status == 200
    assert server.post("/json", {"values": [1, 1, 1, 1], "model": "goes"}).json == [8.0]
    refused(server.ask("DELETE", "/delete/catalogue"), 409, "catalogue")
    body, headers = form({}, {})
    assert server.ask("DELETE", "/delete", body, headers).status == 400


@pytest.mark.usefixtures("store")
def test_uploads_and_deletes_of_one_model_at_once_end_whole(server: Running) -> None:
    answers: list[int] = []

    def repeat(kind: str) -> None:
        for number in range(3):
            if kind == "upload":
                answers.append(upload(server, bundle(onnx_models.linear(scale=number), "busy")).status)
            elif kind == "delete":
                answers.append(server.ask("DELETE", "/delete/busy").status)
            else:
                answers.append(server.post("/json", {"values": [1, 1, 1, 1], "model": "busy"}).status)

    threads = [threading.Thread(target=repeat, args=(kind,)) for kind in ("upload", "upload", "delete", "ask", "ask")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {200, 404}
    last = upload(server, bundle(onnx_models.linear(scale=9), "busy"))
    assert int(last.headers["x-model-version"]) == 7  # a number for each of the six, none of them twice
    assert server.post("/json", {"values": [1, 1, 1, 1], "model": "busy"}).json == [36.0]
