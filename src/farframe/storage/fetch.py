"""A model's files on the local disk, wherever its URI says that they are.

Uploads and files are read in place. What is on the web is streamed into the load's workspace: a ``.glb`` alone, a
``.gltf`` with the buffers and images that it names, from below its own folder on the same host and with the same query
(a container's SAS opens them too). Which of the two it is, is decided by the first bytes.

    parse_model_uri -> upload / file: path resolved, confined
                    -> web: connect (network.py: checked address) -> status, redirects -> bytes, counted, to disk

No proxy, no cookie, no credential but the URL itself. A query is a secret: no message, log line or error repeats it.
"""

from __future__ import annotations

import asyncio
import logging
import posixpath
import re
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import certifi
import httpcore
import httpx
import msgspec

from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import FetchPolicy
from farframe.storage.network import CheckedBackend, RefusedAddressError, Resolver, parse_networks, system_resolver
from farframe.storage.uri import (
    BuiltinUri,
    FileUri,
    UploadUri,
    WebUri,
    invalid,
    parse_model_uri,
    parse_web_url,
)

Progress = Callable[[str, float], None]
"""Called with the stage's name and the fraction (0..1) of the fetch that is done, where that is known."""

CONNECT_TIMEOUT_SECONDS = 10.0
READ_TIMEOUT_SECONDS = 30.0
MAX_SIDE_FILES = 4_096
SIDE_FILES_AT_ONCE = 4
MAX_DOCUMENT_BYTES = 256 * 1024**2
"""A ``.gltf`` is looked into for the names of its files; the reader has the same limit."""

_CHUNK_BYTES = 256 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_UNSAFE_IN_NAMES = re.compile(r"[^A-Za-z0-9._ -]")

# httpcore logs headers when debugging is on, and a redirect's Location holds a SAS as well as the request line does.
for _name in ("httpcore.http11", "httpcore.connection"):
    logging.getLogger(_name).setLevel(logging.INFO)


class _Named(msgspec.Struct, frozen=True, gc=False):
    """A buffer or an image of a ``.gltf``, as far as it matters here."""

    uri: str | None = None


class _Names(msgspec.Struct, frozen=True, gc=False):
    """The members of a ``.gltf`` that name files."""

    buffers: list[_Named] = []
    images: list[_Named] = []


async def fetch_model(
    uri: str,
    *,
    policy: FetchPolicy,
    uploads_folder: Path | None,
    workspace: Path,
    progress: Progress | None = None,
    resolver: Resolver = system_resolver,
    ca_file: Path | None = None,
) -> Path:
    """The local path of the model's main file, the files that belong to it beside it.

    ``uploads_folder`` holds the uploads of the account that asks. ``workspace`` is a folder of this load alone: what is
    downloaded lies in it, also after an error, and the caller removes it when the model has been read. ``ca_file`` is a
    PEM bundle that is trusted beside the system's authorities. ``builtin://`` is not for this function.

    Raises :class:`FarframeError`: ``INVALID_URI`` (malformed, or where this server must not read), ``FILE_NOT_FOUND``,
    ``FILE_DOWNLOAD_FAILED``, ``EXCEEDS_MEMORY_LIMIT`` (larger than the policy allows), ``FILE_CORRUPT`` (no glTF).
    """
    parsed = parse_model_uri(uri)
    report = progress or (lambda stage, fraction: None)
    if isinstance(parsed, WebUri):
        async with _Fetch.opened(policy, workspace, report, resolver, ca_file) as fetch:
            return await fetch.model(parsed)
    return await _local(parsed, policy, uploads_folder)


async def fetch_file(
    uri: str,
    *,
    policy: FetchPolicy,
    uploads_folder: Path | None,
    workspace: Path,
    progress: Progress | None = None,
    resolver: Resolver = system_resolver,
    ca_file: Path | None = None,
) -> Path:
    """The local path of a file that a URI names, whatever is in it: a texture. As :func:`fetch_model` in all else."""
    parsed = parse_model_uri(uri)
    report = progress or (lambda stage, fraction: None)
    if isinstance(parsed, WebUri):
        async with _Fetch.opened(policy, workspace, report, resolver, ca_file) as fetch:
            return await fetch.file(parsed)
    return await _local(parsed, policy, uploads_folder)


