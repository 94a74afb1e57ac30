"""What is drawn into, by size, and the buffers through which pictures come back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import wgpu
from numpy.typing import NDArray

from farframe.render.occlusion import TILE
from farframe.render.pipelines import COLOR_FORMAT, DEPTH_FORMAT, LINEAR_DEPTH_FORMAT, Pipelines

ROW_ALIGNMENT = 256
"""Bytes to which the rows of a copy from a texture to a buffer are aligned."""
MAX_OUTSTANDING_FRAMES = 4
"""Frames of a size that may be kept at once. Two are enough for one that is encoded while the next is drawn."""


class Companion(Protocol):
    """Something of the size of attachments that lives as long as they do."""

    def destroy(self) -> None:
        """Free what it holds on the device."""


C = TypeVar("C", bound=Companion)


class Attachments:
    """Colour, depth and, on demand, linear depth of one size and sample count."""

    def __init__(self, device: Any, pipelines: Pipelines, width: int, height: int, samples: int) -> None:
        self.width, self.height, self.samples = width, height, samples
        self._device = device
        self._pipelines = pipelines
        usage = wgpu.TextureUsage
        self.color = self._texture(COLOR_FORMAT, usage.RENDER_ATTACHMENT | usage.COPY_SRC | usage.COPY_DST, 1)
        self.color_view = self.color.create_view()
        self._multisampled = self._texture(COLOR_FORMAT, usage.RENDER_ATTACHMENT, samples) if samples > 1 else None
        self._multisampled_view = self._multisampled.create_view() if self._multisampled else None
        self._depth = self._texture(DEPTH_FORMAT, usage.RENDER_ATTACHMENT | usage.TEXTURE_BINDING, samples)
        self._depth_view = self._depth.create_view()
        self._linear: tuple[Any, Any, Any] | None = None
        self._depth_group: Any = None
        self._farthest: FarthestDepth | None = None
        self._backdrops: dict[int, Any] = {}
        self._companions: dict[str, Companion] = {}

    def companion(self, name: str, make: Callable[[], C]) -> C:
        """What a pass of its own needs for this size, made at the first call and freed with the rest."""
        if name not in self._companions:
            self._companions[name] = make()
        return cast("C", self._companions[name])

    def _texture(self, kind: str, usage: int, samples: int) -> Any:
        size = (self.width, self.height, 1)
        return self._device.create_texture(size=size, format=kind, usage=usage, sample_count=samples)

    def pass_descriptor(
        self,
        clear: tuple[float, float, float] | None,
        *,
        keep_depth: bool,
        first: bool = True,
        last: bool = True,
    ) -> dict[str, Any]:
        """Arguments of the render pass that draws into this: over linear ``clear``, or over what is there.

        Of several passes that draw one picture only the ``first`` clears, and only the ``last`` may give up what
        has been drawn per sample."""
        color: dict[str, Any] = {"load_op": "load"}
        if clear is not None and first:
            color = {"load_op": "clear", "clear_value": (*clear, 1.0)}
        if self._multisampled_view is None:
            color |= {"view": self.color_view, "store_op": "store"}
        elif last:
            color |= {"view": self._multisampled_view, "resolve_target": self.color_view, "store_op": "discard"}
        else:
            color |= {"view": self._multisampled_view, "store_op": "store"}
        return {
            "color_attachments": [color],
            "depth_stencil_attachment": {
                "view": self._depth_view,
                "depth_load_op": "clear" if first else "load",
                "depth_clear_value": 0.0,
                "depth_store_op": "store" if keep_depth or not last else "discard",
            },
        }

    def depth_only(self) -> dict[str, Any]:
        """Arguments of a pass that tests against the depth drawn so far and changes nothing of it."""
        return {"depth_stencil_attachment": {"view": self._depth_view, "depth_read_only": True}}

    def depth_group(self) -> Any:
        """The bind group that reads the depth drawn."""
        if self._depth_group is None:
            self._depth_group = self._device.create_bind_group(
                layout=self._pipelines.depth_layouts[self.samples],
                entries=[{"binding": 0, "resource": self._depth_view}],
            )
        return self._depth_group

    def resolve(self, encoder: Any) -> None:
        """Record what makes pixels of samples, where the last pass over them has not done it."""
        descriptor = self.pass_descriptor(None, keep_depth=True, first=False)
        encoder.begin_render_pass(color_attachments=descriptor["color_attachments"]).end()

    def kept_depth(self) -> dict[str, Any]:
        """The depth that a pass with ``keep_depth`` has left, to be compared with and written to no more."""
        return {"view": self._depth_view, "depth_load_op": "load", "depth_store_op": "store"}

    def farthest(self) -> FarthestDepth:
        """What the farthest depth of squares of pixels is reduced into and read back through."""
        if self._farthest is None:
            width, height = -(-self.width // TILE), -(-self.height // TILE)
            usage = wgpu.TextureUsage.RENDER_ATTACHMENT | wgpu.TextureUsage.COPY_SRC
            texture = self._device.create_texture(size=(width, height, 1), format=LINEAR_DEPTH_FORMAT, usage=usage)
            row_bytes = -(-width * 4 // ROW_ALIGNMENT) * ROW_ALIGNMENT
            self._farthest = FarthestDepth(
                width,
                height,
                texture,
                texture.create_view(),
                self._device.create_bind_group(
                    layout=self._pipelines.depth_layouts[self.samples],
                    entries=[{"binding": 0, "resource": self._depth_view}],
                ),
                self._device.create_buffer(
                    label="farthest depth",
                    size=row_bytes * height,
                    usage=wgpu.BufferUsage.MAP_READ | wgpu.BufferUsage.COPY_DST,
                ),
                row_bytes,
            )
        return self._farthest

    def backdrop(self, views: int) -> tuple[Any, bool]:
        """The texture that holds the backdrop for that many views, and whether it still has to be drawn.

        A backdrop never changes, and copying it costs lavapipe a third of drawing it anew.
        """
        fresh = views not in self._backdrops
        if fresh:
            usage = wgpu.TextureUsage
            self._backdrops[views] = self._texture(COLOR_FORMAT, usage.RENDER_ATTACHMENT | usage.COPY_SRC, 1)
        return self._backdrops[views], fresh

    def linear_depth(self) -> tuple[Any, Any, Any]:
        """The texture of linear depth, its view, and the bind group that reads the depth drawn."""
        if self._linear is None:
            usage = wgpu.TextureUsage
            texture = self._texture(LINEAR_DEPTH_FORMAT, usage.RENDER_ATTACHMENT | usage.COPY_SRC, 1)
            group = self._device.create_bind_group(
                layout=self._pipelines.depth_layouts[self.samples],
                entries=[{"binding": 0, "resource": self._depth_view}],
            )
            self._linear = (texture, texture.create_view(), group)
        return self._linear

    def destroy(self) -> None:
        """Free the textures."""
        linear = self._linear[0] if self._linear else None
        for texture in (self.color, self._multisampled, self._depth, linear, *self._backdrops.values()):
            if texture is not None:
                texture.destroy()
        for companion in self._companions.values():
            companion.destroy()
        if self._farthest is not None:
            self._farthest.texture.destroy()
            self._farthest.buffer.destroy()


@dataclass(frozen=True, slots=True)
class FarthestDepth:
    """``width`` by ``height`` numbers, one for each square of :data:`~farframe.render.occlusion.TILE` pixels: the
    texture that is drawn into, its view, the bind group of the depth to read, and the buffer to copy to."""

    width: int
    height: int
    texture: Any
    view: Any
    group: Any
    buffer: Any
    row_bytes: int

    def copy(self, encoder: Any) -> None:
        """Record the copy into the buffer."""
        encoder.copy_texture_to_buffer(
            {"texture": self.texture},
            {"buffer": self.buffer, "bytes_per_row": self.row_bytes, "rows_per_image": self.height},
            (self.width, self.height, 1),
        )

    def read(self) -> NDArray[np.float32]:
        """Wait for the copy; (height, width)."""
        self.buffer.map_sync("READ")
        rows = np.frombuffer(self.buffer.read_mapped(copy=True), np.float32).reshape(self.height, -1)
        self.buffer.unmap()
        return np.ascontiguousarray(rows[:, : self.width])


class Fence:
    """Waits until the device has done what was submitted.

    A buffer that the commands touch and that is then mapped: the queue's own ``on_submitted_work_done`` raises in
    wgpu-py 0.32 because its callback has the wrong type.
    """

    def __init__(self, device: Any) -> None:
        usage = wgpu.BufferUsage.MAP_READ | wgpu.BufferUsage.COPY_DST
        self._buffer = device.create_buffer(label="fence", size=4, usage=usage)

    def record(self, encoder: Any) -> None:
        """Make the commands of ``encoder`` what :meth:`wait` waits for."""
        encoder.clear_buffer(self._buffer)

    def wait(self) -> None:
        """Block until the last recorded and submitted commands are done."""
        self._buffer.map_sync("READ")
        self._buffer.unmap()


class ReadbackPool:
    """Mapped buffers for pictures of one size, four bytes a pixel.

    A frame keeps its buffer mapped until it is released, from whatever thread; the render thread unmaps it when it
    needs one next. So encoding a frame and drawing the next one share no buffer and need no copy.
    """

    def __init__(self, device: Any, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.row_bytes = -(-width * 4 // ROW_ALIGNMENT) * ROW_ALIGNMENT
        self._device = device
        self._free: list[Any] = []
        self._returned: deque[Any] = deque()
        self._outstanding = 0
        self._closed = False

    def acquire(self) -> Any:
        """A buffer to copy into. Raises ``RuntimeError`` when too many frames have not been released."""
        self._collect()
        if self._free:
            buffer = self._free.pop()
        elif self._outstanding < MAX_OUTSTANDING_FRAMES:
            usage = wgpu.BufferUsage.MAP_READ | wgpu.BufferUsage.COPY_DST
            buffer = self._device.create_buffer(label="readback", size=self.row_bytes * self.height, usage=usage)
        else:
            raise RuntimeError(f"{self._outstanding} frames are still held: release() each when it has been used")
        self._outstanding += 1
        return buffer

    def copy(self, encoder: Any, texture: Any, buffer: Any) -> None:
        """Record the copy of ``texture`` into ``buffer``."""
        encoder.copy_texture_to_buffer(
            {"texture": texture},
            {"buffer": buffer, "bytes_per_row": self.row_bytes, "rows_per_image": self.height},
            (self.width, self.height, 1),
        )

    def wait(self, buffer: Any) -> None:
        """Wait for the copy, and for all that was submitted before it."""
        buffer.map_sync("READ")

    def read(self, buffer: Any) -> NDArray[np.uint8]:
        """What was copied, when it has been waited for: (height, width, 4) uint8, a view of the mapped buffer."""
        rows = np.frombuffer(buffer.read_mapped(copy=False), np.uint8).reshape(self.height, self.row_bytes)
        return rows[:, : self.width * 4].reshape(self.height, self.width, 4)

    def give_back(self, buffer: Any) -> None:
        """The frame in ``buffer`` has been used. Safe from any thread."""
        self._returned.append(buffer)

    def _collect(self) -> None:
        while self._returned:
            buffer = self._returned.popleft()
            if buffer.map_state != "unmapped":
                buffer.unmap()
            self._outstanding -= 1
            self._free.append(buffer)

    def trim(self) -> bool:
        """Free what is not in use; whether nothing is left. For sizes that are no longer drawn."""
        self._collect()
        for buffer in self._free:
            buffer.destroy()
        self._free.clear()
        return self._outstanding == 0
