"""`af models` against the server, through a scripted API server and the port forward of a scripted kubelet."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from af_client import follow, forward, sessions
from af_client.cli import csv_table
from af_client.cli.commands import cli
from af_client.errors import from_response
from af_client.sessions import Sessions
from af_kube.request import Request
from af_names import INFERENCE_PORT, inference, inference_pod
from tests.support.fake_kubelet import FakeKubelet, kubelet
from tests.support.fake_transport import FakeTransport, condition, status
from tests.support.inference import onnx_models
from tests.support.inference.serving import TOKEN, Running, config, serving

URL = "http://lab-inference.physics.svc:8000"
READY = status("Ready", condition("InferenceReady", True), components={"inference": {"endpoints": {"inference": URL}}})
STARTING = status("Starting", condition("InferenceReady", False, "Starting", "pod lab-inference-r0 loads its models"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(forward, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(follow, "RETRY_SECONDS", (0.01,))
    monkeypatch.setattr(sessions, "RECONNECT_SECONDS", 0.01)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("served")
    models = {"sum": onnx_models.linear(3), "pair": onnx_models.two_inputs(), "table": onnx_models.looked_up()}
    for name, model in models.items():
        onnx_models.put(folder / name, model, "4")
    named = [{"name": name, "path": str(folder / name)} for name in models]
    with serving(config(folder, models=named)) as running:
        yield running


@pytest.fixture
def pod(server: Running) -> Iterator[FakeKubelet]:
    with kubelet() as found:
        found.leads_to = {INFERENCE_PORT: server.http}
        yield found


def transport(pod: FakeKubelet | None, *script: Any, **spec: Any) -> FakeTransport:
    fake = FakeTransport([list(script[1:])])
    fake.add("lab", script[0] if script else READY, **{"mode": "Interactive", "inference": {}, "run": None, **spec})
    fake.secrets = {inference("lab"): {"token": base64.b64encode(TOKEN.encode()).decode()}}
    fake.api_url = pod.url if pod else fake.api_url
    return fake


def af(fake: FakeTransport, *args: str | Path) -> Result:
    return CliRunner().invoke(cli, ["models", *map(str, args)], obj=fake)


def test_models_are_listed(pod: FakeKubelet) -> None:
    result = af(transport(pod), "list", "lab")
    assert result.exit_code == 0, result.stderr
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["NAME", "VERSION", "STATE"],
        ["pair", "4", "ready"],
        ["sum", "4", "ready"],
        ["table", "4", "ready"],
    ]
    items = json.loads(af(transport(pod), "list", "lab", "--output", "json").stdout)["items"]
    assert items[1] == {"name": "sum", "version": "4", "ready": True, "reason": ""}


def test_it_uses_the_rights_of_the_sessions_role_and_no_others(pod: FakeKubelet) -> None:
    fake = transport(pod)
    af(fake, "list", "lab")
    base = "/api/v1/namespaces/physics"
    core = {(r.verb, r.path) for r in fake.requests if r.path.startswith(base)}
    assert core == {
        ("GET", f"{base}/secrets/{inference('lab')}"),
        ("GET", f"{base}/pods/{inference_pod('lab')}/portforward"),
    }
    assert {r.query["ports"] for r in fake.requests if r.path.endswith("/portforward")} == {"8000"}


def test_it_waits_for_the_service_alone_and_tells(pod: FakeKubelet) -> None:
    result = af(transport(pod, STARTING, STARTING, READY), "list", "lab")
    assert result.exit_code == 0, result.stderr
    assert "pod lab-inference-r0 loads its models" in result.stderr


@pytest.mark.parametrize(
    ("found", "spec", "code", "said"),
    [
        (READY, {"inference": None}, 2, "has no model service: `spec.inference: {}` asks for one"),
        (READY, {"suspend": True}, 1, "session lab is suspended: `af resume lab` brings its model service back"),
        (status("Failed", condition("Ready", False, "Finished", "its lifetime is over")), {}, 1, "any more: failed"),
        (STARTING, {}, 124, "is not ready after 0.3 s: waiting for Inference (Starting): pod lab-inference-r0 loads"),
    ],
)
def test_a_session_without_models_says_so(found: dict[str, Any], spec: dict[str, Any], code: int, said: str) -> None:
    result = af(transport(None, found, **spec), "list", "lab", "--timeout", "0.3")
    assert result.exit_code == code
    assert said in result.stderr


def test_somebody_elses_names_the_role(pod: FakeKubelet, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = transport(pod)
    call = fake.call

    def refuse(request: Request) -> dict[str, Any]:
        if "/secrets/" in request.path:
            raise from_response(
                403, json.dumps({"message": 'User "bob" cannot get resource "secrets" in API group ""'})
            )
        return call(request)

    monkeypatch.setattr(fake, "call", refuse)
    result = af(fake, "list", "lab")
    assert result.exit_code == 1
    assert "the model service of session lab is alice's: Role lab-inference in namespace physics" in result.stderr


def test_inside_the_session_no_api_server_is_asked(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = transport(None)
    monkeypatch.setenv("AF_SESSION", "lab")
    monkeypatch.setenv("AF_INFERENCE_URL", f"http://127.0.0.1:{server.http}")
    monkeypatch.setenv("AF_INFERENCE_TOKEN", TOKEN)
    assert "sum" in af(fake, "list", "lab").stdout
    assert fake.requests == []


def csv(folder: Path, text: str) -> Path:
    file = folder / "rows.csv"
    file.write_text(text)
    return file


def test_rows_are_asked_in_parts_and_answered_in_order(
    pod: FakeKubelet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_table, "ROWS", 100)
    rows = np.random.default_rng(2).integers(0, 50, (1234, 3))
    file = csv(tmp_path, "pt,eta,phi\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    result = af(transport(pod), "predict", "lab", "sum", file, "-o", tmp_path / "out.csv")
    assert result.exit_code == 0, result.stderr
    name, *answers = (tmp_path / "out.csv").read_text().splitlines()
    assert name == "y"
    assert [float(each) for each in answers] == rows.sum(axis=1).tolist()
    assert f"1234 rows by version 4 in {tmp_path / 'out.csv'}" in result.stderr
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out.csv", "rows.csv"]


def test_without_a_line_of_names_there_is_none_in_the_answers(pod: FakeKubelet, tmp_path: Path) -> None:
    result = af(transport(pod), "predict", "lab", "sum", csv(tmp_path, "1,2,3\n0.1,0.2,0.5\n"))
    assert result.stdout == "6.0\n0.8\n"


def test_columns_named_as_inputs_are_inputs(pod: FakeKubelet, tmp_path: Path) -> None:
    result = af(transport(pod), "predict", "lab", "table", csv(tmp_path, "i\n2\n0\n"), "--version", "4")
    assert (result.stdout, result.exit_code) == ("y\n2.0\n0.0\n", 0), result.stderr


def test_for_programs(pod: FakeKubelet, tmp_path: Path) -> None:
    file, out = csv(tmp_path, "1,2,3\n"), tmp_path / "out.csv"
    result = af(transport(pod), "predict", "lab", "sum", file, "-o", out, "--output", "json")
    assert json.loads(result.stdout) == {"model": "sum", "version": "4", "rows": 1, "file": str(out)}
    assert "give -o FILE" in af(transport(pod), "predict", "lab", "sum", file, "--output", "json").stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "rows.csv is empty"),
        ("a,b\n1,2\n3,x\n", "rows.csv, line 3, column 'b': 'x' is no number"),
        ("1,2\n\n3,\n", "rows.csv, line 3, column 2: an empty cell is no number"),
        ("1,2,3\n4,5\n", "rows.csv, line 2: 2 columns, where the first line has 3"),
        ("a,b,a\n1,2,3\n", "rows.csv has several columns a"),
        ("1,2\n", "rows.csv: input 'x' takes shape (rows, 3), not (1, 2)"),
        ("pt,eta\n1,2\n", "rows.csv: this model takes 3 columns in 'x', not 2: pt, eta"),
    ],
)
def test_a_wrong_file_says_where(pod: FakeKubelet, tmp_path: Path, text: str, said: str) -> None:
    out = tmp_path / "out.csv"
    result = af(transport(pod), "predict", "lab", "sum", csv(tmp_path, text), "-o", out)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not out.exists()


def test_text_that_is_none_and_other_separators(pod: FakeKubelet, tmp_path: Path) -> None:
    assert af(transport(pod), "predict", "lab", "sum", csv(tmp_path, "\ufeffa;b;c\n1;2;3\n")).stdout == "y\n6.0\n"
    (tmp_path / "rows.csv").write_bytes(b"\xff\xfe\x00")
    assert "is no text" in af(transport(pod), "predict", "lab", "sum", tmp_path / "rows.csv").stderr


def test_a_model_that_is_not_there(pod: FakeKubelet, tmp_path: Path) -> None:
    result = af(transport(pod), "predict", "lab", "nobody", csv(tmp_path, "1,2,3\n"))
    assert result.exit_code == 1
    assert "nobody" in result.stderr


def test_deleting_asks_first_and_says_what_there_is(pod: FakeKubelet) -> None:
    assert "nobody can be asked here: give --yes" in af(transport(pod), "delete", "lab", "sum").stderr
    result = af(transport(pod), "delete", "lab", "nobody", "--yes")
    assert (result.exit_code, "there are pair, sum, table" in result.stderr) == (1, True)


def test_a_pickle_is_loaded_only_by_who_says_so(pod: FakeKubelet, tmp_path: Path) -> None:
    (tmp_path / "m.joblib").write_bytes(b"cos\nabort\n.")
    result = af(transport(pod), "push", "lab", tmp_path / "m.joblib")
    assert result.exit_code == 2
    assert "is a pickle, which is a program" in result.stderr
    (tmp_path / "m.onnx").write_bytes(b"")
    assert "leave --unpickle out" in af(transport(pod), "push", "lab", tmp_path / "m.onnx", "--unpickle").stderr
    assert "write KEY=VALUE" in af(transport(pod), "push", "lab", tmp_path / "m.onnx", "--param", "x").stderr


def test_from_python(pod: FakeKubelet) -> None:
    with Sessions(transport=transport(pod)).models("lab", timeout=5) as models:
        assert models.predict("sum", [[1, 2, 3]]).tolist() == [[6.0]]
