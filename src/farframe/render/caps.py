"""Caps: what is solid and cut open is closed by the cut plane, without any geometry of its own.

For each plane that the eye looks through, two passes:

    count    all faces behind the plane of what it goes through, without depth: backs by 1, fronts by -1. What is left
             in a pixel is how many solids the plane lies in there, and the sum of their colours: faces of what it does
             not lie in cancel each other, colours and all (the winding number, as in capping by stencils, McReynolds
             and Blythe, "Advanced Graphics Programming Using OpenGL", 2005, 16.9, with colours beside it)
    draw     where anything is left, the plane: its place, its depth and its normal, lit as a matt surface

Both are done per sample, so that edges of caps are as smooth as the picture. Counting needs all faces, also those that
other planes cut away or that are hidden: :attr:`~farframe.render.visibility.Selection.caps`. Which parts are solid
tells ``solids``. While no plane is capped, or none goes through anything, nothing of this is made or done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import wgpu
from numpy.typing import NDArray

from farframe.asset.model import VERTEX_DTYPE
from farframe.protocol.records import View
from farframe.render import environment
from farframe.render.cut_planes import CutPlanes
from farframe.render.frame import rotation_matrix
from farframe.render.outlines import Bounds
from farframe.render.pipelines import (
    COLOR_FORMAT,
    DEPTH_FORMAT,
    INSTANCE_DTYPE,
    PIECES,
    LightFeature,
    Pipelines,
    Variant,
    preprocess,
    shader_source,
)
from farframe.render.targets import Attachments
from farframe.render.visibility import JOINED
from farframe.render.z_fighting import LEVELS, STEP
from farframe.scene.effects import MAX_CUT_PLANES

COUNT_FORMAT = "rgba16float"
"""The least that every device blends and that has signs. Parts are drawn one after the other, so that sums stay small
and exact enough."""
UNLIT_STEPS = 16.0
"""The number of solids has, as 16ths, how much of their colour is not lit: more solids in one place than this are
miscounted."""
JOINED_GREY = 0.35
"""The colour, linear, of the inside of bodies that have several."""
ROUGHNESS = 0.7
"""Of caps, whatever the part: they look sawn, not polished."""
HATCH_PIXELS = 9.0
"""How far apart lines are, at least and up to twice as far, in the picture as it is shown."""
LINE_PIXELS = 1.0
_PHASE_METERS = 1024.0
"""Lines repeat after so many metres, so that single precision can tell where they are far from the origin."""
_STRIDE = 256

CAP_DTYPE = np.dtype(
    [
        ("plane", "<f4", 4),
        ("color", "<f4", 4),
        ("hatch", "<f4", 4),
        ("numbers", "<f4", 4),
        ("other", "<f4", 4),
    ]
)
"""The uniform ``Cap`` of ``shaders/caps.wgsl``."""


@dataclass(frozen=True, slots=True)
class CountKind:
    """How faces of a batch are counted; what decides the pipeline."""

    mirrored: bool
    unlit: bool
    tinted: bool
    textured: bool
    grey: bool
    joined: bool = False
    """Of bodies of several materials: their colours would not cancel each other."""

    @staticmethod
    def of(variant: Variant, style: int) -> CountKind:
        """How faces are counted that are drawn by ``variant``; ``style`` of a run of
        :attr:`~farframe.render.visibility.Selection.caps`."""
        if style & JOINED:
            return CountKind(variant.mirrored, unlit=False, tinted=False, textured=False, grey=False, joined=True)
        textured = variant.uv_sets[0] >= 0
        return CountKind(variant.mirrored, variant.unlit, variant.tinted, textured, textured and variant.grey[0])


def seen_caps(planes: CutPlanes, view: View, origin: NDArray[np.float64]) -> tuple[int, ...]:
    """The numbers of capped planes whose caps ``view`` may see: it stands in what they cut away and, by parallel
    rays, looks at what they leave. ``origin``: what the planes' offsets are relative to."""
    forward = -rotation_matrix(view.orientation)[:, 2]
    eye = np.array(view.position) - origin
    found = []
    for index in np.flatnonzero(planes.capped).tolist():
        normal = planes.normal[index].astype(np.float64)
        faces = normal @ forward < 0.0 if view.orthographic else normal @ eye > planes.offset[index]
        if faces:
            found.append(index)
    return tuple(found)


