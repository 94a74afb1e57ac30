"""Uploaded files: streamed to ``uploads/<account>/<upload id>/<path>``, within a quota, gone after their time.

A file is written beside the uploads, brought safely to the disk, and moved into place in one step, so that render
servers never see half of one. The sum of what is stored and what is on its way never exceeds the account's quota.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import shutil
import unicodedata
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import structlog

from farframe.service.clock import Clock
from farframe.service.config import ServiceConfig
from farframe.service.quotas import STORED_BYTES, Quotas
from farframe.store.uploads import FileRow, UploadStore
from farframe.wire.errors import BadRequest, Conflict, InsufficientStorage, NotFound, PayloadTooLarge
from farframe.wire.extensions import ListedFile, UploadedFile
from farframe.wire.times import format_utc_time

log = structlog.get_logger("farframe.service")

UPLOADS_FOLDER = "uploads"
"""Where all accounts' uploads are, below the data folder."""

MAX_DEPTH = 32
MAX_SEGMENT_BYTES = 255
MAX_PATH_LENGTH = 1024
WRITE_BYTES = 1 << 20
"""Chunks are gathered to this size before they go to the disk, beside the event loop."""

NO_QUOTA_BYTES = 2**53 - 1
"""The quota of an account that has none: the largest integer that every JSON reader takes."""

