"""Textures of a place's scene: from a URI to something that materials, lights and skies name. And back out again.

    fetch (storage) -> read in the sandbox (asset) -> upload, a few milliseconds at a time (render) -> an id (scene)

Which textures there are and who uses them is kept by the scene (:class:`farframe.scene.resources.Textures`, in the
render thread); here are their files and what is on the device. Whenever the scene says that something has changed,
:meth:`TextureStore.wake` frees what nobody needs any more, and makes ready skies and what lights project. Files stay
open for as long as their textures live, off the memory, in case pixels of them are wanted.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from farframe.asset.flat_texture import read_flat_texture
from farframe.protocol.errors import FarframeError, Result
from farframe.scene.effects import SkySettings
from farframe.scene.resources import Texture
from farframe.storage.fetch import fetch_file

if TYPE_CHECKING:
    from farframe.asset.loading import ModelLoader
    from farframe.asset.textures_file import TextureData
    from farframe.protocol.link import Assign, ServerConfig
    from farframe.render import Engine, TextureResource
    from farframe.server.frame_loop import FrameLoop
    from farframe.server.scene_world import SceneWorld

log = structlog.get_logger("farframe.textures")

Progress = Callable[[str, float], None]
T = TypeVar("T")

MAX_CONCURRENT_LOADS = 2
"""One is fetched while another is read."""
LIGHT_PIXELS = 512
"""Along an edge of what lights project, at least, if the texture has as many."""
SKY_PIXELS = 512
"""The same of skies: their height, or the edge of a face."""
STAGES = {"downloading": ("download", 0.0, 0.5), "reading": ("read", 0.5, 0.8), "uploading": ("upload", 0.8, 1.0)}
"""The steps of a load: their name in the protocol, and which share of the whole each takes."""


class TextureStore:
    """Loads textures, and keeps what is on the device in step with the scene. Event loop only, but for :meth:`wake`."""

    def __init__(self, config: ServerConfig, frames: FrameLoop, loader: ModelLoader, world: SceneWorld) -> None:
        self._config = config
        self._frames = frames
        self._loader = loader
        self._world = world
        self._loads = asyncio.Semaphore(MAX_CONCURRENT_LOADS)
        self._turns: dict[tuple[str, bool], tuple[asyncio.Lock, int]] = {}
        self._files: dict[int, BinaryIO] = {}
        self._resources: dict[int, TextureResource] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        with contextlib.suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        self._following: asyncio.Task[None] | None = None
        self._again = False
        self._sky = SkySettings()
        world.looks.on_change = self.wake
        world.looks.skies = known_skies()

    async def load(self, uri: str, assignment: Assign, progress: Progress, *, cube: bool) -> Texture:
        """The texture of a URI, loaded unless it is there already; the device wants it from now on.

        Raises :class:`FarframeError`. Cancelling it leaves nothing behind.
        """
        self._loop = asyncio.get_running_loop()
        key = (uri, cube)
        lock, waiting = self._turns.get(key, (asyncio.Lock(), 0))
        self._turns[key] = (lock, waiting + 1)
        try:
            async with lock:
                found = await self._run(lambda engine: self._world.looks.textures.want(uri, cube=cube))
                if found is None:
                    async with self._loads:
                        found = await self._load(uri, assignment, progress, cube)
                return found
        finally:
            lock, waiting = self._turns[key]
            if waiting == 1:
                del self._turns[key]
            else:
                self._turns[key] = (lock, waiting - 1)

    async def _load(self, uri: str, assignment: Assign, progress: Progress, cube: bool) -> Texture:
        def staged(step: str, fraction: float) -> None:
            stage, low, high = STAGES[step]
            progress(stage, low + (high - low) * min(max(fraction, 0.0), 1.0))

        formats = await self._run(lambda engine: engine.decoded_texture_formats)
        workspace = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="farframe-texture-"))
        try:
            path = await fetch_file(
                uri,
                policy=self._config.fetch,
                uploads_folder=Path(assignment.uploads_folder) if assignment.uploads_folder else None,
                workspace=workspace,
                progress=staged,
                ca_file=Path(self._config.fetch.ca_file) if self._config.fetch.ca_file else None,
            )
            shown = uri.partition("?")[0].rpartition("/")[2][:200] or "The texture"
            file = await self._loader.load_texture(
                path, self._config.load, staged, name=shown, cube=cube, decoded=formats
            )
        finally:
            await asyncio.to_thread(shutil.rmtree, workspace, ignore_errors=True)
        try:
            data = await asyncio.to_thread(read_flat_texture, file)
            if data.cube is not cube:
                raise FarframeError(Result.FILE_CORRUPT, "The texture could not be read.")
            return await self._show(uri, data, file, staged)
        except BaseException:
            file.close()
            raise

    async def _show(self, uri: str, data: TextureData, file: BinaryIO, staged: Progress) -> Texture:
        """Bring a texture onto the device and into the scene."""
        await self._run(lambda engine: self._check_room(engine, data.size_bytes))
        stopped = asyncio.Event()
        upload = asyncio.create_task(self._upload(uri, data, file, staged, stopped))
        try:
            texture = await asyncio.shield(upload)
        except asyncio.CancelledError:
            # What the render thread is doing cannot be broken off; let it come to the next step, and undo it.
            stopped.set()
            await asyncio.wait([upload])
            if upload.exception() is None and (finished := upload.result()) is not None:
                # Nobody knows of it, unless somebody has asked for the same meanwhile.
                await self._run(lambda engine: self._unwant(finished))
            raise
        assert texture is not None
        return texture

    async def _upload(
        self, uri: str, data: TextureData, file: BinaryIO, staged: Progress, stopped: asyncio.Event
    ) -> Texture | None:
        """``None`` when it was stopped."""
        steps = await self._run(lambda engine: engine.upload_texture_steps(data))
        while not stopped.is_set():
            step = await self._run(lambda engine: next(steps))
            if not isinstance(step, float):
                return await self._run(partial(self._add, uri=uri, data=data, file=file, resource=step))
            staged("uploading", step)
        await self._run(lambda engine: steps.close())
        return None

    def _check_room(self, engine: Engine, size_bytes: int) -> None:
        self._world.looks.textures.check_room(size_bytes)
        held, limit = engine.model_bytes, self._config.load.max_scene_bytes
        if held + size_bytes > limit:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"The texture needs {size_bytes:,} bytes, and the scene holds {held:,} of the {limit:,} it may.",
                next_step="Unload models or destroy textures first, or load a smaller one.",
            )

    def _add(self, engine: Engine, uri: str, data: TextureData, file: BinaryIO, resource: TextureResource) -> Texture:
        """Render thread."""
        try:
            texture = self._world.looks.textures.add(
                uri,
                cube=data.cube,
                width=data.width,
                height=data.height,
                levels=len(data.levels),
                size_bytes=data.size_bytes,
            )
        except BaseException:
            engine.release_texture(resource)
            raise
        self._frames.scene.set_texture(texture.id, resource)
        self._resources[texture.id], self._files[texture.id] = resource, file
        return texture

    def _unwant(self, texture: Texture) -> None:
        """Render thread."""
        with contextlib.suppress(FarframeError):
            self._world.looks.textures.unwant(texture.id)
        self._world.looks.collect()

    # Following --------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something that concerns textures has changed. Called in the render thread."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._start)

    def _start(self) -> None:
        self._again = True
        if self._following is None:
            self._following = asyncio.get_running_loop().create_task(self._follow())

    async def settle(self) -> None:
        """Wait until the device is in step."""
        while self._following is not None:
            await asyncio.wait([self._following])

    async def _follow(self) -> None:
        try:
            while self._again:
                self._again = False
                for file in await self._run(self._free):
                    await asyncio.to_thread(file.close)
                await self._project()
                await self._light_all_around()
        except RuntimeError as error:
            log.info("textures.too_late", error=str(error))
        except Exception as error:
            # What could not be made ready is not seen; the next change tries again.
            log.warning("textures.not_ready", error=str(error) or type(error).__name__)
        finally:
            self._following = None

    def _free(self, engine: Engine) -> list[BinaryIO]:
        """Free what nobody needs any more; the files that were theirs. Render thread."""
        looks = self._world.looks
        freed, looks.freed = looks.freed, []
        files: list[BinaryIO] = []
        for texture in freed:
            resource = self._resources.pop(texture.id, None)
            if resource is not None:
                engine.release_texture(resource)
            file = self._files.pop(texture.id, None)
            if file is not None:
                files.append(file)
        return files

    async def _project(self) -> None:
        """Make ready what lights project."""
        from farframe.render.lights import prepare_light_image

        def missing(engine: Engine) -> list[int]:
            wanted = self._world.looks.projected()
            images = self._frames.scene.light_images
            if images.keys() - wanted:
                self._frames.scene.light_images = {key: images[key] for key in images.keys() & wanted}
            return sorted(wanted - images.keys())

        for texture in await self._run(missing):
            pixels = await self._pixels(texture, LIGHT_PIXELS)
            if pixels is None:
                continue
            image = await asyncio.to_thread(prepare_light_image, pixels)

            def show(engine: Engine, texture: int = texture, image: Any = image) -> None:
                if texture in self._world.looks.projected():
                    self._frames.scene.light_images = {**self._frames.scene.light_images, texture: image}

            await self._run(show)

    async def _light_all_around(self) -> None:
        """Make ready the sky that is wanted. Until it is, and where it cannot be, the one before lights the scene."""
        from farframe.render.sky import builtin_environment, prepare_environment

        def wanted(engine: Engine) -> SkySettings:
            return self._frames.scene.effects.sky

        sky = await self._run(wanted)
        if sky == self._sky:
            return
        environment = None  # the studio, with which a scene begins
        if sky.texture:
            pixels = await self._pixels(sky.texture, SKY_PIXELS)
            if pixels is None:
                self._sky = sky
                return
            environment = await asyncio.to_thread(prepare_environment, pixels, sky.kind)
        elif sky.uri != SkySettings().uri:
            environment = await asyncio.to_thread(builtin_environment, sky.uri)

        def show(engine: Engine) -> None:
            # Another one may be wanted meanwhile, which is made next.
            if self._frames.scene.effects.sky == sky:
                self._frames.scene.environment = environment

        await self._run(show)
        self._sky = sky

    async def _pixels(self, texture: int, edge: int) -> NDArray[np.float32] | None:
        """Linear RGBA (h, w, 4), of a cube map (6, h, w, 4), of the smallest level whose shorter edge has ``edge``
        pixels, or the largest; ``None`` where they cannot be had."""
        file = self._files.get(texture)

        def read() -> NDArray[np.float32]:
            assert file is not None
            data = read_flat_texture(file)
            level = 0
            while level + 1 < len(data.levels) and min(data.level_size(level + 1)) >= edge:
                level += 1
            pixels = data.pixels(level)
            return pixels if data.cube else pixels[0]

        try:
            return None if file is None else await asyncio.to_thread(read)
        except (FarframeError, OSError, ValueError) as error:
            log.warning("texture.no_pixels", texture=texture, error=str(error))
            return None

    async def _run(self, job: Callable[[Engine], T]) -> T:
        return await self._frames.run(job)


def known_skies() -> frozenset[str]:
    """The names of the skies that are built in, ``builtin://`` included."""
    from farframe.render.sky import BUILTIN_SKIES

    return frozenset(BUILTIN_SKIES)
