"""The whole store as one file, from either kind of database into either kind: gzip of JSON lines, UTF-8.

The first line says what it is and which version the tables have; each further line is ``[table, {column: value}]``,
parents before children; the last line counts the rows, so that a file that was cut off is told from a whole one. Bytes
are ``{"base64": "..."}``. An archive holds signing keys, so its file is for its owner only.

What is not in it: the list of running services, which means nothing elsewhere, and files beside the database (uploads,
certificates, the connection file).
"""

from __future__ import annotations

import base64
import gzip
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from sqlalchemy import Connection, MetaData, Table, func, insert, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from farframe.store.database import Database, StoreError, migrate
from farframe.store.schema import metadata

FORMAT = "farframe-archive"
FORMAT_VERSION = 1
_LEFT_OUT = frozenset({"replicas"})
_ROWS_AT_A_TIME = 500
_MAX_LINE_BYTES = 16 * 1024 * 1024


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    format: str
    version: int
    revision: str
    created_at: int


class _Trailer(msgspec.Struct, frozen=True, kw_only=True):
    rows: int


async def write_archive(source: Path | str, file: Path, now: int) -> int:
    """Write one moment's state of a database, which may be in use, into a new file. Returns the number of rows.

    Raises :class:`StoreError` if the database cannot be used, ``OSError`` if the file cannot be written or exists.
    """
    database = await Database.open(source)
    temporary = file.with_name(f".{file.name}.part")
    rows = 0
    try:
        if file.exists():
            raise FileExistsError(17, "it exists already", str(file))
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as raw:
            with gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed:
                async with database.snapshot() as connection:
                    revision = str(await connection.scalar(text("SELECT version_num FROM alembic_version")))
                    header = _Header(format=FORMAT, version=FORMAT_VERSION, revision=revision, created_at=now)
                    packed.write(msgspec.json.encode(header) + b"\n")
                    for table in metadata.sorted_tables:
                        if table.name not in _LEFT_OUT:
                            async for row in _rows(connection, table):
                                packed.write(msgspec.json.encode([str(table.name), row]) + b"\n")
                                rows += 1
                packed.write(msgspec.json.encode(_Trailer(rows=rows)) + b"\n")
            raw.flush()
            os.fsync(raw.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
        await database.close()
    return rows


async def read_archive(file: Path, target: Path | str) -> int:
    """Fill an empty database from an archive and bring its tables up to date, all or nothing. Returns the number of
    rows. Raises :class:`StoreError` if the file is no whole archive or the database is not empty, ``OSError``.
    """
    database = await Database.open_empty(target)
    try:
        with file.open("rb") as raw:
            try:
                return await _restore(database, raw, file)
            except (gzip.BadGzipFile, EOFError, msgspec.DecodeError, KeyError, ValueError) as error:
                raise StoreError(f"{file} is not a whole archive of this program: {error}.") from error
    finally:
        await database.close()


async def _restore(database: Database, raw: BinaryIO, file: Path) -> int:
    with gzip.GzipFile(fileobj=raw, mode="rb") as packed:
        header = msgspec.json.decode(packed.readline(_MAX_LINE_BYTES), type=_Header)
        if header.format != FORMAT or header.version != FORMAT_VERSION:
            raise StoreError(f"{file} was written by another version of this program. Use that version.")
        async with database.write() as connection:
            if await connection.run_sync(lambda sync: inspect(sync).get_table_names()):
                raise StoreError("The database is not empty. Restore into an empty one, or move the old one away.")
            await connection.run_sync(migrate, header.revision)
            tables = await connection.run_sync(_reflect)
            count = await _fill(connection, tables, packed)
            await connection.run_sync(migrate)
            await connection.run_sync(_advance_counters)
    return count


async def _fill(connection: AsyncConnection, tables: dict[str, Table], packed: gzip.GzipFile) -> int:
    count = 0
    current, pending = "", list[dict[str, Any]]()
    while line := packed.readline(_MAX_LINE_BYTES):
        content = msgspec.json.decode(line)
        if isinstance(content, dict):
            if content.get("rows") != count:
                raise ValueError(f"it holds {count} rows and should hold {content.get('rows')}")
            if pending:
                await connection.execute(insert(tables[current]), pending)
            return count
        name, row = content
        if pending and (name != current or len(pending) >= _ROWS_AT_A_TIME):
            await connection.execute(insert(tables[current]), pending)
            pending = []
        current = name
        pending.append({key: _decoded(value) for key, value in row.items()})
        count += 1
    raise ValueError("it was cut off")


async def _rows(connection: AsyncConnection, table: Table) -> AsyncIterator[dict[str, Any]]:
    result = await connection.stream(select(table).order_by(*table.primary_key.columns))
    async for row in result.mappings():
        yield {str(key): _encoded(value) for key, value in row.items()}


def _encoded(value: object) -> object:
    return {"base64": base64.b64encode(value).decode("ascii")} if isinstance(value, bytes) else value


def _decoded(value: object) -> object:
    return base64.b64decode(value["base64"], validate=True) if isinstance(value, dict) else value


def _reflect(connection: Connection) -> dict[str, Table]:
    """The tables as they are in the archive's version, which may be older than this program's."""
    found = MetaData()
    found.reflect(connection)
    return dict(found.tables)


def _advance_counters(connection: Connection) -> None:
    """PostgreSQL does not see that numbers were given by hand: its counters go on behind the largest."""
    if connection.dialect.name != "postgresql":
        return
    for table in metadata.sorted_tables:
        column = table.autoincrement_column
        if column is None or connection.scalar(select(func.pg_get_serial_sequence(table.name, column.name))) is None:
            continue
        largest = connection.scalar(select(func.max(column)))
        if largest is not None:
            connection.execute(select(func.setval(func.pg_get_serial_sequence(table.name, column.name), largest)))
