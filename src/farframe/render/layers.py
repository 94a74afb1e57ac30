"""Transparency whose picture does not depend on the order of drawing: a list of layers for each pixel.

    append   what is blended draws no colour: each fragment adds (depth, colour, coverage) to its pixel's list, a linked
             list in one buffer of nodes (Yang et al., "Real-Time Concurrent Linked List Construction on the GPU", 2010)
    resolve  every sample composes the layers that cover it and lie before what is opaque, nearest first, until nothing
             is seen through them; layers at the same depth in the order of their numbers, so that chance has no say

The result is exact but for half floats, however many layers there are. Nodes are counted before anything is composed:
where there were too few, the buffer grows; where it may not, the picture is composed in bands, each with all nodes for
itself. ``docs/rendering.md`` tells what else was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import wgpu

from farframe.render.pipelines import COLOR_FORMAT, LAYER_TILE, OVER, Pipelines, Use, preprocess, shader_source
from farframe.render.targets import Attachments

LAYER = Use(depth_write=False, layers=True)
"""Surfaces that only add to lists of layers."""

HEAD_BYTES = 32
"""Before the heads of the lists: ``Lists`` in ``shaders/layers.wgsl``."""
NODE_BYTES = 16
FIRST_NODES = 1 << 18
MAX_NODE_BYTES = 512 << 20


class Layers:
    """The lists of layers of a device, shared by all pictures."""

    def __init__(self, device: Any, pipelines: Pipelines) -> None:
        self._device = device
        self._pipelines = pipelines
        limit = int(device.limits["max-storage-buffer-binding-size"])
        self._most = min(limit, int(device.limits["max-buffer-size"]), MAX_NODE_BYTES) // NODE_BYTES
        self._heads: Any = None
        self._nodes: Any = None
        self.group: Any = None
        self._reading: Any = None
        stage = wgpu.ShaderStage
        self._layout = device.create_bind_group_layout(
            label="layers to compose",
            entries=[
                {
                    "binding": binding,
                    "visibility": stage.VERTEX | stage.FRAGMENT,
                    "buffer": {"type": "read-only-storage"},
                }
                for binding in (0, 1)
            ],
        )
        self._count = device.create_buffer(
            label="count of layers", size=4, usage=wgpu.BufferUsage.MAP_READ | wgpu.BufferUsage.COPY_DST
        )
        self._resolves: dict[int, Any] = {}
        self.wanted = 0
        """Nodes that the last picture's lists had, or would have had."""

    @property
    def capacity(self) -> int:
        """How many nodes there are."""
        return 0 if self._nodes is None else int(self._nodes.size // NODE_BYTES)

    def _make(self, heads: int, nodes: int) -> None:
        usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_DST | wgpu.BufferUsage.COPY_SRC
        if self._heads is None or self._heads.size < HEAD_BYTES + 4 * heads:
            if self._heads is not None:
                self._heads.destroy()
            self._heads = self._device.create_buffer(label="lists", size=HEAD_BYTES + 4 * heads, usage=usage)
        if self.capacity < nodes:
            if self._nodes is not None:
                self._nodes.destroy()
            self._nodes = self._device.create_buffer(label="layers", size=nodes * NODE_BYTES, usage=usage)
        entries = [
            {"binding": 0, "resource": {"buffer": self._heads}},
            {"binding": 1, "resource": {"buffer": self._nodes}},
        ]
        self.group = self._device.create_bind_group(layout=self._pipelines.layers_layout, entries=entries)
        self._reading = self._device.create_bind_group(layout=self._layout, entries=entries)

    def draw(
        self,
        encoder: Any,
        attachments: Attachments,
        append: Callable[[Any, tuple[int, int]], None],
        submit: Callable[[Any], None],
        *,
        last: bool,
    ) -> Any:
        """Add to lists what ``append(pass, (first row, end))`` draws with :data:`LAYER`, and compose it over the colour
        of ``attachments``, after what ``encoder`` holds. ``submit`` submits an encoder.

        Returns an encoder with what is still to be submitted. ``last``: nothing is drawn per sample any more.
        """
        width, height = attachments.width, attachments.height
        across, down = -(-width // LAYER_TILE), -(-height // LAYER_TILE)
        heads = width * height + across * down
        if self._heads is None or self._heads.size < HEAD_BYTES + 4 * heads:
            self._make(heads, max(self.capacity, FIRST_NODES))
        bands = [(0, height)]
        resolved = not last or attachments.samples == 1
        while bands:
            first, end = bands.pop(0)
            numbers = (0, self.capacity, width, first << 16 | end, width * height, across, height, 0)
            self._device.queue.write_buffer(self._heads, 0, np.array(numbers, np.uint32))
            encoder.clear_buffer(self._heads, HEAD_BYTES + 4 * width * first, 4 * width * (end - first))
            encoder.clear_buffer(self._heads, HEAD_BYTES + 4 * width * height, 4 * across * down)
            passing = encoder.begin_render_pass(color_attachments=[], **attachments.depth_only())
            passing.set_bind_group(3, self.group)
            # lavapipe loses samples of the last row within a scissor rectangle; what is drawn beyond the band is not
            # composed.
            append(passing, (first - 1, end + 1))
            passing.end()
            encoder.copy_buffer_to_buffer(self._heads, 0, self._count, 0, 4)
            submit(encoder)
            self._count.map_sync("READ")
            self.wanted = int(np.frombuffer(self._count.read_mapped(copy=True), np.uint32)[0])
            self._count.unmap()
            encoder = self._device.create_command_encoder()
            if self.wanted > self.capacity:
                if self.capacity < self._most:
                    self._make(heads, min(self._most, 1 << int(self.wanted * 1.25).bit_length()))
                    bands.insert(0, (first, end))
                    continue
                if end - first > 1:
                    middle = (first + end) // 2
                    bands[:0] = [(first, middle), (middle, end)]
                    continue
            if self.wanted:
                self._compose(encoder, attachments, first, end, across * down, last=last and not bands)
                resolved = resolved or not bands
            if bands:
                submit(encoder)
                encoder = self._device.create_command_encoder()
        if not resolved:
            attachments.resolve(encoder)
        return encoder

    def _compose(self, encoder: Any, attachments: Attachments, first: int, end: int, tiles: int, *, last: bool) -> None:
        descriptor = attachments.pass_descriptor(None, keep_depth=True, first=False, last=last)
        passing = encoder.begin_render_pass(color_attachments=descriptor["color_attachments"])
        passing.set_pipeline(self._resolve(attachments.samples))
        passing.set_bind_group(0, self._reading)
        passing.set_bind_group(1, attachments.depth_group())
        top, bottom = max(first - 1, 0), min(end + 1, attachments.height)
        passing.set_scissor_rect(0, top, attachments.width, bottom - top)
        passing.draw(6, tiles)
        passing.end()

    def _resolve(self, samples: int) -> Any:
        if samples not in self._resolves:
            module = self._device.create_shader_module(
                label="compose",
                code=preprocess(
                    shader_source("compose"), {"TILE": f"{LAYER_TILE}u"} | ({"MULTISAMPLED": ""} if samples > 1 else {})
                ),
            )
            layouts = [self._layout, self._pipelines.depth_layouts[samples]]
            self._pipelines.created += 1
            self._resolves[samples] = self._device.create_render_pipeline(
                label="compose layers",
                layout=self._device.create_pipeline_layout(bind_group_layouts=layouts),
                vertex={"module": module, "entry_point": "tiles"},
                fragment={
                    "module": module,
                    "entry_point": "compose",
                    "targets": [{"format": COLOR_FORMAT, "blend": OVER}],
                },
                primitive={"topology": "triangle-list"},
                multisample={"count": samples},
            )
        return self._resolves[samples]

    def prepare(self, samples: int) -> None:
        """Make what composing needs, so that no frame has to."""
        self._resolve(samples)

    def destroy(self) -> None:
        """Free the lists."""
        for buffer in (self._heads, self._nodes, self._count):
            if buffer is not None:
                buffer.destroy()
        self._heads = self._nodes = None
