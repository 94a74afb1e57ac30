"""Devices, a frame loop and a scene that remember what is done with them: a place and its audience without network."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from farframe.protocol import messages
from farframe.protocol.link import Assign, ServerConfig
from farframe.protocol.records import FieldOfView, FrameRecord, PoseRecord, View, decode_frame, encode_pose
from farframe.scene.scene import SceneSettings
from farframe.server.connection import Connection
from farframe.server.device_link import DeviceLink
from farframe.server.frame_loop import VideoSettings
from farframe.server.ledger import Ledger
from farframe.server.places import Place, Places, Wishes
from farframe.server.spectators import Audience, Spectator
from farframe.stream.encoder import EncodedFrame

TIMEOUT_SECONDS = 60.0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not condition():
            await asyncio.sleep(0.002)


class FakeDevice:
    """The transport of a device, and the device behind it."""

    def __init__(self, handler: Any) -> None:
        self.handler = handler
        self.frames: list[EncodedFrame] = []
        self.records: list[FrameRecord] = []
        self.texts: list[dict[str, Any]] = []
        self.closed = False
        self.connected = False
        self.silent_since: float | None = None
        self.backlog = 0
        self.target_bitrate = 50_000_000
        self.way = "webrtc"
        self.statistics = SimpleNamespace()
        self.bytes_sent = 0
        self._ids = itertools.count(1)

    @property
    def last_heard(self) -> float:
        return time.monotonic() if self.silent_since is None else self.silent_since

    def send_video(self, frame: EncodedFrame) -> None:
        self.frames.append(frame)

    def send_control(self, text: str) -> None:
        self.texts.append(json.loads(text))

    def send_frame_record(self, data: bytes) -> None:
        self.records.append(decode_frame(data))

    async def close(self) -> None:
        self.closed = True

    # What the device does

    def connect(self) -> None:
        self.connected = True
        self.handler.on_connected()

    def vanish(self) -> None:
        """Nothing is heard of it any more, and the transport has noticed."""
        self.handler.on_closed("ConnectionLost")

    def say_goodbye(self) -> None:
        self.handler.on_closed("DisconnectRequest")

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A request's answer: its result, or ``{"error": data}``."""
        identifier = next(self._ids)
        self.handler.on_control(json.dumps({"jsonrpc": "2.0", "id": identifier, "method": method, "params": params}))
        await until(lambda: any(text.get("id") == identifier for text in self.texts))
        (answer,) = [text for text in self.texts if text.get("id") == identifier]
        return answer["result"] if "result" in answer else {"error": answer["error"]["data"]}

    async def open(self, **params: Any) -> dict[str, Any]:
        return await self.call("connection.open", protocol=messages.PROTOCOL_VERSION, **params)

    def pose(self, pose_id: int, x: float = 0.0) -> None:
        self.handler.on_pose(encode_pose(pose_at(pose_id, x)))

    def told(self, method: str) -> list[dict[str, Any]]:
        return [text["params"] for text in self.texts if text.get("method") == method]


def pose_at(pose_id: int, x: float = 0.0) -> PoseRecord:
    return PoseRecord(pose_id, 5, (View((x, 0.0, 3.0), (0.0, 0.0, 0.0, 1.0), FieldOfView.symmetric(0.8, 1.5)),))


class FakeFrames:
    """The frame loop: what it was told, and frames on demand."""

    def __init__(self) -> None:
        self.stream: Any = None
        self.opened = 0
        self.closed = 0
        self.poses: list[PoseRecord] = []
        self.keyframes = 0
        self.bitrate = 0
        self.frame_id = 0

    async def engine(self) -> Any:
        return SimpleNamespace(adapter_name="fake", adapter_kind="cpu")

    def open(self, video: VideoSettings, bitrate: int, send: Any, on_sending: Any, backlog: Any) -> None:
        self.stream = (send, on_sending)
        self.video = video
        self.opened += 1
        self.pts = 0

    def close(self) -> None:
        self.stream = None
        self.closed += 1

    def set_pose(self, pose: PoseRecord, received_us: int) -> None:
        self.poses.append(pose)

    def set_video(self, video: VideoSettings) -> None:
        self.video = video

    def set_bitrate(self, bits_per_second: int) -> None:
        self.bitrate = bits_per_second

    def request_keyframe(self) -> None:
        self.keyframes += 1

    async def draw(self, *, keyframe: bool = False, size: int = 1000) -> EncodedFrame:
        """A frame, as the encode thread hands it over."""
        send, on_sending = self.stream
        frame = EncodedFrame(data=bytes(size), pts=self.pts, keyframe=keyframe, encode_start=0.0, encode_end=0.0)
        record = record_of(self.frame_id, self.pts)
        self.frame_id += 1
        self.pts += 3000
        on_sending(record)
        await asyncio.to_thread(send, frame)
        for _ in range(3):
            await asyncio.sleep(0)
        return frame


def record_of(frame_id: int, pts: int) -> FrameRecord:
    values: dict[str, Any] = {
        item.name: 0 for item in fields(FrameRecord) if item.default is MISSING and item.default_factory is MISSING
    }
    values |= {
        "frame_id": frame_id, "rtp_timestamp": pts, "pose_id": 77, "client_time_us": 123_456,
        "views": pose_at(1).views, "width": 320, "height": 180, "drawn_width": 320, "drawn_height": 180,
    }  # fmt: skip
    return FrameRecord(**values)


