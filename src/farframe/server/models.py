"""From a URI to something that the renderer draws: fetch, read in the sandbox, upload. And back out again.

A plain model is drawn as it is, as soon as it is read. If it is large enough it is converted meanwhile
(:mod:`farframe.server.refinement`), and the asset, of which each picture draws only what it needs, takes its place.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import structlog

from farframe.asset.format import MAGIC
from farframe.asset.model import Model
from farframe.asset.source import ByteSource, FileSource
from farframe.protocol import messages
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.performance import PerformanceAssessment
from farframe.scene.scene import SceneSettings
from farframe.server.performance import Nvidia, assess
from farframe.server.refinement import convert_in_background, worth_converting
from farframe.server.scene_world import SceneWorld, asset_tree, model_tree
from farframe.server.textures import TextureStore

if TYPE_CHECKING:
    from farframe.asset.container import Asset
    from farframe.asset.loading import ModelLoader
    from farframe.asset.pages import Page
    from farframe.protocol.link import Assign, ServerConfig
    from farframe.render import AssetResource, Engine, ModelResource, PreparedAsset
    from farframe.scene.meshes import Tree
    from farframe.server.frame_loop import FrameLoop
    from farframe.server.ledger import Ledger

log = structlog.get_logger("farframe.models")

Progress = Callable[[str, float], None]
T = TypeVar("T")

BUILTIN_SCHEME = "builtin://"
BUILTIN_MODELS = ("Engine",)
STAGES = {
    "downloading": ("download", 0.0, 0.3),
    "reading": ("read", 0.3, 0.6),
    "textures": ("read", 0.3, 0.6),
    "geometry": ("read", 0.3, 0.6),
    "levels": ("simplify", 0.6, 0.85),
    "writing": ("simplify", 0.6, 0.85),
    "uploading": ("upload", 0.85, 1.0),
}
"""The steps of a load: their name in the protocol, and which share of the whole each takes."""


PRIMITIVE_LIMITS = {"Standard": 20_000_000}
"""Triangles and points that a picture may draw, by size of server; assets are drawn more coarsely to keep it."""

ASSET_SUFFIX = ".arrasset"

SWAP_SECONDS = 10.0
"""How long an asset that takes a plain model's place may wait until it shows all that the present view needs."""
SWAP_PAGES = 4
"""Pages that are put onto the device between two frames."""

MAX_CONCURRENT_LOADS = 2
"""One is fetched while another is read; more would only fill the disk."""


def names_asset(uri: str) -> bool:
    """Whether a URI is of an asset on the web, which is read by byte ranges."""
    path, _, _ = uri.partition("?")
    return uri.lower().startswith(("https://", "http://")) and path.lower().endswith(ASSET_SUFFIX)


def is_asset(path: Path) -> bool:
    """Whether a file begins as an asset does. A file that cannot be read is left to whoever reads models."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _no_room(size: int, held: int, limit: int) -> FarframeError:
    return FarframeError(
        Result.EXCEEDS_MEMORY_LIMIT,
        f"The model needs {size:,} bytes, and the scene already holds {held:,} of the {limit:,} it may.",
        next_step="Unload a model first, or load a smaller one.",
    )


class _Stages:
    """Turns each step's own fraction into one of the whole that never goes back."""

    def __init__(self, report: Progress) -> None:
        self._report = report
        self._done = 0.0

    def __call__(self, step: str, fraction: float) -> None:
        stage, low, high = STAGES[step]
        done = low + (high - low) * min(max(fraction, 0.0), 1.0)
        if done > self._done:
            self._done = done
            self._report(stage, done)


