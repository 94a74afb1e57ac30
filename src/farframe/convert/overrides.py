"""``<model>.MaterialOverrides.json``: what single materials are to be instead of what the file says.

Exactly one entry applies to a material: the first whose name is the material's, else the first whose regular expression
matches the whole name. Expressions come from strangers and are matched by RE2, in time linear in the name's length:
no expression can stall a conversion. Names and values are those that applications of Azure Remote Rendering know.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
import re2  # type: ignore[import-untyped]
from msgspec import Meta

from farframe.convert.errors import OVERRIDES_INVALID, ConversionFailed
from farframe.convert.settings import ConversionSettings, decode_checked, invalid, read_small_file

MAX_OVERRIDES_BYTES = 16 * 1024**2
MAX_EXPRESSIONS = 1_000
MAX_EXPRESSION_LENGTH = 1_000
MAX_EXPRESSION_MEMORY = 4 * 1024**2
"""Bytes that RE2 may use for one expression."""

TextureMap = Literal[
    "AlbedoMap",
    "EmissiveMap",
    "NormalMap",
    "OcclusionMap",
    "RoughnessMap",
    "MetalnessMap",
    "ReflectivityMap",
    "BumpMap",
    "OpacityMap",
    "DiffuseMap",
    "SpecularMap",
    "ShininessMap",
    "MetallicRoughnessMap",
    "SpecularGlossinessMap",
]
Unit = Annotated[float, Meta(ge=0, le=1)]


class ColorOverride(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A linear colour: ``r``, ``g`` and ``b``, with ``a`` or without, or ``a`` alone."""

    r: Unit | None = None
    g: Unit | None = None
    b: Unit | None = None
    a: Unit | None = None


class MaterialOverride(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"
):
    """One entry: which materials it is for, and what it sets. ``None``: as the file says."""

    name: Annotated[str, Meta(min_length=1, max_length=1024)]
    name_matching: Literal["exact", "regex"] = "exact"
    albedo_color: ColorOverride | None = None
    roughness: Unit | None = None
    metalness: Unit | None = None
    normal_map_scale: Annotated[float, Meta(ge=0, le=1000)] | None = None
    transparent: bool | None = None
    alpha_clip_enabled: bool | None = None
    alpha_clip_threshold: Unit | None = None
    use_vertex_color: bool | None = None
    is_double_sided: bool | None = None
    unlit: bool | None = None
    transparency_writes_depth: bool | None = None
    texture_coordinate_scale: tuple[float, float] | None = None
    texture_coordinate_offset: tuple[float, float] | None = None
    ignore_texture_maps: tuple[TextureMap, ...] = ()


_BOOL = "true or false"
_UNIT = "a number from 0 to 1"
_PAIR = "an array of two numbers"
TAKES: dict[str, str] = {
    "name": "the name of a material, or a regular expression",
    "nameMatching": '"exact" or "regex"',
    "albedoColor": 'an object of "r", "g", "b" and possibly "a", or of "a" alone',
    "albedoColor.r": _UNIT,
    "albedoColor.g": _UNIT,
    "albedoColor.b": _UNIT,
    "albedoColor.a": _UNIT,
    "roughness": _UNIT,
    "metalness": _UNIT,
    "normalMapScale": "a number from 0 to 1000",
    "transparent": _BOOL,
    "alphaClipEnabled": _BOOL,
    "alphaClipThreshold": _UNIT,
    "useVertexColor": _BOOL,
    "isDoubleSided": _BOOL,
    "unlit": _BOOL,
    "transparencyWritesDepth": _BOOL,
    "textureCoordinateScale": _PAIR,
    "textureCoordinateOffset": _PAIR,
    "ignoreTextureMaps": "an array of " + ", ".join(TextureMap.__args__),  # type: ignore[attr-defined]
}
"""What each property of an entry takes, for errors."""

Decoded = TypeVar("Decoded")