async def _local(parsed: BuiltinUri | UploadUri | FileUri, policy: FetchPolicy, uploads_folder: Path | None) -> Path:
    match parsed:
        case UploadUri():
            return await asyncio.to_thread(_upload_path, parsed, uploads_folder)
        case FileUri():
            return await asyncio.to_thread(_allowed_path, parsed, policy)
        case BuiltinUri():
            invalid("What is built in is not fetched.")


def _upload_path(uri: UploadUri, uploads_folder: Path | None) -> Path:
    missing = FarframeError(
        Result.FILE_NOT_FOUND,
        "There is no such uploaded file.",
        next_step="Upload it again (uploads are removed after a time) and check the path.",
    )
    if uploads_folder is None:
        raise missing
    try:
        folder = (uploads_folder / uri.upload_id).resolve()
        path = (folder / uri.path).resolve()
        inside = folder.parent == uploads_folder.resolve() and path.is_relative_to(folder)
        if not inside:
            invalid("The path leads out of the upload.")
        if not path.is_file():
            raise missing
    except (OSError, RuntimeError, ValueError):
        raise missing from None
    return path


def _allowed_path(uri: FileUri, policy: FetchPolicy) -> Path:
    try:
        path = Path(uri.path).resolve()
        allowed = any(path.is_relative_to(Path(folder).resolve()) for folder in policy.allowed_folders)
    except (OSError, RuntimeError, ValueError):
        allowed = False
    # Whether a file exists that must not be read is nobody's business: refused first, looked for afterwards.
    if not allowed:
        invalid(
            "This server does not read files from that folder.",
            "Upload the model, or ask the operator to allow the folder.",
        )
    if not path.is_file():
        raise FarframeError(Result.FILE_NOT_FOUND, "There is no such file on the server.", next_step="Check the path.")
    return path


