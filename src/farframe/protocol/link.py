"""What a render server process and its supervisor say to each other, and how a server is configured.

The link is a byte stream (a Unix socket) of JSON lines, one tagged message a line. The server listens, the supervisor
connects. No I/O here.

    supervisor -> server     Assign, Release, NewTokenRules
    server -> supervisor     Hello (when warm, and again at the start of each later link), Heartbeat, DeviceState,
                             Failed, Superseded

A supervisor that finds a living server again connects to the same socket; the newest link counts.
"""

from __future__ import annotations

from typing import Literal

import msgspec

HEARTBEAT_INTERVAL_SECONDS = 1.0
HEARTBEAT_TIMEOUT_SECONDS = 15.0
"""A server that says nothing for so long hangs. The end of a process is noticed at once; a machine that has too much to
do, or swaps, holds a living one up for seconds, and that must not cost anybody's session."""

ORPHAN_TIMEOUT_SECONDS = 5.0
"""A server whose supervisor has been gone for so long ends itself, unless it was configured otherwise."""


class FetchPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What a render server may read. Folders are absolute; networks in CIDR notation, allowed although private.
    ``ca_file`` (PEM) holds certificate authorities to trust beside the system's."""

    allowed_folders: tuple[str, ...] = ()
    allowed_networks: tuple[str, ...] = ()
    ca_file: str = ""
    max_download_bytes: int = 4 * 1024**3
    max_redirects: int = 5
    timeout_seconds: float = 300.0


class LoadLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What reading one model may cost."""

    max_memory_bytes: int = 8 * 1024**3
    max_scene_bytes: int = 16 * 1024**3
    """What all models of a scene may hold together once they are loaded."""
    max_seconds: float = 600.0
    max_texture_pixels: int = 16_384 * 16_384
    max_total_texture_pixels: int = 512 * 1024**2
    max_nodes: int = 1_000_000
    max_triangles: int = 100_000_000


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """All that a render server process needs to start. Passed as JSON on its standard input.

    ``bind_host`` is where it listens (TCP and UDP); ``public_name`` goes into URLs; ``public_addresses`` replace the
    bound address in ICE candidates; all ports come from ``port_min`` to ``port_max``. ``certificate_file`` and
    ``key_file`` are PEM. ``token_keys`` is a JWKS of the keys that tokens may be signed with.
    """

    server_id: str
    link_path: str
    bind_host: str = "127.0.0.1"
    public_name: str = "localhost"
    public_addresses: tuple[str, ...] = ()
    port_min: int = 49152
    port_max: int = 65534
    stun_servers: tuple[str, ...] = ()
    certificate_file: str
    key_file: str
    token_keys: str
    token_issuer: str
    adapter: Literal["auto", "gpu", "cpu"] = "auto"
    """auto (a GPU if there is one), gpu (fail without) or cpu."""
    device_timeout_seconds: float = 4.0
    resume_grace_seconds: float = 30.0
    """How long the scene of a device that was lost is kept for it; 0 keeps nothing."""
    max_spectators: int = 8
    still_delay_seconds: float = 0.3
    keep_alive_seconds: float = 1.0
    max_width: int = 3840
    max_height: int = 2160
    max_bitrate: int = 12_000_000
    cache_folder: str = ""
    work_folder: str = ""
    """For temporary files; the supervisor removes it when the server is gone, however it went."""
    fetch: FetchPolicy = FetchPolicy()
    load: LoadLimits = LoadLimits()
    background_conversion: bool = True
    """Whether plain models are converted while they are drawn."""
    checkerboard: bool = False
    """Whether a checkerboard takes the place of pictures with more primitives than the size may draw."""
    log_level: str = "info"
    orphan_timeout_seconds: float = ORPHAN_TIMEOUT_SECONDS
    """How long it lives on without a supervisor, waiting for one that takes it over."""


class TokenRules(msgspec.Struct, frozen=True, kw_only=True):
    """Which tokens of an account are good at present.

    ``token_keys`` is a JWKS of the keys that tokens may be signed with. ``key_generations`` holds the generation of
    each account key by its serial: a token of another generation is void. Tokens issued before ``tokens_not_before``,
    in microseconds since 1970 UTC, are void whatever they came from.
    """

    token_keys: str = ""
    key_generations: dict[int, int] = {}
    tokens_not_before: int = 0


class Assign(msgspec.Struct, frozen=True, kw_only=True, tag="assign"):
    """From now on this server serves that session. ``uploads_folder`` holds the account's uploads. Without
    ``token_rules`` no token is taken for revoked."""

    session_key: str
    session_id: str
    account_id: str
    size: str
    uploads_folder: str
    token_rules: TokenRules | None = None


class NewTokenRules(msgspec.Struct, frozen=True, kw_only=True, tag="token_rules"):
    """The rules for the tokens of the session's account have changed."""

    token_rules: TokenRules


class Release(msgspec.Struct, frozen=True, kw_only=True, tag="release"):
    """The session has ended: tell the device ``reason`` (a Result name), end the stream, exit."""

    reason: str
    message: str


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """The server is warm: device created, pipelines compiled, ports open. ``teraflops`` was measured. ``session_key``
    is the session that it serves already, empty if none."""

    pid: int
    hostname: str
    handshake_port: int
    inspector_port: int
    teraflops: float
    adapter: str
    adapter_kind: str
    encoder: str
    session_key: str = ""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, tag="heartbeat"):
    """Sent every :data:`HEARTBEAT_INTERVAL_SECONDS`.

    ``stages``: milliseconds that the steps of the last seconds' frames took, as 50th, 95th and 99th percentile;
    ``frames_arrived`` and ``frames_missing`` by the device's reports, since it connected.
    """

    connected: bool
    frames_per_second: float
    resident_bytes: int
    encoder: str = ""
    stages: dict[str, tuple[float, float, float]] = msgspec.field(default_factory=dict)
    frames_arrived: int = 0
    frames_missing: int = 0


class DeviceState(msgspec.Struct, frozen=True, kw_only=True, tag="device"):
    """A device connected or left."""

    connected: bool
    reason: str = ""


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The server cannot serve and is about to exit. ``code`` is stable, ``message`` is for a person."""

    code: str
    message: str


class Superseded(msgspec.Struct, frozen=True, kw_only=True, tag="superseded"):
    """Another supervisor has connected and counts from now on: the last word on this link."""


ToServer = Assign | Release | NewTokenRules
ToSupervisor = Hello | Heartbeat | DeviceState | Failed | Superseded

_to_server: msgspec.json.Decoder[ToServer] = msgspec.json.Decoder(ToServer)
_to_supervisor: msgspec.json.Decoder[ToSupervisor] = msgspec.json.Decoder(ToSupervisor)
_encoder = msgspec.json.Encoder()


def encode_line(message: ToServer | ToSupervisor) -> bytes:
    """One message as a line."""
    return _encoder.encode(message) + b"\n"


def decode_to_server(line: bytes) -> ToServer:
    """A line from the supervisor. Raises ``msgspec.DecodeError``."""
    message: ToServer = _to_server.decode(line)
    return message


def decode_to_supervisor(line: bytes) -> ToSupervisor:
    """A line from a server. Raises ``msgspec.DecodeError``."""
    message: ToSupervisor = _to_supervisor.decode(line)
    return message
