"""The control plane alone: requests per second, p50 and p99 with few and with a million sessions in the store.

A service with stub render servers runs in a process of its own, on a plain loopback listener; this process asks it over
eight connections. ``hello`` is a bare route of the same stack (uvicorn, httptools, Litestar) without anything of ours,
asked in the same run, in turns with the others. One account has all sessions; a tenth of them, a thousand at most, are
active. ``lease`` is create, Ready and stop. With FARFRAME_BENCH_DATABASE_URL the store is that PostgreSQL database,
which must be empty and is left full.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop
from litestar import Litestar, get
from sqlalchemy import insert

from farframe.auth.certificates import ensure_certificates
from farframe.auth.secrets import hash_account_key, new_account_key
from farframe.auth.tokens import new_signing_key
from farframe.fleet.fake import FakeFleet
from farframe.service.app import Service
from farframe.service.clock import SystemClock
from farframe.service.config import RATE_OPERATIONS, ServiceConfig
from farframe.service.listeners import Listener, bind
from farframe.service.logs import configure_logging
from farframe.store.schema import sessions as sessions_table
from farframe.store.store import Store

CONNECTIONS = 8
COUNTS = (100, 10_000, 1_000_000)
QUICK_COUNTS = (100, 10_000)
MAX_ACTIVE = 1000
ACCOUNT = "00000000-0000-4000-8000-00000000be7c"
DATABASE_VARIABLE = "FARFRAME_BENCH_DATABASE_URL"
_MINUTE = 60_000_000
_ROWS = 5000

Request = Callable[[int], bytes]


# The service, in a process of its own --------------------------------------------------------------------------------


async def fill(store: Store, count: int) -> int:
    """Put ``count`` sessions into the store, a tenth of them in Ready. Returns how many those are."""
    active = min(count // 10, MAX_ACTIVE)
    now = time.time_ns() // 1000
    for first in range(0, count, _ROWS):
        rows = []
        for number in range(first, min(first + _ROWS, count)):
            is_active = number < active
            created = now - (count - number) * 1000 - 5 * _MINUTE
            rows.append(
                {
                    "key": str(uuid.UUID(int=number + 1)),
                    "account_id": ACCOUNT,
                    "id": f"old-{number}",
                    "size": "Standard",
                    "status": "Ready" if is_active else "Stopped",
                    "created_lease_minutes": 1440,
                    "lease_minutes": 1440,
                    "created_at": created,
                    "ready_at": created + 1,
                    "expires_at": now + 1440 * _MINUTE,
                    "ended_at": None if is_active else created + _MINUTE,
                    "server_id": f"fake-{number}",
                    "pid": 0,
                    "hostname": "localhost",
                    "handshake_port": 50051,
                    "inspector_port": 50052,
                    "teraflops": 0.25,
                }
            )
        async with store._database.write() as connection:
            await connection.execute(insert(sessions_table), rows)
    return active


async def serve(folder: Path, count: int) -> None:
    """Fill the store, serve, say where, and end when standard input does."""
    configure_logging("info", "json")
    config = ServiceConfig(
        data_dir=str(folder),
        servers={"standard": 10_000_000, "premium": 1},
        rate_limits=dict.fromkeys(RATE_OPERATIONS, 1_000_000_000),
        quota_conversions=1_000_000,
    )
    store = await Store.open(os.environ.get(DATABASE_VARIABLE) or folder / "farframe.db")
    key = new_account_key()
    if await store.accounts.first() is None:
        await store.accounts.create(ACCOUNT, "bench", 1)
    await store.accounts.set_key(ACCOUNT, 1, hash_account_key(key), 1)
    certificates = ensure_certificates(folder / "certificates", [])
    service = Service(
        config, FakeFleet(), store, signing_keys=[new_signing_key()], ca_file=certificates.ca, clock=SystemClock()
    )
    await service.start()
    # After the start: recovery would end sessions whose servers are only in the store.
    active = await fill(store, count)
    listener = Listener(service.app, bind("127.0.0.1", 0, "--port"), None)

    @get("/hello")
    async def hello() -> dict[str, str]:
        return {"hello": "world"}

    bare = Listener(Litestar([hello], openapi_config=None, logging_config=None), bind("127.0.0.1", 0, "--port"), None)
    await listener.start()
    await bare.start()
    print(json.dumps({"port": listener.port, "bare": bare.port, "key": key, "active": active}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await listener.stop()
    await bare.stop()
    os._exit(0)  # ending a thousand stub sessions one by one is not what is measured


# The caller ----------------------------------------------------------------------------------------------------------


class Connection:
    """One keep-alive connection that sends ready-made requests: the caller must cost less than what it measures."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Connection:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._writer.close()

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer."""
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        place = head.find(b"content-length: ")
        length = int(head[place + 16 : head.index(b"\r\n", place)]) if place >= 0 else 0
        return int(head[9:12]), await self._reader.readexactly(length) if length else b""


def compose(method: str, path: str, credential: str = "", body: bytes = b"") -> bytes:
    """A request as bytes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    if credential:
        lines.append(f"Authorization: Bearer {credential}")
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


