"""What an operator sets: names, addresses, the port range, and from where models may come."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509

from farframe.auth.certificates import ensure_certificates, server_ssl_context
from farframe.client import RemoteRenderingClient, RequestError, SessionFailedError
from farframe.protocol.errors import Result
from farframe.stream.receiver import ReceiverTransport
from tests.end_to_end.harness import start_service

pytestmark = pytest.mark.slow

PORTS = range(53100, 53160)


class Shop(SimpleHTTPRequestHandler):
    """Serves a folder to whoever has the signature, and redirects from one path into a private network."""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if address.path == "/moved.glb":
            self.send_response(302)
            self.send_header("Location", "https://10.11.12.13/secret.glb")
            self.end_headers()
        elif address.query != "sig=s3cret":
            self.send_error(403)
        else:
            self.path = address.path
            super().do_GET()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@contextmanager
def shop(folder: Path, certificates: Path) -> Iterator[tuple[str, Path]]:
    """An https server on loopback; yields its URL and its certificate authority."""
    files = ensure_certificates(certificates, ["localhost"])
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Shop, directory=str(folder)))
    server.socket = server_ssl_context(files).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}", files.ca
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def test_names_addresses_ports_and_a_private_shop(tmp_path: Path, models_folder: Path) -> None:
    with shop(models_folder, tmp_path / "shop") as (url, ca_file):
        service = start_service(
            tmp_path / "data",
            *("--public-name", "render.farframe.test", "--public-address", "127.0.0.1"),
            settings={
                "FARFRAME_PORT_MIN": str(PORTS[0]),
                "FARFRAME_PORT_MAX": str(PORTS[-1]),
                "FARFRAME_ALLOWED_NETWORKS": "127.0.0.0/8",
                "FARFRAME_DOWNLOAD_CA_FILE": str(ca_file),
            },
        )
        try:
            connection = service.connection
            assert urlsplit(connection["endpoint"]).hostname == "render.farframe.test"
            context = ssl.create_default_context(cafile=connection["caBundle"])
            port = urlsplit(connection["endpoint"]).port
            with (
                socket.create_connection(("127.0.0.1", port)) as plain,
                context.wrap_socket(plain, server_hostname="render.farframe.test") as tls,
            ):
                certificate = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert {"render.farframe.test", "localhost"} <= set(names.get_values_for_type(x509.DNSName))
            # The name does not resolve here; the certificate holds the local ones as well.
            text = service.connection_path.read_text().replace("render.farframe.test", "localhost")
            local = tmp_path / "local.json"
            local.write_text(text)
            local.chmod(0o600)
            async with RemoteRenderingClient.from_connection_file(local) as client, client.leased() as session:
                properties = session.properties
                assert properties.hostname == "render.farframe.test"
                assert properties.handshake_port in PORTS
                assert properties.inspector_port in PORTS
                await answered_with_public_candidates(client, session.id)
                async with session.connect(width=320, height=180, relayed=True) as connected:
                    model = await connected.load_model(f"{url}/Duck.glb?sig=s3cret")
                    assert model.texture_count == 1
                    assert "s3cret" not in model.uri
                    box = await connected.load_model(f"{url}/BoxTextured/BoxTextured.gltf?sig=s3cret")
                    assert box.triangle_count == 12
                    for path, result in (
                        ("missing.glb?sig=s3cret", Result.FILE_NOT_FOUND),
                        ("Duck.glb?sig=wrong", Result.FILE_DOWNLOAD_FAILED),
                        ("moved.glb", Result.INVALID_URI),
                    ):
                        with pytest.raises(RequestError) as caught:
                            await connected.load_model(f"{url}/{path}")
                        assert caught.value.result is result
                        assert "s3cret" not in str(caught.value)
                    assert (await connected.statistics()).server.models == 2
            assert "s3cret" not in service.log()
        finally:
            service.stop()


async def answered_with_public_candidates(client: RemoteRenderingClient, session: str) -> None:
    """The answer names only the announced address, with ports of the range; then the place is left again."""
    http = client._http
    receiver = ReceiverTransport(bind_host="127.0.0.1")
    try:
        offer = await receiver.create_offer()
        path = f"sessions/{session}/whep"
        url = http.account_url(path).partition("?")[0]
        token = await http.token()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/sdp"}
        import httpx

        async with httpx.AsyncClient(verify=client.connection.ssl_context(), timeout=60) as plain:
            response = await plain.post(url, content=offer, headers=headers)
            assert response.status_code == 201, response.text
            found = re.findall(r"a=candidate:\S+ \d+ udp \d+ (\S+) (\d+) typ (\w+)", response.text)
            assert found
            assert {address for address, _, _ in found} == {"127.0.0.1"}
            assert all(int(port) in PORTS for _, port, _ in found)
            location = str(httpx.URL(url).join(response.headers["Location"]))
            gone = await plain.delete(location, headers=headers)
            assert gone.status_code == 200, gone.text
    finally:
        await receiver.close()
        await asyncio.sleep(0)


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """With a GPU asked for on a machine without one; on a machine with one the session is simply ready."""
    service = start_service(tmp_path / "data", "--adapter", "gpu")
    try:
        async with RemoteRenderingClient.from_connection_file(service.connection_path) as client:
            session = await client.create_session()
            try:
                await session.wait_until_ready()
            except SessionFailedError as error:
                properties = await session.refresh()
                assert properties.status == "Error"
                assert properties.error is not None
                assert properties.error.code == "DeviceLost"
                assert "adapter" in properties.error.message
                assert properties.error.message in str(error)
            else:
                assert session.status == "Ready"
                await session.stop()
    finally:
        service.stop()
