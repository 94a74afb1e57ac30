"""``farframe session``: lease, look, extend, stop."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from farframe.cli._context import context, emit, error_console, note, run_async, table
from farframe.client.management import InspectorLink, RemoteRenderingClient
from farframe.client.session import Session, SessionProperties


def facts_of(properties: SessionProperties) -> dict[str, Any]:
    """A session for ``--json``: members without a value are left out."""
    facts: dict[str, Any] = {
        "id": properties.id,
        "status": properties.status,
        "size": properties.size,
        "creationTime": properties.creation_time.isoformat(),
        "elapsedMinutes": properties.elapsed_minutes,
        "leaseMinutes": properties.lease_minutes,
        "hostname": properties.hostname,
        "handshakePort": properties.handshake_port,
        "inspectorPort": properties.inspector_port,
        "teraflops": properties.teraflops,
        "error": {"code": properties.error.code, "message": properties.error.message} if properties.error else None,
    }
    return {name: value for name, value in facts.items() if value is not None}


def text_of(properties: SessionProperties) -> str:
    """A session for people: one line a fact."""
    rows = [
        ("id", properties.id),
        ("status", properties.status),
        ("size", properties.size),
        ("created", _local(properties.creation_time)),
        ("lease", f"{properties.elapsed_minutes} of {properties.lease_minutes} minutes used"),
    ]
    if properties.hostname:
        rows.append(("handshake", f"https://{properties.hostname}:{properties.handshake_port}/whep"))
        rows.append(("inspector", f"https://{properties.hostname}:{properties.inspector_port}"))
    if properties.teraflops:
        rows.append(("teraflops", f"{properties.teraflops:g}"))
    if properties.error:
        rows.append(("error", f"{properties.error.code}: {properties.error.message}"))
    return table([list(row) for row in rows])


def _local(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def print_session(properties: SessionProperties) -> None:
    """Print one session."""
    emit(facts_of(properties), text_of(properties))


@contextlib.asynccontextmanager
async def _client(region: str | None) -> AsyncIterator[RemoteRenderingClient]:
    """A client of the service, or of that of a region."""
    async with context.client() as home:
        if region is None:
            yield home
            return
        async with await home.in_region(region) as client:
            yield client


def create(session_id: str | None, size: str, lease_minutes: int, *, region: str | None, wait: bool) -> None:
    """Lease a render server. When that or the wait is interrupted, the session is stopped again."""

    async def work() -> SessionProperties:
        async with _client(region) as client:
            if region is not None:
                note(f"In the region {client.connection.region or region}, at {client.connection.endpoint}.")
            session = await client.create_owned(session_id or str(uuid.uuid4()), size, lease_minutes)
            if wait:
                with error_console().status(f"Waiting for the session {session.id}"):
                    try:
                        await session.wait_until_ready()
                    except BaseException:
                        await client.stop_surely(session.id)
                        raise
            return session.properties

    print_session(run_async(work()))


def list_all(region: str | None) -> None:
    """List live sessions, oldest first, as the service gives them."""

    async def work() -> list[SessionProperties]:
        async with _client(region) as client:
            return [session.properties async for session in client.list_sessions()]

    sessions = run_async(work())
    rows = [["ID", "STATUS", "SIZE", "MINUTES", "CREATED", "HOST"]]
    rows += [
        [
            item.id,
            item.status,
            item.size,
            f"{item.elapsed_minutes}/{item.lease_minutes}",
            _local(item.creation_time),
            item.hostname or "-",
        ]
        for item in sessions
    ]
    emit(
        [facts_of(item) for item in sessions],
        table(rows) if sessions else "No sessions. `farframe session create` leases one.",
    )


def _with_session(session_id: str, region: str | None, action: str, *arguments: Any) -> SessionProperties:
    async def work() -> SessionProperties:
        async with _client(region) as client:
            session: Session = await client.get_session(session_id)
            if action:
                await getattr(session, action)(*arguments)
            return session.properties

    return run_async(work())


def show(session_id: str, region: str | None) -> None:
    """Print one session."""
    print_session(_with_session(session_id, region, ""))


def extend(session_id: str, minutes: int, region: str | None) -> None:
    """Make a lease longer and print the session."""
    print_session(_with_session(session_id, region, "extend", minutes))


def stop(session_id: str, region: str | None) -> None:
    """End a session and print it."""
    print_session(_with_session(session_id, region, "stop"))


def inspect(session_id: str, region: str | None) -> None:
    """Print a link to the inspector of a session."""

    async def work() -> InspectorLink:
        async with _client(region) as client:
            return await (await client.get_session(session_id)).create_inspector_link()

    link = run_async(work())
    emit({"session": session_id, "url": link.url, "expiresAt": link.expires_at.isoformat()}, link.url)
