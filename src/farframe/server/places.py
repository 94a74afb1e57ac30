"""The one place from which a session is driven: who holds it, and for whom it is kept.

    state     one line                                           a handshake then
    --------  -------------------------------------------------  -----------------------------------------------------
    free      nobody drives, the scene is empty                  takes the place; with a resume secret: NothingToResume
    held      a device drives                                    OtherSessionConnected; with the place's secret it takes
                                                                 over at once: a device knows first that its network
                                                                 changed
    kept      the device was lost; its scene stays for the       OtherSessionConnected; with the place's secret it finds
              grace time                                         everything as it was
    emptied   the device has left for good                       OtherSessionConnected, for a moment

A device leaves for good when it says goodbye, when the grace time is over, when it never came, when it spoke nonsense,
and when the session ends. It is lost when it falls silent. A grace time of 0 keeps nothing.

The resume secret is a place's, not a connection's: an answer that was lost on the way costs nobody their scene. It is
void when the place is free again. Everything here runs in the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.messages import DEFAULT_RENDER_MODE, RenderMode

if TYPE_CHECKING:
    from farframe.protocol.records import PoseRecord
    from farframe.server.connection import Connection
    from farframe.server.frame_loop import VideoSettings
    from farframe.server.scene_commands import SceneCommands
    from farframe.server.spectators import Audience

log = structlog.get_logger("farframe.places")

SETTLE_SECONDS = 10.0
"""How long one who comes waits for one who is leaving. On a machine with time for it that takes milliseconds."""

SECRET_BYTES = 32
MAX_SECRET_LENGTH = 128
"""Of what a device gives; ours have 43 characters."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a handshake asks for beside a connection: to ``watch`` only; to ``resume``, with the secret for it."""

    watch: bool = False
    resume: str = field(default="", repr=False)


class Place:
    """What the driving device has in this server, and finds again when it comes back."""

    def __init__(self, scene: SceneCommands, video: VideoSettings) -> None:
        self.scene = scene
        self.video = video
        self.pose: PoseRecord | None = None
        self.render_mode: RenderMode = DEFAULT_RENDER_MODE
        self.used = False
        """Whether a device has ever been connected to it: only then there is something to keep."""
        self.secret = secrets.token_urlsafe(SECRET_BYTES)

    def __repr__(self) -> str:
        return f"Place(used={self.used})"

    def opens_with(self, secret: str) -> bool:
        """Whether that is the place's secret; takes the same time whatever is wrong with it."""
        if len(secret) > MAX_SECRET_LENGTH:
            return False
        return hmac.compare_digest(secret.encode("utf-8", "replace"), self.secret.encode())


MakeConnection = Callable[
    [Place, Callable[["Connection", str, str], Awaitable[None]], "Connection | None"],
    "Connection",
]
"""Makes a connection to a place, from who sees to the place when it ends, and from the one that it takes over from."""


