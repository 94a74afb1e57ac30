"""What strangers may try at the listeners; and every row of the threat model names tests that exist."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog

from farframe.service import exchange, listeners
from farframe.service.logs import configure_logging

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "security.md"


def rows() -> list[list[str]]:
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if len(row) == 3 and row[0] not in ("threat", "---")]


def test_the_threat_model_has_rows() -> None:
    assert len(rows()) > 25


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_every_row_names_tests_that_exist(row: list[str]) -> None:
    names = re.findall(r"`(\w+/test_\w+\.py)::(test_\w+)`", row[2])
    assert names, f"no test holds the row: {row[0]}"
    for file, name in names:
        path = ROOT / "tests" / file
        assert path.is_file(), f"there is no {path}"
        functions = {
            node.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in functions, f"{file} has no {name}"


async def raw(world: Any, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send parts with a pause in between; what comes back until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.http_url.rpartition(":")[2]))
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
        async with asyncio.timeout(60):
            return await reader.read()
    finally:
        writer.close()


async def test_a_head_that_never_ends_is_hung_up_on(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "HEAD_TIMEOUT_SECONDS", 0.2)
    assert await raw(world, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ") == b""
    assert await raw(world) == b"", "nor may a connection stay that says nothing"


async def test_a_body_that_never_ends_is_refused(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "BODY_SECONDS", 0.2)
    head = (
        f"PUT {world.path('/slow')} HTTP/1.1\r\nHost: x\r\nAuthorization: {world.headers['Authorization']}\r\n"
        "Content-Length: 44\r\nConnection: close\r\n\r\n"
    ).encode()
    answer = await raw(world, head + b'{"maxLease')
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"in time" in answer
    assert (await world.call("GET", "/slow")).status_code == 404


async def test_an_upload_that_stalls_is_refused(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "BODY_IDLE_SECONDS", 0.2)
    head = (
        f"PUT /accounts/{world.account}/uploads/u/a.bin HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: {world.headers['Authorization']}\r\nContent-Length: 100\r\nConnection: close\r\n\r\n"
    ).encode()
    assert (await raw(world, head + b"abc")).startswith(b"HTTP/1.1 400 ")
    listed = await world.http.get(f"/accounts/{world.account}/uploads", headers=world.headers)
    assert listed.json()["uploads"] == []


@pytest.mark.parametrize("announced", [b"65537", b"99999999999999999999"])
async def test_large_bodies_are_refused_unread(world: Any, announced: bytes) -> None:
    head = (
        f"PUT {world.path('/big')} HTTP/1.1\r\nHost: x\r\nAuthorization: {world.headers['Authorization']}\r\n"
        "Connection: close\r\n"
    ).encode()
    answer = await raw(world, head + b"Content-Length: " + announced + b"\r\n\r\n")
    assert answer.split(b" ", 2)[1] in (b"413", b"400")


async def test_a_request_cannot_hide_another(world: Any) -> None:
    """Two lengths, or a length beside chunks, are how a proxy and a server come to disagree."""
    for extra in (
        b"Content-Length: 0\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ):
        answer = await raw(world, b"POST /viewer-links/redeem HTTP/1.1\r\nHost: x\r\n" + extra + b"\r\nhello")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("style", ["json", "console"])
def test_nothing_breaks_out_of_its_line_of_the_log(monkeypatch: pytest.MonkeyPatch, style: str) -> None:
    former, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    try:
        configure_logging("info", style)
        evil = "a\nINFO forged line\r\x1b[31m\u2028b"
        structlog.get_logger("farframe.service").info("request", session=evil, path=evil)
    finally:
        structlog.configure(**former)
        root.handlers[:] = handlers
        root.setLevel(level)
    text = out.getvalue()
    assert text.count("\n") == 1
    assert "\r" not in text
    assert "\x1b[31m" not in text
    if style == "json":
        # Written out once more inside the JSON, so that a tool which prints the value is not fooled either.
        assert json.loads(text)["session"] == "a\\u000aINFO forged line\\u000d\\u001b[31m\\u2028b"


async def test_pages_may_not_be_embedded(world: Any) -> None:
    response = await world.http.get("/")
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    ["/../etc/passwd", "/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/assets/..%5c..%5cx",
     "/%00", "/accounts/../health/live"],
)  # fmt: skip
async def test_paths_lead_nowhere_else(world: Any, path: str) -> None:
    answer = await raw(world, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.split(b" ", 2)[1] in (b"400", b"401", b"404", b"503")
    assert b"root:" not in answer
