"""Single rows by a unique key, read the short way.

What clients poll for is one row. Through the general path each statement costs several changes of thread and a
transaction of its own to open and close, most of a request's time. Here SQLite is asked by one statement on a
connection that only reads, in one change of thread; the statement is its own transaction, so that it sees everything
that was committed before. PostgreSQL takes the general path.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sqlalchemy import Select
from sqlalchemy.dialects import sqlite

from farframe.store.database import Database

_BUSY_SECONDS = 10.0


class Lookup:
    """A statement that yields one row or none. Values are named as in the statement's ``bindparam``."""

    def __init__(self, statement: Select[Any]) -> None:
        self.statement = statement
        compiled = statement.compile(dialect=sqlite.dialect())
        self.text = str(compiled)
        self.order = tuple(compiled.positiontup or ())
        self.columns = tuple(column.name for column in statement.selected_columns)


class Reader:
    """Asks lookups of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._file: Path | None = database.file
        # One thread: the statements take microseconds, and SQLite connections belong to a thread.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="store-reader") if self._file is not None else None
        self._connection: sqlite3.Connection | None = None

    async def first(self, lookup: Lookup, **values: object) -> dict[str, Any] | None:
        """The row by column names, or ``None``."""
        if self._executor is None:
            async with self._database.read() as connection:
                row = (await connection.execute(lookup.statement, values)).first()
            return dict(row._mapping) if row is not None else None
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._executor, self._ask, lookup, [values[name] for name in lookup.order])
        return dict(zip(lookup.columns, found, strict=True)) if found is not None else None

    async def close(self) -> None:
        """Close the connection, in its thread."""
        if self._executor is not None:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._close)
            self._executor.shutdown(wait=False)

    def _ask(self, lookup: Lookup, values: list[object]) -> tuple[Any, ...] | None:
        if self._connection is None:
            self._connection = sqlite3.connect(
                f"{self._file.absolute().as_uri()}?mode=ro" if self._file else "",
                uri=True,
                isolation_level=None,
                timeout=_BUSY_SECONDS,
            )
        row: tuple[Any, ...] | None = self._connection.execute(lookup.text, values).fetchone()
        return row

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
