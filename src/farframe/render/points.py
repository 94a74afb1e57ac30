"""Drawing the clusters of point clouds: squares that face the eye, as large as the gaps between the points.

WebGPU's own points are one pixel large; where a cluster's points are no larger they are drawn as such, because on a
CPU adapter a square, which is two triangles, costs two to four times as much. Of a dot the shader gets what it needs
as vertex attributes; for squares it reads the points from a storage buffer by the vertex' number. Either way one
indirect command without indices draws a cluster.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import wgpu
from numpy.typing import NDArray

from farframe.asset.format import POINT_DTYPE
from farframe.render.pipelines import COLOR_FORMAT, DEPTH_FORMAT, Pipelines, preprocess, shader_source
from farframe.scene.effects import MAX_CUT_PLANES

SIZE_STEPS, SIZE_OFFSET = 8.0, 20.0
"""How a point's fourth byte tells its size, see POINT_DTYPE: ``2 ** (byte / SIZE_STEPS - SIZE_OFFSET)`` metres."""
LARGEST_PIXELS = 64.0
"""No point is drawn larger, however near the eye is: one would hide all that is behind it."""
LARGEST_DOT_CPU, LARGEST_DOT_GPU = 1.25, 1.0
"""Clusters whose points are at most this many pixels wide are drawn as dots of one."""
SQUARE, DOT = 0, 1
"""The kinds of drawing a cluster."""
CUT_POINTS = 2
"""Added to a kind of which points may lie beyond a cut plane."""
COMMAND_FIELDS = 4
"""Vertex count, instance count, first vertex, first instance: the layout of an indirect draw without indices."""

ROW_DTYPE = np.dtype([("matrix", "<f4", (3, 4)), ("tint", "<f4", 4), ("mask", "<u4", 4)])
"""One row per instance of a cloud: the upper rows of the matrix from part space to origin-relative world, the tint,
linear RGB and how much of it is seen, and in the first number of ``mask`` which cut planes concern it."""

_VERTICES = np.array([6, 1], np.uint32)


def point_rows(
    matrices: NDArray[np.floating[Any]],
    tints: NDArray[np.floating[Any]] | None = None,
    masks: NDArray[np.unsignedinteger[Any]] | None = None,
) -> NDArray[np.void]:
    """(n,) of :data:`ROW_DTYPE` for (n, 3, 4) matrices of instances of point clouds, and (n, 4) tints and (n,) masks
    if any."""
    rows = np.zeros(len(matrices), ROW_DTYPE)
    rows["matrix"] = matrices
    if tints is not None:
        rows["tint"] = tints
    if masks is not None:
        rows["mask"][:, 0] = masks
    return rows


