"""Runs in the image inference_convert: models made by its TensorFlow go through its server, and so do hostile ones.

Prints one line of JSON: for each upload the answer's status and words, its seconds, and the largest difference of the
served predictions to the source's own. The two halves run in the image's two environments.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

WORK = Path("/work")
TOKEN = "t0ken"
PORT = 8000
CONVERTER = "/opt/convert/bin/python"
COLUMNS = 20


def make() -> None:
    """Write sources, and what each answers to the same rows; in the environment that has TensorFlow."""
    keras, np, tf = (import_module(name) for name in ("keras", "numpy", "tensorflow"))
    keras.utils.set_random_seed(11)
    dense = keras.layers.Dense
    model = keras.Sequential([keras.Input((COLUMNS,)), dense(64, "relu"), dense(1, "sigmoid")])
    rows = np.random.default_rng(5).standard_normal((100, COLUMNS)).astype(np.float32)
    expected = model(rows, training=False).numpy()
    np.savez(WORK / "expected.npz", rows=rows, expected=expected)

    folder(model.save, "keras", "model.keras")
    folder(model.export, "exported")
    folder(partial(tf.saved_model.save, model), "saved")
    frozen(tf, model)
    hostile(keras, tf)


def folder(save: Callable[[str], object], name: str, file: str = "") -> None:
    (WORK / "sources" / name).mkdir(parents=True)
    save(str(WORK / "sources" / name / file))


def frozen(tf: Any, model: Any) -> None:
    """Write TFaaS' first format, which is a graph with its weights in it."""
    constants = import_module("tensorflow.python.framework.convert_to_constants")
    spec = tf.TensorSpec([None, COLUMNS], tf.float32, name="inputs")
    constant = constants.convert_variables_to_constants_v2(tf.function(model).get_concrete_function(spec))
    path = WORK / "sources/frozen"
    path.mkdir()
    tf.io.write_graph(constant.graph, str(path), "tf_model.pb", as_text=False)
    nodes = {"input_node": constant.inputs[0].op.name, "output_node": constant.outputs[0].op.name}
    (path / "params.json").write_text(json.dumps({"name": "frozen", **nodes}))


def hostile(keras: Any, tf: Any) -> None:
    """Write models that are programs."""
    code = keras.Sequential([keras.Input((COLUMNS,)), keras.layers.Lambda(lambda x: x * 2)])
    folder(code.save, "code", "model.keras")

    class Reads(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, COLUMNS], tf.float32)])
        def __call__(self, x: Any) -> Any:
            return {"y": x + tf.cast(tf.strings.length(tf.io.read_file(str(WORK / "token"))), tf.float32)}

    class Writes(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, COLUMNS], tf.float32)])
        def __call__(self, x: Any) -> Any:
            with tf.control_dependencies([tf.io.write_file(str(WORK / "written"), "x")]):
                return {"y": x + 1.0}

    for kind in (Reads, Writes):
        module = kind()
        folder(partial(tf.saved_model.save, module, signatures=module.__call__), kind.__name__.lower())


def serve() -> None:
    """Upload each source to the image's server, and ask it the rows."""
    np = import_module("numpy")
    (WORK / "token").write_text(TOKEN)
    (WORK / "store").mkdir()
    settings = {"host": "127.0.0.1", "token": str(WORK / "token"), "store": str(WORK / "store"), "upload": True}
    (WORK / "config.json").write_text(json.dumps(settings))
    environment = {**os.environ, "AF_INFERENCE_CONFIG": str(WORK / "config.json")}
    with np.load(WORK / "expected.npz") as known:
        rows, expected = known["rows"], known["expected"]
    server = subprocess.Popen([sys.executable, "-m", "af_inference"], env=environment)
    try:
        wait()
        found = {path.name: one(path, rows.tolist(), expected, np) for path in sorted((WORK / "sources").iterdir())}
    finally:
        server.terminate()
    found["written"] = (WORK / "written").exists()
    found["server"] = server.wait(30)
    print(json.dumps(found), flush=True)


def one(source: Path, rows: list[list[float]], expected: Any, np: Any) -> dict[str, Any]:
    began = time.monotonic()
    status, words = ask("/upload", archive(source), {"Content-Encoding": "gzip"})
    said = {"status": status, "words": words, "seconds": time.monotonic() - began}
    if status == 200:
        status, words = ask("/json", json.dumps({"values": rows, "model": source.name}).encode())
        said["difference"] = float(np.abs(np.array(json.loads(words), np.float32) - expected).max())
    return said


def archive(source: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as opened:
        opened.add(source, source.name)
    return buffer.getvalue()


def ask(path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=300)
    with contextlib.closing(connection):
        headers = {"Authorization": f"Bearer {TOKEN}", **(headers or {})}
        connection.request("GET" if body is None else "POST", path, body, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()


def wait() -> None:
    for _ in range(300):
        with contextlib.suppress(OSError):
            if ask("/v2/health/ready")[0] == 200:
                return
        time.sleep(0.1)
    raise TimeoutError("the server is not ready")


if __name__ == "__main__":
    if sys.argv[1:] == ["make"]:
        make()
    else:
        subprocess.run([CONVERTER, __file__, "make"], check=True, env={**os.environ, "KERAS_HOME": str(WORK)})
        serve()
