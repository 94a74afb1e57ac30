"""A leased render server, as the control plane describes it, and the way to its pictures."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from farframe.client.errors import FarframeClientError, SessionFailedError
from farframe.client.ways import WayChoice
from farframe.protocol.messages import RenderModeChoice
from farframe.wire import sessions as wire

if TYPE_CHECKING:
    from farframe.client.management import InspectorLink, RemoteRenderingClient, SessionToken
    from farframe.client.runtime import RuntimeConnection

Relayed = bool | Literal["auto"]

POLL_FIRST_SECONDS = 0.1
POLL_GROWTH = 1.5
POLL_MAX_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class SessionFailure:
    """Why a session has status Error: a stable code and a sentence."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class SessionProperties:
    """What the service last said about a session.

    ``status`` is Starting, Ready, Stopped, Error or Expired. ``elapsed_minutes`` and ``lease_minutes`` are whole
    minutes, counted from Ready. ``hostname`` and the ports are set while Ready; ``teraflops`` is what the server's
    graphics adapter was measured at. ``error`` is set with status Error.
    """

    id: str
    status: str
    size: str
    creation_time: datetime
    elapsed_minutes: int
    lease_minutes: int
    hostname: str | None = None
    handshake_port: int | None = None
    inspector_port: int | None = None
    teraflops: float | None = None
    error: SessionFailure | None = None


def properties_of(session: wire.Session) -> SessionProperties:
    """The properties of a session as it came over the wire."""
    return SessionProperties(
        id=session.id,
        status=session.status.value,
        size=session.size.value,
        creation_time=datetime.fromisoformat(session.creation_time),
        elapsed_minutes=session.elapsed_time_minutes,
        lease_minutes=session.max_lease_time_minutes,
        hostname=session.hostname or None,
        handshake_port=session.handshake_port or None,
        inspector_port=session.arr_inspector_port or None,
        teraflops=session.teraflops or None,
        error=SessionFailure(session.error.code, session.error.message) if session.error else None,
    )


