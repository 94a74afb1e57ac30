"""A service and render server in one small process, for tests of the pages alone: real HTTP, real WebRTC, no renderer.

It serves the built pages under the strict policy that the real service uses. The picture is a field of bars whose
place and colour follow the camera, so that a test sees poses arrive. What it answers is set by its attributes.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import time
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from aiohttp import web
from aiortc import RTCDataChannel, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from av import VideoFrame

from farframe.protocol import messages, records, scene
from farframe.protocol.errors import FarframeError, Result

BUNDLE = Path(__file__).parents[2] / "src" / "farframe" / "web_bundle"
POLICY = (
    "default-src 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'"
)
ACCOUNT = "7f1b6a8e-5a0c-4a51-9c6b-1a2b3c4d5e6f"
TOKEN = "token-of-the-test"
FRAMES_PER_SECOND = 30
ENTITIES_PER_PAGE = 5000

BOUNDS = {"min": [-0.5, 0.0, -0.4], "max": [0.5, 0.8, 0.4]}


class Bars(VideoStreamTrack):
    """The picture: bars that follow the newest pose."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self._device = device
        self._count = 0
        self._begin = time.monotonic()

    async def recv(self) -> VideoFrame:
        self._count += 1
        await asyncio.sleep(max(0.0, self._begin + self._count / FRAMES_PER_SECOND - time.monotonic()))
        device = self._device
        start = device.clock_us()
        width, height = device.size
        pose = device.pose
        x, _, z = pose.views[0].position if pose else (0.0, 0.0, 1.0)
        angle = math.atan2(x, z)
        columns = np.arange(width, dtype=np.float32) / width
        pixels = np.zeros((height, width, 3), np.uint8)
        lit = 70 + 60 * np.sin(14 * columns + 4 * angle)
        pixels[..., 0] = (lit * 0.6)[None, :] if device.models else 24
        pixels[..., 1] = (lit * 0.8)[None, :] if device.models else 28
        pixels[..., 2] = lit[None, :] if device.models else 34
        rows = np.linspace(0.55, 1.0, height, dtype=np.float32)[:, None, None]
        pixels = (pixels * rows).astype(np.uint8)
        drawn = device.clock_us()
        frame = VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts = self._count * 90_000 // FRAMES_PER_SECOND
        frame.time_base = Fraction(1, 90_000)
        device.record(frame.pts, start, drawn)
        return frame


