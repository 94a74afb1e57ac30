"""The scene of one connection: which models stand in it, and the settings that apply to all of it.

The scene is what the device commands; the renderer is made to follow it. It lives in the event loop and dies with
the connection, so that the next device always finds an empty one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace

Vector3 = tuple[float, float, float]

MAX_MODELS = 4096
"""Models in one scene. A guard against a device that loads in a loop, not a limit that people should meet."""


@dataclass(frozen=True, slots=True)
class SceneSettings:
    """Light and picture. Colours are linear RGB, angles radians; ``background`` ``None`` is the built-in backdrop.

    ``light_direction`` is where the directional light shines to; it need not be normalised but has a length.
    """

    light_direction: Vector3 = (-0.45, -0.85, -0.55)
    light_color: Vector3 = (1.0, 0.985, 0.96)
    light_intensity: float = 1.2
    environment_intensity: float = 1.0
    environment_rotation: float = 0.0
    exposure: float = 1.0
    background: Vector3 | None = None

    def problem(self) -> str | None:
        """What is wrong with these settings, as a sentence, or ``None``."""
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None:
                continue
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(math.isfinite(number) for number in numbers):
                return f"{item.name} holds a number that is not finite."
            if item.name not in ("light_direction", "environment_rotation") and min(numbers) < 0:
                return f"{item.name} must not be negative."
            if max(map(abs, numbers)) > 1e6:
                return f"{item.name} is larger than 1,000,000."
        if math.hypot(*self.light_direction) < 1e-6:
            return "light_direction has no length."
        return None


@dataclass(frozen=True, slots=True)
class SceneModel:
    """A model that stands in the scene. ``model_id`` is never used twice in one connection."""

    model_id: int
    name: str
    uri: str


@dataclass(slots=True)
class Scene:
    """Models and settings. ``version`` grows with every change that can be seen."""

    settings: SceneSettings = field(default_factory=SceneSettings)
    models: dict[int, SceneModel] = field(default_factory=dict)
    version: int = 0
    _last_id: int = 0

    def add_model(self, name: str, uri: str) -> SceneModel:
        """Put a model into the scene. Raises ``OverflowError`` beyond :data:`MAX_MODELS`."""
        if len(self.models) >= MAX_MODELS:
            raise OverflowError(f"A scene holds at most {MAX_MODELS} models.")
        self._last_id += 1
        model = SceneModel(self._last_id, name, uri)
        self.models[model.model_id] = model
        self.version += 1
        return model

    def remove_model(self, model_id: int) -> SceneModel:
        """Take a model out. Raises ``KeyError`` for an id that is not in the scene."""
        model = self.models.pop(model_id)
        self.version += 1
        return model

    def clear(self) -> list[SceneModel]:
        """Take all models out, put the settings back; returns the models."""
        removed = list(self.models.values())
        self.models.clear()
        self.settings = SceneSettings()
        self.version += 1
        return removed

    def configure(self, **changes: object) -> SceneSettings:
        """Change settings by name. Raises ``ValueError`` with a sentence; then nothing is changed."""
        settings = replace(self.settings, **changes)  # type: ignore[arg-type]
        problem = settings.problem()
        if problem is not None:
            raise ValueError(problem)
        if settings != self.settings:
            self.settings = settings
            self.version += 1
        return settings
