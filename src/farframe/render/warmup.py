"""Work done before anybody waits for it: pipelines are compiled, and drivers made to finish them.

lavapipe, and many a GPU driver, compile a pipeline for good only when it draws for the first time, with the textures
and formats that are bound then. So every variant draws a triangle into a few pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from farframe.asset.model import VERTEX_DTYPE, AlphaMode, Level, Material, Model, Node, Part, Texture, TextureSlot
from farframe.protocol.records import FieldOfView, View
from farframe.render.assets import AssetResource
from farframe.render.frame import FrameInput, Quality
from farframe.render.pipelines import OWN_SLOTS
from farframe.render.placement import Resource
from farframe.render.scene import RenderScene
from farframe.render.solids import ALONE
from farframe.scene.materials import ColorTransparency, MaterialFlag, MaterialKind, MaterialState

if TYPE_CHECKING:
    from farframe.render.engine import Engine

WARM_UP_PIXELS = 16
SAMPLE_COUNTS = (1, 4)

_USUAL_TEXTURES: tuple[tuple[str, ...], ...] = (
    ("base_color",),
    ("base_color", "metallic_roughness", "normal"),
    ("base_color", "metallic_roughness", "normal", "occlusion"),
    OWN_SLOTS,
)


def usual_materials() -> list[Material]:
    """The materials that most models are made of; the plain ones, which parts with vertex colours use too, first."""
    materials = [Material(), Material(double_sided=True)]
    for textures in _USUAL_TEXTURES:
        material = Material(emissive=(1.0, 1.0, 1.0) if "emissive" in textures else (0.0, 0.0, 0.0))
        for index, name in enumerate(OWN_SLOTS):
            if name in textures:
                setattr(material, f"{name}_texture", TextureSlot(index))
        materials.append(material)
    base = TextureSlot(0)
    modes: tuple[AlphaMode, ...] = ("opaque", "mask", "blend")
    materials += [Material(alpha_mode=mode, base_color_texture=base, double_sided=True) for mode in modes]
    materials += [Material(alpha_mode="blend"), Material(emissive=(1.0, 1.0, 1.0)), Material(unlit=True)]
    return materials


_LIVE_STATES = (
    MaterialState(flags=MaterialFlag.SPECULAR_HIGHLIGHTS | MaterialFlag.TRANSPARENT, albedo_color=(1, 1, 1, 0.5)),
    MaterialState(flags=MaterialFlag.SPECULAR_HIGHLIGHTS | MaterialFlag.FADE_TO_BLACK, fade_out=0.5),
    MaterialState(flags=MaterialFlag.SPECULAR_HIGHLIGHTS | MaterialFlag.FRESNEL_EFFECT),
    MaterialState(MaterialKind.COLOR, color_transparency=ColorTransparency.ALPHA_BLEND, albedo_color=(1, 1, 1, 0.5)),
)
"""What devices mostly make of materials while they are drawn: glass and what fades, rare properties, glows, colours."""

PLAIN_MATERIALS = 2
"""How many of the usual materials are also warmed up with vertex colours."""


def triangle_model(materials: list[Material]) -> Model:
    """One triangle of about a metre per material, plain and tinted by vertex colours."""
    vertices = np.zeros(6, VERTEX_DTYPE)
    vertices["position"] = np.tile(np.array([[-1, -1, 0], [1, -1, 0], [0, 1, 0]], np.float32), (2, 1))
    vertices["normal"][:, 2] = 127
    vertices["tangent"][:, (0, 3)] = 127
    vertices["color"][:3] = 255
    vertices["color"][3:] = 128
    low, high = (-1.0, -1.0, 0.0), (1.0, 1.0, 0.0)
    parts = [
        Part(first, 3, (Level(0, 3, 0.0),), number, low, high)
        for number, material in enumerate(materials)
        for first in ((0, 3) if number < PLAIN_MATERIALS else (0,))
    ]
    srgb = (True, False, False, False, True)
    return Model(
        name="warm-up",
        vertices=vertices,
        indices=np.arange(3, dtype=np.uint32),
        parts=parts,
        materials=materials,
        textures=[Texture(np.full((4, 4, 4), 200, np.uint8), srgb=value) for value in srgb],
        nodes=[Node("warm-up", -1, np.eye(4))],
        instance_part=np.arange(len(parts), dtype=np.int32),
        instance_node=np.zeros(len(parts), np.int32),
        instance_matrix=np.broadcast_to(np.eye(4), (len(parts), 4, 4)).copy(),
        bounds_min=low,
        bounds_max=high,
    )


def draw_small(engine: Engine, scene: RenderScene, distance: float, samples: int, *, read_depth: bool = True) -> None:
    """Draw a scene around the origin into a few pixels."""
    view = View(
        (0.0, 0.0, distance),
        (0.0, 0.0, 0.0, 1.0),
        FieldOfView.symmetric(1.0, 1.0),
        near=distance * 1e-3,
        far=distance * 10.0,
    )
    quality = Quality(samples=samples)
    engine.render(FrameInput((view,), WARM_UP_PIXELS, WARM_UP_PIXELS, quality, scene, read_depth=read_depth)).release()


def draw_every_variant(engine: Engine) -> None:
    """Compile the pipelines of the usual materials for both sample counts, backdrop and depth included."""
    resource = engine.upload(triangle_model(usual_materials()))
    scene = RenderScene()
    scene.add(resource, np.eye(4))
    dressed = RenderScene()
    handle = dressed.add(resource, np.eye(4))
    rows = np.arange(len(_LIVE_STATES))
    for number, state in enumerate(_LIVE_STATES):
        dressed.set_material(number + 1, state)
    dressed.update_instances(handle, rows, material=(rows + 1).astype(np.uint32))
    for samples in SAMPLE_COUNTS:
        draw_small(engine, dressed, 3.0, samples)
    chosen = engine.occlusion_culling
    for culling in (True, False):
        engine.occlusion_culling = culling
        for samples in SAMPLE_COUNTS:
            draw_small(engine, scene, 3.0, samples)
    engine.occlusion_culling = chosen
    engine.release(resource)


def prime(engine: Engine, resource: Resource) -> Iterator[None]:
    """Draw one triangle of each kind of instance of the resource, so that its first real frame compiles nothing.

    Yields after each sample count.
    """
    rows, _ = instance_kinds(resource)
    if not len(rows):
        return
    scene = RenderScene()
    scene.add(excerpt(resource, rows), np.eye(4))
    for samples in SAMPLE_COUNTS:
        draw_small(engine, scene, 3.0, samples)
        yield


def instance_kinds(resource: Resource) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Rows (k,) of one instance of each kind that is drawn in its own way, and which of them are mirrored."""
    if not len(resource.instance_part):
        return np.zeros(0, np.int64), np.zeros(0, np.bool_)
    parts = resource.parts
    with np.errstate(all="ignore"):  # a file's matrix may overflow
        mirrored = np.linalg.det(resource.instance_matrix[:, :3, :3]) < 0.0
    part = resource.instance_part.astype(np.int64)
    kinds = np.stack([parts.material[part], parts.vertex_color[part], mirrored], axis=1).astype(np.int64)
    some = np.unique(kinds, axis=0, return_index=True)[1].astype(np.int64)
    return some, np.asarray(mirrored[some], np.bool_)


