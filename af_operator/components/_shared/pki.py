"""Certificates of a session: a CA of its own, and one certificate by which its programs know each other. Pure.

Both are made of secret digits and a time, so the same arguments give the same bytes. The CA's key is in neither of
them: once they are made nobody signs another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CURVE = ec.SECP256R1()
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the curve's group: a private key is a number from 1 to one less."""
CLOCK_SKEW = timedelta(hours=1)
"""So much later than the operator's may a node's clock be."""
VALID = timedelta(days=3650)
"""Longer than any session goes on without a suspension, after which its certificates are others."""


@dataclass(frozen=True)
class Certificates:
    """What each of a session's programs is given, in PEM.

    Attributes
    ----------
    ca
        Who shows a certificate of this one belongs to the session.
    certificate, key
        Shown by servers and clients alike.
    """

    ca: str
    certificate: str
    key: str = field(repr=False)


def certificates(name: str, secrets: tuple[str, str], now: datetime) -> Certificates:
    """Return a CA and what it has signed.

    Parameters
    ----------
    name
        What the certificate is for, in at most 60 characters; nothing is decided by it.
    secrets
        64 hex digits that nobody can guess for the CA's key, and others for the certificate's.
    now
        Valid from about this time on.
    """
    ca_key, key = (_private_key(digits) for digits in secrets)
    issuer, subject = _name(f"{name} CA"), _name(name)
    ca = _of_ca(_builder(subject=issuer, issuer=issuer, key=ca_key, now=now))
    leaf = _of_both_sides(_builder(subject=subject, issuer=issuer, key=key, now=now), ca_key)
    return Certificates(
        _signed(ca, ca_key),
        _signed(leaf, ca_key),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
    )


def _private_key(digits: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int(digits, 16) % (ORDER - 1) + 1, CURVE)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    *, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime
) -> x509.CertificateBuilder:
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        # A serial number is at most 159 bits long; drawn at random, each pass would sign another certificate.
        .serial_number(int.from_bytes(identifier.digest) >> 1)
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + VALID)
        .add_extension(identifier, critical=False)
    )


def _of_ca(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    return builder.add_extension(constraints, critical=True).add_extension(_usage(signs=True), critical=True)


def _of_both_sides(builder: x509.CertificateBuilder, ca_key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(both, critical=False)
        .add_extension(authority, critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _signed(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> str:
    certificate = builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    return certificate.public_bytes(Encoding.PEM).decode()
