"""The stream over one WebSocket: what stands in its messages. ``docs/protocol.md`` shows the same for people.

Text messages are those of the ``control`` channel. Binary messages are records, told apart by their first byte: below
240 they are those of the data channels ``pose`` and ``frames``, three more take the place of RTP and RTCP.
All numbers are little-endian.

    picture: 12 bytes + H.264                      acknowledgement: 16 bytes          keyframe request: 4 bytes
    0  u8   type = 240                             0  u8   type = 241                 0  u8   type = 242
    1  u8   version = 1                            1  u8   version = 1                1  u8   version = 1
    2  u8   flags: 1 keyframe                      2  u16  0                          2  u16  0
    3  u8   0                                      4  u32  number of the newest
    4  u32  number, counts from 1                          picture that has arrived
    8  u32  RTP timestamp, 90 kHz                  8  u64  the device's clock then,
    12 ...  one access unit, Annex B                       microseconds

The upgrade names two subprotocols: :data:`SUBPROTOCOL`, and the token behind :data:`TOKEN_PREFIX`; a token never stands
in an address. A device that only watches adds :data:`WATCH_SUBPROTOCOL`, one that comes back its resume secret behind
:data:`RESUME_PREFIX`. A refusal is said inside: ``session.ending`` with the reason, then the close code 4000 +
HTTP status, because browsers do not show a page what an upgrade was refused with.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.messages import MAX_CONTROL_MESSAGE_BYTES
from farframe.protocol.records import RECORD_VERSION

SUBPROTOCOL = "farframe.1"
TOKEN_PREFIX = "farframe.bearer."  # noqa: S105 - says where a token stands
RESUME_PREFIX = "farframe.resume."
WATCH_SUBPROTOCOL = "farframe.watch"
FIRST_OWN_TYPE = 240
"""Records below this type are those of the data channels."""

PICTURE_TYPE = 240
ACKNOWLEDGEMENT_TYPE = 241
KEYFRAME_REQUEST_TYPE = 242
KEYFRAME_FLAG = 1

MAX_DEVICE_MESSAGE_BYTES = MAX_CONTROL_MESSAGE_BYTES
"""No message from a device is larger, as on the data channels."""

MAX_SERVER_MESSAGE_BYTES = 16 * 1024 * 1024
"""More than any access unit of the largest picture takes."""

CLOSE_CODE_BASE = 4000
"""Added to the HTTP status that a refusal would have: WebSocket close codes from 4000 on are the application's."""

NORMAL_CLOSE_CODES = frozenset({1000, 1001})
"""Said by whoever leaves in order: a device that is done, a page that is left."""

_PICTURE = struct.Struct("<BBBBII")
_ACKNOWLEDGEMENT = struct.Struct("<BBHIQ")
_KEYFRAME_REQUEST = struct.Struct("<BBH")


@dataclass(frozen=True, slots=True)
class PictureRecord:
    """One H.264 access unit (Annex B). ``number`` counts them from 1; ``rtp_timestamp`` has 32 bits at 90 kHz."""

    number: int
    rtp_timestamp: int
    keyframe: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The picture ``number`` and all before it have arrived, at ``device_time_us`` on the device's own clock."""

    number: int
    device_time_us: int


def subprotocols(token: str) -> list[str]:
    """What an upgrade names to be let in with ``token``."""
    return [SUBPROTOCOL, TOKEN_PREFIX + token]


def token_of(offered: Iterable[str]) -> str | None:
    """The token among the subprotocols that an upgrade names; empty without one, ``None`` if it asks for another
    protocol than this."""
    names = list(offered)
    if SUBPROTOCOL not in names:
        return None
    return next((name[len(TOKEN_PREFIX) :] for name in names if name.startswith(TOKEN_PREFIX)), "")


def resume_secret_of(offered: Iterable[str]) -> str:
    """The resume secret among the subprotocols that an upgrade names; empty without one."""
    return next((name[len(RESUME_PREFIX) :] for name in offered if name.startswith(RESUME_PREFIX)), "")


def encode_picture(record: PictureRecord) -> bytes:
    """The bytes of a picture record."""
    flags = KEYFRAME_FLAG if record.keyframe else 0
    head = _PICTURE.pack(
        PICTURE_TYPE, RECORD_VERSION, flags, 0, record.number & 0xFFFFFFFF, record.rtp_timestamp & 0xFFFFFFFF
    )
    return head + record.data


def decode_picture(data: bytes) -> PictureRecord:
    """A picture record from untrusted bytes. Raises :class:`FarframeError` for anything that is none."""
    if len(data) <= _PICTURE.size:
        raise _protocol_error("A picture record holds no picture.")
    _, _, flags, _, number, rtp_timestamp = _unpack(_PICTURE, data, PICTURE_TYPE, "picture")
    return PictureRecord(number, rtp_timestamp, bool(flags & KEYFRAME_FLAG), data[_PICTURE.size :])


def encode_acknowledgement(record: Acknowledgement) -> bytes:
    """The bytes of an acknowledgement."""
    return _ACKNOWLEDGEMENT.pack(
        ACKNOWLEDGEMENT_TYPE, RECORD_VERSION, 0, record.number & 0xFFFFFFFF, record.device_time_us
    )


def decode_acknowledgement(data: bytes) -> Acknowledgement:
    """An acknowledgement from untrusted bytes. Raises :class:`FarframeError` for anything that is none."""
    if len(data) != _ACKNOWLEDGEMENT.size:
        raise _protocol_error("An acknowledgement has 16 bytes.")
    _, _, _, number, device_time_us = _unpack(_ACKNOWLEDGEMENT, data, ACKNOWLEDGEMENT_TYPE, "acknowledgement")
    return Acknowledgement(number, device_time_us)


def encode_keyframe_request() -> bytes:
    """The bytes of a keyframe request."""
    return _KEYFRAME_REQUEST.pack(KEYFRAME_REQUEST_TYPE, RECORD_VERSION, 0)


def decode_keyframe_request(data: bytes) -> None:
    """Check a keyframe request from untrusted bytes. Raises :class:`FarframeError` for anything that is none."""
    if len(data) != _KEYFRAME_REQUEST.size:
        raise _protocol_error("A keyframe request has 4 bytes.")
    _unpack(_KEYFRAME_REQUEST, data, KEYFRAME_REQUEST_TYPE, "keyframe request")


def _unpack(layout: struct.Struct, data: bytes, kind: int, name: str) -> tuple[int, ...]:
    fields: tuple[int, ...] = layout.unpack_from(data)
    if fields[0] != kind:
        raise _protocol_error(f"Not a record of the kind {name}.")
    if fields[1] != RECORD_VERSION:
        raise FarframeError(
            Result.PROTOCOL_VERSION_MISMATCH,
            f"The {name} record has version {fields[1]}; this side speaks version {RECORD_VERSION}.",
            next_step="Update the older side.",
        )
    return fields


def _protocol_error(message: str) -> FarframeError:
    return FarframeError(Result.PROTOCOL_ERROR, message, next_step="See the record layouts in docs/protocol.md.")