def cluster_sizes(points: NDArray[np.void], first_vertex: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """(k,) float32: the size in metres of the largest point of each of the k clusters of a page.

    ``points``: the page's, of :data:`~farframe.asset.format.POINT_DTYPE`; ``first_vertex``: (k,), ascending, where
    clusters begin.
    """
    code = np.maximum.reduceat(points["color"][:, 3], first_vertex.astype(np.int64))
    return np.asarray(np.exp2(code.astype(np.float32) / SIZE_STEPS - SIZE_OFFSET), np.float32)


def point_kinds(pixels: NDArray[np.floating[Any]], *, cpu: bool) -> NDArray[np.uint8]:
    """(k,) uint8, :data:`DOT` or :data:`SQUARE`, for clusters whose largest points are ``pixels`` wide.

    ``cpu``: the adapter is one, so that a few small holes are worth the time.
    """
    return np.where(np.asarray(pixels) <= (LARGEST_DOT_CPU if cpu else LARGEST_DOT_GPU), DOT, SQUARE).astype(np.uint8)


def point_commands(
    first_point: NDArray[np.integer[Any]],
    count: NDArray[np.integer[Any]],
    instance: NDArray[np.integer[Any]],
    kind: NDArray[np.uint8],
) -> NDArray[np.uint32]:
    """(k, 4) indirect commands, without indices, that draw k clusters.

    ``first_point``: (k,), where the cluster's points begin in the bound buffer; ``count``: (k,) points; ``instance``:
    (k,), which of the matrices given to :func:`point_rows`; ``kind``: (k,) from :func:`point_kinds`.
    """
    commands = np.empty((len(first_point), COMMAND_FIELDS), np.uint32)
    commands[:, 0] = count * _VERTICES[kind]
    commands[:, 1] = 1
    commands[:, 2] = first_point * _VERTICES[kind]
    commands[:, 3] = instance
    return commands


class PointPipelines:
    """The pipelines of points on a device.

    Group 0 is the view as for surfaces; the buffer of points is both a storage buffer, in group 1, and a vertex
    buffer; the rows of :func:`point_rows` are another vertex buffer.
    """

    def __init__(self, device: Any, pipelines: Pipelines) -> None:
        self._device = device
        self._pipelines = pipelines
        self._made: dict[tuple[int, int], Any] = {}
        self._modules: dict[int, Any] = {}
        self.layout = device.create_bind_group_layout(
            label="points",
            entries=[{"binding": 0, "visibility": wgpu.ShaderStage.VERTEX, "buffer": {"type": "read-only-storage"}}],
        )

    def bind_group(self, points: Any) -> Any:
        """The group for a buffer of :data:`~farframe.asset.format.POINT_DTYPE` rows, with the usages STORAGE and
        VERTEX. The device's limit on the size of a storage binding holds."""
        return self._device.create_bind_group(
            layout=self.layout, entries=[{"binding": 0, "resource": {"buffer": points}}]
        )

    def make(self, samples: int) -> None:
        """Make the pipelines that draw points with ``samples`` per pixel, so that no frame has to."""
        for kind in (DOT, SQUARE):
            self.pipeline(samples, kind)

    def pipeline(self, samples: int, kind: int) -> Any:
        """The pipeline that draws points of ``kind`` with ``samples`` per pixel; made at the first call."""
        key = (samples, kind)
        if key not in self._made:
            self._made[key] = self._make(samples, kind)
        return self._made[key]

    def _module(self, kind: int) -> Any:
        if kind not in self._modules:
            flags = {
                "SIZE_STEPS": str(SIZE_STEPS),
                "SIZE_OFFSET": str(SIZE_OFFSET),
                "LARGEST_PIXELS": str(LARGEST_PIXELS),
            }
            if kind & DOT:
                flags["DOT"] = ""
            if kind & CUT_POINTS:
                flags |= {"CUT": str(MAX_CUT_PLANES), "STYLED": ""}
            code = preprocess(shader_source("view") + shader_source("styles") + shader_source("points"), flags)
            self._modules[kind] = self._device.create_shader_module(label="points", code=code)
        return self._modules[kind]

    def _make(self, samples: int, kind: int) -> Any:
        module = self._module(kind)
        rows = [{"format": "float32x4", "offset": 16 * row, "shader_location": row} for row in range(3)]
        rows.append({"format": "float32x4", "offset": 48, "shader_location": 5})
        if kind & CUT_POINTS:
            rows.append({"format": "uint32", "offset": 64, "shader_location": 6})
        buffers: list[dict[str, Any]] = [
            {"array_stride": ROW_DTYPE.itemsize, "step_mode": "instance", "attributes": rows}
        ]
        layouts = [self._pipelines.view_layout]
        if not kind & DOT:
            layouts.append(self.layout)
        else:
            attributes = [
                {"format": "float32x3", "offset": 0, "shader_location": 3},
                {"format": "unorm8x4", "offset": 12, "shader_location": 4},
            ]
            buffers.append({"array_stride": POINT_DTYPE.itemsize, "attributes": attributes})
        self._pipelines.created += 1
        return self._device.create_render_pipeline(
            label="dots" if kind & DOT else "squares",
            layout=self._device.create_pipeline_layout(bind_group_layouts=layouts),
            vertex={"module": module, "entry_point": "vertex", "buffers": buffers},
            fragment={"module": module, "entry_point": "fragment", "targets": [{"format": COLOR_FORMAT}]},
            primitive={"topology": "point-list" if kind & DOT else "triangle-list", "cull_mode": "none"},
            depth_stencil={"format": DEPTH_FORMAT, "depth_write_enabled": True, "depth_compare": "greater"},
            multisample={"count": samples},
        )

    def bind(self, passing: Any, points: Any, group: Any, rows: Any, samples: int, kind: int) -> None:
        """Set all that drawing clusters of ``kind`` needs in the pass ``passing``, but for the view's group.

        ``points``: the buffer of points; ``group``: its group; ``rows``: a buffer of :func:`point_rows`.
        """
        passing.set_pipeline(self.pipeline(samples, kind))
        passing.set_vertex_buffer(0, rows)
        if not kind & DOT:
            passing.set_bind_group(1, group)
        else:
            passing.set_vertex_buffer(1, points)