class _Fetch:
    """One model's download: the connections, and what is left of the bytes allowed. Made by :meth:`opened`."""

    def __init__(
        self,
        policy: FetchPolicy,
        workspace: Path,
        report: Progress,
        pools: dict[str, httpcore.AsyncConnectionPool],
    ) -> None:
        self._policy = policy
        self._workspace = workspace
        self._report = report
        self._pools = pools
        self._bytes_left = policy.max_download_bytes

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, policy: FetchPolicy, workspace: Path, report: Progress, resolver: Resolver, ca_file: Path | None
    ) -> AsyncIterator[_Fetch]:
        """A fetch with its connections, which end with the block; so does the time that the policy allows."""
        networks = parse_networks(policy.allowed_networks)
        context = await asyncio.to_thread(_tls_context, ca_file)
        secure = httpcore.AsyncConnectionPool(ssl_context=context, network_backend=CheckedBackend(networks, resolver))
        plain = httpcore.AsyncConnectionPool(network_backend=CheckedBackend(networks, resolver, only_listed=True))
        try:
            async with asyncio.timeout(policy.timeout_seconds), secure, plain:
                yield cls(policy, workspace, report, {"https": secure, "http": plain})
        except TimeoutError:
            raise _failed(f"The model was not downloaded within {policy.timeout_seconds:g} seconds.") from None
        except OSError:
            raise _failed("The model could not be written to the server's disk.") from None

    async def model(self, uri: WebUri) -> Path:
        """Download the main file, and what a ``.gltf`` names; the main file's path."""
        await asyncio.to_thread(self._workspace.mkdir, parents=True, exist_ok=True)
        partial = self._workspace / ".download"
        await self._download(uri.url, partial, uri.shown, lambda fraction: self._report("downloading", fraction))
        kind = await asyncio.to_thread(_kind, partial)
        path = self._workspace / f"{_safe_stem(uri.url)}.{kind}"
        names = await asyncio.to_thread(_side_files, partial) if kind == "gltf" else []
        if path.name in names:
            raise _corrupt("The model names itself as one of its own files.")
        await asyncio.to_thread(partial.rename, path)
        await self._side_files(uri.url, names)
        return path

    async def file(self, uri: WebUri) -> Path:
        """Download one file, whatever it is; its path."""
        await asyncio.to_thread(self._workspace.mkdir, parents=True, exist_ok=True)
        path = self._workspace / "download"
        await self._download(uri.url, path, uri.shown, lambda fraction: self._report("downloading", fraction))
        return path

    async def _side_files(self, url: httpx.URL, names: list[str]) -> None:
        """Download the files that a ``.gltf`` names. One that does not exist is left for the reader to miss."""
        folder = url.raw_path.partition(b"?")[0].rpartition(b"/")[0] + b"/"
        gate = asyncio.Semaphore(SIDE_FILES_AT_ONCE)
        done = 0

        async def one(name: str) -> None:
            nonlocal done
            encoded = folder + quote(name).encode("ascii")
            target = url.copy_with(raw_path=encoded + (b"?" + url.query if url.query else b""))
            path = self._workspace / name
            async with gate:
                await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
                try:
                    await self._download(target, path, name, lambda fraction: None)
                except FarframeError as error:
                    if error.result is not Result.FILE_NOT_FOUND:
                        raise
            done += 1
            self._report("downloading", done / len(names))

        try:
            async with asyncio.TaskGroup() as group:
                for name in names:
                    group.create_task(one(name))
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    async def _download(self, url: httpx.URL, path: Path, shown: str, report: Callable[[float], None]) -> None:
        """Stream one file to ``path``, over redirects, within what is left of the size limit."""
        for _ in range(self._policy.max_redirects + 1):
            try:
                location = await self._try_download(url, path, shown, report)
            except RefusedAddressError:
                if url.scheme == "http":
                    invalid("Models are fetched over https only.", "Use an https URL.")
                invalid(
                    "The URL leads into a network that this server must not read from.",
                    "Upload the model, or ask the operator to allow the network.",
                )
            except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError) as error:
                if any(isinstance(each, ssl.SSLCertVerificationError) for each in (error, *error.args)):
                    raise _failed(
                        f"{shown} could not be downloaded: the host's certificate is not trusted.",
                        "Use a host with a valid certificate, or ask the operator to trust its authority.",
                    ) from None
                raise _failed(f"{shown} could not be downloaded: the connection failed.") from None
            except (zlib.error, httpcore.UnsupportedProtocol):
                raise _failed(f"{shown} could not be downloaded: the answer is malformed.") from None
            if location is None:
                return
            target = _redirected(url, location)
            if url.scheme == "https" and target.scheme == "http":
                invalid("The URL redirects from https to http.", "Use the URL that it redirects to, over https.")
            url = target
        raise _failed(f"{shown} redirects more than {self._policy.max_redirects} times.")

    async def _try_download(
        self, url: httpx.URL, path: Path, shown: str, report: Callable[[float], None]
    ) -> str | None:
        """One request. The ``Location`` of a redirect, or ``None`` when the file is on the disk."""
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        timeouts = {
            "connect": CONNECT_TIMEOUT_SECONDS,
            "read": READ_TIMEOUT_SECONDS,
            "write": READ_TIMEOUT_SECONDS,
            "pool": self._policy.timeout_seconds,
        }
        headers = [
            (b"Host", url.netloc),
            (b"User-Agent", b"farframe"),
            (b"Accept", b"*/*"),
            (b"Accept-Encoding", b"identity"),
        ]
        async with self._pools[url.scheme].stream(
            "GET", target, headers=headers, extensions={"timeout": timeouts}
        ) as response:
            answered = {name.lower(): value for name, value in reversed(response.headers)}
            if response.status in _REDIRECTS:
                return answered.get(b"location", b"").decode("latin-1")
            if response.status in (404, 410):
                raise FarframeError(
                    Result.FILE_NOT_FOUND, f"{shown} does not exist.", next_step="Check the model's URI."
                )
            if response.status in (401, 403):
                raise _failed(
                    f"{shown} may not be read with that URL.",
                    "Check that its signature allows reading and is still valid.",
                )
            if response.status != 200:
                raise _failed(f"{shown} could not be downloaded: the answer was {response.status}.")
            length = answered.get(b"content-length", b"")
            expected = int(length) if length.isdigit() and len(length) < 16 else 0
            if expected > self._bytes_left:
                raise self._too_large()
            await self._save(response, answered.get(b"content-encoding", b""), path, expected, report)
        return None

    async def _save(
        self,
        response: httpcore.Response,
        encoding: bytes,
        path: Path,
        expected: int,
        report: Callable[[float], None],
    ) -> None:
        decoder = _Decoder(encoding.strip().lower())
        received = 0
        with await asyncio.to_thread(path.open, "xb") as file:
            async for chunk in response.aiter_stream():
                received += len(chunk)
                for part in decoder.feed(chunk):
                    self._bytes_left -= len(part)
                    if self._bytes_left < 0:
                        raise self._too_large()
                    await asyncio.to_thread(file.write, part)
                if expected:
                    report(min(received / expected, 1.0))
        if not decoder.complete:
            raise _failed("The download ended early.")

    def _too_large(self) -> FarframeError:
        return FarframeError(
            Result.EXCEEDS_MEMORY_LIMIT,
            f"The model has more than {self._policy.max_download_bytes:,} bytes.",
            next_step="Make the model smaller, or ask the operator to raise the limit.",
        )


