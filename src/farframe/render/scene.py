"""What is drawn: models with their placement, light, exposure and background. Pure data; the engine keeps the rest.

Every change makes ``version`` grow, so that a frame loop can tell that nothing has changed and draw nothing. Changes of
single part instances are also kept in a journal, so that whoever has them on a device writes only those anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from farframe.scene.effects import Effects, PlacedCutPlane
from farframe.scene.lights import PlacedLight
from farframe.scene.materials import OWN_MAP, MaterialState
from farframe.scene.states import State

if TYPE_CHECKING:
    from farframe.render.environment import Environment
    from farframe.render.lights import LightImage
    from farframe.render.placement import Resource
    from farframe.render.textures import TextureResource

Color = tuple[float, float, float]

JOURNAL_ENTRIES = 512
"""Changes of instances that are kept. Who has missed more starts anew."""
MATERIAL_JOURNAL_ENTRIES = 8192
"""The same of materials and textures."""


@dataclass(slots=True, eq=False)
class Placed:
    """A model in the scene and how each of its i part instances is drawn. Read only; see :class:`RenderScene`.

    ``matrix`` (4, 4) model to world, as it was given; ``world`` (i, 3, 4) part space to world, float64; ``visible``
    (i,); ``tint`` (i, 4) float32, display-referred linear RGB and how much of it is seen; ``states`` (i,) uint32, what
    else the instance is, see :class:`~farframe.scene.states.State`; ``mask`` (i,) uint32, which cut planes cut it;
    ``material`` (i,) uint32, id of the scene's material that it is drawn with, 0 for the model's own. ``own``: edited
    materials of the model itself, by their index in it.
    """

    resource: Resource
    matrix: NDArray[np.float64]
    world: NDArray[np.float64]
    visible: NDArray[np.bool_]
    tint: NDArray[np.float32]
    states: NDArray[np.uint32]
    mask: NDArray[np.uint32]
    material: NDArray[np.uint32]
    own: dict[int, MaterialState] = field(default_factory=dict)

    @classmethod
    def of(cls, resource: Resource, matrix: NDArray[np.float64]) -> Placed:
        """All instances of ``resource`` as they are in it, visible and plain."""
        count = len(resource.instance_part)
        # Files may hold matrices that overflow; such instances become invisible, not a warning.
        with np.errstate(all="ignore"):
            world = matrix[:3] @ resource.instance_matrix
        return cls(
            resource,
            matrix,
            world,
            np.ones(count, np.bool_),
            np.zeros((count, 4), np.float32),
            np.zeros(count, np.uint32),
            np.full(count, 0xFF, np.uint32),
            np.zeros(count, np.uint32),
        )


@dataclass(frozen=True, slots=True)
class InstanceChange:
    """Instances ``rows`` of the model ``handle`` are drawn differently; ``moved``: their ``world`` changed as well;
    ``dressed``: their material or their states did."""

    handle: int
    rows: NDArray[np.int64]
    moved: bool
    dressed: bool = False


@dataclass(frozen=True, slots=True)
class MaterialChange:
    """A material is another now: that of the scene with this ``id``, or the material ``index`` of the model
    ``handle``; or the texture ``texture`` is, and so all materials that name it."""

    id: int = 0
    handle: int = 0
    index: int = 0
    texture: int = 0


class Clockwork(Protocol):
    """Something in the scene that moves by itself; see :meth:`RenderScene.add_clockwork`."""

    @property
    def moving(self) -> bool:
        """Whether it will have moved by the next frame."""
        ...

    def advance(self, seconds: float) -> None:
        """Bring it to a time, seconds of the clock of :attr:`RenderScene.time`, which only grows."""
        ...


class RenderScene:
    """Models added with a world matrix, and how they are lit. Colours are linear RGB.

    ``light_direction`` points from the scene towards the light (it need not be unit), ``light_intensity`` is the
    irradiance of a surface that faces it, ``environment_rotation`` turns the environment about +Y in radians,
    ``exposure`` multiplies all radiance, ``background`` is a display-referred colour or None for the studio backdrop.
    """

    def __init__(self) -> None:
        self.version = 0
        self.placement_version = 0
        self._next = 1
        self._entries: dict[int, Placed] = {}
        self._journal: deque[InstanceChange] = deque(maxlen=JOURNAL_ENTRIES)
        self._journal_end = 0
        self._materials: dict[int, MaterialState] = {}
        self._textures: dict[int, TextureResource] = {}
        self._shared: dict[int, tuple[int, int]] = {}
        self._sharing: dict[tuple[int, int], int] = {}
        self._material_journal: deque[MaterialChange] = deque(maxlen=MATERIAL_JOURNAL_ENTRIES)
        self._material_journal_end = 0
        self._light_direction: Color = (0.45, 0.85, 0.55)
        self._light_color: Color = (1.0, 0.985, 0.96)
        self._light_intensity = 1.2
        self._environment_intensity = 1.0
        self._environment_rotation = 0.0
        self._exposure = 1.0
        self._background: Color | None = None
        self._primitive_limit: int | None = None
        self._point_size = 1.0
        self._effects = Effects()
        self._lights: tuple[PlacedLight, ...] = ()
        self._light_images: dict[int, LightImage] = {}
        self._environment: Environment | None = None
        self._cut_planes: tuple[PlacedCutPlane, ...] = ()
        self._time = 0.0
        self._clockworks: list[Clockwork] = []

    def _changed(self, *, placement: bool = False) -> None:
        self.version += 1
        if placement:
            self.placement_version += 1

    # Time -------------------------------------------------------------------------------------------------------

    @property
    def time(self) -> float:
        """Seconds, of a clock that only grows: of what moves by itself, the next frame shows this moment."""
        return self._time

    @property
    def moving(self) -> bool:
        """Whether the picture changes with time although nobody changes the scene: a frame is due at every turn."""
        return any(work.moving for work in self._clockworks) or self._pulsing or self._highlighting

    def add_clockwork(self, work: Clockwork) -> None:
        """Have something moved with time; it changes the scene by the usual ways."""
        self._clockworks.append(work)

    def advance(self, seconds: float) -> None:
        """Bring all that moves by itself to a time, right before a frame is drawn. What rests costs nothing."""
        if not self.moving:
            self._time = max(self._time, seconds)
            return
        self._time = max(self._time, seconds)
        for work in self._clockworks:
            if work.moving:
                work.advance(self._time)
        self._changed()

    @property
    def _pulsing(self) -> bool:
        """Whether an outline that pulses is drawn."""
        outline = self._effects.outline
        if outline.pulse_rate_hz <= 0.0 or outline.pulse_intensity <= 0.0:
            return False
        return self.has(State.SELECTED)

    def has(self, state: State) -> bool:
        """Whether any instance has a state."""
        bit = np.uint32(int(state))
        return any(bool((placed.states & bit).any()) for placed in self._entries.values())

    @property
    def _highlighting(self) -> bool:
        """Whether a checkerboard moves over surfaces that lie in the same place."""
        settings = self._effects.z_fighting
        return settings.enabled and settings.highlighting

    # Models -----------------------------------------------------------------------------------------------------

    @property
    def entries(self) -> dict[int, Placed]:
        """The models by handle. Read only."""
        return self._entries

    @property
    def journal_end(self) -> int:
        """How many changes of instances there have been; where :meth:`changes_since` goes on later."""
        return self._journal_end

    def changes_since(self, position: int) -> Iterator[InstanceChange] | None:
        """The changes of instances since the journal was at ``position``; ``None`` when some are kept no more."""
        missed = self._journal_end - position
        if missed > len(self._journal):
            return None
        return (self._journal[index] for index in range(len(self._journal) - missed, len(self._journal)))

    def add(self, resource: Resource, matrix: ArrayLike) -> int:
        """Place a model; ``matrix`` is (4, 4), column vectors. Returns the handle that removes it."""
        handle = self._next
        self._next += 1
        self._entries[handle] = Placed.of(resource, _matrix(matrix))
        self._changed(placement=True)
        return handle

    def move(self, handle: int, matrix: ArrayLike) -> None:
        """Give a placed model another world matrix, and its instances their places in it. ``KeyError`` for a handle
        that is not placed."""
        placed = self._entries[handle]
        placed.matrix = _matrix(matrix)
        self.update_instances(
            handle,
            np.arange(len(placed.world)),
            world=Placed.of(placed.resource, placed.matrix).world,
        )

    def update_instances(
        self,
        handle: int,
        rows: NDArray[np.int64],
        *,
        world: NDArray[np.float64] | None = None,
        visible: NDArray[np.bool_] | None = None,
        tint: NDArray[np.float32] | None = None,
        states: NDArray[np.unsignedinteger[Any]] | None = None,
        mask: NDArray[np.unsignedinteger[Any]] | None = None,
        material: NDArray[np.unsignedinteger[Any]] | None = None,
    ) -> None:
        """Draw the instances ``rows`` (n,) of a model differently, each array with n rows as in :class:`Placed`.

        The cost does not depend on how many others there are. ``KeyError`` for a handle that is not placed.
        """
        placed = self._entries[handle]
        if not len(rows):
            return
        if world is not None:
            placed.world[rows] = world
        if visible is not None:
            placed.visible[rows] = visible
        if tint is not None:
            placed.tint[rows] = tint
        if states is not None:
            placed.states[rows] = states
        if mask is not None:
            placed.mask[rows] = mask
        if material is not None:
            placed.material[rows] = material
        dressed = material is not None or states is not None
        self._journal.append(InstanceChange(handle, rows, world is not None, dressed))
        self._journal_end += 1
        self._changed()

    @property
    def materials(self) -> dict[int, MaterialState]:
        """Materials that instances may be drawn with, by id. Read only."""
        return self._materials

    @property
    def textures(self) -> dict[int, TextureResource]:
        """Textures that materials may name, by id. Read only."""
        return self._textures

    def set_material(self, material: int, state: MaterialState | None) -> None:
        """Make, edit or, with ``None``, remove a material. Instances whose material does not exist are drawn with the
        model's own. ``ValueError`` for the id 0, which stands for that."""
        if material == 0:
            raise ValueError("0 is no material's id: it stands for the model's own")
        if state is None:
            self._materials.pop(material, None)
            self._unshare(material)
        else:
            self._materials[material] = state
        self._material_changed(MaterialChange(id=material))

    @property
    def shared(self) -> dict[int, tuple[int, int]]:
        """Materials of placed models that other instances may be drawn with, by id: whose, and which. Read only."""
        return self._shared

    def share_material(self, material: int, handle: int, index: int) -> None:
        """Let instances of any model be drawn with the material ``index`` of a placed one, as that is now and will be,
        under the id ``material``, for as long as the model is placed or until :meth:`set_material` removes it.

        ``ValueError`` for the id 0, ``KeyError`` for a handle that is not placed, ``IndexError`` for a material that
        the model has not.
        """
        if material == 0:
            raise ValueError("0 is no material's id: it stands for the model's own")
        placed = self._entries[handle]
        if not 0 <= index < len(placed.resource.materials):
            raise IndexError(f"the model has {len(placed.resource.materials)} materials, and none with index {index}")
        if self._shared.get(material) != (handle, index):
            self._shared[material] = (handle, index)
            self._sharing[handle, index] = material
            self._material_changed(MaterialChange(id=material))

    def _unshare(self, material: int) -> None:
        self._sharing.pop(self._shared.pop(material, (0, 0)), None)

    def set_own_material(self, handle: int, index: int, state: MaterialState | None) -> None:
        """Draw all instances of a placed model that have its material ``index`` as ``state`` says; ``None``: as in
        its file. A map's id may be :data:`~farframe.scene.materials.OWN_MAP`. ``KeyError`` for a handle that is not
        placed, ``IndexError`` for a material that the model has not."""
        placed = self._entries[handle]
        if not 0 <= index < len(placed.resource.materials):
            raise IndexError(f"the model has {len(placed.resource.materials)} materials, and none with index {index}")
        if state is None:
            placed.own.pop(index, None)
        else:
            placed.own[index] = state
        self._material_changed(MaterialChange(handle=handle, index=index))
        shared = self._sharing.get((handle, index))
        if shared is not None:
            self._material_changed(MaterialChange(id=shared))

    def set_texture(self, texture: int, resource: TextureResource | None) -> None:
        """Give materials a texture to name, or take it away: a map that does not exist is as none. ``ValueError`` for
        the ids 0 and OWN_MAP, which have meanings of their own."""
        if texture in (0, OWN_MAP):
            raise ValueError(f"{texture} is no texture's id")
        if resource is None:
            self._textures.pop(texture, None)
        else:
            self._textures[texture] = resource
        self._material_changed(MaterialChange(texture=texture))

    def _material_changed(self, change: MaterialChange) -> None:
        self._material_journal.append(change)
        self._material_journal_end += 1
        self._changed()

    @property
    def material_journal_end(self) -> int:
        """How many changes of materials and textures there have been."""
        return self._material_journal_end

    def material_changes_since(self, position: int) -> list[MaterialChange] | None:
        """The changes since the journal was at ``position``; ``None`` when some are kept no more."""
        missed = self._material_journal_end - position
        if missed > len(self._material_journal):
            return None
        return list(self._material_journal)[len(self._material_journal) - missed :]

    def replace(self, handle: int, resource: Resource) -> None:
        """Draw another resource in a model's place, its instances as they are in it. ``KeyError`` for a handle that is
        not placed."""
        self._entries[handle] = Placed.of(resource, self._entries[handle].matrix)
        self._changed(placement=True)

    def remove(self, handle: int) -> None:
        """Take a model out. ``KeyError`` for a handle that is not placed."""
        del self._entries[handle]
        for material in [material for material, (whose, _) in self._shared.items() if whose == handle]:
            self._unshare(material)
        self._changed(placement=True)

    def clear(self) -> None:
        """Take all models out; light and background stay."""
        self._entries.clear()
        self._shared.clear()
        self._sharing.clear()
        self._changed(placement=True)

    @property
    def light_direction(self) -> Color:
        """Towards the light."""
        return self._light_direction

    @light_direction.setter
    def light_direction(self, value: Color) -> None:
        if not np.linalg.norm(value) > 0.0:
            raise ValueError("the light's direction must not be zero")
        self._light_direction = value
        self._changed()

    @property
    def light_color(self) -> Color:
        """Linear RGB."""
        return self._light_color

    @light_color.setter
    def light_color(self, value: Color) -> None:
        self._light_color = value
        self._changed()

    @property
    def light_intensity(self) -> float:
        """Irradiance of a surface that faces the light; pi makes a white one white."""
        return self._light_intensity

    @light_intensity.setter
    def light_intensity(self, value: float) -> None:
        self._light_intensity = value
        self._changed()

    @property
    def environment_intensity(self) -> float:
        """Factor on the image-based light."""
        return self._environment_intensity

    @environment_intensity.setter
    def environment_intensity(self, value: float) -> None:
        self._environment_intensity = value
        self._changed()

    @property
    def environment_rotation(self) -> float:
        """Radians about +Y, counter-clockwise from above."""
        return self._environment_rotation

    @environment_rotation.setter
    def environment_rotation(self, value: float) -> None:
        self._environment_rotation = value
        self._changed()

    @property
    def exposure(self) -> float:
        """Factor on all radiance before tone mapping."""
        return self._exposure

    @exposure.setter
    def exposure(self, value: float) -> None:
        self._exposure = value
        self._changed()

    @property
    def point_size(self) -> float:
        """Factor on the size of points of point clouds; 1 just closes the gaps between them."""
        return self._point_size

    @point_size.setter
    def point_size(self, value: float) -> None:
        if not 0.0 <= value < float("inf"):
            raise ValueError("the size of points must be a finite number that is not negative")
        self._point_size = value
        self._changed()

    @property
    def background(self) -> Color | None:
        """Display-referred linear RGB, or None for the studio backdrop."""
        return self._background

    @background.setter
    def background(self, value: Color | None) -> None:
        self._background = value
        self._changed()

    @property
    def effects(self) -> Effects:
        """Settings of the whole picture. ``point_size`` of them is not looked at: see :attr:`point_size`."""
        return self._effects

    @effects.setter
    def effects(self, value: Effects) -> None:
        if value != self._effects:
            self._effects = value
            self._changed()

    @property
    def lights(self) -> tuple[PlacedLight, ...]:
        """Those that shine, beside the directional light of the scene itself."""
        return self._lights

    @lights.setter
    def lights(self, value: tuple[PlacedLight, ...]) -> None:
        if value != self._lights:
            self._lights = value
            self._changed()

    @property
    def light_images(self) -> dict[int, LightImage]:
        """What lights project, by the id that they name; others shine without an image. Set it as a whole."""
        return self._light_images

    @light_images.setter
    def light_images(self, value: dict[int, LightImage]) -> None:
        self._light_images = dict(value)
        self._changed()

    @property
    def environment(self) -> Environment | None:
        """What lights the scene from all sides, see ``sky``; ``None``: the studio."""
        return self._environment

    @environment.setter
    def environment(self, value: Environment | None) -> None:
        if value is not self._environment:
            self._environment = value
            self._changed()

    @property
    def cut_planes(self) -> tuple[PlacedCutPlane, ...]:
        """Those that cut, at most :data:`~farframe.scene.effects.MAX_CUT_PLANES`."""
        return self._cut_planes

    @cut_planes.setter
    def cut_planes(self, value: tuple[PlacedCutPlane, ...]) -> None:
        if value != self._cut_planes:
            self._cut_planes = value
            self._changed()

    @property
    def primitive_limit(self) -> int | None:
        """Triangles and points that a picture may draw; assets are drawn more coarsely to keep it. None: no limit."""
        return self._primitive_limit

    @primitive_limit.setter
    def primitive_limit(self, value: int | None) -> None:
        if value is not None and value < 1:
            raise ValueError("a limit of primitives is positive")
        if value != self._primitive_limit:
            self._primitive_limit = value
            self._changed()


def _matrix(matrix: ArrayLike) -> NDArray[np.float64]:
    result = np.array(matrix, dtype=np.float64)
    if result.shape != (4, 4) or not np.isfinite(result).all():
        raise ValueError("a placement is a finite (4, 4) matrix")
    return result
