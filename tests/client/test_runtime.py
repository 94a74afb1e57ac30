from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import av
import httpx
import pytest

from farframe.client import (
    ConnectionLostError,
    Frame,
    FrameFlags,
    HandshakeError,
    LoadProgress,
    RemoteRenderingClient,
    RequestError,
    RequestTimeoutError,
    Result,
    RuntimeConnection,
    ServiceUnreachableError,
    Session,
    SessionEndedError,
)
from farframe.client import _posing as posing_module
from farframe.client import _ways as ways
from farframe.client import runtime as runtime_module
from farframe.client._clock import now_us
from farframe.client._transport import TransportHandler
from farframe.client.frame import Picture
from farframe.client.runtime import open_connection
from farframe.protocol import messages
from farframe.protocol.appearance import TextureInfo, TexturesResult
from farframe.protocol.errors import FarframeError
from farframe.protocol.messages import (
    Bounds,
    EndingParams,
    LoadModelResult,
    LoadProgressParams,
    OpenResult,
    PingResult,
    SceneResult,
    ServerInfo,
    StatisticsResult,
    VideoResult,
)
from farframe.protocol.records import FieldOfView, FrameRecord, PoseRecord, View, decode_pose, encode_frame
from farframe.protocol.scene import ApplyResult
from tests.client.conftest import ACCOUNT, FakeService, error

WHEP = "/whep"
RELAY = f"/accounts/{ACCOUNT}/sessions/demo/whep"
SERVER_AHEAD_US = 7_000_000


@dataclass
class FakeServer:
    """A render server behind the transport's seam: answers requests at once and draws when told to."""

    handler: TransportHandler
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    poses: list[PoseRecord] = field(default_factory=list)
    hold: set[str] = field(default_factory=set)
    held: list[int] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    fail: dict[str, FarframeError] = field(default_factory=dict)
    closed: bool = False
    path_found: bool = True
    path_relayed: bool = False
    video: VideoResult = field(
        default_factory=lambda: VideoResult(width=64, height=48, max_frames_per_second=60, max_bitrate=1)
    )
    models: int = 0
    frame_id: int = 0

    async def create_offer(self) -> str:
        return "v=0 offer"

    async def accept_answer(self, answer_sdp: str) -> None:
        if answer_sdp != "v=0 answer":
            raise HandshakeError(Result.HANDSHAKE_FAILED, "No answer.")

    def send_pose(self, data: bytes) -> None:
        self.poses.append(decode_pose(data))

    async def close(self) -> None:
        self.closed = True

    def send_control(self, text: str) -> None:
        message = json.loads(text)
        assert message["jsonrpc"] == "2.0"
        method, params = message["method"], message["params"]
        if method == "$/cancelRequest":
            self.cancelled.append(params["id"])
            return
        self.requests.append((method, params))
        if method in self.hold:
            self.held.append(message["id"])
            return
        loop = asyncio.get_running_loop()
        if method in self.fail:
            answer = messages.encode_error(message["id"], self.fail[method])
        else:
            result = self.answer(method, params)
            answer = messages.encode_result(message["id"], result, answered_us=now_us() + SERVER_AHEAD_US)
        loop.call_soon(self.handler.on_control, answer)

    def answer(self, method: str, params: dict[str, Any]) -> messages.Message | None:
        match method:
            case "connection.open":
                return OpenResult(
                    protocol=1,
                    session_id="demo",
                    size="Standard",
                    server=ServerInfo(version="1", adapter="a", adapter_kind="cpu", encoder="e"),
                    video=self.video,
                    max_width=100,
                    max_height=100,
                    render_mode=params.get("renderMode"),
                )
            case "connection.ping":
                sent = params["clientTimeMicroseconds"]
                return PingResult(client_time_us=sent, server_time_us=now_us() + SERVER_AHEAD_US)
            case "scene.loadModel":
                for fraction in (0.5, 0.4):
                    self.notify(
                        "scene.loadProgress",
                        LoadProgressParams(progress_token=params["progressToken"], stage="read", fraction=fraction),
                    )
                return self.load_result(params["uri"])
            case "scene.configure":
                zero = (0.0, 0.0, 0.0)
                return SceneResult(
                    light_direction=zero,
                    light_color=zero,
                    light_intensity=1.0,
                    environment_intensity=1.0,
                    environment_rotation=0.0,
                    exposure=params.get("exposure", 1.0),
                )
            case "video.configure":
                self.video = VideoResult(
                    width=params.get("width", 64), height=48, max_frames_per_second=60, max_bitrate=1
                )
                return self.video
            case "statistics.get":
                return StatisticsResult(
                    frames_per_second=1.0,
                    bitrate=1,
                    draw_ms=1.0,
                    read_back_ms=1.0,
                    encode_ms=1.0,
                    triangles=1,
                    draws=1,
                    samples=4,
                    drawn_width=64,
                    drawn_height=48,
                    encoder="e",
                    models=self.models,
                    keyframes=1,
                    target_bitrate=1,
                )
        return None

    def load_result(self, uri: str) -> LoadModelResult:
        self.models += 1
        return LoadModelResult(
            model_id=self.models,
            name="Model",
            uri=uri,
            bounds=Bounds(min=(-1.0, -1.0, -1.0), max=(1.0, 1.0, 1.0)),
            part_count=1,
            triangle_count=12,
            vertex_count=24,
            material_count=1,
            texture_count=0,
            warnings=["a warning"],
        )

    def notify(self, method: str, params: messages.Message) -> None:
        self.handler.on_control(messages.encode_notification(method, params))

    def draw(self, flags: FrameFlags = FrameFlags.NONE, *, with_record: bool = True, width: int = 64) -> None:
        """Send the newest pose's frame now."""
        self.frame_id += 1
        pose = self.poses[-1] if self.poses else None
        timestamp = self.frame_id * 3000
        now = now_us()
        record = FrameRecord(
            frame_id=self.frame_id,
            rtp_timestamp=timestamp,
            pose_id=pose.pose_id if pose else 0,
            client_time_us=pose.client_time_us if pose else 0,
            pose_received_us=now + SERVER_AHEAD_US,
            draw_start_us=0,
            draw_end_us=1,
            read_back_us=2,
            encode_start_us=3,
            encode_end_us=4,
            sent_us=5,
            encoded_bytes=1,
            width=width,
            height=48,
            drawn_width=64,
            drawn_height=48,
            samples=4,
            reduced_parts=0,
            triangles=12,
            draws=1,
            views=pose.views if pose else DEFAULT_VIEWS,
            flags=flags,
        )
        self.handler.on_picture(Picture(av.VideoFrame(width, 48, "yuv420p"), timestamp, now, now))
        if with_record:
            self.handler.on_frame_record(encode_frame(record))


