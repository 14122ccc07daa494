"""Which JupyterHub the operator is told of: the chart's own, another one, or none."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.chart.conftest import DEFAULT, NAMESPACE, Objects, Render, Values

IMAGES = {**DEFAULT["image"], "hub": "registry.example.org/hub@sha256:0123"}
OUTSIDE = {
    "apiUrl": "http://hub.jupyter:8081/lab/hub/api",
    "baseUrl": "/lab/",
    "account": "system:serviceaccount:jupyter:hub",
    "tokenSecret": {"name": "t", "key": "k"},
}
PREFIX = "AF_OPERATOR_HUB_"


def operator(objects: Objects) -> dict[str, Any]:
    found = [o for o in objects if o["kind"] == "Deployment" and o["metadata"]["name"] == "af-operator"]
    pod: dict[str, Any] = found[0]["spec"]["template"]["spec"]
    return pod


def told(pod: dict[str, Any]) -> dict[str, str]:
    env = pod["containers"][0]["env"]
    return {e["name"].removeprefix(PREFIX): e["value"] for e in env if e["name"].startswith(PREFIX)}


def token(pod: dict[str, Any]) -> tuple[str, str, str]:
    """Return Secret, key and the file that the container finds it in."""
    secret = next(v["secret"] for v in pod["volumes"] if v["name"] == "hub-token")
    mount = next(m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "hub-token")
    assert "subPath" not in mount, "a token that is changed would not reach the file"
    (item,) = secret["items"]
    return secret["secretName"], item["key"], f"{mount['mountPath']}/{item['path']}"


def test_none_by_default(default: Objects) -> None:
    pod = operator(default)
    assert told(pod) == {}
    assert "hub-token" not in [v["name"] for v in pod["volumes"]]


@pytest.mark.parametrize("base", ["/", "/lab/"])
def test_the_charts_own(render: Render, base: str) -> None:
    pod = operator(
        render({**DEFAULT, "image": IMAGES, "hub": {"enabled": True, "baseUrl": base, "existingSecret": "mine"}})
    )
    assert told(pod) == {
        "API_URL": f"http://hub.{NAMESPACE}.svc:8081{base}hub/api",
        "BASE_URL": base,
        "ACCOUNT": f"system:serviceaccount:{NAMESPACE}:hub",
        "TOKEN_FILE": "/run/secrets/hub/token",
    }
    assert token(pod) == ("mine", "operator-token", "/run/secrets/hub/token")


def test_one_from_outside(render: Render) -> None:
    pod = operator(render({**DEFAULT, "hub": {"external": OUTSIDE}}))
    assert told(pod) == {
        "API_URL": OUTSIDE["apiUrl"],
        "BASE_URL": "/lab/",
        "ACCOUNT": OUTSIDE["account"],
        "TOKEN_FILE": "/run/secrets/hub/token",
    }
    assert token(pod) == ("t", "k", "/run/secrets/hub/token")


@pytest.mark.parametrize(
    ("hub", "said"),
    [
        (
            {"enabled": True, "existingSecret": "s", "external": OUTSIDE},
            "hub.external.apiUrl is for a JupyterHub that is not this chart's",
        ),
        ({"external": {**OUTSIDE, "tokenSecret": {}}}, "hub.external.tokenSecret.name is needed"),
        ({"external": {**OUTSIDE, "account": ""}}, "hub.external.account is needed with hub.external.apiUrl"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    template: Callable[[Values], subprocess.CompletedProcess[str]], hub: Values, said: str
) -> None:
    done = template({**DEFAULT, "image": IMAGES, "hub": hub})
    assert done.returncode != 0
    assert said in done.stderr