_INCOMING = ".incoming"
_MICROSECONDS_PER_HOUR = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of an upload, and whether the file is new."""

    file: UploadedFile
    created: bool


def check_path(segments: Sequence[str]) -> str:
    """The path that decoded segments make. Raises :class:`BadRequest` for one that could lead anywhere else.

    Each segment is a plain file name: no ``.``, ``..``, separator or control character, at most 255 bytes.
    """
    if not segments or len(segments) > MAX_DEPTH:
        raise BadRequest(f"The path of an uploaded file must have 1 to {MAX_DEPTH} parts.")
    for segment in segments:
        if segment in ("", ".", "..") or "/" in segment or "\\" in segment:
            raise BadRequest("The path of an uploaded file must not hold empty parts, '.', '..' or backslashes.")
        # Cs: bytes that were no UTF-8; Cc: control characters, NUL among them.
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in segment):
            raise BadRequest("The path of an uploaded file must be UTF-8 text without control characters.")
        if len(segment.encode("utf-8")) > MAX_SEGMENT_BYTES:
            raise BadRequest(f"Each part of the path must be at most {MAX_SEGMENT_BYTES} bytes long.")
    path = "/".join(segments)
    if len(path) > MAX_PATH_LENGTH:
        raise BadRequest(f"The path of an uploaded file must be at most {MAX_PATH_LENGTH} characters long.")
    return path


def upload_uri(upload_id: str, path: str) -> str:
    """The URI under which devices load an uploaded file."""
    return f"upload://{upload_id}/{quote(path, safe='/')}"


class Uploads:
    """The files of all accounts below ``folder``. :meth:`expire` is one of the scheduler's jobs."""

    def __init__(self, config: ServiceConfig, folder: Path, store: UploadStore, quotas: Quotas, clock: Clock) -> None:
        self._config = config
        self._quotas = quotas
        self._folder = folder
        self._store = store
        self._clock = clock
        self._arriving: defaultdict[str, int] = defaultdict(int)
        """Bytes on their way, by account."""
        self._arriving_files: defaultdict[str, int] = defaultdict(int)
        self._books = asyncio.Lock()
        """Held while a folder and what is kept about it change together."""

    async def prepare(self) -> None:
        """After a start: make the folders; drop what an earlier run left half done."""
        known = await self._store.all_ids()
        await asyncio.to_thread(self._sweep, known)

    async def put(
        self, account_id: str, upload_id: str, path: str, chunks: AsyncIterator[bytes], announced: int | None
    ) -> Stored:
        """Store a file. ``path`` comes from :func:`check_path`; ``announced`` is the length in bytes if it is known.

        Raises :class:`PayloadTooLarge` (``UploadQuotaExceeded``, ``UploadTooLarge``), :class:`Conflict`,
        :class:`InsufficientStorage`; and whatever ``chunks`` raises. Nothing is left of a file that failed.
        """
        usage = await self._store.usage(account_id)
        new_file = await self._store.file_bytes(account_id, upload_id, path) is None
        if new_file and usage.file_count + self._arriving_files[account_id] >= self._config.upload_max_files:
            raise PayloadTooLarge(
                f"The account holds {usage.file_count} uploaded files already, and no more are allowed. "
                "Delete uploads that are no longer needed.",
                code="UploadQuotaExceeded",
            )
        if announced is not None:
            await self._admit(account_id, 0, announced)
        temporary = self._folder / _INCOMING / secrets.token_hex(16)
        received = 0
        self._arriving_files[account_id] += 1
        try:
            file = await asyncio.to_thread(temporary.open, "xb")
            try:
                pending = bytearray()
                async for chunk in chunks:
                    # Counted before the first await, so that uploads side by side see each other.
                    received += len(chunk)
                    self._arriving[account_id] += len(chunk)
                    pending += chunk
                    if len(pending) >= WRITE_BYTES:
                        await self._admit(account_id, received, 0)
                        await asyncio.to_thread(file.write, pending)
                        pending = bytearray()
                await self._admit(account_id, received, 0)
                await asyncio.to_thread(_finish, file, pending)
            finally:
                file.close()
            async with self._books:
                return await self._keep(account_id, upload_id, path, temporary, received)
        except OSError as error:
            raise _explain(error) from error
        finally:
            self._arriving[account_id] -= received
            self._arriving_files[account_id] -= 1
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()

    async def page(self, account_id: str, after: tuple[int, str, str] | None, count: int) -> tuple[list[FileRow], bool]:
        """Up to ``count`` files and whether there are more."""
        rows = await self._store.page(account_id, after=after, count=count + 1)
        return rows[:count], len(rows) > count

    async def used_bytes(self, account_id: str) -> int:
        """How much of the quota is used."""
        return (await self._store.usage(account_id)).bytes

    async def quota_bytes(self, account_id: str) -> int:
        """How much the account may store."""
        limit = await self._quotas.limit(account_id, STORED_BYTES)
        return NO_QUOTA_BYTES if limit is None else limit

    async def delete(self, account_id: str, upload_id: str) -> None:
        """Delete all files of an upload. Raises :class:`NotFound`."""
        async with self._books:
            if not await self._store.delete(account_id, upload_id):
                raise NotFound("There is no upload of that id.", code="UploadNotFound")
            await asyncio.to_thread(self._remove, account_id, upload_id)

    async def expire(self, now: int) -> int | None:
        """Delete uploads whose time is over; returns when the next one's will be."""
        for account_id, upload_id in await self._store.expired(now):
            async with self._books:
                # It may have been written to again since the query.
                if (account_id, upload_id) in await self._store.expired(now):
                    await self._store.delete(account_id, upload_id)
                    await asyncio.to_thread(self._remove, account_id, upload_id)
                    log.info("upload.expired", upload=upload_id)
        return await self._store.next_expiry()

    async def _admit(self, account_id: str, received: int, announced: int) -> None:
        """Refuse a file as soon as it is known to exceed a limit. ``received`` is counted as arriving already."""
        size = max(received, announced)
        if size > self._config.upload_file_bytes:
            raise PayloadTooLarge(
                f"The file is larger than the {self._config.upload_file_bytes} bytes that one file may have.",
                code="UploadTooLarge",
            )
        stored = (await self._store.usage(account_id)).bytes
        quota = await self.quota_bytes(account_id)
        if stored + self._arriving[account_id] + announced > quota:
            raise PayloadTooLarge(
                f"The account's quota of {quota} bytes for uploads would be exceeded. "
                "Delete uploads that are no longer needed, or wait until they expire.",
                code="UploadQuotaExceeded",
            )

    async def _keep(self, account_id: str, upload_id: str, path: str, temporary: Path, size: int) -> Stored:
        root = self._folder / account_id / upload_id
        target = root.joinpath(*path.split("/"))
        created = not await asyncio.to_thread(target.exists)
        await asyncio.to_thread(_move, temporary, target)
        now = self._clock.now()
        expires_at = now + round(self._config.upload_retention_hours * _MICROSECONDS_PER_HOUR)
        try:
            await self._store.put(account_id, upload_id, path, size=size, now=now, expires_at=expires_at)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        file = UploadedFile(uri=upload_uri(upload_id, path), bytes=size, expiration_time=format_utc_time(expires_at))
        return Stored(file, created)

    def _remove(self, account_id: str, upload_id: str) -> None:
        """Out of sight in one step, then out of existence."""
        doomed = self._folder / _INCOMING / secrets.token_hex(16)
        with contextlib.suppress(FileNotFoundError):
            (self._folder / account_id / upload_id).rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)

    def _sweep(self, known: set[tuple[str, str]]) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(self._folder / _INCOMING, ignore_errors=True)
        (self._folder / _INCOMING).mkdir(mode=0o700)
        for account in self._folder.iterdir():
            if account.name != _INCOMING and account.is_dir():
                for upload in account.iterdir():
                    if (account.name, upload.name) not in known:
                        shutil.rmtree(upload, ignore_errors=True)


def listed(row: FileRow) -> ListedFile:
    """A stored file as it goes into a list."""
    return ListedFile(
        uri=upload_uri(row.upload_id, row.path),
        upload_id=row.upload_id,
        path=row.path,
        bytes=row.bytes,
        creation_time=format_utc_time(row.stored_at),
        expiration_time=format_utc_time(row.expires_at),
    )


def _finish(file: BinaryIO, rest: bytes | bytearray) -> None:
    file.write(rest)
    file.flush()
    os.fsync(file.fileno())


def _move(temporary: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _explain(error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InsufficientStorage("The service's disk is full. Ask its operator to make room.")
    if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY):
        return Conflict("A folder and a file of the upload would have the same name.", code="UploadConflict")
    if error.errno == errno.ENAMETOOLONG:
        return BadRequest("The path of the uploaded file is too long.")
    return error