class FakeScene:
    """The scene of a place: models are loaded when the test says so."""

    def __init__(self) -> None:
        self.models: list[int] = []
        self.cleared = 0
        self.notify: Any = lambda method, params: None
        self.loading = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.clearing = asyncio.Event()
        self.clearing.set()

    @property
    def methods(self) -> dict[str, Any]:
        return {"scene.loadModel": self._load, "scene.describe": self._describe}

    @property
    def reading_methods(self) -> dict[str, Any]:
        return {"scene.describe": self._describe}

    @property
    def model_count(self) -> int:
        return len(self.models)

    async def _load(self, message: Any) -> Any:
        self.loading.set()
        await self.go_on.wait()
        self.models.append(len(self.models) + 1)
        return self.describe()

    async def _describe(self, message: Any) -> Any:
        return self.describe()

    def describe(self, after_model_id: int = 0) -> messages.SceneDescription:
        bounds = messages.Bounds(min=(0.0, 0.0, 0.0), max=(1.0, 1.0, 1.0))
        return messages.SceneDescription(
            models=[
                messages.LoadModelResult(
                    model_id=model, name="m", uri="builtin://m", bounds=bounds, part_count=1, triangle_count=1,
                    vertex_count=3, material_count=1, texture_count=0,
                )
                for model in self.models if model > after_model_id
            ],
            settings=messages.SceneResult(
                **{name: getattr(SceneSettings(), name) for name in messages.SceneResult.__struct_fields__}
            ),
        )  # fmt: skip

    def on_record(self, data: bytes) -> None:
        raise AssertionError("no records here")

    def disconnect(self) -> None:
        self.notify = lambda method, params: None

    async def clear(self) -> None:
        await self.clearing.wait()
        self.models.clear()
        self.cleared += 1


@dataclass
class World:
    """A session's place and audience, with devices that come and go."""

    grace: float = 30.0
    spectators: int = 2
    clock: float = 1000.0
    states: list[tuple[bool, str]] = field(default_factory=list)
    scenes: list[FakeScene] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.frames = FakeFrames()
        self.config = ServerConfig(
            server_id="s", link_path="", certificate_file="", key_file="", token_keys="", token_issuer="",
            resume_grace_seconds=self.grace, max_spectators=self.spectators, device_timeout_seconds=4.0,
        )  # fmt: skip
        self.assignment = Assign(session_key="k", session_id="mine", account_id="a", size="Standard", uploads_folder="")
        self.ledger = Ledger(lambda: 0)
        self.models: Any = SimpleNamespace(encoder_name="fake")
        self.started = datetime(2030, 1, 1, 12, tzinfo=UTC)
        self._ids = itertools.count(1)
        frames: Any = self.frames
        self.audience = Audience(self.spectators, frames, lambda: self.clock)
        self.places = Places(
            self.grace,
            self._place,
            self._connection,
            self.audience,
            lambda connected, reason: self.states.append((connected, reason)),
            now=lambda: self.started + timedelta(seconds=self.clock - 1000.0),
        )

    def _place(self) -> Place:
        self.scenes.append(FakeScene())
        scene: Any = self.scenes[-1]
        return Place(scene, VideoSettings(640, 360, 60, 12_000_000))

    def _connection(self, place: Place, on_left: Any, predecessor: Connection | None) -> Connection:
        frames: Any = self.frames
        return Connection(
            self.config, self.assignment, frames, self.models, self.ledger, self.audience, f"id-{next(self._ids)}",
            place, lambda _: self.states.append((True, "")), on_left, predecessor,
        )  # fmt: skip

    def handshake(self, *, resume: str = "") -> FakeDevice:
        """A device that has shaken hands and is not connected yet."""
        return self._attach(self.places.take(Wishes(resume=resume)))

    async def drive(self, *, resume: str = "", **params: Any) -> tuple[FakeDevice, dict[str, Any]]:
        """A device that drives, and what it was told."""
        device = self.handshake(resume=resume)
        device.connect()
        return device, await device.open(**params)

    def handshake_to_watch(self) -> FakeDevice:
        frames: Any = self.frames
        spectator = Spectator(
            self.config, self.assignment, self.models, frames, self.ledger, self.audience, f"id-{next(self._ids)}",
            lambda: self.clock,
        )  # fmt: skip
        self.audience.join(spectator)
        return self._attach(spectator)

    async def watch(self) -> tuple[FakeDevice, dict[str, Any]]:
        """A device that watches, and what it was told."""
        device = self.handshake_to_watch()
        device.connect()
        return device, await device.open()

    @staticmethod
    def _attach(link: DeviceLink) -> FakeDevice:
        made: list[FakeDevice] = []

        def make(handler: Any, max_bitrate: int) -> Any:
            made.append(FakeDevice(handler))
            return made[0]

        link.attach(make)
        return made[0]

    async def gone(self, device: FakeDevice) -> None:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await device.handler.closed.wait()