@dataclass(slots=True, eq=False)
class LoadedModel:
    """A model that is drawn: its GPU resource, its place in the renderer's scene and what the device is told.

    ``resource`` and ``asset`` change when what was converted in the background takes the model's place.
    """

    resource: ModelResource | AssetResource
    handle: int
    model_name: str
    bounds_min: tuple[float, float, float]
    bounds_max: tuple[float, float, float]
    part_count: int
    triangle_count: int
    vertex_count: int
    material_count: int
    texture_count: int
    warnings: tuple[str, ...]
    root_entity: int = 0
    """The entity at its root; those of its nodes follow."""
    entity_count: int = 0
    scene_graph_mode: messages.SceneGraphMode = "dynamic"
    asset: Asset | None = None
    """What the resource's pages are read from; closed with it."""
    refinement: asyncio.Task[None] | None = None
    """Converts the model in the background; ended with it."""
    workspace: Path | None = None
    """Where that has its files."""

    def to_result(self, model_id: int, uri: str) -> messages.LoadModelResult:
        """The answer to ``scene.loadModel``; an empty model has a point at the origin as its bounds."""
        empty = self.bounds_min[0] > self.bounds_max[0]
        origin = (0.0, 0.0, 0.0)
        return messages.LoadModelResult(
            model_id=model_id,
            name=self.model_name,
            uri=uri.partition("?")[0],  # a query may hold a signature
            bounds=messages.Bounds(min=origin if empty else self.bounds_min, max=origin if empty else self.bounds_max),
            part_count=self.part_count,
            triangle_count=self.triangle_count,
            vertex_count=self.vertex_count,
            material_count=self.material_count,
            texture_count=self.texture_count,
            warnings=list(self.warnings),
            root_entity=self.root_entity,
            entity_count=self.entity_count,
            scene_graph_mode=self.scene_graph_mode,
        )


