"""A render server that only speaks the link: what the supervisor does is tested against real processes.

python fake_server.py BEHAVIOUR --link-fd N
good | crash-at-start | fail-at-start | never-ready | silent | stubborn | child
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time

import msgspec

from farframe.protocol.link import (
    Assign,
    DeviceState,
    Failed,
    Heartbeat,
    Hello,
    Release,
    ServerConfig,
    Superseded,
    ToSupervisor,
    decode_to_server,
    encode_line,
)


def main() -> int:
    behaviour, descriptor = sys.argv[1], int(sys.argv[3])
    config = msgspec.json.decode(sys.stdin.buffer.read(), type=ServerConfig)
    listener = socket.socket(fileno=descriptor)
    if behaviour == "crash-at-start":
        return 3
    link, _ = listener.accept()
    if behaviour == "fail-at-start":
        link.sendall(encode_line(Failed(code="NoPortAvailable", message="No free port was found.")))
        return 1
    if behaviour == "never-ready":
        time.sleep(600)
    if behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) if behaviour == "child" else None
    server = Server(listener, behaviour, child.pid if child else os.getpid(), config.orphan_timeout_seconds)
    server.take(link)
    return server.serve()


class Server:
    """The part after the start: one link at a time, the newest counts; ends when nobody comes back in time."""

    def __init__(self, listener: socket.socket, behaviour: str, pid: int, patience: float) -> None:
        self.listener, self.behaviour, self.pid, self.patience = listener, behaviour, pid, patience
        self.link: socket.socket | None = None
        self.session_key = ""
        self.buffered = b""
        self.lonely_since = time.monotonic()

    def take(self, link: socket.socket) -> None:
        if self.link is not None:
            self.say(Superseded())
            self.link.close()
        self.link, self.buffered = link, b""
        self.say(
            Hello(
                pid=self.pid,
                hostname="localhost",
                handshake_port=50001,
                inspector_port=50002,
                teraflops=0.1,
                adapter="fake",
                adapter_kind="cpu",
                encoder="fake",
                session_key=self.session_key,
            )
        )

    def say(self, message: ToSupervisor) -> None:
        if self.link is not None:
            # A link that is closed is noticed by whoever reads it, after what was said on it before.
            with contextlib.suppress(OSError):
                self.link.sendall(encode_line(message))

    def lose(self) -> None:
        if self.link is not None:
            self.link.close()
        self.link, self.lonely_since = None, time.monotonic()

    def serve(self) -> int:
        while True:
            if self.behaviour != "silent":
                self.say(Heartbeat(connected=False, frames_per_second=0.0, resident_bytes=0))
            sources = [self.listener] if self.link is None else [self.listener, self.link]
            readable, _, _ = select.select(sources, [], [], 0.5)
            if self.link is None and time.monotonic() - self.lonely_since > self.patience:
                return 0
            # What the former supervisor said last comes before the next one.
            if self.link is not None and self.link in readable and not self.listen():
                return 0
            if self.listener in readable:
                self.take(self.listener.accept()[0])

    def listen(self) -> bool:
        """Read the link; false when told to end."""
        assert self.link is not None
        try:
            data = self.link.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.lose()
            return True
        *lines, self.buffered = (self.buffered + data).split(b"\n")
        for line in lines:
            match decode_to_server(line):
                case Assign(session_id="dies"):
                    os.kill(os.getpid(), signal.SIGKILL)
                case Assign(session_key=key):
                    self.session_key = key
                case Release() if self.behaviour == "stubborn":
                    time.sleep(600)
                case Release(reason=reason):
                    self.say(DeviceState(connected=False, reason=reason))
                    return False
        return True


if __name__ == "__main__":
    sys.exit(main())
