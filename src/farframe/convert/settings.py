"""``<model>.ConversionSettings.json``: how a model is to be converted.

Names, values and defaults are those that applications of Azure Remote Rendering know; the JSON schema in
``docs/schemas/`` says the same. :func:`read_settings` finds the file beside the model.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from farframe.asset.format import SceneGraphMode
from farframe.convert.errors import NO_EFFECT, SETTINGS_INVALID, ConversionFailed, ConversionWarning

MAX_SETTINGS_BYTES = 1024**2
MAX_METADATA_KEYS = 1_000
MAX_KEY_LENGTH = 256

Axis = Literal["default", "+x", "-x", "+y", "-y", "+z", "-z"]
Sidedness = Literal["SingleSided", "DoubleSided"]
DirectionFormat = Literal["8_8_8_8_SIGNED_NORMALIZED", "16_16_16_16_FLOAT", "AUTO", "NONE"]
TexcoordFormat = Literal["32_32_FLOAT", "16_16_FLOAT", "NONE"]
ColorFormat = Literal["8_8_8_8_UNSIGNED_NORMALIZED", "NONE"]
PositionFormat = Literal["32_32_32_FLOAT", "16_16_16_16_FLOAT"]


class VertexSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The formats of the vertices' streams. ``NONE`` drops a stream; 16 bits are kept at that precision."""

    position: PositionFormat = "32_32_32_FLOAT"
    color0: ColorFormat = "8_8_8_8_UNSIGNED_NORMALIZED"
    color1: ColorFormat = "NONE"
    normal: DirectionFormat = "8_8_8_8_SIGNED_NORMALIZED"
    tangent: DirectionFormat = "8_8_8_8_SIGNED_NORMALIZED"
    binormal: DirectionFormat = "8_8_8_8_SIGNED_NORMALIZED"
    texcoord0: TexcoordFormat = "32_32_FLOAT"
    texcoord1: TexcoordFormat = "32_32_FLOAT"


class ConversionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """All settings of a conversion. ``None`` for the two ``gamma`` settings means: as is usual for the format.

    ``axis`` says which axis of the source becomes x, y and z, after the file's own axes have been brought to +Y up.
    """

    scaling: Annotated[float, Meta(gt=0)] = 1.0
    recenter_to_origin: bool = msgspec.field(default=False, name="recenterToOrigin")
    opaque_material_default_sidedness: Sidedness = msgspec.field(
        default="DoubleSided", name="opaqueMaterialDefaultSidedness"
    )
    material_override: Annotated[str, Meta(max_length=1024)] = msgspec.field(default="", name="material-override")
    gamma_to_linear_material: bool | None = msgspec.field(default=None, name="gammaToLinearMaterial")
    gamma_to_linear_vertex: bool | None = msgspec.field(default=None, name="gammaToLinearVertex")
    scene_graph_mode: SceneGraphMode = msgspec.field(default="dynamic", name="sceneGraphMode")
    generate_collision_mesh: bool = msgspec.field(default=True, name="generateCollisionMesh")
    unlit_materials: bool = msgspec.field(default=False, name="unlitMaterials")
    deduplicate_materials: bool = msgspec.field(default=True, name="deduplicateMaterials")
    fbx_assume_metallic: bool = msgspec.field(default=True, name="fbxAssumeMetallic")
    axis: tuple[Axis, Axis, Axis] = ("+x", "+y", "+z")
    vertex: VertexSettings = VertexSettings()
    metadata_keys: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=MAX_KEY_LENGTH)], ...], Meta(max_length=MAX_METADATA_KEYS)
    ] = msgspec.field(default=(), name="metadataKeys")

    def keeps(self, key: str) -> bool:
        """Whether ``metadataKeys`` name this key: exactly, or by a beginning that ends in ``*``."""
        return any(key.startswith(each[:-1]) if each.endswith("*") else key == each for each in self.metadata_keys)


TAKES: dict[str, str] = {
    "scaling": "a number greater than 0",
    "recenterToOrigin": "true or false",
    "opaqueMaterialDefaultSidedness": '"SingleSided" or "DoubleSided"',
    "material-override": "the name of a file beside the model",
    "gammaToLinearMaterial": "true or false",
    "gammaToLinearVertex": "true or false",
    "sceneGraphMode": '"none", "static" or "dynamic"',
    "generateCollisionMesh": "true or false",
    "unlitMaterials": "true or false",
    "deduplicateMaterials": "true or false",
    "fbxAssumeMetallic": "true or false",
    "axis": 'an array of three of "default", "+x", "-x", "+y", "-y", "+z", "-z", each axis once',
    "vertex": "an object of the streams position, color0, color1, normal, tangent, binormal, texcoord0, texcoord1",
    "vertex.position": '"32_32_32_FLOAT" or "16_16_16_16_FLOAT"',
    "vertex.color0": '"8_8_8_8_UNSIGNED_NORMALIZED" or "NONE"',
    "vertex.color1": '"8_8_8_8_UNSIGNED_NORMALIZED" or "NONE"',
    "vertex.normal": '"8_8_8_8_SIGNED_NORMALIZED", "16_16_16_16_FLOAT", "AUTO" or "NONE"',
    "vertex.tangent": '"8_8_8_8_SIGNED_NORMALIZED", "16_16_16_16_FLOAT", "AUTO" or "NONE"',
    "vertex.binormal": '"8_8_8_8_SIGNED_NORMALIZED", "16_16_16_16_FLOAT", "AUTO" or "NONE"',
    "vertex.texcoord0": '"32_32_FLOAT", "16_16_FLOAT" or "NONE"',
    "vertex.texcoord1": '"32_32_FLOAT", "16_16_FLOAT" or "NONE"',
    "metadataKeys": f"an array of up to {MAX_METADATA_KEYS:,} keys, each exact or a beginning followed by *",
}
"""What each property takes, for errors."""

