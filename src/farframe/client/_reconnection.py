"""A connection that was lost and is made anew: when that is noticed, how often it is tried, and what is told.

    settled --lose--> interrupted --attempts--> settled
                                  \\-- refused for good, session over, or too late: the connection ends

What a line, a route and the pace of attempts are is in :mod:`farframe.client._returning`. Works on its connection,
whose insides it knows; everything runs in the connection's event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from farframe.client._handshake import Wish
from farframe.client._returning import (
    ATTEMPT_SECONDS,
    PROOF_SECONDS,
    REFUSED,
    ROUTE_INTERVAL_SECONDS,
    WATCHER_PATIENCE_SECONDS,
    Route,
    pauses,
)
from farframe.client._transport import Transport
from farframe.client.errors import (
    AuthenticationError,
    ConnectionLostError,
    FarframeClientError,
    NotFoundError,
    RuntimeConnectionError,
    SessionEndedError,
)
from farframe.protocol.errors import Result

if TYPE_CHECKING:
    from farframe.client.runtime import RuntimeConnection

SILENCE_SECONDS = 4.5
"""So long the server may take to notice the loss that this side has noticed."""


class Reconnection:
    """Brings one connection back. ``wanted``: whether it shall be tried at all."""

    def __init__(self, connection: RuntimeConnection, *, wanted: bool) -> None:
        self.settled = asyncio.Event()
        """Set but while the connection is interrupted."""
        self.on_interrupted: list[Callable[[RuntimeConnectionError], None]] = []
        self.on_resumed: list[Callable[[], None]] = []
        self._connection = connection
        self._wanted = wanted
        self._route: Route | None = None
        self._former: list[Transport] = []

    @property
    def possible(self) -> bool:
        """Whether the connection comes back when it was lost."""
        connection = self._connection
        info = connection.info
        return self._wanted and info is not None and (connection._watch or bool(info.resume_secret))

    # Noticing ---------------------------------------------------------------------------------------------------

    async def prove(self) -> None:
        """The network has changed: unless the server answers a ping right away, the line is lost."""
        connection = self._connection
        line = connection._line
        try:
            async with asyncio.timeout(PROOF_SECONDS):
                await connection._ping()
        except (TimeoutError, RuntimeConnectionError):
            if line is connection._line:
                self.lose(
                    ConnectionLostError(
                        Result.CONNECTION_LOST,
                        "The network has changed, and the render server is not reached any more.",
                        next_step="Connect again.",
                    )
                )

    async def watch_route(self) -> None:
        """Notice a change of the network by the address that packets to the server leave from."""
        connection = self._connection
        route = self._route
        if route is None:
            session = connection.session
            hosts = [session.properties.hostname, urlsplit(session.client._http.connection.endpoint).hostname]
            route = self._route = Route([host for host in hosts if host])
            await route.resolve()
        known = route.address()
        while connection.ended is None:
            await asyncio.sleep(ROUTE_INTERVAL_SECONDS)
            address = route.address()
            if address is not None and address != known:
                known = address
                connection.network_changed()

    def lose(self, error: RuntimeConnectionError) -> None:
        """The line is lost: make another, if the server has kept what there was."""
        connection = self._connection
        if connection.ended is not None:
            return
        if not self.settled.is_set():
            # While a line is made: that attempt fails, and another follows, or none.
            connection._caller.end(error)
            return
        if not self.possible:
            connection._end(error)
            return
        self.settled.clear()
        connection._caller.end(error)
        connection._spawn(self._come_back(error), "farframe return")
        for callback in self.on_interrupted:
            callback(error)

    # Coming back ------------------------------------------------------------------------------------------------

    async def _come_back(self, error: RuntimeConnectionError) -> None:
        """Make lines until one holds, for as long as the server keeps what there was."""
        connection = self._connection
        assert connection.info is not None
        loop = asyncio.get_running_loop()
        grace = connection.info.resume_grace_seconds
        deadline = loop.time() + (WATCHER_PATIENCE_SECONDS if connection._watch else grace + SILENCE_SECONDS)
        video = connection.video
        connection._wanted = msgspec.structs.replace(
            connection._wanted,
            width=video.width,
            height=video.height,
            max_frames_per_second=video.max_frames_per_second,
        )
        wish = Wish(watch=connection._watch, resume=connection.info.resume_secret)
        await connection.session.client._http.begin_anew()
        for pause in pauses():
            self._drop_line()
            await asyncio.sleep(pause)
            left = deadline - loop.time()
            if left <= 0:
                connection._end(error)
                return
            try:
                async with asyncio.timeout(min(left, ATTEMPT_SECONDS)):
                    await connection._make_line(wish)
                break
            except AuthenticationError as refused:
                connection._end(
                    ConnectionLostError(Result.AUTHENTICATION_FAILED, refused.message, next_step="Connect again.")
                )
                return
            except RuntimeConnectionError as failure:
                if failure.result in REFUSED:
                    connection._end(ConnectionLostError(failure.result, failure.message, next_step="Connect again."))
                    return
            except (FarframeClientError, TimeoutError):
                pass
            over = await self._session_over()
            if over is not None:
                connection._end(over)
                return
        connection._begin_anew()
        # Before anything that waited for the line, and in one step with it: what is asked sees what was set.
        connection._carry_on()
        self.settled.set()
        connection._spawn(self.close_former(), "farframe former")
        for callback in self.on_resumed:
            callback()

    def _drop_line(self) -> None:
        """Let go of the transport. It is closed once there is another: closing says goodbye, and should that get
        through, the scene would be gone."""
        self._former.append(self._connection._drop_line())

    async def close_former(self) -> None:
        """Close the transports that were let go of."""
        former, self._former = self._former, []
        for transport in former:
            await transport.close()

    async def _session_over(self) -> RuntimeConnectionError | None:
        """Why there is nothing to come back to, if the service says so."""
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                status = (await self._connection.session.refresh()).status
        except NotFoundError:
            status = "Stopped"
        except (FarframeClientError, TimeoutError):
            return None
        if status in ("Ready", "Starting"):
            return None
        if status == "Expired":
            return SessionEndedError(Result.SESSION_EXPIRED, "The session's lease has run out.")
        if status == "Stopped":
            return SessionEndedError(Result.SESSION_STOPPED, "The session was stopped.")
        return ConnectionLostError(
            Result.CONNECTION_LOST, "The session's render server has failed.", next_step="Create another session."
        )
