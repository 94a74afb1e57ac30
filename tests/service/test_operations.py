"""Health, metrics, and the correlation id in logs."""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
from typing import Any

import httpx
import msgspec
import pytest
import structlog

from farframe.protocol.link import Heartbeat
from farframe.service.listeners import Listener, bind
from farframe.service.operations import metrics_app, route_of


async def test_live_and_ready(world: Any) -> None:
    for path in ("/health/live", "/health/ready", "/Health/READY"):
        response = await world.http.get(path)
        assert response.status_code == 200
        assert response.json() == {"status": "ok"}
        assert "no-store" in response.headers["cache-control"]


async def test_not_ready_without_scheduler(world: Any) -> None:
    await world.service.scheduler.stop()
    response = await world.http.get("/health/ready")
    assert response.status_code == 503
    assert response.json() == {"status": "unavailable", "problems": ["scheduler"]}
    assert (await world.http.get("/health/live")).status_code == 200
    assert "retry-after" not in response.headers


async def test_not_ready_when_the_fleet_is_dead(world: Any) -> None:
    world.fleet.alive = False
    assert (await world.http.get("/health/ready")).json()["problems"] == ["fleet"]


async def test_not_ready_when_the_store_takes_no_writes(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farframe.service.operations.CHECK_TIMEOUT_SECONDS", 0.2)
    blocker = sqlite3.connect(world.folder / "farframe.db", isolation_level=None, check_same_thread=False)
    # In a thread: the service, which may be writing, runs in this one.
    await asyncio.to_thread(blocker.execute, "BEGIN IMMEDIATE")
    try:
        response = await world.http.get("/health/ready")
        assert response.json() == {"status": "unavailable", "problems": ["store"]}
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()

    async def ready() -> bool:
        return (await world.http.get("/health/ready")).status_code == 200

    await world.until(ready)


async def scrape(world: Any) -> str:
    listener = Listener(metrics_app(world.service.metrics.text), bind("127.0.0.1", 0, "--metrics"), None)
    await listener.start()
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{listener.port}", trust_env=False, timeout=60
        ) as client:
            assert (await client.get("/accounts")).status_code == 404
            response = await client.get("/metrics")
    finally:
        await listener.stop()
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    return response.text


async def test_metrics(world: Any) -> None:
    await world.create("a")
    await world.create("b", size="Premium")
    await world.call("GET", "/missing")
    text = await scrape(world)
    assert 'farframe_sessions{size="Standard",status="Ready"} 1.0' in text
    assert 'farframe_sessions{size="Premium",status="Ready"} 1.0' in text
    assert re.search(
        r'farframe_requests_total\{method="GET",route="/accounts/\{account\}/sessions/\{id\}",status="404"\} 1\.0', text
    )
    assert 'farframe_ready{part="store"} 1.0' in text
    assert world.account not in text
    await world.call("POST", "/a/:stop")
    assert 'size="Standard",status="Ready"' not in await scrape(world)


async def test_metrics_tell_how_late_the_frames_of_a_session_are(world: Any) -> None:
    await world.create("a")
    key = world.fleet.key_of("a")
    beat = Heartbeat(
        connected=True,
        frames_per_second=30.0,
        resident_bytes=1,
        encoder="x264 superfast",
        stages={"encode": (6.0, 9.0, 12.5), "total": (44.0, 60.0, 80.0)},
        frames_arrived=900,
        frames_missing=3,
    )
    world.fleet.heartbeats[key] = beat
    text = await scrape(world)
    assert f'farframe_stream_stage_seconds{{quantile="0.99",session="{key}",stage="encode"}} 0.0125' in text
    assert f'farframe_stream_stage_seconds{{quantile="0.5",session="{key}",stage="total"}} 0.044' in text
    assert f'farframe_stream_frames_per_second{{encoder="x264 superfast",session="{key}"}} 30.0' in text
    assert f'farframe_stream_frames{{outcome="missing",session="{key}"}} 3.0' in text
    assert world.account not in text
    world.fleet.heartbeats[key] = msgspec.structs.replace(beat, connected=False)
    assert "farframe_stream_stage_seconds{" not in await scrape(world), "nobody watches"
    world.fleet.heartbeats[key] = beat
    await world.call("POST", "/a/:stop")
    assert "farframe_stream_stage_seconds{" not in await scrape(world), "the session is over"


async def test_metrics_are_not_public(world: Any) -> None:
    for client in (world.http, world.https):
        assert "farframe_requests" not in (await client.get("/metrics")).text


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("", "web"),
        ("etc/passwd", "web"),
        ("accounts/x", "/accounts"),
        ("accounts/x/strange/y", "/accounts"),
        ("accounts/x/sessions", "/accounts/{account}/sessions"),
        ("accounts/x/sessions/y/:stop", "/accounts/{account}/sessions/{id}/:stop"),
        ("accounts/x/sessions/y/unknown", "/accounts/{account}/sessions/{id}"),
        ("accounts/x/uploads/y/a/b/c", "/accounts/{account}/uploads/{id}"),
    ],
)
def test_labels_are_few(path: str, route: str) -> None:
    assert route_of(path.split("/")) == route


async def test_every_line_of_a_request_has_its_correlation_vector(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    lines: list[dict[str, Any]] = []
    caplog.set_level(logging.DEBUG, "farframe.service")  # else nobody asks for the line of the request itself

    def keep(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        lines.append(dict(event))
        raise structlog.DropEvent

    former = structlog.get_config()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, keep])
    try:
        first, second = await asyncio.gather(world.create("a"), world.create("b"))
        await world.service.sessions.settle()
    finally:
        structlog.configure(**former)
    for name, response in (("a", first), ("b", second)):
        own = [line for line in lines if line.get("ms_cv") == response.headers["ms-cv"]]
        assert {"session.created", "session.ready", "request"} <= {line["event"] for line in own}
        assert {line["session"] for line in own if "session" in line} == {name}
