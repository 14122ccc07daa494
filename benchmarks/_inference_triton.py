"""The Triton server that is in pytriton's wheel: to measure it and to compare with it, on loopback, and nowhere else.

It is of 2024 and has holes that are known; nothing of it is in any image.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks._inference_load import MODEL, Server
from benchmarks._inference_servers import running
from tests.support.inference import onnx_models
from tests.support.inference.serving import free_port

TRITON = ("nvidia-pytriton==0.7.0", "numpy<2", "onnxruntime==1.22.1")  # with numpy 2 its input is garbled
PROGRAM = Path(__file__).with_name("_inference_triton_model.py")
_CONFIG = """
backend: "python"
max_batch_size: 8192
input [{ name: "x" data_type: TYPE_FP32 dims: [ 20 ] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [ 1 ] }]
dynamic_batching { }
"""


@contextlib.contextmanager
def triton(python: Path, folder: Path) -> Iterator[Server]:
    """Run Triton with its Python backend, which is the only one in the wheel, and ONNX Runtime in that.

    Parameters
    ----------
    python
        Of an environment with `TRITON`, and of the version that runs this.
    """
    site = python.parent.parent / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    server = site / "pytriton" / "tritonserver"
    _lay_out(server, folder / "triton")
    ports = {"http": free_port(), "grpc": free_port()}
    options = {
        "model-repository": folder / "triton" / "models",
        "backend-directory": folder / "triton" / "backends",
        **{f"{name}-port": port for name, port in ports.items()},
        **{f"{name}-address": "127.0.0.1" for name in ports},
        "allow-metrics": "false",
        "exit-timeout-secs": 1,
    }
    argv = [str(server / "bin" / "tritonserver"), *(f"--{name}={value}" for name, value in options.items())]
    with running(argv, _environment(site), folder / "triton.log", ports["http"]) as found:
        yield Server("Triton, Python backend", found[0], ports["http"], ports["grpc"], "", *found[1:])


def _lay_out(server: Path, folder: Path) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copytree(server / "backends", folder / "backends")
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy(stub, folder / "backends" / "python")
    file = onnx_models.put(folder / "models" / MODEL, onnx_models.network())
    shutil.copy(PROGRAM, file.with_name("model.py"))
    (folder / "models" / MODEL / "config.pbtxt").write_text(_CONFIG)


def _environment(site: Path) -> Mapping[str, str]:
    libraries = f"{site / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}"
    return {"LD_LIBRARY_PATH": libraries, "PYTHONPATH": str(site), "PYTHONHOME": sys.base_prefix}