def with_inside(resource: Resource) -> Resource:
    """The same, with parts that all count as solid."""
    count = len(resource.parts.material)
    solid = np.full(count, ALONE, np.uint8)
    return replace(resource, solid=solid) if isinstance(resource, AssetResource) else replace(resource, _solid=solid)


def excerpt(resource: Resource, some: NDArray[np.int64]) -> Resource:
    """The instances ``some`` (k,) of a resource alone, a triangle of each or its coarsest clusters."""
    parts = resource.parts
    with np.errstate(all="ignore"):
        mirrored = np.linalg.det(resource.instance_matrix[some, :3, :3]) < 0.0
    # Each stands at the origin with a radius of 1, whatever its size, so that none is culled.
    shown = resource.instance_part[some].astype(np.int64)
    size = np.maximum(np.linalg.norm(parts.extent[shown], axis=1), 1e-30)
    matrix = np.zeros((len(some), 4, 4))
    matrix[:, (0, 1, 2), (0, 1, 2)] = 1.0 / size[:, None]
    matrix[:, 0, 0] *= np.where(mirrored, -1.0, 1.0)
    matrix[:, :3, 3] = -matrix[:, (0, 1, 2), (0, 1, 2)] * parts.center[shown]
    matrix[:, 3, 3] = 1.0
    if isinstance(resource, AssetResource):
        # What is resident is shared: only the coarsest clusters are there to be drawn.
        return replace(resource, instance_part=resource.instance_part[some], instance_matrix=matrix)
    model = resource.model
    return replace(
        resource,
        model=replace(
            model,
            instance_part=model.instance_part[some],
            instance_node=model.instance_node[some],
            instance_matrix=matrix,
        ),
        parts=replace(parts, count=np.minimum(parts.count, 3)),
    )
