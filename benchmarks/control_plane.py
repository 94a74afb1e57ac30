"""The control plane alone: requests per second, p50 and p99 with few and with a million sessions in the store.

A service with stub render servers runs in a process of its own for each number of sessions, on a plain loopback
listener; this process asks them over eight connections. All of them run from the beginning, and are asked in turns, a
little of everything each time, so that whatever else the machine does hits all sizes alike. ``hello`` is a bare route
of the same stack (uvicorn, httptools, Litestar) without anything of ours, in the same process and the same turns.

One account has all sessions; a tenth of them is active, sixty at least (a page of the list is fifty) and a thousand at
most. ``lease`` is create, a get that says Ready, and stop. Whoever asks runs on the same machine, so that of two cores
one is left for the service, and for PostgreSQL.

FARFRAME_BENCH_DATABASE_URL names a database on a PostgreSQL server, whose user may create others: each service gets one
of its own, which is dropped in the end. ``start`` instead of a URL starts a server from Debian's package, with the
durability that it comes with.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg  # type: ignore[import-untyped]
import uvloop
from litestar import Litestar, get

from farframe.auth.certificates import ensure_certificates
from farframe.auth.secrets import hash_account_key, new_account_key
from farframe.auth.tokens import new_signing_key
from farframe.fleet.fake import FakeFleet
from farframe.service.app import Service
from farframe.service.clock import SystemClock
from farframe.service.config import RATE_OPERATIONS, ServiceConfig
from farframe.service.listeners import Listener, bind
from farframe.service.logs import configure_logging
from farframe.store.store import Store

CONNECTIONS = 8
COUNTS = (100, 10_000, 1_000_000)
QUICK_COUNTS = (100, 10_000)
ROUNDS, QUICK_ROUNDS = 20, 5
REQUESTS = {"hello": 1000, "token": 100, "get": 1000, "list": 200, "create": 200, "stop": 200, "lease": 100}
"""Of each operation, in each round, with each number of sessions."""

MIN_ACTIVE, MAX_ACTIVE = 60, 1000
ACCOUNT = "00000000-0000-4000-8000-00000000be7c"
DATABASE_VARIABLE = "FARFRAME_BENCH_DATABASE_URL"
START_A_SERVER = "start"
_MINUTE = 60_000_000
_ROWS = 20_000
_COLUMNS = (
    *("key", "account_id", "id", "size", "status", "created_lease_minutes", "lease_minutes", "created_at"),
    *("ready_at", "expires_at", "ended_at", "server_id", "pid", "hostname", "handshake_port", "inspector_port"),
    "teraflops",
)

Request = Callable[[int], bytes]
Times = dict[str, list[list[float]]]
"""Of each operation and round: the seconds of each request."""


# The service, in a process of its own --------------------------------------------------------------------------------


def rows_of(count: int) -> Iterator[list[tuple[object, ...]]]:
    """Batches of ``count`` sessions, the first of them in Ready."""
    active = active_of(count)
    now = time.time_ns() // 1000
    for first in range(0, count, _ROWS):
        rows: list[tuple[object, ...]] = []
        for number in range(first, min(first + _ROWS, count)):
            is_active = number < active
            created = now - (count - number) * 1000 - 5 * _MINUTE
            # Random keys, as the service makes them: they meet the index everywhere.
            rows.append(
                (
                    *(str(uuid.uuid4()), ACCOUNT, f"old-{number}", "Standard", "Ready" if is_active else "Stopped"),
                    *(1440, 1440, created, created + 1, now + 1440 * _MINUTE, None if is_active else created + _MINUTE),
                    *(f"fake-{number}", 0, "localhost", 50051, 50052, 0.25),
                )
            )
        yield rows


def active_of(count: int) -> int:
    """How many of so many sessions are active."""
    return min(max(count // 10, MIN_ACTIVE), MAX_ACTIVE, count)


async def fill(database: Path | str, count: int) -> None:
    """Put ``count`` sessions into the database."""
    if isinstance(database, Path):
        with contextlib.closing(sqlite3.connect(database)) as connection:
            marks = ", ".join("?" * len(_COLUMNS))
            for rows in rows_of(count):
                connection.executemany(f"INSERT INTO sessions ({', '.join(_COLUMNS)}) VALUES ({marks})", rows)
                connection.commit()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return
    postgresql = await asyncpg.connect(database)
    for rows in rows_of(count):
        await postgresql.copy_records_to_table("sessions", records=rows, columns=_COLUMNS)
    await postgresql.execute("VACUUM ANALYZE sessions")
    await postgresql.execute("CHECKPOINT")
    await postgresql.close()


async def serve(folder: Path, count: int, database_url: str) -> None:
    """Fill the store, serve, say where, and end when standard input does."""
    configure_logging("info", "json")
    config = ServiceConfig(
        data_dir=str(folder),
        servers={"standard": 10_000_000, "premium": 1},
        rate_limits=dict.fromkeys(RATE_OPERATIONS, 1_000_000_000),
        quota_conversions=1_000_000,
    )
    database = database_url or folder / "farframe.db"
    store = await Store.open(database)
    key = new_account_key()
    await store.accounts.create(ACCOUNT, "bench", 1)
    await store.accounts.set_key(ACCOUNT, 1, hash_account_key(key), 1)
    certificates = ensure_certificates(folder / "certificates", [])
    service = Service(
        config, FakeFleet(), store, signing_keys=[new_signing_key()], ca_file=certificates.ca, clock=SystemClock()
    )
    await service.start()
    # After the start: recovery would end sessions whose servers are only in the store.
    await fill(database, count)
    listener = Listener(service.app, bind("127.0.0.1", 0, "--port"), None)

    @get("/hello")
    async def hello() -> dict[str, str]:
        return {"hello": "world"}

    bare = Listener(Litestar([hello], openapi_config=None, logging_config=None), bind("127.0.0.1", 0, "--port"), None)
    await listener.start()
    await bare.start()
    gc.collect()
    gc.freeze()  # as the service does
    print(json.dumps({"port": listener.port, "bare": bare.port, "key": key}), flush=True)
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


async def measure(port: int, make: Request, count: int, expected: int) -> list[float]:
    """Ask ``count`` times over all connections; the seconds of each, from the request to the end of the answer."""

    async def ask(connection: Connection, number: int) -> None:
        request = make(number)
        status, body = await connection.ask(request)
        if status != expected:
            raise RuntimeError(f"{request.split(b' HTTP')[0]!r} was answered with {status}: {body[:300]!r}")

    return await repeat(port, count, ask)


async def repeat(port: int, count: int, act: Callable[[Connection, int], Awaitable[None]]) -> list[float]:
    """Do something ``count`` times over all connections; the seconds of each, and last of all of them together."""
    times: list[float] = []
    numbers = iter(range(count))

    async def work() -> None:
        async with Connection(port) as connection:
            for number in numbers:
                begun = time.perf_counter()
                await act(connection, number)
                times.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(work())
    return [*times, time.perf_counter() - begun]


class Subject:
    """One running service, and what was measured of it."""

    def __init__(self, process: subprocess.Popen[str], count: int) -> None:
        assert process.stdout is not None
        self.count = count
        self.times: Times = {name: [] for name in REQUESTS}
        ports = json.loads(process.stdout.readline())
        self._port, self._bare = ports["port"], ports["bare"]
        self._pair = f"{ACCOUNT}:{ports['key']}"
        self._token = ""

    def _at(self, rest: str) -> str:
        return f"/accounts/{ACCOUNT}/sessions{rest}?api-version=2021-01-01"

    async def round(self, *, kept: bool) -> None:
        """Some requests of each kind; the first round, which warms everything, is not ``kept``."""
        run = uuid.uuid4().hex[:8]
        token_request = compose("GET", f"/Accounts/{ACCOUNT}/token", self._pair)
        async with Connection(self._port) as connection:
            _, body = await connection.ask(token_request)
        token = json.loads(body)["AccessToken"]
        settings = b'{"maxLeaseTimeMinutes":10,"size":"Standard"}'
        hello, page = compose("GET", "/hello"), compose("GET", self._at(""), token)

        async def lease(connection: Connection, number: int) -> None:
            path = self._at(f"/{run}-lease-{number}")
            assert (await connection.ask(compose("PUT", path, token, settings)))[0] == 201
            _, body = await connection.ask(compose("GET", path, token))
            assert json.loads(body)["status"] == "Ready"
            stop = self._at(f"/{run}-lease-{number}/:stop")
            assert (await connection.ask(compose("POST", stop, token)))[0] == 204

        requests: dict[str, tuple[int, Request, int]] = {
            "hello": (self._bare, lambda _n: hello, 200),
            "token": (self._port, lambda _n: token_request, 200),
            "get": (
                self._port,
                lambda n: compose("GET", self._at(f"/old-{(n + len(self.times['get'])) * 7919 % self.count}"), token),
                200,
            ),
            "list": (self._port, lambda _n: page, 200),
            "create": (self._port, lambda n: compose("PUT", self._at(f"/{run}-{n}"), token, settings), 201),
            "stop": (self._port, lambda n: compose("POST", self._at(f"/{run}-{n}/:stop"), token), 204),
        }
        for name, (port, make, expected) in requests.items():
            times = await measure(port, make, REQUESTS[name], expected)
            if kept:
                self.times[name].append(times)
        times = await repeat(self._port, REQUESTS["lease"], lease)
        if kept:
            self.times["lease"].append(times)

    def result(self) -> dict[str, Any]:
        """Of each operation: how many a second over all rounds, and p50 and p99 of all requests, in milliseconds."""
        result: dict[str, Any] = {"active": active_of(self.count)}
        for name, rounds in self.times.items():
            times = sorted(second for times in rounds for second in times[:-1])
            result[name] = {
                "per_second": round(len(times) / sum(times[-1] for times in rounds), 1),
                "p50_ms": round(times[len(times) // 2] * 1000, 2),
                "p99_ms": round(times[int(len(times) * 0.99)] * 1000, 2),
                "requests": len(times),
            }
        percent = 100 * result["get"]["per_second"] / result["hello"]["per_second"]
        result["get_of_hello_percent"] = round(percent, 1)
        return result


async def ask_in_turns(subjects: list[Subject], rounds: int) -> None:
    """All rounds with all services; each round begins with another one."""
    for number in range(-1, rounds):
        for place in range(len(subjects)):
            await subjects[(number + place) % len(subjects)].round(kept=number >= 0)


@contextlib.contextmanager
def databases(counts: tuple[int, ...]) -> Iterator[dict[int, str]]:
    """The URL of an empty database for each number of sessions; empty for SQLite."""
    url = os.environ.get(DATABASE_VARIABLE, "")
    if not url:
        yield dict.fromkeys(counts, "")
        return
    with contextlib.ExitStack() as stack:
        if url == START_A_SERVER:
            from tests.postgresql import PostgresServer

            server = PostgresServer.start(settings=())
            stack.callback(server.stop)
            url = server.create_database()
        names = {count: f"farframe_bench_{uuid.uuid4().hex[:8]}_{count}" for count in counts}
        for name in names.values():
            asyncio.run(_administer(url, f"CREATE DATABASE {name}"))
            stack.callback(lambda name=name: asyncio.run(_administer(url, f"DROP DATABASE {name} WITH (FORCE)")))
        yield {count: urlunsplit(urlsplit(url)._replace(path=f"/{name}")) for count, name in names.items()}


async def _administer(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


def run(*, quick: bool) -> dict[str, Any]:
    """Measure with each number of sessions; prints a line an operation."""
    counts, rounds = (QUICK_COUNTS, QUICK_ROUNDS) if quick else (COUNTS, ROUNDS)
    report: dict[str, Any] = {"store": "postgresql" if os.environ.get(DATABASE_VARIABLE) else "sqlite"}
    with contextlib.ExitStack() as stack:
        urls = stack.enter_context(databases(counts))
        subjects = []
        for count in counts:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="farframe-bench-"))
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.control_plane", folder, str(count), urls[count]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            stack.callback(_end, process)
            subjects.append(Subject(process, count))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(ask_in_turns(subjects, rounds))
    for subject in subjects:
        result = report[str(subject.count)] = subject.result()
        print(f"  {subject.count} sessions ({result['active']} active)")
        for name in REQUESTS:
            line = result[name]
            print(
                f"    {name:8}{line['per_second']:9.1f}/s   p50 {line['p50_ms']:7.2f} ms   p99 {line['p99_ms']:7.2f} ms"
            )
        print(f"    get is {result['get_of_hello_percent']} % of hello")
    fewest, most = report[str(counts[0])], report[str(counts[-1])]
    ratios = {name: round(most[name]["p99_ms"] / fewest[name]["p99_ms"], 2) for name in REQUESTS}
    report["p99_most_to_fewest"] = ratios
    shown = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    print(f"  p99 with {counts[-1]} sessions by that with {counts[0]}: {shown}")
    return report


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as main_runner:
        main_runner.run(serve(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
