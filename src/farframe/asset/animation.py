"""Animations of a model's nodes: keys over time of translation, rotation and scale, in flat arrays, and their coding.

A *channel* is one of the three of one node in one *clip*. All channels of a clip lie one after the other in the same
arrays, so that whoever plays it looks at all of them at once. What is moved is part of the file's own hierarchy; meshes
do not bend.

    coded:  zlib of MessagePack, one :class:`_Coded`; arrays as little-endian bytes
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

TRANSLATION, ROTATION, SCALE = 0, 1, 2
"""What a channel moves; rotations are quaternions x, y, z, w."""
STEP, LINEAR, CUBIC = 0, 1, 2
"""How a channel goes from key to key. Of a cubic spline each key has three values: in-tangent, value, out-tangent."""

MAX_BYTES = 64 << 20
"""Of all clips of a model, coded or not."""
MAX_CLIPS = 4096
MAX_SECONDS = 1e6


@dataclass(slots=True)
class Clip:
    """A named animation of ``duration`` seconds. c channels, k keys, v values.

    ``row`` (c,) int32 of the node among those of :class:`Animations`; ``path``, ``mode`` (c,) uint8; ``first_key``
    (c + 1,) int64 into ``times`` (k,) float32 seconds, which only grow within a channel; ``values`` (v, 4) float32, of
    translations and scales the first three, in the order of the keys, see :data:`CUBIC`.
    """

    name: str
    duration: float
    row: NDArray[np.int32]
    path: NDArray[np.uint8]
    mode: NDArray[np.uint8]
    first_key: NDArray[np.int64]
    times: NDArray[np.float32]
    values: NDArray[np.float32]

    @property
    def first_value(self) -> NDArray[np.int64]:
        """(c + 1,) where each channel's values begin."""
        counts = np.diff(self.first_key) * np.where(self.mode == CUBIC, 3, 1)
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])

    def value_rows(self, channels: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(v,) which values belong to the chosen channels (c,)."""
        return np.repeat(channels, np.diff(self.first_value))


@dataclass(slots=True)
class Animations:
    """The clips of a model and the a nodes that any of them moves: ``node`` (a,) int32; ``rest`` (a, 10) float64, their
    translation, rotation and scale as the file has them, which hold where no clip says otherwise."""

    node: NDArray[np.int32]
    rest: NDArray[np.float64]
    clips: list[Clip]

    def scale(self, factor: float) -> None:
        """Make all of the model larger, in place."""
        self.rest[:, :3] *= factor
        for clip in self.clips:
            moved = clip.value_rows(clip.path == TRANSLATION)
            clip.values[moved, :3] *= np.float32(factor)

    def move_roots(self, matrix: NDArray[np.float64], is_root: NDArray[np.bool_]) -> None:
        """Put ``matrix`` (4, 4), a rotation that may mirror and a translation, before the nodes (a,) that are roots.

        Each of the three is changed on its own: a mirror becomes a negative scale in x, and what is left is a rotation.
        """
        linear, offset = matrix[:3, :3], matrix[:3, 3]
        mirrors = np.linalg.det(linear) < 0.0
        turn = linear @ np.diag([-1.0, 1.0, 1.0]) if mirrors else linear
        before = _product_matrix(_quaternion(turn))
        if mirrors:
            before = before @ np.diag([1.0, -1.0, -1.0, 1.0])
        sign = np.array([-1.0 if mirrors else 1.0, 1.0, 1.0])
        rest = self.rest[is_root]
        self.rest[is_root] = np.concatenate(
            [rest[:, :3] @ linear.T + offset, rest[:, 3:7] @ before.T, rest[:, 7:] * sign], axis=1
        )
        for clip in self.clips:
            of_root = is_root[clip.row]
            for path in (TRANSLATION, ROTATION, SCALE):
                rows = clip.value_rows(of_root & (clip.path == path))
                values = clip.values[rows].astype(np.float64)
                if path == ROTATION:
                    clip.values[rows] = values @ before.T
                elif path == SCALE:
                    clip.values[rows, :3] = values[:, :3] * sign
                else:
                    # Tangents are directions: they turn and do not move.
                    clip.values[rows, :3] = values[:, :3] @ linear.T + offset * ~_tangents(clip)[rows, None]


def _tangents(clip: Clip) -> NDArray[np.bool_]:
    """(v,) which values are tangents."""
    counts = np.diff(clip.first_value)
    places = np.arange(len(clip.values)) - np.repeat(clip.first_value[:-1], counts)
    return np.asarray(np.repeat(clip.mode == CUBIC, counts) & (places % 3 != 1), np.bool_)


def _quaternion(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """x, y, z, w of a rotation (3, 3): the eigenvector of Bar-Itzhack's matrix (2000), which knows no special cases."""
    m = rotation
    k = np.array(
        [
            [m[0, 0] - m[1, 1] - m[2, 2], m[1, 0] + m[0, 1], m[2, 0] + m[0, 2], m[2, 1] - m[1, 2]],
            [m[1, 0] + m[0, 1], m[1, 1] - m[0, 0] - m[2, 2], m[2, 1] + m[1, 2], m[0, 2] - m[2, 0]],
            [m[2, 0] + m[0, 2], m[2, 1] + m[1, 2], m[2, 2] - m[0, 0] - m[1, 1], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], m[0, 0] + m[1, 1] + m[2, 2]],
        ]
    )
    return np.asarray(np.linalg.eigh(k)[1][:, -1], np.float64)


