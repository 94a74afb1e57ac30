"""The connection to the database: opening, migrating, transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

MIGRATIONS_FOLDER = Path(__file__).parent / "migrations"
_BUSY_TIMEOUT_MILLISECONDS = 10_000
_WRITES = "farframe_writes"


class StoreError(Exception):
    """The database cannot be used; the message says what to do."""


class Database:
    """Transactions on one database. Open it with :meth:`open`, which brings its tables up to date."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._writer = engine.execution_options(**{_WRITES: True})

    @classmethod
    async def open(cls, file: Path) -> Database:
        """Open (or create) the SQLite file and run the migrations that it lacks. Raises :class:`StoreError`."""
        engine = create_async_engine(URL.create("sqlite+aiosqlite", database=str(file)), pool_size=4, max_overflow=4)
        _prepare_sqlite(engine)
        database = cls(engine)
        try:
            async with database.write() as connection:
                await connection.run_sync(migrate)
        except BaseException as error:
            await engine.dispose()
            if isinstance(error, SQLAlchemyError):
                reason = getattr(error, "orig", None) or error
                raise StoreError(
                    f"The database {file} cannot be used: {reason}. "
                    "Restore it from a copy, or move it away to begin anew."
                ) from error
            if isinstance(error, CommandError):
                raise StoreError(
                    f"The database {file} was written by a newer version. Use that version, or move the file away."
                ) from error
            raise
        return database

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads: a consistent picture, never in a writer's way."""
        async with self._engine.connect() as connection, connection.begin():
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes; committed at the end, undone by an exception."""
        async with self._writer.connect() as connection, connection.begin():
            yield connection

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()


def migrate(connection: Connection) -> None:
    """Bring the tables to the newest version, on a connection with an open transaction."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


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
