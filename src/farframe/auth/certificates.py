"""The own certificate authority: one root per data folder, and one leaf for all listeners on this machine.

The official clients refuse plain http, and most machines have no publicly trusted certificate. So the service makes a
root, tells clients where it is (``caBundle``), and renews the leaf by itself. Both keys are ECDSA P-256, which every
client in question takes and which signs a handshake in well under a millisecond.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFETIME = timedelta(days=3650)
LEAF_LIFETIME = timedelta(days=397)
"""The longest lifetime that all platforms accept from a server."""

RENEW_BEFORE = timedelta(days=60)
RENEW_CA_BEFORE = timedelta(days=730)
"""Longer than a leaf lives, and long enough to bring the new root to every client at leisure."""

CLOCK_SKEW = timedelta(days=1)
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class CertificateError(Exception):
    """The certificate authority's files cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Paths of PEM files: the root (give it to clients), the leaf with its chain, and the leaf's key."""

    ca: Path
    certificate: Path
    key: Path


def ensure_certificates(folder: Path, names: Iterable[str], *, now: datetime | None = None) -> CertificateFiles:
    """Make or renew the root and the leaf in ``folder`` as needed.

    ``names`` are host names and IP addresses that clients will use; the local ones are always added. The root is
    issued anew, with the same key, two years before its end, and clients need the new file before then. The leaf is
    renewed when the names change, when it nears its end, or when it does not belong to the root.
    Raises :class:`CertificateError` when the root's key is gone and a leaf is needed.
    """
    moment = now or datetime.now(UTC)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = CertificateFiles(folder / "ca.pem", folder / "server.pem", folder / "server-key.pem")
    ca_key_file = folder / "ca-key.pem"
    wanted = _parse_names([*LOCAL_NAMES, *names])
    if not files.ca.exists():
        _make_ca(files.ca, ca_key_file, moment)
    ca = _read_certificate(files.ca)
    if ca.not_valid_after_utc - RENEW_CA_BEFORE <= moment and ca_key_file.exists():
        # The same name and key: clients that still have the former root trust what the new one signs until that ends.
        _make_ca(files.ca, ca_key_file, moment, _read_ca_key(ca_key_file, ca))
        ca = _read_certificate(files.ca)
    if not _leaf_is_good(files, ca, wanted, moment):
        _make_leaf(files, ca, _read_ca_key(ca_key_file, ca), wanted, moment)
    return files


def server_ssl_context(files: CertificateFiles) -> ssl.SSLContext:
    """A context for listeners: TLS 1.2 and newer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.certificate, files.key)
    return context


def client_ssl_context(ca_file: Path) -> ssl.SSLContext:
    """A context for connections to our own servers: only our root is trusted."""
    return ssl.create_default_context(cafile=str(ca_file))


def _parse_names(names: Iterable[str]) -> dict[str, x509.GeneralName]:
    parsed: dict[str, x509.GeneralName] = {}
    for name in names:
        bare = name.strip().strip("[]")
        if not bare:
            continue
        try:
            address: _Address = ipaddress.ip_address(bare)
        except ValueError:
            try:
                ascii_name = bare.lower().encode("idna").decode("ascii")
                parsed[ascii_name] = x509.DNSName(ascii_name)
            except (UnicodeError, ValueError):
                raise CertificateError(f"{bare!r} is neither a host name nor an IP address.") from None
        else:
            if not address.is_unspecified:
                parsed[str(address)] = x509.IPAddress(address)
    return parsed


def _names_of(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    dns = set(names.get_values_for_type(x509.DNSName))
    return dns | {str(address) for address in names.get_values_for_type(x509.IPAddress)}


def _leaf_is_good(
    files: CertificateFiles, ca: x509.Certificate, wanted: dict[str, x509.GeneralName], moment: datetime
) -> bool:
    if not files.certificate.exists() or not files.key.exists():
        return False
    try:
        leaf = x509.load_pem_x509_certificates(files.certificate.read_bytes())[0]
        key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
        leaf.verify_directly_issued_by(ca)
    except (ValueError, TypeError, IndexError, InvalidSignature):
        return False
    return (
        key.public_key() == leaf.public_key()
        and _names_of(leaf) == set(wanted)
        and leaf.not_valid_after_utc - RENEW_BEFORE > moment
        and leaf.not_valid_before_utc <= moment
    )


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError:
        raise CertificateError(f"{path} is not a certificate. Restore it, or delete it to get a new one.") from None


def _read_ca_key(path: Path, ca: x509.Certificate) -> ec.EllipticCurvePrivateKey:
    advice = "Restore it, or delete ca.pem to get a new root, which clients then need."
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        raise CertificateError(f"{path}, the key of the certificate authority, is missing. {advice}") from None
    except (ValueError, TypeError):
        raise CertificateError(f"{path} is not a private key. {advice}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != ca.public_key():
        raise CertificateError(f"{path} does not belong to ca.pem. {advice}")
    return key


def _make_ca(
    certificate_file: Path, key_file: Path, moment: datetime, former: ec.EllipticCurvePrivateKey | None = None
) -> None:
    key = former or ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # The digest in the name tells the roots of several data folders apart in a trust store.
    common_name = f"Farframe local root {identifier.digest.hex()[:8]}"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - CLOCK_SKEW)
        .not_valid_after(moment + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(certificate_authority=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(key_file, _key_pem(key), 0o600)
    _write(certificate_file, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _make_leaf(
    files: CertificateFiles,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    names: dict[str, x509.GeneralName],
    moment: datetime,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Farframe")]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - CLOCK_SKEW)
        .not_valid_after(min(moment + LEAF_LIFETIME - CLOCK_SKEW, ca.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(certificate_authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(list(names.values())), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    _write(files.key, _key_pem(key), 0o600)
    _write(files.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _key_usage(*, certificate_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificate_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificate_authority,
        crl_sign=certificate_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write a file that is never seen half written nor, for keys, by others."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
