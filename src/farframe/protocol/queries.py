"""Questions about where things are, beside rays: which parts a box or a ball overlaps. ``docs/protocol.md`` is the same
for people.

    scene.findOverlaps    FindOverlapsParams    FindOverlapsResult
"""

from __future__ import annotations

from typing import Literal

from farframe.protocol.messages import Message, Vector3

Vector4 = tuple[float, float, float, float]

MAX_OVERLAPS = 8192
"""Parts in one answer: two packed numbers for each."""


class BoxShape(Message, tag_field="kind", tag="box"):
    """A box along the world's axes, from its lowest to its highest corner."""

    min: Vector3
    max: Vector3


class SphereShape(Message, tag_field="kind", tag="sphere"):
    """A ball."""

    center: Vector3
    radius: float


class OrientedBoxShape(Message, tag_field="kind", tag="orientedBox"):
    """A box around ``center`` that ``rotation`` (quaternion x, y, z, w) turns; ``half_size`` along its own axes."""

    center: Vector3
    half_size: Vector3
    rotation: Vector4 = (0.0, 0.0, 0.0, 1.0)


Shape = BoxShape | SphereShape | OrientedBoxShape


class FindOverlapsParams(Message):
    """``scene.findOverlaps``: world space, metres. ``against``: the parts' own boxes, turned as they are, or their
    triangles and points. ``max_results`` 0 stands for 8,192, the most there can be."""

    shape: Shape
    against: Literal["bounds", "geometry"] = "bounds"
    max_results: int = 0


class FindOverlapsResult(Message):
    """Parts, packed u32: ``entities`` by ascending id, and for each ``sub_parts``, which of the entity's parts it is.

    ``more``: others overlap, too; ``complete`` is false when not all geometry could be looked at in time.
    """

    entities: bytes
    sub_parts: bytes
    more: bool = False
    complete: bool = True
