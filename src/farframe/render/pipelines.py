"""Pipelines: one WGSL source per pass, specialised by flags before it is compiled, and cached for good.

A variant exists for every combination of features that a loaded material really has, so a plain metal part pays for
no texture, no alpha and no second side. Pipelines are made while a model is uploaded, never while a frame is drawn.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import IntFlag
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import wgpu

from farframe.asset.model import VERTEX_DTYPE, AlphaMode, Material
from farframe.render import environment
from farframe.render.occlusion import TILE

COLOR_FORMAT = "rgba8unorm-srgb"
"""The hardware (or lavapipe) encodes sRGB on store and decodes it for blending and for the MSAA resolve."""
DEPTH_FORMAT = "depth32float"
LINEAR_DEPTH_FORMAT = "r32float"

INSTANCE_DTYPE = np.dtype(
    [
        ("matrix", "<f4", (3, 4)),
        ("base_color", "<f4", 4),
        ("surface", "<f4", 4),
        ("emissive", "<f4", 4),
        ("tint", "<f4", 4),
        ("flags", "<u4", 4),
    ]
)
"""One row per instance, 128 bytes, read as per-instance vertex attributes: on lavapipe that is a fifth faster than a
storage buffer indexed by instance, and it knows no binding limit. ``matrix``: the upper rows of part space to
origin-relative world; ``surface``: metallic, roughness, normal scale, occlusion strength; ``emissive``'s fourth
number is the alpha cutoff. Material factors stand per instance so that a later override costs nothing. ``tint``: what
is seen instead, linear RGB and how much of it; ``flags``: states, cut-plane mask, material in the buffer of extras (see
``materials``), and the bits of a 32-bit float, see ``z_fighting``. A pipeline declares, and so fetches, only what its
shader reads."""

SLOTS = ("base_color", "metallic_roughness", "normal", "occlusion", "emissive", "metalness")
"""The texture slots of a material, in the order of their bindings. The last is read only where metalness has a texture
of its own; models' own materials have it in the same as roughness."""
OWN_SLOTS = SLOTS[:5]
"""Those that a model's own material can name."""


class LightFeature(IntFlag):
    """What the lights that are seen have: a shader can do no more."""

    NONE = 0
    ANY = 1
    SHAPES = 2
    """Size, length or an image."""
    CONES = 4


