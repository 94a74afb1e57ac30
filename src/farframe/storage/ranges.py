"""A file on the web, read by byte ranges: what lets a render server draw an asset before it has all of it.

The transport is that of :mod:`farframe.storage.fetch`, in blocking form: checked addresses, no proxy, no cookie, no
credential but the URL. The first answer tells size and version; every later range must be of the same version, so that
a file that is replaced meanwhile is an error and never a mixture. Safe to call from several threads; reads run side by
side on connections of their own.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import certifi
import httpcore
import httpx

from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import FetchPolicy
from farframe.storage.network import Network, RefusedAddressError, is_usable, parse_networks
from farframe.storage.uri import parse_web_url, shown_url

CONNECT_TIMEOUT_SECONDS = 10.0
READ_TIMEOUT_SECONDS = 30.0
ATTEMPTS = 4
HEAD_BYTES = 64 * 1024
"""What the first request fetches: a file's head is read at once in any case."""

MAX_CONNECTIONS = 8
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONTENT_RANGE = re.compile(rb"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")

SyncResolver = Callable[[str, int], Sequence[str]]
"""From a host name and a port to addresses as text. Raises ``OSError``."""


def system_resolver(host: str, port: int) -> list[str]:
    """The operating system's answer."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


class CheckedSyncBackend(httpcore.NetworkBackend):
    """The blocking sister of :class:`~farframe.storage.network.CheckedBackend`, with the same rules and errors."""

    def __init__(
        self,
        allowed_networks: Sequence[Network],
        resolver: SyncResolver = system_resolver,
        *,
        only_listed: bool = False,
    ) -> None:
        self._allowed_networks = tuple(allowed_networks)
        self._resolver = resolver
        self._only_listed = only_listed
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolve, judge, connect to the first address that may be used and answers."""
        try:
            answers = self._resolver(host.strip("[]"), port)
        except (OSError, UnicodeError):
            raise httpcore.ConnectError("the name could not be resolved") from None
        usable = [
            answer for answer in answers if is_usable(answer, self._allowed_networks, only_listed=self._only_listed)
        ]
        if not usable:
            raise RefusedAddressError
        last: httpcore.NetworkError | httpcore.TimeoutException | None = None
        for answer in usable:
            try:
                return self._inner.connect_tcp(answer, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last or httpcore.ConnectError("no address answered")

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.NetworkStream:
        """Never: a URL names no socket of this machine."""
        raise RefusedAddressError


class WebSource:
    """Random access to a file at an ``https`` URL (``http`` in listed networks). A ``ByteSource``.

    ``size`` in bytes; ``name`` is the URL without its query, fit for messages. Raises :class:`FarframeError`:
    ``INVALID_URI`` where the server must not read, ``FILE_NOT_FOUND``, ``EXCEEDS_MEMORY_LIMIT`` (larger than the policy
    allows), ``FILE_DOWNLOAD_FAILED`` for everything else, a file that changed included.
    """

    size: int
    name: str

    def __init__(
        self,
        url: str,
        policy: FetchPolicy,
        *,
        resolver: SyncResolver = system_resolver,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Opens the file: one request, for its first :data:`HEAD_BYTES`."""
        self._url = parse_web_url(url)
        self.name = shown_url(self._url)
        self._policy = policy
        self._pause = pause
        networks = parse_networks(policy.allowed_networks)
        context = ssl.create_default_context(cafile=certifi.where())
        if policy.ca_file:
            context.load_verify_locations(Path(policy.ca_file))
        context.load_default_certs()
        self._pools = {
            "https": httpcore.ConnectionPool(
                ssl_context=context,
                network_backend=CheckedSyncBackend(networks, resolver),
                max_connections=MAX_CONNECTIONS,
            ),
            "http": httpcore.ConnectionPool(
                network_backend=CheckedSyncBackend(networks, resolver, only_listed=True),
                max_connections=MAX_CONNECTIONS,
            ),
        }
        self._lock = threading.Lock()
        self._target = self._url
        """Where the redirects led."""
        self._tag = b""
        self._modified = b""
        self.size = -1
        self._head = b""
        try:
            self._head = self._fetch(0, HEAD_BYTES)
        except BaseException:
            self.close()
            raise
        if self.size > policy.max_download_bytes:
            self.close()
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"The model has more than {policy.max_download_bytes:,} bytes.",
                next_step="Make the model smaller, or ask the operator to raise the limit.",
            )

    def __repr__(self) -> str:
        return f"WebSource({self.name!r})"

    def read(self, offset: int, length: int) -> bytes:
        """Exactly those bytes. Raises ``FILE_CORRUPT`` for a range that is not in the file."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise FarframeError(
                Result.FILE_CORRUPT, "The file names bytes that it does not have.", next_step="Convert the model again."
            )
        if length == 0:
            return b""
        if offset + length <= len(self._head):
            return self._head[offset : offset + length]
        return self._fetch(offset, length)

    def close(self) -> None:
        """End all connections."""
        for pool in self._pools.values():
            pool.close()

    def _fetch(self, offset: int, length: int) -> bytes:
        for attempt in range(ATTEMPTS):
            try:
                return self._follow(offset, length)
            except RefusedAddressError:
                raise FarframeError(
                    Result.INVALID_URI,
                    "The URL leads into a network that this server must not read from.",
                    next_step="Upload the model, or ask the operator to allow the network.",
                ) from None
            except (
                httpcore.TimeoutException,
                httpcore.NetworkError,
                httpcore.ProtocolError,
                ssl.SSLError,
                _Again,
            ) as error:
                untrusted = any(isinstance(each, ssl.SSLCertVerificationError) for each in (error, *error.args))
                if untrusted or "CERTIFICATE_VERIFY_FAILED" in str(error):
                    raise _failed(
                        f"{self.name} could not be read: the host's certificate is not trusted.",
                        "Use a host with a valid certificate, or ask the operator to trust its authority.",
                    ) from None
                if attempt == ATTEMPTS - 1:
                    raise _failed(f"{self.name} could not be read: the connection failed.") from None
                self._pause(0.2 * 2**attempt)
        raise AssertionError("unreachable")  # pragma: no cover

    def _follow(self, offset: int, length: int) -> bytes:
        url = self._target
        for _ in range(self._policy.max_redirects + 1):
            answer = self._request(url, offset, length)
            if isinstance(answer, bytes):
                self._target = url
                return answer
            try:
                target = parse_web_url(str(url.join(answer.location)))
            except (httpx.InvalidURL, ValueError, UnicodeError):
                raise _failed("The URL redirects to something that is no URL.") from None
            if url.scheme == "https" and target.scheme == "http":
                raise FarframeError(
                    Result.INVALID_URI,
                    "The URL redirects from https to http.",
                    next_step="Use the URL that it redirects to, over https.",
                )
            url = target
        raise _failed(f"{self.name} redirects more than {self._policy.max_redirects} times.")

    def _request(self, url: httpx.URL, offset: int, length: int) -> bytes | _Redirect:
        headers = [
            (b"Host", url.netloc),
            (b"User-Agent", b"farframe"),
            (b"Accept", b"*/*"),
            (b"Accept-Encoding", b"identity"),
            (b"Range", b"bytes=%d-%d" % (offset, offset + length - 1)),
        ]
        if self._tag and not self._tag.startswith(b"W/"):
            headers.append((b"If-Match", self._tag))
        elif self._modified:
            headers.append((b"If-Unmodified-Since", self._modified))
        timeouts = {
            "connect": CONNECT_TIMEOUT_SECONDS,
            "read": READ_TIMEOUT_SECONDS,
            "write": READ_TIMEOUT_SECONDS,
            "pool": self._policy.timeout_seconds,
        }
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        with self._pools[url.scheme].stream(
            "GET", target, headers=headers, extensions={"timeout": timeouts}
        ) as response:
            answered = {name.lower(): value for name, value in reversed(response.headers)}
            if response.status in _REDIRECTS:
                return _Redirect(answered.get(b"location", b"").decode("latin-1"))
            self._check_status(response.status, url)
            match = _CONTENT_RANGE.fullmatch(answered.get(b"content-range", b"").strip())
            if match is None or answered.get(b"content-encoding", b"identity").strip().lower() not in (
                b"",
                b"identity",
            ):
                raise _failed(f"{self.name} could not be read: the answer is malformed.")
            start, end, size = (int(each) for each in match.groups())
            if start != offset or end >= size or end > offset + length - 1:
                raise _failed(f"{self.name} could not be read: the answer is malformed.")
            self._check_version(size, answered.get(b"etag", b""), answered.get(b"last-modified", b""))
            wanted = min(length, size - offset)
            received = bytearray()
            for chunk in response.iter_stream():
                received += chunk
                if len(received) > wanted:
                    raise _failed(f"{self.name} could not be read: the answer is malformed.")
            if len(received) != wanted:
                raise _Again
            return bytes(received)

    def _check_status(self, status: int, url: httpx.URL) -> None:
        if status == 206:
            return
        if status in (404, 410):
            raise FarframeError(
                Result.FILE_NOT_FOUND, f"{self.name} does not exist.", next_step="Check the model's URI."
            )
        if status in (401, 403):
            if url != self._url:
                # What a redirect led to may have been good for a while only.
                self._target = self._url
                raise _Again
            raise _failed(
                f"{self.name} may not be read with that URL.",
                "Check that its signature allows reading and is still valid.",
            )
        if status == 412:
            raise _changed()
        if status == 200:
            raise _failed(
                f"{self.name} cannot be read in parts: its host answers no byte ranges.",
                "Put the asset on storage that does, or upload it.",
            )
        if status == 416:
            raise _failed(f"{self.name} is empty, or became shorter while it was being read.")
        if status in (408, 429) or status >= 500:
            raise _Again
        raise _failed(f"{self.name} could not be read: the answer was {status}.")

    def _check_version(self, size: int, tag: bytes, modified: bytes) -> None:
        with self._lock:
            if self.size < 0:
                self.size, self._tag, self._modified = size, tag, modified
            elif size != self.size or tag != self._tag or (not tag and modified != self._modified):
                raise _changed()


class _Redirect:
    """Where an answer leads."""

    def __init__(self, location: str) -> None:
        self.location = location


class _Again(Exception):  # noqa: N818 - an event, not an error
    """The request may succeed when it is made again."""


def _changed() -> FarframeError:
    return _failed("The file was replaced while it was being read.", "Load the model again.")


def _failed(message: str, next_step: str = "Try again, and check the model's URI.") -> FarframeError:
    return FarframeError(Result.FILE_DOWNLOAD_FAILED, message, next_step=next_step)