OPENING: dict[str, Any] = {"width": 64, "height": 48, "max_frames_per_second": 60, "timeout": 60.0, "way": "webrtc"}
DEFAULT_VIEWS = (View((0.0, 0.0, 3.0), (0.0, 0.0, 0.0, 1.0), FieldOfView(-1, 1, 1, -1)),)


def accept(service: FakeService, path: str = WHEP) -> None:
    headers = {"Content-Type": "application/sdp", "Location": f"{path}/1"}
    service.answers[("POST", path)] = [httpx.Response(201, content=b"v=0 answer", headers=headers)]
    service.answers[("DELETE", f"{path}/1")] = [httpx.Response(200)]


@pytest.fixture
async def session(client: RemoteRenderingClient, service: FakeService) -> Session:
    service.polls_until_ready = 0
    session = await client.create_session(session_id="demo")
    await session.wait_until_ready()
    return session


async def connect(
    session: Session, relayed: object = False, prepare: Callable[[FakeServer], None] | None = None, **options: Any
) -> tuple[RuntimeConnection, FakeServer]:
    made: list[FakeServer] = []

    def make(handler: TransportHandler) -> FakeServer:
        made.append(FakeServer(handler))
        if prepare is not None:
            prepare(made[0])
        return made[0]

    connection = await open_connection(session, relayed=relayed, make_transport=make, **(OPENING | options))
    return connection, made[0]


@asynccontextmanager
async def connected(session: Session, service: FakeService) -> AsyncIterator[tuple[RuntimeConnection, FakeServer]]:
    accept(service)
    connection, server = await connect(session)
    try:
        yield connection, server
    finally:
        await connection.close()
        assert server.closed
        assert not connection._tasks
        assert [task for task in asyncio.all_tasks() if task.get_name().startswith("farframe")] == []


