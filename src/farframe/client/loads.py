"""Models as a connection knows them, and loads while they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from farframe.protocol.messages import Bounds, LoadModelResult, SceneGraphMode


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far a load is. ``stage`` is ``send`` (a local file is on its way to the service), ``download``, ``read``,
    ``simplify`` or ``upload`` (to the graphics device); ``fraction`` of the whole, 0 to 1, never falls."""

    stage: str
    fraction: float


LoadCallback = Callable[[LoadProgress], None]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in the connection's scene. ``bounds``: what its file holds, metres, in the space of its root entity;
    :meth:`Entity.bounds` tells where all of it stands by now. ``warnings`` name what was left out; its entities are
    ``entity_count`` with ids from ``root_entity`` on, see :meth:`Scene.load_model`."""

    model_id: int
    name: str
    uri: str
    bounds: Bounds
    part_count: int
    triangle_count: int
    vertex_count: int
    material_count: int
    texture_count: int
    warnings: tuple[str, ...] = ()
    root_entity: int = 0
    entity_count: int = 0
    scene_graph_mode: SceneGraphMode = "dynamic"


def model_of(result: LoadModelResult) -> LoadedModel:
    """A model as the server tells of it."""
    return LoadedModel(
        model_id=result.model_id,
        name=result.name,
        uri=result.uri,
        bounds=result.bounds,
        part_count=result.part_count,
        triangle_count=result.triangle_count,
        vertex_count=result.vertex_count,
        material_count=result.material_count,
        texture_count=result.texture_count,
        warnings=tuple(result.warnings),
        root_entity=result.root_entity,
        entity_count=result.entity_count,
        scene_graph_mode=result.scene_graph_mode,
    )


@dataclass(slots=True)
class Load:
    """A running load: its callback and how much of the whole came before."""

    callback: LoadCallback
    before: float
    reached: float = 0.0

    def report(self, stage: str, fraction: float) -> None:
        """Tell how far a step of it is; what has been reached is never taken back."""
        whole = self.before + (1.0 - self.before) * min(max(fraction, 0.0), 1.0)
        self.reached = max(self.reached, whole)
        self.callback(LoadProgress(stage, self.reached))