@dataclass(frozen=True, slots=True)
class Variant:
    """What a pipeline can do. ``uv_sets``: per slot of :data:`SLOTS` the UV set, or -1 where no texture is read.
    ``normal_xy``: the normal map has two channels; ``points``: a point cloud, of which nothing else here is true."""

    uv_sets: tuple[int, int, int, int, int, int] = (-1, -1, -1, -1, -1, -1)
    alpha_mode: AlphaMode = "opaque"
    emissive: bool = False
    unlit: bool = False
    vertex_color: bool = False
    double_sided: bool = False
    mirrored: bool = False
    normal_xy: bool = False
    points: bool = False
    tinted: bool = False
    """Reads the instances' tint. No trait of a material: set for a batch in which anything is tinted."""
    lit: LightFeature = LightFeature.NONE
    """Goes through the lights of its cell, see ``lights``. No trait of a material: set while any light is seen."""
    wireframe: bool = False
    """Triangles are drawn as lines."""
    silhouette: bool = False
    """Only tells where a surface is; see :meth:`silhouettes`."""
    cut: int = 0
    """How many cut planes there may be: 0, 1, 2, 4 or 8. Like the next three no trait of a material, see ``styles``."""
    cut_fade: bool = False
    """Next to cut planes there is a colour."""
    shell: bool = False
    see_through: bool = False
    clipped: bool = False
    """Blended, and yet nothing is drawn where opacity is below the cutoff."""
    extras: bool = False
    """Reads the rare properties of materials from their buffer."""
    fresnel: bool = False
    packed: bool = True
    """Roughness and metalness are channels of one texture, if they have one."""
    grey: tuple[bool, ...] = (False,) * len(SLOTS)
    """Per slot whether the texture has a red channel only."""
    derived_tangents: bool = False
    """The part has no tangents for its normal map: they follow from how its texture lies on the screen."""
    writes_depth: bool = False
    """Blended, and yet the nearest of its surfaces counts for depth."""

    @staticmethod
    def of(material: Material, *, vertex_color: bool, mirrored: bool, normal_xy: bool = False) -> Variant:
        """The least variant that draws ``material`` right."""
        emissive = max(material.emissive) > 0.0 and not material.unlit
        slots = [getattr(material, f"{name}_texture") for name in OWN_SLOTS]
        if material.unlit:
            slots[1:] = [None] * 4
        if not emissive:
            slots[4] = None
        uv = tuple(-1 if slot is None else int(slot.uv_set) for slot in slots)
        return Variant(
            uv_sets=(uv[0], uv[1], uv[2], uv[3], uv[4], -1),
            alpha_mode=material.alpha_mode,
            emissive=emissive,
            unlit=material.unlit,
            vertex_color=vertex_color,
            double_sided=material.double_sided,
            mirrored=mirrored,
            normal_xy=normal_xy and uv[2] >= 0,
            writes_depth=material.transparency_writes_depth and material.alpha_mode == "blend",
        )

    def silhouettes(self) -> Variant:
        """What tells where surfaces of this variant are, and nothing of how they look."""
        mask = self.alpha_mode == "mask" or self.clipped
        return Variant(
            uv_sets=(self.uv_sets[0] if mask else -1, -1, -1, -1, -1, -1),
            grey=(self.grey[0] and mask, *self.grey[1:]),
            extras=self.extras and mask,
            alpha_mode="mask" if mask else "opaque",
            unlit=True,
            vertex_color=self.vertex_color and mask,
            double_sided=self.double_sided,
            mirrored=self.mirrored,
            silhouette=True,
            cut=self.cut,
            shell=self.shell,
        )

    @property
    def blended(self) -> bool:
        """Whether what is behind is seen through it."""
        return self.alpha_mode == "blend" or self.see_through

    @property
    def textured(self) -> bool:
        """Whether any texture is read."""
        return max(self.uv_sets) >= 0

    def flags(self, samples: int) -> dict[str, str]:
        """The preprocessor's names for this variant, drawn with ``samples`` per pixel."""
        on = {
            "UV0": 0 in self.uv_sets,
            "UV1": 1 in self.uv_sets,
            "MASK": self.alpha_mode == "mask",
            "BLEND": self.alpha_mode == "blend",
            "ALPHA_TO_COVERAGE": self.alpha_mode == "mask" and samples > 1 and not (self.shell or self.see_through),
            "STYLED": self.cut > 0 or self.shell,
            "INVARIANT": self.shell,
            "CUT_FADE": self.cut_fade and not self.silhouette,
            "SHELL": self.shell and not self.silhouette,
            "SEE_THROUGH": self.see_through and not self.silhouette,
            "SILHOUETTE": self.silhouette,
            "CENTROID": samples > 1,
            "EMISSIVE": self.emissive,
            "EMISSIVE_OR_MASK": self.emissive or self.alpha_mode == "mask" or self.clipped,
            "CLIP": self.clipped,
            "EXTRAS": self.extras,
            "FRESNEL": self.fresnel,
            "NORMAL": self.fresnel or not self.unlit,
            "PACKED": self.packed,
            "DERIVED_TANGENTS": self.derived_tangents,
            "VERTEX_TANGENTS": self.uv_sets[2] >= 0 and not self.derived_tangents,
            "UNLIT": self.unlit,
            "VERTEX_COLOR": self.vertex_color,
            "DOUBLE_SIDED": self.double_sided,
            "MIRRORED": self.mirrored,
            "NORMAL_XY": self.normal_xy,
            "TINT": self.tinted,
            "LIGHTS": bool(self.lit),
            "LIGHT_SHAPES": LightFeature.SHAPES in self.lit,
            "LIGHT_CONES": LightFeature.CONES in self.lit,
            # Irradiance is smooth enough for one value per vertex, which spares a CPU a tenth of the frame; only a
            # normal map or a second side turns the normal after the vertex.
            "VERTEX_IRRADIANCE": not (self.unlit or self.double_sided or self.uv_sets[2] >= 0),
        }
        flags = {name: "" for name, value in on.items() if value}
        if self.cut:
            flags["CUT"] = str(self.cut)
        if self.see_through:
            flags["SEE_THROUGH_OPACITY"] = str(SEE_THROUGH_OPACITY)
        for slot, uv_set, grey in zip(SLOTS, self.uv_sets, self.grey, strict=True):
            if uv_set >= 0:
                flags[f"{slot.upper()}_TEXTURE"] = ""
                flags[f"{slot.upper()}_UV"] = f"uv{uv_set}"
                if grey:
                    flags[f"{slot.upper()}_GREY"] = ""
        return flags