class Session:
    """A session of a :class:`~farframe.client.RemoteRenderingClient`. ``properties`` are as of the last call."""

    def __init__(self, client: RemoteRenderingClient, properties: SessionProperties) -> None:
        self._client = client
        self.properties = properties

    def __repr__(self) -> str:
        return f"Session(id={self.id!r}, status={self.status!r}, size={self.size!r})"

    @property
    def client(self) -> RemoteRenderingClient:
        """The client that this session belongs to."""
        return self._client

    @property
    def id(self) -> str:
        """The session's id, unique within the account."""
        return self.properties.id

    @property
    def status(self) -> str:
        """Starting, Ready, Stopped, Error or Expired, as of the last call."""
        return self.properties.status

    @property
    def size(self) -> str:
        """Standard or Premium."""
        return self.properties.size

    async def refresh(self) -> SessionProperties:
        """Ask the service for the current properties. Raises NotFoundError and other ServiceErrors."""
        self.properties = await self._client._properties(self.id)
        return self.properties

    async def wait_until_ready(
        self, timeout: float = 300.0, progress: Callable[[Session], None] | None = None
    ) -> SessionProperties:
        """Wait until a render server is there, at most ``timeout`` seconds; ``progress`` is called after each look.

        Raises SessionFailedError when the session ends before, or is not ready in time (it then lives on).
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        wait = POLL_FIRST_SECONDS
        while True:
            if progress is not None:
                progress(self)
            if self.status == "Ready":
                return self.properties
            if self.status != "Starting":
                raise self._failed()
            left = deadline - loop.time()
            if left <= 0:
                raise SessionFailedError(
                    f"The session {self.id} is not ready after {timeout:g} seconds.",
                    session_status=self.status,
                    next_step="Wait longer, or stop it and look into the service's log.",
                )
            await asyncio.sleep(min(wait, left))
            wait = min(wait * POLL_GROWTH, POLL_MAX_SECONDS)
            await self.refresh()

    def _failed(self) -> SessionFailedError:
        properties = self.properties
        if properties.status == "Error":
            failure = properties.error or SessionFailure("", "no reason was given")
            return SessionFailedError(
                f"The session {self.id} failed: {failure.message.rstrip('.')}.",
                session_status="Error",
                code=failure.code,
                next_step="Create another session; the service's log says more.",
            )
        how = {"Stopped": "was stopped", "Expired": "has expired"}.get(properties.status, f"is {properties.status}")
        return SessionFailedError(
            f"The session {self.id} {how}.", session_status=properties.status, next_step="Create another session."
        )

    async def extend(self, minutes_total: int) -> SessionProperties:
        """Make the lease longer: ``minutes_total`` is the new length, counted from Ready, not what is added.

        Raises InvalidRequestError unless it is larger than the current one and at most 1440.
        """
        self.properties = await self._client._extend(self.id, minutes_total)
        return self.properties

    async def stop(self) -> None:
        """End the session; its device is told. Stopping an ended session changes nothing."""
        await self._client._stop(self.id)
        # The stop has been answered; a failing look at the result would only hide that.
        with contextlib.suppress(FarframeClientError):
            await self.refresh()

    async def create_token(self, role: Literal["Client", "Viewer"] | None = None, minutes: int = 60) -> SessionToken:
        """A token that opens this session only, for ``minutes`` (1 to 1440) but no longer than one's own token lives.

        ``role`` is what its holder may do: Client (drive the session; the default for those who may themselves) or
        Viewer (look only). A device that has it needs no account key: see :class:`ConnectionInfo`. Raises
        ConflictError when the session has ended, PermissionDeniedError for a role beyond one's own.
        """
        return await self._client._session_token(self.id, role, minutes)

    async def create_inspector_link(self) -> InspectorLink:
        """A link to the inspector of this session's render server: its frames as they are made, and its log.

        The page is the render server's own, under the service's certificate authority. Raises ConflictError when the
        session has no render server: not ready yet, or ended.
        """
        return await self._client._inspector_link(self.id)

    @contextlib.asynccontextmanager
    async def connect(
        self,
        width: int = 1280,
        height: int = 720,
        *,
        relayed: Relayed = "auto",
        max_frames_per_second: int = 60,
        timeout: float = 20.0,
        way: WayChoice = "auto",
        reconnect: bool = True,
        render_mode: RenderModeChoice = "Default",
    ) -> AsyncIterator[RuntimeConnection]:
        """Connect this device to the session's render server and receive ``width`` x ``height`` pixels (even).

        The handshake goes straight to the server (``relayed=False``), through the service (``True``), or straight
        first and through the service if the server cannot be reached (``"auto"``). Pictures come over UDP (WebRTC), or
        over one WebSocket where UDP does not get through; that one goes the same ways as the handshake. ``way`` asks
        for one of them instead (``"webrtc"``, ``"turn"``, ``"websocket"``); which one it became, and why, says
        :attr:`RuntimeConnection.way`.
        A connection that is lost is made anew (``reconnect``), and finds its scene, for as long as the server keeps it:
        see :meth:`RuntimeConnection.on_interrupted`.
        ``render_mode`` is one of Azure Remote Rendering's, ``"DepthBasedComposition"`` (also ``"Default"``) or
        ``"TileBasedComposition"``: here both draw alike, and everything works in both. It holds for the connection, by
        whichever way; see :attr:`RuntimeConnection.render_mode`.
        ``timeout`` in seconds is for everything until the connection is open. On the way out the connection is
        closed and its scene is gone; the session stays.

        Raises SessionFailedError when the session is not ready, HandshakeError when another device is connected
        (``Result.OTHER_SESSION_CONNECTED``) or the offer is refused, ServiceUnreachableError, RequestError
        (``Result.INVALID_PARAM`` for another render mode, before anything is sent).
        """
        # Media libraries take half a second to import: only those who connect pay for it.
        from farframe.client.runtime import open_connection

        await self._require_ready()
        connection = await open_connection(
            self,
            width=width,
            height=height,
            relayed=relayed,
            max_frames_per_second=max_frames_per_second,
            timeout=timeout,
            way=way,
            reconnect=reconnect,
            render_mode=render_mode,
        )
        try:
            yield connection
        finally:
            await connection.close()

    @contextlib.asynccontextmanager
    async def watch(
        self,
        *,
        relayed: Relayed = "auto",
        timeout: float = 20.0,
        way: WayChoice = "auto",
        reconnect: bool = True,
    ) -> AsyncIterator[RuntimeConnection]:
        """Watch what the device that drives this session sees: the same frames, nothing of one's own.

        A token of the role Viewer is enough. Calls that would change something raise RequestError
        (``Result.WATCHING_ONLY``). Without a device that drives there is no picture; see
        :attr:`RuntimeConnection.driven`. The other parameters are those of :meth:`connect`.

        Raises what :meth:`connect` raises; HandshakeError (``Result.TOO_MANY_SPECTATORS``) when as many watch as may.
        """
        await self._require_ready()
        from farframe.client.runtime import open_connection

        connection = await open_connection(
            self,
            width=1280,
            height=720,
            relayed=relayed,
            max_frames_per_second=60,
            timeout=timeout,
            way=way,
            watch=True,
            reconnect=reconnect,
        )
        try:
            yield connection
        finally:
            await connection.close()

    async def give_up_scene(self) -> None:
        """Have the scene emptied that is kept for a device that was lost, so that another one can connect at once.

        For Administrators of the account. Raises HandshakeError: ``Result.INVALID_ID`` when nothing is kept,
        ``Result.OTHER_SESSION_CONNECTED`` while the device is connected.
        """
        from farframe.client._handshake import give_up

        await self._require_ready()
        await give_up(self._client._http, self.properties, "auto")

    async def _require_ready(self) -> None:
        if self.status == "Starting" or self.properties.hostname is None:
            await self.refresh()
        if self.status == "Ready":
            return
        if self.status == "Starting":
            raise SessionFailedError(
                f"The session {self.id} is not ready yet.",
                session_status=self.status,
                next_step="Call `await session.wait_until_ready()` first.",
            )
        raise self._failed()