class MaterialOverrides:
    """All entries of a file, ready to be asked for a material's."""

    def __init__(self, entries: list[MaterialOverride], name: str = "MaterialOverrides.json") -> None:
        self.entries = entries
        self._exact: dict[str, MaterialOverride] = {}
        self._expressions: list[tuple[re2._Regexp, MaterialOverride]] = []
        self._found: dict[str, MaterialOverride | None] = {}
        options = re2.Options()
        options.max_mem = MAX_EXPRESSION_MEMORY
        options.log_errors = False
        for index, entry in enumerate(entries):
            color = entry.albedo_color
            where = f"[{index}]"
            if color is not None:
                given = [member is not None for member in (color.r, color.g, color.b)]
                if any(given) != all(given) or not (any(given) or color.a is not None):
                    problem = "r, g and b go together"
                    raise invalid(OVERRIDES_INVALID, name, f"{where}.albedoColor", problem, TAKES["albedoColor"])
            if entry.name_matching == "exact":
                self._exact.setdefault(entry.name, entry)
                continue
            if len(self._expressions) >= MAX_EXPRESSIONS or len(entry.name) > MAX_EXPRESSION_LENGTH:
                problem = (
                    f"a file may have {MAX_EXPRESSIONS:,} regular expressions of {MAX_EXPRESSION_LENGTH:,} characters"
                )
                raise invalid(OVERRIDES_INVALID, name, f"{where}.name", problem, TAKES["name"])
            try:
                self._expressions.append((re2.compile(entry.name, options), entry))
            except re2.error as error:
                text = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)
                problem = f"the regular expression is not valid ({text})"
                takes = "a regular expression without look-around and back-references (RE2 syntax)"
                raise invalid(OVERRIDES_INVALID, name, f"{where}.name", problem, takes) from None

    def of(self, material: str) -> MaterialOverride | None:
        """The entry for a material of this name, if there is one."""
        if material not in self._found:
            found = self._exact.get(material)
            if found is None:
                found = next((entry for expression, entry in self._expressions if expression.fullmatch(material)), None)
            self._found[material] = found
        return self._found[material]

    def ignored_maps(self, material: str) -> frozenset[str]:
        """The texture maps that are to be ignored for a material of this name."""
        entry = self.of(material)
        return frozenset(entry.ignore_texture_maps) if entry is not None else frozenset()


def read_overrides(model: Path, folder: Path, settings: ConversionSettings) -> MaterialOverrides:
    """The overrides for the model file: from what ``material-override`` names, else ``<model>.MaterialOverrides.json``.

    A file that is named must exist, beside the model or below, and inside ``folder``. Raises :class:`ConversionFailed`.
    """
    path = model.with_name(f"{model.stem}.MaterialOverrides.json")
    if settings.material_override:
        named = settings.material_override.replace("\\", "/")
        path = model.parent / named
        inside = "\0" not in named and not named.startswith("/") and path.resolve().is_relative_to(folder.resolve())
        if not inside or not path.is_file():
            problem = "there is no such file inside the input folder"
            raise invalid(
                OVERRIDES_INVALID, model.name, "material-override", problem, "the name of a file beside the model"
            )
    elif not path.is_file():
        return MaterialOverrides([])
    return decode_overrides(read_small_file(path, MAX_OVERRIDES_BYTES, OVERRIDES_INVALID), path.name)


def decode_overrides(data: bytes, name: str = "MaterialOverrides.json") -> MaterialOverrides:
    """The overrides from JSON, an array. Raises :class:`ConversionFailed` with the property and what it takes."""
    entries = decode_checked(data, list[MaterialOverride], name, OVERRIDES_INVALID, TAKES)
    return MaterialOverrides(entries, name)


__all__ = [
    "ColorOverride",
    "ConversionFailed",
    "MaterialOverride",
    "MaterialOverrides",
    "TextureMap",
    "decode_overrides",
    "read_overrides",
]