LAYER_TILE = 16
"""Pixels along the side of the squares of which those without any layer are not composed, see ``layers``."""
POLYGON_LINES = "polygon-mode-line"
CLIP_DISTANCES = "clip-distances"
RISKY = 2e-4
"""Surfaces that are this share of their distance apart, or less, are told by highlighting of z-fighting."""
EARLY_DEPTH_TEST = "shader-early-depth-test"
"""Lets what is hidden add no layer; without it such layers are found and passed over when they are composed."""
SEE_THROUGH_OPACITY = 0.5
"""How much of what is see-through is seen itself."""

OVER: dict[str, Any] = {
    "color": {"src_factor": "one", "dst_factor": "one-minus-src-alpha", "operation": "add"},
    "alpha": {"src_factor": "one", "dst_factor": "one-minus-src-alpha", "operation": "add"},
}
"""What is blended over what is there, its colour multiplied by its alpha already."""


@dataclass(frozen=True, slots=True)
class Use:
    """What surfaces are drawn for: into which format, blended how, compared with and written to depth how.

    ``depth_compare`` ``None``: there is no depth. ``blend`` is told by its name, see :attr:`blend`."""

    color_format: str = COLOR_FORMAT
    write_mask: int = 0xF
    blending: str = ""
    depth_compare: str | None = "greater"
    depth_write: bool = True
    silhouettes: bool = False
    """Only where surfaces are is wanted."""
    numbers: bool = False
    """Instances are told apart, see ``highlighting``."""
    layers: bool = False
    """They are added to lists of layers and draw no colour, see ``layers``."""

    @property
    def blend(self) -> dict[str, Any] | None:
        """The blend state: ``over``, ``most`` (the greatest of each channel), or the material's own."""
        if self.blending == "most":
            most = {"src_factor": "one", "dst_factor": "one", "operation": "max"}
            return {"color": most, "alpha": most}
        return OVER if self.blending == "over" else None


PICTURE = Use()
"""The picture itself."""


@cache
def shown(variant: Variant, lit: LightFeature, wireframe: bool) -> Variant:
    """The variant that goes through the lights of its cell, or shows its triangles as lines, besides."""
    return replace(variant, lit=LightFeature.NONE if variant.unlit else lit, wireframe=wireframe)


_WORD = re.compile(r"\b[A-Z][A-Z0-9_]+\b")


def preprocess(source: str, flags: dict[str, str]) -> str:
    """``source`` with ``#ifdef``, ``#ifndef``, ``#else`` and ``#endif`` resolved and valued flags replaced."""
    values = {name: value for name, value in flags.items() if value}
    lines: list[str] = []
    active = [True]
    for line in source.splitlines():
        word, _, name = line.strip().partition(" ")
        if word == "#ifdef":
            active.append(name in flags)
        elif word == "#ifndef":
            active.append(name not in flags)
        elif word == "#else":
            active[-1] = not active[-1]
        elif word == "#endif":
            active.pop()
        elif all(active):
            lines.append(_WORD.sub(lambda match: values.get(match[0], match[0]), line))
    if len(active) != 1:
        raise ValueError("an #ifdef without its #endif, or the other way round")
    return "\n".join(lines)


