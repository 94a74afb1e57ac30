"""What those who run the service watch: is it alive, can it work, how much does it do.

``/health/live`` and ``/health/ready`` are public and say next to nothing. Metrics are for a listener of their own,
because a proxy on this machine makes the whole world look local.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import structlog
from litestar import Response, get
from litestar.enums import ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from farframe import __version__
from farframe.fleet.base import Fleet
from farframe.service.exchange import NO_STORE, AnyRequest, json_response
from farframe.service.scheduler import Scheduler
from farframe.store.store import Store

log = structlog.get_logger("farframe.service")

CHECK_TIMEOUT_SECONDS = 5.0

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_METHODS = frozenset({"GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS"})
_BELOW_ACCOUNT = frozenset({"token", "sessions", "conversions", "uploads", "viewer-links", "usage"})
_BELOW_SESSION = frozenset({":stop", "whep", "inspector-link", "token"})
_TOP = frozenset(
    {"accounts", "operator", "viewer-links", "health", "openapi.json", "regions", "latency", ".well-known"}
)


def route_of(segments: Sequence[str]) -> str:
    """A path's pattern, from a fixed set however strange the path is: labels that callers choose fill memories.

    >>> route_of(["accounts", "1f0c", "sessions", "demo", ":stop"])
    '/accounts/{account}/sessions/{id}/:stop'
    """
    if not segments or segments[0] not in _TOP:
        return "web"
    if segments[0] != "accounts" or len(segments) < 3 or segments[2] not in _BELOW_ACCOUNT:
        return f"/{segments[0]}"
    route = f"/accounts/{{account}}/{segments[2]}"
    if len(segments) > 3:
        route += "/{id}"
        if len(segments) > 4 and segments[2] == "sessions" and segments[4] in _BELOW_SESSION:
            route += f"/{segments[4]}"
    return route


@runtime_checkable
class Watched(Protocol):
    """A fleet that can say whether it still works."""

    @property
    def alive(self) -> bool:
        """Whether it looks after its servers."""


class Health:
    """Whether the service can do its work."""

    def __init__(self, store: Store, fleet: object, scheduler: Scheduler) -> None:
        self._store, self._fleet, self._scheduler = store, fleet, scheduler
        self._check: asyncio.Task[None] | None = None

    async def problems(self) -> list[str]:
        """What does not work, by name; empty if all does. The reasons go to the log: the answer is public."""
        problems = []
        if not await self._store_works():
            problems.append("store")
        if isinstance(self._fleet, Watched) and not self._fleet.alive:
            problems.append("fleet")
        if not self._scheduler.alive:
            problems.append("scheduler")
        return problems

    async def _store_works(self) -> bool:
        # SQLite's waiting for a lock cannot be cut short, so the check is left behind and looked at again next time:
        # however often we are asked, one check runs.
        if self._check is None:
            self._check = asyncio.create_task(self._store.check_writable(), name="health-store")
        check = self._check
        await asyncio.wait({check}, timeout=CHECK_TIMEOUT_SECONDS)
        if not check.done():
            log.warning("health.store", error="no answer yet")
            return False
        self._check = None
        if check.cancelled() or (error := check.exception()) is None:
            return not check.cancelled()
        log.warning("health.store", error=str(error) or type(error).__name__)
        return False


def health_routes(health: Health) -> list[HTTPRouteHandler]:
    """``GET /health/live`` (the process answers) and ``GET /health/ready`` (it can serve; 503 if not)."""

    @get("/health/live")
    async def get_live(request: AnyRequest) -> Response[bytes]:
        return json_response({"status": "ok"}, headers=NO_STORE)

    @get("/health/ready")
    async def get_ready(request: AnyRequest) -> Response[bytes]:
        problems = await health.problems()
        answer = {"status": "unavailable", "problems": problems} if problems else {"status": "ok"}
        return json_response(answer, 503 if problems else 200, headers=NO_STORE)

    return [get_live, get_ready]


class Metrics:
    """Counters of one service. :meth:`observe` is the frontier's; :meth:`text` is what a scraper gets."""

    def __init__(
        self, store: Store, health: Health, limits: Mapping[str, int], region: str, fleet: Fleet | None = None
    ) -> None:
        self._store, self._health, self._fleet = store, health, fleet
        self._registry = CollectorRegistry()
        self._observed: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._requests = Counter(
            "farframe_requests", "Requests answered.", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "farframe_request_duration_seconds",
            "From the request's headers to the end of the answer.",
            ["route"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._sessions = Gauge(
            "farframe_sessions", "Sessions in Starting and in Ready.", ["status", "size"], registry=self._registry
        )
        self._stage_seconds = Gauge(
            "farframe_stream_stage_seconds",
            "What a step of the latest frames took, from the pose to the eye, by quantile.",
            ["session", "stage", "quantile"],
            registry=self._registry,
        )
        self._frame_rate = Gauge(
            "farframe_stream_frames_per_second",
            "Frames that a session's server sent in its last second.",
            ["session", "encoder"],
            registry=self._registry,
        )
        self._frames = Gauge(
            "farframe_stream_frames",
            "Frames that arrived at a session's device, or never did, since it connected.",
            ["session", "outcome"],
            registry=self._registry,
        )
        self._ready = Gauge("farframe_ready", "Whether the part works: 1 or 0.", ["part"], registry=self._registry)
        servers = Gauge("farframe_server_limit", "How many sessions may be active.", ["size"], registry=self._registry)
        for size, count in limits.items():
            servers.labels(size.capitalize()).set(count)
        about = Gauge("farframe_build_info", "Always 1.", ["version", "region"], registry=self._registry)
        about.labels(__version__, region).set(1)

    def observe(self, method: str, segments: Sequence[str], status: int, seconds: float) -> None:
        """Count a request."""
        labels = (method if method in _METHODS else "other", route_of(segments), status)
        known = self._observed.get(labels)
        if known is None:
            # As many as there are methods, routes and statuses: the library finds the same more slowly.
            known = self._requests.labels(labels[0], labels[1], str(status)), self._seconds.labels(labels[1])
            self._observed[labels] = known
        known[0].inc()
        known[1].observe(seconds)

    async def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        problems = await self._health.problems()
        for part in ("store", "fleet", "scheduler"):
            self._ready.labels(part).set(0 if part in problems else 1)
        if "store" not in problems:
            self._sessions.clear()
            for status, size, count in await self._store.sessions.count_active():
                self._sessions.labels(status, size).set(count)
        self._read_heartbeats()
        return generate_latest(self._registry)

    def _read_heartbeats(self) -> None:
        """The streams of the servers that this service supervises, as they are now."""
        for gauge in (self._stage_seconds, self._frame_rate, self._frames):
            gauge.clear()
        for key in self._fleet.session_keys() if self._fleet is not None else ():
            heartbeat = self._fleet.heartbeat(key) if self._fleet is not None else None
            if heartbeat is None or not heartbeat.connected:
                continue
            self._frame_rate.labels(key, heartbeat.encoder).set(heartbeat.frames_per_second)
            self._frames.labels(key, "arrived").set(heartbeat.frames_arrived)
            self._frames.labels(key, "missing").set(heartbeat.frames_missing)
            for stage, milliseconds in heartbeat.stages.items():
                for quantile, value in zip(("0.5", "0.95", "0.99"), milliseconds, strict=True):
                    self._stage_seconds.labels(key, stage, quantile).set(value / 1000)


def metrics_app(text: Callable[[], Awaitable[bytes]]) -> ASGIApp:
    """An ASGI application with ``GET /metrics`` and nothing else; ``text`` is :meth:`Metrics.text`."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            return
        found = scope["path"] == "/metrics" and scope["method"] in ("GET", "HEAD")
        body: bytes = await text() if found else b"Only GET /metrics is here.\n"
        content_type = CONTENT_TYPE_LATEST if found else "text/plain; charset=utf-8"
        headers = [
            (b"content-type", content_type.encode("ascii")),
            (b"content-length", str(len(body)).encode("ascii")),
            (b"x-content-type-options", b"nosniff"),
        ]
        await send({"type": "http.response.start", "status": 200 if found else 404, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return serve
