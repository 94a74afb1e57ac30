"""Materials and textures of a scene, and who uses what. Pure data; nothing here is drawn or fetched.

A texture lives while the device wants it or something names it: the maps of materials, lights, the sky. Each of these
says so by :meth:`Textures.exchange`; what nobody needs any more is told by :meth:`Textures.take_unused`, once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from farframe.protocol.errors import FarframeError, Result
from farframe.scene.materials import OWN_MAP, MaterialState

MAX_MATERIALS = 16_384
"""That a device has made."""
MAX_TEXTURES = 1024
MAX_TEXTURE_BYTES = 1 << 30
MAX_TEXTURE_ID = (1 << 32) - 2
FIRST_MODEL_MATERIAL = 1 << 31
"""Ids from here on are given to the materials of models; below they are the device's to choose."""
MAX_NAME_CHARACTERS = 1024

MAPS = ("albedo_map", "normal_map", "roughness_map", "metalness_map", "ao_map", "emissive_map")
"""The members of a material that name textures."""


@dataclass(frozen=True, slots=True)
class Texture:
    """A texture that was loaded: ``cube`` or 2D, pixels, levels, bytes. ``uri``: the whole of it, which may hold a
    signature and is never shown."""

    id: int
    uri: str
    cube: bool
    width: int
    height: int
    levels: int
    size_bytes: int

    def __repr__(self) -> str:
        return f"Texture({self.id}, {self.width} x {self.height}{', cube' if self.cube else ''})"


def invalid_texture(texture: int) -> FarframeError:
    """No texture has that id."""
    return FarframeError(Result.INVALID_ID, f"No texture has the id {texture}.")


def invalid_material(material: int) -> FarframeError:
    """No material has that id."""
    return FarframeError(Result.INVALID_ID, f"No material has the id {material}.")


class Textures:
    """The textures of a scene, by id. Ids are never used twice."""

    def __init__(self, *, max_textures: int = MAX_TEXTURES, max_bytes: int = MAX_TEXTURE_BYTES) -> None:
        self._max_textures = max_textures
        self._max_bytes = max_bytes
        self._entries: dict[int, Texture] = {}
        self._by_uri: dict[tuple[str, bool], int] = {}
        self._wanted: set[int] = set()
        self._uses: Counter[int] = Counter()
        self._perhaps_unused: set[int] = set()
        self._last_id = 0
        self.size_bytes = 0
        """Of all of them."""

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, texture: int) -> bool:
        return texture in self._entries

    def __iter__(self) -> Iterator[Texture]:
        return iter(self._entries.values())

    def get(self, texture: int) -> Texture:
        """Raises InvalidId."""
        try:
            return self._entries[texture]
        except KeyError:
            raise invalid_texture(texture) from None

    def want(self, uri: str, *, cube: bool) -> Texture | None:
        """The texture of that URI, if it is there; the device wants it from now on, again."""
        identifier = self._by_uri.get((uri, cube))
        if identifier is None:
            return None
        self._wanted.add(identifier)
        return self._entries[identifier]

    def wanted(self, texture: int) -> bool:
        """Whether the device has not destroyed it."""
        return texture in self._wanted

    def check_room(self, size_bytes: int) -> None:
        """Whether another texture of that size would fit. Raises ExceedsMemoryLimit."""
        if len(self._entries) >= self._max_textures or self.size_bytes + size_bytes > self._max_bytes:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"A scene holds at most {self._max_textures:,} textures of {self._max_bytes >> 20:,} MB in all.",
                next_step="Destroy some first.",
            )

    def add(self, uri: str, *, cube: bool, width: int, height: int, levels: int, size_bytes: int) -> Texture:
        """Keep a texture that was loaded and that the device wants. Raises ExceedsMemoryLimit."""
        self.check_room(size_bytes)
        self._last_id += 1
        texture = Texture(self._last_id, uri, cube, width, height, levels, size_bytes)
        self._entries[texture.id] = texture
        self._by_uri[uri, cube] = texture.id
        self._wanted.add(texture.id)
        self.size_bytes += size_bytes
        return texture

    def unwant(self, texture: int) -> None:
        """The device does not need a texture any more. Raises InvalidId for one that it has not, or no longer."""
        if texture not in self._wanted:
            raise invalid_texture(texture)
        self._wanted.discard(texture)
        self._perhaps_unused.add(texture)

    def exchange(self, before: Iterable[int], after: Iterable[int]) -> None:
        """Something that named the textures ``before`` names ``after`` now; 0 is none. All of these exist."""
        for texture in after:
            if texture:
                self._uses[texture] += 1
        for texture in before:
            if texture:
                self._uses[texture] -= 1
                if self._uses[texture] <= 0:
                    del self._uses[texture]
                    self._perhaps_unused.add(texture)

    def take_unused(self) -> list[Texture]:
        """Forget, and tell, what nobody needs any more."""
        gone: list[Texture] = []
        for identifier in sorted(self._perhaps_unused):
            if identifier in self._entries and identifier not in self._wanted and identifier not in self._uses:
                texture = self._entries.pop(identifier)
                del self._by_uri[texture.uri, texture.cube]
                self.size_bytes -= texture.size_bytes
                gone.append(texture)
        self._perhaps_unused.clear()
        return gone

    def clear(self) -> list[Texture]:
        """Forget all of them, used or not; what they were. Ids go on."""
        gone = list(self._entries.values())
        self._entries.clear()
        self._by_uri.clear()
        self._wanted.clear()
        self._uses.clear()
        self._perhaps_unused.clear()
        self.size_bytes = 0
        return gone