@cache
def shader_source(name: str) -> str:
    """The text of ``shaders/NAME.wgsl``."""
    return resources.files("farframe.render").joinpath("shaders", f"{name}.wgsl").read_text(encoding="utf-8")


def _vertex_buffers(flags: dict[str, str]) -> list[dict[str, Any]]:
    """The vertex layout of a variant: only what its shader reads, for lavapipe fetches whatever is declared."""

    def attribute(dtype: np.dtype[Any], field: str, kind: str, location: int) -> dict[str, Any]:
        assert dtype.fields is not None
        return {"format": kind, "offset": dtype.fields[field][1], "shader_location": location}

    vertex = [attribute(VERTEX_DTYPE, "position", "float32x3", 0), attribute(VERTEX_DTYPE, "normal", "snorm8x4", 1)]
    if "VERTEX_TANGENTS" in flags:
        vertex.append(attribute(VERTEX_DTYPE, "tangent", "snorm8x4", 2))
    if "UV0" in flags:
        vertex.append(attribute(VERTEX_DTYPE, "uv0", "float32x2", 3))
    if "UV1" in flags:
        vertex.append(attribute(VERTEX_DTYPE, "uv1", "float32x2", 4))
    if "VERTEX_COLOR" in flags:
        vertex.append(attribute(VERTEX_DTYPE, "color", "unorm8x4", 5))
    instance = [{"format": "float32x4", "offset": 16 * row, "shader_location": 6 + row} for row in range(3)]
    instance.append(attribute(INSTANCE_DTYPE, "base_color", "float32x4", 9))
    instance.append(attribute(INSTANCE_DTYPE, "surface", "float32x4", 10))
    if "EMISSIVE_OR_MASK" in flags:
        instance.append(attribute(INSTANCE_DTYPE, "emissive", "float32x4", 11))
    if "TINT" in flags:
        instance.append(attribute(INSTANCE_DTYPE, "tint", "float32x4", 12))
    if "EXTRAS" in flags:
        assert INSTANCE_DTYPE.fields is not None
        offset = INSTANCE_DTYPE.fields["flags"][1] + 8
        instance.append({"format": "uint32", "offset": offset, "shader_location": 13})
    assert INSTANCE_DTYPE.fields is not None
    numbers = INSTANCE_DTYPE.fields["flags"][1]
    if "CUT" in flags:
        instance.append({"format": "uint32", "offset": numbers + 4, "shader_location": 14})
    instance.append({"format": "float32", "offset": numbers + 12, "shader_location": 15})
    return [
        {"array_stride": VERTEX_DTYPE.itemsize, "attributes": vertex},
        {"array_stride": INSTANCE_DTYPE.itemsize, "step_mode": "instance", "attributes": instance},
    ]


PIECES = {
    "surface": ("styles", "extras", "lights", "shading", "layers"),
    "caps": ("styles", "lights", "shading"),
}
"""Sources that are joined to another, features of their own that its hooks call."""


