"""A server's transport and the Python receiver, over real sockets on loopback."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
import pytest

from farframe.protocol.errors import FarframeError, Result
from farframe.stream.aiortc_hooks import bind_udp
from farframe.stream.device import DeviceTransport, TransportConfig
from farframe.stream.packets import RtpPacket
from farframe.stream.receiver import DecodedFrame, ReceiverTransport

Connect = Callable[..., Awaitable[Any]]
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


def udp_sockets() -> int:
    return len(psutil.Process().net_connections(kind="udp"))


async def test_frames_arrive_in_order_under_their_time_stamps(connect: Connect, eventually: Eventually) -> None:
    frames: list[DecodedFrame] = []
    pair = await connect(on_frame=frames.append)
    await pair.send(60)
    await eventually(lambda: len(frames) == 60)
    assert [frame.rtp_timestamp for frame in frames] == pair.sent
    assert (frames[-1].picture.width, frames[-1].picture.height) == (640, 360)
    assert frames[0].picture.key_frame
    assert not any(frame.picture.key_frame for frame in frames[1:])
    assert all(frame.decoded_at >= frame.received_at for frame in frames)
    assert pair.receiver.statistics.packets_received > 120, "frames must take several packets each to test anything"
    assert pair.device.backlog == 0


async def test_time_stamps_wrap_as_the_frames_do(connect: Connect, eventually: Eventually) -> None:
    frames: list[DecodedFrame] = []
    pair = await connect(on_frame=frames.append)
    await pair.send(6, pts_step=1 << 31)
    await eventually(lambda: len(frames) == 6)
    assert [frame.rtp_timestamp for frame in frames] == [0, 1 << 31] * 3


async def test_the_iterator_yields_the_newest_frames_and_ends_with_the_connection(
    connect: Connect, eventually: Eventually
) -> None:
    pair = await connect()
    seen: list[int] = []

    async def read() -> None:
        async for frame in pair.receiver.frames():
            seen.append(frame.rtp_timestamp)

    reading = asyncio.create_task(read())
    await pair.send(20, interval=0.02)
    await eventually(lambda: bool(seen))
    await pair.device.close()
    await asyncio.wait_for(reading, 60)
    assert seen and seen == sorted(seen) and set(seen) <= set(pair.sent)


async def test_messages_travel_both_ways(connect: Connect, eventually: Eventually) -> None:
    controls: list[str] = []
    records: list[bytes] = []
    pair = await connect(on_control=controls.append, on_frame_record=records.append)
    pair.device.send_control("from the server: ä")
    pair.receiver.send_control("from the device" * 5000)
    await eventually(lambda: pair.receiver.send_pose(b"\1pose"))
    await eventually(lambda: bool(pair.handler.poses and pair.handler.controls and controls))
    assert controls == ["from the server: ä"]
    assert pair.handler.controls == ["from the device" * 5000]
    assert pair.handler.poses[0] == b"\1pose"

    def record_arrives() -> bool:
        pair.device.send_frame_record(b"\2frame")
        return bool(records)

    await eventually(record_arrives)
    assert records[0] == b"\2frame"


async def test_messages_sent_before_the_channel_opens_are_kept(eventually: Eventually, make_handler: Any) -> None:
    controls: list[str] = []
    receiver = ReceiverTransport(bind_host="127.0.0.1", on_control=controls.append)
    device = await DeviceTransport.accept(await receiver.create_offer(), TransportConfig(), make_handler())
    device.send_control("welcome")
    device.send_control("again")
    device.send_frame_record(b"too early")
    await receiver.accept_answer(device.answer_sdp)
    await eventually(lambda: len(controls) == 2)
    assert controls == ["welcome", "again"]
    await receiver.close()
    await device.close()


async def test_a_message_larger_than_the_device_takes_is_refused(connect: Connect) -> None:
    pair = await connect()
    with pytest.raises(FarframeError) as caught:
        pair.device.send_control("x" * 300_000)
    assert caught.value.result is Result.NOT_SUPPORTED


async def test_garbage_on_every_channel_reaches_the_handler_and_harms_nothing(
    connect: Connect, eventually: Eventually
) -> None:
    frames: list[DecodedFrame] = []
    pair = await connect(on_frame=frames.append)
    channels = pair.receiver._channels
    await eventually(lambda: all(channel.readyState == "open" for channel in channels.values()))
    channels["control"].send(b"\xff\xfe\x00")
    channels["pose"].send("text, not a record")
    channels["frames"].send(b"\x00" * 2000)
    # A string message that is no UTF-8, which aiortc's own sending would not let through.
    await channels["control"].transport._send(channels["control"].id, 51, b"\xff\xff")
    pair.receiver._transport.send_rtcp(b"\x81\xce\x00\x09garbage")
    pair.receiver._transport.send_rtcp(b"\x8f\xce\x00\x03" + b"REMB" + b"\xff" * 8)
    pair.receiver.send_control("still here")
    await eventually(lambda: "still here" in pair.handler.controls)
    assert pair.handler.controls[0] == "��\0"
    assert pair.handler.poses == [b"text, not a record"]
    await pair.send(5)
    await eventually(lambda: len(frames) == 5)
    assert pair.handler.closed == []


async def test_a_keyframe_comes_after_it_was_asked_for(connect: Connect, eventually: Eventually) -> None:
    frames: list[DecodedFrame] = []
    pair = await connect(on_frame=frames.append)
    await pair.send(10)
    await eventually(lambda: len(frames) == 10)
    pair.receiver.request_keyframe()
    pair.receiver.request_keyframe()
    await eventually(lambda: pair.handler.keyframe_requests > 0)
    await pair.send(10)
    await eventually(lambda: len(frames) == 20)
    assert [i for i, frame in enumerate(frames) if frame.picture.key_frame] == [0, 10]


async def test_every_seventh_packet_lost_is_made_good_by_retransmission(
    connect: Connect, eventually: Eventually
) -> None:
    frames: list[DecodedFrame] = []
    count = 0

    def lose(packet: RtpPacket) -> bool:
        nonlocal count
        if packet.payload_type == 102:
            count += 1
        return packet.payload_type != 102 or count % 7 != 0

    pair = await connect(on_frame=frames.append, packet_filter=lose)
    await pair.send(60, interval=0.02)
    await pair.send(1)  # shows the loss of what was last
    await eventually(lambda: len(frames) >= 60)
    assert [frame.rtp_timestamp for frame in frames][:60] == pair.sent[:60]
    statistics = pair.device.statistics
    assert statistics.packets_retransmitted >= count // 7 - 2
    assert statistics.keyframes_asked_for == 0


async def test_a_packet_that_never_comes_is_made_good_by_a_keyframe(connect: Connect, eventually: Eventually) -> None:
    frames: list[DecodedFrame] = []
    doomed: set[int] = set()

    def lose(packet: RtpPacket) -> bool:
        if packet.timestamp == 5 * 3000 and packet.payload_type == 102 and not doomed:
            doomed.add(packet.sequence_number)
        lost = packet.sequence_number if packet.payload_type == 102 else int.from_bytes(packet.payload[:2], "big")
        return lost not in doomed

    pair = await connect(on_frame=frames.append, packet_filter=lose)

    async def recover() -> None:
        while not any(frame.picture.key_frame for frame in frames[1:]):
            await pair.send(1, interval=0.02)

    await asyncio.wait_for(recover(), 60)
    again = next(frame for frame in frames[1:] if frame.picture.key_frame)
    assert [frame.rtp_timestamp for frame in frames if frame.rtp_timestamp < again.rtp_timestamp] == pair.sent[:5]
    assert pair.device.statistics.keyframes_asked_for >= 1


async def test_frames_before_the_first_keyframe_go_nowhere(connect: Connect, eventually: Eventually) -> None:
    frames: list[DecodedFrame] = []
    pair = await connect(on_frame=frames.append)
    pair.encoder.encode(pair_picture(pair), 0)  # the encoder's first keyframe is lost
    late = pair.encoder.encode(pair_picture(pair), 3000)
    assert not late.keyframe
    pair.device.send_video(late)
    await eventually(lambda: pair.handler.keyframe_requests > 0)
    pair.device.send_video(pair.encoder.encode(pair_picture(pair), 6000, keyframe=True))
    await eventually(lambda: len(frames) == 1)
    assert frames[0].rtp_timestamp == 6000


def pair_picture(pair: Any) -> Any:
    import numpy as np

    return np.zeros((pair.encoder.height, pair.encoder.width, 4), np.uint8)


async def test_a_silent_but_living_device_is_heard(connect: Connect, eventually: Eventually) -> None:
    pair = await connect()
    for _ in range(3):
        heard = pair.device.last_heard
        await eventually(lambda heard=heard: pair.device.last_heard > heard)  # type: ignore[misc]


async def test_a_device_that_vanishes_is_heard_no_more(connect: Connect, eventually: Eventually) -> None:
    pair = await connect()
    await pair.send(5)
    pair.receiver.abandon()

    def silent_for_long() -> bool:
        return time.monotonic() - pair.device.last_heard > 2.5

    await eventually(silent_for_long)
    assert pair.handler.closed == []
    await pair.device.close()


async def test_each_side_learns_that_the_other_ended(connect: Connect, eventually: Eventually) -> None:
    pair = await connect()
    await pair.receiver.close()
    await eventually(lambda: bool(pair.handler.closed))
    assert pair.handler.closed == [Result.DISCONNECT_REQUEST]
    reasons: list[str] = []
    other = await connect(on_closed=reasons.append)
    await other.device.close()
    await eventually(lambda: bool(reasons))
    assert reasons == [Result.DISCONNECT_REQUEST]
    assert other.handler.closed == [], "what the server closes itself, it need not be told"
    with pytest.raises(FarframeError):
        other.receiver.send_control("too late")
    assert other.receiver.send_pose(b"too late") is False


async def test_ports_come_from_the_range_and_the_given_address(connect: Connect) -> None:
    for _ in range(3):
        pair = await connect(config=TransportConfig("127.0.0.1", (), 52000, 52039))
        found = re.findall(r"a=candidate:\S+ 1 udp \d+ (\S+) (\d+) typ host", pair.device.answer_sdp)
        assert {host for host, _ in found} == {"127.0.0.1"}
        assert all(52000 <= int(port) <= 52039 for _, port in found)
        bound = {c.laddr.port for c in psutil.Process().net_connections(kind="udp")}
        assert int(found[0][1]) in bound


def test_a_taken_port_is_passed_over_and_a_full_range_says_so() -> None:
    taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    with pytest.raises(OSError, match="no UDP port"):
        bind_udp("127.0.0.1", port, port)
    low = port if port < 65535 else port - 1
    free = bind_udp("127.0.0.1", low, low + 1) if low == port else bind_udp("127.0.0.1", low, port)
    assert free.getsockname()[1] != port
    free.close()
    taken.close()


async def test_public_addresses_replace_the_bound_one(make_handler: Any) -> None:
    receiver = ReceiverTransport(bind_host="127.0.0.1")
    config = TransportConfig("127.0.0.1", ("203.0.113.7", "2001:db8::7"), 52000, 52099)
    device = await DeviceTransport.accept(await receiver.create_offer(), config, make_handler())
    assert set(re.findall(r"a=candidate:\S+ 1 udp \d+ (\S+)", device.answer_sdp)) == {"203.0.113.7"}
    assert "127.0.0.1 52" not in device.answer_sdp
    await device.close()
    await receiver.close()


async def test_public_addresses_of_another_kind_than_the_bound_one_are_refused(make_handler: Any) -> None:
    receiver = ReceiverTransport(bind_host="127.0.0.1")
    sockets = udp_sockets()
    config = TransportConfig("127.0.0.1", ("2001:db8::7",))
    offer = await receiver.create_offer()
    with pytest.raises(FarframeError, match="public address"):
        await DeviceTransport.accept(offer, config, make_handler())
    await receiver.close()
    assert udp_sockets() == sockets


async def test_all_interfaces_are_announced_for_the_unspecified_address(make_handler: Any) -> None:
    receiver = ReceiverTransport(bind_host="127.0.0.1")
    device = await DeviceTransport.accept(await receiver.create_offer(), TransportConfig("0.0.0.0"), make_handler())
    hosts = set(re.findall(r"a=candidate:\S+ 1 udp \d+ (\S+)", device.answer_sdp))
    assert hosts and "0.0.0.0" not in hosts
    await device.close()
    await receiver.close()


@pytest.mark.parametrize(
    "arguments",
    [("example.org",), ("127.0.0.1", ("name",)), ("127.0.0.1", (), 10, 5), ("127.0.0.1", (), 0, 0, ("turn:x",))],
)
def test_impossible_configurations_are_refused(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError):
        TransportConfig(*arguments)


async def test_nothing_stays_open_after_closing_or_failing(connect: Connect, make_handler: Any) -> None:
    gc.collect()
    sockets, tasks = udp_sockets(), len(asyncio.all_tasks())
    pair = await connect()
    await pair.send(5)
    assert udp_sockets() > sockets
    await pair.close()
    await pair.close()

    receiver = ReceiverTransport(bind_host="127.0.0.1")
    offer = await receiver.create_offer()
    with pytest.raises(FarframeError):
        await DeviceTransport.accept(offer.replace("H264", "H265"), TransportConfig(), make_handler())
    blocker = bind_udp("127.0.0.1", 0, 0)
    port = blocker.getsockname()[1]
    with pytest.raises(FarframeError) as caught:
        await DeviceTransport.accept(offer, TransportConfig("127.0.0.1", (), port, port), make_handler())
    assert caught.value.result is Result.FAIL
    blocker.close()
    abandoned = await DeviceTransport.accept(offer, TransportConfig(), make_handler())
    await asyncio.sleep(0)
    await abandoned.close()  # while it is connecting
    await receiver.close()
    assert udp_sockets() == sockets
    assert len(asyncio.all_tasks()) == tasks


def test_it_runs_on_uvloop_as_well(make_handler: Any) -> None:
    uvloop = pytest.importorskip("uvloop")
    import numpy as np

    from farframe.stream.encoder import H264Encoder

    async def main() -> list[int]:
        handler = make_handler()
        receiver = ReceiverTransport(bind_host="127.0.0.1")
        device = await DeviceTransport.accept(await receiver.create_offer(), TransportConfig(), handler)
        await receiver.accept_answer(device.answer_sdp)
        await asyncio.wait_for(handler.connected.wait(), 60)
        encoder = H264Encoder(320, 180, bitrate=1_000_000, max_bitrate=2_000_000)
        device.send_video(encoder.encode(np.zeros((180, 320, 4), np.uint8), 900))
        async with asyncio.timeout(60):
            seen = [frame.rtp_timestamp async for frame in _first(receiver)]
        await receiver.close()
        await device.close()
        encoder.close()
        return seen

    async def _first(receiver: ReceiverTransport) -> Any:
        async for frame in receiver.frames():
            yield frame
            return

    assert uvloop.run(main()) == [900]
