"""Where the API server is, and how it knows us: from the pod's service account, or from a kubeconfig."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from af_kube import credentials
from af_kube.errors import NoCredentials
from local_cluster import pki


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the kubelet mounts into a pod."""
    directory = tmp_path / "serviceaccount"
    directory.mkdir()
    authority = pki.Authority.create("test")
    pki.write_pair(directory, "ca", authority.key, authority.certificate)
    (directory / "token").write_text("first\n")
    monkeypatch.setattr(credentials, "SERVICE_ACCOUNT", directory)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return directory


def kubeconfig(path: Path, user: dict[str, Any], **cluster: Any) -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1/"} | cluster}],
                "users": [{"name": "u", "user": user}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    return path


class TestServiceAccount:
    async def test_a_pod_has_one(self, mounted: Path) -> None:
        found = credentials.service_account(mounted)
        assert found.server == "https://10.96.0.1:443"
        assert await found.authorization() == "Bearer first"
        assert "first" not in repr(found)

    async def test_an_address_of_ipv6(self, mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
        assert credentials.service_account(mounted).server == "https://[fd00::1]:443"

    async def test_its_token_is_read_again_after_a_while(self, mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        now = 1000.0
        monkeypatch.setattr(credentials.time, "monotonic", lambda: now)
        found = credentials.service_account(mounted)
        await found.authorization()
        (mounted / "token").write_text("second")
        assert await found.authorization() == "Bearer first"
        now += credentials.TOKEN_SECONDS + 1
        assert await found.authorization() == "Bearer second"

    async def test_what_is_missing_of_it_is_said(self, mounted: Path) -> None:
        found = credentials.service_account(mounted)
        (mounted / "token").unlink()
        with pytest.raises(NoCredentials, match="token"):
            await found.authorization()
        (mounted / "ca.crt").unlink()
        with pytest.raises(NoCredentials, match=r"ca\.crt"):
            credentials.service_account(mounted)


class TestLoad:
    async def test_the_service_account_comes_first(
        self, mounted: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", {"token": "mine"})))
        assert (await credentials.load()).server == "https://10.96.0.1:443"

    @pytest.mark.parametrize("lacking", ["KUBERNETES_SERVICE_HOST", "token"])
    async def test_without_one_it_is_the_kubeconfig(
        self, mounted: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lacking: str
    ) -> None:
        if lacking == "token":
            (mounted / "token").unlink()
        else:
            monkeypatch.delenv(lacking)
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", {"token": "mine"})))
        found = await credentials.load()
        assert found.server == "http://127.0.0.1:1"
        assert await found.authorization() == "Bearer mine"

    @pytest.mark.parametrize("text", [None, "", "no: kubeconfig", "{"])
    async def test_without_either_it_says_so(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None
    ) -> None:
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        if text is not None:
            (tmp_path / "config").write_text(text)
        with pytest.raises(NoCredentials, match="kubeconfig"):
            await credentials.load()


class TestKubeconfig:
    async def test_a_certificate_needs_no_token(self, tmp_path: Path) -> None:
        authority = pki.Authority.create("test")
        pki.write_pair(tmp_path, "user", *authority.issue(pki.Subject("alice")))
        pki.write_pair(tmp_path, "ca", authority.key, authority.certificate)
        user = {"client-certificate": str(tmp_path / "user.crt"), "client-key": str(tmp_path / "user.key")}
        ca = {"server": "https://10.0.0.1:6443", "certificate-authority": str(tmp_path / "ca.crt")}
        found = await credentials.kubeconfig(str(kubeconfig(tmp_path / "config", user, **ca)))
        assert found.server == "https://10.0.0.1:6443"
        assert await found.authorization() is None
        assert not isinstance(found.tls, bool)
        assert [each["subject"] for each in found.tls.get_ca_certs()] == [((("commonName", "test"),),)]

    async def test_a_ca_that_is_not_there(self, tmp_path: Path) -> None:
        cluster = {"server": "https://10.0.0.1:6443", "certificate-authority": str(tmp_path / "missing.crt")}
        with pytest.raises(NoCredentials, match=r"missing\.crt"):
            await credentials.kubeconfig(str(kubeconfig(tmp_path / "config", {}, **cluster)))

    async def test_the_way_to_the_server(self, tmp_path: Path) -> None:
        plain = await credentials.kubeconfig(str(kubeconfig(tmp_path / "plain", {})))
        assert (plain.server_name, plain.proxy) == (None, None)
        cluster = {"tls-server-name": "kubernetes", "proxy-url": "http://127.0.0.1:3128"}
        found = await credentials.kubeconfig(str(kubeconfig(tmp_path / "config", {}, **cluster)))
        assert (found.server_name, found.proxy) == ("kubernetes", "http://127.0.0.1:3128")

    async def test_a_plugin_is_asked_again_when_its_token_has_expired(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(credentials, "TOKEN_SECONDS", -1.0)
        answer = tmp_path / "answer.json"
        program = f"print(open({str(answer)!r}).read())"
        plugin = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": ["-c", program],
        }

        def says(token: str, until: str) -> None:
            status = {"token": token, "expirationTimestamp": until}
            answer.write_text(
                json.dumps({"apiVersion": plugin["apiVersion"], "kind": "ExecCredential", "status": status})
            )

        says("first", "2020-01-01T00:00:00Z")
        found = await credentials.kubeconfig(str(kubeconfig(tmp_path / "config", {"exec": plugin})))
        says("second", "2999-01-01T00:00:00Z")
        assert await found.authorization() == "Bearer second"
        says("third", "2999-01-01T00:00:00Z")
        assert await found.authorization() == "Bearer second"
