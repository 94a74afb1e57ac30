"""Files read by ranges over HTTP: exact bytes, one version, retries, and nothing that must not be reached."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import FetchPolicy
from farframe.storage import ranges
from farframe.storage.ranges import WebSource
from tests.storage_servers import NETWORKS, Azurite

POLICY = FetchPolicy(allowed_networks=NETWORKS)
DATA = os.urandom(300_000)


class Host:
    """A web server whose behaviour a test chooses."""

    def __init__(self) -> None:
        self.data, self.tag = DATA, '"one"'
        self.failures: list[int] = []
        self.ranges = True
        self.cut = 0
        self.lie: dict[str, str] = {}
        self.redirect = ""
        self.requests: list[str] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.answer(self)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/a.arrAsset?sv=1&sig=secret"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.requests.append(request.headers["Range"])
        if self.redirect and "moved" not in request.path:
            request.send_response(302)
            request.send_header("Location", self.redirect)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        if self.failures:
            request.send_error(self.failures.pop(0))
            return
        if request.headers.get("If-Match", self.tag) != self.tag:
            request.send_error(412)
            return
        first, last = (int(each) for each in request.headers["Range"].removeprefix("bytes=").split("-"))
        body = self.data[first : last + 1] if self.ranges else self.data
        request.send_response(206 if self.ranges else 200)
        headers = {
            "Content-Range": f"bytes {first}-{first + len(body) - 1}/{len(self.data)}",
            "ETag": self.tag,
            "Content-Length": str(len(body)),
            **self.lie,
        }
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body[: len(body) - self.cut])
        if self.cut:
            self.cut = 0
            request.close_connection = True


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.server.shutdown()
    made.server.server_close()
    made.thread.join()


@pytest.fixture
def opened(host: Host) -> Iterator[WebSource]:
    source = WebSource(host.url, POLICY, pause=lambda seconds: None)
    yield source
    source.close()


def code(call: Any) -> Result:
    with pytest.raises(FarframeError) as caught:
        call()
    assert "secret" not in str(caught.value)
    return caught.value.result


def test_exact_bytes_from_many_threads(host: Host, opened: WebSource) -> None:
    assert opened.size == len(DATA)
    assert "secret" not in opened.name + repr(opened)
    places = [(start, 7_001) for start in range(0, len(DATA) - 7_001, 5_003)]
    with ThreadPoolExecutor(8) as pool:
        for (start, length), found in zip(places, pool.map(lambda place: opened.read(*place), places), strict=True):
            assert found == DATA[start : start + length]
    assert opened.read(len(DATA), 0) == b""
    count = len(host.requests)
    assert opened.read(10, 100) == DATA[10:110]
    assert len(host.requests) == count, "the head is not asked for twice"


@pytest.mark.parametrize(("offset", "length"), [(-1, 5), (0, -1), (len(DATA) - 1, 2), (10**12, 1)])
def test_ranges_that_are_not_in_the_file(opened: WebSource, offset: int, length: int) -> None:
    assert code(lambda: opened.read(offset, length)) is Result.FILE_CORRUPT


def test_failures_that_pass(host: Host, opened: WebSource) -> None:
    host.failures = [503, 500, 429]
    assert opened.read(200_000, 10) == DATA[200_000:200_010]
    host.cut = 5
    assert opened.read(200_000, 10) == DATA[200_000:200_010]
    host.failures = [503] * ranges.ATTEMPTS
    assert code(lambda: opened.read(200_000, 10)) is Result.FILE_DOWNLOAD_FAILED


def test_a_file_that_is_replaced(host: Host, opened: WebSource) -> None:
    host.tag = '"two"'
    assert code(lambda: opened.read(200_000, 10)) is Result.FILE_DOWNLOAD_FAILED
    host.tag, host.data = '"one"', DATA[:-1]
    assert code(lambda: opened.read(200_000, 10)) is Result.FILE_DOWNLOAD_FAILED


@pytest.mark.parametrize(
    "lie",
    [
        {"Content-Range": "bytes 0-9/300000"},
        {"Content-Range": "nonsense"},
        {"Content-Range": "bytes 200000-200020/300000"},
        {"Content-Encoding": "gzip"},
    ],
)
def test_hosts_that_lie(host: Host, opened: WebSource, lie: dict[str, str]) -> None:
    host.lie = lie
    assert code(lambda: opened.read(200_000, 10)) is Result.FILE_DOWNLOAD_FAILED


def test_what_cannot_be_opened(host: Host) -> None:
    def opening(url: str = host.url, **policy: Any) -> Any:
        return lambda: WebSource(
            url, FetchPolicy(**{"allowed_networks": NETWORKS, **policy}), pause=lambda seconds: None
        )

    assert code(opening(allowed_networks=())) is Result.INVALID_URI
    assert code(opening("file:///etc/passwd")) is Result.INVALID_URI
    assert code(opening(max_download_bytes=1000)) is Result.EXCEEDS_MEMORY_LIMIT
    host.failures = [404]
    assert code(opening()) is Result.FILE_NOT_FOUND
    host.failures = [403]
    assert code(opening()) is Result.FILE_DOWNLOAD_FAILED
    host.ranges = False
    assert code(opening()) is Result.FILE_DOWNLOAD_FAILED
    host.ranges, host.redirect = True, host.url
    assert code(opening()) is Result.FILE_DOWNLOAD_FAILED
    host.redirect = "http://169.254.169.254/latest"
    assert code(opening()) is Result.INVALID_URI
    host.redirect = "gopher://127.0.0.1/"
    assert code(opening()) is Result.INVALID_URI


def test_redirects_are_followed_once(host: Host) -> None:
    host.redirect = host.url.replace("/a.", "/moved.")
    source = WebSource(host.url, POLICY)
    assert source.read(200_000, 5) == DATA[200_000:200_005]
    assert len(host.requests) == 3
    source.close()


def test_names_that_lead_elsewhere() -> None:
    for answer in ("127.0.0.1", "169.254.169.254", "::1", "10.1.2.3"):
        with pytest.raises(FarframeError) as caught:
            WebSource("https://contoso.example/a", FetchPolicy(), resolver=lambda host, port, answer=answer: [answer])
        assert caught.value.result is Result.INVALID_URI


def test_a_blob_with_a_signature(azurite: Azurite) -> None:
    uri = azurite.create("ranges")
    azurite.put("ranges", "deep/a.arrAsset", DATA)
    source = WebSource(f"{uri}/deep/a.arrAsset?{azurite.sas('ranges', 'r')}", POLICY)
    assert source.read(150_000, 1000) == DATA[150_000:151_000]
    azurite.put("ranges", "deep/a.arrAsset", DATA)
    assert code(lambda: source.read(150_000, 1000)) is Result.FILE_DOWNLOAD_FAILED
    source.close()
