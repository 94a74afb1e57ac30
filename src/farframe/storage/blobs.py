"""Containers of object stores, over obstore: list what a prefix names, fetch it, put results beside one another.

    StoragePlace --open_container--> Container --list--> [Blob] --download--> files below a folder
                                              <--upload-- files, one after the other, each visible only when complete

Large blobs come in ranges, several at a time, each with the tag of the listed version: a blob that changes meanwhile is
an error. What has arrived is noted in a journal beside the folder, so that a second attempt goes on where the first one
ended. Uploads are atomic: a block list (Azure), a multipart upload (S3, GCS) or a renamed file is committed at the end.

Whatever speaks to the network goes through :class:`~farframe.storage.gate.Gate`. No secret is in an error or a
``repr``: errors of the client are never passed on, because their text holds URLs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

from farframe.protocol.conversion import StoragePlace
from farframe.storage.containers import is_below
from farframe.storage.gate import Gate
from farframe.storage.network import Resolver, parse_networks, system_resolver

T = TypeVar("T")

RANGE_BYTES = 16 * 1024**2
"""How much of a large blob is one request, and what a second attempt loses at most of each."""

AT_ONCE = 8
ATTEMPTS = 4
MAX_NAME_LENGTH = 178
"""The longest that a prefix and the name below it may be together: what the hosted service allowed."""

_UPLOAD_CHUNK_BYTES = 8 * 1024**2
_MULTIPART_ABOVE_BYTES = 16 * 1024**2
_MAX_PART_BYTES = 255
_STATUS = re.compile(r"status code: (\d{3})")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CONTENT_TYPES = {".json": "application/json", ".png": "image/png", ".txt": "text/plain; charset=utf-8"}

Reason = Literal["denied", "missing", "refused", "unreachable", "changed", "too large", "name"]


class StorageError(Exception):
    """Storage did not do what was asked. The message is for the caller and holds no secret."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Blob:
    """A listed blob. ``path`` is what follows the prefix, ``name`` all of it."""

    name: str
    path: str
    size: int
    tag: str


class _Piece(msgspec.Struct, frozen=True, array_like=True):
    """A line of the journal: bytes ``start`` up to ``end`` of that version of a blob are on the disk."""

    path: str
    tag: str
    start: int
    end: int


Progress = Callable[[int, int], None]
"""Called with the bytes that are done and those that there are in all."""


@asynccontextmanager
async def open_container(
    place: StoragePlace,
    *,
    write: bool = False,
    allowed_folders: tuple[str, ...] = (),
    allowed_networks: Iterable[str] = (),
    ca_file: str = "",
    resolver: Resolver = system_resolver,
) -> AsyncIterator[Container]:
    """The container of a place. ``allowed_folders`` are those below which a ``file`` container may lie.

    Raises :class:`StorageError` with ``refused`` for a folder that is not below one of them, and where a network is not
    to be reached; what storage itself says comes with the first request.
    """
    if place.kind == "file":
        folder = Path(place.container)
        if not is_below(folder, allowed_folders):
            raise StorageError("refused", "The service must not use that folder.")
        if not write and not folder.is_dir():
            raise StorageError("missing", "The input folder does not exist.")
        store: Any = LocalStore(folder, mkdir=write)
        yield Container(place, store, None, allowed_folders)
        return
    networks = parse_networks(allowed_networks)
    async with Gate(networks, resolver) as gate:
        options: dict[str, Any] = {
            "proxy_url": gate.url,
            "allow_http": place.endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=15),
            "read_timeout": timedelta(seconds=60),
            "timeout": timedelta(minutes=10),
            "user_agent": "farframe",
        }
        if ca_file:
            options["root_certificate"] = await asyncio.to_thread(Path(ca_file).read_bytes)
        try:
            store = _store(place, options)
        except (BaseError, ValueError):
            raise StorageError("unreachable", "The container's URI or its credentials cannot be used.") from None
        yield Container(place, store, gate, ())


def _store(place: StoragePlace, options: dict[str, Any]) -> Any:
    retry: Any = {"max_retries": 4, "retry_timeout": timedelta(seconds=90)}
    if place.kind == "azure":
        azure: dict[str, Any] = {"account_name": place.account, "endpoint": place.endpoint}
        if place.sas:
            azure["sas_key"] = place.sas
        elif place.key:
            azure["account_key"] = place.key
        return AzureStore(place.container, config=azure, client_options=options, retry_config=retry)  # type: ignore[arg-type]
    if place.kind == "s3":
        s3: dict[str, Any] = {
            "access_key_id": place.key_id,
            "secret_access_key": place.key,
            "region": place.region or "us-east-1",
            "checksum_algorithm": "SHA256",
        }
        if place.endpoint:
            s3["endpoint"] = place.endpoint
        return S3Store(place.container, config=s3, client_options=options, retry_config=retry)  # type: ignore[arg-type]
    return GCSStore(
        place.container,
        config={"service_account_key": place.key},
        client_options=options,  # type: ignore[arg-type]
        retry_config=retry,
    )


