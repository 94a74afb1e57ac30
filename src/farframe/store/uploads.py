"""What is known about uploaded files; the files themselves are not here."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import and_, delete, func, insert, select, tuple_, update

from farframe.store.database import Database
from farframe.store.quotas import lock_account
from farframe.store.schema import upload_files, uploads


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """A stored file. Times in microseconds since 1970 UTC; ``expires_at`` is that of its whole upload."""

    upload_id: str
    path: str
    bytes: int
    stored_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of its quota an account uses."""

    bytes: int
    file_count: int


class UploadStore:
    """Queries about uploads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def usage(self, account_id: str) -> Usage:
        """All files of the account together."""
        query = select(func.coalesce(func.sum(upload_files.c.bytes), 0), func.count()).where(
            upload_files.c.account_id == account_id
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one()
        return Usage(bytes=int(row[0]), file_count=int(row[1]))

    async def file_bytes(self, account_id: str, upload_id: str, path: str) -> int | None:
        """The size of a stored file."""
        query = select(upload_files.c.bytes).where(
            upload_files.c.account_id == account_id, upload_files.c.upload_id == upload_id, upload_files.c.path == path
        )
        async with self._database.read() as connection:
            size: int | None = await connection.scalar(query)
        return size

    async def put(self, account_id: str, upload_id: str, path: str, *, size: int, now: int, expires_at: int) -> None:
        """Note a stored file; the whole upload now lives until ``expires_at``."""
        upload = and_(uploads.c.account_id == account_id, uploads.c.id == upload_id)
        async with self._database.write() as connection:
            await lock_account(connection, account_id)  # two first files of one upload must not both make it
            changed = await connection.execute(update(uploads).where(upload).values(expires_at=expires_at))
            if changed.rowcount == 0:
                await connection.execute(
                    insert(uploads).values(account_id=account_id, id=upload_id, created_at=now, expires_at=expires_at)
                )
            await connection.execute(
                delete(upload_files).where(
                    upload_files.c.account_id == account_id,
                    upload_files.c.upload_id == upload_id,
                    upload_files.c.path == path,
                )
            )
            await connection.execute(
                insert(upload_files).values(
                    account_id=account_id, upload_id=upload_id, path=path, bytes=size, stored_at=now
                )
            )

    async def page(self, account_id: str, *, after: tuple[int, str, str] | None, count: int) -> list[FileRow]:
        """Up to ``count`` files, oldest first, from behind ``after`` (time of storing, upload id, path)."""
        files = upload_files.c
        query = (
            select(files.upload_id, files.path, files.bytes, files.stored_at, uploads.c.expires_at)
            .join(uploads, and_(files.account_id == uploads.c.account_id, files.upload_id == uploads.c.id))
            .where(files.account_id == account_id)
            .order_by(files.stored_at, files.upload_id, files.path)
            .limit(count)
        )
        if after is not None:
            query = query.where(tuple_(files.stored_at, files.upload_id, files.path) > tuple_(*after))
        async with self._database.read() as connection:
            return [FileRow(**row._mapping) for row in await connection.execute(query)]

    async def all_ids(self) -> set[tuple[str, str]]:
        """Account and id of every upload."""
        async with self._database.read() as connection:
            result = await connection.execute(select(uploads.c.account_id, uploads.c.id))
            return {(row.account_id, row.id) for row in result}

    async def delete(self, account_id: str, upload_id: str) -> bool:
        """Forget an upload and its files. False if there is none."""
        async with self._database.write() as connection:
            result = await connection.execute(
                delete(uploads).where(uploads.c.account_id == account_id, uploads.c.id == upload_id)
            )
        return result.rowcount == 1

    async def expire_all_of(self, account_id: str, now: int) -> None:
        """Let the time of all of an account's uploads be over."""
        async with self._database.write() as connection:
            await connection.execute(
                update(uploads)
                .where(uploads.c.account_id == account_id, uploads.c.expires_at > now)
                .values(expires_at=now)
            )

    async def expired(self, now: int) -> list[tuple[str, str]]:
        """Account and id of each upload whose time is over."""
        async with self._database.read() as connection:
            result = await connection.execute(
                select(uploads.c.account_id, uploads.c.id).where(uploads.c.expires_at <= now)
            )
            return [(row.account_id, row.id) for row in result]

    async def next_expiry(self) -> int | None:
        """When the time of the next upload is over, if there is any."""
        async with self._database.read() as connection:
            value: int | None = await connection.scalar(select(func.min(uploads.c.expires_at)))
        return value
