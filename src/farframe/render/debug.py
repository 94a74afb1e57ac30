"""What is drawn over a picture to look into it: counters as text, and edges as CAD tools draw them.

    edges     a pass over the depth of the picture: a line where neighbouring pixels' places turn or jump
    counters  one line of text each, rasterised when they change, drawn texel by pixel and so sharp at all sizes

Triangles as lines (``wireframe``) are a variant of the surfaces' pipelines. What is off is not made and not recorded.
The font is Aileron Regular (CC0), which Pillow brings along.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import wgpu
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from farframe.render.frame import Viewport
from farframe.render.pipelines import COLOR_FORMAT, OVER, Pipelines, preprocess, shader_source
from farframe.render.targets import Attachments
from farframe.scene.effects import DebugSettings

EDGE_DEGREES = (14.0, 32.0)
"""A fold of the first angle, between two pixels, is no edge yet; one of the second is drawn in full."""
EDGE_OPACITY = 0.85
GAP_PIXELS = 4.0
STEEPER = 4.0
"""A step in depth by more than so many widths of a pixel, and so many times that before it, is a gap: there a surface
ends, and only the nearer side has a line."""

TEXT_SHARE = 1.0 / 36.0
LEAST_TEXT_PIXELS = 9
"""Height of the font, as a share of the picture's and at least."""
PLATE_OPACITY = 0.5
RATE_SECONDS = 1.0
"""Over how long the rate of frames is taken."""


class FrameMeter:
    """Counts pictures, and how many there were in the last moment."""

    def __init__(self) -> None:
        self.count = 0
        self._times: deque[float] = deque()

    def add(self, seconds: float) -> None:
        """A picture was begun at that time."""
        self.count += 1
        self._times.append(seconds)
        while len(self._times) > 2 and seconds - self._times[0] > RATE_SECONDS:
            self._times.popleft()

    @property
    def per_second(self) -> float:
        """Pictures a second, 0 before there were two."""
        elapsed = self._times[-1] - self._times[0] if len(self._times) > 1 else 0.0
        return (len(self._times) - 1) / elapsed if elapsed > 0.0 else 0.0


def counters(settings: DebugSettings, meter: FrameMeter, triangles: int, points: int) -> tuple[str, ...]:
    """The lines of text that a picture shows."""
    lines = []
    if settings.frame_count:
        lines.append(f"Frame {meter.count:,}   {meter.per_second:.1f} per second")
    if settings.polygon_count:
        lines.append(f"{triangles:,} triangles" + (f"   {points:,} points" if points else ""))
    return tuple(lines)


@cache
def _font(pixels: int) -> Any:
    return ImageFont.load_default(pixels)


