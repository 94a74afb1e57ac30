"""Packets that nobody who means well sends, at the media port of a connected device."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
import pytest
from aioice import stun

from farframe.stream.aiortc_hooks import (
    MAX_LEARNED_CANDIDATES,
    MAX_UNPROVEN_ADDRESSES,
    MAX_UNREAD_DATAGRAMS,
    UNPROVEN_FACTOR,
    UnprovenAddresses,
)
from farframe.stream.receiver import DecodedFrame
from tests.stream.hostile import (
    Stranger,
    attack_as_strangers,
    attack_as_the_device,
    kind_of,
    misbehave_as_the_device,
    server_address,
    tap,
)

Connect = Callable[..., Awaitable[Any]]
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]

SOAK = os.environ.get("FARFRAME_SOAK", "") not in ("", "0")
PACKETS = 20_000 if SOAK else 1_000
SOURCES = 24 if SOAK else 6
PATIENCE_SECONDS = 60
pytestmark = pytest.mark.timeout(900)
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1, 5))]


def server_state(pair: Any) -> dict[str, int]:
    """What could grow."""
    connection = pair.device._transport._connection
    return {
        "tasks": len(asyncio.all_tasks()),
        "files": psutil.Process().num_fds(),
        "pairs": len(connection._check_list),
        "candidates": len(connection._remote_candidates),
        "unproven": len(connection.unproven._allowances),
        "transactions": sum(len(protocol.transactions) for protocol in connection._protocols),
    }


async def captured_of(pair: Any, eventually: Eventually) -> list[bytes]:
    """Real packets of the device, of every kind."""
    heard = tap(pair.receiver._transport)

    def enough() -> bool:
        pair.receiver.request_keyframe()
        pair.receiver.send_pose(b"\1pose")
        return {"stun", "dtls", "srtcp"} <= {kind_of(packet) for packet in heard.packets}

    await eventually(enough)
    return heard.packets


async def goes_on(pair: Any, frames: list[DecodedFrame]) -> None:
    """Until the device has shown ten more pictures."""
    seen = len(frames)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(frames) < seen + 10:
            await pair.send(1, interval=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
async def test_strangers_get_nothing_out_of_the_port_and_nothing_grows(
    connect: Connect, eventually: Eventually, seed: int
) -> None:
    frames: list[DecodedFrame] = []
    pair = await connect(on_frame=frames.append)
    await pair.send(5)
    captured = await captured_of(pair, eventually)
    before = server_state(pair)
    target = server_address(pair.receiver._transport)
    traffic = await attack_as_strangers(target, captured, count=PACKETS, sources=SOURCES, seed=seed)
    for one in traffic:
        assert one.sent > 100_000
        assert one.returned <= UNPROVEN_FACTOR * one.sent
        assert set(one.kinds) <= {"stun"}, "media and DTLS go to the consented pair alone"
    # Replayed checks are answered, for they know the password; but only so many addresses are looked at.
    assert sum(one.returned for one in traffic) < sum(one.sent for one in traffic)
    after = server_state(pair)
    assert after["pairs"] <= before["pairs"] + MAX_LEARNED_CANDIDATES
    assert after["candidates"] <= before["candidates"] + MAX_LEARNED_CANDIDATES
    assert after["unproven"] <= MAX_UNPROVEN_ADDRESSES
    assert after["files"] == before["files"]
    await goes_on(pair, frames)
    # The checks of what the replays made us look at end, and their tasks with them.
    async with asyncio.timeout(PATIENCE_SECONDS):
        while server_state(pair)["tasks"] > before["tasks"] or server_state(pair)["transactions"] > 1:
            await asyncio.sleep(0.2)
    assert pair.handler.closed == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
async def test_forged_packets_of_the_device_neither_end_nor_slow_its_stream(
    connect: Connect, eventually: Eventually, seed: int
) -> None:
    frames: list[DecodedFrame] = []
    pair = await connect(on_frame=frames.append)
    await pair.send(5)
    captured = await captured_of(pair, eventually)
    before = server_state(pair)
    await attack_as_the_device(pair.receiver._transport, captured, count=PACKETS, seed=seed)
    await goes_on(pair, frames)
    assert pair.handler.closed == []
    pair.device.send_control("still here")
    await eventually(lambda: pair.device._transport._connection._queue.qsize() == 0)
    after = server_state(pair)
    assert after["files"] == before["files"]
    assert after["pairs"] == before["pairs"]
    assert after["tasks"] <= before["tasks"] + 1  # a consent check may be under way


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_device_with_all_its_keys_harms_nobody_but_itself(connect: Connect, seed: int) -> None:
    good_frames: list[DecodedFrame] = []
    good = await connect(on_frame=good_frames.append)
    bad = await connect()
    await good.send(3)
    await misbehave_as_the_device(bad.receiver._transport, count=PACKETS, seed=seed)
    await goes_on(good, good_frames)
    assert good.handler.closed == []
    await bad.close()
    assert bad.device._transport._connection._queue.qsize() < MAX_UNREAD_DATAGRAMS


async def test_after_the_device_has_gone_nobody_answers(connect: Connect, eventually: Eventually) -> None:
    pair = await connect()
    captured = await captured_of(pair, eventually)
    target = server_address(pair.receiver._transport)
    await pair.receiver.close()
    await pair.device.close()
    traffic = await attack_as_strangers(target, captured, count=100, sources=2, seed=5)
    assert [one.returned for one in traffic] == [0, 0]


def binding_request(username: str, password: str) -> bytes:
    """A check, as a device makes it."""
    message = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    message.attributes["USERNAME"] = username
    message.attributes["PRIORITY"] = 1
    message.attributes["ICE-CONTROLLING"] = 1
    message.add_message_integrity(password.encode())
    return bytes(message)


async def returned(stranger: Stranger) -> int:
    """What has come back after a while in which it would have."""
    await asyncio.sleep(0.3)
    stranger.collect()
    return stranger.traffic.returned


async def test_ice_answers_only_who_knows_the_credentials(connect: Connect) -> None:
    pair = await connect()
    connection = pair.device._transport._connection
    names = f"{connection.local_username}:{connection.remote_username}"
    target = server_address(pair.receiver._transport)
    wrong = Stranger(target)
    wrong.send(binding_request(names, "not the password"))
    wrong.send(binding_request("some:body", connection.local_password))
    wrong.send(b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12))
    assert await returned(wrong) == 0
    right = Stranger(target)
    right.send(binding_request(names, connection.local_password))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await returned(right):
            pass
    assert right.traffic.factor <= UNPROVEN_FACTOR
    wrong.close()
    right.close()


async def test_one_replayed_check_is_not_worth_more_than_three_times_itself(connect: Connect) -> None:
    """aioice repeats an unanswered check for half a minute: eight times what one datagram with a forged source cost."""
    pair = await connect()
    connection = pair.device._transport._connection
    names = f"{connection.local_username}:{connection.remote_username}"
    stranger = Stranger(server_address(pair.receiver._transport))
    stranger.send(binding_request(names, connection.local_password))
    for _ in range(40):
        await asyncio.sleep(0.1)
        stranger.collect()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while stranger.traffic.kinds.get("stun", 0) < 2:
            await returned(stranger)
    assert stranger.traffic.kinds.get("stun", 0) >= 2, "an answer and a check"
    assert stranger.traffic.factor <= UNPROVEN_FACTOR
    stranger.close()


async def test_consent_is_not_renewed_by_packets_that_anybody_can_forge(connect: Connect) -> None:
    pair = await connect()
    connection = pair.device._transport._connection
    own = pair.receiver._transport._connection._nominated[1]
    consented = connection.consented_at
    heard = connection.last_heard
    own.protocol.transport.sendto(b"\x80" + bytes(40), own.remote_addr)
    own.protocol.transport.sendto(b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12), own.remote_addr)
    async with asyncio.timeout(60):
        while connection.last_heard == heard:
            await asyncio.sleep(0.005)
    assert connection.consented_at == consented or connection.round_trip_seconds > 0
    async with asyncio.timeout(60):
        while connection.consented_at == consented:  # the device's own answer does
            await asyncio.sleep(0.02)


async def test_a_flood_before_the_connection_is_made_is_not_kept(make_handler: Any) -> None:
    from farframe.stream.device import DeviceTransport, TransportConfig
    from farframe.stream.receiver import ReceiverTransport

    receiver = ReceiverTransport(bind_host="127.0.0.1")
    device = await DeviceTransport.accept(await receiver.create_offer(), TransportConfig(), make_handler())
    connection = device._transport._connection
    candidate = connection.local_candidates[0]
    stranger = Stranger((candidate.host, candidate.port))
    choose = random.Random(3)
    for number in range(2000):
        stranger.send(bytes([choose.choice([22, 128, 200])]) + choose.randbytes(1000))
        if number % 50 == 0:
            await asyncio.sleep(0)
    await asyncio.sleep(0.2)
    assert connection._queue.qsize() == 0
    await receiver.accept_answer(device.answer_sdp)
    stranger.close()
    await receiver.close()
    await device.close()


def test_an_unproven_address_is_sent_three_times_what_it_sent_and_only_the_newest_are_remembered() -> None:
    addresses = UnprovenAddresses()
    assert not addresses.may_send(("192.0.2.1", 1), 1)
    addresses.received(("192.0.2.1", 1), 100)
    assert addresses.may_send(("192.0.2.1", 1), 200)
    assert addresses.may_send(("192.0.2.1", 1), 100)
    assert not addresses.may_send(("192.0.2.1", 1), 1)
    for port in range(1000):
        addresses.received(("192.0.2.2", port), 100)
    assert len(addresses._allowances) <= MAX_UNPROVEN_ADDRESSES
    assert addresses.may_send(("192.0.2.2", 999), 300)
    assert not addresses.may_send(("192.0.2.2", 0), 1)
