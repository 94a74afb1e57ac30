"""The scene that a device commands: its models and settings, and the methods that change or describe it.

It belongs to the device's place in the session, not to one connection: a device that comes back finds it as it was.
``clear`` is called when the device has gone for good. Everything here runs in the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import msgspec
import structlog

from farframe.protocol import appearance, messages
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.messages import Incoming, Message
from farframe.protocol.scene import TRANSFORMS_TYPE
from farframe.scene.scene import Scene
from farframe.server.look_requests import LookRequests
from farframe.server.requests import Handler
from farframe.server.scene_looks import texture_info
from farframe.server.scene_requests import SceneRequests

if TYPE_CHECKING:
    from farframe.protocol.link import Assign
    from farframe.server.models import LoadedModel, ModelStore

log = structlog.get_logger("farframe.scene")

MAX_DESCRIPTION_BYTES = 96 * 1024
"""Of models in one answer; what a device takes in one message may be little more."""

Notify = Callable[[str, Message], None]
"""Tells the connected device something: a method and its parameters."""


def _nobody(method: str, params: Message) -> None:
    """Nobody is connected."""


class SceneCommands:
    """A place's scene. ``notify`` is set by the connection that the place has at the moment."""

    def __init__(self, assignment: Assign, models: ModelStore) -> None:
        self.scene = Scene()
        self.notify: Notify = _nobody
        self._assignment = assignment
        self._models = models
        self._loaded: dict[int, LoadedModel] = {}
        self._entities = SceneRequests(models, self._forget)
        self._looks = LookRequests(self._entities)

    @property
    def methods(self) -> Mapping[str, Handler]:
        """What the device that drives may ask."""
        return {
            "scene.loadModel": self._load_model,
            "scene.unloadModel": self._unload_model,
            "scene.clear": self._clear_scene,
            "scene.configure": self._configure_scene,
            "scene.loadTexture": self._load_texture,
            **self._entities.methods,
            **self.reading_methods,
        }

    @property
    def reading_methods(self) -> Mapping[str, Handler]:
        """What those may ask, too, who only watch: nothing here changes anything."""
        return {"scene.describe": self._describe, **self._entities.reading_methods, **self._looks.reading_methods}

    @property
    def model_count(self) -> int:
        """How many models stand in the scene."""
        return len(self._loaded)

    def describe(self, after_model_id: int = 0) -> messages.SceneDescription:
        """The settings, and the models whose ids follow ``after_model_id``, as many as fit into a message."""
        models: list[messages.LoadModelResult] = []
        room = MAX_DESCRIPTION_BYTES
        more = False
        for model_id, loaded in self._loaded.items():
            if model_id <= after_model_id:
                continue
            entry = loaded.to_result(model_id, self.scene.models[model_id].uri)
            room -= len(msgspec.json.encode(entry))
            if room < 0 and models:
                more = True
                break
            models.append(entry)
        settings = messages.SceneResult(**asdict(self.scene.settings))
        return messages.SceneDescription(models=models, settings=settings, more=more)

    def on_record(self, data: bytes) -> None:
        """A record on the pose channel that is not a pose. Raises :class:`FarframeError` for one that is not known."""
        if data[:1] != bytes([TRANSFORMS_TYPE]):
            raise FarframeError(Result.PROTOCOL_ERROR, f"A record of the unknown type {data[0] if data else 'none'}.")
        self._entities.on_record(data)

    def disconnect(self) -> None:
        """The connection is gone; whether the device comes back is not known yet."""
        self.notify = _nobody
        self._entities.disconnect()

    async def clear(self) -> None:
        """The device has gone for good: free everything and put the renderer's scene back to empty."""
        self.notify = _nobody
        await self._entities.settle()
        self.scene.clear()
        loaded, self._loaded = list(self._loaded.values()), {}
        await self._models.remove(loaded)
        await self._models.reset()
        await self._entities.forget_geometry()

    # Methods ----------------------------------------------------------------------------------------------------

    async def _load_model(self, message: Incoming) -> Message:
        params = messages.convert_params(message.params, messages.LoadModelParams)
        progress = self._progress(params.progress_token)
        loaded = await self._models.load(params.uri, self._assignment, progress, params.parent)
        try:
            entry = self.scene.add_model(loaded.model_name, params.uri)
        except OverflowError as error:
            await self._models.remove([loaded])
            raise FarframeError(Result.EXCEEDS_MEMORY_LIMIT, str(error), next_step="Unload a model first.") from None
        self._loaded[entry.model_id] = loaded
        log.info("model.loaded", model=entry.model_id, parts=loaded.part_count, triangles=loaded.triangle_count)
        return loaded.to_result(entry.model_id, params.uri)

    def _progress(self, token: str) -> Callable[[str, float], None]:
        """Tells the device how far a load is."""

        def progress(stage: str, fraction: float) -> None:
            if token:
                fraction = min(max(fraction, 0.0), 1.0)
                note = messages.LoadProgressParams(progress_token=token, stage=stage, fraction=fraction)
                self.notify("scene.loadProgress", note)

        return progress

    async def _load_texture(self, message: Incoming) -> Message:
        params = messages.convert_params(message.params, appearance.LoadTextureParams)
        texture = await self._models.textures.load(
            params.uri, self._assignment, self._progress(params.progress_token), cube=params.kind == "cube"
        )
        log.info("texture.loaded", texture=texture.id, bytes=texture.size_bytes)
        return texture_info(texture)

    async def _unload_model(self, message: Incoming) -> None:
        params = messages.convert_params(message.params, messages.UnloadModelParams)
        try:
            self.scene.remove_model(params.model_id)
        except KeyError:
            raise FarframeError(Result.INVALID_ID, f"No model has the id {params.model_id}.") from None
        await self._models.remove([self._loaded.pop(params.model_id)])

    async def _forget(self, handles: list[int]) -> None:
        """Free the models whose roots were destroyed."""
        gone = {model_id: loaded for model_id, loaded in self._loaded.items() if loaded.handle in handles}
        for model_id in gone:
            self.scene.remove_model(model_id)
            del self._loaded[model_id]
        await self._models.remove(gone.values())

    async def _clear_scene(self, message: Incoming) -> None:
        self.scene.clear()
        loaded, self._loaded = list(self._loaded.values()), {}
        # First of all, so that what the device says next finds an empty scene and stays.
        await self._entities.run(lambda world: world.clear())
        await self._models.remove(loaded)
        await self._models.apply(self.scene.settings)

    async def _configure_scene(self, message: Incoming) -> Message:
        params = messages.convert_params(message.params, messages.SceneParams)
        changes = {name: value for name in params.__struct_fields__ if (value := getattr(params, name)) is not None}
        try:
            settings = self.scene.configure(**changes)
        except ValueError as error:
            raise FarframeError(Result.INVALID_PARAM, str(error)) from None
        await self._models.apply(settings)
        return messages.SceneResult(**asdict(settings))

    async def _describe(self, message: Incoming) -> Message:
        return self.describe(messages.convert_params(message.params, messages.DescribeParams).after_model_id)
