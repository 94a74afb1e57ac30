"""What requests do most, done the short way: single statements on connections of the store's own.

Through the general path each statement on SQLite costs two changes of thread, and a transaction costs two more to open
and to close; under load each of them waits for the interpreter's lock. So here a statement is text that was made once,
and SQLite runs it at once, in the event loop: it is in this process, a statement by an index takes some microseconds,
and nothing here ever waits.

    what could wait                                what is done instead
    ---------------------------------------------  -----------------------------------------------------------------
    another transaction of this process            the database's queue, as for the general path
    another process that writes                    refused at once, tried again in a thread with SQLite's patience
    the disk, when a log is copied into the file   done in a thread, every so many commits, beside the readers

PostgreSQL gets the same statements, prepared, over connections of the driver's own. A statement is its own transaction
there, so that it costs one round trip; what must happen with it is part of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import structlog

from farframe.store.database import Database

log = structlog.get_logger("farframe.store")

Row = tuple[Any, ...]

_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)")
_BUSY_SECONDS = 10.0
_COMMITS_A_CHECKPOINT = 500
_MAX_LOG_PAGES = 32_768
_CACHE_KIBIBYTES = 16_384
_POSTGRESQL_CONNECTIONS = 8
_CONNECT_SECONDS = 10.0
_CONNECTION_LOST = (
    *(asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresConnectionError),
    *(asyncpg.AdminShutdownError, OSError),
)


class Statement:
    """A statement with parameters ``:name``, in SQL that both databases take, or one text for each.

    ``then`` is a second statement of the same transaction, run for each row that the first one returns, with that
    row's values by ``columns``. PostgreSQL's text says all of it itself.
    """

    def __init__(
        self, text: str, *, postgresql: str | None = None, then: str | None = None, columns: Sequence[str] = ()
    ) -> None:
        if then is not None and postgresql is None:
            raise ValueError("a statement in two steps needs a text of its own for PostgreSQL")
        self.text = text
        self.then = then
        self.columns = tuple(columns)
        self.order: list[str] = []
        self.numbered = _PARAMETER.sub(self._number, postgresql or text)

    def _number(self, match: re.Match[str]) -> str:
        name = match[1]
        if name not in self.order:
            self.order.append(name)
        return f"${self.order.index(name) + 1}"


class Direct:
    """Runs statements on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._commits = 0
        self._checkpoint: asyncio.Task[None] | None = None
        self._idle: list[asyncpg.Connection] = []
        self._places = asyncio.Semaphore(_POSTGRESQL_CONNECTIONS)

    async def rows(self, statement: Statement, values: Mapping[str, object]) -> Sequence[Row]:
        """What a statement finds that only reads. It sees everything that was committed before."""
        if not self._database.is_sqlite:
            return await self._fetch(statement, values, again=True)
        if self._reader is None:
            self._reader = self._connect("ro")
        try:
            return self._reader.execute(statement.text, values).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
        # Somebody else repairs or closes the log, which is soon over.
        return await asyncio.to_thread(self._read_patiently, statement.text, values)

    async def change(self, statement: Statement, values: Mapping[str, object]) -> Sequence[Row]:
        """Run a statement that writes, and what follows it, as one transaction. Returns the rows of the first one."""
        if not self._database.is_sqlite:
            return await self._fetch(statement, values, again=False)
        async with self._database.turn:
            writer = await self._begin()
            try:
                rows = writer.execute(statement.text, values).fetchall()
                if statement.then is not None:
                    for row in rows:
                        writer.execute(statement.then, {**values, **dict(zip(statement.columns, row, strict=True))})
                writer.execute("COMMIT")
            except BaseException:
                self._undo(writer)
                raise
        self._committed()
        return rows

    async def change_many(self, statement: Statement, values: Sequence[Mapping[str, object]]) -> None:
        """Run a statement that writes with each of the values, as one transaction."""
        if not self._database.is_sqlite:
            async with self._connection() as connection:
                rows = [[item[name] for name in statement.order] for item in values]
                await connection.executemany(statement.numbered, rows)
            return
        async with self._database.turn:
            writer = await self._begin()
            try:
                writer.executemany(statement.text, values)
                writer.execute("COMMIT")
            except BaseException:
                self._undo(writer)
                raise
        self._committed()

    async def close(self) -> None:
        """Close the connections."""
        if self._checkpoint is not None:
            await asyncio.wait([self._checkpoint])
        for connection in (self._reader, self._writer):
            if connection is not None:
                connection.close()
        self._reader = self._writer = None
        while self._idle:
            idle = self._idle.pop()
            with contextlib.suppress(Exception):
                await idle.close(timeout=_CONNECT_SECONDS)

    # SQLite -------------------------------------------------------------------------------------------------------

    def _connect(self, mode: str, timeout: float = 0.0) -> sqlite3.Connection:
        file = self._database.file or Path()
        # The threads that use it take turns, by the event loop's doing.
        connection = sqlite3.connect(
            f"{file.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            timeout=timeout,
            check_same_thread=False,
            cached_statements=64,
        )
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIBIBYTES}")
        if mode != "ro":
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
        return connection

    async def _begin(self) -> sqlite3.Connection:
        """The connection that writes, with its transaction open. The caller has the turn."""
        if self._writer is None:
            self._writer = self._connect("rw")
        writer = self._writer
        try:
            writer.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            # Shielded: whoever waits may be cancelled, and must not leave a transaction open that nobody ends.
            begun = asyncio.ensure_future(asyncio.to_thread(_begin_patiently, writer))
            try:
                await asyncio.shield(begun)
            except asyncio.CancelledError:
                await asyncio.wait([begun])
                self._undo(writer)
                raise
        return writer

    @staticmethod
    def _undo(writer: sqlite3.Connection) -> None:
        if writer.in_transaction:
            writer.execute("ROLLBACK")

    def _read_patiently(self, text: str, values: Mapping[str, object]) -> list[Row]:
        with contextlib.closing(self._connect("ro", _BUSY_SECONDS)) as connection:
            return connection.execute(text, values).fetchall()

    def _committed(self) -> None:
        self._commits += 1
        if self._commits >= _COMMITS_A_CHECKPOINT and self._checkpoint is None:
            self._commits = 0
            self._checkpoint = asyncio.create_task(self._copy_log(), name="store-checkpoint")

    async def _copy_log(self) -> None:
        try:
            # Beside readers and writers. If nobody writes meanwhile the log begins anew by itself; if somebody always
            # does, it has to be made to, in the queue, which waits for the disk then: so only now and then.
            _, pages, copied = await asyncio.to_thread(self._copy, "PASSIVE")
            if pages > _MAX_LOG_PAGES and copied < pages:
                async with self._database.turn:
                    await asyncio.to_thread(self._copy, "RESTART")
        except sqlite3.Error as error:
            log.warning("store.checkpoint_failed", error=str(error))
        finally:
            self._checkpoint = None

    def _copy(self, how: str) -> tuple[int, int, int]:
        with contextlib.closing(self._connect("rw")) as connection:
            busy, pages, copied = connection.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
            return busy, pages, copied

    # PostgreSQL ---------------------------------------------------------------------------------------------------

    async def _fetch(self, statement: Statement, values: Mapping[str, object], *, again: bool) -> Sequence[Row]:
        arguments = [values[name] for name in statement.order]
        try:
            async with self._connection() as connection:
                rows: Sequence[Row] = await connection.fetch(statement.numbered, *arguments)
                return rows
        except _CONNECTION_LOST:
            # The server may have been restarted, and what only reads can be asked again.
            if not again:
                raise
        return await self._fetch(statement, values, again=False)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection]:
        async with self._places:
            connection = None
            while self._idle and connection is None:
                # The one used last: its plans and pages are the warmest.
                connection = self._idle.pop()
                if connection.is_closed():
                    connection = None
            if connection is None:
                connection = await asyncpg.connect(**self._database.driver_arguments())
            try:
                yield connection
            except asyncpg.PostgresError:
                self._keep(connection)  # the server refused the statement; its connection is as good as before
                raise
            except BaseException:
                connection.terminate()
                raise
            self._keep(connection)

    def _keep(self, connection: asyncpg.Connection) -> None:
        if not connection.is_closed():
            self._idle.append(connection)


def _begin_patiently(writer: sqlite3.Connection) -> None:
    writer.execute(f"PRAGMA busy_timeout = {round(_BUSY_SECONDS * 1000)}")
    try:
        writer.execute("BEGIN IMMEDIATE")
    finally:
        writer.execute("PRAGMA busy_timeout = 0")
