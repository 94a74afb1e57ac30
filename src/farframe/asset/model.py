"""A model in memory, in the form that the renderer uploads: flat arrays, no Python object per triangle or vertex.

Every reader (glTF now) produces a :class:`Model`; the renderer takes nothing else. Right-handed, +Y up, metres.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from farframe.asset.animation import Animations

VERTEX_DTYPE = np.dtype(
    [
        ("position", "<f4", 3),
        ("normal", "i1", 4),
        ("tangent", "i1", 4),
        ("uv0", "<f4", 2),
        ("uv1", "<f4", 2),
        ("color", "u1", 4),
    ]
)
"""One vertex, 40 bytes: position in metres (the part's space); normal and tangent as signed normalised xyz, the
tangent's w is the handedness (+127 or -127); two UV sets; linear colour as unsigned normalised RGBA (white if none)."""

AlphaMode = Literal["opaque", "mask", "blend"]
MetadataValue = bool | int | float | str
Wrap = Literal["repeat", "mirror", "clamp"]
Filter = Literal["nearest", "linear"]


@dataclass(slots=True)
class Texture:
    """Pixels as (height, width, 4) uint8 RGBA, row 0 at the top; ``srgb`` tells how the RGB is encoded."""

    pixels: NDArray[np.uint8]
    srgb: bool
    wrap_u: Wrap = "repeat"
    wrap_v: Wrap = "repeat"
    mag_filter: Filter = "linear"
    min_filter: Filter = "linear"
    mipmaps: bool = True
    name: str = ""


@dataclass(frozen=True, slots=True)
class TextureSlot:
    """Which texture of the model, read with which of the two UV sets."""

    texture: int
    uv_set: int = 0


@dataclass(slots=True)
class Material:
    """glTF 2.0 metallic-roughness. Colours are linear; factors multiply their textures.

    ``metallic_roughness_texture`` holds roughness in G and metalness in B, ``occlusion_texture`` occlusion in R.
    """

    name: str = ""
    base_color: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    metallic: float = 1.0
    roughness: float = 1.0
    emissive: tuple[float, float, float] = (0.0, 0.0, 0.0)
    normal_scale: float = 1.0
    occlusion_strength: float = 1.0
    alpha_mode: AlphaMode = "opaque"
    alpha_cutoff: float = 0.5
    double_sided: bool = False
    unlit: bool = False
    transparency_writes_depth: bool = False
    """If it is blended, the nearest of its surfaces counts for depth. No file format says so, material overrides do."""
    base_color_texture: TextureSlot | None = None
    metallic_roughness_texture: TextureSlot | None = None
    normal_texture: TextureSlot | None = None
    occlusion_texture: TextureSlot | None = None
    emissive_texture: TextureSlot | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """One level of detail: a range of the model's indices, and how far (metres, the part's space) it may lie from
    the full surface. Level 0 is the part as it came, with error 0; each further level has fewer triangles."""

    first_index: int
    index_count: int
    error: float


@dataclass(slots=True)
class Part:
    """Triangles with one material: a glTF primitive. Indices count from ``first_vertex``; all levels share vertices,
    but the last of them may be there for coarser levels only, with normals of their own."""

    first_vertex: int
    vertex_count: int
    levels: tuple[Level, ...]
    material: int
    bounds_min: tuple[float, float, float]
    bounds_max: tuple[float, float, float]


@dataclass(slots=True)
class Node:
    """A node of the scene graph: its parent's index or -1, and its (4, 4) float64 local matrix (column vectors)."""

    name: str
    parent: int
    matrix: NDArray[np.float64]


@dataclass(slots=True)
class Model:
    """A whole model.

    ``vertices``: (n,) of :data:`VERTEX_DTYPE`, all parts one after the other. ``indices``: (m,) uint32, relative to
    their part's first vertex. An instance is a part under a node: ``instance_part`` and ``instance_node`` are (i,)
    int32, ``instance_matrix`` is (i, 4, 4) float64, part space to model space, ``matrix @ column``.
    Bounds are of level 0 of all instances in model space; an empty model has ``bounds_min > bounds_max``.
    """

    name: str
    vertices: NDArray[np.void]
    indices: NDArray[np.uint32]
    parts: list[Part]
    materials: list[Material]
    textures: list[Texture]
    nodes: list[Node]
    instance_part: NDArray[np.int32]
    instance_node: NDArray[np.int32]
    instance_matrix: NDArray[np.float64]
    bounds_min: tuple[float, float, float]
    bounds_max: tuple[float, float, float]
    warnings: list[str] = field(default_factory=list)
    animations: Animations | None = None
    """Of its nodes; none where the file has none."""
    metadata: dict[int, dict[str, MetadataValue]] = field(default_factory=dict)
    """What the file says about its nodes, by their index; nodes of which it says nothing are not in it."""

    @property
    def triangle_count(self) -> int:
        """Triangles of all instances at full detail."""
        counts = np.array([part.levels[0].index_count // 3 for part in self.parts], dtype=np.int64)
        return int(counts[self.instance_part].sum()) if len(self.instance_part) else 0
