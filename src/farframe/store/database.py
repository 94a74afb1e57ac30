"""The connection to the database: opening, migrating, transactions."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

MIGRATIONS_FOLDER = Path(__file__).parent / "migrations"
_BUSY_TIMEOUT_MILLISECONDS = 10_000
_WRITES = "farframe_writes"
_POSTGRESQL_DRIVERS = ("postgresql", "postgres", "postgresql+asyncpg")
_POOL_SIZE, _POOL_OVERFLOW = 8, 8
_CONNECT_TIMEOUT_SECONDS = 10.0
_POSTGRESQL_ARGUMENTS: dict[str, Any] = {
    "timeout": _CONNECT_TIMEOUT_SECONDS,
    "server_settings": {"application_name": "farframe"},
}
_POSTGRESQL_DISK_FULL = "53100"
_MIGRATION_LOCK = 0x66617266
"""The advisory lock that lets one of several services that start at a time run the migrations."""


class StoreError(Exception):
    """The database cannot be used; the message says what to do."""


def _sqlite_advice(reason: BaseException) -> str:
    """What helps against an error of opening; only a broken file is to be replaced."""
    # The last byte is the kind, the others are details of it.
    match getattr(reason, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return "Make room on its disk, then start again."
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return "Let the service's user write it and its folder."
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "End the program that uses it, then start again."
        case _:
            return "Restore it from a copy, or move it away to begin anew."


def lacks_room(error: BaseException) -> bool:
    """Whether a statement failed because the database's disk is full: on SQLite or PostgreSQL, wrapped or not."""
    found: BaseException | None = error
    while found is not None:
        if getattr(found, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            return True
        if getattr(found, "sqlstate", None) == _POSTGRESQL_DISK_FULL:
            return True
        if isinstance(found, OSError) and found.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        found = found.orig if isinstance(found, DBAPIError) else found.__cause__
    return False


class Database:
    """Transactions on one database. Open it with :meth:`open`, which brings its tables up to date."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        # SQLite has one writer at a time, and whoever finds it busy sleeps and tries again: waiting here, in a queue,
        # is fair and wakes at once. Other processes are still waited for in SQLite's own way.
        self.turn: AbstractAsyncContextManager[None] = (
            asyncio.Semaphore(1) if engine.dialect.name == "sqlite" else contextlib.nullcontext()
        )
        """Held by whoever writes to SQLite, through this class or beside it."""
        self._writer = engine.execution_options(**{_WRITES: True})

    @classmethod
    async def open(cls, source: Path | str) -> Database:
        """Open a database and run the migrations that it lacks. Raises :class:`StoreError`.

        ``source`` is the path of an SQLite file, which is created if need be, or a URL
        ``postgresql://user:password@host:port/name`` of a PostgreSQL database, which must exist.
        """
        database, name = cls._connectable(source)
        try:
            async with database.write() as connection:
                await connection.run_sync(migrate)
        except BaseException as error:
            await database.close()
            if isinstance(error, SQLAlchemyError | OSError) or type(error).__module__.startswith("asyncpg"):
                reason = getattr(error, "orig", None) or error
                advice = (
                    _sqlite_advice(reason)
                    if database.is_sqlite
                    else "Check the setting database_url and that the server runs and lets this user in."
                )
                raise StoreError(f"The database {name} cannot be used: {reason}. {advice}") from error
            if isinstance(error, CommandError):
                raise StoreError(
                    f"The database {name} was written by a newer version. Use that version, or move the file away."
                    if database.is_sqlite
                    else f"The database {name} was written by a newer version. Use that version, or another database."
                ) from error
            raise
        return database

    @classmethod
    async def open_empty(cls, source: Path | str) -> Database:
        """Open a database as it is, without migrations. Raises :class:`StoreError` if it cannot be reached."""
        database, name = cls._connectable(source)
        try:
            async with database.read() as connection:
                await connection.execute(text("SELECT 1"))
        except (SQLAlchemyError, OSError) as error:
            await database.close()
            raise StoreError(f"The database {name} cannot be used: {getattr(error, 'orig', None) or error}.") from error
        return database

    @classmethod
    def _connectable(cls, source: Path | str) -> tuple[Database, str]:
        """An engine that has not connected yet, and a name for messages, without the password."""
        if isinstance(source, Path):
            engine = create_async_engine(
                URL.create("sqlite+aiosqlite", database=str(source)), pool_size=4, max_overflow=4
            )
            _prepare_sqlite(engine)
            return cls(engine), str(source)
        url = parse_database_url(source)
        engine = create_async_engine(
            url,
            pool_size=_POOL_SIZE,
            max_overflow=_POOL_OVERFLOW,
            hide_parameters=True,
            connect_args=_POSTGRESQL_ARGUMENTS,
        )
        shown = url.set(drivername="postgresql", query={})
        return cls(engine), shown.render_as_string(hide_password=True)

    @property
    def file(self) -> Path | None:
        """The SQLite file; ``None`` for PostgreSQL."""
        return Path(self._engine.url.database or "") if self.is_sqlite else None

    @property
    def is_sqlite(self) -> bool:
        """Whether this is an SQLite file, else it is PostgreSQL."""
        return self._engine.dialect.name == "sqlite"

    def driver_arguments(self) -> dict[str, Any]:
        """What PostgreSQL's driver takes to open a connection of its own, with the password."""
        _, arguments = self._engine.dialect.create_connect_args(self._engine.url)
        return {**arguments, **_POSTGRESQL_ARGUMENTS}

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that reads one moment's state throughout, however long it takes."""
        if self.is_sqlite:
            async with self.read() as connection:
                yield connection
            return
        frozen = self._engine.execution_options(isolation_level="REPEATABLE READ")
        async with frozen.connect() as connection, connection.begin():
            yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads, never in a writer's way. On PostgreSQL each statement sees what is committed
        by then; use :meth:`snapshot` where several must agree."""
        async with self._engine.connect() as connection, connection.begin():
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes; committed at the end, undone by an exception."""
        async with self.turn, self._writer.connect() as connection, connection.begin():
            yield connection

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()


def parse_database_url(value: str) -> URL:
    """A PostgreSQL URL for the driver in use. Raises :class:`StoreError`, which does not repeat the value: it may hold
    a password."""
    problem = "database_url must look like postgresql://user:password@host:port/name"
    try:
        url = make_url(value)
    except (ArgumentError, ValueError):
        raise StoreError(f"{problem}.") from None
    if url.drivername not in _POSTGRESQL_DRIVERS or not url.database:
        raise StoreError(f"{problem}; leave it empty for an SQLite file in the data folder.")
    return url.set(drivername="postgresql+asyncpg")


def migrate(connection: Connection, revision: str = "head") -> None:
    """Bring the tables to that version, the newest by default, on a connection with an open transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _prepare_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(dbapi_connection: Any, _record: object) -> None:
        # Transactions begin where this file says so and nowhere else.
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MILLISECONDS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        # With a write-ahead log NORMAL survives the death of the process at any point; only a power cut can lose the
        # last commits, and after that no render server lives either.
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Connection) -> None:
        # A transaction that reads first and writes later fails at once when another one wrote in between; taking the
        # write lock at the start makes it wait instead.
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


SQLITE_VERSION = sqlite3.sqlite_version
"""The SQLite library in use, for the log."""
