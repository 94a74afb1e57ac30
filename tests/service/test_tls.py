"""Certificates: given ones, replaced while the service runs, refused when they are wrong; the root's renewal."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from farframe.auth.certificates import CertificateError, CertificateFiles, client_ssl_context, ensure_certificates
from farframe.service.listeners import Listener, bind
from farframe.service.operations import metrics_app
from farframe.service.tls import ServedCertificates, relay_client
from tests.ports import quiet_port
from tests.service.test_process import serving


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> list[CertificateFiles]:
    """Two unrelated authorities, each with a leaf."""
    return [ensure_certificates(tmp_path_factory.mktemp(name), ["render.example.net"]) for name in ("one", "two")]


def give(folder: Path, files: CertificateFiles) -> tuple[Path, Path]:
    pair = folder / "chain.pem", folder / "key.pem"
    pair[0].write_bytes(files.certificate.read_bytes())
    pair[1].write_bytes(files.key.read_bytes())
    return pair


async def text() -> bytes:
    return b"here\n"


@asynccontextmanager
async def listening(served: ServedCertificates) -> AsyncIterator[int]:
    listener = Listener(metrics_app(text), bind("127.0.0.1", 0, "--port"), served.context)
    await listener.start()
    try:
        yield listener.port
    finally:
        await listener.stop()


def serial_at(port: int) -> int:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as secure:
        return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"").serial_number


def serial_of(files: CertificateFiles) -> int:
    return x509.load_pem_x509_certificates(files.certificate.read_bytes())[0].serial_number


async def test_replaced_without_dropping_connections(tmp_path: Path, authorities: list[CertificateFiles]) -> None:
    first, second = authorities
    served = ServedCertificates(tmp_path / "kept", [], give(tmp_path, first))
    assert not served.own_authority
    async with listening(served) as port:
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(
            verify=client_ssl_context(first.ca), limits=limits, trust_env=False, timeout=60
        ) as client:
            url = f"https://localhost:{port}/metrics"
            stream = (await client.get(url)).extensions["network_stream"]
            own = stream.get_extra_info("client_addr")
            assert not served.reload(), "nothing has changed"
            give(tmp_path, second)
            assert served.reload()
            assert await asyncio.to_thread(serial_at, port) == serial_of(second)
            response = await client.get(url)
            assert response.status_code == 200
            assert response.extensions["network_stream"].get_extra_info("client_addr") == own


@pytest.mark.parametrize("mistake", ["another key", "garbage", "empty", "missing", "huge"])
async def test_a_wrong_pair_leaves_the_former_in_place(
    tmp_path: Path, authorities: list[CertificateFiles], mistake: str
) -> None:
    first, second = authorities
    chain, key = give(tmp_path, first)
    served = ServedCertificates(tmp_path / "kept", [], (chain, key))
    async with listening(served) as port:
        match mistake:
            case "another key":
                key.write_bytes(second.key.read_bytes())
            case "garbage":
                chain.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            case "empty":
                chain.write_bytes(b"")
            case "missing":
                key.unlink()
            case "huge":
                chain.write_bytes(b"x" * 1_100_000)
        assert not served.reload()
        assert await asyncio.to_thread(serial_at, port) == serial_of(first)
        with pytest.raises(CertificateError):
            ServedCertificates(tmp_path / "other", [], (chain, key))
        give(tmp_path, second)
        assert served.reload()
        assert await asyncio.to_thread(serial_at, port) == serial_of(second)
    assert (tmp_path / "kept" / "given.pem").stat().st_mode & 0o777 == 0o600


async def test_the_relay_expects_the_public_name_of_a_given_certificate(
    tmp_path: Path, authorities: list[CertificateFiles]
) -> None:
    first, second = authorities
    served = ServedCertificates(tmp_path / "kept", [], give(tmp_path, first))
    async with listening(served) as port:
        url = f"https://127.0.0.1:{port}/metrics"
        for name, fits in (("render.example.net", True), ("other.example.net", False)):
            async with relay_client(second.ca, served.relay_transport(name), 5) as client:
                if fits:
                    assert (await client.get(url)).content == b"here\n"
                    give(tmp_path, second)
                    assert served.reload()
                    fresh = relay_client(second.ca, served.relay_transport(name), 5)
                    async with fresh:
                        assert (await fresh.get(url)).content == b"here\n"
                else:
                    with pytest.raises(httpx.ConnectError):
                        await client.get(url)


async def test_the_own_leaf_is_renewed_while_it_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = ServedCertificates(tmp_path, ["a.example.net"])
    async with listening(served) as port:
        before = await asyncio.to_thread(serial_at, port)
        ensure_certificates(tmp_path, ["a.example.net"], now=datetime.now(UTC) - timedelta(days=360))
        assert served.reload(), "what was near its end, or from the past, is made anew"
        assert await asyncio.to_thread(serial_at, port) != before
    assert served.not_after() - datetime.now(UTC) > timedelta(days=300)


def test_the_root_is_renewed_with_the_same_key_before_its_end(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, [])
    former = files.ca.read_bytes()
    later = datetime.now(UTC) + timedelta(days=3650 - 729)
    ensure_certificates(tmp_path, [], now=later)
    assert files.ca.read_bytes() != former
    root = x509.load_pem_x509_certificate(files.ca.read_bytes())
    old = x509.load_pem_x509_certificate(former)
    assert root.not_valid_after_utc > old.not_valid_after_utc
    leaf = x509.load_pem_x509_certificates(files.certificate.read_bytes())[0]
    leaf.verify_directly_issued_by(root)
    leaf.verify_directly_issued_by(old)


async def test_the_process_reloads_on_a_hangup_and_has_metrics_of_its_own(
    tmp_path: Path, authorities: list[CertificateFiles]
) -> None:
    first, second = authorities
    chain, key = give(tmp_path, first)
    metrics_port = quiet_port()
    settings = {
        "FARFRAME_TLS_CERTIFICATE_FILE": str(chain),
        "FARFRAME_TLS_KEY_FILE": str(key),
        "FARFRAME_TLS_CA_FILE": str(first.ca),
        "FARFRAME_METRICS_ADDRESS": f"127.0.0.1:{metrics_port}",
    }
    async with serving(tmp_path / "data", **settings) as (process, connection, _link):
        assert connection["caBundle"] == str(first.ca)
        port = int(connection["endpoint"].rpartition(":")[2])
        assert await asyncio.to_thread(serial_at, port) == serial_of(first)
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            metrics = await client.get(f"http://127.0.0.1:{metrics_port}/metrics")
            assert 'farframe_ready{part="fleet"} 1.0' in metrics.text
            assert (await client.get(f"{connection['httpUrl']}/health/ready")).json() == {"status": "ok"}
        give(tmp_path, second)
        process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(60):
            while await asyncio.to_thread(serial_at, port) != serial_of(second):
                await asyncio.sleep(0.05)
