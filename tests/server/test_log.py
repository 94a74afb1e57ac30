"""The server's log: one JSON line an event, told to the inspector as well, without secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from farframe.server import log


@pytest.fixture
def told() -> Iterator[list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    before = structlog.get_config()
    handlers = logging.getLogger().handlers[:]
    yield events
    structlog.configure(**before)
    structlog.contextvars.clear_contextvars()
    logging.getLogger().handlers[:] = handlers


def test_lines_are_json_and_told_without_secrets(
    told: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure("info", told.append, server="s1")
    token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
    structlog.get_logger().info(
        "load", uri="https://h/m.glb?sv=1&sig=s3cret", token="t0ps3cret", text=f"Bearer {token}"
    )
    structlog.get_logger().debug("quiet")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(told) == 1
    event = json.loads(lines[0])
    assert event["event"] == "load"
    assert event["server"] == "s1"
    assert event["level"] == "info"
    for secret in ("s3cret", "t0ps3cret", token):
        assert secret not in lines[0]
        assert secret not in str(told[0])


def test_errors_and_libraries_get_in(told: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", told.append)
    try:
        raise ValueError("bad sig=abc")
    except ValueError:
        structlog.get_logger().error("failed", exc_info=True)
    logging.getLogger("library").warning("careful with %s", "that")
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert "ValueError" in events[0]["exception"]
    assert events[1]["logger"] == "library"
    assert events[1]["message"] == "careful with that"
