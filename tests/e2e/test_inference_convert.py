"""TensorFlow's formats through the image that converts them, in a pod as restricted as a session's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from local_cluster.images import REFERENCES
from tests.support.tenant import Tenant, poll

PROGRAM = Path(__file__).parents[1] / "support/programs/uploads_of_tensorflow.py"
NAME = "convert"
FORMATS = ("keras", "exported", "saved", "frozen")


def pod(image: str) -> dict[str, Any]:
    container = {
        "name": "server",
        "image": image,
        "command": ["python", f"/program/{PROGRAM.name}"],
        "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "program", "mountPath": "/program"},
            {"name": "work", "mountPath": "/work"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "fsGroup": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [
                {"name": "program", "configMap": {"name": NAME}},
                {"name": "work", "emptyDir": {}},
                {"name": "tmp", "emptyDir": {}},
            ],
        },
    }


@pytest.fixture(scope="module")
def answers(shared_tenant: Tenant) -> dict[str, Any]:
    """What the program in the pod found."""
    shared_tenant.kubectl("create", "configmap", NAME, f"--from-file={PROGRAM}")
    image = json.loads(REFERENCES.read_text())["inference_convert"]
    shared_tenant.kubectl("create", "-f", "-", stdin=json.dumps(pod(image)))
    phase = poll(lambda: _ended(shared_tenant), "the pod has ended", seconds=280)
    log = shared_tenant.kubectl("logs", NAME)
    assert phase == "Succeeded", log
    found: dict[str, Any] = json.loads(log.splitlines()[-1])
    return found


def _ended(tenant: Tenant) -> str:
    phase = tenant.kubectl("get", "pod", NAME, "-o", "jsonpath={.status.phase}")
    return phase if phase in ("Succeeded", "Failed") else ""


@pytest.mark.parametrize("kind", FORMATS)
def test_a_model_of_tensorflow_answers_as_its_source(answers: dict[str, Any], kind: str) -> None:
    assert answers[kind]["status"] == 200, answers[kind]
    assert answers[kind]["difference"] <= 1e-5


def test_a_keras_file_with_code_in_it_is_refused(answers: dict[str, Any]) -> None:
    assert answers["code"]["status"] == 422
    assert "Lambda" in answers["code"]["words"]


def test_a_saved_model_reads_no_token_and_writes_no_file(answers: dict[str, Any]) -> None:
    assert answers["reads"]["status"] == answers["writes"]["status"] == 422, answers
    assert answers["written"] is False
    assert "ermission denied" in answers["writes"]["words"]


def test_the_server_outlives_them_all(answers: dict[str, Any]) -> None:
    assert answers["server"] == 0
