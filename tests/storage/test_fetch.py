"""Fetching from uploads, folders and a real HTTPS server on loopback with an authority of its own."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gzip
import ipaddress
import json
import logging
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import FetchPolicy
from farframe.storage.fetch import fetch_model

GLB = b"glTF" + bytes(60)
SAS = "sv=2024-01-01&sr=c&sig=TOP%2BSECRET%3D"
LOOPBACK = ("127.0.0.0/8",)


@dataclass
class Server:
    """An HTTPS server: ``answers`` maps targets without query to (status, headers, body)."""

    port: int = 0
    ca_file: Path = Path()
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)

    def url(self, target: str, host: str = "models.test") -> str:
        return f"https://{host}:{self.port}{target}"


def certificate(folder: Path) -> tuple[Path, Path, Path]:
    """An authority and a certificate for models.test and other.test: CA file, chain, key."""
    now = datetime.datetime.now(datetime.UTC)

    def build(subject, issuer, key, signer, *extensions):
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(signer, hashes.SHA256())

    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = build(
        "Test authority",
        "Test authority",
        ca_key,
        ca_key,
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **usage), True),
    )
    names = [x509.DNSName("models.test"), x509.DNSName("other.test"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = build("models.test", "Test authority", key, ca_key, (x509.SubjectAlternativeName(names), False))
    ca_file, chain, key_file = folder / "ca.pem", folder / "chain.pem", folder / "key.pem"
    ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    chain.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return ca_file, chain, key_file


@pytest.fixture
async def server(tmp_path):
    folder = tmp_path / "tls"
    folder.mkdir()
    state = Server()
    state.ca_file, chain, key_file = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key_file)
    context.sni_callback = lambda sock, name, context: state.names.append(name)

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                target = head[0].split(" ")[1]
                state.requests.append((target, dict(line.lower().split(": ", 1) for line in head[1:] if line)))
                status, headers, body = state.answers.get(target.partition("?")[0], (404, {}, b"no such thing"))
                headers = {"Content-Length": str(len(body)), **headers}
                text = f"HTTP/1.1 {status} X\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items() if v)
                writer.write(text.encode("latin-1") + b"\r\n" + body)
                await writer.drain()
                if "close" in headers.get("Connection", ""):
                    break
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    state.port = listener.sockets[0].getsockname()[1]
    yield state
    listener.close()
    await listener.wait_closed()


async def resolver(host, port):
    """Test names are this machine; addresses are themselves; everything else is somewhere private."""
    if host.endswith(".test"):
        return ["127.0.0.1"]
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    return ["10.9.8.7"]


async def fetch(server, uri, workspace, **options):
    policy = FetchPolicy(**{"allowed_networks": LOOPBACK, **options.pop("policy", {})})
    return await fetch_model(
        uri,
        policy=policy,
        uploads_folder=None,
        workspace=workspace,
        resolver=options.pop("resolver", resolver),
        ca_file=options.pop("ca_file", server.ca_file),
        **options,
    )


async def refused(server, uri, workspace, **options) -> FarframeError:
    with pytest.raises(FarframeError) as caught:
        await fetch(server, uri, workspace, **options)
    chained = caught.value.__cause__
    assert chained is None
    assert "SECRET" not in str(caught.value)
    return caught.value


class TestWeb:
    async def test_a_glb_by_sas(self, server, tmp_path):
        server.answers["/models/my%20duck.glb"] = (200, {}, GLB)
        seen = []
        path = await fetch(
            server,
            server.url(f"/models/my%20duck.glb?{SAS}"),
            tmp_path / "work",
            progress=lambda stage, fraction: seen.append(fraction),
        )
        assert path == tmp_path / "work" / "my duck.glb"
        assert path.read_bytes() == GLB
        assert seen[-1] == 1.0
        ((target, headers),) = server.requests
        assert target == f"/models/my%20duck.glb?{SAS}"
        assert headers["host"] == f"models.test:{server.port}"
        assert "cookie" not in headers
        assert "authorization" not in headers
        assert server.names == ["models.test"]

    async def test_content_decides_what_it_is(self, server, tmp_path):
        server.answers["/download"] = (200, {}, GLB)
        server.answers["/a.glb"] = (200, {}, b' \xef\xbb\xbf{"asset":{}}'.lstrip())
        assert (await fetch(server, server.url("/download"), tmp_path / "1")).name == "download.glb"
        assert (await fetch(server, server.url("/a.glb"), tmp_path / "2")).name == "a.gltf"
        server.answers["/page.glb"] = (200, {}, b"<html>sign in</html>")
        assert (await refused(server, server.url("/page.glb"), tmp_path / "3")).result is Result.FILE_CORRUPT

    async def test_a_gltf_brings_its_files(self, server, tmp_path):
        document = {
            "buffers": [{"uri": "data%20one.bin", "byteLength": 3}, {"uri": "data:;base64,AAAA", "byteLength": 3}],
            "images": [{"uri": "textures/a.png"}, {"uri": "./textures/a.png"}, {"bufferView": 0}, {"uri": "gone.png"}],
        }
        server.answers["/c/scene/model.gltf"] = (200, {}, json.dumps(document).encode())
        server.answers["/c/scene/data%20one.bin"] = (200, {}, b"one")
        server.answers["/c/scene/textures/a.png"] = (200, {}, b"picture")
        path = await fetch(server, server.url(f"/c/scene/model.gltf?{SAS}"), tmp_path / "work")
        assert path.name == "model.gltf"
        assert (path.parent / "data one.bin").read_bytes() == b"one"
        assert (path.parent / "textures" / "a.png").read_bytes() == b"picture"
        assert not (path.parent / "gone.png").exists()
        assert sorted(target for target, _ in server.requests) == sorted(
            f"/c/scene/{name}?{SAS}" for name in ("model.gltf", "data%20one.bin", "textures/a.png", "gone.png")
        )

    @pytest.mark.parametrize(
        "uri",
        [
            "../secret.bin",
            "a/../../secret.bin",
            "%2e%2e/secret.bin",
            "/etc/passwd",
            "//other.test/x",
            "https://other.test/x",
            "\\\\host\\x",
            "model.gltf",
            "",
            "%FF",
        ],
    )
    async def test_a_gltf_reaches_nothing_else(self, server, tmp_path, uri):
        server.answers["/c/model.gltf"] = (200, {}, json.dumps({"buffers": [{"uri": uri}]}).encode())
        assert (await refused(server, server.url("/c/model.gltf"), tmp_path / "work")).result is Result.FILE_CORRUPT
        assert len(server.requests) == 1

    async def test_a_failing_file_of_a_gltf(self, server, tmp_path):
        server.answers["/model.gltf"] = (
            200,
            {},
            json.dumps({"buffers": [{"uri": "a.bin"}, {"uri": "b.bin"}]}).encode(),
        )
        server.answers["/a.bin"] = (500, {}, b"")
        error = await refused(server, server.url(f"/model.gltf?{SAS}"), tmp_path / "work")
        assert error.result is Result.FILE_DOWNLOAD_FAILED
        assert "a.bin" in error.message

    @pytest.mark.parametrize(
        ("status", "result"),
        [
            (404, Result.FILE_NOT_FOUND),
            (410, Result.FILE_NOT_FOUND),
            (401, Result.FILE_DOWNLOAD_FAILED),
            (403, Result.FILE_DOWNLOAD_FAILED),
            (500, Result.FILE_DOWNLOAD_FAILED),
            (204, Result.FILE_DOWNLOAD_FAILED),
            (304, Result.FILE_DOWNLOAD_FAILED),
        ],
    )
    async def test_statuses(self, server, tmp_path, status, result):
        server.answers["/a.glb"] = (status, {}, b"")
        error = await refused(server, server.url(f"/a.glb?{SAS}"), tmp_path / "work")
        assert error.result is result
        assert error.next_step

    async def test_the_size_is_limited_by_what_is_announced(self, server, tmp_path):
        server.answers["/a.glb"] = (200, {}, bytes(5_000))
        error = await refused(server, server.url("/a.glb"), tmp_path / "w", policy={"max_download_bytes": 4_999})
        assert error.result is Result.EXCEEDS_MEMORY_LIMIT

    async def test_the_size_is_limited_by_what_comes(self, server, tmp_path):
        chunked = b"1000\r\n" + bytes(0x1000) + b"\r\n"
        server.answers["/a.glb"] = (
            200,
            {"Content-Length": "", "Transfer-Encoding": "chunked", "Connection": "close"},
            chunked * 100 + b"0\r\n\r\n",
        )
        error = await refused(server, server.url("/a.glb"), tmp_path / "w", policy={"max_download_bytes": 50_000})
        assert error.result is Result.EXCEEDS_MEMORY_LIMIT
        assert sum(path.stat().st_size for path in (tmp_path / "w").iterdir()) <= 50_000

    async def test_the_size_is_limited_after_decompression(self, server, tmp_path):
        bomb = gzip.compress(bytes(20_000_000))
        server.answers["/a.glb"] = (200, {"Content-Encoding": "gzip"}, bomb)
        error = await refused(server, server.url("/a.glb"), tmp_path / "w", policy={"max_download_bytes": 1_000_000})
        assert error.result is Result.EXCEEDS_MEMORY_LIMIT
        assert sum(path.stat().st_size for path in (tmp_path / "w").iterdir()) <= 1_000_000

    async def test_all_files_count_together(self, server, tmp_path):
        server.answers["/m.gltf"] = (200, {}, json.dumps({"buffers": [{"uri": "a.bin"}, {"uri": "b.bin"}]}).encode())
        server.answers["/a.bin"] = server.answers["/b.bin"] = (200, {}, bytes(600))
        assert await fetch(server, server.url("/m.gltf"), tmp_path / "1", policy={"max_download_bytes": 2_000})
        error = await refused(server, server.url("/m.gltf"), tmp_path / "2", policy={"max_download_bytes": 1_000})
        assert error.result is Result.EXCEEDS_MEMORY_LIMIT

    async def test_compressed_blobs_are_unpacked(self, server, tmp_path):
        server.answers["/a.glb"] = (200, {"Content-Encoding": "gzip"}, gzip.compress(GLB))
        assert (await fetch(server, server.url("/a.glb"), tmp_path / "1")).read_bytes() == GLB
        server.answers["/a.glb"] = (200, {"Content-Encoding": "gzip"}, gzip.compress(GLB)[:-12])
        assert (await refused(server, server.url("/a.glb"), tmp_path / "2")).result is Result.FILE_DOWNLOAD_FAILED
        server.answers["/a.glb"] = (200, {"Content-Encoding": "gzip"}, GLB)
        assert (await refused(server, server.url("/a.glb"), tmp_path / "3")).result is Result.FILE_DOWNLOAD_FAILED
        server.answers["/a.glb"] = (200, {"Content-Encoding": "br"}, GLB)
        assert (await refused(server, server.url("/a.glb"), tmp_path / "4")).result is Result.FILE_DOWNLOAD_FAILED

    async def test_a_connection_that_breaks_off(self, server, tmp_path):
        server.answers["/a.glb"] = (200, {"Content-Length": "5000", "Connection": "close"}, GLB)
        assert (await refused(server, server.url("/a.glb"), tmp_path / "w")).result is Result.FILE_DOWNLOAD_FAILED

    async def test_time_is_limited(self, server, tmp_path):
        async def never(host, port):
            await asyncio.Event().wait()

        error = await refused(
            server, server.url("/a.glb"), tmp_path / "w", resolver=never, policy={"timeout_seconds": 0.2}
        )
        assert error.result is Result.FILE_DOWNLOAD_FAILED

    async def test_an_unknown_authority_is_not_trusted(self, server, tmp_path):
        server.answers["/a.glb"] = (200, {}, GLB)
        error = await refused(server, server.url("/a.glb"), tmp_path / "w", ca_file=None)
        assert error.result is Result.FILE_DOWNLOAD_FAILED
        assert "certificate" in error.message
        assert server.requests == []

    async def test_the_certificate_must_be_for_the_urls_host(self, server, tmp_path):
        error = await refused(server, server.url("/a.glb", host="third.test"), tmp_path / "w")
        assert error.result is Result.FILE_DOWNLOAD_FAILED
        assert "certificate" in error.message

    async def test_proxies_of_the_environment_are_ignored(self, server, tmp_path, monkeypatch):
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        server.answers["/a.glb"] = (200, {}, GLB)
        assert await fetch(server, server.url("/a.glb"), tmp_path / "w")

    async def test_nothing_secret_is_logged(self, server, tmp_path, caplog):
        server.answers["/a.glb"] = (302, {"Location": server.url(f"/b.glb?{SAS}")}, b"")
        server.answers["/b.glb"] = (200, {}, GLB)
        with caplog.at_level(logging.DEBUG):
            await fetch(server, server.url(f"/a.glb?{SAS}"), tmp_path / "w")
        assert len(server.requests) == 2
        assert "SECRET" not in caplog.text


class TestPrivateNetworks:
    @pytest.mark.parametrize(
        "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]"]
    )
    async def test_loopback_is_refused_in_every_spelling(self, server, tmp_path, host):
        from farframe.storage.network import system_resolver

        error = await refused(
            server,
            server.url(f"/a.glb?{SAS}", host=host),
            tmp_path / "w",
            resolver=system_resolver,
            policy={"allowed_networks": ()},
        )
        assert error.result is Result.INVALID_URI
        assert server.requests == []

    @pytest.mark.parametrize(
        "target", ["https://10.0.0.1/x", "https://169.254.169.254/latest", "https://inside.example/"]
    )
    async def test_redirects_into_private_networks_are_refused(self, server, tmp_path, target):
        server.answers["/a.glb"] = (302, {"Location": f"{target}?{SAS}"}, b"")
        error = await refused(server, server.url("/a.glb"), tmp_path / "w")
        assert error.result is Result.INVALID_URI

    async def test_redirects_of_side_files_are_judged_as_well(self, server, tmp_path):
        server.answers["/m.gltf"] = (200, {}, json.dumps({"buffers": [{"uri": "a.bin"}]}).encode())
        server.answers["/a.bin"] = (302, {"Location": "https://10.0.0.1/a.bin"}, b"")
        assert (await refused(server, server.url("/m.gltf"), tmp_path / "w")).result is Result.INVALID_URI

    async def test_a_name_that_changes_its_mind(self, server, tmp_path):
        answers = [["127.0.0.1"], ["10.0.0.1"]]

        async def rebinding(host, port):
            return answers.pop(0)

        # The first connection is closed, so that the second request has to connect, and resolve, again.
        server.answers["/a.glb"] = (302, {"Location": "/b.glb", "Connection": "close"}, b"")
        server.answers["/b.glb"] = (200, {}, GLB)
        error = await refused(server, server.url("/a.glb"), tmp_path / "w", resolver=rebinding)
        assert error.result is Result.INVALID_URI
        assert [target for target, _ in server.requests] == ["/a.glb"]

    async def test_redirects_to_public_places_are_followed(self, server, tmp_path):
        server.answers["/a.glb"] = (307, {"Location": server.url("/b/c.glb?x=1", host="other.test")}, b"")
        server.answers["/b/c.glb"] = (200, {}, GLB)
        path = await fetch(server, server.url(f"/a.glb?{SAS}"), tmp_path / "w")
        assert path.name == "a.glb"
        assert [target for target, _ in server.requests] == [f"/a.glb?{SAS}", "/b/c.glb?x=1"]

    async def test_redirects_are_limited(self, server, tmp_path):
        server.answers["/a.glb"] = (302, {"Location": "/a.glb"}, b"")
        error = await refused(server, server.url("/a.glb"), tmp_path / "w", policy={"max_redirects": 3})
        assert error.result is Result.FILE_DOWNLOAD_FAILED
        assert len(server.requests) == 4

    @pytest.mark.parametrize(
        ("location", "result"),
        [
            ("http://models.test/a.glb", Result.INVALID_URI),
            ("file:///etc/passwd", Result.INVALID_URI),
            ("https://user:secret@other.test/", Result.INVALID_URI),
            ("https://other.test:0/", Result.INVALID_URI),
            ("", Result.FILE_DOWNLOAD_FAILED),
        ],
    )
    async def test_other_redirects_are_refused(self, server, tmp_path, location, result):
        server.answers["/a.glb"] = (302, {"Location": location}, b"")
        assert (await refused(server, server.url("/a.glb"), tmp_path / "w")).result is result
        assert len(server.requests) == 1

    async def test_plain_http_only_in_listed_networks(self, server, tmp_path):
        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(GLB) + GLB)
            await writer.drain()
            writer.close()

        async def public(host, port):
            return ["8.8.8.8"]

        plain = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://models.test:{plain.sockets[0].getsockname()[1]}/a.glb"
        try:
            assert (await fetch(server, url, tmp_path / "1")).read_bytes() == GLB
            error = await refused(server, url, tmp_path / "2", policy={"allowed_networks": ("10.0.0.0/8",)})
            assert error.result is Result.INVALID_URI
            assert (await refused(server, url, tmp_path / "3", resolver=public)).result is Result.INVALID_URI
        finally:
            plain.close()
            await plain.wait_closed()


class TestUploads:
    async def load(self, uri, uploads, tmp_path):
        return await fetch_model(uri, policy=FetchPolicy(), uploads_folder=uploads, workspace=tmp_path / "w")

    async def test_an_upload_is_read_in_place(self, tmp_path):
        path = tmp_path / "uploads" / "u1" / "sub" / "a b.glb"
        path.parent.mkdir(parents=True)
        path.write_bytes(GLB)
        assert await self.load("upload://u1/sub/a%20b.glb", tmp_path / "uploads", tmp_path) == path.resolve()

    @pytest.mark.parametrize("uri", ["upload://u1/none.glb", "upload://u2/a.glb", "upload://u1/sub"])
    async def test_what_is_not_there(self, tmp_path, uri):
        (tmp_path / "uploads" / "u1" / "sub").mkdir(parents=True)
        with pytest.raises(FarframeError) as caught:
            await self.load(uri, tmp_path / "uploads", tmp_path)
        assert caught.value.result is Result.FILE_NOT_FOUND
        with pytest.raises(FarframeError) as caught:
            await self.load(uri, None, tmp_path)
        assert caught.value.result is Result.FILE_NOT_FOUND

    async def test_no_link_leads_out(self, tmp_path):
        (tmp_path / "uploads" / "u1").mkdir(parents=True)
        (tmp_path / "uploads" / "u2").mkdir()
        (tmp_path / "uploads" / "u2" / "theirs.glb").write_bytes(GLB)
        (tmp_path / "uploads" / "u1" / "link.glb").symlink_to(tmp_path / "uploads" / "u2" / "theirs.glb")
        (tmp_path / "uploads" / "u3").symlink_to(tmp_path)
        (tmp_path / "secret.glb").write_bytes(GLB)
        for uri in ("upload://u1/link.glb", "upload://u3/secret.glb"):
            with pytest.raises(FarframeError) as caught:
                await self.load(uri, tmp_path / "uploads", tmp_path)
            assert caught.value.result is Result.INVALID_URI


class TestFiles:
    async def load(self, uri, tmp_path, *folders):
        policy = FetchPolicy(allowed_folders=tuple(str(folder) for folder in folders))
        return await fetch_model(uri, policy=policy, uploads_folder=None, workspace=tmp_path / "w")

    async def test_below_an_allowed_folder(self, tmp_path):
        path = tmp_path / "models" / "a" / "b.glb"
        path.parent.mkdir(parents=True)
        path.write_bytes(GLB)
        assert await self.load(path.as_uri(), tmp_path, tmp_path / "other", tmp_path / "models") == path.resolve()

    async def test_an_allowed_folder_may_be_a_link(self, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "real" / "a.glb").write_bytes(GLB)
        (tmp_path / "models").symlink_to(tmp_path / "real")
        found = await self.load((tmp_path / "models" / "a.glb").as_uri(), tmp_path, tmp_path / "models")
        assert found == (tmp_path / "real" / "a.glb").resolve()

    @pytest.mark.parametrize(
        "name", ["models/../secret.glb", "models/link.glb", "secret.glb", "models2/a.glb", "no/such"]
    )
    async def test_everything_else_is_refused_alike(self, tmp_path, name):
        for folder in ("models", "models2"):
            (tmp_path / folder).mkdir()
        (tmp_path / "models2" / "a.glb").write_bytes(GLB)
        (tmp_path / "secret.glb").write_bytes(GLB)
        (tmp_path / "models" / "link.glb").symlink_to(tmp_path / "secret.glb")
        with pytest.raises(FarframeError) as caught:
            await self.load(f"file://{tmp_path}/{name}", tmp_path, tmp_path / "models")
        assert caught.value.result is Result.INVALID_URI
        assert str(tmp_path) not in str(caught.value)

    async def test_what_is_not_there(self, tmp_path):
        with pytest.raises(FarframeError) as caught:
            await self.load((tmp_path / "none.glb").as_uri(), tmp_path, tmp_path)
        assert caught.value.result is Result.FILE_NOT_FOUND

    async def test_no_folder_is_allowed_by_default(self, tmp_path):
        (tmp_path / "a.glb").write_bytes(GLB)
        with pytest.raises(FarframeError) as caught:
            await self.load((tmp_path / "a.glb").as_uri(), tmp_path)
        assert caught.value.result is Result.INVALID_URI


async def test_builtin_is_not_fetched(tmp_path):
    with pytest.raises(FarframeError) as caught:
        await fetch_model("builtin://Engine", policy=FetchPolicy(), uploads_folder=None, workspace=tmp_path)
    assert caught.value.result is Result.INVALID_URI
