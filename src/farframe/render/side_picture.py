"""A picture beside the picture, and a pass that draws over the picture by what it finds there.

What outlines and the highlighting of surfaces in the same place have in common: surfaces are drawn for something else
than their looks into a target of their own, with as many samples as the picture has, and a full-screen pass then reads
that. Nothing is made before it is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import wgpu
from numpy.typing import NDArray

from farframe.render.pipelines import COLOR_FORMAT, Pipelines, Use, preprocess, shader_source
from farframe.render.targets import Attachments


class SideTarget:
    """The side picture of one size. ``color``: the attachment to draw into, cleared; ``group``: for the pass over the
    picture."""

    def __init__(self, device: Any, made: _Made, use: Use, width: int, height: int, samples: int) -> None:
        usage = wgpu.TextureUsage
        size = (width, height, 1)
        self._resolved = device.create_texture(
            size=size, format=use.color_format, usage=usage.RENDER_ATTACHMENT | usage.TEXTURE_BINDING
        )
        self._samples = None
        if samples > 1:
            self._samples = device.create_texture(
                size=size, format=use.color_format, usage=usage.RENDER_ATTACHMENT, sample_count=samples
            )
        view = self._resolved.create_view()
        self.color: dict[str, Any] = {"load_op": "clear", "clear_value": (0, 0, 0, 0)}
        if self._samples is None:
            self.color |= {"view": view, "store_op": "store"}
        else:
            self.color |= {"view": self._samples.create_view(), "resolve_target": view, "store_op": "discard"}
        self.group = device.create_bind_group(
            layout=made.layout,
            entries=[
                {"binding": 0, "resource": view},
                {"binding": 1, "resource": {"buffer": made.uniform, "offset": 0, "size": made.uniform.size}},
            ],
        )

    def destroy(self) -> None:
        """Free the textures."""
        self._resolved.destroy()
        if self._samples is not None:
            self._samples.destroy()


@dataclass(frozen=True, slots=True)
class _Made:
    """The pipeline of the pass over the picture, the layout of its group and its uniform."""

    pipeline: Any
    layout: Any
    uniform: Any


class SidePicture:
    """The side picture called ``name``, drawn for ``use``, and the pass over the picture: the fragment shader
    ``shaders/NAME.wgsl`` with ``flags``, blended by its alpha; its uniform has ``uniform_bytes``."""

    def __init__(
        self, device: Any, pipelines: Pipelines, name: str, use: Use, flags: Mapping[str, str], uniform_bytes: int
    ) -> None:
        self._device = device
        self._pipelines = pipelines
        self._name = name
        self._use = use
        self._flags = dict(flags)
        self._uniform_bytes = uniform_bytes
        self._made: _Made | None = None

    def begin(self, attachments: Attachments, values: NDArray[np.float32]) -> SideTarget:
        """The target that goes with ``attachments``; ``values`` are for the uniform of the pass over the picture."""
        made = self._make()
        target: SideTarget = attachments.companion(
            self._name,
            lambda: SideTarget(
                self._device, made, self._use, attachments.width, attachments.height, attachments.samples
            ),
        )
        self._device.queue.write_buffer(made.uniform, 0, values)
        return target

    def begin_pass_over(self, encoder: Any, attachments: Attachments, target: SideTarget) -> Any:
        """The pass over the picture, with its pipeline and group set; draw three vertices for each view."""
        passing = encoder.begin_render_pass(
            color_attachments=[{"view": attachments.color_view, "load_op": "load", "store_op": "store"}]
        )
        passing.set_pipeline(self._make().pipeline)
        passing.set_bind_group(1, target.group)
        return passing

    def _make(self) -> _Made:
        if self._made is None:
            stage = wgpu.ShaderStage.FRAGMENT
            layout = self._device.create_bind_group_layout(
                label=self._name,
                entries=[
                    {"binding": 0, "visibility": stage, "texture": {"sample_type": "unfilterable-float"}},
                    {"binding": 1, "visibility": stage, "buffer": {"type": "uniform"}},
                ],
            )
            usage = wgpu.BufferUsage.UNIFORM | wgpu.BufferUsage.COPY_DST
            uniform = self._device.create_buffer(label=self._name, size=self._uniform_bytes, usage=usage)
            code = preprocess(shader_source("view") + shader_source(self._name), self._flags)
            module = self._device.create_shader_module(label=self._name, code=code)
            over = {"src_factor": "src-alpha", "dst_factor": "one-minus-src-alpha", "operation": "add"}
            blend = {"color": over, "alpha": {"src_factor": "zero", "dst_factor": "one", "operation": "add"}}
            layouts = [self._pipelines.view_layout, layout]
            self._pipelines.created += 1
            pipeline = self._device.create_render_pipeline(
                label=self._name,
                layout=self._device.create_pipeline_layout(bind_group_layouts=layouts),
                vertex={"module": module, "entry_point": "full_screen"},
                fragment={
                    "module": module,
                    "entry_point": "fragment",
                    "targets": [{"format": COLOR_FORMAT, "blend": blend}],
                },
                primitive={"topology": "triangle-list"},
            )
            self._made = _Made(pipeline, layout, uniform)
        return self._made
