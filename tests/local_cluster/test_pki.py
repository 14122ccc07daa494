import json
import ssl
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from local_cluster import pki
from local_cluster.settings import API_SERVICE_ADDRESS, API_URL, NODE_ADDRESS


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pki") / "pki"
    pki.create(path)
    return path


def certificate(directory: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((directory / f"{name}.crt").read_bytes())


@pytest.mark.parametrize("name", pki.LEAVES)
def test_each_leaf_verifies_against_the_authority_for_its_purpose(directory: Path, name: str) -> None:
    purpose = "sslserver" if pki.LEAVES[name].alternative_names else "sslclient"
    argv: list[str | Path] = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", directory / "ca.crt"]
    done = subprocess.run([*argv, directory / f"{name}.crt"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_leaf_of_one_authority_is_refused_by_the_other(directory: Path) -> None:
    done = subprocess.run(
        ["openssl", "verify", "-CAfile", directory / "ca.crt", directory / "front-proxy-client.crt"],
        capture_output=True,
        check=False,
    )
    assert done.returncode != 0


def test_the_api_server_is_known_by_every_name_it_is_called(directory: Path) -> None:
    names = certificate(directory, "apiserver").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"kubernetes", "kubernetes.default.svc.cluster.local"} <= set(names.get_values_for_type(x509.DNSName))
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert {NODE_ADDRESS, API_SERVICE_ADDRESS} <= addresses


def test_the_kubelet_is_a_node_and_nobody_else_is(directory: Path) -> None:
    groups = {
        name: [
            attribute.value
            for attribute in certificate(directory, name).subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        ]
        for name in pki.LEAVES
    }
    assert groups["kubelet"] == ["system:nodes"]
    assert [name for name, group in groups.items() if "system:masters" in group] == [
        "apiserver-kubelet-client",
        "admin",
    ]


def test_secrets_are_for_their_owner_only(directory: Path) -> None:
    secrets = [path for path in directory.iterdir() if path.suffix in {".key", ".kubeconfig"}]
    assert len(secrets) > 10
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}


def test_a_kubeconfig_is_self_contained(directory: Path) -> None:
    document = json.loads((directory / "admin.kubeconfig").read_text())
    assert document["clusters"][0]["cluster"]["server"] == API_URL
    assert set(document["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}


def test_certificate_and_key_belong_together(directory: Path) -> None:
    for name in pki.LEAVES:
        ssl.create_default_context().load_cert_chain(directory / f"{name}.crt", directory / f"{name}.key")