class Pipelines:
    """All pipelines of a device, and the layouts that bind groups must follow.

    ``created`` counts the pipelines made so far: tests hold that a frame makes none. Group 0 is the view (a uniform
    with a dynamic offset, the environment and its sampler, tables of lights and what they project), group 1 a
    material's textures or the depth to read.
    """

    def __init__(self, device: Any) -> None:
        self._device = device
        self.created = 0
        self.draws_lines = POLYGON_LINES in device.features
        """Whether triangles can be drawn as lines; else they stay filled."""
        self.clips = CLIP_DISTANCES in device.features
        """Whether the device cuts triangles at planes; else their fragments are looked at one by one."""
        self._surfaces: dict[tuple[Variant, int, Use], Any] = {}
        self._backdrops: dict[tuple[int, bool], Any] = {}
        self._depths: dict[int, Any] = {}
        self._farthest: dict[int, Any] = {}
        self._modules: dict[tuple[str, frozenset[tuple[str, str]]], Any] = {}
        stage = wgpu.ShaderStage
        both = stage.VERTEX | stage.FRAGMENT
        self.view_layout = device.create_bind_group_layout(
            label="view",
            entries=[
                {"binding": 0, "visibility": both, "buffer": {"type": "uniform", "has_dynamic_offset": True}},
                {
                    "binding": 1,
                    "visibility": stage.FRAGMENT,
                    "texture": {"sample_type": "float", "view_dimension": "2d-array"},
                },
                {"binding": 2, "visibility": stage.FRAGMENT, "sampler": {"type": "filtering"}},
                {"binding": 3, "visibility": stage.FRAGMENT, "buffer": {"type": "read-only-storage"}},
                {"binding": 4, "visibility": stage.FRAGMENT, "buffer": {"type": "read-only-storage"}},
                {
                    "binding": 5,
                    "visibility": stage.FRAGMENT,
                    "texture": {"sample_type": "float", "view_dimension": "2d-array"},
                },
                {"binding": 7, "visibility": both, "buffer": {"type": "uniform"}},
            ],
        )
        textures: list[dict[str, Any]] = []
        for slot in range(len(SLOTS)):
            textures.append({"binding": 2 * slot, "visibility": stage.FRAGMENT, "texture": {"sample_type": "float"}})
            textures.append({"binding": 2 * slot + 1, "visibility": stage.FRAGMENT, "sampler": {"type": "filtering"}})
        self.texture_layout = device.create_bind_group_layout(label="textures", entries=textures)
        self.extras_layout = device.create_bind_group_layout(
            label="materials",
            entries=[{"binding": 0, "visibility": both, "buffer": {"type": "read-only-storage"}}],
        )
        storage = {"visibility": stage.FRAGMENT, "buffer": {"type": "storage"}}
        self.layers_layout = device.create_bind_group_layout(
            label="layers", entries=[{"binding": binding, **storage} for binding in (0, 1)]
        )
        self.tests_early = EARLY_DEPTH_TEST in device.features
        self.depth_layouts = {
            samples: device.create_bind_group_layout(
                label="depth",
                entries=[
                    {
                        "binding": 0,
                        "visibility": stage.FRAGMENT,
                        "texture": {"sample_type": "depth", "multisampled": samples > 1},
                    }
                ],
            )
            for samples in (1, 4)
        }

    def _module(self, name: str, flags: dict[str, str]) -> Any:
        key = (name, frozenset(flags.items()))
        if key not in self._modules:
            code = preprocess(
                shader_source("view") + "".join(map(shader_source, PIECES.get(name, ()))) + shader_source(name), flags
            )
            if "CLIPPED" in flags:
                code = "enable clip_distances;\n" + code
            self._modules[key] = self._device.create_shader_module(label=name, code=code)
        return self._modules[key]

    def surface(self, variant: Variant, samples: int, use: Use = PICTURE) -> Any:
        """The pipeline that draws surfaces of ``variant``, into the picture or otherwise; made at the first call."""
        # What counts for depth is drawn once more for it; by itself it is drawn alike.
        key = (replace(variant, writes_depth=False), samples, use)
        if key not in self._surfaces:
            self._surfaces[key] = self._make_surface(variant, samples, use)
        return self._surfaces[key]

    def _make_surface(self, variant: Variant, samples: int, use: Use) -> Any:
        flags = variant.flags(samples)
        flags |= {
            "ENVIRONMENT_LAYERS": str(environment.LAYERS),
            "ENVIRONMENT_SIZE": str(environment.SIZE),
            "ENVIRONMENT_RANGE": str(environment.RANGE),
        }
        if use.numbers:
            flags["NUMBERS"] = str(RISKY)
            flags.pop("ALPHA_TO_COVERAGE", None)
        if "CUT" in flags and not self.clips:
            flags["UNCLIPPED"] = ""
        if use.layers:
            flags |= {"LAYERS": "", "TILE": f"{LAYER_TILE}u"}
            if self.tests_early:
                flags["EARLY"] = ""
        module = vertices = self._module("surface", flags)
        if "CUT" in flags and self.clips:
            vertices = self._module("surface", flags | {"CLIPPED": ""})
        layouts = [self.view_layout]
        if variant.textured or variant.extras or use.layers:
            layouts.append(self.texture_layout)
        if variant.extras or use.layers:
            layouts.append(self.extras_layout)
        if use.layers:
            layouts.append(self.layers_layout)
        target: dict[str, Any] = {"format": use.color_format, "write_mask": use.write_mask}
        if use.blend is not None:
            target["blend"] = use.blend
        depth = {
            "format": DEPTH_FORMAT,
            "depth_write_enabled": use.depth_write,
            "depth_compare": use.depth_compare,
        }
        self.created += 1
        return self._device.create_render_pipeline(
            label=str(variant),
            layout=self._device.create_pipeline_layout(bind_group_layouts=layouts),
            vertex={"module": vertices, "entry_point": "vertex", "buffers": _vertex_buffers(flags)},
            fragment={"module": module, "entry_point": "fragment", "targets": [] if use.layers else [target]},
            primitive={
                "topology": "triangle-list",
                "cull_mode": "none" if variant.double_sided else "back",
                "front_face": "cw" if variant.mirrored else "ccw",
                "polygon_mode": "Line" if variant.wireframe and self.draws_lines else "Fill",
            },
            depth_stencil=depth if use.depth_compare else None,
            multisample={"count": samples, "alpha_to_coverage_enabled": "ALPHA_TO_COVERAGE" in flags},
        )

    def backdrop(self, samples: int, *, behind: bool) -> Any:
        """The pipeline that fills the background: ``behind`` surfaces that are there already, or all of a target."""
        key = (samples, behind)
        if key not in self._backdrops:
            module = self._module("backdrop", {})
            depth = {"format": DEPTH_FORMAT, "depth_write_enabled": False, "depth_compare": "greater-equal"}
            self.created += 1
            self._backdrops[key] = self._device.create_render_pipeline(
                label="backdrop",
                layout=self._device.create_pipeline_layout(bind_group_layouts=[self.view_layout]),
                vertex={"module": module, "entry_point": "full_screen"},
                fragment={"module": module, "entry_point": "backdrop", "targets": [{"format": COLOR_FORMAT}]},
                primitive={"topology": "triangle-list"},
                depth_stencil=depth if behind else None,
                multisample={"count": samples},
            )
        return self._backdrops[key]

    def linear_depth(self, samples: int) -> Any:
        """The pipeline that turns a depth attachment of ``samples`` into metres."""
        if samples not in self._depths:
            module = self._module("depth", {"MULTISAMPLED": ""} if samples > 1 else {})
            layouts = [self.view_layout, self.depth_layouts[samples]]
            self.created += 1
            self._depths[samples] = self._device.create_render_pipeline(
                label="linear depth",
                layout=self._device.create_pipeline_layout(bind_group_layouts=layouts),
                vertex={"module": module, "entry_point": "full_screen"},
                fragment={
                    "module": module,
                    "entry_point": "linear_depth",
                    "targets": [{"format": LINEAR_DEPTH_FORMAT}],
                },
                primitive={"topology": "triangle-list"},
            )
        return self._depths[samples]

    def farthest(self, samples: int) -> Any:
        """The pipeline that reduces a depth attachment of ``samples`` to the farthest depth of squares of pixels."""
        if samples not in self._farthest:
            module = self._module("farthest", {"TILE": str(TILE)} | ({"MULTISAMPLED": ""} if samples > 1 else {}))
            layouts = [self.view_layout, self.depth_layouts[samples]]
            self.created += 1
            self._farthest[samples] = self._device.create_render_pipeline(
                label="farthest depth",
                layout=self._device.create_pipeline_layout(bind_group_layouts=layouts),
                vertex={"module": module, "entry_point": "full_screen"},
                fragment={"module": module, "entry_point": "farthest", "targets": [{"format": LINEAR_DEPTH_FORMAT}]},
                primitive={"topology": "triangle-list"},
            )
        return self._farthest[samples]