class _Decoder:
    """Undoes a ``Content-Encoding`` in pieces of limited size, so that a small answer cannot fill the memory."""

    def __init__(self, encoding: bytes) -> None:
        if encoding in (b"", b"identity"):
            self._inflate: Any = None
        elif encoding in (b"gzip", b"x-gzip", b"deflate"):
            # 32 added to the window's bits: gzip or zlib, whichever it is.
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
        else:
            raise _failed("The model is stored with a compression that cannot be undone.", "Store it uncompressed.")

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The decoded pieces of some more bytes. Raises ``zlib.error`` for bytes that are not encoded so."""
        if self._inflate is None:
            yield chunk
            return
        while chunk and not self._inflate.eof:
            yield self._inflate.decompress(chunk, _CHUNK_BYTES)
            chunk = self._inflate.unconsumed_tail

    @property
    def complete(self) -> bool:
        """Whether the end of the encoded bytes was seen."""
        return self._inflate is None or bool(self._inflate.eof)


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Verifies against the system's authorities, certifi's (a minimal container has no others) and ``ca_file``."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


def _kind(path: Path) -> str:
    """``glb`` or ``gltf``, by the file's first bytes."""
    with path.open("rb") as file:
        head = file.read(1024)
    if head[:4] == b"glTF":
        return "glb"
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        return "gltf"
    raise _corrupt("What was downloaded is no glTF model: it is neither .glb nor .gltf.")


def _side_files(path: Path) -> list[str]:
    """The files that a ``.gltf`` names, as paths relative to its folder, each once."""
    if path.stat().st_size > MAX_DOCUMENT_BYTES:
        raise FarframeError(
            Result.EXCEEDS_MEMORY_LIMIT,
            f"The model's JSON has more than {MAX_DOCUMENT_BYTES:,} bytes.",
            next_step="Keep geometry and images out of the JSON: save the model as .glb.",
        )
    try:
        names = msgspec.json.decode(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), type=_Names)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise _corrupt("What was downloaded is no readable glTF model.") from None
    found: dict[str, None] = {}
    for named in (*names.buffers, *names.images):
        if named.uri is None or named.uri[:5].lower() == "data:":
            continue
        try:
            name = unquote(named.uri, errors="strict")
        except UnicodeDecodeError:
            raise _corrupt("The model names a file in no valid UTF-8.") from None
        normal = posixpath.normpath(name)
        if (
            not name
            or "\0" in name
            or "://" in name
            or name[0] in "/\\"
            or normal in (".", "..")
            or normal[:3] == "../"
        ):
            raise _corrupt("The model names a file that is not beside it or below its folder.")
        found.setdefault(normal)
    if len(found) > MAX_SIDE_FILES:
        raise _corrupt(f"The model names more than {MAX_SIDE_FILES:,} files.")
    return list(found)


def _redirected(url: httpx.URL, location: str) -> httpx.URL:
    """Where a redirect leads, judged like a URL that a device named."""
    try:
        target = str(url.join(location))
    except (httpx.InvalidURL, ValueError, UnicodeError):
        raise _failed("The URL redirects to something that is no URL.") from None
    if not location:
        raise _failed("The URL redirects to nowhere.")
    return parse_web_url(target)


def _safe_stem(url: httpx.URL) -> str:
    """The URL's last name without its extension, fit to be a file's: it becomes the model's name."""
    stem = posixpath.splitext(posixpath.basename(unquote(url.path)))[0]
    return _UNSAFE_IN_NAMES.sub("_", stem).strip(". ")[:100] or "model"


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first plain exception in a group, an error that a person can read before others."""
    plain: list[BaseException] = []
    for error in group.exceptions:
        plain.append(_first(error) if isinstance(error, BaseExceptionGroup) else error)
    return next((error for error in plain if isinstance(error, FarframeError)), plain[0])


def _failed(message: str, next_step: str = "Try again, and check the model's URI.") -> FarframeError:
    return FarframeError(Result.FILE_DOWNLOAD_FAILED, message, next_step=next_step)


def _corrupt(message: str) -> FarframeError:
    return FarframeError(Result.FILE_CORRUPT, message, next_step="Check the model's URI, or export the model again.")
