"""What all devices have in common, whether they drive or watch: a transport, requests, a pulse, an end.

    state        one line
    -----------  ----------------------------------------------------------------------------------
    handshake    the answer is out; no packet yet
    open         media and channels run
    closed       the transport is gone, and what the device held in the server is seen to

Everything here runs in the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import structlog

from farframe import __version__
from farframe.protocol import messages
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.messages import Incoming, Message, OpenResult
from farframe.server.frame_loop import FrameLoop, VideoSettings, microseconds
from farframe.server.requests import Requests
from farframe.stream.device import Device, DeviceHandler, DeviceTransport, TransportConfig

if TYPE_CHECKING:
    from farframe.protocol.link import Assign, ServerConfig

log = structlog.get_logger("farframe.connection")

HANDSHAKE_TIMEOUT_SECONDS = 10.0
"""From the answer until media must run; after that the place is free again."""

LIVENESS_INTERVAL_SECONDS = 0.5
END_FLUSH_SECONDS = 0.15
"""How long the notice of the end may take to leave before the transport closes."""

MakeDevice = Callable[[DeviceHandler, int], Device]
"""Makes a device that came by another way than an offer, from its handler and the highest bit rate. It may call the
handler from its next turn of the event loop on."""


class DeviceLink:
    """One device. ``closed`` is set when it has ended and nothing of it is left but what was kept on purpose."""

    def __init__(self, config: ServerConfig, resource_id: str) -> None:
        self.resource_id = resource_id
        self.closed = asyncio.Event()
        self.quiet = asyncio.Event()
        """Set when none of its requests is worked on any more, which is before ``closed``."""
        self.config = config
        self.transport: Device | None = None
        self.open = False
        self.ending = False
        self.requests = Requests(self.send, on_nonsense=self._on_nonsense)
        self.requests.register(
            {"connection.ping": self._ping, "connection.close": self._close_connection}, before_opening=True
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(self, offer_sdp: str) -> str:
        """Answer a device's offer. Raises :class:`FarframeError`; the link has then ended."""
        config = TransportConfig(
            bind_host=self.config.bind_host,
            public_addresses=self.config.public_addresses,
            port_min=self.config.port_min,
            port_max=self.config.port_max,
            stun_servers=self.config.stun_servers,
        )
        try:
            transport = await DeviceTransport.accept(offer_sdp, config, self, max_bitrate=self.config.max_bitrate)
        except BaseException as error:
            self.end(Result.HANDSHAKE_FAILED, "The handshake failed.", tell=False)
            if isinstance(error, Exception):
                await self.closed.wait()
            raise
        if self.ending:
            await transport.close()
            raise FarframeError(
                Result.HANDSHAKE_FAILED, "The connection was ended during its handshake.", next_step="Connect again."
            )
        self.transport = transport
        self.spawn(self._watch(), "liveness")
        return transport.answer_sdp

    def attach(self, make_device: MakeDevice) -> None:
        """Take a device that came by another way than an offer. Raises what ``make_device`` raises."""
        try:
            self.transport = make_device(self, self.config.max_bitrate)
        except BaseException:
            self.end(Result.HANDSHAKE_FAILED, "The handshake failed.", tell=False)
            raise
        self.spawn(self._watch(), "liveness")

    # What the kinds of device do differently ------------------------------------------------------------------------

    def opened(self) -> None:
        """Media runs."""
        raise NotImplementedError

    def stopped(self) -> None:
        """The end has begun; nothing may be sent as video any more. Called once, at once."""
        raise NotImplementedError

    async def left(self, reason: str, message: str) -> None:
        """The transport is gone; see to what the device held. Called once, last."""
        raise NotImplementedError

    def on_pose(self, data: bytes) -> None:
        """A record on the pose channel."""
        raise NotImplementedError

    def on_keyframe_request(self) -> None:
        """The device lost its reference picture."""
        raise NotImplementedError

    def on_bitrate(self, bits_per_second: int) -> None:
        """The transport's estimate of what the network bears."""
        raise NotImplementedError

    # What the transport tells (DeviceHandler) -----------------------------------------------------------------------

    def on_connected(self) -> None:
        """Media runs."""
        if self.open or self.ending or self.transport is None:
            return
        self.open = True
        self.opened()

    def on_control(self, text: str) -> None:
        """A message on the control channel."""
        self.requests.receive(text)

    def on_closed(self, reason: str) -> None:
        """The device or the network ended it."""
        self.end(reason or Result.DISCONNECT_REQUEST, "The device is gone.", tell=False)

    # Ending ---------------------------------------------------------------------------------------------------------

    def end(self, reason: Result | str, message: str, *, tell: bool = True) -> None:
        """Begin to end the connection; the device hears why if ``tell``. ``closed`` is set when all is done."""
        if self.ending:
            return
        self.ending = True
        self.stopped()
        self.spawn(self._end(str(reason), message, tell), "end")

    async def _end(self, reason: str, message: str, tell: bool) -> None:
        log.info("device.leaving", reason=reason, message=message)
        await self.requests.close()
        self.quiet.set()
        transport = self.transport
        if transport is not None:
            if tell and self.open:
                self.notify("session.ending", messages.EndingParams(reason=reason, message=message))
                await asyncio.sleep(END_FLUSH_SECONDS)
            with contextlib.suppress(Exception):
                await transport.close()
        current = asyncio.current_task()
        others = [task for task in self._tasks if task is not current]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        try:
            await self.left(reason, message)
        finally:
            self.closed.set()

    async def _watch(self) -> None:
        """Free the place of a device that never came or has fallen silent."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HANDSHAKE_TIMEOUT_SECONDS
        while not self.ending:
            await asyncio.sleep(LIVENESS_INTERVAL_SECONDS)
            transport = self.transport
            if transport is None:
                continue
            if not self.open:
                if loop.time() > deadline:
                    self.end(Result.HANDSHAKE_FAILED, "The device never connected.", tell=False)
            elif loop.time() - transport.last_heard > self.config.device_timeout_seconds:
                self.end(Result.CONNECTION_LOST, "The device has not been heard for too long.", tell=False)

    def _on_nonsense(self, error: FarframeError) -> None:
        self.end(Result.PROTOCOL_ERROR, "The device sent too many messages that are not of this protocol.")

    # Requests that all may make -------------------------------------------------------------------------------------

    def check_version(self, params: messages.OpenParams) -> None:
        """Raises :class:`FarframeError` for a device that speaks another version of the protocol."""
        if params.protocol != messages.PROTOCOL_VERSION:
            raise FarframeError(
                Result.PROTOCOL_VERSION_MISMATCH,
                f"The device speaks protocol {params.protocol}, this server {messages.PROTOCOL_VERSION}.",
                next_step="Update the older side.",
            )

    async def describe(self, assignment: Assign, frames: FrameLoop, encoder: str, video: VideoSettings) -> OpenResult:
        """What every device is told when its connection is opened: by whom, with what and within which limits it is
        served. What only those who drive, or only those who watch, are told is up to the caller."""
        engine = await frames.engine()
        self.requests.opened = True
        return OpenResult(
            protocol=messages.PROTOCOL_VERSION,
            session_id=assignment.session_id,
            size=assignment.size,
            server=messages.ServerInfo(
                version=__version__,
                adapter=engine.adapter_name,
                adapter_kind=engine.adapter_kind,
                encoder=encoder,
            ),
            video=messages.VideoResult(**asdict(video)),
            max_width=self.config.max_width,
            max_height=self.config.max_height,
        )

    async def _ping(self, message: Incoming) -> Message:
        params = messages.convert_params(message.params, messages.PingParams)
        return messages.PingResult(client_time_us=params.client_time_us, server_time_us=microseconds())

    async def _close_connection(self, message: Incoming) -> None:
        self.end(Result.DISCONNECT_REQUEST, "The device disconnected.", tell=False)

    # Small things ---------------------------------------------------------------------------------------------------

    def send(self, text: str) -> None:
        """Send a message on the control channel."""
        if self.transport is not None:
            self.transport.send_control(text)

    def notify(self, method: str, params: Message) -> None:
        """Tell the device something; what it cannot take is lost."""
        with contextlib.suppress(FarframeError):
            self.send(messages.encode_notification(method, params))

    def spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Have something done in the background that ends with the link."""
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
