"""Somebody who sends everything a media port may get, and counts what comes back. Seeded.

The packets are made from real ones: a tap on a connected device's own sockets keeps what it sends (STUN checks with
valid credentials, DTLS records, SRTP, SRTCP), and they are replayed, cut, flipped and mixed with noise. They come from
sockets of strangers, or from the device's own socket, as if somebody forged its address.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pylibsrtp

from farframe.stream.aiortc_hooks import MediaTransport

PER_TURN = 32
"""Packets between two turns of the event loop: more than a real line brings at once, less than its buffers hold."""


class Tap:
    """A datagram transport that remembers some of what it sends."""

    def __init__(self, transport: Any, keep: int = 400) -> None:
        self._transport = transport
        self._keep = keep
        self.packets: list[bytes] = []

    def sendto(self, data: bytes, address: Any = None) -> None:
        if len(self.packets) < self._keep:
            self.packets.append(bytes(data))
        self._transport.sendto(data, address)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def tap(media: MediaTransport) -> Tap:
    """Listen to what the device sends on the path that it uses."""
    protocol = media._connection._nominated[1].protocol
    protocol.transport = Tap(protocol.transport)
    return protocol.transport


def kind_of(packet: bytes) -> str:
    """By the first byte, RFC 7983."""
    if packet[0] <= 3:
        return "stun"
    if 20 <= packet[0] <= 63:
        return "dtls"
    return "srtcp" if 192 <= packet[1] <= 223 else "srtp"


def noise(choose: random.Random) -> bytes:
    """Random bytes that begin as one of the protocols does, some of plausible length."""
    first = choose.choice([0, 1, 3, 20, 22, 23, 63, 64, 128, 144, 191, 255])
    size = choose.choice([1, 2, 3, 4, 8, 12, 19, 20, 21, 40, 200, 1200, 1472])
    body = bytearray([first, *choose.randbytes(size - 1)])
    if first <= 3 and size >= 20:
        body[0:2] = choose.choice([b"\x00\x01", b"\x01\x01", b"\x01\x11", b"\x00\x11"])
        body[2:4] = (size - 20).to_bytes(2, "big")
        body[4:8] = b"\x21\x12\xa4\x42"
    if first == 22 and size >= 13:
        body[1:3] = b"\xfe\xfd"
        body[11:13] = (size - 13).to_bytes(2, "big")
    return bytes(body)


def stun_variants(choose: random.Random) -> Iterator[bytes]:
    """Well-formed binding requests without, and with wrong, credentials."""
    header = b"\x21\x12\xa4\x42" + choose.randbytes(12)
    yield b"\x00\x01\x00\x00" + header
    username = b"\x00\x06\x00\x08" + b"abcd:efg"
    yield b"\x00\x01" + len(username).to_bytes(2, "big") + header + username
    integrity = b"\x00\x08\x00\x14" + choose.randbytes(20)
    yield b"\x00\x01" + len(username + integrity).to_bytes(2, "big") + header + username + integrity
    long = b"\x80\x22\x04\xb0" + bytes(1200)
    yield b"\x00\x01" + len(long).to_bytes(2, "big") + header + long


def mutated(packet: bytes, choose: random.Random) -> bytes:
    """Replayed, truncated, extended, bit-flipped, or with another packet's beginning."""
    way = choose.randrange(6)
    if way == 0:
        return packet
    if way == 1:
        return packet[: choose.randrange(1, len(packet) + 1)]
    if way == 2:
        return packet + choose.randbytes(choose.randrange(1, 200))
    changed = bytearray(packet)
    for _ in range(choose.choice([1, 1, 1, 4, 40])):
        changed[choose.randrange(len(changed))] ^= 1 << choose.randrange(8)
    if way == 3:
        changed[0] = packet[0]  # still recognised as what it was
    return bytes(changed)


