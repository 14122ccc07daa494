"""A kubeconfig as kubectl reads it; a login program that fails; and that no credential is ever shown."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
import yaml

from af_kube import kubeconfig
from af_kube.errors import LoginFailed, NoCredentials, NoSuchContext
from local_cluster import pki
from local_cluster.settings import CHECKOUT
from tests.support.session_server import session_server

CANARY = "s3cr3t-c4n4ry"


def written(path: Path, user: dict[str, Any], cluster: dict[str, Any] | None = None, **more: Any) -> Path:
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1/"} | (cluster or {})}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "physics"}}],
        "current-context": "x",
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(config | more))
    return path


def plugin(program: str, **more: Any) -> dict[str, Any]:
    """Return a user who is known by what a Python program says."""
    api = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": api, "command": sys.executable, "args": ["-c", program], **more}}


def credential(**status: Any) -> str:
    return f"print({json.dumps(json.dumps({'kind': 'ExecCredential', 'status': status}))})"


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ({"token": CANARY}, f"Bearer {CANARY}"),
        ({"tokenFile": "token"}, "Bearer of the file"),
        ({"username": "alice", "password": "pw"}, "Basic " + base64.b64encode(b"alice:pw").decode()),
        ({}, None),
        (plugin(credential(token=CANARY)), f"Bearer {CANARY}"),
    ],
)
def test_who_asks(tmp_path: Path, user: dict[str, Any], said: str | None) -> None:
    (tmp_path / "token").write_text("of the file\n")
    found = kubeconfig.load(str(written(tmp_path / "config", user)))
    assert found.login.authorization() == said
    assert CANARY not in repr(found)
    assert (found.server, found.namespace) == ("https://127.0.0.1:1", "physics")


def test_the_plugin_is_told_what_it_asks_for(tmp_path: Path) -> None:
    program = (
        "import json, os; info = json.loads(os.environ['KUBERNETES_EXEC_INFO']);"
        "token = info['spec']['cluster']['server'] + os.environ['MORE'];"
        "print(json.dumps({'status': {'token': token}}))"
    )
    user = plugin(program, provideClusterInfo=True, env=[{"name": "MORE", "value": "!"}])
    found = kubeconfig.load(str(written(tmp_path / "config", user)))
    assert found.login.authorization() == "Bearer https://127.0.0.1:1/!"


def test_a_plugin_beside_the_kubeconfig(tmp_path: Path) -> None:
    program = tmp_path / "login"
    program.write_text(f"#!{sys.executable}\n{credential(token='beside')}\n")
    program.chmod(0o755)
    found = kubeconfig.load(str(written(tmp_path / "config", {"exec": {"command": "./login"}})))
    assert found.login.authorization() == "Bearer beside"


@pytest.mark.parametrize(
    ("user", "why"),
    [
        (
            {"exec": {"command": "not-installed", "installHint": "pip\ninstall it"}},
            "there is no such program: pip install",
        ),
        (plugin("import sys; sys.exit('first\\nno ticket')"), "exit code 1: no ticket"),
        (plugin("import time; time.sleep(60)"), "it has not ended within 0 s"),
        (plugin(f"print('{CANARY}')"), "what it writes to stdout is no ExecCredential with a token"),
        (plugin("import sys; print('{}'); print('oh', file=sys.stderr)"), "no ExecCredential with a token: oh"),
        (plugin(credential(token=CANARY, expirationTimestamp="soon")), "its expirationTimestamp is no time"),
        ({"exec": {"command": "/etc"}}, "Permission denied"),
    ],
    ids=["missing", "fails", "hangs", "rubbish", "nothing", "no time", "no program"],
)
def test_a_login_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: dict[str, Any], why: str) -> None:
    monkeypatch.setattr(kubeconfig, "LOGIN_SECONDS", 0.3 if "sleep" in str(user) else 30)
    found = kubeconfig.load(str(written(tmp_path / "config", user)))
    with pytest.raises(LoginFailed) as caught:
        found.login.authorization()
    command = user["exec"]["command"]
    assert str(caught.value).startswith(f"the login program {command!r} of your kubeconfig failed: ")
    assert why in str(caught.value)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_certificates_in_the_file_and_beside_it(tmp_path: Path) -> None:
    authority = pki.Authority.create("test")
    pki.write_pair(tmp_path, "user", *authority.issue(pki.Subject("alice")))
    pki.write_pair(tmp_path, "ca", authority.key, authority.certificate)

    def inline(name: str) -> str:
        return base64.b64encode((tmp_path / name).read_bytes()).decode()

    beside = {"client-certificate": "user.crt", "client-key": "user.key"}
    within = {"client-certificate-data": inline("user.crt"), "client-key-data": inline("user.key")}
    for user, ca in (
        (beside, {"certificate-authority": "ca.crt"}),
        (within, {"certificate-authority-data": inline("ca.crt")}),
    ):
        tls = kubeconfig.load(str(written(tmp_path / "config", user, ca))).tls()
        assert tls is not None
        assert [each["subject"] for each in tls.get_ca_certs()] == [((("commonName", "test"),),)]


@pytest.mark.parametrize("data", ["%%%", base64.b64encode(CANARY.encode()).decode()])
def test_a_key_that_is_none_is_not_shown(tmp_path: Path, data: str) -> None:
    user = {"client-certificate-data": data, "client-key-data": data}
    with pytest.raises(NoCredentials, match="a certificate of the kubeconfig cannot be used") as caught:
        kubeconfig.load(str(written(tmp_path / "config", user))).tls()
    text = "".join(traceback.format_exception(caught.value))
    assert CANARY not in text
    assert data not in text


def test_several_files_make_one(tmp_path: Path) -> None:
    first = written(tmp_path / "a" / "config", {"tokenFile": "token"}, **{"contexts": [], "current-context": "y"})
    second = written(
        tmp_path / "b" / "config",
        {"token": "of the second"},
        **{"contexts": [{"name": "y", "context": {"cluster": "c", "user": "u"}}]},
    )
    (tmp_path / "a" / "token").write_text("of the first")
    found = kubeconfig.load(os.pathsep.join(["", str(tmp_path / "none"), str(first), str(second)]))
    assert (found.login.authorization(), found.namespace) == ("Bearer of the first", "default")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"current-context": ""}, "has no current-context"),
        ({"clusters": []}, "has no cluster 'c'"),
        ({"users": None}, "has no user 'u'"),
        ({"clusters": [{"name": "c"}]}, "names no server for its cluster 'c'"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(NoCredentials, match=said):
        kubeconfig.load(str(written(tmp_path / "config", {}, **change)))


def test_contexts(tmp_path: Path) -> None:
    path = written(tmp_path / "config", {})
    with pytest.raises(NoSuchContext, match="no context 'moon'"):
        kubeconfig.load(str(path), "moon")


def test_yaml_that_is_none_is_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(f"users:\n- token: {CANARY}: x\n")
    with pytest.raises(NoCredentials, match="no valid YAML in line 2") as caught:
        kubeconfig.load(str(path))
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def af(environment: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "af_client", *args]
    return subprocess.run(argv, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("debug", [[], ["--debug"]], ids=["plain", "debug"])
def test_no_token_is_shown_by_any_command(tmp_path: Path, debug: list[str]) -> None:
    """Whatever goes wrong, in the output there is no credential, and in no process' arguments."""
    with session_server() as server:
        server.kubeconfig(tmp_path / "good", token=CANARY)
        away = yaml.safe_load((tmp_path / "good").read_text())
        away["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:1"
        (tmp_path / "away").write_text(yaml.safe_dump(away))
        written(tmp_path / "login", plugin(f"import sys; print('{CANARY}'); sys.exit('no ticket')"))
        said = []
        for config in ("good", "away", "login"):
            environment = os.environ | {"KUBECONFIG": str(tmp_path / config)}
            for args in (["list"], ["status", "none"], ["open", "none"], ["logs", "none", "--worker"]):
                done = af(environment, *debug, *args)
                said.append(done.stdout + done.stderr)
    assert CANARY not in "".join(said)
    assert sum("no ticket" in text for text in said) == 4
    assert not any("ERROR:root" in text for text in said)


MODULES = """
import sys
from af_client.cli.commands import cli
try:
    cli(["list"], standalone_mode=False)
finally:
    heavy = {"kubernetes", "aiohttp", "numpy", "fsspec", "jsonschema", "pydantic", "requests"}
    print(len(sys.modules), *sorted(heavy & sys.modules.keys()))
"""


def test_a_list_loads_little(tmp_path: Path) -> None:
    """Its time is that of what it imports: once that was 1,400 modules, and more than a second."""
    with session_server() as server:
        environment = os.environ | {"KUBECONFIG": str(server.kubeconfig(tmp_path / "config"))}
        done = subprocess.run(
            [sys.executable, "-c", MODULES], cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True
        )
    count, *heavy = done.stdout.splitlines()[-1].split()
    assert heavy == []
    assert int(count) < 450
