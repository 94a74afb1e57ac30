"""A render server that only speaks the link: what the supervisor does is tested against real processes.

python fake_server.py BEHAVIOUR --link-fd N
good | crash-at-start | fail-at-start | never-ready | silent | stubborn | child
"""

from __future__ import annotations

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
    decode_to_server,
    encode_line,
)


def main() -> int:
    behaviour, descriptor = sys.argv[1], int(sys.argv[3])
    msgspec.json.decode(sys.stdin.buffer.read(), type=ServerConfig)
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
    link.sendall(
        encode_line(
            Hello(
                pid=child.pid if child else os.getpid(),
                hostname="localhost",
                handshake_port=50001,
                inspector_port=50002,
                teraflops=0.1,
                adapter="fake",
                adapter_kind="cpu",
                encoder="fake",
            )
        )
    )
    buffered = b""
    while True:
        if behaviour != "silent":
            link.sendall(encode_line(Heartbeat(connected=False, frames_per_second=0.0, resident_bytes=0)))
        readable, _, _ = select.select([link], [], [], 0.5)
        if not readable:
            continue
        data = link.recv(65536)
        if not data:
            return 0
        buffered += data
        *lines, buffered = buffered.split(b"\n")
        for line in lines:
            match decode_to_server(line):
                case Assign(session_id="dies"):
                    os.kill(os.getpid(), signal.SIGKILL)
                case Release() if behaviour == "stubborn":
                    time.sleep(600)
                case Release(reason=reason):
                    link.sendall(encode_line(DeviceState(connected=False, reason=reason)))
                    return 0


if __name__ == "__main__":
    sys.exit(main())
