"""Ports for servers that must be told theirs and cannot say which one the system gave them."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_LOWEST = 15_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def quiet_port(host: str = "127.0.0.1") -> int:
    """A port that is free on TCP and UDP, and that nobody gets from the system who asks for any.

    A port that was asked for and given back can be somebody else's before it is used: by a socket that leaves from it,
    by a server beside. So it is none of those that the system gives away, and chosen by chance among the others.
    """
    source = random.SystemRandom()
    highest = int(_RANGE.read_text().split()[0]) - 1
    for _ in range(100):
        port = source.randint(_LOWEST, highest)
        if all(_is_free(host, port, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)):
            return port
    raise AssertionError(f"no port from {_LOWEST} to {highest} is free")


def _is_free(host: str, port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(type=kind) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
