"""Hostile and broken input: a typed error for the device, and the server goes on serving."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from farframe.client import RemoteRenderingClient, RequestError, RuntimeConnection, Session
from farframe.protocol.errors import Result
from farframe.protocol.messages import LoadModelParams, LoadModelResult
from tests.end_to_end.harness import RunningService

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session(service: RunningService) -> AsyncIterator[Session]:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as leased,
    ):
        yield leased


@pytest_asyncio.fixture(loop_scope="module")
async def connection(session: Session) -> AsyncIterator[RuntimeConnection]:
    async with session.connect(width=320, height=180) as connected:
        yield connected
        # Whatever a test did: the server still draws, and nothing is half loaded.
        assert (await connected.statistics()).server.models == 0
        connected.look_at((0.0, 1.0, 5.0), (0.0, 0.0, 0.0))
        await connected.wait_for_still(60.0)


def glb(document: dict[str, object], binary: bytes = b"") -> bytes:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    if binary:
        chunks += struct.pack("<II", len(binary), 0x004E4942) + binary
    return struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks


def huge_png() -> bytes:
    """A PNG that claims 23,000 x 23,000 pixels, 2 GB of RGBA, in a few bytes."""
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 23_000, 23_000, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def textured(image: bytes) -> bytes:
    """One triangle with ``image`` as its base colour."""
    positions = struct.pack("<9f", 0, 0, 0, 1, 0, 0, 0, 1, 0)
    uvs = struct.pack("<6f", 0, 0, 1, 0, 0, 1)
    binary = positions + uvs + image
    return glb(
        {
            "asset": {"version": "2.0"},
            "scenes": [{"nodes": [0]}],
            "scene": 0,
            "nodes": [{"mesh": 0}],
            "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "material": 0}]}],
            "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
            "textures": [{"source": 0}],
            "images": [{"bufferView": 2, "mimeType": "image/png"}],
            "accessors": [
                {
                    "bufferView": 0,
                    "componentType": 5126,
                    "count": 3,
                    "type": "VEC3",
                    "min": [0, 0, 0],
                    "max": [1, 1, 0],
                },
                {"bufferView": 1, "componentType": 5126, "count": 3, "type": "VEC2"},
            ],
            "bufferViews": [
                {"buffer": 0, "byteOffset": 0, "byteLength": 36},
                {"buffer": 0, "byteOffset": 36, "byteLength": 24},
                {"buffer": 0, "byteOffset": 60, "byteLength": len(image)},
            ],
            "buffers": [{"byteLength": len(binary)}],
        },
        binary,
    )


BROKEN = {
    "empty.glb": (b"", Result.FILE_CORRUPT),
    "garbage.glb": (random.Random(1).randbytes(5000), Result.FILE_CORRUPT),
    "json.gltf": (b"{", Result.FILE_CORRUPT),
    "huge-texture.glb": (textured(huge_png()), Result.EXCEEDS_MEMORY_LIMIT),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
async def test_broken_models(connection: RuntimeConnection, shared_folder: Path, name: str) -> None:
    content, result = BROKEN[name]
    path = shared_folder / name
    path.write_bytes(content)
    with pytest.raises(RequestError) as caught:
        await connection.load_model(path.as_uri())
    assert caught.value.result is result
    assert str(caught.value)


async def test_a_truncated_model(connection: RuntimeConnection, shared_folder: Path, models_folder: Path) -> None:
    whole = (models_folder / "Duck.glb").read_bytes()
    path = shared_folder / "truncated.glb"
    for share in (0.1, 0.5, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(RequestError) as caught:
            await connection.load_model(path.as_uri())
        assert caught.value.result is Result.FILE_CORRUPT


@pytest.mark.parametrize(
    ("uri", "result"),
    [
        ("file:///etc/passwd", Result.INVALID_URI),
        ("file:///nowhere/../etc/passwd", Result.INVALID_URI),
        ("https://127.0.0.1:1/model.glb", Result.INVALID_URI),
        ("https://localhost/model.glb", Result.INVALID_URI),
        ("https://10.0.0.1/model.glb", Result.INVALID_URI),
        ("https://169.254.169.254/latest/meta-data", Result.INVALID_URI),
        ("https://[::1]/model.glb", Result.INVALID_URI),
        ("https://[::ffff:127.0.0.1]/model.glb", Result.INVALID_URI),
        ("https://2130706433/model.glb", Result.INVALID_URI),
        ("http://127.0.0.1/model.glb", Result.INVALID_URI),
        ("ftp://example.org/model.glb", Result.INVALID_URI),
        ("upload://nothing/model.glb", Result.FILE_NOT_FOUND),
        ("upload://../../model.glb", Result.INVALID_URI),
        ("builtin://Nothing", Result.FILE_NOT_FOUND),
        ("", Result.INVALID_URI),
        ("\0", Result.INVALID_URI),
    ],
)
async def test_uris_that_must_not_be_read(connection: RuntimeConnection, uri: str, result: Result) -> None:
    with pytest.raises(RequestError) as caught:
        await call(connection, uri)
    assert caught.value.result is result


async def call(connection: RuntimeConnection, uri: str) -> None:
    """Ask for a URI as it is; the client's own checks must not hide the server's."""
    await connection._call("scene.loadModel", LoadModelParams(uri=uri), LoadModelResult)


async def test_a_missing_file_in_an_allowed_folder(connection: RuntimeConnection, shared_folder: Path) -> None:
    with pytest.raises(RequestError) as caught:
        await connection.load_model((shared_folder / "missing.glb").as_uri())
    assert caught.value.result is Result.FILE_NOT_FOUND


async def test_a_link_out_of_an_allowed_folder(connection: RuntimeConnection, shared_folder: Path) -> None:
    link = shared_folder / "link.glb"
    link.unlink(missing_ok=True)
    link.symlink_to("/etc/passwd")
    with pytest.raises(RequestError) as caught:
        await connection.load_model(link.as_uri())
    assert caught.value.result is Result.INVALID_URI


async def test_garbage_on_every_channel(connection: RuntimeConnection) -> None:
    source = random.Random(7)
    transport = connection._transport
    for _ in range(60):
        transport.send_pose(source.randbytes(source.randrange(1, 200)))
    for text in ("", "null", "[]", "{", '{"jsonrpc":"2.0"}', '{"jsonrpc":"2.0","id":1,"method":7}', "x" * 100_000):
        transport.send_control(text)
    for method in ("no.such", "scene.loadModel", "video.configure", "scene.configure"):
        transport.send_control(json.dumps({"jsonrpc": "2.0", "id": f"odd-{method}", "method": method, "params": []}))
    statistics = await connection.statistics()
    assert statistics.server.models == 0


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({"width": 8}, Result.INVALID_PARAM),
        ({"height": 100_000}, Result.INVALID_PARAM),
        ({"max_frames_per_second": 0}, Result.INVALID_PARAM),
    ],
)
async def test_impossible_video(connection: RuntimeConnection, changes: dict[str, int], result: Result) -> None:
    with pytest.raises(RequestError) as caught:
        await connection.configure_video(**changes)
    assert caught.value.result is result


OFFERS = {
    "empty": "",
    "words": "hello",
    "no media": "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n",
    "huge": "v=0\r\n" + "a=x\r\n" * 20_000,
}


@pytest.mark.parametrize("name", sorted(OFFERS))
async def test_offers_that_are_none(session: Session, name: str) -> None:
    await refused(session, OFFERS[name], {400, 413})


async def test_an_offer_without_h264(session: Session) -> None:
    offer = (
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n"
        "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\n"
        "a=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 " + ":".join(["AA"] * 32) + "\r\n"
        "a=setup:actpass\r\na=mid:0\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n"
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=sctp-port:5000\r\n"
    )
    body = await refused(session, offer, {406})
    assert body["error"]["code"] == "VideoCodecNotAvailable"


async def refused(session: Session, offer: str, statuses: set[int]) -> dict[str, dict[str, str]]:
    """Send an offer directly and relayed; both say the same, and the place stays free."""
    http = session.client._http
    token = await http.token()
    properties = session.properties
    urls = [
        f"https://{properties.hostname}:{properties.handshake_port}/whep",
        http.account_url(f"sessions/{session.id}/whep").partition("?")[0],
    ]
    bodies = []
    async with httpx.AsyncClient(verify=session.client.connection.ssl_context(), timeout=60) as plain:
        for url in urls:
            response = await plain.post(
                url,
                content=offer,
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/sdp"},
            )
            assert response.status_code in statuses, response.text
            bodies.append(response.json())
    assert bodies[0]["error"]["code"]
    async with session.connect(width=320, height=180) as connection:
        await connection.wait_for_still(60.0)
    return bodies[0]
