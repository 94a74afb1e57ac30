"""The certificates that the service serves with: its own authority's, or given ones; renewed while it runs.

Connections that exist are never touched: a new certificate is what the next handshake gets. A certificate that cannot
be used is refused as a whole and the former one stays, however the files were replaced.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import ssl
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import structlog
from cryptography import x509

from farframe.auth.certificates import (
    CertificateError,
    CertificateFiles,
    client_ssl_context,
    ensure_certificates,
    server_ssl_context,
)

log = structlog.get_logger("farframe.service")

GIVEN_NAME = "given.pem"
CHECK_SECONDS = 60
WARN_DAYS = 14
MAX_PEM_BYTES = 1024 * 1024
_SECOND = 1_000_000


class ServedCertificates:
    """One TLS context for all listeners. :meth:`reload` looks at the files again; it is one of the scheduler's jobs.

    ``given`` is a pair of PEM files, the chain and its key; without one the own authority in ``folder`` makes a leaf
    for ``names`` and renews it. Raises CertificateError.
    """

    def __init__(self, folder: Path, names: Iterable[str], given: tuple[Path, Path] | None = None) -> None:
        self._folder, self._names, self._given = folder, list(names), given
        self._served: bytes | None = None
        self.files = ensure_certificates(folder, self._names) if given is None else self._take_given()
        self.context = server_ssl_context(self.files)
        self._served = self.files.certificate.read_bytes()

    @property
    def own_authority(self) -> bool:
        """Whether clients need the root in ``files.ca``."""
        return self._given is None

    def not_after(self) -> datetime:
        """When the certificate that is served ends."""
        return x509.load_pem_x509_certificates(self.files.certificate.read_bytes())[0].not_valid_after_utc

    def reload(self) -> bool:
        """Serve what the files hold now. Returns whether that is new; keeps the former on any mistake, which is logged.
        Blocks on the disk."""
        try:
            files = ensure_certificates(self._folder, self._names) if self._given is None else self._take_given()
            content = files.certificate.read_bytes()
            if content == self._served:
                return False
            server_ssl_context(files)  # tried out where a mistake does no harm
            self.context.load_cert_chain(files.certificate, files.key)
        except (CertificateError, OSError, ssl.SSLError) as error:
            log.error("certificate.not_replaced", error=str(error))
            return False
        self.files, self._served = files, content
        log.info("certificate.replaced", not_after=self.not_after().isoformat())
        return True

    async def job(self, now: int) -> int:
        """Look at the files, and warn of an end that comes near and is not ours to prevent."""
        await asyncio.to_thread(self.reload)
        left = self.not_after() - datetime.now(UTC)
        if left.days < WARN_DAYS:
            log.warning("certificate.ends", days=left.days, not_after=self.not_after().isoformat())
        return now + CHECK_SECONDS * _SECOND

    def relay_transport(self, public_name: str) -> httpx.AsyncBaseTransport | None:
        """How to reach render servers, which serve with the same certificate: a given one bears the public name, not
        this machine's address. ``None`` for the own authority, whose leaf bears both.
        """
        return None if self._given is None else _NamedTransport(self.files.certificate, public_name)

    def _take_given(self) -> CertificateFiles:
        """Copy the pair into one private file in one step, so that nobody ever sees a key beside another's chain."""
        assert self._given is not None
        chain, key = (_read(path) for path in self._given)
        content = chain.rstrip() + b"\n" + key.rstrip() + b"\n"
        path = self._folder / GIVEN_NAME
        files = CertificateFiles(self._folder / "ca.pem", path, path)
        if path.exists() and path.read_bytes() == content:
            return files
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._folder / f".{GIVEN_NAME}.new"
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        try:
            server_ssl_context(CertificateFiles(files.ca, temporary, temporary))
        except (ssl.SSLError, OSError) as error:
            temporary.unlink()
            raise CertificateError(
                f"{self._given[0]} and {self._given[1]} are no certificate chain and its key in PEM: {error}. "
                "Check tls_certificate_file and tls_key_file; the key must not be encrypted."
            ) from None
        temporary.replace(path)
        return files


class _NamedTransport(httpx.AsyncHTTPTransport):
    """Expects a certain name of servers that are addressed by number. Trusts the certificate itself, and the system's
    authorities, since the root of a given chain may be known to neither."""

    def __init__(self, certificate: Path, name: str) -> None:
        context = ssl.create_default_context()
        context.load_verify_locations(cafile=str(certificate))
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        super().__init__(verify=context, trust_env=False)
        self._context, self._certificate, self._name = context, certificate, name
        self._loaded = certificate.stat().st_mtime_ns

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        _, name = self.for_socket(request.url.host)
        if name != request.url.host:
            request.extensions = {**request.extensions, "sni_hostname": name}
        return await super().handle_async_request(request)

    def for_socket(self, host: str) -> tuple[ssl.SSLContext, str]:
        """The context for a connection to ``host``, and the name that its certificate must be for."""
        changed = self._certificate.stat().st_mtime_ns
        if changed != self._loaded:
            self._context.load_verify_locations(cafile=str(self._certificate))
            self._loaded = changed
        return self._context, self._name if _is_address(host) else host


def relay_client(ca: Path, transport: httpx.AsyncBaseTransport | None, timeout_seconds: float) -> httpx.AsyncClient:
    """The client for calls to render servers. It trusts ``ca`` alone unless a ``transport`` says otherwise."""
    if transport is not None:
        return httpx.AsyncClient(transport=transport, timeout=timeout_seconds, follow_redirects=False, trust_env=False)
    return httpx.AsyncClient(
        verify=client_ssl_context(ca), timeout=timeout_seconds, follow_redirects=False, trust_env=False
    )


def relay_tls(
    ca: Path, transport: httpx.AsyncBaseTransport | None
) -> Callable[[str], tuple[ssl.SSLContext | None, str]]:
    """The same trust as :func:`relay_client` has, for connections that are no HTTP requests: by host, the context and
    the name that the certificate must be for."""
    if isinstance(transport, _NamedTransport):
        return transport.for_socket
    context = client_ssl_context(ca)
    return lambda host: (context, host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host == "localhost"
    return True


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_PEM_BYTES + 1)
    except OSError as error:
        raise CertificateError(f"{path} cannot be read: {error.strerror}.") from None
    if len(content) > MAX_PEM_BYTES:
        raise CertificateError(f"{path} is larger than {MAX_PEM_BYTES} bytes; it is no certificate or key.")
    return content
