"""The engine: models and a scene in, pixels out. With its neighbours in this room the only place for GPU calls.

    Engine                       one per process: device, pipelines, environment
    |-- Uploader                 samplers and fallback textures
    |-- ModelResource            one per loaded model: vertices, indices, textures, level tables
    |-- AssetResource            one per opened asset: its graph, its textures, which pages are resident
    |-- Residency                pools of pages of all assets, and the threads that fetch them
    |-- ScenePlacement           one per scene: an instance row per part instance, batches
    |-- Layers                   lists of what is seen through, shared by all pictures
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
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import wgpu
from numpy.typing import NDArray
from wgpu.backends.wgpu_native import extras

from farframe.asset.container import Asset
from farframe.asset.format import POINT_DTYPE
from farframe.asset.model import VERTEX_DTYPE, Model
from farframe.asset.textures_file import TextureData
from farframe.protocol.errors import FarframeError, Result
from farframe.render import flops, highlighting, outlines
from farframe.render.ahead import Ahead
from farframe.render.assets import AssetResource, PreparedAsset, make_resource, prepare_asset
from farframe.render.caps import Caps, CountKind, seen_caps, shared_mask
from farframe.render.clusters import Outlook, asset_cutter
from farframe.render.debug import DebugDrawing, counters
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
from farframe.render.layers import LAYER, Layers
from farframe.render.occlusion import DepthGrid, OcclusionGovernor
from farframe.render.pipelines import PICTURE, LightFeature, Pipelines, Use, shown
from farframe.render.placement import Resource, ScenePlacement
from farframe.render.points import COMMAND_FIELDS as POINT_FIELDS
from farframe.render.points import PointPipelines
from farframe.render.pools import Pool
from farframe.render.resources import ModelResource, Uploader
from farframe.render.scene import RenderScene
from farframe.render.streaming import Residency, Streamer
from farframe.render.styles import SHELL_COLOR, SHELL_DEPTH, STYLE_DTYPE
from farframe.render.surroundings import Surroundings
from farframe.render.targets import Attachments, Fence, ReadbackPool
from farframe.render.textures import TextureResource
from farframe.render.textures import upload_steps as texture_steps
from farframe.render.visibility import (
    COMMAND_FIELDS,
    Cloud,
    Cutter,
    Run,
    Selection,
    frustum_planes,
    select,
)
from farframe.render.warmup import draw_every_variant, prime
from farframe.scene.states import State

MAX_VIEWS = 2
UNIFORM_STRIDE = 512
"""Bytes from one view's uniform to the next; a multiple of every device's offset alignment."""
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


@dataclass(slots=True)
class _OcclusionMemory:
    """What is known of a scene's hidden surfaces: the depth of each view of the last picture, and whether it pays."""

    governor: OcclusionGovernor = field(default_factory=OcclusionGovernor)
    grids: list[DepthGrid] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Triangles and commands that were drawn, and what wants to know the time at which they are done."""

    triangles: int
    draws: int
    done: Callable[[float], None]

    @classmethod
    def of(cls, selections: list[Selection], done: Callable[[float], None] = lambda _: None) -> _Drawn:
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
        self._point_pipelines = PointPipelines(device, self.pipelines)
        self._point_group: tuple[int, Any] | None = None
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
        self._occlusion: WeakKeyDictionary[RenderScene, _OcclusionMemory] = WeakKeyDictionary()
        self._release_count = 0
        self._commands: Any = None
        self._point_commands: Any = None
        self._uniforms = device.create_buffer(
            label="views",
            size=MAX_VIEWS * UNIFORM_STRIDE,
            usage=wgpu.BufferUsage.UNIFORM | wgpu.BufferUsage.COPY_DST,
        )
        self._recorded: Any = None
        """What is recorded of the present picture and not submitted yet."""
        self._fence = Fence(device)
        self._layers = Layers(device, self.pipelines)
        self._caps = Caps(device, self.pipelines)
        self._cap_commands: Any = None
        self._outlines = outlines.Outlines(device, self.pipelines)
        self._highlighting = highlighting.Highlighting(device, self.pipelines)
        self._styles = device.create_buffer(
            label="styles", size=STYLE_DTYPE.itemsize, usage=wgpu.BufferUsage.UNIFORM | wgpu.BufferUsage.COPY_DST
        )
        self._styles_of: ScenePlacement | None = None
        others = [{"binding": 7, "resource": {"buffer": self._styles}}]
        self._surroundings = Surroundings(device, self.pipelines, self._uniforms, others)
        self._lit, self._wireframe = LightFeature.NONE, False
        self._ahead = Ahead(self)
        self._debug = DebugDrawing(device, self.pipelines)

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
        self._recorded = None
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
        drawn = self._draw(frame, placement, selections, ports, attachments)
        if _highlights(frame):
            self._draw_highlighting(frame, placement, selections, ports, attachments)
        if placement.has(State.SELECTED):
            self._draw_outlines(frame, placement, selections, ports, attachments)
        self._draw_debug(frame, ports, attachments, start, drawn.triangles, sum(s.points for s in selections))
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
            points=sum(selection.points for selection in selections),
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
        for batch in placement.batches:
            if batch.variant.points:
                self._point_pipelines.make(frame.quality.samples)
            else:
                use = LAYER if batch.variant.blended else PICTURE
                self.pipelines.surface(batch.variant, frame.quality.samples, use)
                if use is LAYER:
                    self._layers.prepare(frame.quality.samples)
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
        self._wireframe = frame.scene.effects.debug.wireframe
        self._lit = self._surroundings.update(frame.scene, frame.views, ports, placement.origin, records)
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

    def _write_commands(self, selections: list[Selection]) -> None:
        self._commands = self._filled(self._commands, [selection.commands for selection in selections])
        self._point_commands = self._filled(
            self._point_commands, [selection.cloud.commands for selection in selections]
        )

    def _filled(self, buffer: Any, tables: list[NDArray[np.uint32]]) -> Any:
        """``buffer``, or a larger one, with the commands of all views in it."""
        table = np.concatenate(tables)
        if not table.nbytes:
            return buffer
        self._flush()
        if buffer is None or buffer.size < table.nbytes:
            if buffer is not None:
                buffer.destroy()
            usage = wgpu.BufferUsage.INDIRECT | wgpu.BufferUsage.COPY_DST
            size = 1 << max(12, int(table.nbytes - 1).bit_length())
            buffer = self._device.create_buffer(label="commands", size=size, usage=usage)
        self._device.queue.write_buffer(buffer, 0, table)
        return buffer

    def _draw(
        self,
        frame: FrameInput,
        placement: ScenePlacement,
        selections: list[Selection],
        ports: tuple[Viewport, ...],
        attachments: Attachments,
    ) -> _Drawn:
        """Record the passes. Leaves out what is hidden where that pays: then the first of them is waited for."""
        memory = self._occlusion.setdefault(frame.scene, _OcclusionMemory())
        caps = self._seen_caps(frame, placement, selections)
        triangles = sum(_opaque_triangles(selection) for selection in selections)
        cull = memory.governor.wanted(triangles) if self.occlusion_culling is None else self.occlusion_culling
        if not cull:
            start = time.perf_counter()
            self._write_commands(selections)
            self._submit_pass(frame, placement, selections, ports, attachments, caps=caps)
            memory.grids = []
            return _Drawn.of(selections, lambda end: memory.governor.observe_plain(triangles, end - start))
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
        self._submit_pass(
            frame,
            placement,
            first,
            ports,
            attachments,
            last=not two_passes,
            keep_depth=True,
            caps=None if two_passes else caps,
        )
        self._finish()
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
            self._submit_pass(frame, placement, second, ports, attachments, first=False, caps=caps)
            drawn += second
        else:
            overhead += time.perf_counter() - start
        # The bands of a picture are views of their own: the next band would learn nothing from this one.
        if frame.full_height is None:
            memory.grids = grids
        found = _Drawn.of(drawn)
        if guessed:
            memory.governor.observe_culled(triangles, sum(s.triangles for s in selections) - found.triangles, overhead)
        return found

    def _draw_debug(
        self,
        frame: FrameInput,
        ports: tuple[Viewport, ...],
        attachments: Attachments,
        start: float,
        triangles: int,
        points: int,
    ) -> None:
        """Counters and edges over the picture, if they are wanted. Bands show the numbers of their whole picture."""
        settings, debug = frame.scene.effects.debug, self._debug
        if frame.first_row == 0:
            debug.meter.add(start)
        if not (settings.frame_count or settings.polygon_count or settings.edges):
            return
        whole = self._counted.get(frame.scene) if frame.full_height is not None else None
        lines = counters(settings, debug.meter, *(whole or (triangles, points)))
        share = frame.quality.scale
        encoder = self._recording()
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
        self._recorded = encoder

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
        passing.set_pipeline(self.pipelines.farthest(attachments.samples))
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

    def _submit_pass(
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
        encoder = self._recording()
        background = frame.scene.background
        # With one sample the backdrop is copied in before; with four, or in a band of a larger picture, it is drawn
        # behind what the surfaces left free.
        copied = background is None and attachments.samples == 1 and frame.full_height is None
        samples = attachments.samples
        layered = any(selection.blended for selection in selections)
        shells = any(selection.shells for selection in selections)
        keep_depth = frame.read_depth or keep_depth or _highlights(frame) or frame.scene.effects.debug.edges
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
                passing.set_pipeline(self.pipelines.backdrop(attachments.samples, behind=True))
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

            encoder = self._layers.draw(encoder, attachments, append, self._send, last=last and not again)
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
        self._recorded = encoder

    def _seen_caps(
        self, frame: FrameInput, placement: ScenePlacement, selections: list[Selection]
    ) -> list[_SeenCaps] | None:
        """What there is of caps, by view, its commands on the device; ``None`` where nothing is."""
        if self._wireframe or all(selection.caps is None for selection in selections):
            return None
        found = [
            _SeenCaps(*(((), None) if selection.caps is None else (planes, selection.caps)))
            for selection, view in zip(selections, frame.views, strict=True)
            for planes in (seen_caps(placement.styles.planes, view, placement.origin),)
        ]
        if not any(one.planes and one.faces is not None for one in found):
            return None
        tables = [one.faces.commands for one in found if one.faces is not None]
        self._cap_commands = self._filled(self._cap_commands, tables)
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

        self._caps.record(
            encoder,
            attachments,
            placement.styles.planes,
            [one.planes for one in caps],
            bounds,
            placement.origin,
            frame.quality.scale,
            self._lit,
            shared_mask(placement.styles.planes, table.mask[table.capped]),
            lambda passing, index: self._set_view(passing, index, ports[index]),
            draw_view,
            last=last,
        )

    def _recording(self) -> Any:
        """An encoder that goes on where the picture's last pass ended, so that all of it is submitted at once."""
        recorded, self._recorded = self._recorded, None
        return self._device.create_command_encoder() if recorded is None else recorded

    def _send(self, encoder: Any) -> None:
        """Submit, without waiting."""
        self._device.queue.submit([encoder.finish()])

    def _flush(self) -> None:
        """Submit what is recorded, before something is written anew that it reads."""
        if self._recorded is not None:
            self._send(self._recording())

    def _finish(self) -> None:
        """Submit what is recorded, and wait until it is done."""
        encoder = self._recording()
        self._fence.record(encoder)
        self._send(encoder)
        self._fence.wait()

    def _draw_highlighting(
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

        encoder = self._recording()
        self._highlighting.record(
            encoder,
            attachments,
            len(ports),
            frame.scene.time,
            frame.quality.scale,
            lambda passing, index: self._set_view(passing, index, ports[index]),
            draw_view,
        )
        self._recorded = encoder

    def _draw_outlines(
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
        encoder = self._recording()
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
        self._recorded = encoder

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
            elif self._lit or self._wireframe:
                variant = shown(variant, self._lit, self._wireframe)
            passing.set_pipeline(self.pipelines.surface(variant, samples, use))
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
            buffer = self._pools_of_pages[2].buffer
            self._point_pipelines.bind(passing, buffer, self._points(), placement.point_rows, samples, kind)
            extras.multi_draw_indirect(
                passing, self._point_commands, offset=(first + start) * POINT_FIELDS * 4, count=count
            )

    def _geometry(self, resource: Resource) -> tuple[Any, Any]:
        """The buffers of vertices and indices in which a resource lies."""
        if isinstance(resource, AssetResource):
            vertices, indices, _ = self._pools_of_pages
            return vertices.buffer, indices.buffer
        return resource.vertices, resource.indices

    def _points(self) -> Any:
        """The bind group of the pool of points, made anew when the pool has grown."""
        pool = self._pools_of_pages[2]
        if self._point_group is None or self._point_group[0] != pool.version:
            self._point_group = (pool.version, self._point_pipelines.bind_group(pool.buffer))
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
            passing.set_pipeline(self.pipelines.backdrop(1, behind=False))
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
        passing.set_pipeline(self.pipelines.linear_depth(attachments.samples))
        passing.set_bind_group(1, group)
        for index, port in enumerate(ports):
            self._set_view(passing, index, port)
            passing.draw(3)
        passing.end()

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
        encoder = self._recording()
        for texture, buffer in zip(textures, buffers, strict=True):
            pool.copy(encoder, texture, buffer)
        self._send(encoder)
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
        self._layers.destroy()
        self._device.destroy()


def _highlights(frame: FrameInput) -> bool:
    """Whether places are shown where surfaces of different parts fight for pixels."""
    settings = frame.scene.effects.z_fighting
    return settings.enabled and settings.highlighting


def _over_limit(selections: list[Selection], limit: int | None) -> bool:
    """Whether the views together draw more primitives than a scene may."""
    return limit is not None and sum(selection.triangles + selection.points for selection in selections) > limit