async def until(condition: Callable[[], object], timeout: float = 60.0) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.005)


# Handshake ----------------------------------------------------------------------------------------------------------


async def test_a_connection_opens_directly_and_says_goodbye(session: Session, service: FakeService) -> None:
    async with connected(session, service) as (connection, server):
        assert connection.info is not None
        assert not connection.relayed
        assert [name for name, _ in server.requests][:2] == ["connection.open", "connection.ping"]
        assert server.requests[0][1]["width"] == 64
        (offer,) = service.seen("POST", WHEP)
        assert (offer.url.host, offer.url.port) == ("render.test", 50051)
        assert offer.headers["content-type"] == "application/sdp"
        assert offer.content == b"v=0 offer"
    (goodbye,) = service.seen("DELETE")
    assert goodbye.url == "https://render.test:50051/whep/1"
    assert goodbye.headers["authorization"].endswith(".signature")


async def test_a_way_that_is_asked_for_is_waited_for(
    session: Session, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "PATH_SECONDS", 0.0)
    lines: list[FakeServer] = []

    def make_slow(server: FakeServer) -> None:
        async def accept_later(answer_sdp: str) -> None:
            for _ in range(10):
                await asyncio.sleep(0.01)
            server.path_found = True

        server.path_found = False
        server.accept_answer = accept_later  # type: ignore[method-assign]
        lines.append(server)

    accept(service)
    with pytest.raises(HandshakeError, match="No UDP path"):
        await connect(session, prepare=make_slow, way="auto")
    assert lines[0].closed
    accept(service)
    connection, _ = await connect(session, prepare=make_slow, way="webrtc")
    assert connection.way.kind == "webrtc"
    await connection.close()


async def test_an_unreachable_server_is_reached_through_the_service(session: Session, service: FakeService) -> None:
    service.answers[("POST", WHEP)] = [httpx.ConnectError("no route")]
    accept(service, RELAY)
    connection, _ = await connect(session, relayed="auto")
    assert connection.relayed
    await connection.close()
    assert service.seen("DELETE")[0].url.path == f"{RELAY}/1"


async def test_a_render_mode_is_asked_for_and_another_one_refused_before_anything_is_sent(
    session: Session, service: FakeService
) -> None:
    accept(service)
    connection, server = await connect(session, render_mode="TileBasedComposition")
    try:
        assert server.requests[0][1]["renderMode"] == "TileBasedComposition"
        assert connection.render_mode == "TileBasedComposition"
    finally:
        await connection.close()
    asked = len(service.requests)
    for wrong in ("tilebasedcomposition", "", None):
        with pytest.raises(RequestError) as caught:
            async with session.connect(render_mode=wrong):  # type: ignore[arg-type]
                pass
        assert caught.value.result is Result.INVALID_PARAM
        assert "TileBasedComposition" in caught.value.next_step
    assert len(service.requests) == asked


async def test_an_offer_that_may_have_arrived_is_not_sent_again(session: Session, service: FakeService) -> None:
    service.answers[("POST", WHEP)] = [httpx.ReadTimeout("slow")]
    accept(service, RELAY)
    with pytest.raises(ServiceUnreachableError):
        await connect(session, relayed="auto")
    assert len(service.seen("POST", "whep")) == 1


async def test_a_direct_connection_is_not_relayed_unasked(session: Session, service: FakeService) -> None:
    service.answers[("POST", WHEP)] = [httpx.ConnectError("no route")]
    with pytest.raises(ServiceUnreachableError):
        await connect(session, relayed=False)


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (error(409, "OtherSessionConnected", "Another device is connected. Wait."), Result.OTHER_SESSION_CONNECTED),
        (error(406, "VideoCodecNotAvailable", "No H.264."), Result.VIDEO_CODEC_NOT_AVAILABLE),
        (error(409, "SessionNotReady", "No server."), Result.SESSION_NOT_READY),
        (httpx.Response(409), Result.OTHER_SESSION_CONNECTED),
        (httpx.Response(201, content=b"v=0 answer"), Result.HANDSHAKE_FAILED),
        (
            httpx.Response(
                201, content=b"x", headers={"Content-Type": "application/sdp", "Location": "https://evil.test/1"}
            ),
            Result.HANDSHAKE_FAILED,
        ),
    ],
)
async def test_a_refused_handshake_says_why(
    session: Session, service: FakeService, answer: httpx.Response, result: Result
) -> None:
    service.answers[("POST", WHEP)] = [answer]
    with pytest.raises(HandshakeError) as caught:
        await connect(session)
    assert caught.value.result is result
    assert caught.value.message
    assert not service.seen("DELETE")