class Device:
    """The one device that is connected."""

    def __init__(self, service: FakeService) -> None:
        self.service = service
        self.peer = RTCPeerConnection()
        self.pose: records.PoseRecord | None = None
        self.pose_at = 0
        self.poses = 0
        self.size = (1280, 720)
        self.models: dict[int, str] = {}
        self.control: RTCDataChannel | None = None
        self.frames: RTCDataChannel | None = None
        self.requests: list[tuple[str, Any]] = []
        self._frame_id = 0
        self.peer.on("datachannel", self._on_channel)

    @staticmethod
    def clock_us() -> int:
        return time.monotonic_ns() // 1000

    async def answer(self, offer: str) -> str:
        await self.peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        self.peer.addTrack(Bars(self))
        await self.peer.setLocalDescription(await self.peer.createAnswer())
        return self.peer.localDescription.sdp

    def record(self, pts: int, start: int, drawn: int) -> None:
        if not self.pose or not self.frames or self.frames.readyState != "open":
            return
        self._frame_id += 1
        since = [max(0, value - self.pose_at) for value in (start, drawn)]
        end = since[1]
        record = records.FrameRecord(
            self._frame_id, pts, self.pose.pose_id, self.pose.client_time_us, self.pose_at,
            since[0], end, end + 900, end + 1000, end + 7000, end + 7200, 21_000,
            *self.size, self.size[0] // 2, self.size[1] // 2, 1, 3, 212_340, 318, self.pose.views,
        )  # fmt: skip
        self.frames.send(records.encode_frame(record))

    def _on_channel(self, channel: RTCDataChannel) -> None:
        if channel.label == "pose":
            channel.on("message", self._on_pose)
        elif channel.label == "frames":
            self.frames = channel
        else:
            self.control = channel
            channel.on("message", lambda text: asyncio.ensure_future(self._on_request(channel, text)))

    def _on_pose(self, data: bytes) -> None:
        if data[:1] == bytes([records.REPORT_TYPE]):
            records.decode_report(data)
            return
        pose = records.decode_pose(data)
        if self.pose is None or pose.pose_id != self.pose.pose_id:
            self.pose, self.pose_at = pose, self.clock_us()
            self.poses += 1

    async def _on_request(self, channel: RTCDataChannel, text: str) -> None:
        request = json.loads(text)
        method, params = request["method"], request.get("params", {})
        self.requests.append((method, params))
        if "id" not in request:
            return
        try:
            result = await self._result(method, params)
        except FarframeError as error:
            channel.send(messages.encode_error(request["id"], error))
        else:
            channel.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}))

    async def _result(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        match method:
            case "connection.open" | "video.configure":
                self.size = (params.get("width", self.size[0]), params.get("height", self.size[1]))
                video = {
                    "width": self.size[0],
                    "height": self.size[1],
                    "maxFramesPerSecond": 60,
                    "maxBitrate": 6_000_000,
                }
                if method == "video.configure":
                    return video
                server = {"version": "0.1.0", "adapter": "llvmpipe (LLVM 15.0.6, 256 bits)", "adapterKind": "cpu"}
                return {
                    "protocol": self.service.protocol, "sessionId": "engine-review", "size": "Standard",
                    "server": server | {"encoder": "x264 superfast"}, "video": video,
                    "maxWidth": 3840, "maxHeight": 2160,
                }  # fmt: skip
            case "connection.ping":
                return params | {"serverTimeMicroseconds": self.clock_us()}
            case "scene.loadModel":
                return await self._load(params)
            case "scene.unloadModel":
                del self.models[params["modelId"]]
            case "scene.clear":
                self.models.clear()
            case "scene.getEntities":
                return self._entities(params["first"], params["last"])
            case "scene.getSubParts":
                return {"count": 0, "data": base64.b64encode(zlib.compress(b"")).decode()}
            case "scene.getMaterials":
                return {"materials": []}
            case "scene.castRay":
                return {"hits": [], "complete": True}
            case "statistics.get":
                draw = {"p50": 3.0, "p95": 5.0, "p99": 8.5, "frames": 100}
                return {"stages": {"draw": draw}, "encoderReason": "h264_nvenc: no device; h264_amf: no driver"}
            case "scene.getBounds":
                return {"bounds": BOUNDS}
            case "scene.getMetadata":
                return {"metadata": {"part number": "A-17", "<b>weight</b>": 3.5}}
        return {}

    def _entities(self, first: int, last: int) -> dict[str, Any]:
        """The entities of a model, as many as fit into a message: its root, and below it the service's parts."""
        root = last - self.service.parts
        count = min(last + 1 - first, ENTITIES_PER_PAGE)
        ids = first + np.arange(count)
        table = scene.EntityTable(
            position=np.zeros((count, 3)),
            id=ids,
            parent=np.where(ids > root, root, 0),
            rotation=np.tile((0.0, 0.0, 0.0, 1.0), (count, 1)),
            scale=np.ones((count, 3)),
            tint=np.zeros((count, 4)),
            on=np.zeros(count),
            off=np.zeros(count),
            flags=np.full(count, scene.IS_MESH),
            mask=np.full(count, 0xFF),
            names=[f"Part {number - root}" if number > root else "Engine" for number in ids.tolist()],
        )
        page = {"count": count, "data": base64.b64encode(scene.pack_entities(table)).decode()}
        return page | ({"next": first + count} if first + count <= last else {})

    async def _load(self, params: dict[str, Any]) -> dict[str, Any]:
        uri = params["uri"]
        for stage, fraction in (("download", 0.2), ("read", 0.45), ("simplify", 0.7)):
            self.notify(
                "scene.loadProgress", {"progressToken": params["progressToken"], "stage": stage, "fraction": fraction}
            )
        await self.service.may_load.wait()
        if "missing" in uri:
            raise FarframeError(Result.FILE_NOT_FOUND, "There is no file at that address.", next_step="Check it.")
        model_id = len(self.requests)
        self.models[model_id] = uri
        return {
            "modelId": model_id, "name": uri.rsplit("/", 1)[-1], "uri": uri, "bounds": BOUNDS, "partCount": 318,
            "triangleCount": 212_340, "vertexCount": 150_000, "materialCount": 12, "textureCount": 3,
            "warnings": ["The animations were left out."] if uri.startswith("upload") else [],
            "rootEntity": 2**31 + model_id, "entityCount": 1 + self.service.parts, "sceneGraphMode": "dynamic",
        }  # fmt: skip

    def notify(self, method: str, params: dict[str, Any]) -> None:
        if self.control:
            self.control.send(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}))