def hostile_packets(captured: list[bytes], count: int, choose: random.Random) -> Iterator[bytes]:
    """What is sent."""
    for number in range(count):
        if number % 3 == 0 or not captured:
            yield noise(choose)
        elif number % 50 == 1:
            yield from stun_variants(choose)
        else:
            yield mutated(choose.choice(captured), choose)


@dataclass
class Traffic:
    """Bytes of one stranger, and what came back, by kind."""

    sent: int = 0
    returned: int = 0
    kinds: dict[str, int] = field(default_factory=dict)

    @property
    def factor(self) -> float:
        return self.returned / max(self.sent, 1)


class Stranger:
    """A socket that has nothing to do with the connection."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.traffic = Traffic()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)

    def send(self, data: bytes) -> None:
        try:
            self._socket.sendto(data, self.target)
        except (ConnectionRefusedError, BlockingIOError):
            return
        self.traffic.sent += len(data)

    def collect(self) -> None:
        while True:
            try:
                data = self._socket.recv(65536)
            except (BlockingIOError, ConnectionRefusedError):
                return
            self.traffic.returned += len(data)
            kind = kind_of(data)
            self.traffic.kinds[kind] = self.traffic.kinds.get(kind, 0) + 1

    def close(self) -> None:
        self._socket.close()


def server_address(media: MediaTransport) -> tuple[str, int]:
    """Where the device's path leads."""
    address: tuple[str, int] = media._connection._nominated[1].remote_addr
    return address


async def attack_as_strangers(
    target: tuple[str, int], captured: list[bytes], *, count: int, sources: int, seed: int
) -> list[Traffic]:
    """Send ``count`` packets from each of so many sockets; what each sent and got, when nothing more comes."""
    choose = random.Random(seed)
    strangers = [Stranger(target) for _ in range(sources)]
    try:
        for stranger in strangers:
            for number, packet in enumerate(hostile_packets(captured, count, choose)):
                stranger.send(packet)
                if number % PER_TURN == PER_TURN - 1:
                    await asyncio.sleep(0.001)
                    stranger.collect()
        # STUN repeats a check for seconds: whoever is to be flooded by that would be now.
        for _ in range(30):
            await asyncio.sleep(0.1)
            for stranger in strangers:
                stranger.collect()
        return [stranger.traffic for stranger in strangers]
    finally:
        for stranger in strangers:
            stranger.close()


async def attack_as_the_device(media: MediaTransport, captured: list[bytes], *, count: int, seed: int) -> None:
    """Send ``count`` packets with the address of the device itself. None of them has its keys, but for replays."""
    choose = random.Random(seed)
    pair = media._connection._nominated[1]
    for number, packet in enumerate(hostile_packets(captured, count, choose)):
        pair.protocol.transport.sendto(packet, pair.remote_addr)
        if number % PER_TURN == PER_TURN - 1:
            await asyncio.sleep(0.001)


async def misbehave_as_the_device(media: MediaTransport, *, count: int, seed: int) -> None:
    """What a device with all its keys can do: encrypted RTCP, RTP and SCTP that are none."""
    choose = random.Random(seed)
    for number in range(count):
        if not media.connected:
            return
        garbage = choose.randbytes(choose.choice([1, 4, 11, 12, 13, 28, 60, 400, 1100]))
        way = number % 3
        # libsrtp itself will not encrypt all of it.
        if way == 0:
            with contextlib.suppress(pylibsrtp.Error):
                media.send_rtcp(bytes([0x80 | choose.randrange(32), choose.randrange(200, 207)]) + garbage + bytes(8))
        elif way == 1:
            with contextlib.suppress(pylibsrtp.Error):
                media.send_rtp(bytes([0x80 | choose.randrange(32), choose.randrange(128)]) + bytes(10) + garbage)
        else:
            sctp = bytearray(bytes(media._sctp._local_port.to_bytes(2, "big") * 2) + choose.randbytes(8) + garbage)
            await media._dtls._send_data(bytes(sctp))
        if number % PER_TURN == PER_TURN - 1:
            await asyncio.sleep(0.001)