async def test_a_connection_that_never_opens_is_given_up_and_freed(session: Session, service: FakeService) -> None:
    accept(service)
    servers = []

    def silent(server: FakeServer) -> None:
        server.hold.add("connection.open")
        servers.append(server)

    with pytest.raises(HandshakeError, match="was not made"):
        await connect(session, prepare=silent, timeout=0.2)
    assert servers[0].closed
    assert service.seen("DELETE")


# Requests -----------------------------------------------------------------------------------------------------------


async def test_a_model_is_loaded_and_unloaded(session: Session, service: FakeService) -> None:
    async with connected(session, service) as (connection, server):
        steps: list[LoadProgress] = []
        model = await connection.load_model("builtin://Engine", steps.append)
        assert (model.model_id, model.uri, model.warnings) == (1, "builtin://Engine", ("a warning",))
        assert [step.fraction for step in steps] == [0.5, 0.5, 1.0]
        assert connection.models == (model,)
        await connection.unload_model(model)
        assert connection.models == ()
        assert ("scene.unloadModel", {"modelId": 1}) in server.requests
        with pytest.raises(ValueError, match="no model"):
            connection.look_at_model()


async def test_a_local_model_is_uploaded_first(session: Session, service: FakeService, tmp_path: Path) -> None:
    (tmp_path / "model.glb").write_bytes(b"glTF")
    async with connected(session, service) as (connection, _):
        steps: list[LoadProgress] = []
        model = await connection.load_model(tmp_path / "model.glb", steps.append)
        assert model.uri == f"upload://{next(iter(service.uploads))}"
        assert [step.fraction for step in steps] == sorted(step.fraction for step in steps)
        assert {step.stage for step in steps} == {"send", "read", "upload"}
        assert steps[-1].fraction == 1.0


async def test_a_refused_request_is_a_typed_error(session: Session, service: FakeService) -> None:
    async with connected(session, service) as (connection, server):
        server.fail["scene.loadModel"] = FarframeError(Result.FILE_CORRUPT, "Broken.", next_step="Export it again.")
        with pytest.raises(RequestError, match=r"Broken\. Export it again\.") as caught:
            await connection.load_model("builtin://Engine")
        assert caught.value.result is Result.FILE_CORRUPT
        assert not caught.value.retryable
        assert connection.ended is None


async def test_a_cancelled_load_is_cancelled_there_and_a_late_model_is_taken_out(
    session: Session, service: FakeService
) -> None:
    async with connected(session, service) as (connection, server):
        server.hold.add("scene.loadModel")
        load = asyncio.create_task(connection.load_model("builtin://Engine"))
        await until(lambda: server.held)
        load.cancel()
        with pytest.raises(asyncio.CancelledError):
            await load
        assert server.cancelled == server.held
        server.handler.on_control(messages.encode_result(server.held[0], server.load_result("builtin://Engine")))
        await until(lambda: ("scene.unloadModel", {"modelId": 1}) in server.requests)
        assert connection.models == ()


