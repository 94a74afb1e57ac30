"""What a picture is drawn by: the passes over its views, in their order, recorded into the picture's submission.

    draw                surfaces and points, backdrop; caps of cuts; what is seen through; shells; linear depth
    draw_highlighting   where surfaces of different parts lie in the same place
    draw_outlines       around what is selected
    draw_debug          counters and edges

What is seen, and how finely, was decided before (``visibility``); how pixels come back is the engine's. Nothing here
creates a pipeline that its batches did not announce.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from wgpu.backends.wgpu_native import extras

from farframe.render import highlighting, outlines
from farframe.render.assets import AssetResource
from farframe.render.caps import Caps, CountKind, seen_caps, shared_mask
from farframe.render.debug import DebugDrawing, counters
from farframe.render.frame import FrameInput, Viewport, view_projection
from farframe.render.layers import LAYER, Layers
from farframe.render.occlusion import DepthGrid, OcclusionGovernor
from farframe.render.pipelines import PICTURE, LightFeature, Pipelines, Use, shown
from farframe.render.placement import Resource, ScenePlacement
from farframe.render.points import COMMAND_FIELDS as POINT_FIELDS
from farframe.render.points import PointPipelines
from farframe.render.pools import Pool
from farframe.render.resources import Uploader
from farframe.render.scene import RenderScene
from farframe.render.styles import SHELL_COLOR, SHELL_DEPTH
from farframe.render.submission import Submission
from farframe.render.surroundings import Surroundings
from farframe.render.targets import Attachments
from farframe.render.visibility import COMMAND_FIELDS, Cloud, Run, Selection
from farframe.scene.states import State

UNIFORM_STRIDE = 512
"""Bytes from one view's uniform to the next; a multiple of every device's offset alignment."""


@dataclass(slots=True)
class OcclusionMemory:
    """What is known of a scene's hidden surfaces: the depth of each view of the last picture, and whether it pays."""

    governor: OcclusionGovernor = field(default_factory=OcclusionGovernor)
    grids: list[DepthGrid] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Drawn:
    """Triangles and commands that were drawn, and what wants to know the time at which they are done."""

    triangles: int
    draws: int
    done: Callable[[float], None]

    @classmethod
    def of(cls, selections: list[Selection], done: Callable[[float], None] = lambda _: None) -> Drawn:
        """The sums over all passes and views."""
        return cls(sum(s.triangles for s in selections), sum(len(s.commands) for s in selections), done)


@dataclass(frozen=True, slots=True)
class _SeenCaps:
    """Which planes' caps a view may see, and the faces that tell where these are."""

    planes: tuple[int, ...]
    faces: Selection | None


def _opaque_triangles(selection: Selection) -> int:
    """How many triangles of a selection could hide, or be hidden."""
    return int(selection.commands[: selection.opaque_count, 0].sum(dtype=np.int64)) // 3