class Places:
    """Keeps the place. ``tell(connected, reason)`` hears when a device comes and goes."""

    def __init__(
        self,
        grace_seconds: float,
        make_place: Callable[[], Place],
        make_connection: MakeConnection,
        audience: Audience,
        tell: Callable[[bool, str], None],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._grace_seconds = grace_seconds
        self._make_place = make_place
        self._make_connection = make_connection
        self._audience = audience
        self._tell = tell
        self._now = now
        self._place: Place | None = None
        self._connection: Connection | None = None
        self._kept_until: datetime | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._emptying: asyncio.Task[None] | None = None
        self._over = False

    @property
    def connected(self) -> bool:
        """Whether a device holds the place at present."""
        return self._connection is not None

    @property
    def place(self) -> Place | None:
        """The place, unless it is free."""
        return self._place

    def take(self, wishes: Wishes) -> Connection:
        """A connection for a device that wants to drive. Raises :class:`FarframeError` as the table says."""
        place = self._place
        if place is None or (wishes.resume and self._emptying is not None):
            if wishes.resume:
                raise FarframeError(
                    Result.NOTHING_TO_RESUME,
                    "The scene that this device had here is gone.",
                    next_step="Connect without a resume secret and load the models again.",
                )
            self._place = place = self._make_place()
        elif not (wishes.resume and place.opens_with(wishes.resume)):
            raise self._occupied(bool(wishes.resume))
        former = self._connection
        self._stop_timer()
        self._connection = self._make_connection(place, self._left, former)
        if former is not None:
            log.info("device.takes_over")
            former.end(Result.OTHER_SESSION_CONNECTED, "The same device has connected anew.", tell=not former.ending)
        return self._connection

    async def settle(self) -> None:
        """Wait, a little, for a device that is leaving: who comes right after it shall find the place free. A device
        that closes its WebSocket, unlike one that is answered its DELETE, cannot know when it is."""
        connection, emptying = self._connection, self._emptying
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                if connection is not None and connection.ending:
                    await connection.closed.wait()
                elif connection is None and emptying is not None:
                    await asyncio.shield(emptying)

    async def leave(self, resource_id: str) -> bool:
        """End the driving device's connection for good, if it has that id; returns when the place is free."""
        connection = self._connection
        if connection is None or not secrets.compare_digest(connection.resource_id.encode(), resource_id.encode()):
            return False
        if connection.open:
            connection.place.used = False  # should it be ending already, as lost: nobody is left to keep the scene for
        connection.end(Result.DISCONNECT_REQUEST, "The device disconnected.", tell=False)
        await connection.closed.wait()
        return True

    async def give_up(self, secret: str | None = None) -> None:
        """Keep the place no longer for a device that was lost; returns when it is free. Only an Administrator needs no
        ``secret``.

        Raises :class:`FarframeError`: OtherSessionConnected while a device is connected (but not to that device),
        InvalidId if nothing is kept, AuthenticationFailed for a wrong secret.
        """
        place = self._place
        if secret is not None and (place is None or not place.opens_with(secret)):
            raise FarframeError(
                Result.AUTHENTICATION_FAILED,
                "Only the device that was lost, or an Administrator of the account, may give up its scene.",
                next_step="Wait until its grace time is over, or use the account's key.",
            )
        connection = self._connection
        if connection is not None and secret is not None:
            # The device itself knows before the server does that it was lost.
            connection.place.used = False
            connection.end(Result.DISCONNECT_REQUEST, "The device gave up.", tell=False)
            await connection.closed.wait()
            return
        if connection is not None:
            raise self._occupied(False)
        if place is None:
            raise FarframeError(Result.INVALID_ID, "Nothing is kept for a device that was lost.")
        log.info("place.given_up")
        await self._empty()

    async def end(self, reason: str, message: str) -> None:
        """The session is over. Returns when the device's connection has ended."""
        self._over = True
        self._stop_timer()
        connection = self._connection
        if connection is not None:
            connection.end(reason, message)
            await connection.closed.wait()
        else:
            self._tell(False, reason)

    # ----------------------------------------------------------------------------------------------------------------

    async def _left(self, connection: Connection, reason: str, message: str) -> None:
        """A connection has ended: keep the place, or empty it."""
        if connection is not self._connection:
            return  # another one has taken over
        place = connection.place
        # One that came back and got no further than its handshake is as lost as it was before: it tries another way in.
        lost = place.used and (reason == Result.CONNECTION_LOST or not connection.open)
        lost = lost and not self._over
        keep = lost and self._grace_seconds > 0
        self._audience.leave(reason, message, may_return=keep)
        if keep:
            self._connection = None
            self._kept_until = self._now() + timedelta(seconds=self._grace_seconds)
            self._timer = asyncio.get_running_loop().call_later(self._grace_seconds, self._grace_is_over)
            log.info("place.kept", seconds=self._grace_seconds)
        else:
            await self._empty()
        self._tell(False, reason)

    def _grace_is_over(self) -> None:
        log.info("place.grace_over")
        self._begin_to_empty()

    def _begin_to_empty(self) -> asyncio.Task[None]:
        self._stop_timer()
        if self._emptying is None:
            self._emptying = asyncio.create_task(self._clear(), name="empty-place")
        return self._emptying

    async def _empty(self) -> None:
        await asyncio.shield(self._begin_to_empty())

    async def _clear(self) -> None:
        place = self._place
        try:
            if place is not None:
                await place.scene.clear()
        except Exception:
            # The renderer has ended, and this server with it.
            log.error("place.not_emptied", exc_info=True)
        finally:
            self._place = self._connection = self._emptying = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._kept_until = None

    def _occupied(self, with_secret: bool) -> FarframeError:
        if with_secret:
            log.warning("device.wrong_resume_secret")
        until = self._kept_until
        if until is not None:
            left = max(0, round((until - self._now()).total_seconds()))
            return FarframeError(
                Result.OTHER_SESSION_CONNECTED,
                "Another device has lost its connection to this session; its scene is kept for it until "
                f"{until:%H:%M:%S} UTC, {left} s from now.",
                next_step="Wait until then, have an Administrator of the account end it, or create another session.",
            )
        return FarframeError(
            Result.OTHER_SESSION_CONNECTED,
            "Another device is connected to this session.",
            next_step="Disconnect it, or create a session of your own.",
        )
