"""Where surfaces of different parts lie in nearly the same place, a checkerboard moves over the picture.

Once the picture's depth is there, all opaque surfaces are drawn again, a little nearer than they are, and all that are
not behind it count: those that are seen, and those that lie right below. Each part has a number; where more than one
number is found, surfaces would fight for the pixel. This costs about as much as the picture's own geometry and is done
only while somebody wants to see it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import wgpu

from farframe.render.pipelines import COLOR_FORMAT, Pipelines, Use, preprocess, shader_source
from farframe.render.targets import Attachments

NUMBERS = Use(
    color_format="rgba8unorm",
    blending="most",
    depth_compare="greater-equal",
    depth_write=False,
    silhouettes=True,
    numbers=True,
)
"""What the parts' numbers are drawn for."""
TOLERANCE = 2.5 / 255
"""Steps of a number by which two must differ to be two."""
CELL_PIXELS = 8.0
"""Of the picture as it is shown."""
CELLS_PER_SECOND = 3.0
OPACITY = 0.8


class _Target:
    """The numbers of one size of picture."""

    def __init__(self, device: Any, layout: Any, uniform: Any, width: int, height: int, samples: int) -> None:
        usage = wgpu.TextureUsage
        size = (width, height, 1)
        self.numbers = device.create_texture(
            size=size, format=NUMBERS.color_format, usage=usage.RENDER_ATTACHMENT | usage.TEXTURE_BINDING
        )
        self.samples = None
        if samples > 1:
            self.samples = device.create_texture(
                size=size, format=NUMBERS.color_format, usage=usage.RENDER_ATTACHMENT, sample_count=samples
            )
        view = self.numbers.create_view()
        self.color: dict[str, Any] = {"load_op": "clear", "clear_value": (0, 0, 0, 0)}
        if self.samples is None:
            self.color |= {"view": view, "store_op": "store"}
        else:
            self.color |= {"view": self.samples.create_view(), "resolve_target": view, "store_op": "discard"}
        self.group = device.create_bind_group(
            layout=layout,
            entries=[
                {"binding": 0, "resource": view},
                {"binding": 1, "resource": {"buffer": uniform, "offset": 0, "size": 16}},
            ],
        )

    def destroy(self) -> None:
        """Free the textures."""
        self.numbers.destroy()
        if self.samples is not None:
            self.samples.destroy()


class Highlighting:
    """The passes that find and show such places, on a device. Nothing is made before somebody wants to see them."""

    def __init__(self, device: Any, pipelines: Pipelines) -> None:
        self._device = device
        self._pipelines = pipelines
        self._made: tuple[Any, Any, Any] | None = None

    def _pipeline(self) -> tuple[Any, Any, Any]:
        """The pipeline of the checkerboard, the layout of its group and its uniform."""
        if self._made is None:
            stage = wgpu.ShaderStage.FRAGMENT
            layout = self._device.create_bind_group_layout(
                label="highlighting",
                entries=[
                    {"binding": 0, "visibility": stage, "texture": {"sample_type": "unfilterable-float"}},
                    {"binding": 1, "visibility": stage, "buffer": {"type": "uniform"}},
                ],
            )
            usage = wgpu.BufferUsage.UNIFORM | wgpu.BufferUsage.COPY_DST
            uniform = self._device.create_buffer(label="highlighting", size=16, usage=usage)
            flags = {"TOLERANCE": str(TOLERANCE), "OPACITY": str(OPACITY)}
            code = preprocess(shader_source("view") + shader_source("highlighting"), flags)
            module = self._device.create_shader_module(label="highlighting", code=code)
            over = {"src_factor": "src-alpha", "dst_factor": "one-minus-src-alpha", "operation": "add"}
            blend = {"color": over, "alpha": {"src_factor": "zero", "dst_factor": "one", "operation": "add"}}
            layouts = [self._pipelines.view_layout, layout]
            self._pipelines.created += 1
            pipeline = self._device.create_render_pipeline(
                label="highlighting",
                layout=self._device.create_pipeline_layout(bind_group_layouts=layouts),
                vertex={"module": module, "entry_point": "full_screen"},
                fragment={
                    "module": module,
                    "entry_point": "fragment",
                    "targets": [{"format": COLOR_FORMAT, "blend": blend}],
                },
                primitive={"topology": "triangle-list"},
            )
            self._made = (pipeline, layout, uniform)
        return self._made

    def record(
        self,
        encoder: Any,
        attachments: Attachments,
        views: int,
        seconds: float,
        scale: float,
        set_view: Callable[[Any, int], None],
        draw_view: Callable[[Any, int], None],
    ) -> None:
        """Record both passes over the picture in ``attachments``, whose depth must have been kept.

        ``scale``: of the picture drawn to the one shown. ``set_view`` binds one of the ``views`` in a pass,
        ``draw_view`` draws what is opaque in it as for :data:`NUMBERS`; both get the pass and the view's number.
        """
        pipeline, layout, uniform = self._pipeline()
        target = attachments.companion(
            "highlighting",
            lambda: _Target(self._device, layout, uniform, attachments.width, attachments.height, attachments.samples),
        )
        moved = seconds * CELLS_PER_SECOND % 2.0
        values = np.array([CELL_PIXELS * scale, moved, 0, 0], np.float32)
        self._device.queue.write_buffer(uniform, 0, values)
        passing = encoder.begin_render_pass(
            color_attachments=[target.color], depth_stencil_attachment=attachments.kept_depth()
        )
        for index in range(views):
            set_view(passing, index)
            draw_view(passing, index)
        passing.end()
        passing = encoder.begin_render_pass(
            color_attachments=[{"view": attachments.color_view, "load_op": "load", "store_op": "store"}]
        )
        passing.set_pipeline(pipeline)
        passing.set_bind_group(1, target.group)
        for index in range(views):
            set_view(passing, index)
            passing.draw(3)
        passing.end()
