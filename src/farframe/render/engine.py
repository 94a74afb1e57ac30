"""The engine: models and a scene in, pixels out. With its neighbours in this room the only place for GPU calls.

    Engine                       one per process: device, pipelines, environment
    |-- Uploader                 samplers and fallback textures
    |-- ModelResource            one per loaded model: vertices, indices, textures, level tables
    |-- AssetResource            one per opened asset: its graph, its textures, which pages are resident
    |-- Residency                pools of pages of all assets, and the threads that fetch them
    |-- ScenePlacement           one per scene: an instance row per part instance, batches
    |-- Passes                   what pictures are drawn by; what they share, as lists of what is seen through
    |-- Submission               what is recorded of the present picture, and sent to the device at once
    |-- Attachments              by size and sample count: colour, depth
    |-- ReadbackPool             by size: the mapped buffers that frames live in
    `-- a frame                  indirect commands and one uniform per view, written anew each time

State further down lives shorter; nothing further up changes because of it. A frame creates no pipeline, no texture
and, after the first of its size, no buffer. All calls but ``create``, ``warm_up`` and ``RenderedFrame.release`` come
from one thread, the render thread.
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import wgpu
from numpy.typing import NDArray

from farframe.asset.container import Asset
from farframe.asset.format import POINT_DTYPE
from farframe.asset.model import VERTEX_DTYPE, Model
from farframe.asset.textures_file import TextureData
from farframe.protocol.errors import FarframeError, Result
from farframe.render import flops
from farframe.render.ahead import Ahead
from farframe.render.assets import AssetResource, PreparedAsset, make_resource, prepare_asset
from farframe.render.clusters import Outlook, asset_cutter
from farframe.render.device import AdapterChoice, AdapterInfo, AdapterKind, request_device
from farframe.render.environment import studio
from farframe.render.frame import (
    FULL_QUALITY,
    VIEW_DTYPE,
    FrameInput,
    RenderedFrame,
    Viewport,
    VisibleCounts,
    fill_view,
    pixels_per_radian,
    rotation_matrix,
    view_projection,
    viewports,
)
from farframe.render.passes import UNIFORM_STRIDE, Passes, highlights
from farframe.render.pipelines import Pipelines
from farframe.render.placement import Resource, ScenePlacement
from farframe.render.pools import Pool
from farframe.render.resources import ModelResource, Uploader
from farframe.render.scene import RenderScene
from farframe.render.streaming import Residency, Streamer
from farframe.render.styles import STYLE_DTYPE
from farframe.render.submission import Submission
from farframe.render.surroundings import Surroundings
from farframe.render.targets import Attachments, ReadbackPool
from farframe.render.textures import TextureResource
from farframe.render.textures import upload_steps as texture_steps
from farframe.render.visibility import (
    COMMAND_FIELDS,
    Cutter,
    Selection,
    frustum_planes,
    select,
)
from farframe.render.warmup import draw_every_variant, prime
from farframe.scene.states import State

MAX_VIEWS = 2
KEPT_SIZES = 6
"""Sizes of picture whose attachments stay: the steps of a governor's scale, at both sample counts."""
GPU_ANISOTROPY = 8
"""Anisotropic filtering is nearly free on a GPU; on a CPU it would cost more than the rest of the shading."""

PAGE_BUDGET_BYTES = {"cpu": 1 << 30, "gpu": 4 << 30}
"""What the pages of all assets may take on a device, unless it is told otherwise."""
MOST_MISSING = 64
"""Pages that are told to be missing at a time."""
COARSENING_STEP = 1.4
MAX_COARSENING = 64.0
"""How much coarser than asked for a scene is drawn that has too many primitives, by which steps and at most."""


_NO_SCENE = RenderScene()


@contextlib.contextmanager
def _device_errors(adapter_name: str) -> Iterator[None]:
    """Turns what wgpu raises when a device fails into the error that a device owner understands."""
    try:
        yield
    except wgpu.GPUError as error:
        raise FarframeError(
            Result.DEVICE_LOST,
            f"The graphics device {adapter_name} failed: {error}",
            next_step="Stop this session and create another; if that fails, too, check the driver and its memory.",
        ) from error


