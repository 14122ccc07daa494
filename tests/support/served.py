"""Sessions with a model service: who asks it in a pod of the session's user, and what its pods are."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

from onnx import parser

from tests.support import programs, spark
from tests.support.tenant import Body, Tenant

CLIENT = (Path(programs.__file__).parent / "inference_client.py").read_text()  # not imported: it is for another image
DIMUON = {"models": [{"name": "dimuon"}]}
IMAGE = "ml"
"""The user's image that has Triton's own clients."""
MASSES = [math.sqrt(2 * 40 * 50 * (math.cosh(1) - math.cos(3))), 60.0]
"""Of the muons that the client asks for."""
SENDER = """
import os, pathlib, signal, sys
lines = {p.parent.name: p.read_text().split("\\0") for p in pathlib.Path("/proc").glob("[0-9]*/cmdline")}
[number] = [number for number, words in lines.items() if words[:3] == ["python", "-m", "af_inference"]]
os.kill(int(number), getattr(signal, sys.argv[1]))
"""


def ask(tenant: Tenant, where: tuple[str, ...], command: str, *values: object) -> Any:
    """Let the client do something in a pod; return what it says."""
    words = json.dumps([command, *values])
    return json.loads(spark.run(tenant, where, "python", "-c", CLIENT, words).splitlines()[-1])


def times(factor: float) -> str:
    """Return an ONNX model that multiplies a number by this one, in base64."""
    text = f"""<ir_version: 9, opset_import: ["": 18]>
    times (float[N, 1] x) => (float[N, 1] y) {{
        factor = Constant <value_float = {float(factor)}> ()
        y = Mul (x, factor)
    }}"""
    return base64.b64encode(parser.parse_model(text).SerializeToString()).decode()


def pods(tenant: Tenant, name: str) -> dict[str, Body]:
    """Return the replicas of a session's model service by name, but for those that go."""
    labels = f"analysisfacility.io/session={name},analysisfacility.io/component=inference"
    found = json.loads(tenant.kubectl("get", "pods", "-l", labels, "-o", "json"))["items"]
    return {pod["metadata"]["name"]: pod for pod in found if "deletionTimestamp" not in pod["metadata"]}


def url(pod: Body) -> str:
    """Return where one replica answers."""
    return f"http://{pod['status']['podIP']}:8000"


def send(tenant: Tenant, pod: str, signal: str) -> None:
    """Send a signal to the server, by its name; with SIGKILL its container ends, and may take the exec along."""
    said = tenant.kubectl("exec", pod, "--container=server", "--", "python", "-c", SENDER, signal, check=False)
    assert "Traceback" not in said, said


def replicas(body: Body) -> Body:
    """Return ready and desired of a session's replicas, by a status that is not behind the spec; else nothing."""
    status = body.get("status", {})
    current = status.get("observedGeneration") == body["metadata"]["generation"]
    found: Body = status.get("components", {}).get("inference", {}).get("pools", {}).get("replicas", {})
    return found if current else {}


def settled(tenant: Tenant, name: str, number: int, seconds: float = 150) -> None:
    """Wait until so many replicas are there and ready, and no others."""
    asked = {"ready": number, "desired": number}
    tenant.wait(name, lambda body: replicas(body) == asked, seconds, f"{number} replicas")