class Passes:
    """The passes of pictures on a device, and what they share. ``pages``: the pools of vertices, indices and points of
    assets. Render thread only."""

    def __init__(
        self,
        device: Any,
        pipelines: Pipelines,
        uploader: Uploader,
        surroundings: Surroundings,
        submission: Submission,
        pages: tuple[Pool, Pool, Pool],
    ) -> None:
        self._device = device
        self._pipelines = pipelines
        self._uploader = uploader
        self._surroundings = surroundings
        self._submission = submission
        self._pages = pages
        self.points = PointPipelines(device, pipelines)
        self._point_group: tuple[int, Any] | None = None
        self.layers = Layers(device, pipelines)
        self.caps = Caps(device, pipelines)
        self._outlines = outlines.Outlines(device, pipelines)
        self._highlighting = highlighting.Highlighting(device, pipelines)
        self._debug = DebugDrawing(device, pipelines)
        self.occlusion: WeakKeyDictionary[RenderScene, OcclusionMemory] = WeakKeyDictionary()
        self._commands: Any = None
        self._point_commands: Any = None
        self._cap_commands: Any = None
        self.lit, self.wireframe = LightFeature.NONE, False
        """What the lights of the picture need, and whether triangles are drawn as lines."""

    def prepare(self, placement: ScenePlacement, samples: int) -> None:
        """Make the pipelines that the batches of a placement are drawn with."""
        for batch in placement.batches:
            if batch.variant.points:
                self.points.make(samples)
            else:
                use = LAYER if batch.variant.blended else PICTURE
                self._pipelines.surface(batch.variant, samples, use)
                if use is LAYER:
                    self.layers.prepare(samples)

    def _write_commands(self, selections: list[Selection]) -> None:
        self._commands = self._submission.filled(self._commands, [selection.commands for selection in selections])
        self._point_commands = self._submission.filled(
            self._point_commands, [selection.cloud.commands for selection in selections]
        )

    def draw(
        self,
        frame: FrameInput,
        placement: ScenePlacement,
        selections: list[Selection],
        ports: tuple[Viewport, ...],
        attachments: Attachments,
        culling: bool | None,
    ) -> Drawn:
        """Record the passes of the picture itself.

        ``culling``: whether what is hidden is left out, ``None`` for where that pays; the first of two passes is then
        waited for."""
        memory = self.occlusion.setdefault(frame.scene, OcclusionMemory())
        caps = self._seen_caps(frame, placement, selections)
        triangles = sum(_opaque_triangles(selection) for selection in selections)
        cull = memory.governor.wanted(triangles) if culling is None else culling
        if not cull:
            start = time.perf_counter()
            self._write_commands(selections)
            self._record_pass(frame, placement, selections, ports, attachments, caps=caps)
            memory.grids = []
            return Drawn.of(selections, lambda end: memory.governor.observe_plain(triangles, end - start))
        start = time.perf_counter()
        masks = [np.ones(len(selection.commands), np.bool_) for selection in selections]
        guessed = len(memory.grids) == len(ports) and bool((memory.grids[0].origin == placement.origin).all())
        if guessed:
            for selection, mask, grid in zip(selections, masks, memory.grids, strict=True):
                count = selection.opaque_count
                mask[:count] = ~grid.hides(selection.box[:count, 0], selection.box[:count, 1])
        unlikely = [~mask for mask in masks]
        two_passes = any(bool(mask.any()) for mask in unlikely)
        if two_passes:
            for selection, mask in zip(selections, masks, strict=True):
                mask[selection.opaque_count :] = False  # what is blended comes last
        first = (
            [s.only(mask, cloud=False) for s, mask in zip(selections, masks, strict=True)] if two_passes else selections
        )
        overhead = time.perf_counter() - start
        self._write_commands(first)
        self._record_pass(
            frame,
            placement,
            first,
            ports,
            attachments,
            last=not two_passes,
            keep_depth=True,
            caps=None if two_passes else caps,
        )
        self._submission.finish()
        start = time.perf_counter()
        grids = self._depth_grids(frame, placement, ports, attachments)
        drawn = [*first]
        if two_passes:
            second = []
            for selection, late, grid in zip(selections, unlikely, grids, strict=True):
                late[selection.opaque_count :] = True
                rows = np.flatnonzero(late)
                late[rows[grid.hides(selection.box[rows, 0], selection.box[rows, 1])]] = False
                second.append(selection.only(late))
            overhead += time.perf_counter() - start
            self._write_commands(second)
            self._record_pass(frame, placement, second, ports, attachments, first=False, caps=caps)
            drawn += second
        else:
            overhead += time.perf_counter() - start
        # The bands of a picture are views of their own: the next band would learn nothing from this one.
        if frame.full_height is None:
            memory.grids = grids
        found = Drawn.of(drawn)
        if guessed:
            memory.governor.observe_culled(triangles, sum(s.triangles for s in selections) - found.triangles, overhead)
        return found

    def draw_debug(
        self,
        frame: FrameInput,
        ports: tuple[Viewport, ...],
        attachments: Attachments,
        start: float,
        counts: tuple[int, int],
    ) -> None:
        """Counters and edges over the picture, if they are wanted. It was begun at ``start``; ``counts`` are its
        triangles and points."""
        settings, debug = frame.scene.effects.debug, self._debug
        if frame.first_row == 0:
            debug.meter.add(start)
        if not (settings.frame_count or settings.polygon_count or settings.edges):
            return
        lines = counters(settings, debug.meter, *counts)
        share = frame.quality.scale
        encoder = self._submission.recording()
        debug.record(
            encoder,
            attachments,
            ports,
            settings,
            lambda passing, index: self._set_view(passing, index, ports[index]),
            lines=lines,
            full_height=round((frame.full_height or frame.height) * share),
            first_row=round(frame.first_row * share),
        )
        self._submission.keep(encoder)

    def _depth_grids(
        self, frame: FrameInput, placement: ScenePlacement, ports: tuple[Viewport, ...], attachments: Attachments
    ) -> list[DepthGrid]:
        """The farthest depths of each view of what has been drawn so far."""
        farthest = attachments.farthest()
        encoder = self._device.create_command_encoder()
        passing = encoder.begin_render_pass(
            color_attachments=[
                {"view": farthest.view, "load_op": "clear", "store_op": "store", "clear_value": (0, 0, 0, 0)}
            ]
        )
        passing.set_pipeline(self._pipelines.farthest(attachments.samples))
        passing.set_bind_group(0, self._surroundings.group, [0])
        passing.set_bind_group(1, farthest.group)
        passing.draw(3)
        passing.end()
        farthest.copy(encoder)
        self._device.queue.submit([encoder.finish()])
        finest = farthest.read()
        return [
            DepthGrid.of(
                finest,
                view_projection(view, placement.origin),
                placement.origin,
                (port.x, port.y),
                (port.width, port.height),
            )
            for view, port in zip(frame.views, ports, strict=True)
        ]

    def _record_pass(
        self,
        frame: FrameInput,
        placement: ScenePlacement,
        selections: list[Selection],
        ports: tuple[Viewport, ...],
        attachments: Attachments,
        *,
        first: bool = True,
        last: bool = True,
        keep_depth: bool = False,
        caps: list[_SeenCaps] | None = None,
    ) -> None:
        """Record one pass over all views. Only the ``last`` of a picture has a backdrop behind
        it, caps, and what is blended, for which the selections of others have nothing."""
        encoder = self._submission.recording()
        background = frame.scene.background
        # With one sample the backdrop is copied in before; with four, or in a band of a larger picture, it is drawn
        # behind what the surfaces left free.
        copied = background is None and attachments.samples == 1 and frame.full_height is None
        samples = attachments.samples
        layered = any(selection.blended for selection in selections)
        shells = any(selection.shells for selection in selections)
        keep_depth = frame.read_depth or keep_depth or highlights(frame) or frame.scene.effects.debug.edges
        # What counts for depth though it is seen through is only drawn for a picture whose depth is wanted.
        counted = [
            tuple(run for run in selection.blended if placement.batches[run.batch].variant.writes_depth)
            for selection in selections
        ]
        again = shells or (frame.read_depth and any(counted))
        more = layered or again
        if copied and first:
            self._record_backdrop_copy(encoder, attachments, ports)
        clear = None if copied else background or (0.0, 0.0, 0.0)
        passing = encoder.begin_render_pass(
            **attachments.pass_descriptor(
                clear, keep_depth=keep_depth or more or bool(caps), first=first, last=last and not (more or caps)
            )
        )
        starts = np.cumsum([0, *(len(selection.commands) for selection in selections)]).tolist()
        start = first_cloud = 0
        for index, (selection, port) in enumerate(zip(selections, ports, strict=True)):
            self._set_view(passing, index, port)
            self._draw_runs(passing, placement, selection.opaque, start, attachments.samples)
            self._draw_cloud(passing, placement, selection.cloud, first_cloud, attachments.samples)
            first_cloud += len(selection.cloud.commands)
            if background is None and not copied and last:
                passing.set_pipeline(self._pipelines.backdrop(attachments.samples, behind=True))
                passing.draw(3)
            start += len(selection.commands)
        passing.end()
        if caps:
            self._record_caps(encoder, frame, placement, caps, ports, attachments, last=not more)
        if layered:

            def append(passing: Any, rows: tuple[int, int]) -> None:
                for index, (selection, port) in enumerate(zip(selections, ports, strict=True)):
                    self._set_view(passing, index, port)
                    top, bottom = max(rows[0], port.y), min(rows[1], port.y + port.height)
                    passing.set_scissor_rect(port.x, top, port.width, max(0, bottom - top))
                    self._draw_runs(passing, placement, selection.blended, starts[index], samples, LAYER)

            encoder = self.layers.draw(encoder, attachments, append, self._submission.send, last=last and not again)
        if again:
            passing = encoder.begin_render_pass(
                **attachments.pass_descriptor(None, keep_depth=keep_depth, first=False, last=last)
            )
            for index, (selection, port) in enumerate(zip(selections, ports, strict=True)):
                self._set_view(passing, index, port)
                for use in (SHELL_DEPTH, SHELL_COLOR) if selection.shells else ():
                    self._draw_runs(passing, placement, selection.shells, starts[index], samples, use)
                if frame.read_depth:
                    self._draw_runs(passing, placement, counted[index], starts[index], samples, SHELL_DEPTH)
            passing.end()
        if frame.read_depth and last:
            self._record_linear_depth(encoder, attachments, ports)
        self._submission.keep(encoder)

    def _seen_caps(
        self, frame: FrameInput, placement: ScenePlacement, selections: list[Selection]
    ) -> list[_SeenCaps] | None:
        """What there is of caps, by view, its commands on the device; ``None`` where nothing is."""
        if self.wireframe or all(selection.caps is None for selection in selections):
            return None
        found = [
            _SeenCaps(*(((), None) if selection.caps is None else (planes, selection.caps)))
            for selection, view in zip(selections, frame.views, strict=True)
            for planes in (seen_caps(placement.styles.planes, view, placement.origin),)
        ]
        if not any(one.planes and one.faces is not None for one in found):
            return None
        tables = [one.faces.commands for one in found if one.faces is not None]
        self._cap_commands = self._submission.filled(self._cap_commands, tables)
        return found

    def _record_caps(
        self,
        encoder: Any,
        frame: FrameInput,
        placement: ScenePlacement,
        caps: list[_SeenCaps],
        ports: tuple[Viewport, ...],
        attachments: Attachments,
        *,
        last: bool,
    ) -> None:
        """Record what closes the cuts, into picture and depth."""
        starts = np.cumsum([0, *(0 if one.faces is None else len(one.faces.commands) for one in caps)]).tolist()
        table = placement.placement
        assert table is not None and table.capped is not None and table.mask is not None
        boxes = np.stack([table.center[table.capped], table.extent[table.capped]], axis=1)
        bounds = [
            outlines.screen_bounds(boxes, view_projection(view, placement.origin), port, 1)
            for view, port in zip(frame.views, ports, strict=True)
        ]

        def draw_view(passing: Any, index: int, pipeline: Callable[[CountKind], Any]) -> None:
            faces = caps[index].faces
            for run in () if faces is None else faces.opaque:
                batch = placement.batches[run.batch]
                variant = batch.variant
                kind = CountKind.of(variant, run.style)
                passing.set_pipeline(pipeline(kind))
                if kind.textured:
                    passing.set_bind_group(2, batch.texture_group() or self._uploader.no_textures)
                vertices, indices = self._geometry(batch.resource)
                passing.set_vertex_buffer(0, vertices)
                passing.set_vertex_buffer(1, placement.instances)
                passing.set_index_buffer(indices, "uint32")
                offset = (starts[index] + run.first) * COMMAND_FIELDS * 4
                extras.multi_draw_indexed_indirect(passing, self._cap_commands, offset=offset, count=run.count)

        self.caps.record(
            encoder,
            attachments,
            placement.styles.planes,
            [one.planes for one in caps],
            bounds,
            placement.origin,
            frame.quality.scale,
            self.lit,
            shared_mask(placement.styles.planes, table.mask[table.capped]),
            lambda passing, index: self._set_view(passing, index, ports[index]),
            draw_view,
            last=last,
        )

    def draw_highlighting(
        self,
        frame: FrameInput,
        placement: ScenePlacement,
        selections: list[Selection],
        ports: tuple[Viewport, ...],
        attachments: Attachments,
    ) -> None:
        """Draw a checkerboard where surfaces of different parts lie in the same place."""
        self._write_commands(selections)
        starts = np.cumsum([0, *(len(selection.commands) for selection in selections)]).tolist()

        def draw_view(passing: Any, index: int) -> None:
            runs, samples = selections[index].opaque, attachments.samples
            self._draw_runs(passing, placement, runs, starts[index], samples, highlighting.NUMBERS)

        encoder = self._submission.recording()
        self._highlighting.record(
            encoder,
            attachments,
            len(ports),
            frame.scene.time,
            frame.quality.scale,
            lambda passing, index: self._set_view(passing, index, ports[index]),
            draw_view,
        )
        self._submission.keep(encoder)

    def draw_outlines(
        self,
        frame: FrameInput,
        placement: ScenePlacement,
        selections: list[Selection],
        ports: tuple[Viewport, ...],
        attachments: Attachments,
    ) -> None:
        """Draw outlines around what is selected over the picture."""
        selected = placement.rows_with(State.SELECTED)
        chosen = [s.only(selected[s.commands[:, 4]], cloud=False) for s in selections]
        if not any(len(selection.commands) for selection in chosen):
            return
        self._write_commands(chosen)
        starts = np.cumsum([0, *(len(selection.commands) for selection in chosen)])

        def draw_view(passing: Any, index: int) -> None:
            runs = (*chosen[index].opaque, *chosen[index].blended, *chosen[index].shells)
            self._draw_runs(passing, placement, runs, int(starts[index]), attachments.samples, outlines.MASK)

        bounds = [
            outlines.screen_bounds(selection.box, view_projection(view, placement.origin), port, outlines.MARGIN_ROWS)
            for selection, view, port in zip(chosen, frame.views, ports, strict=True)
        ]
        encoder = self._submission.recording()
        self._outlines.record(
            encoder,
            attachments,
            bounds,
            frame.scene.effects.outline,
            frame.scene.time,
            frame.quality.scale,
            lambda passing, index: self._set_view(passing, index, ports[index]),
            draw_view,
        )
        self._submission.keep(encoder)

    def _draw_runs(
        self,
        passing: Any,
        placement: ScenePlacement,
        runs: tuple[Run, ...],
        first: int,
        samples: int,
        use: Use = PICTURE,
    ) -> None:
        """One call per run: the cost in Python does not depend on the number of parts. Of uses other than the picture
        surfaces only tell where they are."""
        for run in runs:
            batch = placement.batches[run.batch]
            variant = placement.variant(run)
            if use.silhouettes:
                variant = variant.silhouettes()
            elif self.lit or self.wireframe:
                variant = shown(variant, self.lit, self.wireframe)
            passing.set_pipeline(self._pipelines.surface(variant, samples, use))
            if variant.textured or variant.extras or use.layers:
                textures = batch.texture_group()
                passing.set_bind_group(1, self._uploader.no_textures if textures is None else textures)
            if variant.extras or use.layers:
                passing.set_bind_group(2, placement.table.extras_group())
            vertices, indices = self._geometry(batch.resource)
            passing.set_vertex_buffer(0, vertices)
            passing.set_vertex_buffer(1, placement.instances)
            passing.set_index_buffer(indices, "uint32")
            extras.multi_draw_indexed_indirect(
                passing, self._commands, offset=(first + run.first) * COMMAND_FIELDS * 4, count=run.count
            )

    def _draw_cloud(self, passing: Any, placement: ScenePlacement, cloud: Cloud, first: int, samples: int) -> None:
        """One call per way of drawing points."""
        for kind, start, count in cloud.runs:
            buffer = self._pages[2].buffer
            self.points.bind(passing, buffer, self._points(), placement.point_rows, samples, kind)
            extras.multi_draw_indirect(
                passing, self._point_commands, offset=(first + start) * POINT_FIELDS * 4, count=count
            )

    def _geometry(self, resource: Resource) -> tuple[Any, Any]:
        """The buffers of vertices and indices in which a resource lies."""
        if isinstance(resource, AssetResource):
            vertices, indices, _ = self._pages
            return vertices.buffer, indices.buffer
        return resource.vertices, resource.indices

    def _points(self) -> Any:
        """The bind group of the pool of points, made anew when the pool has grown."""
        pool = self._pages[2]
        if self._point_group is None or self._point_group[0] != pool.version:
            self._point_group = (pool.version, self.points.bind_group(pool.buffer))
        return self._point_group[1]

    def _set_view(self, passing: Any, index: int, port: Viewport) -> None:
        passing.set_viewport(port.x, port.y, port.width, port.height, 0.0, 1.0)
        passing.set_scissor_rect(port.x, port.y, port.width, port.height)
        passing.set_bind_group(0, self._surroundings.group, [index * UNIFORM_STRIDE])

    def _record_backdrop_copy(self, encoder: Any, attachments: Attachments, ports: tuple[Viewport, ...]) -> None:
        """Put the backdrop into the colour attachment; it is drawn the first time that its size is needed."""
        texture, fresh = attachments.backdrop(len(ports))
        if fresh:
            view = texture.create_view()
            passing = encoder.begin_render_pass(
                color_attachments=[{"view": view, "load_op": "clear", "store_op": "store", "clear_value": (0, 0, 0, 1)}]
            )
            passing.set_pipeline(self._pipelines.backdrop(1, behind=False))
            for index, port in enumerate(ports):
                self._set_view(passing, index, port)
                passing.draw(3)
            passing.end()
        size = (attachments.width, attachments.height, 1)
        encoder.copy_texture_to_texture({"texture": texture}, {"texture": attachments.color}, size)

    def _record_linear_depth(self, encoder: Any, attachments: Attachments, ports: tuple[Viewport, ...]) -> None:
        _, view, group = attachments.linear_depth()
        passing = encoder.begin_render_pass(
            color_attachments=[{"view": view, "load_op": "clear", "store_op": "store", "clear_value": (0, 0, 0, 0)}]
        )
        passing.set_pipeline(self._pipelines.linear_depth(attachments.samples))
        passing.set_bind_group(1, group)
        for index, port in enumerate(ports):
            self._set_view(passing, index, port)
            passing.draw(3)
        passing.end()

    def destroy(self) -> None:
        """Free the lists of layers."""
        self.layers.destroy()


def highlights(frame: FrameInput) -> bool:
    """Whether places are shown where surfaces of different parts fight for pixels."""
    settings = frame.scene.effects.z_fighting
    return settings.enabled and settings.highlighting
