"""The messages of the ``control`` data channel: JSON-RPC 2.0 with the methods below.

Requests go from the device to the server and carry an id; notifications carry none and go either way. Parameters are
objects, never arrays. Unknown members are ignored by both sides, so that either may be newer. ``docs/protocol.md`` is
the same for people.

    device -> server, requests            parameters            result
    connection.open                       OpenParams            OpenResult         first, once
    connection.ping                       PingParams            PingResult         at least once a second
    connection.close                      (none)                (none)
    video.configure                       VideoParams           VideoResult
    scene.loadModel                       LoadModelParams       LoadModelResult
    scene.unloadModel                     UnloadModelParams     (none)
    scene.clear                           (none)                (none)
    scene.configure                       SceneParams           SceneResult
    scene.describe                        DescribeParams        SceneDescription
    statistics.get                        (none)                StatisticsResult

    device -> server, notification
    $/cancelRequest                       CancelParams

    server -> device, notifications
    scene.loadProgress                    LoadProgressParams
    connection.attached                   (none)                over a WebSocket, first: the device has its place
    session.ending                        EndingParams          then the stream ends
    driver.joined                         DriverJoinedParams    to those who watch
    driver.left                           DriverLeftParams      to those who watch
    video.changed                         VideoResult           to those who watch
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

from farframe.protocol.errors import FarframeError, Result

PROTOCOL_VERSION = 1
CONTROL_CHANNEL = "control"
POSE_CHANNEL = "pose"
FRAMES_CHANNEL = "frames"
MAX_CONTROL_MESSAGE_BYTES = 256 * 1024

T = TypeVar("T", bound="Message")
Vector3 = tuple[float, float, float]
SceneGraphMode = Literal["none", "static", "dynamic"]
RenderMode = Literal["DepthBasedComposition", "TileBasedComposition"]
"""How Azure Remote Rendering divided a scene among its graphics cards. Here one card draws all of it, so that both draw
alike, and all that one of them could not do there works in both."""

RenderModeChoice = Literal["Default", "DepthBasedComposition", "TileBasedComposition"]
DEFAULT_RENDER_MODE: RenderMode = "DepthBasedComposition"
"""What ``Default`` stands for."""


class Message(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """Base of all parameters and results: camelCase on the wire, absent members stand for defaults."""


class OpenParams(Message):
    """``connection.open``: what the device is and the picture it wants (pixels, even, frames per second).
    ``render_mode`` holds until the connection ends."""

    protocol: int
    client: str = ""
    width: int = 1280
    height: int = 720
    max_frames_per_second: int = 60
    render_mode: RenderModeChoice = "Default"


class VideoParams(Message):
    """``video.configure``: absent members stay as they are. ``max_bitrate`` in bits per second."""

    width: int | None = None
    height: int | None = None
    max_frames_per_second: int | None = None
    max_bitrate: int | None = None


class VideoResult(Message):
    """The picture as it is now being sent."""

    width: int
    height: int
    max_frames_per_second: int
    max_bitrate: int


class ServerInfo(Message):
    """Who draws and encodes: software version, graphics adapter and its kind (``cpu``, ``gpu``), encoder."""

    version: str
    adapter: str
    adapter_kind: str
    encoder: str


class OpenResult(Message):
    """Answer to ``connection.open``.

    ``role`` is ``driver``, or ``viewer`` for a device that watches; for one of those ``driver`` says whether there is
    a device to be watched. ``resume_secret`` gives the device its scene back after a connection that was lost, for
    ``resume_grace_seconds``; empty where nothing is kept. ``resumed``: this is such a device, and ``scene`` is what it
    finds. Keep the secret out of logs and URLs. ``render_mode`` is the one that the device drives in, never
    ``Default``; absent for who watches.
    """

    protocol: int
    session_id: str
    size: str
    server: ServerInfo
    video: VideoResult
    max_width: int
    max_height: int
    max_message_bytes: int = MAX_CONTROL_MESSAGE_BYTES
    role: str = "driver"
    driver: bool = True
    resume_secret: str = ""
    resume_grace_seconds: float = 0.0
    resumed: bool = False
    scene: SceneDescription | None = None
    render_mode: RenderMode | None = None

    def __repr__(self) -> str:
        return f"OpenResult(session_id={self.session_id!r}, role={self.role!r}, resumed={self.resumed})"


class DriverJoinedParams(Message):
    """``driver.joined``, to those who watch: a device drives the session now; ``video`` is the picture it asked for."""

    video: VideoResult


class DriverLeftParams(Message):
    """``driver.left``, to those who watch: why, a :class:`Result` name and a sentence. The last picture stays.
    ``may_return``: its scene is kept for a while in case it comes back."""

    reason: str
    message: str
    may_return: bool = False


class PingParams(Message):
    """``connection.ping``: the device's clock in microseconds."""

    client_time_us: int = msgspec.field(name="clientTimeMicroseconds")