async def measure(port: int, make: Request, count: int, expected: int) -> dict[str, float]:
    """Ask ``count`` times over all connections; seconds of each, from the request to the end of the answer."""
    times: list[float] = []
    numbers = iter(range(count))

    async def work() -> None:
        async with Connection(port) as connection:
            for number in numbers:
                request = make(number)
                begun = time.perf_counter()
                status, body = await connection.ask(request)
                times.append(time.perf_counter() - begun)
                if status != expected:
                    raise RuntimeError(f"{request.split(b' HTTP')[0]!r} was answered with {status}: {body[:300]!r}")

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(work())
    elapsed = time.perf_counter() - begun
    times.sort()
    return {
        "per_second": round(count / elapsed, 1),
        "p50_ms": round(statistics.median(times) * 1000, 2),
        "p99_ms": round(times[min(len(times) - 1, int(len(times) * 0.99))] * 1000, 2),
    }


async def figures(ports: dict[str, Any], count: int, scale: float) -> dict[str, Any]:
    """All operations with ``count`` sessions in the store."""
    port, pair = ports["port"], f"{ACCOUNT}:{ports['key']}"
    token_path = f"/Accounts/{ACCOUNT}/token"
    async with Connection(port) as connection:
        _, body = await connection.ask(compose("GET", token_path, pair))
    token = json.loads(body)["AccessToken"]

    def at(rest: str) -> str:
        return f"/accounts/{ACCOUNT}/sessions{rest}?api-version=2021-01-01"

    settings = b'{"maxLeaseTimeMinutes":10,"size":"Standard"}'
    run = uuid.uuid4().hex[:8]
    few, many = int(600 * scale), int(3000 * scale)
    hello = compose("GET", "/hello")
    tasks: list[tuple[str, int, Callable[[], Awaitable[dict[str, float]]]]] = [
        ("token", 200, lambda: measure(port, lambda _n: compose("GET", token_path, pair), few, 200)),
        (
            "get",
            200,
            lambda: measure(port, lambda n: compose("GET", at(f"/old-{n * 7919 % count}"), token), many, 200),
        ),
        ("list", 200, lambda: measure(port, lambda _n: compose("GET", at(""), token), few, 200)),
        (
            "create",
            201,
            lambda: measure(port, lambda n: compose("PUT", at(f"/{run}-{n}"), token, settings), few, 201),
        ),
        ("stop", 204, lambda: measure(port, lambda n: compose("POST", at(f"/{run}-{n}/:stop"), token), few, 204)),
    ]
    result: dict[str, Any] = {}
    await measure(ports["bare"], lambda _n: hello, many, 200)  # warms both processes
    bare = []
    for name, _, task in tasks:
        bare.append(await measure(ports["bare"], lambda _n: hello, many, 200))
        result[name] = await task()
    lease_count = few // 2

    async def lease() -> float:
        numbers = iter(range(lease_count))

        async def work() -> None:
            async with Connection(port) as connection:
                for number in numbers:
                    name = f"/{run}-lease-{number}"
                    assert (await connection.ask(compose("PUT", at(name), token, settings)))[0] == 201
                    _, body = await connection.ask(compose("GET", at(name), token))
                    assert json.loads(body)["status"] == "Ready"
                    assert (await connection.ask(compose("POST", at(f"{name}/:stop"), token)))[0] == 204

        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(work())
        return lease_count / (time.perf_counter() - begun)

    result["leases_per_second"] = round(await lease(), 1)
    result["hello"] = {name: round(statistics.median(one[name] for one in bare), 2) for name in bare[0]}
    result["get_of_hello_percent"] = round(100 * result["get"]["per_second"] / result["hello"]["per_second"], 1)
    return result


def run(*, quick: bool) -> dict[str, Any]:
    """Measure with each number of sessions; prints a line an operation."""
    report: dict[str, Any] = {"store": "postgresql" if os.environ.get(DATABASE_VARIABLE) else "sqlite"}
    for count in QUICK_COUNTS if quick else COUNTS:
        with tempfile.TemporaryDirectory(prefix="farframe-bench-") as folder:
            command = [sys.executable, "-m", "benchmarks.control_plane", folder, str(count)]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
            )
            assert process.stdout is not None
            assert process.stdin is not None
            try:
                ports = json.loads(process.stdout.readline())
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    result = runner.run(figures(ports, count, 0.3 if quick else 1.0))
            finally:
                process.stdin.close()
                process.wait(30)
        report[str(count)] = result
        print(f"  {count} sessions ({ports['active']} active)")
        for name in ("hello", "token", "get", "list", "create", "stop"):
            line = result[name]
            print(
                f"    {name:8}{line['per_second']:9.1f}/s   p50 {line['p50_ms']:7.2f} ms   p99 {line['p99_ms']:7.2f} ms"
            )
        print(f"    leases  {result['leases_per_second']:9.1f}/s   get is {result['get_of_hello_percent']} % of hello")
    counts = [name for name in report if name.isdigit()]
    ratio = report[counts[-1]]["get"]["p99_ms"] / report[counts[0]]["get"]["p99_ms"]
    report["get_p99_most_to_fewest"] = round(ratio, 2)
    print(f"  p99 of get with {counts[-1]} sessions is {ratio:.2f} times that with {counts[0]}")
    return report


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as main_runner:
        main_runner.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