def shared_mask(planes: CutPlanes, masks: NDArray[np.unsignedinteger[Any]]) -> int | None:
    """A mask that stands for all of ``masks`` (n,), if the same planes concern them all; else ``None``."""
    kinds = np.unique(masks)
    concerned = (kinds[:, None] & planes.mask) != 0
    return int(kinds[0]) if len(kinds) and bool((concerned == concerned[0]).all()) else None


def hatch(normal: NDArray[np.float32], origin: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """The direction across the lines on a plane, at 45 degrees to the horizon where there is one, and how far along it
    ``origin`` is, up to the period of the lines."""
    n = normal.astype(np.float64)
    up = np.array([0.0, 1.0, 0.0]) if abs(n[1]) < 0.9 else np.array([0.0, 0.0, -1.0])
    right = np.cross(up, n)
    right /= np.linalg.norm(right)
    x, y, z = (right + np.cross(n, right)) / np.sqrt(2.0)
    return float(x), float(y), float(z), float(np.fmod(np.array([x, y, z]) @ origin, _PHASE_METERS))


class _Counts:
    """The counts of one size, and the group that reads them."""

    def __init__(self, device: Any, layout: Any, width: int, height: int, samples: int) -> None:
        usage = wgpu.TextureUsage.RENDER_ATTACHMENT | wgpu.TextureUsage.TEXTURE_BINDING
        self._texture = device.create_texture(
            label="caps", size=(width, height, 1), format=COUNT_FORMAT, usage=usage, sample_count=samples
        )
        self.view = self._texture.create_view()
        self.group = device.create_bind_group(layout=layout, entries=[{"binding": 0, "resource": self.view}])

    def destroy(self) -> None:
        """Free the texture."""
        self._texture.destroy()


class Caps:
    """The passes, on a device. Nothing is made before a capped plane goes through something solid."""

    def __init__(self, device: Any, pipelines: Pipelines) -> None:
        self._device = device
        self._pipelines = pipelines
        self._layout: Any = None
        self._group: Any = None
        self._uniform: Any = None
        self._counts_layouts: dict[int, Any] = {}
        self._counting: dict[tuple[CountKind, int, int, bool], Any] = {}
        self._drawing: dict[tuple[int, LightFeature, int], Any] = {}

    def record(
        self,
        encoder: Any,
        attachments: Attachments,
        planes: CutPlanes,
        seen: list[tuple[int, ...]],
        bounds: list[Bounds],
        origin: NDArray[np.float64],
        scale: float,
        lit: LightFeature,
        mask: int | None,
        set_view: Callable[[Any, int], None],
        draw_view: Callable[[Any, int, Callable[[CountKind], Any]], None],
        *,
        last: bool,
    ) -> None:
        """Record the caps of ``planes`` into the picture and the depth in ``attachments``, after what is opaque.

        By view: ``seen``, see :func:`seen_caps`, and ``bounds``, where there may be any. ``scale``: of the picture
        drawn to the one shown; ``mask``: of all that is closed, as far as planes are concerned, or ``None`` where there
        is more than one. ``set_view`` binds a view in a pass; ``draw_view`` draws the faces that are counted in
        it, by the pipelines that its last argument gives. ``last``: nothing is drawn per sample any more.
        """
        self._make()
        samples = attachments.samples
        self._write(planes, origin, scale, mask)
        counts: _Counts = attachments.companion(
            "caps",
            lambda: _Counts(self._device, self._counts_layout(samples), attachments.width, attachments.height, samples),
        )
        # One, two, four or eight, as for surfaces: another plane need not be another pipeline.
        size = 1 << max(len(planes) - 1, 0).bit_length()
        # Where planes meet is told for each pixel of a cap, unless parts differ in which planes concern them.
        each, once = (len(planes) > 1 and apart for apart in (mask is None, mask is not None))
        numbers = sorted({index for indices in seen for index in indices})
        for index in numbers:
            views = [number for number, indices in enumerate(seen) if index in indices]
            offset = [index * _STRIDE]
            passing = encoder.begin_render_pass(
                color_attachments=[
                    {"view": counts.view, "load_op": "clear", "store_op": "store", "clear_value": (0, 0, 0, 0)}
                ]
            )
            for number in views:
                set_view(passing, number)
                passing.set_bind_group(1, self._group, offset)
                draw_view(passing, number, lambda kind: self._count_pipeline(kind, samples, size, each))
            passing.end()
            passing = encoder.begin_render_pass(
                **attachments.pass_descriptor(None, keep_depth=True, first=False, last=last and index == numbers[-1])
            )
            passing.set_pipeline(self._draw_pipeline(samples, lit, size if once else 1))
            for number in views:
                set_view(passing, number)
                passing.set_scissor_rect(*bounds[number])
                passing.set_bind_group(1, self._group, offset)
                passing.set_bind_group(2, counts.group)
                passing.draw(3)
            passing.end()

    def _write(self, planes: CutPlanes, origin: NDArray[np.float64], scale: float, mask: int | None) -> None:
        staging = np.zeros((MAX_CUT_PLANES, _STRIDE), np.uint8)
        rows = np.zeros(len(planes), CAP_DTYPE)
        rows["plane"][:, :3], rows["plane"][:, 3] = planes.normal, planes.offset
        rows["color"] = planes.cap_color
        for index, row in enumerate(rows):
            row["hatch"] = hatch(planes.normal[index], origin)
            row["numbers"] = (index, planes.hatching[index], HATCH_PIXELS * scale * 2.0, max(LINE_PIXELS * scale, 0.75))
        # In front of all that may lie in its place, whatever level that has.
        rows["other"][:, 0] = LEVELS * STEP
        rows["other"][:, 1] = 0 if mask is None else mask
        staging[: len(rows), : CAP_DTYPE.itemsize] = rows.view(np.uint8).reshape(len(rows), -1)
        self._device.queue.write_buffer(self._uniform, 0, staging)

    def _make(self) -> None:
        if self._layout is not None:
            return
        stage = wgpu.ShaderStage
        self._layout = self._device.create_bind_group_layout(
            label="cap",
            entries=[
                {
                    "binding": 0,
                    "visibility": stage.VERTEX | stage.FRAGMENT,
                    "buffer": {"type": "uniform", "has_dynamic_offset": True},
                }
            ],
        )
        self._uniform = self._device.create_buffer(
            label="caps",
            size=MAX_CUT_PLANES * _STRIDE,
            usage=wgpu.BufferUsage.UNIFORM | wgpu.BufferUsage.COPY_DST,
        )
        self._group = self._device.create_bind_group(
            layout=self._layout,
            entries=[
                {"binding": 0, "resource": {"buffer": self._uniform, "offset": 0, "size": CAP_DTYPE.itemsize}},
            ],
        )

    def _counts_layout(self, samples: int) -> Any:
        if samples not in self._counts_layouts:
            self._counts_layouts[samples] = self._device.create_bind_group_layout(
                label="counts",
                entries=[
                    {
                        "binding": 0,
                        "visibility": wgpu.ShaderStage.FRAGMENT,
                        "texture": {"sample_type": "unfilterable-float", "multisampled": samples > 1},
                    }
                ],
            )
        return self._counts_layouts[samples]

    def _module(self, flags: dict[str, str]) -> Any:
        code = preprocess("".join(map(shader_source, ("view", *PIECES["caps"], "caps"))), flags)
        if "CLIPPED" in flags:
            code = "enable clip_distances;\n" + code
        return self._device.create_shader_module(label="caps", code=code)

    def _count_pipeline(self, kind: CountKind, samples: int, planes: int, several: bool) -> Any:
        key = (kind, samples, planes, several)
        if key not in self._counting:
            flags = {"COUNT": "", "STYLED": "", "CUT": str(planes), "UNLIT_STEPS": str(UNLIT_STEPS)}
            if several:
                flags["SEVERAL"] = ""
                if samples > 1:
                    flags["PER_SAMPLE"] = ""
            if kind.tinted:
                flags["TINT"] = ""
            if kind.unlit:
                flags["UNLIT_PART"] = ""
            if kind.joined:
                flags["JOINED_GREY"] = str(JOINED_GREY)
            if kind.textured:
                flags["BASE_COLOR_TEXTURE"] = ""
            if kind.grey:
                flags["BASE_COLOR_GREY"] = ""
            if not self._pipelines.clips:
                flags["UNCLIPPED"] = ""
            # The functions of light are not needed for counting.
            flags["UNLIT"] = ""
            fragments = vertices = self._module(flags)
            if self._pipelines.clips:
                vertices = self._module(flags | {"CLIPPED": ""})
            layouts = [self._pipelines.view_layout, self._layout]
            if kind.textured:
                layouts.append(self._pipelines.texture_layout)
            add = {"src_factor": "one", "dst_factor": "one", "operation": "add"}
            self._pipelines.created += 1
            self._counting[key] = self._device.create_render_pipeline(
                label="count what is solid",
                layout=self._device.create_pipeline_layout(bind_group_layouts=layouts),
                vertex={"module": vertices, "entry_point": "vertex", "buffers": _vertex_buffers(tinted=kind.tinted)},
                fragment={
                    "module": fragments,
                    "entry_point": "fragment",
                    "targets": [{"format": COUNT_FORMAT, "blend": {"color": add, "alpha": add}}],
                },
                primitive={
                    "topology": "triangle-list",
                    "cull_mode": "none",
                    "front_face": "cw" if kind.mirrored else "ccw",
                },
                multisample={"count": samples},
            )
        return self._counting[key]

    def _draw_pipeline(self, samples: int, lit: LightFeature, planes: int) -> Any:
        key = (samples, lit, planes)
        if key not in self._drawing:
            on = {
                "MULTISAMPLED": samples > 1,
                "LIGHTS": bool(lit),
                "LIGHT_SHAPES": LightFeature.SHAPES in lit,
                "LIGHT_CONES": LightFeature.CONES in lit,
            }
            flags = {name: "" for name, value in on.items() if value} | {
                "ENVIRONMENT_LAYERS": str(environment.LAYERS),
                "ENVIRONMENT_SIZE": str(environment.SIZE),
                "ENVIRONMENT_RANGE": str(environment.RANGE),
                "UNLIT_STEPS": str(UNLIT_STEPS),
                "ROUGHNESS": str(ROUGHNESS),
            }
            if planes > 1:
                flags |= {"SEVERAL": "", "STYLED": "", "CUT": str(planes)}
            module = self._module(flags)
            layouts = [self._pipelines.view_layout, self._layout, self._counts_layout(samples)]
            self._pipelines.created += 1
            self._drawing[key] = self._device.create_render_pipeline(
                label="draw caps",
                layout=self._device.create_pipeline_layout(bind_group_layouts=layouts),
                vertex={"module": module, "entry_point": "full_screen"},
                fragment={"module": module, "entry_point": "fragment", "targets": [{"format": COLOR_FORMAT}]},
                primitive={"topology": "triangle-list"},
                depth_stencil={"format": DEPTH_FORMAT, "depth_write_enabled": True, "depth_compare": "greater"},
                multisample={"count": samples},
            )
        return self._drawing[key]


def _vertex_buffers(*, tinted: bool) -> list[dict[str, Any]]:
    """Places, and of each instance what is needed to count it, of the buffers that surfaces are drawn from."""
    assert VERTEX_DTYPE.fields is not None and INSTANCE_DTYPE.fields is not None
    fields = INSTANCE_DTYPE.fields
    position = {"format": "float32x3", "offset": VERTEX_DTYPE.fields["position"][1], "shader_location": 0}
    instance = [{"format": "float32x4", "offset": 16 * row, "shader_location": 6 + row} for row in range(3)]
    instance.append({"format": "float32x4", "offset": fields["base_color"][1], "shader_location": 9})
    if tinted:
        instance.append({"format": "float32x4", "offset": fields["tint"][1], "shader_location": 12})
    instance.append({"format": "uint32", "offset": fields["flags"][1] + 4, "shader_location": 14})
    return [
        {"array_stride": VERTEX_DTYPE.itemsize, "attributes": [position]},
        {"array_stride": INSTANCE_DTYPE.itemsize, "step_mode": "instance", "attributes": instance},
    ]