class PingResult(Message):
    """The device's clock given back, and the server's, both in microseconds, for aligning them."""

    client_time_us: int = msgspec.field(name="clientTimeMicroseconds")
    server_time_us: int = msgspec.field(name="serverTimeMicroseconds")


class LoadModelParams(Message):
    """``scene.loadModel``. ``progress_token`` comes back in the progress notifications; ``parent``: the entity below
    which the model's root hangs, 0 for none."""

    uri: str
    progress_token: str = ""
    parent: int = 0


class Bounds(Message):
    """An axis-aligned box in world space, metres."""

    min: Vector3
    max: Vector3


class LoadModelResult(Message):
    """A loaded model: its id in this connection, counts and bounds; ``warnings`` name what was left out.

    ``root_entity`` is the entity at its root, ``entity_count`` how many entities it has, with ids that follow on it;
    ``scene_graph_mode``: whether its parts are entities of their own (``dynamic``), such that cannot be moved
    (``static``), or none are (``none``).
    """

    model_id: int
    name: str
    uri: str
    bounds: Bounds
    part_count: int
    triangle_count: int
    vertex_count: int
    material_count: int
    texture_count: int
    warnings: list[str] = msgspec.field(default_factory=list)
    root_entity: int = 0
    entity_count: int = 0
    scene_graph_mode: SceneGraphMode = "dynamic"


class UnloadModelParams(Message):
    """``scene.unloadModel``."""

    model_id: int


class LoadProgressParams(Message):
    """How far a load is: ``stage`` is download, read, simplify or upload; ``fraction`` of the whole, 0 to 1."""

    progress_token: str
    stage: str
    fraction: float


class SceneParams(Message):
    """``scene.configure``: absent members stay as they are. Colours are linear RGB.

    ``light_direction`` is the direction in which the directional light shines (need not be normalised);
    ``environment_rotation`` turns the environment about +Y, radians; ``exposure`` multiplies the picture.
    ``background`` is a linear colour, or absent for the built-in backdrop.
    """

    light_direction: Vector3 | None = None
    light_color: Vector3 | None = None
    light_intensity: float | None = None
    environment_intensity: float | None = None
    environment_rotation: float | None = None
    exposure: float | None = None
    background: Vector3 | None = None


class SceneResult(Message):
    """The scene's settings as they are now; ``background`` absent stands for the built-in backdrop."""

    light_direction: Vector3
    light_color: Vector3
    light_intensity: float
    environment_intensity: float
    environment_rotation: float
    exposure: float
    background: Vector3 | None = None


class DescribeParams(Message):
    """``scene.describe``: ``after_model_id`` is the last model that is known already, if ``more`` was said."""

    after_model_id: int = 0


class SceneDescription(Message):
    """The scene as it is: models, oldest first, and settings. ``more``: further models did not fit."""

    models: list[LoadModelResult]
    settings: SceneResult
    more: bool = False


class StageStatistics(Message):
    """How long one step of a frame's way took: percentiles in milliseconds over the last ten seconds' ``frames``."""

    p50: float
    p95: float
    p99: float
    frames: int


class StatisticsResult(Message):
    """The server's view of the last second. Times in milliseconds, median over that second.

    ``encoder_reason`` says why that encoder is used. ``stages`` has ``input``, ``wait``, ``draw``, ``readBack``,
    ``queue``, ``encode``, ``send``, ``network``, ``decode``, ``show`` and ``total``, as far as they are known.
    ``frames_arrived`` and ``frames_missing`` count by the device's reports, since it connected. ``primitives_rating``:
    ``Bad`` when triangles and points are more than the session's size may draw, drawn as coarsely as may be.
    ``render_mode`` as in :class:`OpenResult`.
    """

    frames_per_second: float
    bitrate: int
    draw_ms: float
    read_back_ms: float
    encode_ms: float
    triangles: int
    draws: int
    samples: int
    drawn_width: int
    drawn_height: int
    encoder: str
    models: int
    keyframes: int
    target_bitrate: int
    encoder_reason: str = ""
    stages: dict[str, StageStatistics] = msgspec.field(default_factory=dict)
    frames_arrived: int = 0
    frames_missing: int = 0
    primitives_rating: str = "Good"
    render_mode: RenderMode | None = None