async def test_an_unanswered_request_ends_in_time(
    session: Session, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(session, service) as (connection, server):
        server.hold.add("scene.clear")
        with pytest.raises(RequestTimeoutError, match=r"scene\.clear"):
            await connection._call("scene.clear", None, messages.Message, timeout=0.05)
        assert server.cancelled == server.held


async def test_scene_and_video_are_configured(session: Session, service: FakeService) -> None:
    async with connected(session, service) as (connection, server):
        assert (await connection.configure_scene(exposure=2.0)).exposure == 2.0
        assert ("scene.configure", {"exposure": 2.0}) in server.requests
        connection.look_at((0, 0, 5), (0, 0, 0))
        before = server.poses[-1].views[0].fov.right
        await connection.configure_video(width=96)
        assert connection.video.width == 96
        assert server.poses[-1].views[0].fov.right > before, "the field of view follows the picture's shape"


async def test_garbage_from_the_server_is_passed_over_and_counted(session: Session, service: FakeService) -> None:
    async with connected(session, service) as (connection, server):
        for text in (
            "",
            "{",
            "[]",
            '{"jsonrpc":"2.0","id":99,"result":{}}',
            '{"jsonrpc":"2.0","method":"scene.loadProgress"}',
        ):
            server.handler.on_control(text)
        for data in (b"", b"\x02", b"\x02" * 144):
            server.handler.on_frame_record(data)
        assert (await connection.statistics()).bad_messages == 7


# Poses and frames ---------------------------------------------------------------------------------------------------


async def test_poses_count_up_and_are_repeated_until_seen(
    session: Session, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posing_module, "RESEND_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(posing_module, "RESEND_MAX_SECONDS", 0.01)
    async with connected(session, service) as (connection, server):
        assert connection.look_at((2, 1, 2), (0, 0, 0)) == 1
        assert connection.look_at((2, 1, 3), (0, 0, 0)) == 2
        await until(lambda: [pose.pose_id for pose in server.poses][:4] == [1, 2, 2, 2])
        server.draw()
        await asyncio.sleep(0)
        count = len(server.poses)
        await asyncio.sleep(0.1)
        assert len(server.poses) == count, "a pose that was seen is not sent again"


async def test_clip_distances_follow_what_is_loaded(session: Session, service: FakeService) -> None:
    async with connected(session, service) as (connection, server):
        connection.look_at((0, 0, 10), (0, 0, 0))
        await connection.load_model("builtin://Engine")
        near, far = server.poses[-1].views[0].near, server.poses[-1].views[0].far
        assert 5 < near < 9
        assert 11 < far < 14
        connection.look_at((0, 0, 10), (0, 0, 0), near=1, far=20)
        await connection.load_model("builtin://Engine")
        assert (server.poses[-1].views[0].near, server.poses[-1].views[0].far) == (1, 20)


async def test_two_views_make_a_stereo_pose_and_three_are_refused(session: Session, service: FakeService) -> None:
    async with connected(session, service) as (connection, server):
        assert connection.set_pose([*DEFAULT_VIEWS, *DEFAULT_VIEWS]) == 1
        assert len(server.poses[-1].views) == 2
        with pytest.raises(ValueError, match="1 or 2"):
            connection.set_pose([*DEFAULT_VIEWS] * 3)


@pytest.mark.parametrize(
    "changes",
    [{"position": (2e9, 0, 0)}, {"position": (math.nan, 0, 0)}, {"orientation": (0, 0, 0, 0)}, {"near": 2, "far": 1}],
)
async def test_a_view_that_no_server_takes_is_refused_at_once(
    session: Session, service: FakeService, changes: dict[str, Any]
) -> None:
    """A pose is not answered: one that the server throws away would be sent again and again."""
    async with connected(session, service) as (connection, _):
        good = connection.look_at((0, 0, 10), (0, 0, 0))
        with pytest.raises(ValueError, match="view"):
            connection.set_pose(replace(DEFAULT_VIEWS[0], **changes))
        assert connection.pose is not None and connection.pose.pose_id == good


async def test_frames_carry_pose_timings_and_pixels(session: Session, service: FakeService) -> None:
    async with connected(session, service) as (connection, server):
        pose_id = connection.look_at((2, 1, 2), (0, 0, 0))
        stream = connection.frames()
        server.draw(FrameFlags.KEYFRAME)
        frame = await anext(stream)
        assert frame.pose_id == pose_id
        assert frame.flags is FrameFlags.KEYFRAME
        assert frame.image.shape == (48, 64, 3)
        assert frame.timings is not None
        assert frame.timings.total is not None
        assert 0 <= frame.timings.total < 5000
        assert frame.timings.pose_transit is not None
        assert abs(frame.timings.pose_transit) < 5000
        statistics = await connection.statistics()
        assert (statistics.frames_received, statistics.frames_without_record) == (1, 0)
        assert statistics.latency_ms is not None


async def test_the_still_of_the_newest_pose_and_scene_is_waited_for(session: Session, service: FakeService) -> None:
    async with connected(session, service) as (connection, server):

        async def still() -> tuple[asyncio.Task[Frame], Callable[[], bool]]:
            task = asyncio.create_task(connection.wait_for_still(5))
            await asyncio.sleep(0.01)
            return task, task.done

        connection.look_at((2, 1, 2), (0, 0, 0))
        task, done = await still()
        server.draw()
        await asyncio.sleep(0.01)
        assert not done(), "a frame in motion is not enough"
        server.draw(FrameFlags.STILL)
        assert (await task).is_still
        assert (await connection.wait_for_still(1)).is_still, "what is already there is given at once"

        connection.look_at((2, 1, 4), (0, 0, 0))
        old, server.poses[-1] = server.poses[-1], server.poses[0]
        task, done = await still()
        server.draw(FrameFlags.STILL)
        await asyncio.sleep(0.01)
        assert not done(), "a still of an older pose is not enough"
        server.poses.append(old)
        server.draw(FrameFlags.STILL)
        assert (await task).pose_id == 2

        await connection.configure_scene(exposure=2.0)
        task, done = await still()
        assert not done(), "a still from before the change is not enough"
        server.draw(FrameFlags.STILL)
        await task

        await connection.configure_video(width=96)
        task, done = await still()
        server.draw(FrameFlags.STILL, width=64)
        await asyncio.sleep(0.01)
        assert not done(), "a still of the former size is not enough"
        server.draw(FrameFlags.STILL, width=96)
        assert (await task).width == 96

        connection.look_at((3, 3, 3), (0, 0, 0))
        with pytest.raises(RequestTimeoutError, match="full-quality"):
            await connection.wait_for_still(0.05)


# Coming back --------------------------------------------------------------------------------------------------------


async def test_a_texture_whose_answer_was_lost_with_the_line_is_taken_out(
    session: Session, service: FakeService
) -> None:
    lines: list[FakeServer] = []
    ids = {"https://x/a": 1, "https://x/b": 2}

    def told(uri: str) -> TextureInfo:
        return TextureInfo(id=ids[uri], kind="2d", uri=uri, width=1, height=1, levels=1, size_bytes=4)

    def prepare(server: FakeServer) -> None:
        usual = server.answer

        def answer(method: str, params: dict[str, Any]) -> messages.Message | None:
            if method == "connection.open":
                opened = usual(method, params)
                assert isinstance(opened, OpenResult)
                opened.resume_secret, opened.resume_grace_seconds, opened.resumed = "s", 60, len(lines) > 1
                return opened
            if method == "scene.loadTexture":
                return told(params["uri"])
            if method == "scene.getTextures":
                return TexturesResult(textures=[told(uri) for uri in ids])
            return usual(method, params)

        server.answer = answer  # type: ignore[method-assign]
        lines.append(server)

    def make(handler: TransportHandler) -> FakeServer:
        prepare(made := FakeServer(handler))
        return made

    def commands(server: FakeServer) -> list[Any]:
        return [
            command for method, params in server.requests if method == "scene.apply" for command in params["commands"]
        ]

    accept(service)
    connection = await open_connection(session, relayed=False, make_transport=make, **OPENING)
    try:
        kept = await connection.scene.load_texture("https://x/a")
        lines[0].hold.add("scene.loadTexture")
        loading = asyncio.create_task(connection.scene.load_texture("https://x/b"))
        await until(lambda: lines[0].held)
        accept(service)
        lines[0].handler.on_closed("ConnectionLost")
        with pytest.raises(ConnectionLostError):
            await loading
        await until(lambda: len(lines) == 2 and commands(lines[1]))
        assert commands(lines[1]) == [{"op": "destroyTexture", "id": 2}]
        assert connection.scene.textures == (kept,)
        # Nothing was asked for over this line: there is nothing to look for.
        del ids["https://x/b"]
        resumed = asyncio.Event()
        connection.on_resumed(resumed.set)
        accept(service)
        lines[1].handler.on_closed("ConnectionLost")
        await asyncio.wait_for(resumed.wait(), 60)
        await until(lambda: not [task for task in connection._tasks if task.get_name() == "farframe tidying"])
        assert "scene.getTextures" not in [method for method, _ in lines[2].requests]
    finally:
        await connection.close()


async def test_a_picture_is_waited_for_across_a_broken_line(session: Session, service: FakeService) -> None:
    lines: list[FakeServer] = []

    def make(handler: TransportHandler) -> FakeServer:
        server = FakeServer(handler)
        usual = server.answer

        def answer(method: str, params: dict[str, Any]) -> messages.Message | None:
            if method == "scene.apply":
                return ApplyResult(applied=1)
            opened = usual(method, params)
            if isinstance(opened, OpenResult):
                opened.resume_secret, opened.resume_grace_seconds, opened.resumed = "s", 60, bool(lines)
            return opened

        server.answer = answer  # type: ignore[method-assign]
        lines.append(server)
        return server

    accept(service)
    connection = await open_connection(session, relayed=False, make_transport=make, **OPENING)
    try:
        connection.look_at((2, 1, 2), (0, 0, 0))
        lines[0].draw(FrameFlags.STILL)
        lines[0].hold.add("scene.apply")
        connection.scene.create("set before the line broke")
        waiting = asyncio.create_task(connection.wait_for_still(60))
        await until(lambda: lines[0].held)
        accept(service)
        lines[0].handler.on_closed("ConnectionLost")
        await until(lambda: len(lines) == 2 and any(method == "scene.apply" for method, _ in lines[1].requests))
        await connection.scene.flush()
        assert not waiting.done(), "the picture of the line before shows nothing of it"
        lines[1].draw(FrameFlags.STILL)
        assert (await waiting).is_still
    finally:
        await connection.close()


# Ending -------------------------------------------------------------------------------------------------------------


async def test_the_server_says_why_it_ends(session: Session, service: FakeService) -> None:
    async with connected(session, service) as (connection, server):
        told: list[SessionEndedError] = []
        connection.on_ending(told.append)
        server.hold.update({"scene.loadModel"})
        stream = connection.frames()
        waiting = [
            asyncio.ensure_future(anext(stream)),
            asyncio.ensure_future(connection.load_model("builtin://Engine")),
            asyncio.ensure_future(connection.wait_for_still()),
        ]
        await until(lambda: server.held)
        server.notify("session.ending", EndingParams(reason="SessionStopped", message="The session was stopped."))
        server.handler.on_closed("DisconnectRequest")
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results] == [SessionEndedError] * 3
        assert {result.reason for result in results} == {Result.SESSION_STOPPED}
        assert [error.reason for error in told] == [Result.SESSION_STOPPED]
        for call in (lambda: connection.look_at((1, 0, 0), (0, 0, 0)), connection.frames().__anext__, connection.clear):
            with pytest.raises(SessionEndedError):
                value = call()
                await value
    assert not service.seen("DELETE"), "the server knows already"


async def test_a_server_that_vanishes_is_a_lost_connection(session: Session, service: FakeService) -> None:
    async with connected(session, service) as (connection, server):
        stream = connection.frames()
        server.handler.on_closed("ConnectionLost")
        with pytest.raises(ConnectionLostError) as caught:
            await anext(stream)
        assert caught.value.retryable


async def test_a_server_that_stops_answering_is_a_lost_connection(
    session: Session, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_module, "PING_INTERVAL_SECONDS", 0.02)
    monkeypatch.setattr(runtime_module, "PING_TIMEOUT_SECONDS", 0.2)
    async with connected(session, service) as (connection, server):
        pings = sum(name == "connection.ping" for name, _ in server.requests)
        await until(lambda: sum(name == "connection.ping" for name, _ in server.requests) > pings + 2)
        server.hold.add("connection.ping")
        await until(lambda: connection.ended is not None)
        assert isinstance(connection.ended, ConnectionLostError)


async def test_closing_ends_iterators_quietly_and_calls_loudly(session: Session, service: FakeService) -> None:
    async with connected(session, service) as (connection, _):
        stream = connection.frames()
        waiting = asyncio.create_task(connection.wait_for_still())
        await asyncio.sleep(0)
        await connection.close()
        assert [frame async for frame in stream] == []
        assert [frame async for frame in connection.frames()] == []
        with pytest.raises(ConnectionLostError) as caught:
            await waiting
        assert caught.value.result is Result.DISCONNECT_REQUEST
        await connection.close()
    assert len(service.seen("DELETE")) == 1


async def test_many_connections_leave_nothing_behind(session: Session, service: FakeService) -> None:
    before = len(asyncio.all_tasks())
    for _ in range(20):
        async with connected(session, service) as (connection, server):
            connection.look_at((1, 1, 1), (0, 0, 0))
            server.draw(with_record=False)
    assert len(asyncio.all_tasks()) == before
