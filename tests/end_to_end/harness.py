"""A real service with real render servers, started and ended as a person would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

START_SECONDS = 120.0
STOP_SECONDS = 60.0
END_SECONDS = 60.0
"""Within which processes end whose service has ended."""


@dataclass
class RunningService:
    """A service in a process of its own, with its data folder."""

    process: subprocess.Popen[bytes]
    data_dir: Path
    log_path: Path

    @property
    def connection_path(self) -> Path:
        return self.data_dir / "connection.json"

    @property
    def connection(self) -> dict[str, str]:
        return json.loads(self.connection_path.read_text())

    def descendants(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def servers(self) -> list[psutil.Process]:
        """The render server processes that live."""
        found = []
        for process in self.descendants():
            try:
                if "farframe.server" in process.cmdline():
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def server_of(self, handshake_port: int) -> psutil.Process:
        """The render server that listens there."""
        for process in self.servers():
            try:
                sockets = process.net_connections("tcp")
            except psutil.NoSuchProcess:
                continue
            if any(item.laddr.port == handshake_port and item.status == psutil.CONN_LISTEN for item in sockets):
                return process
        raise AssertionError(f"no render server listens on port {handshake_port}")

    def kill(self) -> list[psutil.Process]:
        """kill -9, as a crash would; returns what it leaves behind."""
        left = self.descendants()
        self.process.kill()
        self.process.wait()
        return left

    def stop(self) -> None:
        """Ask it to end and see that nothing stays."""
        descendants = self.descendants()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"the service did not stop:\n{self.log()}") from None
        alive = still_running(descendants)
        for process in alive:
            process.kill()
        assert not alive, f"left running: {alive}\n{self.log()}"
        assert code == 0, self.log()

    def log(self) -> str:
        text = self.log_path.read_text(errors="replace")
        for path in sorted((self.data_dir / "logs").glob("server-*.log")):
            text += f"\n--- {path.name}\n" + path.read_text(errors="replace")[-4000:]
        return text[-12000:]


def still_running(processes: Iterable[psutil.Process], seconds: float = END_SECONDS) -> list[psutil.Process]:
    """Those of ``processes`` that have not ended within ``seconds``.

    One whose parent was killed stays listed until the machine's first process takes note, which is nobody's fault here.
    """
    left, deadline = list(processes), time.monotonic() + seconds
    while left := [process for process in left if _runs(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return left


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def start_service(data_dir: Path, *options: str, settings: dict[str, str] | None = None) -> RunningService:
    """``farframe up`` on free ports, with ``settings`` in its environment; returns when it serves."""
    data_dir.mkdir(parents=True, exist_ok=True)
    log_path = data_dir.parent / f"{data_dir.name}.log"
    connection_path = data_dir / "connection.json"
    before = connection_path.stat().st_mtime_ns if connection_path.exists() else None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FARFRAME_")}
    environment |= settings or {}
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "farframe.cli",
                "up",
                "--data",
                str(data_dir),
                "--port",
                "0",
                "--http-port",
                "0",
                *options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    service = RunningService(process, data_dir, log_path)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if connection_path.exists() and connection_path.stat().st_mtime_ns != before:
            return service
        if process.poll() is not None:
            raise AssertionError(f"the service ended with {process.returncode}:\n{service.log()}")
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"the service was not ready within {START_SECONDS:g} s:\n{service.log()}")


def spread(image: NDArray[np.uint8]) -> float:
    """How much there is to see: the standard deviation of brightness."""
    return float(image.mean(axis=2).std())


def difference(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """How much two pictures differ: mean absolute difference, 0 to 255."""
    return float(np.abs(first.astype(np.int16) - second.astype(np.int16)).mean())