class FakeService:
    """The service. Use as an asynchronous context manager; ``url`` is its origin."""

    def __init__(self) -> None:
        self.codes: dict[str, str | None] = {"CONSOLE": None, "LINK": "engine-review"}
        self.sessions: dict[str, dict[str, Any]] = {}
        self.uploads: dict[str, int] = {}
        self.device: Device | None = None
        self.devices = 0
        """How many have connected so far."""
        self.whep_error: tuple[int, str, str] | None = None
        self.protocol = 1
        self.parts = 0
        """Below the root of each model."""
        self.deleted = asyncio.Event()
        self.token_valid = True
        self.may_load = asyncio.Event()
        self.may_load.set()
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.ledger: list[dict[str, Any]] = []
        self.log: list[dict[str, Any]] = []
        self.url = ""
        self.add_session("engine-review", elapsed=3)

    def add_session(self, session_id: str, size: str = "Standard", lease: int = 30, elapsed: int = 0) -> None:
        self.sessions[session_id] = {
            "id": session_id, "creationTime": "2024-05-01T08:00:00.1234567+00:00", "arrInspectorPort": 50052,
            "handshakePort": 50051, "elapsedTimeMinutes": elapsed, "hostname": "render.example.net",
            "maxLeaseTimeMinutes": lease, "size": size, "status": "Ready", "teraflops": 0.1,
        }  # fmt: skip

    async def __aenter__(self) -> FakeService:
        app = web.Application(client_max_size=64 * 1024**2)
        session = "/accounts/{account}/sessions/{session}"
        app.add_routes(
            [
                web.post("/viewer-links/redeem", self._redeem),
                web.get("/accounts/{account}/sessions", self._list),
                web.put(session, self._create),
                web.get(session, self._get),
                web.patch(session, self._extend),
                web.post(session + "/:stop", self._stop),
                web.post(session + "/whep", self._whep),
                web.delete(session + "/whep/{device}", self._end),
                web.get("/accounts/{account}/uploads", self._uploads),
                web.put("/accounts/{account}/uploads/{upload}/{path:.+}", self._upload),
                web.get("/inspector/ledger", self._lines),
                web.get("/inspector/log", self._lines),
                web.get("/{path:.*}", self._page),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.device:
            await self.device.peer.close()
        self.may_load.set()
        self.may_start.set()
        await self._runner.cleanup()
        mock.patch.stopall()

    def _check(self, request: web.Request) -> None:
        if not self.token_valid or request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise web.HTTPUnauthorized(text="", content_type="application/json")

    async def _redeem(self, request: web.Request) -> web.Response:
        code = (await request.json()).get("code")
        if code not in self.codes:
            return web.json_response(
                {
                    "error": {
                        "code": "NotFound",
                        "message": "This link does not exist. Ask for a new one: farframe view prints one.",
                    }
                },
                status=404,
            )
        body = {"accessToken": TOKEN, "accountId": ACCOUNT, "expiresAt": "2999-01-01T00:00:00Z", "endpoint": self.url}
        session_id = self.codes.pop(code)
        return web.json_response(body | ({"sessionId": session_id} if session_id else {}))

    async def _list(self, request: web.Request) -> web.Response:
        self._check(request)
        live = [entry for entry in self.sessions.values() if entry["status"] in ("Starting", "Ready")]
        return web.json_response({"sessions": live})

    async def _create(self, request: web.Request) -> web.Response:
        self._check(request)
        body = await request.json()
        session_id = request.match_info["session"]
        self.add_session(session_id, body["size"], body["maxLeaseTimeMinutes"])
        starting = self.sessions[session_id] | {"status": "Starting"}
        return web.json_response(starting, status=201)

    def _session(self, request: web.Request) -> dict[str, Any]:
        self._check(request)
        if request.match_info["session"] not in self.sessions:
            raise web.HTTPNotFound(text="", content_type="application/json")
        return self.sessions[request.match_info["session"]]

    async def _get(self, request: web.Request) -> web.Response:
        session = self._session(request)
        return web.json_response(session if self.may_start.is_set() else session | {"status": "Starting"})

    async def _extend(self, request: web.Request) -> web.Response:
        session = self._session(request)
        session["maxLeaseTimeMinutes"] = (await request.json())["maxLeaseTimeMinutes"]
        return web.json_response(session)

    async def _stop(self, request: web.Request) -> web.Response:
        self._session(request)["status"] = "Stopped"
        return web.Response(status=204)

    async def _whep(self, request: web.Request) -> web.Response:
        self._session(request)
        if self.whep_error:
            status, code, message = self.whep_error
            return web.json_response({"error": {"code": code, "message": message}}, status=status)
        self.deleted.clear()
        mock.patch.stopall()
        self.device = Device(self)
        self.devices = number = self.devices + 1
        answer = await self.device.answer(await request.text())
        # Frames and their records meet by time stamps, which have no random origin at the real server. The sources
        # have been drawn at random by now; what is drawn next is the origin.
        mock.patch("aiortc.rtcrtpsender.random32", return_value=0).start()
        location = f"{request.path}/{number}"
        return web.Response(status=201, text=answer, content_type="application/sdp", headers={"Location": location})

    async def _end(self, request: web.Request) -> web.Response:
        self._session(request)
        self.deleted.set()
        # A device that leaves late does not take the place from the next one.
        if self.device and request.match_info["device"] == str(self.devices):
            await self.device.peer.close()
            self.device = None
        return web.Response(status=200)

    async def _uploads(self, request: web.Request) -> web.Response:
        self._check(request)
        files = [{"uri": uri, "bytes": size} for uri, size in self.uploads.items()]
        used = sum(self.uploads.values())
        return web.json_response({"uploads": files, "usedBytes": used, "quotaBytes": 4_000_000_000})

    async def _upload(self, request: web.Request) -> web.Response:
        self._check(request)
        uri = f"upload://{request.match_info['upload']}/{request.match_info['path']}"
        self.uploads[uri] = len(await request.read())
        return web.json_response({"uri": uri}, status=201)

    async def _lines(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        for line in self.ledger if request.path.endswith("/ledger") else self.log:
            await response.write(json.dumps(line).encode() + b"\n")
        await asyncio.sleep(3600)
        return response

    async def _page(self, request: web.Request) -> web.StreamResponse:
        path = (BUNDLE / request.match_info["path"]).resolve()
        if path.is_dir():
            path = path / "index.html"
        if not path.is_relative_to(BUNDLE) or not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path, headers={"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"})

    def end_session(self, reason: str, message: str) -> None:
        """Tells the device that the connection ends, as a render server does."""
        assert self.device
        self.device.notify("session.ending", {"reason": reason, "message": message})