class CancelParams(Message):
    """``$/cancelRequest``: the id of a request that is no longer wanted. It still gets an answer."""

    id: int | str


class EndingParams(Message):
    """``session.ending``: why the server is about to end the connection, a :class:`Result` name and a sentence."""

    reason: str
    message: str


# JSON-RPC 2.0 envelopes ---------------------------------------------------------------------------------------------

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
APPLICATION_ERROR = -32000
"""The code of every error that has a :class:`Result` of its own; look at ``data.result``."""


class ErrorData(Message):
    """What an error carries beside its message: the stable result, what to do next, whether a retry can help."""

    result: str
    next_step: str = ""
    retryable: bool = False


class RpcError(Message):
    """JSON-RPC's error object."""

    code: int
    message: str
    data: ErrorData | None = None


class Incoming(msgspec.Struct, kw_only=True):
    """Any JSON-RPC message, as it comes from the other side. Which members are set tells what it is.

    ``answered_us``, of a result: the server's clock when it was ready. Whatever is drawn from then on shows it.
    """

    jsonrpc: str = ""
    id: int | str | None = None
    method: str | None = None
    params: msgspec.Raw = msgspec.Raw(b"{}")
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: RpcError | None = None
    answered_us: int | None = msgspec.field(default=None, name="answeredMicroseconds")


_decoder = msgspec.json.Decoder(Incoming)
_encoder = msgspec.json.Encoder()


def _error_code(result: Result) -> int:
    if result is Result.INVALID_PARAM:
        return INVALID_PARAMS
    if result is Result.NOT_SUPPORTED:
        return METHOD_NOT_FOUND
    if result is Result.PROTOCOL_ERROR:
        return INVALID_REQUEST
    return INTERNAL_ERROR if result is Result.FAIL else APPLICATION_ERROR


def decode(text: str | bytes) -> Incoming:
    """One message from untrusted text. Raises :class:`FarframeError` (ProtocolError) for anything else."""
    if len(text) > MAX_CONTROL_MESSAGE_BYTES:
        raise FarframeError(
            Result.PROTOCOL_ERROR, f"A control message is larger than {MAX_CONTROL_MESSAGE_BYTES} bytes."
        )
    try:
        message = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise FarframeError(Result.PROTOCOL_ERROR, f"Not a JSON-RPC message: {error}.") from None
    if message.jsonrpc != "2.0":
        raise FarframeError(Result.PROTOCOL_ERROR, 'Not a JSON-RPC message: "jsonrpc" must be "2.0".')
    return message


def convert_params(params: msgspec.Raw, kind: type[T]) -> T:
    """Parameters or a result as ``kind``. Raises :class:`FarframeError` (InvalidParam) that names the member."""
    try:
        return msgspec.json.decode(params, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise FarframeError(Result.INVALID_PARAM, f"{error}.") from None


def encode_request(identifier: int | str, method: str, params: Message | None = None) -> str:
    """A request as text."""
    return _text({"jsonrpc": "2.0", "id": identifier, "method": method, "params": {} if params is None else params})


def encode_notification(method: str, params: Message) -> str:
    """A notification as text."""
    return _text({"jsonrpc": "2.0", "method": method, "params": params})


def encode_result(identifier: int | str, result: Message | None = None, *, answered_us: int | None = None) -> str:
    """A successful answer as text; a ``result`` of ``None`` stands for an empty object."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": identifier, "result": {} if result is None else result}
    return _text(message if answered_us is None else message | {"answeredMicroseconds": answered_us})


def encode_error(identifier: int | str | None, error: FarframeError) -> str:
    """A failed answer as text; ``identifier`` is ``None`` when the request could not be read."""
    data = ErrorData(result=str(error.result), next_step=error.next_step, retryable=error.retryable)
    body = RpcError(code=_error_code(error.result), message=error.message, data=data)
    return _text({"jsonrpc": "2.0", "id": identifier, "error": body})


def to_error(error: RpcError) -> FarframeError:
    """The exception for an error that the other side answered with."""
    data = error.data
    try:
        result = Result(data.result) if data else Result.FAIL
    except ValueError:
        result = Result.FAIL
    return FarframeError(result, error.message, next_step=data.next_step if data else "")


def _text(message: dict[str, Any]) -> str:
    return _encoder.encode(message).decode()