def _product_matrix(q: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4): ``matrix @ p`` is the quaternion ``q`` times ``p``."""
    x, y, z, w = q
    return np.array([[w, -z, y, x], [z, w, -x, y], [-y, x, w, z], [-x, -y, -z, w]])


class _CodedClip(msgspec.Struct, frozen=True):
    name: str
    duration: float
    row: bytes
    path: bytes
    mode: bytes
    keys: bytes
    times: bytes
    values: bytes


class _Coded(msgspec.Struct, frozen=True):
    node: bytes
    rest: bytes
    clips: list[_CodedClip]


_decoder = msgspec.msgpack.Decoder(_Coded)


def encode_animations(animations: Animations) -> bytes:
    """The bytes that :func:`decode_animations` takes. Raises ``ValueError`` for what is too large."""
    clips = []
    for clip in animations.clips:
        narrow = np.repeat(clip.path != ROTATION, np.diff(clip.first_value))
        # Rotations first, then what has three numbers.
        values = [clip.values[~narrow].astype("<f4").tobytes(), clip.values[narrow, :3].astype("<f4").tobytes()]
        clips.append(
            _CodedClip(
                clip.name,
                clip.duration,
                clip.row.astype("<i4").tobytes(),
                clip.path.tobytes(),
                clip.mode.tobytes(),
                np.diff(clip.first_key).astype("<u4").tobytes(),
                clip.times.astype("<f4").tobytes(),
                b"".join(values),
            )
        )
    plain = msgspec.msgpack.encode(
        _Coded(animations.node.astype("<i4").tobytes(), animations.rest.astype("<f8").tobytes(), clips)
    )
    if len(plain) > MAX_BYTES:
        raise ValueError("the animations are too large")
    return zlib.compress(plain, 6)


def decode_animations(data: bytes, node_count: int) -> Animations:
    """The animations of a model of so many nodes, from untrusted bytes. Raises ``ValueError`` for what is not sound."""
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(data, MAX_BYTES)
        if inflater.unconsumed_tail or not inflater.eof:
            raise ValueError("animations that are too large or cut off")
        coded: _Coded = _decoder.decode(plain)
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"animations that cannot be read: {error}") from None
    node = np.frombuffer(coded.node, "<i4").astype(np.int32)
    rest = np.frombuffer(coded.rest, "<f8").reshape(-1, 10).copy()
    _require(len(coded.clips) <= MAX_CLIPS and len(rest) == len(node))
    _require(((node >= 0) & (node < node_count)).all() and len(np.unique(node)) == len(node))
    _require_numbers(rest, 1e30)
    _require((np.abs(rest[:, 3:7]).max(axis=1, initial=0.0) > 1e-15).all())
    return Animations(node, rest, [_clip(each, len(node)) for each in coded.clips])


def _clip(coded: _CodedClip, rows: int) -> Clip:
    row = np.frombuffer(coded.row, "<i4").astype(np.int32)
    path, mode = np.frombuffer(coded.path, np.uint8), np.frombuffer(coded.mode, np.uint8)
    keys = np.frombuffer(coded.keys, "<u4").astype(np.int64)
    times = np.frombuffer(coded.times, "<f4").astype(np.float32)
    count = len(row)
    _require(len(path) == len(mode) == len(keys) == count)
    _require(((row >= 0) & (row < rows)).all() and (path <= SCALE).all() and (mode <= CUBIC).all() and (keys > 0).all())
    _require(int(keys.sum()) == len(times))
    _require(bool(np.isfinite(coded.duration)) and 0.0 <= coded.duration <= MAX_SECONDS)
    first_key = np.concatenate([np.zeros(1, np.int64), np.cumsum(keys)])
    clip = Clip(coded.name, coded.duration, row, path, mode, first_key, times, np.zeros((0, 4), np.float32))
    total = int(clip.first_value[-1])
    wide = np.repeat(path == ROTATION, np.diff(clip.first_value))
    rotations = int(wide.sum())
    values = np.frombuffer(coded.values, "<f4")
    _require(len(values) == 4 * rotations + 3 * (total - rotations))
    clip.values = np.zeros((total, 4), np.float32)
    clip.values[wide] = values[: 4 * rotations].reshape(-1, 4)
    clip.values[~wide, :3] = values[4 * rotations :].reshape(-1, 3)
    check_clip(clip)
    return clip


def check_clip(clip: Clip) -> None:
    """Raises ``ValueError`` for times that do not grow, and for numbers that are none."""
    _require_numbers(clip.times, MAX_SECONDS)
    _require((clip.times >= 0.0).all())
    if len(clip.times) > 1:
        grows = np.diff(clip.times) > 0.0
        grows[clip.first_key[1:-1] - 1] = True
        _require(grows.all())
    _require_numbers(clip.values, 1e30)
    keyed = np.repeat(clip.path == ROTATION, np.diff(clip.first_value)) & ~_tangents(clip)
    _require((np.abs(clip.values[keyed]).max(axis=1, initial=0.0) > 1e-15).all())


def _require_numbers(values: NDArray[Any], largest: float) -> None:
    _require(np.isfinite(values).all() and (not values.size or np.abs(values).max() <= largest))


def _require(sound: Any) -> None:
    if not sound:
        raise ValueError("animations that are not sound")
