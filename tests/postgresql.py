"""A PostgreSQL server of the tests' own: in a temporary folder, on a Unix socket, ended by its process id."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil

START_SECONDS = 60.0
_VOLATILE = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_connections=200")
_USER = "postgres"
"""PostgreSQL refuses to run as root; its Debian package brings this user."""


def find_programs() -> Path | None:
    """The folder with ``initdb`` and ``postgres``, the newest version first."""
    named = shutil.which("initdb")
    candidates = [Path(named).resolve().parent] if named else []
    candidates += sorted(
        (path for path in Path("/usr/lib/postgresql").glob("*/bin")), key=lambda path: path.parent.name, reverse=True
    )
    return next((path for path in candidates if (path / "initdb").exists() and (path / "postgres").exists()), None)


def _identity() -> dict[str, object]:
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(_USER)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@dataclass
class PostgresServer:
    """A running server; each test makes its own databases in it."""

    folder: Path
    process: subprocess.Popen[bytes]
    programs: Path

    @classmethod
    def start(cls, settings: Sequence[str] = _VOLATILE) -> PostgresServer:
        """Make a cluster and start it, by default with settings for data that nobody needs after a crash."""
        programs = find_programs()
        if programs is None:
            raise RuntimeError("PostgreSQL is not installed: its programs initdb and postgres were not found")
        # Not below pytest's folders, which other users may not enter; short, for the socket's path.
        folder = Path(tempfile.mkdtemp(prefix="ffpg-"))
        identity = _identity()
        if identity:
            os.chown(folder, int(str(identity["user"])), int(str(identity["group"])))
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(folder)}
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", "farframe", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            **identity,  # type: ignore[call-overload]
        )
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(programs / "postgres", "-D", folder / "data", "-k", folder, "-c", "listen_addresses="),
                    *(part for setting in settings for part in ("-c", setting)),
                ],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **identity,  # type: ignore[call-overload]
            )
        server = cls(folder, process, programs)
        deadline = time.monotonic() + START_SECONDS
        while not server._ready():
            if process.poll() is not None or time.monotonic() > deadline:
                text = (folder / "log").read_text(errors="replace")
                server.stop()
                raise RuntimeError(f"PostgreSQL did not start:\n{text}")
            time.sleep(0.05)
        return server

    def create_database(self) -> str:
        """A new, empty database; returns its URL."""
        name = f"test_{uuid.uuid4().hex}"
        self._run("createdb", name)
        return f"postgresql://farframe@/{name}?host={quote(str(self.folder))}"

    def drop_database(self, url: str) -> None:
        """Remove a database, also one that is still in use."""
        self._run("dropdb", "--force", url.partition("?")[0].rpartition("/")[2])

    def stop(self) -> None:
        """End the server at once and remove its files."""
        children = []
        if self.process.poll() is None:
            children = psutil.Process(self.process.pid).children(recursive=True)
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        _, alive = psutil.wait_procs(children, timeout=5)
        for child in alive:
            child.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ready(self) -> bool:
        command = [self.programs / "pg_isready", "-q", "-h", self.folder]
        return subprocess.run(command, check=False).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self.programs / program, "-h", self.folder, "-U", "farframe", *arguments],
            check=True,
            capture_output=True,
        )