def rasterise(lines: tuple[str, ...], pixels: int) -> NDArray[np.uint8]:
    """Coverage (h, w) uint8 of lines of text in a font of that height, with a margin around."""
    font = _font(pixels)
    pitch, margin = round(pixels * 1.3), max(2, pixels // 3)
    width = math.ceil(max(font.getlength(line) for line in lines)) + 2 * margin
    image = Image.new("L", (width, pitch * len(lines) + 2 * margin))
    drawing = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        drawing.text((margin, margin + number * pitch), line, fill=255, font=font)
    return np.asarray(image)


class DebugDrawing:
    """The passes, on a device. ``meter`` counts the pictures of all scenes."""

    def __init__(self, device: Any, pipelines: Pipelines) -> None:
        self._device = device
        self._pipelines = pipelines
        self.meter = FrameMeter()
        self._edges: dict[int, Any] = {}
        self._overlay: tuple[Any, Any, Any] | None = None
        self._text: tuple[tuple[tuple[str, ...], int], Any, tuple[int, int]] | None = None
        self._lines: tuple[str, ...] = ()

    def record(
        self,
        encoder: Any,
        attachments: Attachments,
        ports: tuple[Viewport, ...],
        settings: DebugSettings,
        set_view: Callable[[Any, int], None],
        *,
        lines: tuple[str, ...],
        full_height: int,
        first_row: int,
    ) -> None:
        """Record what ``settings`` want over the picture in ``attachments``.

        ``lines``: see :func:`counters`; of a band of a picture that is ``full_height`` high, all in drawn pixels,
        ``first_row`` is the first. ``set_view`` binds a view in a pass and its part of the target. Edges need the depth
        of the picture.
        """
        passing = encoder.begin_render_pass(
            color_attachments=[{"view": attachments.color_view, "load_op": "load", "store_op": "store"}]
        )
        if settings.edges:
            passing.set_pipeline(self._edge_pipeline(attachments.samples))
            for index in range(len(ports)):
                set_view(passing, index)
                passing.set_bind_group(1, attachments.depth_group())
                passing.draw(3)
        if lines:
            size = max(LEAST_TEXT_PIXELS, round(full_height * TEXT_SHARE))
            pipeline, group, (width, height) = self._prepare_text(lines, size, first_row)
            margin = size // 2
            top, bottom = max(margin - first_row, 0), min(margin + height - first_row, attachments.height)
            if bottom > top:
                passing.set_pipeline(pipeline)
                for index, port in enumerate(ports):
                    set_view(passing, index)
                    right = min(port.x + margin + width, port.x + port.width)
                    passing.set_scissor_rect(port.x + margin, top, max(right - port.x - margin, 0), bottom - top)
                    passing.set_bind_group(1, group)
                    passing.draw(3)
        passing.end()

    def _edge_pipeline(self, samples: int) -> Any:
        if samples not in self._edges:
            smooth, sharp = (math.radians(angle) for angle in EDGE_DEGREES)
            flags = {
                "SMOOTH_ANGLE": f"{smooth:.6f}",
                "EDGE_ANGLE": f"{sharp:.6f}",
                "OPACITY": str(EDGE_OPACITY),
                "GAP": str(GAP_PIXELS),
                "STEEPER": str(STEEPER),
                "SAMPLES": str(samples),
            }
            if samples > 1:
                flags["MULTISAMPLED"] = ""
            layouts = [self._pipelines.view_layout, self._pipelines.depth_layouts[samples]]
            self._edges[samples] = self._make("edges", flags, layouts)
        return self._edges[samples]

    def _make(self, name: str, flags: dict[str, str], layouts: list[Any]) -> Any:
        code = preprocess(shader_source("view") + shader_source(name), flags)
        module = self._device.create_shader_module(label=name, code=code)
        self._pipelines.created += 1
        return self._device.create_render_pipeline(
            label=name,
            layout=self._device.create_pipeline_layout(bind_group_layouts=layouts),
            vertex={"module": module, "entry_point": "full_screen"},
            fragment={
                "module": module,
                "entry_point": "fragment",
                "targets": [{"format": COLOR_FORMAT, "blend": OVER}],
            },
            primitive={"topology": "triangle-list"},
        )

    def _prepare_text(self, lines: tuple[str, ...], size: int, first_row: int) -> tuple[Any, Any, tuple[int, int]]:
        """The pipeline, the bind group and the width and height of the text, on the device."""
        if self._overlay is None:
            stage = wgpu.ShaderStage.FRAGMENT
            layout = self._device.create_bind_group_layout(
                label="overlay",
                entries=[
                    {"binding": 0, "visibility": stage, "texture": {"sample_type": "unfilterable-float"}},
                    {"binding": 1, "visibility": stage, "buffer": {"type": "uniform"}},
                ],
            )
            usage = wgpu.BufferUsage.UNIFORM | wgpu.BufferUsage.COPY_DST
            uniform = self._device.create_buffer(label="overlay", size=16, usage=usage)
            pipeline = self._make("overlay", {}, [self._pipelines.view_layout, layout])
            self._overlay = (pipeline, layout, uniform)
        pipeline, layout, uniform = self._overlay
        if self._text is None or self._text[0] != (lines, size):
            image = rasterise(lines, size)
            height, width = image.shape
            if self._text is not None:
                self._text[1][0].destroy()
            texture = self._device.create_texture(
                label="overlay",
                size=(width, height, 1),
                format="r8unorm",
                usage=wgpu.TextureUsage.TEXTURE_BINDING | wgpu.TextureUsage.COPY_DST,
            )
            self._device.queue.write_texture(
                {"texture": texture}, image, {"bytes_per_row": width, "rows_per_image": height}, (width, height, 1)
            )
            group = self._device.create_bind_group(
                layout=layout,
                entries=[
                    {"binding": 0, "resource": texture.create_view()},
                    {"binding": 1, "resource": {"buffer": uniform, "offset": 0, "size": 16}},
                ],
            )
            self._text = ((lines, size), (texture, group), (width, height))
        margin = size // 2
        place = np.array((margin, margin - first_row, PLATE_OPACITY, 0.0), np.float32)
        self._device.queue.write_buffer(uniform, 0, place)
        return pipeline, self._text[1][1], self._text[2]
