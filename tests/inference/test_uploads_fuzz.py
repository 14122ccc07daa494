"""What nobody would send: whatever it is, it is refused in words, and nothing of it stays."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from af_inference.errors import Problem
from af_inference.outputs import chosen
from af_inference.tensors import Tensor
from af_inference.tfaas import fields, pictures, rows
from af_inference.unpack.__main__ import unpack
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.inference import onnx_models
from tests.support.inference.bundles import bundle, form, member, tar, tar_of
from tests.support.inference.pictures import picture
from tests.support.inference.serving import Running, config, serving

MOST = 1 << 20
NET = onnx_models.network()
GOOD = bundle(NET, labels="labels.txt")
FORM, FORM_HEADERS = form({"name": "net"}, {"model": ("m.onnx", NET.SerializeToString()), "params": ("p", b"{}")})
QUICK = settings(max_examples=50, deadline=None)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name) / "work"


def mutated(whole: bytes) -> st.SearchStrategy[bytes]:
    """Return bytes that were once ``whole``: parts replaced, put in, taken out, or cut off."""
    edit = st.tuples(st.integers(0, len(whole)), st.integers(0, 16), st.binary(max_size=16))

    def apply(edits: list[tuple[int, int, bytes]], end: int) -> bytes:
        changed = bytearray(whole)
        for place, length, put in edits:
            changed[place : place + length] = put
        return bytes(changed[:end])

    return st.builds(apply, st.lists(edit, min_size=1, max_size=4), st.integers(len(whole) // 2, len(whole) + 64))


def unpacks(body: bytes, content_type: str = "", encoding: str = "") -> None:
    """Unpack a body; what is refused is refused in words, and what is not has all its files below one directory."""
    with folder() as work:
        work.mkdir()
        (work / "body").write_bytes(body)
        with contextlib.suppress(Problem):
            found = unpack(work, (content_type, encoding, str(MOST)))
            assert set(found) == {"name", "format"}
        assert {path.name for path in work.iterdir()} <= {"body", "source"}
        assert {path.name for path in work.parent.iterdir()} == {"work"}
        written = [path for path in work.rglob("*") if path.name != "body"]
        assert not [path for path in written if path.is_symlink()]
        assert sum(path.stat().st_size for path in written if path.is_file()) <= 2 * MOST


names = st.one_of(
    st.sampled_from(
        [
            "n/model.onnx",
            "n",
            "n/",
            "./n/params.json",
            "n/labels.txt",
            "/n",
            "../n",
            "n/..",
            "n//m",
            ".",
            "",
            "n/./m",
            "C:\\m",
        ]
    ),
    st.text(st.characters(codec="utf-8"), max_size=12),
)
kinds = st.sampled_from([bytes([kind]) for kind in b"0\x001234567xgLKSVZ"])
members = st.builds(member, names, st.binary(max_size=64), kinds, st.sampled_from(["", "/etc/passwd", "../x"]))


@QUICK
@given(st.lists(members, max_size=6))
@example([member("n/params.json", b"", b"5", "")])
@example([member("n/model.onnx", b"", b"5", ""), member("n/labels.txt", b"", b"5", "")])
def test_archives_of_any_members(found: list[Any]) -> None:
    try:
        body = tar_of(found)
    except ValueError:  # a name that tarfile itself cannot write
        return
    unpacks(body)


@QUICK
@given(mutated(GOOD))
def test_mutated_archives(body: bytes) -> None:
    unpacks(body)


@QUICK
@given(mutated(FORM), st.sampled_from(["", "base64"]))
def test_mutated_forms(body: bytes, encoding: str) -> None:
    unpacks(body, FORM_HEADERS["Content-Type"], encoding)
    with contextlib.suppress(Problem):
        fields.parse(FORM_HEADERS["Content-Type"], body)


@QUICK
@given(st.text(max_size=60), st.binary(max_size=100))
def test_types_of_content(kind: str, body: bytes) -> None:
    unpacks(body, f"multipart/form-data{kind}")
    with contextlib.suppress(Problem):
        fields.parse(f"multipart/form-data{kind}".encode().decode("latin-1"), body)


@QUICK
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
@example({"labels": "x" * 300, "model": "y" * 300})
@example({"labels": "params.json"})
@example({"labels": "model.onnx"})
@example({"name": "n", "labels": "\ud800", "model": "\0"})
def test_params_of_any_json(said: Any) -> None:
    unpacks(tar({"n/model.onnx": b"x", "n/params.json": json.dumps(said).encode()}))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)
tensors = st.builds(
    Tensor,
    st.just("x"),
    st.sampled_from(["FP32", "FP64", "FP16", "INT64", "UINT8", "BOOL", "BYTES"]),
    st.lists(st.sampled_from([-1, 1, 3]), max_size=3).map(tuple),
)


@QUICK
@given(json_values, tensors)
def test_rows_of_any_json(values: Any, tensor: Tensor) -> None:
    body = json.dumps({"model": "m", "values": values}).encode()
    with contextlib.suppress(Problem):
        array, one = rows.feed(rows.from_json(body), tensor)
        assert array.ndim == len(tensor.shape)
        if array.dtype.kind != "O":
            rows.to_json(array, one and len(array) > 0)


@QUICK
@given(mutated(b'{"keys": ["a"], "values": [1.5, 2e10], "model": "net"}') | st.binary(max_size=60))
def test_bodies_that_are_nearly_json(body: bytes) -> None:
    with contextlib.suppress(Problem):
        rows.from_json(body)


@QUICK
@given(mutated(b"\x0a\x01a\x12\x08\0\0\x80?\0\0\0@\x1a\x03net") | st.binary(max_size=60))
def test_bodies_that_are_nearly_messages(body: bytes) -> None:
    with contextlib.suppress(Problem):
        assert rows.from_proto(body).values.dtype == np.float32


@QUICK
@given(st.sampled_from([picture(), picture("JPEG"), picture("PNG", "P"), picture("PNG", "1")]).flatmap(mutated))
def test_mutated_pictures(content: bytes) -> None:
    with contextlib.suppress(Problem):
        assert pictures.pixels(content, 3).shape[2] == 3


@given(
    st.lists(st.tuples(st.text(max_size=2), st.booleans()), min_size=1), st.none() | st.text(max_size=2) | st.integers()
)
def test_an_output_is_always_one_of_the_models(outputs: list[tuple[str, bool]], wanted: object) -> None:
    assert chosen(outputs, wanted) in dict(outputs)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    place = tmp_path_factory.mktemp("fuzz")
    (place / "store").mkdir()
    with serving(config(place, store=str(place / "store"), upload=True)) as running:
        yield running
    # Each is either a whole version, or was refused with nothing left.
    assert list((place / "store/.staging").iterdir()) == []
    assert all((version / "model.onnx").is_file() for version in (place / "store").glob("[!.]*/*"))
    shutil.rmtree(place)


@settings(max_examples=8, deadline=None)
@given(mutated(NET.SerializeToString()))
def test_mutated_models_are_taken_or_refused_by_the_real_child(server: Running, model: bytes) -> None:
    answer = server.ask("POST", "/upload", tar({"net/model.onnx": model}))
    assert answer.status in (200, 422), answer
    if answer.status == 200:
        assert server.post("/json", {"values": [0.0] * 20, "model": "net"}).status in (200, 400, 422, 500)
    assert server.ask("GET", "/models").status == 200
