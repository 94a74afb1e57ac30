"""Services in processes of their own that are killed, and everything that can be counted afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import select

from farframe.store.database import Database
from farframe.store.schema import sessions, usage_records

STUB_SERVICE = Path(__file__).with_name("stub_service.py")
VERSION = {"api-version": "2021-01-01"}
START_SECONDS = 90.0
FINAL = ("Stopped", "Expired", "Error")


class Replica:
    """One service on one data folder, started and killed again and again."""

    def __init__(self, folder: Path, database_url: str = "", **settings: str) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FARFRAME_")},
            "FARFRAME_DATA_DIR": str(folder),
            "FARFRAME_PORT": "0",
            "FARFRAME_HTTP_PORT": "0",
            "FARFRAME_SERVERS": "standard=40,premium=40",
            "FARFRAME_LOG_FORMAT": "json",
            "FARFRAME_ORPHAN_TIMEOUT_SECONDS": "60",
            **({"FARFRAME_DATABASE_URL": database_url} if database_url else {}),
            **settings,
        }
        self.log_path = folder.with_name(f"{folder.name}.log")
        self.process: asyncio.subprocess.Process | None = None
        self.connection: dict[str, str] = {}
        self.headers: dict[str, str] = {}

    async def start(self) -> None:
        """Start it; returns when it serves."""
        with self.log_path.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, str(STUB_SERVICE), env=self.environment, stdout=asyncio.subprocess.PIPE, stderr=log
            )
        assert self.process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            line = await self.process.stdout.readline()
        assert line.startswith(b"Console: "), self.log_path.read_text()[-4000:]
        self.connection = json.loads((self.folder / "connection.json").read_text())
        if not self.headers:
            account, key = self.connection["accountId"], self.connection["accountKey"]
            async with self.client() as client:
                answer = await client.get(
                    f"/Accounts/{account}/token", headers={"Authorization": f"Bearer {account}:{key}"}
                )
            assert answer.status_code == 200, answer.text
            self.headers = {"Authorization": f"Bearer {answer.json()['AccessToken']}"}

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.connection["httpUrl"], headers=self.headers, params=VERSION, trust_env=False, timeout=60
        )

    async def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        await self.process.communicate()

    async def terminate(self) -> None:
        """SIGTERM, as when a machine is shut down."""
        assert self.process is not None
        self.process.terminate()
        async with asyncio.timeout(60):
            await self.process.communicate()
        assert self.process.returncode == 0, self.log_path.read_text()[-4000:]

    def servers(self) -> list[psutil.Process]:
        """The servers of this data folder that live, whoever their parent is."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if (
                    process.status() != psutil.STATUS_ZOMBIE
                    and any("fake_server.py" in part for part in process.cmdline())
                    and process.environ().get("FARFRAME_DATA_DIR") == str(self.folder)
                ):
                    found.append(process)
        return found

    def clean_up(self) -> None:
        """Whatever a failed test left."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
        for process in self.servers():
            with contextlib.suppress(psutil.Error):
                process.kill()


class Load:
    """Callers who create, extend, ask for and stop sessions, and remember what they were answered."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.count = 0
        self.tried: dict[str, dict[str, Any]] = {}
        """Settings of every session that somebody asked for."""
        self.answered: dict[str, str] = {}
        """The creation time of every session whose creation was answered."""
        self.stopped: set[str] = set()
        """Sessions whose end was answered."""
        self.stopping: set[str] = set()
        self.settled: set[str] = set()
        """Sessions that were seen stopped after a restart."""

    async def run(self, replica: Replica) -> None:
        """One caller, until it is cancelled or the service is gone."""
        base = f"/accounts/{replica.connection['accountId']}/sessions"
        async with replica.client() as client:
            with contextlib.suppress(httpx.HTTPError):
                while True:
                    await self._act(client, base)
                    await asyncio.sleep(self.random.uniform(0.0, 0.1))

    async def _act(self, client: httpx.AsyncClient, base: str) -> None:
        living = sorted(set(self.answered) - self.stopping)
        choice = self.random.random()
        if len(living) < 6 and choice < 0.6:
            self.count += 1
            name = f"s{self.count}"
            self.tried[name] = {"maxLeaseTimeMinutes": 60, "size": self.random.choice(["Standard", "Premium"])}
            answer = await client.put(f"{base}/{name}", json=self.tried[name])
            if answer.status_code == 201:
                self.answered[name] = answer.json()["creationTime"]
            else:
                assert answer.status_code == 429, answer.text
                del self.tried[name]
        elif living and choice < 0.8:
            name = self.random.choice(living)
            self.stopping.add(name)
            answer = await client.post(f"{base}/{name}/:stop")
            if answer.status_code == 204:
                self.stopped.add(name)
        elif living:
            answer = await client.get(f"{base}/{self.random.choice(living)}")
            assert answer.status_code in (200, 429), answer.text

    async def check_answers(self, replica: Replica, *, everything: bool = False) -> None:
        """After a restart: nothing that was answered is lost, doubled or alive again.

        Sessions that were seen stopped before are asked for with ``everything`` only: or a long test would ask for more
        and more of them each time, and wait for the rate limit.
        """
        base = f"/accounts/{replica.connection['accountId']}/sessions"
        async with replica.client() as client:
            for name, settings in self.tried.items():
                if name in self.settled and not everything:
                    continue
                answer = await patiently(lambda name=name: client.get(f"{base}/{name}"))  # type: ignore[misc]
                if answer.status_code == 404:
                    assert name not in self.answered, f"{name} was answered and is lost"
                    continue
                session = answer.json()
                assert session["status"] != "Error", session
                if name in self.answered:
                    assert session["creationTime"] == self.answered[name]
                else:
                    self.answered[name] = session["creationTime"]
                if name in self.stopped:
                    assert session["status"] == "Stopped"
                elif name not in self.stopping:
                    assert session["status"] in ("Starting", "Ready")
                    assert session["size"] == settings["size"]
                elif session["status"] != "Stopped":
                    # The service died before it stopped it. It is stopped again, lest such sessions take all places.
                    assert session["status"] in ("Starting", "Ready")
                    self.stopping.discard(name)
                if session["status"] == "Stopped":
                    self.settled.add(name)
            self.tried = {name: value for name, value in self.tried.items() if name in self.answered}


async def patiently(call: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """The answer, waiting where the service asks to."""
    while (answer := await call()).status_code == 429:
        await asyncio.sleep(float(answer.headers["Retry-After"]))
    return answer


async def until(condition: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
    """Wait for a condition."""
    try:
        async with asyncio.timeout(seconds):
            while not await condition():
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} s: {what}") from None


async def rows_of(source: Path | str) -> list[Any]:
    """All sessions in the store."""
    database = await Database.open_empty(source)
    try:
        async with database.read() as connection:
            return list(await connection.execute(select(sessions)))
    finally:
        await database.close()


async def check_books(source: Path | str) -> None:
    """All sessions have ended, and each that was ever ready is billed once, from its first ready moment to its end."""
    database = await Database.open_empty(source)
    try:
        async with database.read() as connection:
            ended = list(await connection.execute(select(sessions)))
            records = list(await connection.execute(select(usage_records).where(usage_records.c.kind == "session")))
    finally:
        await database.close()
    assert all(row.status in FINAL for row in ended)
    billed = [(record.source_key, record.started_at, record.ended_at) for record in records]
    owed = [(row.key, row.ready_at, row.ended_at) for row in ended if row.ready_at is not None]
    assert sorted(billed) == sorted(owed)
