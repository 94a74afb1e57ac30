"""Leasing render servers: sessions, uploads and viewer links over the REST API."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import httpx
import msgspec

from farframe.client import _uploads, regions
from farframe.client._http import ServiceHttp
from farframe.client._uploads import UploadCallback
from farframe.client.connection_file import ConnectionInfo
from farframe.client.errors import (
    FarframeClientError,
    LocalFileError,
    NotFoundError,
    ServiceError,
    ServiceUnreachableError,
)
from farframe.client.regions import RegionLatency
from farframe.client.session import Session, SessionProperties, properties_of
from farframe.wire import sessions as wire
from farframe.wire.extensions import CreateSessionToken, CreateViewerLink, Link
from farframe.wire.extensions import SessionToken as WireSessionToken
from farframe.wire.quotas import QuotaReport
from farframe.wire.usage import UsageReport

T = TypeVar("T")

Size = Literal["Standard", "Premium"]

STOP_TIMEOUT_SECONDS = 15.0
"""How long leaving :meth:`RemoteRenderingClient.leased` waits for the stop to be answered."""

MAX_PAGES = 10_000

LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class ViewerLink:
    """A link that opens the browser viewer once. It is a secret: whoever opens it first may use the account."""

    url: str
    expires_at: datetime

    def __repr__(self) -> str:
        return f"ViewerLink(url='***', expires_at={self.expires_at!r})"


@dataclass(frozen=True, slots=True)
class InspectorLink:
    """A link into the inspector of one session, good until ``expires_at``. It is a secret: it carries a token."""

    url: str
    expires_at: datetime

    def __repr__(self) -> str:
        return f"InspectorLink(url='***', expires_at={self.expires_at!r})"


@dataclass(frozen=True, slots=True)
class SessionToken:
    """A token that opens one session until ``expires_at``, for a device that holds nothing else. It is a secret."""

    token: str = field(repr=False)
    session_id: str
    role: str
    expires_at: datetime


class RemoteRenderingClient:
    """A caller of one service with one account. Use it as an async context manager, or call :meth:`close`.

    All methods raise :class:`~farframe.client.errors.ServiceUnreachableError` when there is no answer and a
    :class:`~farframe.client.errors.ServiceError` when the answer is an error. What may safely be sent twice is
    retried with growing waits.
    """

    def __init__(self, connection: ConnectionInfo, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """``transport`` replaces the network, for tests."""
        self._http = ServiceHttp(connection, transport=transport)
        self._elsewhere: dict[str, Self] = {}
        self._choosing = asyncio.Lock()

    @classmethod
    def from_connection_file(cls, path: str | os.PathLike[str] | None = None) -> Self:
        """A client of the service whose connection file is ``path``, else the one that is found by default.

        The default is what ``FARFRAME_CONNECTION`` names, else ``connection.json`` in the default data folder.
        Raises ConnectionFileError.
        """
        return cls(ConnectionInfo.find(path))

    @property
    def connection(self) -> ConnectionInfo:
        """Where the service is."""
        return self._http.connection

    async def close(self) -> None:
        """Close all connections to the service, and to those of regions that sessions were created in. Sessions stay
        as they are."""
        for other in self._elsewhere.values():
            await other.close()
        self._elsewhere.clear()
        await self._http.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def create_session(
        self,
        size: Size | str = "Standard",
        lease_minutes: int = 10,
        session_id: str | None = None,
        *,
        region: str | None = None,
    ) -> Session:
        """Lease a render server for ``lease_minutes``, counted from when it is ready.

        With a ``session_id`` (letters, digits, ``-`` and ``_``, at most 256) the call may be repeated: the same
        settings give the same session; ConflictError says that it is taken by others. Without one a new id is made
        up, and a call that is cancelled leaves no session behind, since nobody would know its id.

        With a ``region`` the session is leased from the service of that region, and the :class:`Session` speaks to
        that one; ``best`` is the region with the shortest round trip from here. To find the session again later, ask
        the client of :meth:`in_region`. Raises NotFoundError for a region that does not exist.
        """
        if region is not None:
            return await (await self._of(region)).create_session(size, lease_minutes, session_id)
        if session_id is not None:
            return await self._create(session_id, size, lease_minutes)
        return await self.create_owned(str(uuid.uuid4()), size, lease_minutes)

    async def create_owned(self, session_id: str, size: Size | str, lease_minutes: int) -> Session:
        """Like :meth:`create_session` with an id, but stops the session if the call is cancelled or gets no answer."""
        try:
            return await self._create(session_id, size, lease_minutes)
        except ServiceError:
            # The service refused: there is nothing of ours to stop. It may even be somebody else's session.
            raise
        except BaseException:
            await self.stop_surely(session_id)
            raise

    async def _create(self, session_id: str, size: str, lease_minutes: int) -> Session:
        response = await self._http.request(
            "PUT",
            self._http.account_url(f"sessions/{quote(session_id, safe='')}"),
            what=f"The session {session_id}",
            json=wire.CreateSession(max_lease_time_minutes=lease_minutes, size=size),
        )
        return Session(self, properties_of(decode(response, wire.Session)))

    async def get_session(self, session_id: str) -> Session:
        """The session with that id, in whatever state. Raises NotFoundError."""
        return Session(self, await self._properties(session_id))

    async def _properties(self, session_id: str) -> SessionProperties:
        response = await self._http.request(
            "GET",
            self._http.account_url(f"sessions/{quote(session_id, safe='')}"),
            what=f"The session {session_id}",
        )
        return properties_of(decode(response, wire.Session))

    async def list_sessions(self) -> AsyncIterator[Session]:
        """All sessions of this account that are starting or ready, page after page."""
        url: str | None = self._http.account_url("sessions")
        for _ in range(MAX_PAGES):
            response = await self._http.request("GET", url or "")
            page = decode(response, wire.SessionList)
            for item in page.sessions:
                yield Session(self, properties_of(item))
            if not page.next_link:
                return
            url = urljoin(str(response.request.url), page.next_link)
            if not same_origin(url, self.connection.endpoint):
                raise ServiceError(
                    "The service links its next page to another host; the token was not sent there.",
                    status=response.status_code,
                    next_step="Check the service's public name.",
                )

    @contextlib.asynccontextmanager
    async def leased(
        self,
        size: Size | str = "Standard",
        lease_minutes: int = 10,
        session_id: str | None = None,
        *,
        region: str | None = None,
        timeout: float = 300.0,
        progress: Callable[[Session], None] | None = None,
    ) -> AsyncIterator[Session]:
        """A session that is ready, and that is stopped on the way out, whatever happens inside.

        ``timeout`` in seconds and ``progress`` are those of :meth:`Session.wait_until_ready`, ``region`` is that of
        :meth:`create_session`. The session is stopped also when its creation was cancelled half-way.
        """
        if region is not None:
            other = await self._of(region)
            async with other.leased(size, lease_minutes, session_id, timeout=timeout, progress=progress) as session:
                yield session
            return
        session_id = str(uuid.uuid4()) if session_id is None else session_id
        session = await self.create_owned(session_id, size, lease_minutes)
        try:
            await session.wait_until_ready(timeout=timeout, progress=progress)
            yield session
        finally:
            await self.stop_surely(session_id)

    async def stop_surely(self, session_id: str) -> None:
        """Stop a session on the way out of something else.

        Cancellation does not prevent it, and it raises no error of its own that would hide the first one.
        """
        stop = asyncio.create_task(self._stop(session_id), name=f"stop {session_id}")
        cancelled: asyncio.CancelledError | None = None
        deadline = asyncio.get_running_loop().time() + STOP_TIMEOUT_SECONDS
        while not stop.done() and (left := deadline - asyncio.get_running_loop().time()) > 0:
            try:
                await asyncio.wait({stop}, timeout=left)
            except asyncio.CancelledError as error:
                cancelled = error
        if not stop.done():
            stop.cancel()
        with contextlib.suppress(FarframeClientError, asyncio.CancelledError):
            await stop
        if cancelled is not None:
            raise cancelled

    async def _stop(self, session_id: str) -> None:
        # A second stop changes nothing, so that it may be repeated although it is a POST.
        await self._http.request(
            "POST",
            self._http.account_url(f"sessions/{quote(session_id, safe='')}/:stop"),
            what=f"The session {session_id}",
            idempotent=True,
        )

    async def _extend(self, session_id: str, minutes_total: int) -> SessionProperties:
        response = await self._http.request(
            "PATCH",
            self._http.account_url(f"sessions/{quote(session_id, safe='')}"),
            what=f"The session {session_id}",
            json=wire.UpdateSession(max_lease_time_minutes=minutes_total),
        )
        return properties_of(decode(response, wire.Session))

    async def upload(self, path: str | os.PathLike[str], progress: UploadCallback | None = None) -> str:
        """Send a local model to the service's own storage and return the URI under which render servers load it.

        ``path`` is a model file (a ``.gltf`` takes along the files that it refers to, which must lie below its
        folder) or a folder with one model. ``progress`` is called in the event loop with
        :class:`~farframe.client.UploadProgress`. Raises LocalFileError, InvalidRequestError (over the quota).
        """
        if _uploads.is_uri(path):
            raise LocalFileError(f"{path} is a URI, not a local file.", next_step="Load it as it is.")
        model = await asyncio.to_thread(_uploads.collect, Path(path).expanduser())
        return await _uploads.send(self._http, model, progress)

    async def create_console_link(self) -> ViewerLink:
        """A link that opens the console once: the account's sessions and uploads, as ``farframe up`` prints it."""
        return await self._create_link(CreateViewerLink(page="console"), "The console")

    async def create_viewer_link(
        self, session_id: str | None = None, role: Literal["Client", "Viewer"] = "Client"
    ) -> ViewerLink:
        """A link that opens the browser viewer once, on ``session_id`` or on a choice of sessions; with the ``role``
        Viewer to watch only."""
        what = f"The session {session_id}" if session_id else "The viewer"
        return await self._create_link(CreateViewerLink(session_id=session_id, role=role), what)

    async def _create_link(self, wanted: CreateViewerLink, what: str) -> ViewerLink:
        response = await self._http.request("POST", self._http.account_url("viewer-links"), what=what, json=wanted)
        link = decode(response, Link)
        return ViewerLink(link.url, datetime.fromisoformat(link.expires_at))

    async def latency(self, *, throughput: bool = True) -> list[RegionLatency]:
        """Round trip and throughput from here to every region that the service knows, its own first."""
        return await regions.measure_all(self._http, throughput=throughput)

    async def nearest_region(self) -> RegionLatency:
        """The region with the shortest round trip from here. Raises ServiceUnreachableError if none answers."""
        nearest = regions.best(await self.latency(throughput=False))
        if nearest is None:
            raise ServiceUnreachableError("No region answers.", next_step="Check the network, then try again.")
        return nearest

    async def in_region(self, region: str, *, ca_bundle: str | os.PathLike[str] | None = None) -> Self:
        """A client of the service of a region, with the same account and key; ``best`` is the nearest region.

        ``ca_bundle`` is a PEM file with the only authority to trust there; without it, the one that this service names
        for the region, else those that this client and the system trust. Regions that share accounts can take each
        other's place; where the account is unknown, calls raise AuthenticationError. Close it like this one. Raises
        NotFoundError for a region that does not exist.
        """
        if region in ("best", "auto"):
            region = (await self.nearest_region()).name
        known = await regions.fetch_regions(self._http.http, self.connection.endpoint)
        if region == known.region:
            return type(self)(self.connection, transport=self._http.transport)
        found = next((entry for entry in known.regions if entry.name == region), None)
        if found is None:
            names = ", ".join(sorted({entry.name for entry in known.regions} | {known.region}))
            raise NotFoundError(f"There is no region {region}.", status=404, next_step=f"There are {names}.")
        if urlsplit(found.endpoint).scheme != "https" and urlsplit(found.endpoint).hostname not in LOOPBACK:
            raise ServiceUnreachableError(
                f"The URL of the region {region} is not https; the account's key was not sent there.",
                next_step="Ask the operator of the service to correct its regions.",
            )
        bundle = None if ca_bundle is None else Path(ca_bundle).expanduser()
        return type(self)(regions.connection_in(self.connection, found, bundle), transport=self._http.transport)

    async def _of(self, region: str) -> Self:
        """The client of a region, which lives as long as this one."""
        async with self._choosing:
            if region not in self._elsewhere:
                self._elsewhere[region] = await self.in_region(region)
            return self._elsewhere[region]

    async def quotas(self) -> QuotaReport:
        """The limits of this account. Needs an account key."""
        return decode(await self._http.request("GET", self._http.account_url("quotas")), QuotaReport)

    async def usage(self, begin: str | None = None, end: str | None = None, by: str = "day,size") -> UsageReport:
        """What this account used from ``begin`` up to ``end``: days like ``2026-11-01`` or times with a zone.

        Without ``begin`` the month of ``end``, which is now by default. ``by`` names what to tell apart. Needs an
        account key. Raises InvalidRequestError for values that cannot be read.
        """
        query = {"by": by} | ({"from": begin} if begin else {}) | ({"to": end} if end else {})
        response = await self._http.request("GET", self._http.account_url("usage", **query), what="The usage")
        return decode(response, UsageReport)

    async def _session_token(self, session_id: str, role: str | None, minutes: int) -> SessionToken:
        response = await self._http.request(
            "POST",
            self._http.account_url(f"sessions/{quote(session_id, safe='')}/token"),
            what=f"The session {session_id}",
            json=CreateSessionToken(role=role, minutes=minutes),
        )
        token = decode(response, WireSessionToken)
        return SessionToken(
            token=token.access_token,
            session_id=token.session_id,
            role=token.role,
            expires_at=datetime.fromisoformat(token.expires_at),
        )

    async def _inspector_link(self, session_id: str) -> InspectorLink:
        response = await self._http.request(
            "POST",
            self._http.account_url(f"sessions/{quote(session_id, safe='')}/inspector-link"),
            what=f"The session {session_id}",
        )
        link = decode(response, Link)
        return InspectorLink(link.url, datetime.fromisoformat(link.expires_at))


def decode(response: httpx.Response, kind: type[T]) -> T:
    """An answer as ``kind``. Raises ServiceError for anything else."""
    try:
        return msgspec.json.decode(response.content, type=kind)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ServiceError(
            f"The service's answer cannot be read: {error}.",
            status=response.status_code,
            next_step="Check that the endpoint in the connection file is a Farframe service.",
        ) from error


def same_origin(url: str, other: str) -> bool:
    """Whether both URLs have the same scheme, host and port."""

    def origin(text: str) -> tuple[str, str | None, int | None]:
        parts = urlsplit(text)
        return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)

    return origin(url) == origin(other)