_DEPRECATED_NAME = "conversionSettings.json"

Decoded = TypeVar("Decoded")


def read_settings(model: Path) -> tuple[ConversionSettings, list[ConversionWarning]]:
    """The settings for the model file: from ``<model>.ConversionSettings.json`` beside it, else from the deprecated
    ``conversionSettings.json``, else the defaults. Raises :class:`ConversionFailed` naming the property."""
    warnings: list[ConversionWarning] = []
    path = model.with_name(f"{model.stem}.ConversionSettings.json")
    if not path.is_file():
        path = model.with_name(_DEPRECATED_NAME)
        if not path.is_file():
            return ConversionSettings(), warnings
        warnings.append(
            ConversionWarning(
                NO_EFFECT,
                {"deprecated": f"{_DEPRECATED_NAME} is honoured; name it {model.stem}.ConversionSettings.json."},
            )
        )
    settings = decode_settings(read_small_file(path, MAX_SETTINGS_BYTES, SETTINGS_INVALID), path.name)
    if settings.material_override:
        text = f"material-override is honoured; name the file {model.stem}.MaterialOverrides.json instead."
        warnings.append(ConversionWarning(NO_EFFECT, {"deprecated": text}))
    return settings, warnings


def decode_settings(data: bytes, name: str = "ConversionSettings.json") -> ConversionSettings:
    """The settings from JSON. Raises :class:`ConversionFailed` with the property and what it takes."""
    settings = decode_checked(data, ConversionSettings, name, SETTINGS_INVALID, TAKES)
    letters = sorted("xyz"[place] if each == "default" else each[1] for place, each in enumerate(settings.axis))
    if letters != ["x", "y", "z"]:
        raise invalid(SETTINGS_INVALID, name, "axis", f"{list(settings.axis)} names an axis twice", TAKES["axis"])
    # A float's own range is no sensible one: model and scale must stay far from its ends.
    if not 1e-9 <= settings.scaling <= 1e9:
        raise invalid(SETTINGS_INVALID, name, "scaling", "it is out of range", "a number from 1e-9 to 1e9")
    return settings


def settings_as_used(settings: ConversionSettings) -> dict[str, Any]:
    """The settings as they go into the info file: those that differ from the defaults."""
    found: dict[str, Any] = msgspec.to_builtins(settings)
    return found


def read_small_file(path: Path, limit: int, code: str) -> bytes:
    """A settings file's bytes, of at most ``limit``."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError:
        raise ConversionFailed(code, details={"file": path.name, "problem": "The file cannot be read."}) from None
    if len(data) > limit:
        raise ConversionFailed(
            code, details={"file": path.name, "problem": f"The file is larger than {limit:,} bytes."}
        )
    return data.removeprefix(b"\xef\xbb\xbf")


def decode_checked(
    data: bytes, kind: type[Decoded], name: str, code: str, takes: dict[str, str], prefix: str = ""
) -> Decoded:
    """JSON as ``kind``, or :class:`ConversionFailed` that names the property and what it takes."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        text, _, where = str(error).rpartition(" - at `")
        where = where.rstrip("`").removeprefix("$").lstrip(".") if text else ""
        text = text or str(error)
        unknown = re.search(r"unknown field `(.*)`", text, re.DOTALL)
        bare = re.sub(r"\[[^\]]*\]", "", where).lstrip(".")
        if unknown:
            place = f"{where}.{unknown[1]}" if where else unknown[1]
            known = [each.removeprefix(f"{bare}.") for each in takes if each.startswith(f"{bare}." if bare else "")]
            raise invalid(
                code, name, place[:200], "there is no such property", ", ".join(e for e in known if "." not in e)
            ) from None
        raise invalid(code, name, where or "the file", text, takes.get(bare, "")) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConversionFailed(code, details={"file": name, "problem": f"This is not valid JSON: {error}"}) from None


def invalid(code: str, file: str, where: str, problem: str, takes: str) -> ConversionFailed:
    """A wrong value: in which file, at which property, why, and what it takes."""
    details = {"file": file, "property": where, "problem": problem.rstrip(".") + "."}
    if takes:
        details["takes"] = takes
    return ConversionFailed(code, details=details)
