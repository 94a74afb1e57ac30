"""The own certificate authority: what clients check, when the leaf is renewed, what happens to broken files."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from farframe.auth.certificates import (
    CertificateError,
    CertificateFiles,
    client_ssl_context,
    ensure_certificates,
    server_ssl_context,
)


def leaf_of(files: CertificateFiles) -> x509.Certificate:
    return x509.load_pem_x509_certificate(files.certificate.read_bytes())


def shake_hands(files: CertificateFiles, name: str, ca: Path | None = None) -> None:
    """A TLS handshake over a socket pair; raises what a client would."""
    left, right = socket.socketpair()
    server_tls, client_tls = server_ssl_context(files), client_ssl_context(ca or files.ca)

    def serve() -> None:
        try:
            with server_tls.wrap_socket(left, server_side=True):
                pass
        except (ssl.SSLError, OSError):
            left.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client_tls.wrap_socket(right, server_hostname=name):
            pass
    finally:
        right.close()
        thread.join()
        left.close()


def test_clients_that_check_strictly_accept_it(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, ["render.example.net", "192.0.2.7", "2001:db8::1"])
    for name in ("localhost", "127.0.0.1", "::1", "render.example.net", "192.0.2.7", "2001:db8::1"):
        shake_hands(files, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(files, "other.example.net")
    ca = x509.load_pem_x509_certificate(files.ca.read_bytes())
    leaf = leaf_of(files)
    extensions = leaf.extensions
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).critical
    assert extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    assert (
        extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        == ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    )
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= timedelta(days=398)


def test_another_root_is_not_trusted(tmp_path: Path) -> None:
    one, other = ensure_certificates(tmp_path / "one", []), ensure_certificates(tmp_path / "other", [])
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(one, "localhost", other.ca)


def test_keys_are_the_owners_alone(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, [])
    for path in (files.key, tmp_path / "ca-key.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_changes_without_a_reason(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, ["a.example.net"])
    before = files.certificate.read_bytes(), files.ca.read_bytes()
    ensure_certificates(tmp_path, ["a.example.net", "LOCALHOST"])
    assert (files.certificate.read_bytes(), files.ca.read_bytes()) == before


def test_renewed_for_other_names_near_the_end_and_when_broken(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, [])
    root, serial = files.ca.read_bytes(), leaf_of(files).serial_number
    ensure_certificates(tmp_path, ["10.0.0.9"])
    names = leaf_of(files).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert ipaddress.ip_address("10.0.0.9") in names.get_values_for_type(x509.IPAddress)
    assert leaf_of(files).serial_number != serial
    later = datetime.now(UTC) + timedelta(days=350)
    ensure_certificates(tmp_path, ["10.0.0.9"], now=later)
    assert leaf_of(files).not_valid_before_utc > datetime.now(UTC)
    ensure_certificates(tmp_path, ["10.0.0.9"])
    assert leaf_of(files).not_valid_before_utc < datetime.now(UTC), "one from the future is of no use"
    for path in (files.certificate, files.key):
        path.write_bytes(b"garbage")
        ensure_certificates(tmp_path, [])
        shake_hands(files, "localhost")
    assert files.ca.read_bytes() == root, "clients keep trusting the same root"


def test_a_lost_root_key_is_said_so(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, [])
    (tmp_path / "ca-key.pem").unlink()
    ensure_certificates(tmp_path, [])
    with pytest.raises(CertificateError, match=r"delete ca\.pem"):
        ensure_certificates(tmp_path, ["new.example.net"])
    (tmp_path / "ca.pem").write_text("x")
    with pytest.raises(CertificateError, match="not a certificate"):
        ensure_certificates(tmp_path, [])


def test_a_name_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(CertificateError):
        ensure_certificates(tmp_path, ["a" * 70 + ".example.net"])