class Materials:
    """The materials that a device has made, and what it has made of those of models. ``textures``: which maps may be
    named."""

    def __init__(self, textures: Textures, *, max_materials: int = MAX_MATERIALS) -> None:
        self._textures = textures
        self._max_materials = max_materials
        self._made: dict[int, MaterialState] = {}
        self._edited: dict[int, MaterialState] = {}

    @property
    def made(self) -> dict[int, MaterialState]:
        """By id. Read only."""
        return self._made

    @property
    def edited(self) -> dict[int, MaterialState]:
        """Those of models that are not as in their files, by id. Read only."""
        return self._edited

    def require(self, material: int) -> MaterialState:
        """A material that the device has made. Raises InvalidId."""
        try:
            return self._made[material]
        except KeyError:
            raise invalid_material(material) from None

    def create(self, material: int, state: MaterialState) -> None:
        """Raises InvalidParam, AlreadyExists, ExceedsMemoryLimit, StringTooLong, InvalidId (of a map)."""
        if not 0 < material < FIRST_MODEL_MATERIAL:
            raise FarframeError(
                Result.INVALID_PARAM,
                f"{material} is no id that a device may choose.",
                next_step=f"Choose one from 1 to {FIRST_MODEL_MATERIAL - 1}.",
            )
        if material in self._made:
            raise FarframeError(Result.ALREADY_EXISTS, f"There is already a material {material}.")
        if len(self._made) >= self._max_materials:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"A device may make at most {self._max_materials:,} materials.",
                next_step="Destroy some first, or share them.",
            )
        self._check(state, own=False)
        self._textures.exchange((), _maps(state))
        self._made[material] = state

    def edit(self, material: int, state: MaterialState) -> None:
        """Another state for a material that was made. Raises InvalidParam, StringTooLong, InvalidId."""
        before = self.require(material)
        self._check(state, own=False)
        self._textures.exchange(_maps(before), _maps(state))
        self._made[material] = state

    def edit_own(self, material: int, before: MaterialState, state: MaterialState) -> None:
        """Another state for a model's material, whose state was ``before``. Raises as :meth:`edit`."""
        self._check(state, own=True)
        self._textures.exchange(_maps(before), _maps(state))
        self._edited[material] = state

    def destroy(self, material: int) -> None:
        """Raises InvalidId; NotSupported for a model's."""
        if material >= FIRST_MODEL_MATERIAL:
            raise FarframeError(
                Result.NOT_SUPPORTED,
                "The material of a model goes with the model.",
                next_step="Put another one in its place.",
            )
        self._textures.exchange(_maps(self.require(material)), ())
        del self._made[material]

    def forget_own(self, first: int, count: int) -> None:
        """A model is gone, and its materials."""
        if count < len(self._edited):
            gone = [material for material in range(first, first + count) if material in self._edited]
        else:
            gone = [material for material in self._edited if first <= material < first + count]
        for material in gone:
            self._textures.exchange(_maps(self._edited.pop(material)), ())

    def clear(self) -> list[int]:
        """Forget all; the ids of those that were made."""
        gone = list(self._made)
        for state in (*self._made.values(), *self._edited.values()):
            self._textures.exchange(_maps(state), ())
        self._made.clear()
        self._edited.clear()
        return gone

    def _check(self, state: MaterialState, *, own: bool) -> None:
        if len(state.name) > MAX_NAME_CHARACTERS:
            raise FarframeError(
                Result.STRING_TOO_LONG,
                f"A name of {len(state.name):,} characters is too long.",
                next_step=f"Use at most {MAX_NAME_CHARACTERS}.",
            )
        if problem := state.problem():
            raise FarframeError(Result.INVALID_PARAM, problem)
        for name in MAPS:
            texture = getattr(state, name)
            if texture == OWN_MAP:
                if not own:
                    raise FarframeError(Result.INVALID_PARAM, f"{name}: only a model's own material has such a map.")
            elif texture and self._textures.get(texture).cube:
                raise FarframeError(Result.INVALID_PARAM, f"{name} must be a 2D texture, and is a cube map.")


def _maps(state: MaterialState) -> list[int]:
    return [texture for name in MAPS if (texture := getattr(state, name)) not in (0, OWN_MAP)]
