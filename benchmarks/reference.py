"""Our pictures beside a path tracer's: the same geometry, materials and environment through Mitsuba 3.

    ./dev bench reference

For each property of a material a row of spheres (or turned squares, for what is transparent) is drawn by the engine and
traced under an environment of measured light, and the two are compared pixel by pixel as they would be shown: after
exposure, Khronos PBR Neutral tone mapping and sRGB, in levels of 255. Whole models follow, where the path tracer also
has shadows and light between surfaces, which the engine has not. Needs the environment ``chinese_garden_1k.hdr`` and
the models in the folder that ``FARFRAME_TEST_MODELS`` names. Pictures go to ``docs/images/reference``.

Mitsuba's *principled* material is what is compared with: it shares glTF's parameters (base colour, metallic, roughness
= square root of GGX's alpha), and differs from glTF's reference formulas in two ways that the figures contain: its
diffuse part brightens towards the silhouette when rough (Burley 2012), and light that is scattered more than once
between facets is lost, where the engine gives it back.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from farframe.asset.gltf import read_gltf
from farframe.asset.model import VERTEX_DTYPE, Level, Material, Model, Node, Part, Texture, TextureSlot
from farframe.asset.textures_file import read_texture
from farframe.client.camera import look_rotation, quaternion_of
from farframe.protocol.link import LoadLimits
from farframe.protocol.records import FieldOfView, View
from farframe.render import Engine, FrameInput, Quality, RenderScene
from farframe.render.environment import Environment
from farframe.render.sky import prepare_environment
from farframe.scene.effects import SkyKind

Floats = NDArray[np.float64]

BACKGROUND = (0.05, 0.05, 0.055)
"""Display-referred linear, behind all pictures."""
PICTURES = Path(__file__).parent.parent / "docs" / "images" / "reference"
FIELD_DEGREES = 28.0
GARDEN = "chinese_garden_1k.hdr"


@dataclass
class Sample:
    """One sphere or square: a material, and the textures that it reads."""

    material: Material
    textures: list[Texture] = field(default_factory=list)
    flat: bool = False
    """A square turned away by 35 degrees instead of a sphere."""


@dataclass
class Row:
    """Samples that differ in one property, and how far they may differ from the path tracer and why.

    ``tolerance``: mean absolute difference over the covered pixels of each sample, levels of 255.
    """

    name: str
    title: str
    samples: list[Sample]
    tolerance: float
    reason: str


def _sphere(slices: int = 192, stacks: int = 96) -> tuple[NDArray[np.void], NDArray[np.uint32]]:
    u, v = np.meshgrid(np.linspace(0, 1, slices + 1), np.linspace(0, 1, stacks + 1))
    phi, theta = 2 * np.pi * u, np.pi * v
    normal = np.stack([np.sin(theta) * np.cos(phi), np.cos(theta), -np.sin(theta) * np.sin(phi)], -1).reshape(-1, 3)
    tangent = np.stack([-np.sin(phi), np.zeros_like(phi), -np.cos(phi)], -1).reshape(-1, 3)
    row, column = np.meshgrid(np.arange(stacks), np.arange(slices), indexing="ij")
    a = row * (slices + 1) + column
    b = a + slices + 1
    indices = np.stack([a, b, a + 1, a + 1, b, b + 1], -1).reshape(-1).astype(np.uint32)
    return _vertices(normal, normal, np.stack([u, v], -1).reshape(-1, 2), tangent), indices


def _square() -> tuple[NDArray[np.void], NDArray[np.uint32]]:
    turn = np.radians(35.0)
    matrix = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    corners = np.array([[-1.0, 1, 0], [-1, -1, 0], [1, -1, 0], [1, 1, 0]]) @ matrix.T
    uv = np.array([[0.0, 0], [0, 1], [1, 1], [1, 0]])
    normal = np.tile(matrix[:, 2], (4, 1))
    return _vertices(corners, normal, uv, np.tile(matrix[:, 0], (4, 1))), np.array([0, 1, 2, 0, 2, 3], np.uint32)


def _vertices(position: Floats, normal: Floats, uv: Floats, tangent: Floats) -> NDArray[np.void]:
    vertices = np.zeros(len(position), VERTEX_DTYPE)
    vertices["position"] = position
    vertices["normal"][:, :3] = np.rint(normal * 127)
    vertices["tangent"][:, :3] = np.rint(tangent * 127)
    vertices["tangent"][:, 3] = 127
    vertices["uv0"] = uv
    vertices["color"] = 255
    return vertices


def checker(a: Sequence[int], b: Sequence[int], size: int = 256, cells: int = 8) -> NDArray[np.uint8]:
    """A board of two RGBA colours (size, size, 4)."""
    row, column = np.mgrid[0:size, 0:size] * cells // size
    return np.where(((row + column) % 2)[..., None], np.array(a), np.array(b)).astype(np.uint8)


def waves(size: int = 512, count: int = 10) -> NDArray[np.uint8]:
    """A normal map of smooth hills in both directions; slopes up to 22 degrees."""
    v, u = (np.mgrid[0:size, 0:size] + 0.5) / size * count * 2.0 * np.pi
    slope = np.stack([0.4 * np.sin(u) * np.cos(v), 0.4 * np.cos(u) * np.sin(v)], -1)
    normal = np.dstack([slope[..., 0], slope[..., 1], np.ones((size, size))])
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.dstack([np.rint(normal * 127.5 + 127.5), np.full((size, size), 255.0)]).astype(np.uint8)


def roughness_and_metal(size: int = 256) -> NDArray[np.uint8]:
    """A packed map: roughness grows to the right in G, metal in stripes in B."""
    u = np.tile((np.arange(size) + 0.5) / size, (size, 1))
    metal = (np.arange(size) * 6 // size % 2)[:, None] * np.ones((1, size))
    return np.dstack([np.zeros_like(u), u * 255.0, metal * 255.0, np.full_like(u, 255.0)]).astype(np.uint8)


def rows() -> list[Row]:
    """What is compared."""
    gold, red, blue = (1.0, 0.77, 0.34, 1.0), (0.75, 0.06, 0.05, 1.0), (0.10, 0.32, 0.62, 1.0)
    slot = TextureSlot(0)
    steps = [0.0, 0.15, 0.3, 0.45, 0.6, 0.8, 1.0]
    clear, full = (230, 150, 40, 0), (230, 150, 40, 255)
    return [
        Row(
            "roughness-metal",
            "Roughness 0 to 1, metal",
            [Sample(Material(base_color=gold, metallic=1.0, roughness=value)) for value in steps],
            22.0,
            "the sun's highlight: prefiltered light has a lobe round about one direction; the true one is drawn out",
        ),
        Row(
            "roughness-dielectric",
            "Roughness 0 to 1, dielectric",
            [Sample(Material(base_color=red, metallic=0.0, roughness=value)) for value in steps],
            12.0,
            "the path tracer's diffuse part grows towards the silhouette when rough; nine harmonics for the sun",
        ),
        Row(
            "metalness",
            "Metalness 0 to 1, roughness 0.35",
            [Sample(Material(base_color=blue, metallic=value, roughness=0.35)) for value in steps],
            11.0,
            "both of the above, less of them",
        ),
        Row(
            "normal-map",
            "Normal map: scale 0, 0.5, 1, 1.5; and on metal",
            [
                Sample(
                    Material(
                        base_color=(0.5, 0.5, 0.5, 1.0) if metal == 0 else gold,
                        metallic=metal,
                        roughness=0.3,
                        normal_scale=scale,
                        normal_texture=slot,
                    ),
                    [Texture(waves(), srgb=False)],
                )
                for scale, metal in [(0.0, 0.0), (0.5, 0.0), (1.0, 0.0), (1.5, 0.0), (0.5, 1.0), (1.0, 1.0), (1.5, 1.0)]
            ],
            20.0,
            "slopes that are turned away from the eye go black in the path tracer",
        ),
        Row(
            "maps",
            "Maps: base colour, roughness and metalness",
            [
                Sample(
                    Material(metallic=metal, roughness=0.4, base_color_texture=slot),
                    [Texture(checker((230, 150, 40, 255), (40, 60, 90, 255)), srgb=True)],
                )
                for metal in (0.0, 1.0)
            ]
            + [
                Sample(
                    Material(base_color=color, metallic=1.0, roughness=1.0, metallic_roughness_texture=slot),
                    [Texture(roughness_and_metal(), srgb=False)],
                )
                for color in (gold, blue)
            ],
            15.0,
            "as for roughness; edges between cells",
        ),
        Row(
            "alpha-modes",
            "Alpha: opaque, mask, blend 0.75, 0.5, 0.25, map",
            [
                Sample(Material(base_color=red, metallic=0.0, roughness=0.4), flat=True),
                Sample(
                    Material(metallic=0.0, roughness=0.4, alpha_mode="mask", base_color_texture=slot),
                    [Texture(checker(clear, full), srgb=True)],
                    flat=True,
                ),
                *(
                    Sample(
                        Material(base_color=(*red[:3], alpha), metallic=0.0, roughness=0.4, alpha_mode="blend"),
                        flat=True,
                    )
                    for alpha in (0.75, 0.5, 0.25)
                ),
                Sample(
                    Material(metallic=0.0, roughness=0.4, alpha_mode="blend", base_color_texture=slot),
                    [Texture(checker((230, 150, 40, 64), full), srgb=True)],
                    flat=True,
                ),
            ],
            8.0,
            "edges between cells",
        ),
    ]


def model_of(sample: Sample) -> Model:
    """The sample as the engine takes it."""
    vertices, indices = _square() if sample.flat else _sphere()
    low, high = vertices["position"].min(0), vertices["position"].max(0)
    return Model(
        name="sample",
        vertices=vertices,
        indices=indices,
        parts=[Part(0, len(vertices), (Level(0, len(indices), 0.0),), 0, tuple(low), tuple(high))],
        materials=[sample.material],
        textures=sample.textures,
        nodes=[Node("root", -1, np.eye(4))],
        instance_part=np.zeros(1, np.int32),
        instance_node=np.zeros(1, np.int32),
        instance_matrix=np.eye(4)[None],
        bounds_min=tuple(low),
        bounds_max=tuple(high),
    )


# The path tracer ----------------------------------------------------------------------------------------------------


def mitsuba() -> Any:
    """The module, with the variant that needs no compiler of the system."""
    import mitsuba as mi

    mi.set_variant("scalar_rgb")
    mi.set_log_level(mi.LogLevel.Error)
    return mi


def tone_map(radiance: Floats) -> Floats:
    """Khronos PBR Neutral, (..., 3) linear to display-referred linear."""
    low = radiance.min(axis=-1, keepdims=True)
    color = radiance - np.where(low < 0.08, low - 6.25 * low * low, 0.04)
    peak = color.max(axis=-1, keepdims=True)
    start = 0.8 - 0.04
    d = 1.0 - start
    new_peak = 1.0 - d * d / (np.maximum(peak, start) + d - start)
    g = 1.0 - 1.0 / (0.15 * (peak - new_peak) + 1.0)
    rolled = color * (new_peak / np.maximum(peak, 1e-6)) * (1.0 - g) + new_peak * g
    return np.where(peak < start, color, rolled)


def encode_srgb(linear: Floats) -> NDArray[np.uint8]:
    """Display-referred linear, 0 to 1, to 8 bits."""
    value = np.clip(linear, 0.0, 1.0)
    curve = np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055)
    return np.rint(curve * 255.0).astype(np.uint8)


def _write_ply(path: Path, vertices: NDArray[np.void], indices: NDArray[np.uint32], matrix: Floats) -> None:
    count = len(vertices)
    rows = np.zeros(count, [("p", "<f4", 3), ("n", "<f4", 3), ("uv", "<f4", 2)])
    rows["p"] = vertices["position"] @ matrix[:3, :3].T + matrix[:3, 3]
    normal = (vertices["normal"][:, :3] / 127.0) @ np.linalg.inv(matrix[:3, :3])
    rows["n"] = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    rows["uv"] = vertices["uv0"]
    faces = np.zeros(len(indices) // 3, [("n", "u1"), ("i", "<u4", 3)])
    faces["n"] = 3
    corners = indices.reshape(-1, 3)
    faces["i"] = corners if np.linalg.det(matrix[:3, :3]) > 0 else corners[:, ::-1]
    header = (
        "ply\nformat binary_little_endian 1.0\n"
        f"element vertex {count}\nproperty float x\nproperty float y\nproperty float z\n"
        "property float nx\nproperty float ny\nproperty float nz\nproperty float u\nproperty float v\n"
        f"element face {len(faces)}\nproperty list uchar uint vertex_indices\nend_header\n"
    )
    path.write_bytes(header.encode() + rows.tobytes() + faces.tobytes())


def _texture(mi: Any, pixels: NDArray[np.uint8], *, srgb: bool, nearest: bool = False) -> dict[str, Any]:
    bitmap = mi.Bitmap(np.ascontiguousarray(pixels))
    bitmap.set_srgb_gamma(srgb)
    return {"type": "bitmap", "bitmap": bitmap, "raw": not srgb, "filter_type": "nearest" if nearest else "bilinear"}


def _bsdf(mi: Any, material: Material, textures: Sequence[Texture]) -> dict[str, Any]:
    """The nearest that Mitsuba has to a material of glTF."""

    def pixels(slot: TextureSlot) -> NDArray[np.uint8]:
        return textures[slot.texture].pixels

    base = material.base_color
    color: dict[str, Any] = {"type": "rgb", "value": list(base[:3])}
    alpha: Any = base[3]
    if material.base_color_texture is not None:
        image = pixels(material.base_color_texture)
        tint = np.array(base[:3])
        linear = _decode(image[..., :3]) * tint
        color = _texture(mi, encode_srgb(linear), srgb=True)
        # One mode for both directions is what Mitsuba knows; what is compared lies within one tile along the other.
        color["wrap_mode"] = textures[material.base_color_texture.texture].wrap_u
        alpha = image[..., 3] / 255.0 * base[3]
    metallic: Any = material.metallic
    roughness: Any = max(material.roughness, 0.02)
    if material.metallic_roughness_texture is not None:
        image = pixels(material.metallic_roughness_texture)
        metallic = _texture(mi, np.rint(image[..., 2] * material.metallic).astype(np.uint8)[..., None], srgb=False)
        packed = np.maximum(np.rint(image[..., 1] * material.roughness), 5).astype(np.uint8)
        roughness = _texture(mi, packed[..., None], srgb=False)
    bsdf: dict[str, Any] = {
        "type": "principled",
        "base_color": color,
        "metallic": metallic,
        "roughness": roughness,
        "specular": 0.5,
    }
    if material.normal_texture is not None:
        normal = pixels(material.normal_texture)[..., :3] / 127.5 - 1.0
        normal[..., :2] *= material.normal_scale
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        scaled = np.rint(normal * 127.5 + 127.5).astype(np.uint8)
        bsdf = {"type": "normalmap", "normalmap": _texture(mi, scaled, srgb=False), "bsdf": bsdf}
    bsdf = {"type": "twosided", "bsdf": bsdf}
    if material.alpha_mode == "opaque":
        return bsdf
    if material.alpha_mode == "mask":
        alpha = np.asarray(alpha) >= material.alpha_cutoff
    if np.ndim(alpha):
        opacity = _texture(mi, np.rint(np.asarray(alpha, float) * 255).astype(np.uint8)[..., None], srgb=False)
        opacity["filter_type"] = "nearest" if material.alpha_mode == "mask" else "bilinear"
        return {"type": "mask", "opacity": opacity, "bsdf": bsdf}
    return {"type": "mask", "opacity": float(alpha), "bsdf": bsdf}


def _decode(image: NDArray[np.uint8]) -> Floats:
    value = image / 255.0
    return np.asarray(np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4))


@dataclass
class Traced:
    """What the path tracer saw: ``radiance`` (h, w, 3) and ``alpha`` (h, w, 1), radiance as seen, not divided by it."""

    radiance: Floats
    alpha: Floats

    @property
    def covered(self) -> NDArray[np.bool_]:
        """The pixels (h, w) that nothing of the background shows through."""
        return np.asarray(self.alpha[..., 0] > 0.999)

    def picture(self) -> NDArray[np.uint8]:
        """As a display shows it, over the background, (h, w, 3)."""
        color = tone_map(self.radiance / np.maximum(self.alpha, 1e-3))
        return encode_srgb(color * self.alpha + np.array(BACKGROUND) * (1.0 - self.alpha))


def trace(
    mi: Any, model: Model, environment: Path | None, eye: Sequence[float], target: Sequence[float],
    size: tuple[int, int], samples: int, depth: int = 2,
) -> Traced:  # fmt: skip
    """The model path-traced under ``environment``, or under even light of radiance 1.

    ``depth`` 2 is light straight from the environment; more adds light between surfaces.
    """
    light: dict[str, Any] = {"type": "constant", "radiance": 1.0}
    if environment is not None:
        # The middle of Mitsuba's panorama looks along +Z, that of ours along -Z, but :func:`draw` turns it by half.
        light = {"type": "envmap", "filename": str(environment)}
    with tempfile.TemporaryDirectory() as folder:
        scene: dict[str, Any] = {
            "type": "scene",
            "integrator": {"type": "path", "max_depth": depth, "hide_emitters": True},
            "sensor": {
                "type": "perspective",
                "fov": FIELD_DEGREES,
                "fov_axis": "y",
                "near_clip": 1e-3,
                "to_world": mi.ScalarTransform4f().look_at(list(eye), list(target), [0, 1, 0]),
                "film": {
                    "type": "hdrfilm",
                    "width": size[0],
                    "height": size[1],
                    "pixel_format": "rgba",
                    "rfilter": {"type": "box"},
                },
                "sampler": {"type": "multijitter", "sample_count": samples},
            },
            "environment": light,
        }
        materials = [_bsdf(mi, material, model.textures) for material in model.materials]
        for index, part in enumerate(model.instance_part.tolist()):
            piece = model.parts[part]
            level = piece.levels[0]
            vertices = model.vertices[piece.first_vertex : piece.first_vertex + piece.vertex_count]
            indices = model.indices[level.first_index : level.first_index + level.index_count]
            path = Path(folder) / f"{index}.ply"
            _write_ply(path, vertices, indices, model.instance_matrix[index])
            scene[f"part{index}"] = {"type": "ply", "filename": str(path), "bsdf": materials[piece.material]}
        image = np.array(mi.render(mi.load_dict(scene)), np.float64)
        radiance, alpha = image[..., :3], np.clip(image[..., 3:], 0.0, 1.0)
        if all(material.alpha_mode == "opaque" for material in model.materials):
            return Traced(radiance, alpha)
        # Where a path may pass through, the integrator drops the light of paths that do. So the sky is let be seen, and
        # taken away again.
        scene["integrator"]["hide_emitters"] = False
        seen = np.array(mi.render(mi.load_dict(scene)), np.float64)[..., :3]
        empty = {name: value for name, value in scene.items() if not name.startswith("part")}
        behind = np.array(mi.render(mi.load_dict(empty)), np.float64)[..., :3]
    return Traced(np.maximum(seen - (1.0 - alpha) * behind, 0.0), alpha)


def compensated(mi: Any, sample: Sample, traced: Traced, eye: Sequence[float], samples: int) -> Traced:
    """A metal with the light given back that is scattered between facets (Turquin 2019).

    How much of it one bounce keeps is seen by tracing the same surface in white under even light.
    """
    height, width = traced.alpha.shape[:2]
    white = replace(sample.material, base_color=(1.0, 1.0, 1.0, 1.0))
    furnace = trace(mi, model_of(replace(sample, material=white)), None, eye, (0, 0, 0), (width, height), samples)
    kept = np.clip(furnace.radiance / np.maximum(furnace.alpha, 1e-3), 0.05, 1.0)
    f0 = np.array(sample.material.base_color[:3])
    return Traced(traced.radiance * (1.0 + f0 * (1.0 / kept - 1.0)), traced.alpha)


# Ours ---------------------------------------------------------------------------------------------------------------


def view_from(eye: Sequence[float], target: Sequence[float], aspect: float) -> View:
    """A camera at ``eye`` that looks at ``target``, :data:`FIELD_DEGREES` high."""
    orientation = quaternion_of(look_rotation(tuple(eye), tuple(target)))
    field_of_view = FieldOfView.symmetric(float(np.radians(FIELD_DEGREES)), aspect)
    return View(tuple(eye), orientation, field_of_view, 0.01, 1000.0)


def draw(engine: Engine, model: Model, environment: Environment, eye: Sequence[float], target: Sequence[float],
    size: tuple[int, int]) -> NDArray[np.uint8]:  # fmt: skip
    """The model as the engine draws it in full quality, lit by the environment alone, (h, w, 3) sRGB."""
    scene = RenderScene()
    scene.environment = environment
    scene.environment_rotation = np.pi  # the sun stands before what is looked at
    scene.light_intensity = 0.0
    scene.background = BACKGROUND
    resource = engine.upload(model)
    try:
        scene.add(resource, np.eye(4))
        frame = engine.render(FrameInput((view_from(eye, target, size[0] / size[1]),), *size, Quality(), scene))
        pixels = frame.pixels[..., :3].copy()
        frame.release()
        return pixels
    finally:
        engine.release(resource)


# Side by side -------------------------------------------------------------------------------------------------------


@dataclass
class Difference:
    """Of the covered pixels, levels of 255: the mean absolute difference, its 95th percentile, the signed mean."""

    mean: float
    p95: float
    bias: float


def compare(ours: NDArray[np.uint8], theirs: NDArray[np.uint8], covered: NDArray[np.bool_]) -> Difference:
    """Over the covered pixels (h, w) of two pictures (h, w, 3)."""
    difference = ours[covered].astype(np.float64) - theirs[covered].astype(np.float64)
    size = np.abs(difference)
    return Difference(float(size.mean()), float(np.percentile(size, 95)), float(difference.mean()))


def garden(models: Path) -> Environment:
    """The environment as the engine takes it."""
    data = (models / GARDEN).read_bytes()
    return prepare_environment(read_texture(data, GARDEN).pixels(0), SkyKind.EQUIRECTANGULAR)


def compare_rows(engine: Engine, models: Path, size: int, samples: int, pictures: Path | None) -> dict[str, Any]:
    """Draw and trace :func:`rows`: figures, and pictures ``NAME.png`` of ours, theirs, and the difference times 4."""
    mi = mitsuba()
    environment = garden(models)
    figures: dict[str, Any] = {}
    eye, target = (0.0, 0.0, 4.6), (0.0, 0.0, 0.0)
    for row in rows():
        found, columns = [], []
        for sample in row.samples:
            model = model_of(sample)
            ours = draw(engine, model, environment, eye, target, (size, size))
            traced = trace(mi, model, models / GARDEN, eye, target, (size, size), samples)
            plain = sample.material.metallic_roughness_texture is None and sample.material.base_color_texture is None
            if sample.material.metallic == 1.0 and plain:
                traced = compensated(mi, sample, traced, eye, samples)
            theirs, covered = traced.picture(), traced.covered
            if sample.material.alpha_mode != "opaque":
                covered = interior(size)
            found.append(compare(ours, theirs, covered))
            columns.append(np.vstack([ours, theirs, np.clip(np.abs(ours.astype(int) - theirs) * 4, 0, 255)]))
        worst = max(found, key=lambda difference: difference.mean)
        figures[row.name] = {
            "title": row.title,
            "tolerance": row.tolerance,
            "worst_mean": round(worst.mean, 2),
            "samples": [{name: round(value, 2) for name, value in asdict(one).items()} for one in found],
        }
        print(f"{row.name:22} mean {' '.join(f'{one.mean:5.1f}' for one in found)}   (at most {row.tolerance})")
        print(f"{'':22} bias {' '.join(f'{one.bias:+5.1f}' for one in found)}", flush=True)
        if pictures:
            pictures.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.hstack(columns).astype(np.uint8)).save(pictures / f"{row.name}.png", optimize=True)
    return figures


def interior(size: int) -> NDArray[np.bool_]:
    """The pixels (size, size) that a turned square covers wholly, whatever its alpha is."""
    vertices, _ = _square()
    scale = size / 2 / np.tan(np.radians(FIELD_DEGREES) / 2)
    corners = vertices["position"].astype(np.float64)
    xy = np.stack([corners[:, 0], -corners[:, 1]], -1) / (4.6 - corners[:, 2:]) * scale + size / 2
    y, x = np.mgrid[0:size, 0:size] + 0.5
    inside = np.ones((size, size), np.bool_)
    for a, b in zip(xy, np.roll(xy, -1, axis=0), strict=True):
        edge = (b - a) / np.linalg.norm(b - a)
        inside &= edge[0] * (y - a[1]) - edge[1] * (x - a[0]) < -1.5
    return inside


MODELS = {
    "Duck.glb": ((0.55, 0.35, 0.65), 3.6),
    "2CylinderEngine.glb": ((0.6, 0.4, 0.7), 2.3),
    "BoxTextured/BoxTextured.gltf": ((0.5, 0.4, 0.8), 3.4),
}
"""Where each is looked at from: a direction, and a distance in half diagonals."""


def compare_models(engine: Engine, models: Path, size: tuple[int, int], samples: int, pictures: Path) -> dict[str, Any]:
    """Whole files: traced with light straight from the environment, and with all light between surfaces."""
    mi = mitsuba()
    environment = garden(models)
    figures: dict[str, Any] = {}
    for name, (direction, distance) in MODELS.items():
        model = read_gltf(models / name, LoadLimits())
        low, high = np.array(model.bounds_min), np.array(model.bounds_max)
        # Sizes from millimetres to a hundred metres are brought to one: near and far then hold them all.
        scale = 2.0 / float(np.linalg.norm(high - low))
        fit = np.diag([scale, scale, scale, 1.0])
        fit[:3, 3] = -scale * (low + high) / 2
        model.instance_matrix = fit @ model.instance_matrix
        eye = np.array(direction) / np.linalg.norm(direction) * distance
        ours = draw(engine, model, environment, eye.tolist(), (0, 0, 0), size)
        direct = trace(mi, model, models / GARDEN, eye.tolist(), (0, 0, 0), size, samples)
        full = trace(mi, model, models / GARDEN, eye.tolist(), (0, 0, 0), size, samples, depth=6)
        stem = Path(name).stem
        figures[stem] = {
            "direct": asdict(compare(ours, direct.picture(), direct.covered)),
            "all light": asdict(compare(ours, full.picture(), direct.covered)),
        }
        print(f"{stem:22} {figures[stem]}", flush=True)
        pictures.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.hstack([ours, direct.picture(), full.picture()])).save(
            pictures / f"{stem}.png", optimize=True
        )
    return figures


def run(quick: bool = False) -> dict[str, Any]:
    """Compare, print, write pictures, return the figures."""
    folder = os.environ.get("FARFRAME_TEST_MODELS")
    if not folder or not (Path(folder) / GARDEN).exists():
        raise SystemExit(f"Set FARFRAME_TEST_MODELS to a folder with {GARDEN} and the models.")
    engine = Engine.create("cpu")
    try:
        samples = 64 if quick else 400
        pictures = PICTURES if not quick else Path("out/reference")
        return {
            "rows": compare_rows(engine, Path(folder), 112, samples, pictures),
            "models": compare_models(engine, Path(folder), (360, 270), samples // 2, pictures),
        }
    finally:
        engine.close()
