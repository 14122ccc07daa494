"""Certificates of sessions: two programs with the same CA talk, and nobody else does."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from af_operator.components._shared import pki
from af_operator.components._shared.pki import Certificates, certificates

NOW = datetime.now(UTC)
SECRETS = ("a" * 64, "b" * 64)


def made(name: str = "dask", secrets: tuple[str, str] = SECRETS, now: datetime = NOW) -> Certificates:
    return certificates(name, secrets, now)


def test_the_same_secrets_and_time_give_the_same_bytes() -> None:
    assert made() == made()
    assert made().key != made(secrets=("a" * 64, "c" * 64)).key
    assert made().ca != made(secrets=("c" * 64, "b" * 64)).ca


@given(st.text("0123456789abcdef", min_size=64, max_size=64))
@settings(max_examples=20, deadline=None)
def test_any_digits_are_a_key(digits: str) -> None:
    _verified(made(secrets=(digits, "b" * 64)))
    _verified(made(secrets=("a" * 64, digits)))


@pytest.mark.parametrize("digits", ["0" * 64, f"{pki.ORDER:x}", f"{pki.ORDER - 1:x}", "f" * 64])
def test_digits_beside_the_curve_are_a_key(digits: str) -> None:
    _verified(made(secrets=(digits, "b" * 64)))


def test_what_is_in_them() -> None:
    leaf, ca = _verified(made())
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert leaf.not_valid_before_utc < NOW - timedelta(minutes=59)
    assert leaf.not_valid_after_utc > NOW + timedelta(days=3649)
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_no_key_is_in_its_words() -> None:
    assert "PRIVATE" not in repr(made())


def test_two_of_a_session_talk(tmp_path: Path) -> None:
    assert _talk(_context(tmp_path / "a", made(), server=True), _context(tmp_path / "b", made(), server=False))


LATER = NOW - pki.VALID - timedelta(days=1)


@pytest.mark.parametrize(
    "stranger",
    [
        made(secrets=("c" * 64, "d" * 64)),
        made(now=LATER),
        Certificates(made().ca, made(secrets=("c" * 64, "b" * 64)).certificate, made().key),
    ],
    ids=["another session's", "expired", "another CA's, for the same key"],
)
def test_others_are_refused_on_both_sides(tmp_path: Path, stranger: Certificates) -> None:
    for name, pair in {"server": (made(), stranger), "client": (stranger, made())}.items():
        server = _context(tmp_path / f"{name}-a", pair[0], server=True)
        client = _context(tmp_path / f"{name}-b", pair[1], server=False)
        with pytest.raises(ssl.SSLError, match=r"(?i)verify"):
            _talk(server, client)


def test_nobody_comes_in_without_one(tmp_path: Path) -> None:
    client = ssl.create_default_context(cadata=made().ca)
    client.check_hostname = False
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        _talk(_context(tmp_path, made(), server=True), client)


def _verified(shown: Certificates) -> tuple[x509.Certificate, x509.Certificate]:
    """Return certificate and CA, once the one has signed the other."""
    leaf, ca = (x509.load_pem_x509_certificate(text.encode()) for text in (shown.certificate, shown.ca))
    leaf.verify_directly_issued_by(ca)
    return leaf, ca


def _context(directory: Path, shown: Certificates, *, server: bool) -> ssl.SSLContext:
    """Return what Dask makes of such files, but as strict as newer Pythons are."""
    directory.mkdir(exist_ok=True)
    purpose = ssl.Purpose.CLIENT_AUTH if server else ssl.Purpose.SERVER_AUTH
    context = ssl.create_default_context(purpose, cadata=shown.ca)
    context.verify_mode, context.check_hostname = ssl.CERT_REQUIRED, False
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    certificate, key = directory / "tls.crt", directory / "tls.key"
    certificate.write_text(shown.certificate)
    key.write_text(shown.key)
    context.load_cert_chain(certificate, key)
    return context


def _talk(server: ssl.SSLContext, client: ssl.SSLContext) -> bool:
    """Return whether both have shown each other who they are; raises what either says against it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_side=False),
    ]
    for _ in range(5):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    for side in sides:
        side.write(b"hello")
    return [side.read(5) for side in sides] == [b"hello", b"hello"]