class Container:
    """An open container. Made by :func:`open_container`."""

    def __init__(self, place: StoragePlace, store: Any, gate: Gate | None, folders: tuple[str, ...]) -> None:
        self._place = place
        self._store = store
        self._gate = gate
        self._folders = folders

    async def probe_reading(self) -> None:
        """Ask for the first name below the prefix: raises :class:`StorageError` if the credentials do not open it."""

        async def first() -> None:
            async for _ in obstore.list(self._store, prefix=self._place.prefix or None, chunk_size=1):
                return

        await self._asked(first)

    async def probe_writing(self) -> None:
        """Ask for a write that cannot take place, of a version that does not exist: who may not write is told so first.

        Nothing is written, and nothing is looked at in folders. Raises :class:`StorageError` as above.
        """
        if self._place.kind == "file":
            return
        name = f"{self._place.prefix}.farframe-{secrets.token_hex(8)}"

        async def write() -> None:
            with contextlib.suppress(PreconditionError, FileNotFoundError):
                mode: Any = {"e_tag": '"0"', "version": "1"}
                await obstore.put_async(self._store, name, b"", mode=mode, use_multipart=False)
                # A server that does not know conditions.
                await obstore.delete_async(self._store, name)

        await self._asked(write)

    async def list(self, *, max_files: int, max_bytes: int, only: frozenset[str] | None = None) -> list[Blob]:
        """All blobs below the prefix, or those of them whose path is in ``only``, sorted by path.

        Folders' placeholders are left out. Raises :class:`StorageError`: ``name`` for one that is too long or that no
        file can have, ``too large`` beyond the limits, ``denied``, ``missing`` or ``unreachable``.
        """

        async def collect() -> list[Blob]:
            found: list[Blob] = []
            total = 0
            async for page in obstore.list(self._store, prefix=self._place.prefix or None):
                for meta in page:
                    blob = self._blob(meta)
                    if blob is None or (only is not None and blob.path not in only):
                        continue
                    found.append(blob)
                    total += blob.size
                    if len(found) > max_files:
                        raise StorageError("too large", f"Below the prefix are more than {max_files:,} files.")
                    if total > max_bytes:
                        raise StorageError(
                            "too large", f"The files below the prefix have more than {max_bytes:,} bytes."
                        )
            return found

        found = sorted(await self._asked(collect), key=lambda blob: blob.path)
        if only is None:
            _check_folders(found)
        return found

    def _blob(self, meta: Any) -> Blob | None:
        name = str(meta["path"])
        path = name.removeprefix(self._place.prefix)
        size = int(meta["size"])
        if path == name and self._place.prefix:
            return None
        if not path or path.endswith("/"):
            return None
        parts = path.split("/")
        if len(name) > MAX_NAME_LENGTH:
            raise StorageError(
                "name", f"A path has {len(name)} characters, its prefix included; {MAX_NAME_LENGTH} are allowed."
            )
        if any(
            part in ("", ".", "..")
            or len(part.encode("utf-8", "surrogatepass")) > _MAX_PART_BYTES
            or any(unicodedata.category(character) in ("Cc", "Cs") for character in part)
            for part in parts
        ):
            raise StorageError("name", "A blob has a name that no file can have.")
        if self._place.kind == "file" and not is_below(Path(self._place.container) / name, self._folders):
            raise StorageError("refused", "A link leads out of the folders that the service may read.")
        tag = meta["e_tag"] or str(meta["last_modified"])
        return Blob(name, path, size, tag)

    async def download(
        self, blobs: Sequence[Blob], folder: Path, journal: Path, progress: Progress = lambda done, total: None
    ) -> int:
        """Fetch blobs to their paths below ``folder``; the number of bytes that they have.

        Raises :class:`StorageError`: ``changed`` if a blob is not any more what was listed, and as above.
        """
        total = sum(blob.size for blob in blobs)
        pieces = [
            (blob, start, min(start + RANGE_BYTES, blob.size))
            for blob in blobs
            for start in range(0, max(blob.size, 1), RANGE_BYTES)
        ]
        known = await asyncio.to_thread(_read_journal, journal)
        for blob in blobs:
            await asyncio.to_thread(_allocate, folder / blob.path, blob.size)
        done = 0
        gate = asyncio.Semaphore(AT_ONCE)
        with journal.open("ab") as log:

            async def fetch(blob: Blob, start: int, end: int) -> None:
                nonlocal done
                piece = _Piece(blob.path, blob.tag, start, end)
                if piece not in known:
                    async with gate:
                        await self._asked(lambda: self._fetch(blob, start, end, folder / blob.path))
                    log.write(msgspec.json.encode(piece) + b"\n")
                    log.flush()
                done += end - start
                progress(done, total)

            await _all(fetch(*piece) for piece in pieces)
        return total

    async def _fetch(self, blob: Blob, start: int, end: int, path: Path) -> None:
        if start == end:
            return
        options: Any = {"range": (start, end)}
        if blob.tag:
            options["if_match"] = blob.tag
        answer = await obstore.get_async(self._store, blob.name, options=options)
        if int(answer.meta["size"]) != blob.size:
            raise _changed()
        position = start
        descriptor = await asyncio.to_thread(os.open, path, os.O_WRONLY | os.O_NOFOLLOW)
        try:
            async for chunk in answer.stream(min_chunk_size=4 * 1024**2):
                if position + len(chunk) > end:
                    raise _changed()
                await asyncio.to_thread(_write_at, descriptor, memoryview(chunk), position)
                position += len(chunk)
        finally:
            os.close(descriptor)
        if position != end:
            raise StorageError("unreachable", "A download ended early.")

    async def upload(self, path: Path, name: str, progress: Progress = lambda done, total: None) -> None:
        """Put a file under the prefix and ``name``, in place of what was there, visible when it is complete."""
        target = self._place.prefix + name
        if self._place.kind == "file" and not is_below((Path(self._place.container) / target).parent, self._folders):
            raise StorageError("refused", "A link leads out of the folders that the service may write.")
        attributes: Any = {"Content-Type": _CONTENT_TYPES.get(path.suffix.lower(), "application/octet-stream")}
        if self._place.kind == "file":
            attributes = None

        async def put() -> None:
            # Not followed if it is a link: what is uploaded was written by a process that read a hostile file.
            descriptor = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb") as file:
                size = os.fstat(descriptor).st_size
                if size <= _MULTIPART_ABOVE_BYTES:
                    await obstore.put_async(
                        self._store,
                        target,
                        await asyncio.to_thread(file.read),
                        attributes=attributes,
                        use_multipart=False,
                    )
                else:
                    await obstore.put_async(
                        self._store,
                        target,
                        _chunks(file, size, progress),
                        attributes=attributes,
                        chunk_size=_UPLOAD_CHUNK_BYTES,
                        max_concurrency=AT_ONCE,
                    )
            progress(size, size)

        await self._asked(put)

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What storage answers, asked again where that may help."""
        for attempt in range(ATTEMPTS):
            try:
                return await ask()
            except (PermissionDeniedError, UnauthenticatedError):
                if self._gate is not None and self._gate.refused:
                    raise _refused() from None
                raise StorageError("denied", "Access to the storage was denied.") from None
            except FileNotFoundError:
                raise StorageError("missing", "The container, or something in it, does not exist.") from None
            except PreconditionError:
                raise _changed() from None
            except StorageError as error:
                if error.reason != "unreachable" or attempt == ATTEMPTS - 1:
                    raise
            except (BaseError, ValueError, OSError) as error:
                if self._gate is not None and self._gate.refused:
                    raise _refused() from None
                # Answers to a list have no class of their own.
                match = _STATUS.search(str(error))
                if match is not None and match[1] in ("401", "403"):
                    raise StorageError("denied", "Access to the storage was denied.") from None
                if match is not None and match[1] == "404":
                    raise StorageError("missing", "The container does not exist.") from None
                if attempt == ATTEMPTS - 1 or not isinstance(error, BaseError):
                    raise StorageError("unreachable", "The storage could not be reached, or gave no answer.") from None
            await asyncio.sleep(0.2 * 2**attempt)
        raise AssertionError("unreachable")  # pragma: no cover


async def _all(works: Iterable[Awaitable[None]]) -> None:
    """Wait for all; the first error as it is, after the others have ended."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(_run(work))
    except BaseExceptionGroup as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


