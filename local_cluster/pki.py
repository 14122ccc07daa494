"""Certificates and keys of one cluster. Made anew for each; nothing here is trusted elsewhere."""

import base64
import datetime
import ipaddress
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from local_cluster.settings import API_SERVICE_ADDRESS, API_URL, CLUSTER, DNS_DOMAIN, NODE, NODE_ADDRESS

LIFETIME = datetime.timedelta(days=3650)
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Subject:
    """Whom a certificate is for: user (CN) and group (O) for clients, addresses for servers."""

    common_name: str
    organization: str = ""
    alternative_names: Sequence[str] = ()


@dataclass(frozen=True)
class Authority:
    """A certificate authority that signs leaf certificates."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls, common_name: str) -> "Authority":
        """Make a self-signed authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(Subject(common_name))
        usage = _key_usage(key_cert_sign=True)
        builder = _builder(name, name, key.public_key())
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(identifier, critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(usage, critical=True)
        return cls(key, builder.sign(key, hashes.SHA256()))

    def issue(self, subject: Subject) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        """Issue a leaf certificate; with alternative names it also serves."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(subject), self.certificate.subject, key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(key_cert_sign=False), critical=True)
        # Strict clients, as Python's from 3.13 on, insist on it.
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if subject.alternative_names:
            uses.append(ExtendedKeyUsageOID.SERVER_AUTH)
            names = [_general_name(name) for name in subject.alternative_names]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        return key, builder.sign(self.key, hashes.SHA256())


# File name -> subject, all signed by the cluster's authority.
LEAVES = {
    "apiserver": Subject(
        "kube-apiserver",
        alternative_names=(
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            f"kubernetes.default.svc.{DNS_DOMAIN}",
            "localhost",
            "127.0.0.1",
            NODE_ADDRESS,
            API_SERVICE_ADDRESS,
        ),
    ),
    "kubelet-server": Subject(f"system:node:{NODE}", "system:nodes", (NODE, NODE_ADDRESS)),
    "apiserver-kubelet-client": Subject("kube-apiserver-kubelet-client", "system:masters"),
    "admin": Subject("kubernetes-admin", "system:masters"),
    "kubelet": Subject(f"system:node:{NODE}", "system:nodes"),
    "kube-controller-manager": Subject("system:kube-controller-manager"),
    "kube-scheduler": Subject("system:kube-scheduler"),
    "kube-proxy": Subject("system:kube-proxy"),
    "kube-router": Subject("kube-router"),
}
KUBECONFIGS = ("admin", "kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kube-router")


def create(directory: Path) -> None:
    """Write authorities, leaf certificates, the service accounts' key and the kubeconfigs."""
    directory.mkdir(parents=True, mode=0o700)
    authority = Authority.create(f"{CLUSTER} ca")
    write_pair(directory, "ca", authority.key, authority.certificate)
    for name, subject in LEAVES.items():
        write_pair(directory, name, *authority.issue(subject))
    # Aggregated API servers trust another authority: else any client certificate could claim to be any user.
    front = Authority.create(f"{CLUSTER} front-proxy-ca")
    write_pair(directory, "front-proxy-ca", front.key, front.certificate)
    write_pair(directory, "front-proxy-client", *front.issue(Subject("front-proxy-client")))
    accounts = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    _write_secret(directory / "service-accounts.key", _private_pem(accounts))
    public = accounts.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (directory / "service-accounts.pub").write_bytes(public)
    for name in KUBECONFIGS:
        _write_secret(directory / f"{name}.kubeconfig", kubeconfig(directory, name).encode())


def kubeconfig(directory: Path, name: str) -> str:
    """Return a self-contained kubeconfig (JSON, which is YAML) for the client ``name``."""

    def data(file: str) -> str:
        return base64.b64encode((directory / file).read_bytes()).decode()

    cluster = {"server": API_URL, "certificate-authority-data": data("ca.crt")}
    user = {"client-certificate-data": data(f"{name}.crt"), "client-key-data": data(f"{name}.key")}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": CLUSTER, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": CLUSTER, "context": {"cluster": CLUSTER, "user": name}}],
        "current-context": CLUSTER,
    }
    return json.dumps(document, indent=1) + "\n"


def _builder(subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        # An hour back: a virtual machine's clock may be set after the certificates are made.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
    )


def _name(subject: Subject) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name)]
    if subject.organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, subject.organization))
    return x509.Name(attributes)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, key_cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_pair(directory: Path, name: str, key: PrivateKey, certificate: x509.Certificate) -> None:
    """Write ``<name>.crt`` and ``<name>.key``."""
    (directory / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _write_secret(directory / f"{name}.key", _private_pem(key))


def _write_secret(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
