"""Materials as the renderer sees them: numbers that stand in rows, and looks, which decide pipelines and textures.

    MaterialState --> factors: 12 numbers in the instance's row; extras: 20 in a storage buffer, read where needed
                  --> Look: the variant that draws it, and its textures

Numbers may change at any time at the cost of writing them anew; only another look makes an instance part of another
batch. Rare properties (a moved or scaled texture, fresnel effect, fading, modes of vertex alpha, no highlights, glass
that reflects) share one flag of the variant, ``extras``: then the fragment reads them all from the buffer, so they
multiply the variants by two and not by sixty-four.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from farframe.asset.model import AlphaMode, Material, TextureSlot
from farframe.render.pipelines import SLOTS, Variant
from farframe.scene.materials import OWN_MAP, ColorTransparency, MaterialFlag, MaterialKind, MaterialState
from farframe.scene.materials import VertexAlphaMode as Mode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farframe.render.textures import TextureResource

EXTRAS_DTYPE = np.dtype(
    [
        ("texcoord", "<f4", 4),
        ("fresnel", "<f4", 4),
        ("fading", "<f4", 4),
        ("vertex_alpha", "<f4", 4),
        ("blending", "<f4", 4),
    ]
)
"""A row of the storage buffer of materials, ``Extras`` in ``shaders/extras.wgsl``. ``texcoord``: scale, offset;
``fresnel``: colour, exponent; ``fading``: factor on the colour that is seen, on opacity, share of highlights, share of
the vertex colour; ``vertex_alpha``: how much of it dims the sky, all light, opacity; ``blending``: how much of the
reflections stays where a surface is transparent, how far it is additive."""

MIN_ROUGHNESS = 0.03
"""A perfect mirror would show the directional light as a single pixel that twinkles."""

_Numbers = TypeVar("_Numbers", bound=tuple[float, ...])

OwnTexture = tuple[str, int, int]
"""``("own", n, 0)``: the model's texture n; ``("model", n, handle)``: that of another placed model; ``("scene", id,
0)``: the scene's texture."""
Textures = tuple[OwnTexture | None, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """What of a material decides how it is drawn, beside the part that it is on.

    ``variant`` knows nothing of the part yet; ``textures`` by slot of :data:`SLOTS`; ``vertex_color``: whether those of
    the part are used; ``own_set``: the textures are exactly this set of the model's own, -1 for none; ``None`` where a
    set has to be made for it.
    """

    variant: Variant
    textures: Textures
    vertex_color: bool = True
    own_set: int | None = None

    def on(self, *, vertex_color: bool, mirrored: bool, tangents: bool, counts_for_depth: bool) -> Variant:
        """The variant that draws it on such a part. ``tangents``: the part has tangents for its first UV set."""
        return replace(
            self.variant,
            vertex_color=vertex_color and self.vertex_color,
            mirrored=mirrored,
            derived_tangents=self.variant.derived_tangents and not tangents,
            writes_depth=counts_for_depth or (self.variant.alpha_mode == "blend" and self.variant.writes_depth),
        )


def state_of(material: Material, *, vertex_color: bool) -> MaterialState:
    """A model's own material as a state, its maps :data:`OWN_MAP`: drawn, it looks as the file does.

    ``vertex_color``: whether parts of that material have vertex colours, which files always use.
    """
    flags = MaterialFlag.NONE if material.unlit else MaterialFlag.SPECULAR_HIGHLIGHTS
    blend = material.alpha_mode == "blend"
    for on, flag in (
        (blend and not material.unlit, MaterialFlag.TRANSPARENT | MaterialFlag.FADES_REFLECTIONS),
        (vertex_color, MaterialFlag.USE_VERTEX_COLOR),
        (material.double_sided, MaterialFlag.DOUBLE_SIDED),
        (material.alpha_mode == "mask", MaterialFlag.ALPHA_CLIPPED),
        (material.transparency_writes_depth, MaterialFlag.TRANSPARENCY_WRITES_DEPTH),
    ):
        flags |= flag if on else MaterialFlag.NONE

    def own(slot: TextureSlot | None) -> int:
        return OWN_MAP if slot is not None and not material.unlit else 0

    return MaterialState(
        kind=MaterialKind.COLOR if material.unlit else MaterialKind.PBR,
        name=material.name,
        flags=flags,
        albedo_color=_limited(material.base_color),
        albedo_map=OWN_MAP if material.base_color_texture is not None else 0,
        alpha_clip_threshold=min(max(material.alpha_cutoff, 0.0), 1.0),
        normal_map=own(material.normal_texture),
        normal_map_scale=material.normal_scale,
        roughness=min(max(material.roughness, 0.0), 1.0),
        roughness_map=own(material.metallic_roughness_texture),
        metalness=min(max(material.metallic, 0.0), 1.0),
        metalness_map=own(material.metallic_roughness_texture),
        ao_map=own(material.occlusion_texture),
        ao_scale=max(material.occlusion_strength, 0.0),
        emissive_color=_limited(material.emissive),
        emissive_map=own(material.emissive_texture),
        vertex_alpha_mode=Mode.OPACITY if vertex_color else Mode.OCCLUSION,
        color_transparency=ColorTransparency.ALPHA_BLEND if material.unlit and blend else ColorTransparency.OPAQUE,
    )


def _limited(numbers: _Numbers) -> _Numbers:
    """Without what a state may not hold, though a file might."""
    return type(numbers)(min(max(number, 0.0), 1e6) for number in numbers)


def own_look(variant: Variant, texture_set: int) -> Look:
    """The look of a model's own material as its file has it, drawn by ``variant`` with one of the model's sets."""
    return Look(variant, (None,) * len(SLOTS), own_set=texture_set)


def factors_of(state: MaterialState) -> tuple[float, ...]:
    """The twelve numbers of the instance's row: base colour, surface, emissive and alpha cutoff."""
    return (
        *state.albedo_color,
        state.metalness,
        max(state.roughness, MIN_ROUGHNESS),
        state.normal_map_scale,
        state.ao_scale,
        *(state.emissive_color if state.kind == MaterialKind.PBR else (0.0, 0.0, 0.0)),
        state.alpha_clip_threshold,
    )


def extras_of(state: MaterialState) -> NDArray[np.void]:
    """One row of :data:`EXTRAS_DTYPE`."""
    row = np.zeros((), EXTRAS_DTYPE)
    flags, pbr = state.flags, state.kind == MaterialKind.PBR
    to_black = bool(flags & MaterialFlag.FADE_TO_BLACK)
    uses_color = bool(flags & MaterialFlag.USE_VERTEX_COLOR)
    glow = state.fresnel_effect_color if flags & MaterialFlag.FRESNEL_EFFECT else (0.0, 0.0, 0.0)
    row["texcoord"] = (*state.texcoord_scale, *state.texcoord_offset)
    row["fresnel"] = (*glow, state.fresnel_effect_exponent)
    row["fading"] = (
        state.fade_out if to_black else 1.0,
        1.0 if to_black else state.fade_out,
        1.0 if flags & MaterialFlag.SPECULAR_HIGHLIGHTS else 0.0,
        1.0 if pbr else state.vertex_mix,
    )
    # A colour material knows no modes: the alpha of vertices counts for opacity as their colour does for colour.
    mode = state.vertex_alpha_mode if pbr else Mode.OPACITY
    if uses_color:
        opacity = (1.0 if pbr else state.vertex_mix) if mode == Mode.OPACITY else 0.0
        row["vertex_alpha"][:3] = (mode == Mode.OCCLUSION, mode == Mode.LIGHT_MASK, opacity)
    reflects = pbr and flags & MaterialFlag.TRANSPARENT and not flags & MaterialFlag.FADES_REFLECTIONS
    additive = not pbr and state.color_transparency == ColorTransparency.ADDITIVE
    row["blending"][:2] = (float(bool(reflects)), float(additive))
    return row


def is_gone(state: MaterialState) -> bool:
    """Whether nothing of it is seen at all, so that it need not be drawn."""
    return state.fade_out == 0.0 and not state.flags & MaterialFlag.FADE_TO_BLACK


def look_of(
    state: MaterialState,
    textures: Mapping[int, TextureResource],
    own: Material | None,
    own_xy: bool,
    handle: int = 0,
) -> Look:
    """How a state is drawn.

    ``textures``: those of the scene; maps that it does not have, or that are cube maps, are as none. ``own``: the
    model's own material of which this is a form, ``own_xy``: its normal map has two channels; ``handle``: the model
    that has it, where it is to be seen on others, too, 0 where it is not.
    """
    flags, pbr = state.flags, state.kind == MaterialKind.PBR
    emissive = pbr and max(state.emissive_color) > 0.0
    wanted = {
        "base_color": state.albedo_map,
        "metallic_roughness": state.roughness_map if pbr else 0,
        "normal": state.normal_map if pbr else 0,
        "occlusion": state.ao_map if pbr else 0,
        "emissive": state.emissive_map if emissive else 0,
        "metalness": state.metalness_map if pbr else 0,
    }
    uv_sets: list[int] = []
    found: list[OwnTexture | None] = []
    channels: list[int] = []
    for name in SLOTS:
        number = wanted[name]
        texture = textures.get(number)
        slot = None
        if number == OWN_MAP and own is not None:
            slot = getattr(own, f"{'metallic_roughness' if name == 'metalness' else name}_texture")
        if slot is not None:
            uv_sets.append(int(slot.uv_set))
            found.append(("model" if handle else "own", slot.texture, handle))
            channels.append(2 if name == "normal" and own_xy else 4)
        elif texture is not None and not texture.cube and not texture.released:
            uv_sets.append(0)
            found.append(("scene", number, 0))
            channels.append(texture.channels)
        else:
            uv_sets.append(-1)
            found.append(None)
            channels.append(4)
    # One texture for both roughness and metalness is fetched once, unless it has only one channel anyway.
    packed = found[1] == found[5] and channels[1] > 2
    if packed:
        uv_sets[5], found[5] = -1, None
    faded = state.fade_out < 1.0 and not flags & MaterialFlag.FADE_TO_BLACK
    transparent = bool(
        faded
        or (pbr and flags & MaterialFlag.TRANSPARENT)
        or (not pbr and state.color_transparency != ColorTransparency.OPAQUE)
    )
    clipped = bool(flags & MaterialFlag.ALPHA_CLIPPED)
    alpha_mode: AlphaMode = "blend" if transparent else "mask" if clipped else "opaque"
    fresnel = bool(flags & MaterialFlag.FRESNEL_EFFECT)
    uses_color = bool(flags & MaterialFlag.USE_VERTEX_COLOR)
    variant = Variant(
        uv_sets=(uv_sets[0], uv_sets[1], uv_sets[2], uv_sets[3], uv_sets[4], uv_sets[5]),
        alpha_mode=alpha_mode,
        emissive=emissive,
        unlit=not pbr,
        double_sided=bool(flags & MaterialFlag.DOUBLE_SIDED),
        normal_xy=uv_sets[2] >= 0 and channels[2] == 2,
        clipped=clipped and transparent,
        extras=bool(
            state.texcoord_scale != (1.0, 1.0)
            or state.texcoord_offset != (0.0, 0.0)
            or fresnel
            or state.fade_out < 1.0
            or (pbr and not flags & MaterialFlag.SPECULAR_HIGHLIGHTS)
            or (not pbr and state.color_transparency == ColorTransparency.ADDITIVE)
            or (pbr and flags & MaterialFlag.TRANSPARENT and not flags & MaterialFlag.FADES_REFLECTIONS)
            or (uses_color and (state.vertex_alpha_mode != Mode.OPACITY if pbr else state.vertex_mix < 1.0))
        ),
        fresnel=fresnel,
        packed=packed or found[1] is None,
        grey=tuple(channel == 1 for channel in channels),
        derived_tangents=found[2] is not None and found[2][0] != "own",
        writes_depth=bool(flags & MaterialFlag.TRANSPARENCY_WRITES_DEPTH),
    )
    return Look(variant, tuple(found), vertex_color=uses_color)