class ModelStore:
    """Loads models for the connected device and keeps the renderer's scene in step. Event loop only."""

    def __init__(self, config: ServerConfig, frames: FrameLoop, loader: ModelLoader, encoder_name: str) -> None:
        self._config = config
        self._frames = frames
        self._loader = loader
        self.encoder_name = encoder_name
        self._loads = asyncio.Semaphore(MAX_CONCURRENT_LOADS)
        self._refinements = asyncio.Semaphore(1)
        self._primitive_limit: int | None = None
        self._nvidia: Nvidia | None = None
        self.world = SceneWorld(frames.scene)
        """The scene's entities. Touched in the render thread only, see :meth:`run`."""
        self.textures = TextureStore(config, frames, loader, self.world)

    async def assess(self, assignment: Assign, ledger: Ledger, frames_per_second: int) -> PerformanceAssessment:
        """How well the server does for a device that wants so many frames per second."""
        engine = await self._frames.engine()
        on_gpu = engine.adapter_kind == "gpu"
        if on_gpu and self._nvidia is None:
            self._nvidia = await asyncio.to_thread(Nvidia, engine.adapter_name)
        return assess(
            ledger,
            self._frames,
            graphics=await asyncio.to_thread(self._nvidia.load) if self._nvidia is not None else None,
            on_gpu=on_gpu,
            frames_per_second=frames_per_second,
            primitive_limit=PRIMITIVE_LIMITS.get(assignment.size),
        )

    async def load(self, uri: str, assignment: Assign, progress: Progress, parent: int = 0) -> LoadedModel:
        """Load a model into the renderer's scene, whole or not at all, its root below the entity ``parent`` if any.

        Raises :class:`FarframeError`.
        """

        self._primitive_limit = PRIMITIVE_LIMITS.get(assignment.size)
        async with self._loads:
            return await self._load(uri, assignment, _Stages(progress), parent)

    async def run(self, job: Callable[[SceneWorld], T]) -> T:
        """Run ``job`` on the scene's entities, between two frames."""
        return await self._frames.run(lambda engine: job(self.world))

    async def settle(self) -> None:
        """Wait until skies and what lights project, as the scene wants them by now, are drawn."""
        await self.textures.settle()

    async def _load(self, uri: str, assignment: Assign, staged: Progress, parent: int) -> LoadedModel:
        workspace = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="farframe-refinement-"))
        flat = workspace / "model.flat"
        refined = False
        try:
            read = await self._read(uri, assignment, staged, flat)
            if self._config.background_conversion and isinstance(read, Model) and flat.exists():
                refined = worth_converting(read.triangle_count, (await self._frames.engine()).adapter_kind)
            if not refined:
                await asyncio.to_thread(shutil.rmtree, workspace, ignore_errors=True)
            loaded = await self._show(read, staged, parent)
        except BaseException:
            shutil.rmtree(workspace, ignore_errors=True)
            raise
        # From here on nothing waits, so nothing can be cancelled: the model is whole, or not at all.
        if refined:
            loaded.workspace = workspace
            loaded.refinement = asyncio.create_task(self._refine(loaded, flat))
        return loaded

    async def _show(self, read: Model | PreparedAsset, staged: Progress, parent: int) -> LoadedModel:
        """Bring what was read into the renderer's scene."""
        stopped = asyncio.Event()
        if isinstance(read, Model):
            await self._check_room(read)
            upload = asyncio.create_task(self._upload(read, staged, stopped, parent))
        else:
            upload = asyncio.create_task(self._open(read, staged, stopped, parent))
        try:
            loaded = await asyncio.shield(upload)
        except asyncio.CancelledError:
            # What the render thread is doing cannot be broken off; let it come to the next step, and undo it.
            stopped.set()
            await asyncio.wait([upload])
            if upload.exception() is None and (finished := upload.result()) is not None:
                await self.remove([finished])
            raise
        assert loaded is not None
        staged("uploading", 1.0)
        return loaded

    async def _refine(self, loaded: LoadedModel, flat: Path) -> None:
        """Convert a model that is drawn, and draw the asset in its place. What fails leaves the model as it is."""
        path = flat.with_suffix(ASSET_SUFFIX)
        stopped = asyncio.Event()
        try:
            async with self._refinements:
                await convert_in_background(flat, path, self._config.load)
            swap = asyncio.create_task(self._swap(loaded, path, stopped))
            try:
                await asyncio.shield(swap)
            except asyncio.CancelledError:
                stopped.set()
                await asyncio.wait([swap])
                raise
        except Exception as error:
            log.warning("model.refinement_failed", error=str(error) or type(error).__name__)
        finally:
            # The file stays readable for as long as it is open.
            await asyncio.to_thread(shutil.rmtree, flat.parent, ignore_errors=True)

    async def _swap(self, loaded: LoadedModel, path: Path, stopped: asyncio.Event) -> None:
        """Open a converted model beside what is drawn, and draw it instead once its coarsest pages are there."""
        prepared = await self._prepare(lambda: FileSource(path), lambda stage, fraction: None)
        resource = await self._open_resource(prepared, lambda stage, fraction: None, stopped)
        if resource is None:
            return
        tree = await asyncio.to_thread(asset_tree, prepared.asset)
        try:
            async with asyncio.timeout(SWAP_SECONDS):
                await self._bring_in(loaded, resource, stopped)
        except (TimeoutError, FarframeError) as error:
            # What is missing comes while the asset is drawn.
            log.info("model.refined_coarsely", reason=str(error) or type(error).__name__)

        def work(engine: Engine) -> None:
            # Between two frames: none is drawn with both or neither.
            self._frames.scene.replace(loaded.handle, resource)
            self.world.replace_model(loaded.handle, tree)
            engine.release(loaded.resource)
            loaded.resource, loaded.asset = resource, prepared.asset

        await self._frames.run(work)
        log.info("model.refined", triangles=loaded.triangle_count)

    async def _bring_in(self, loaded: LoadedModel, resource: AssetResource, stopped: asyncio.Event) -> None:
        """Have on the device what the present view needs of an asset that is to take a model's place, so that no
        picture is coarser for a moment."""
        scene, asset = self._frames.scene, resource.asset

        def read(pages: list[int]) -> list[tuple[int, Page]]:
            return [(page, asset.decode_page(page, asset.read_page(page))) for page in pages]

        def place(engine: Engine, *, contents: list[tuple[int, Page]]) -> bool:
            return all(
                resource.pages.resident[page] or engine.residency.place(resource, page, content)
                for page, content in contents
            )

        while not stopped.is_set():
            missing = await self._frames.run(lambda engine: engine.missing_pages(resource, scene, loaded.handle))
            if not missing:
                return
            for first in range(0, len(missing), SWAP_PAGES):
                contents = await asyncio.to_thread(read, missing[first : first + SWAP_PAGES])
                if not await self._frames.run(partial(place, contents=contents)):
                    return  # all memory is in use

    async def _check_room(self, model: Model) -> None:
        """Refuse a model that does not fit beside those that are loaded."""
        textures = sum(texture.pixels.nbytes for texture in model.textures)
        size = model.vertices.nbytes + model.indices.nbytes + textures * 4 // 3  # with mipmaps
        held = await self._frames.run(lambda engine: engine.model_bytes)
        limit = self._config.load.max_scene_bytes
        if held + size > limit:
            raise _no_room(size, held, limit)

    async def _upload(self, model: Model, staged: Progress, stopped: asyncio.Event, parent: int) -> LoadedModel | None:
        """Upload a few milliseconds at a time, so that frames are drawn in between. ``None`` when it was stopped."""
        steps = await self._frames.run(lambda engine: engine.upload_steps(model))
        while not stopped.is_set():
            step = await self._frames.run(lambda engine: next(steps))
            if not isinstance(step, float):
                return await self._place(model, step, parent)
            staged("uploading", step)
        await self._frames.run(lambda engine: steps.close())
        return None

    async def _place(self, model: Model, resource: ModelResource, parent: int) -> LoadedModel:
        tree = await asyncio.to_thread(model_tree, model)
        handle, root = await self._frames.run(lambda engine: self._add(engine, resource, tree, parent))
        return LoadedModel(
            resource=resource,
            handle=handle,
            root_entity=root,
            entity_count=len(tree.parent),
            model_name=model.name,
            bounds_min=model.bounds_min,
            bounds_max=model.bounds_max,
            part_count=len(model.instance_part),
            triangle_count=model.triangle_count,
            vertex_count=len(model.vertices),
            material_count=len(model.materials),
            texture_count=len(model.textures),
            warnings=tuple(model.warnings),
        )

    async def _open(
        self, prepared: PreparedAsset, staged: Progress, stopped: asyncio.Event, parent: int
    ) -> LoadedModel | None:
        """Bring an asset as far onto the device as its first picture needs. ``None`` when it was stopped."""
        resource = await self._open_resource(prepared, staged, stopped)
        if resource is None:
            return None
        try:
            return await self._place_asset(prepared.asset, resource, parent)
        except BaseException:
            await asyncio.to_thread(prepared.asset.close)
            raise

    async def _open_resource(
        self, prepared: PreparedAsset, staged: Progress, stopped: asyncio.Event
    ) -> AssetResource | None:
        """An asset on the device, not placed yet. ``None`` when it was stopped; it is closed then, or if this fails."""
        asset = prepared.asset
        opened = False
        try:
            textures = sum(mip.size for texture in asset.index.textures for mip in texture.mips)
            held = await self._frames.run(lambda engine: engine.model_bytes)
            if held + textures > self._config.load.max_scene_bytes:
                raise _no_room(textures, held, self._config.load.max_scene_bytes)
            steps = await self._frames.run(lambda engine: engine.open_asset_steps(prepared))
            while not stopped.is_set():
                step = await self._frames.run(lambda engine: next(steps))
                if not isinstance(step, float):
                    opened = True
                    return step
                staged("uploading", step)
            await self._frames.run(lambda engine: steps.close())
            return None
        finally:
            if not opened:
                await asyncio.to_thread(asset.close)

    def _add(self, engine: Engine, resource: ModelResource | AssetResource, tree: Tree, parent: int) -> tuple[int, int]:
        """Place a resource, in the render thread: its handle and the entity at its root. It is released if it has no
        place: InvalidParentId, ExceedsMemoryLimit."""
        scene = self._frames.scene
        try:
            self.world.check_model(tree, parent)
            scene.primitive_limit = self._primitive_limit
            handle = scene.add(resource, np.eye(4))
            try:
                return handle, self.world.add_model(handle, tree, parent).first
            except BaseException:
                scene.remove(handle)
                raise
        except BaseException:
            engine.release(resource)
            raise

    async def _place_asset(self, asset: Asset, resource: AssetResource, parent: int) -> LoadedModel:
        tree = await asyncio.to_thread(asset_tree, asset)
        handle, root = await self._frames.run(lambda engine: self._add(engine, resource, tree, parent))
        index = asset.index
        return LoadedModel(
            resource=resource,
            handle=handle,
            root_entity=root,
            entity_count=len(tree.parent),
            scene_graph_mode=index.scene_graph_mode,
            model_name=index.name,
            bounds_min=index.bounds_min,
            bounds_max=index.bounds_max,
            part_count=len(asset.instances),
            triangle_count=resource.triangle_count,
            vertex_count=int(asset.parts["vertices"].sum(dtype=np.int64)),
            material_count=len(index.materials),
            texture_count=len(index.textures),
            warnings=tuple(index.warnings),
            asset=asset,
        )

    async def _read(self, uri: str, assignment: Assign, progress: Progress, flat: Path) -> Model | PreparedAsset:
        """Fetch and read a model; one that can be converted is at ``flat`` afterwards."""
        from farframe.storage.fetch import fetch_model
        from farframe.storage.ranges import WebSource

        if names_asset(uri):
            # Only what a view needs is fetched of it, so it is not downloaded first.
            return await self._prepare(lambda: WebSource(uri, self._config.fetch), progress)
        if uri.startswith(BUILTIN_SCHEME):
            name = uri.removeprefix(BUILTIN_SCHEME)
            if name not in BUILTIN_MODELS:
                raise FarframeError(
                    Result.FILE_NOT_FOUND,
                    f"There is no built-in model {name[:80]!r}.",
                    next_step=f"Built in: {', '.join(BUILTIN_SCHEME + known for known in BUILTIN_MODELS)}.",
                )
            return await self._loader.load(name, limits=self._config.load, progress=progress)
        workspace = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="farframe-model-"))
        try:
            path = await fetch_model(
                uri,
                policy=self._config.fetch,
                uploads_folder=Path(assignment.uploads_folder) if assignment.uploads_folder else None,
                workspace=workspace,
                progress=progress,
                ca_file=Path(self._config.fetch.ca_file) if self._config.fetch.ca_file else None,
            )
            if await asyncio.to_thread(is_asset, path):
                return await self._prepare(lambda: FileSource(path), progress)
            return await self._loader.load(path, limits=self._config.load, progress=progress, keep_as=flat)
        finally:
            # A file that is mapped stays readable after this.
            await asyncio.to_thread(shutil.rmtree, workspace, ignore_errors=True)

    async def _prepare(self, connect: Callable[[], ByteSource], progress: Progress) -> PreparedAsset:
        """Open and check an asset, and read what its first picture needs."""
        from farframe.asset.container import Asset
        from farframe.render import prepare_asset

        def work() -> PreparedAsset:
            source = connect()
            try:
                return prepare_asset(Asset.open(source, self._config.load))
            except BaseException:
                source.close()
                raise

        progress("reading", 0.0)
        prepared = await asyncio.to_thread(work)
        progress("reading", 1.0)
        return prepared

    async def remove(self, models: Iterable[LoadedModel]) -> None:
        """Take models out of the scene and free what they held; their conversion in the background ends first."""
        gone = list(models)
        if not gone:
            return
        removal = asyncio.create_task(self._remove(gone))
        try:
            await asyncio.shield(removal)
        except asyncio.CancelledError:
            await asyncio.wait([removal])
            raise

    async def _remove(self, gone: list[LoadedModel]) -> None:
        refinements = [model.refinement for model in gone if model.refinement is not None]
        for refinement in refinements:
            refinement.cancel()
        if refinements:
            await asyncio.wait(refinements)

        def work(engine: Engine) -> None:
            for model in gone:
                self._frames.scene.remove(model.handle)
                self.world.remove_model(model.handle)
                engine.release(model.resource)

        await self._frames.run(work)
        for model in gone:
            if model.asset is not None:
                await asyncio.to_thread(model.asset.close)
            if model.workspace is not None:
                # One that was cancelled before it began has not done so itself.
                await asyncio.to_thread(shutil.rmtree, model.workspace, ignore_errors=True)

    async def apply(self, settings: SceneSettings) -> None:
        """Make the renderer's light and picture follow the scene's settings."""

        def work(engine: Engine) -> None:
            scene = self._frames.scene
            x, y, z = settings.light_direction
            scene.light_direction = (-x, -y, -z)  # the renderer wants the way to the light
            scene.light_color = settings.light_color
            scene.light_intensity = settings.light_intensity
            scene.environment_intensity = settings.environment_intensity
            scene.environment_rotation = settings.environment_rotation
            scene.exposure = settings.exposure
            scene.background = settings.background

        await self._frames.run(work)

    async def reset(self) -> None:
        """Put the renderer's scene back to empty with standard settings."""

        def work(engine: Engine) -> None:
            self.world.clear()
            self._frames.scene.clear()

        await self._frames.run(work)
        await self.textures.settle()
        await self.apply(SceneSettings())
