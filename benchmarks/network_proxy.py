"""A UDP proxy that is a bad network, by a seed: for machines whose kernel cannot be one (tc netem).

    python -m benchmarks.network_proxy     a process of its own, so that nobody else's work disturbs its timing

It speaks lines of JSON: ``{"server": [host, port], "weather": [...], "seed": 1}`` on standard input opens a path and is
answered with its port; ``{"begin": true}`` begins the weather (until then all passes at once); ``{"count": true}`` is
answered with counts. The end of the input ends it.

A datagram first meets loss (a pattern that depends only on the seed and on how many came before it), then a queue of
bounded length that drains at the cap, then delay and jitter; order is kept. All of it applies to what the server sends;
what the device sends meets loss, delay and jitter only, as on lines that are narrow one way.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
import select
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Address = tuple[str, int]

OVERHEAD_BYTES = 28
"""IPv4 and UDP, which the cap counts too."""

MAX_DATAGRAM_BYTES = 65536


@dataclass
class Condition:
    """How the line is from ``at`` seconds after the beginning on. ``loss`` is a share; ``burst`` the mean length of a
    run of lost datagrams (1: each by itself); ``bits_per_second`` 0 is no cap; ``down`` carries nothing."""

    at: float = 0.0
    loss: float = 0.0
    burst: float = 1.0
    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    bits_per_second: float = 0.0
    queue_seconds: float = 0.2
    down: bool = False


class LossPattern:
    """A Gilbert model of two states: nothing is lost in the good one, all is in the bad one. Seeded."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._bad = False

    def loses(self, loss: float, burst: float) -> bool:
        """Whether the next datagram is lost."""
        if loss <= 0:
            return False
        leave = 1 / max(burst, 1.0)
        enter = leave * loss / (1 - loss)
        if burst <= 1:
            return self._random.random() < loss
        self._bad = self._random.random() < (1 - leave if self._bad else enter)
        return self._bad


@dataclass
class Direction:
    """What one way has carried, and when its queue is empty."""

    pattern: LossPattern
    random: random.Random
    free_at: float = 0.0
    last_out: float = 0.0
    carried: int = 0
    carried_bytes: int = 0
    lost: int = 0
    overflowed: int = 0
    queue: list[float] = field(default_factory=list)

    def passes(self, size: int, condition: Condition, now: float, *, capped: bool) -> float | None:
        """When a datagram that comes now leaves the line; ``None`` when it does not."""
        if condition.down or self.pattern.loses(condition.loss, condition.burst):
            self.lost += 1
            return None
        at = now
        if capped and condition.bits_per_second:
            self.free_at = max(self.free_at, now)
            if self.free_at - now > condition.queue_seconds:
                self.overflowed += 1
                return None
            self.queue.append(self.free_at - now)
            self.free_at += (size + OVERHEAD_BYTES) * 8 / condition.bits_per_second
            at = self.free_at
        at += condition.delay_seconds
        if condition.jitter_seconds:
            at += self.random.expovariate(1 / condition.jitter_seconds)
        at = max(at, self.last_out)
        self.last_out = at
        self.carried += 1
        self.carried_bytes += size
        return at


class Proxy:
    """Between one device and one port of a server, on this machine."""

    def __init__(self, server: Address, weather: list[Condition], seed: int, clock: Callable[[], float]) -> None:
        self._server = server
        self._weather = sorted(weather, key=lambda condition: condition.at)
        self._clock = clock
        self._begun_at: float | None = None
        self._device: Address | None = None
        self.outside = self._socket()
        self.inside = self._socket()
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, bool, bytes]] = []
        self.to_device = Direction(LossPattern(seed), random.Random(seed + 1))
        self.to_server = Direction(LossPattern(seed + 2), random.Random(seed + 3))

    @staticmethod
    def _socket() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        made.bind(("127.0.0.1", 0))
        made.setblocking(False)
        return made

    @property
    def port(self) -> int:
        """Where the device sends to."""
        return int(self.outside.getsockname()[1])

    def begin(self) -> None:
        """From now on there is weather."""
        self._begun_at = self._clock()

    def _condition(self, now: float) -> Condition:
        if self._begun_at is None:
            return Condition()
        elapsed = now - self._begun_at
        current = Condition()
        for condition in self._weather:
            if condition.at <= elapsed:
                current = condition
        return current

    def receive(self, towards_server: bool) -> None:
        """Take what has come on one side."""
        source = self.outside if towards_server else self.inside
        while True:
            try:
                data, address = source.recvfrom(MAX_DATAGRAM_BYTES)
            except OSError:
                return
            if towards_server:
                self._device = address
            now = self._clock()
            direction = self.to_server if towards_server else self.to_device
            at = direction.passes(len(data), self._condition(now), now, capped=not towards_server)
            if at is not None:
                heapq.heappush(self._waiting, (at, next(self._order), towards_server, data))

    def deliver(self) -> float:
        """Send what is due; seconds until something else is."""
        while self._waiting:
            at, _, towards_server, data = self._waiting[0]
            wait = at - self._clock()
            if wait > 0:
                return wait
            heapq.heappop(self._waiting)
            target = self._server if towards_server else self._device
            if target is not None:
                try:
                    (self.inside if towards_server else self.outside).sendto(data, target)
                except OSError:
                    continue
        return 1.0

    def counts(self) -> dict[str, Any]:
        """What has happened so far."""
        queue = sorted(self.to_device.queue)
        return {
            "carried": self.to_device.carried,
            "carried_bytes": self.to_device.carried_bytes,
            "lost": self.to_device.lost,
            "overflowed": self.to_device.overflowed,
            "queue_p95_ms": round(queue[int(0.95 * len(queue))] * 1e3, 1) if queue else 0.0,
        }

    def close(self) -> None:
        """Close both sockets."""
        self.outside.close()
        self.inside.close()


def serve() -> None:
    """Follow the lines on standard input until they end."""
    proxy: Proxy | None = None
    line = b""
    while True:
        sockets = [proxy.outside, proxy.inside] if proxy is not None else []
        wait = proxy.deliver() if proxy is not None else 1.0
        ready, _, _ = select.select([sys.stdin.fileno(), *sockets], [], [], wait)
        if proxy is not None:
            if proxy.outside in ready:
                proxy.receive(True)
            if proxy.inside in ready:
                proxy.receive(False)
        if sys.stdin.fileno() not in ready:
            continue
        chunk = sys.stdin.buffer.raw.read(65536)  # type: ignore[attr-defined]
        if not chunk:
            return
        line += chunk
        while b"\n" in line:
            text, _, line = line.partition(b"\n")
            wish = json.loads(text)
            answer: dict[str, Any] = {}
            if "server" in wish:
                if proxy is not None:
                    proxy.close()
                weather = [Condition(**condition) for condition in wish["weather"]]
                proxy = Proxy((wish["server"][0], wish["server"][1]), weather, wish["seed"], time.monotonic)
                answer = {"port": proxy.port}
            elif "begin" in wish and proxy is not None:
                proxy.begin()
            elif "count" in wish and proxy is not None:
                answer = proxy.counts()
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