class Engine:
    """Draws frames. Make one with :meth:`create`; ``adapter_kind`` tells whether a CPU draws."""

    def __init__(self, device: Any, adapter: AdapterInfo, *, page_budget_bytes: int | None = None) -> None:
        self._device = device
        self.adapter_name = adapter.name
        self.adapter_kind: AdapterKind = "cpu" if adapter.kind == "CPU" else "gpu"
        self.pipelines = Pipelines(device)
        self._uploader = Uploader(
            device,
            self.pipelines,
            anisotropy=1 if self.adapter_kind == "cpu" else GPU_ANISOTROPY,
            decode_blocks=self.adapter_kind == "cpu",
        )
        self._placements: WeakKeyDictionary[RenderScene, ScenePlacement] = WeakKeyDictionary()
        self._attachments: OrderedDict[tuple[int, int, int], Attachments] = OrderedDict()
        self._pools: OrderedDict[tuple[int, int], ReadbackPool] = OrderedDict()
        self._resources: set[Resource] = set()
        self._textures: set[TextureResource] = set()
        self._pools_of_pages = self._make_pools()
        self.residency = Residency(
            *self._pools_of_pages,
            Streamer(),
            PAGE_BUDGET_BYTES[self.adapter_kind] if page_budget_bytes is None else page_budget_bytes,
        )
        """Which pages of assets are on the device. Its ``streamer.on_ready`` tells a loop at rest to draw again."""
        self._coarsening = 1.0
        self._counted: WeakKeyDictionary[RenderScene, tuple[int, int]] = WeakKeyDictionary()
        """Triangles and points that :meth:`count_visible` found last."""
        self._last_frames: WeakKeyDictionary[RenderScene, FrameInput] = WeakKeyDictionary()
        self.occlusion_culling: bool | None = None
        """Whether what is hidden behind other surfaces is left out; ``None`` where that pays, as measured."""
        self._release_count = 0
        self._uniforms = device.create_buffer(
            label="views",
            size=MAX_VIEWS * UNIFORM_STRIDE,
            usage=wgpu.BufferUsage.UNIFORM | wgpu.BufferUsage.COPY_DST,
        )
        self._submission = Submission(device)
        self._styles = device.create_buffer(
            label="styles", size=STYLE_DTYPE.itemsize, usage=wgpu.BufferUsage.UNIFORM | wgpu.BufferUsage.COPY_DST
        )
        self._styles_of: ScenePlacement | None = None
        others = [{"binding": 7, "resource": {"buffer": self._styles}}]
        self._surroundings = Surroundings(device, self.pipelines, self._uniforms, others)
        self._passes = Passes(
            device, self.pipelines, self._uploader, self._surroundings, self._submission, self._pools_of_pages
        )
        self._ahead = Ahead(self)

    @classmethod
    def create(cls, adapter: AdapterChoice = "auto", *, page_budget_bytes: int | None = None) -> Engine:
        """Open the best adapter of that choice. Raises :class:`FarframeError` ``DeviceLost`` if there is none.

        ``page_budget_bytes``: what the pages of assets may take together; :data:`PAGE_BUDGET_BYTES` if not given.
        """
        return cls(*request_device(adapter), page_budget_bytes=page_budget_bytes)

    def _make_pools(self) -> tuple[Pool, Pool, Pool]:
        usage, limits = wgpu.BufferUsage, self._device.limits
        largest = int(limits["max-buffer-size"])
        bound = min(largest, int(limits["max-storage-buffer-binding-size"]))
        return (
            Pool(self._device, "vertices of assets", VERTEX_DTYPE.itemsize, usage.VERTEX, largest),
            Pool(self._device, "indices of assets", 4, usage.INDEX, largest),
            Pool(self._device, "points of assets", POINT_DTYPE.itemsize, usage.STORAGE | usage.VERTEX, bound),
        )

    def prepare_ahead(self) -> bool:
        """Make one of the pipelines that what is loaded may need later, some 10 to 100 ms of CPU, and say whether more
        are left. For moments in which nobody waits for a picture: see ``ahead``."""
        with _device_errors(self.adapter_name):
            return self._ahead.step()

    def warm_up(self) -> None:
        """Compile the pipelines of the usual materials and draw one small frame with each.

        A model with an unusual mix of textures compiles its own when it is uploaded, so no frame ever does.
        """
        draw_every_variant(self)
        self._ahead.add_usual()

    def measure_teraflops(self) -> float:
        """FP32 operations per second, in 10^12, of a short compute kernel of fused multiply-adds; measured anew."""
        return flops.measure_teraflops(self._device, self.pipelines)

    def upload_steps(self, model: Model) -> Generator[float | ModelResource, None, None]:
        """Upload in steps of a few milliseconds each: yields the share done, at last the resource itself.

        Frames may be drawn between steps. Closing the iterator early frees what was uploaded. Raises
        :class:`FarframeError` ``ExceedsMemoryLimit`` before the first step for a model that this device cannot hold.
        """
        resource = self._uploader.start(model)
        complete = False
        try:
            yield from self._uploader.steps(resource)
            for _ in prime(self, resource):
                yield 1.0
            complete = True
        except wgpu.GPUOutOfMemoryError as error:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"The model {model.name!r} does not fit into the memory of {self.adapter_name}.",
                next_step="Simplify it, or unload other models first.",
            ) from error
        finally:
            if not complete:
                resource.destroy()
        self._resources.add(resource)
        self._ahead.add(resource)
        yield resource

    def upload(self, model: Model) -> ModelResource:
        """Upload a model at one go. Raises as :meth:`upload_steps`."""
        for step in self.upload_steps(model):
            if not isinstance(step, float):
                return step
        raise AssertionError("an upload ends with its resource")

    def open_asset_steps(self, source: Asset | PreparedAsset) -> Generator[float | AssetResource, None, None]:
        """Bring an asset onto the device as far as its first picture needs it, in steps as :meth:`upload_steps`.

        What :func:`~farframe.render.assets.prepare_asset` makes, on any thread, saves the render thread the reading.
        The rest comes while frames are drawn. The asset stays open until it is released; it is not closed then.
        """
        prepared = prepare_asset(source) if isinstance(source, Asset) else source
        complete = False
        resource = make_resource(prepared, self._device, self._uploader)
        try:
            self.residency.add(resource)
            count = len(prepared.root_pages)
            for number, (page, content) in enumerate(prepared.root_pages.items()):
                self.residency.place(resource, page, content)
                yield min(0.9, (number + 1) / count)
            for _ in prime(self, resource):
                yield 1.0
            complete = True
        except wgpu.GPUOutOfMemoryError as error:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"The asset {resource.name!r} does not fit into the memory of {self.adapter_name}.",
                next_step="Unload other models first.",
            ) from error
        finally:
            if not complete:
                self.residency.remove(resource)
                resource.destroy()
        self._resources.add(resource)
        self._ahead.add(resource)
        yield resource

    def open_asset(self, source: Asset | PreparedAsset) -> AssetResource:
        """Open an asset at one go. Raises as :meth:`open_asset_steps`."""
        for step in self.open_asset_steps(source):
            if not isinstance(step, float):
                return step
        raise AssertionError("opening ends with the resource")

    @property
    def decoded_texture_formats(self) -> frozenset[str]:
        """Formats of blocks that this device cannot read, or only slowly: ``TextureData.decoded`` takes them."""
        return self._uploader.decoded_formats

    def upload_texture_steps(self, data: TextureData) -> Generator[float | TextureResource, None, None]:
        """Upload a texture for materials in steps as :meth:`upload_steps`; :meth:`release_texture` frees it.

        Blocks are decoded here if they have to be and are not yet. Raises ``ExceedsMemoryLimit``, ``NotSupported``.
        """
        odd = bool(data.width % 4 or data.height % 4)
        data = data.decoded({data.format} if odd else self.decoded_texture_formats)
        try:
            for step in texture_steps(self._device, data):
                if not isinstance(step, float):
                    self._textures.add(step)
                yield step
        except wgpu.GPUOutOfMemoryError as error:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"The texture {data.name!r} does not fit into the memory of {self.adapter_name}.",
                next_step="Scale it down, or unload models first.",
            ) from error

    def upload_texture(self, data: TextureData) -> TextureResource:
        """Upload a texture at one go. Raises as :meth:`upload_texture_steps`."""
        for step in self.upload_texture_steps(data):
            if not isinstance(step, float):
                return step
        raise AssertionError("an upload ends with its resource")

    def release_texture(self, resource: TextureResource) -> None:
        """Free a texture. Materials that still name it are drawn without; a second call is fine."""
        if not resource.released:
            resource.destroy()
            self._textures.discard(resource)

    def missing_pages(self, resource: AssetResource, scene: RenderScene, handle: int) -> list[int]:
        """Which pages of an asset the last picture of ``scene`` would have missed with the asset in the place of
        ``handle``: those missed most, with all that they depend on, in an order in which they can be placed.

        So a model can be exchanged for an asset without a moment of coarse surfaces. Empty where nothing is missing,
        or no picture was drawn. ``KeyError`` for a handle that is not placed.
        """
        matrix = scene.entries[handle].matrix
        frame = self._last_frames.get(scene)
        if frame is None:
            return []
        preview = RenderScene()
        preview.add(resource, matrix)
        frame = replace(frame, scene=preview)
        coarsening, resource.pages.priority[:] = self._coarsening, 0.0
        self.count_visible(frame)
        self._coarsening = coarsening
        del self._last_frames[preview]
        self._placements.pop(preview).destroy()
        missed = np.flatnonzero(resource.pages.priority > 0.0)
        most = missed[np.argsort(-resource.pages.priority[missed], kind="stable")][:MOST_MISSING]
        resource.pages.priority[:] = 0.0
        wanted = set(most.tolist())
        todo = list(wanted)
        while todo:
            above = [p for p in resource.parents_of(todo.pop()) if p not in wanted and not resource.pages.resident[p]]
            wanted.update(above)
            todo += above
        return sorted(wanted)  # a page follows those that it depends on

    def release(self, resource: Resource) -> None:
        """Free a model's memory. Scenes that still place it draw without it; a second call is fine."""
        if not resource.released:
            if isinstance(resource, AssetResource):
                self.residency.remove(resource)
            resource.destroy()
            self._resources.discard(resource)
            self._release_count += 1

    @property
    def model_bytes(self) -> int:
        """Device memory that uploaded models and textures and the resident pages of assets hold."""
        held = sum(resource.size_bytes for resource in (*self._resources, *self._textures))
        return held + self.residency.used_bytes

    def render(self, frame: FrameInput) -> RenderedFrame:
        """Draw a frame and wait for its pixels. The frame holds a readback buffer until it is released.

        Raises ``ValueError`` for a number of views that cannot be drawn, ``RuntimeError`` when too many frames have
        not been released, and :class:`FarframeError` ``DeviceLost`` when the device fails.
        """
        with _device_errors(self.adapter_name):
            return self._render(frame)

    def _render(self, frame: FrameInput) -> RenderedFrame:
        start = time.perf_counter()
        self._submission.begin()
        if not 1 <= len(frame.views) <= MAX_VIEWS:
            raise ValueError(f"a frame has 1 or {MAX_VIEWS} views, not {len(frame.views)}")
        # The bands of a picture are one picture: no page comes or goes between them.
        if frame.first_row == 0:
            self.residency.begin_picture()
        attachments = self._attachments_for(frame)
        placement = self._place(frame)
        ports = viewports(len(frame.views), attachments.width, attachments.height)
        selections = self._select_views(frame, placement, ports)
        self._remember(frame)
        if frame.first_row + frame.height >= (frame.full_height or frame.height):
            self.residency.end_picture()
        points, passes = sum(selection.points for selection in selections), self._passes
        drawn = passes.draw(frame, placement, selections, ports, attachments, self.occlusion_culling)
        if highlights(frame):
            passes.draw_highlighting(frame, placement, selections, ports, attachments)
        if placement.has(State.SELECTED):
            passes.draw_outlines(frame, placement, selections, ports, attachments)
        # Bands show the numbers of their whole picture.
        counts = self._counted.get(frame.scene) if frame.full_height is not None else None
        passes.draw_debug(frame, ports, attachments, start, counts or (drawn.triangles, points))
        pixels, depth, release, draw_end = self._read_back(attachments, read_depth=frame.read_depth)
        drawn.done(draw_end)
        return RenderedFrame(
            pixels=pixels,
            width=attachments.width,
            height=attachments.height,
            depth=depth,
            draw_start=start,
            draw_end=draw_end,
            read_back=time.perf_counter(),
            triangles=drawn.triangles,
            draws=drawn.draws,
            reduced_parts=sum(selection.reduced_parts for selection in selections),
            samples=attachments.samples,
            points=points,
            over_limit=_over_limit(selections, frame.scene.primitive_limit),
            hidden_triangles=sum(selection.triangles for selection in selections) - drawn.triangles,
            _release=release,
        )

    def count_visible(self, frame: FrameInput) -> VisibleCounts:
        """What :meth:`render` would draw for ``frame``, without drawing it."""
        attachments = self._attachments_for(frame)
        ports = viewports(len(frame.views), attachments.width, attachments.height)
        selections = self._select_views(frame, self._place(frame), ports)
        self._remember(frame)
        triangles = sum(selection.triangles for selection in selections)
        points = sum(selection.points for selection in selections)
        self._counted[frame.scene] = (triangles, points)
        return VisibleCounts(
            triangles=triangles,
            draws=sum(len(selection.commands) for selection in selections),
            reduced_parts=sum(selection.reduced_parts for selection in selections),
            points=points,
            over_limit=_over_limit(selections, frame.scene.primitive_limit),
        )

    def _remember(self, frame: FrameInput) -> None:
        """Keep what was last drawn of a scene, for :meth:`missing_pages`; bands come after their whole picture."""
        if frame.full_height is None:
            # The scene itself must not be held by what is kept for as long as the scene lives.
            self._last_frames[frame.scene] = replace(frame, scene=_NO_SCENE)

    def _attachments_for(self, frame: FrameInput) -> Attachments:
        """The attachments of the frame's drawn size, which is even so that two views and video fit."""
        width = max(2, round(frame.width * frame.quality.scale / 2) * 2)
        height = max(2, round(frame.height * frame.quality.scale / 2) * 2)
        return self.attachments(width, height, frame.quality.samples)

    def attachments(self, width: int, height: int, samples: int) -> Attachments:
        """Cached attachments of that size; the size unused for longest is given up."""
        key = (width, height, samples)
        if key not in self._attachments:
            while len(self._attachments) >= 2 * KEPT_SIZES:
                self._attachments.popitem(last=False)[1].destroy()
            self._attachments[key] = Attachments(self._device, self.pipelines, width, height, samples)
        self._attachments.move_to_end(key)
        return self._attachments[key]

    def _place(self, frame: FrameInput) -> ScenePlacement:
        placement = self._placements.get(frame.scene)
        if placement is None:
            placement = self._placements[frame.scene] = ScenePlacement(self._device, self.pipelines, self._uploader)
        placement.update(frame.scene, np.array(frame.views[0].position, np.float64), self._release_count)
        if placement.restyle(frame.scene) or (placement.styles.active and self._styles_of is not placement):
            self._device.queue.write_buffer(self._styles, 0, placement.styles.uniform())
            self._styles_of = placement
        self._passes.prepare(placement, frame.quality.samples)
        return placement

    def _select_views(
        self, frame: FrameInput, placement: ScenePlacement, ports: tuple[Viewport, ...]
    ) -> list[Selection]:
        """What each view sees; its uniform is written on the way."""
        records = np.zeros(len(frame.views), VIEW_DTYPE)
        staging = np.zeros((len(frame.views), UNIFORM_STRIDE), np.uint8)
        full_height = frame.full_height or frame.height
        band = (frame.first_row / full_height, (frame.first_row + frame.height) / full_height)
        matrices = [view_projection(view, placement.origin) for view in frame.views]
        for index, (view, port, matrix) in enumerate(zip(frame.views, ports, matrices, strict=True)):
            light = frame.scene.environment or studio()
            fill_view(records[index], view, port, frame.scene, matrix, light, placement.origin, band)
        self._passes.wireframe = frame.scene.effects.debug.wireframe
        self._passes.lit = self._surroundings.update(frame.scene, frame.views, ports, placement.origin, records)
        selections = self._select_within_limit(frame, placement, ports, matrices)
        staging[:, : VIEW_DTYPE.itemsize] = records.view(np.uint8).reshape(len(records), -1)
        self._device.queue.write_buffer(self._uniforms, 0, staging)
        return selections

    def _select_within_limit(
        self,
        frame: FrameInput,
        placement: ScenePlacement,
        ports: tuple[Viewport, ...],
        matrices: list[NDArray[np.float64]],
    ) -> list[Selection]:
        """What each view sees, drawn as coarsely as the scene's limit of primitives demands.

        Bands of a picture take what was found for the whole of it, see :meth:`count_visible`.
        """
        if placement.placement is None:
            return [Selection(np.zeros((0, COMMAND_FIELDS), np.uint32), (), (), 0, 0) for _ in frame.views]
        limit = frame.scene.primitive_limit
        if limit is None:
            self._coarsening = 1.0
        elif frame.full_height is None:
            self._coarsening = max(1.0, self._coarsening / COARSENING_STEP)
        while True:
            selections = []
            for view, port, matrix in zip(frame.views, ports, matrices, strict=True):
                density = pixels_per_radian(view, port)
                planes, eye = frustum_planes(matrix), np.array(view.position) - placement.origin
                forward = -rotation_matrix(view.orientation)[:, 2] if view.orthographic else None
                selections.append(
                    select(
                        placement.placement,
                        planes,
                        eye,
                        near=view.near,
                        pixels_per_radian=density,
                        pixel_error=frame.quality.pixel_error,
                        cutter=self._cutter(frame, placement, Outlook(planes, eye, view.near, density, forward))
                        if placement.assets
                        else None,
                        forward=forward,
                    )
                )
            too_many = frame.full_height is None and _over_limit(selections, limit)
            if not too_many or not placement.assets or self._coarsening >= MAX_COARSENING:
                return selections
            self._coarsening *= COARSENING_STEP

    def _cutter(self, frame: FrameInput, placement: ScenePlacement, outlook: Outlook) -> Cutter:
        """The function that cuts the assets which a view sees."""
        quality = frame.quality
        pixel_error = quality.cut_error * self._coarsening
        # Whatever the quality in motion is, pages are fetched for the picture that comes when everything rests.
        wanted_error = min(pixel_error, FULL_QUALITY.cut_error * quality.scale * self._coarsening)
        return asset_cutter(
            placement,
            outlook,
            pixel_error=pixel_error,
            wanted_error=wanted_error,
            point_size=frame.scene.point_size,
            cpu=self.adapter_kind == "cpu",
            residency=self.residency,
        )

    def _read_back(
        self, attachments: Attachments, *, read_depth: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None, Any, float]:
        """Submit what is recorded with the copies of its pictures, and wait: one wait for both, because each costs a
        turn through two threads. Pixels, depth, what gives the buffers back, and when they were there."""
        pool = self._pool(attachments.width, attachments.height)
        textures = [attachments.color]
        if read_depth:
            textures.append(attachments.linear_depth()[0])
        buffers = [pool.acquire() for _ in textures]
        encoder = self._submission.recording()
        for texture, buffer in zip(textures, buffers, strict=True):
            pool.copy(encoder, texture, buffer)
        self._submission.send(encoder)
        for buffer in buffers:
            pool.wait(buffer)
        done = time.perf_counter()
        arrays = [pool.read(buffer) for buffer in buffers]

        def release() -> None:
            for buffer in buffers:
                pool.give_back(buffer)

        depth = arrays[1].view(np.float32)[..., 0] if read_depth else None
        return arrays[0], depth, release, done

    def _pool(self, width: int, height: int) -> ReadbackPool:
        key = (width, height)
        if key not in self._pools:
            self._pools[key] = ReadbackPool(self._device, width, height)
            for old in list(self._pools)[:-KEPT_SIZES]:
                if self._pools[old].trim():
                    del self._pools[old]
        self._pools.move_to_end(key)
        return self._pools[key]

    def close(self) -> None:
        """Free everything. Frames that are still held become invalid."""
        self.residency.streamer.close()
        for resource in list(self._resources):
            self.release(resource)
        for texture in list(self._textures):
            self.release_texture(texture)
        for placement in self._placements.values():
            placement.destroy()
        self._placements.clear()
        for attachments in self._attachments.values():
            attachments.destroy()
        self._attachments.clear()
        for pool in self._pools.values():
            pool.trim()
        self._pools.clear()
        for pages in self._pools_of_pages:
            pages.destroy()
        self._passes.destroy()
        self._device.destroy()


def _over_limit(selections: list[Selection], limit: int | None) -> bool:
    """Whether the views together draw more primitives than a scene may."""
    return limit is not None and sum(selection.triangles + selection.points for selection in selections) > limit