async def _run(work: Awaitable[None]) -> None:
    await work


async def _chunks(file: Any, size: int, progress: Progress) -> AsyncIterator[bytes]:
    done = 0
    while chunk := await asyncio.to_thread(file.read, _UPLOAD_CHUNK_BYTES):
        yield chunk
        done += len(chunk)
        progress(min(done, size), size)


def _check_folders(blobs: Sequence[Blob]) -> None:
    """A file and a folder of one name cannot lie beside each other."""
    names = {blob.path for blob in blobs}
    for blob in blobs:
        parts = blob.path.split("/")
        if any("/".join(parts[:count]) in names for count in range(1, len(parts))):
            raise StorageError("name", "A file and a folder beside it have the same name.")


def _allocate(path: Path, size: int) -> None:
    """A file of the wanted size, with what a former attempt left in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)


def _read_journal(journal: Path) -> set[_Piece]:
    """The pieces that are on the disk for sure. Begins a new journal after a restart of the machine: what was written
    shortly before may not have reached the disk."""
    boot = _BOOT_ID.read_text("ascii").strip() if _BOOT_ID.exists() else ""
    decoder = msgspec.json.Decoder(_Piece)
    with contextlib.suppress(OSError):
        first, *lines = journal.read_bytes().split(b"\n")
        if first.decode("ascii", "replace") == boot:
            known = set()
            for line in lines:
                with contextlib.suppress(msgspec.MsgspecError):
                    known.add(decoder.decode(line))
            return known
    journal.write_text(f"{boot}\n", "ascii")
    return set()


def _write_at(descriptor: int, data: memoryview, position: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, position)
        data, position = data[written:], position + written


def _changed() -> StorageError:
    return StorageError("changed", "A blob changed while it was being read.")


def _refused() -> StorageError:
    return StorageError("refused", "The container is in a network that the service must not reach.")
