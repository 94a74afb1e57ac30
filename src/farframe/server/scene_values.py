"""Between what the wire says of materials, lights, cut planes and effects and what the scene holds: words to numbers
and back. Nothing is judged here: ``problem()`` of what comes out does that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from farframe.protocol import appearance as wire
from farframe.protocol.errors import FarframeError, Result
from farframe.scene import effects as scene
from farframe.scene.lights import Light, LightKind
from farframe.scene.materials import (
    ColorTransparency,
    MaterialFlag,
    MaterialKind,
    MaterialState,
    VertexAlphaMode,
)

KINDS = {"pbr": MaterialKind.PBR, "color": MaterialKind.COLOR}
_KIND_NAMES: dict[MaterialKind, wire.MaterialKind] = {MaterialKind.PBR: "pbr", MaterialKind.COLOR: "color"}
_ALPHA_MODES = {
    "occlusion": VertexAlphaMode.OCCLUSION,
    "lightMask": VertexAlphaMode.LIGHT_MASK,
    "opacity": VertexAlphaMode.OPACITY,
}
_TRANSPARENCIES = {
    "opaque": ColorTransparency.OPAQUE,
    "alphaBlend": ColorTransparency.ALPHA_BLEND,
    "additive": ColorTransparency.ADDITIVE,
}
LIGHT_KINDS = {"point": LightKind.POINT, "spot": LightKind.SPOT, "directional": LightKind.DIRECTIONAL}
_AXES = {
    "x": scene.Axis.X,
    "y": scene.Axis.Y,
    "z": scene.Axis.Z,
    "negativeX": scene.Axis.NEGATIVE_X,
    "negativeY": scene.Axis.NEGATIVE_Y,
    "negativeZ": scene.Axis.NEGATIVE_Z,
}
_SIDES = {
    "normal": scene.SingleSidedMode.NORMAL,
    "dynamicDoubleSiding": scene.SingleSidedMode.DYNAMIC_DOUBLE_SIDING,
    "alwaysDoubleSided": scene.SingleSidedMode.ALWAYS_DOUBLE_SIDED,
}
_SAME = [
    name
    for name in wire.MaterialValues.__struct_fields__
    if name not in ("flags", "vertex_alpha_mode", "color_transparency")
]


def _name(table: dict[str, Any], value: Any) -> Any:
    return next(key for key, other in table.items() if other == value)


def material_state(kind: MaterialKind, values: wire.MaterialValues) -> MaterialState:
    """The state of a material. Raises InvalidParam for flags that do not exist."""
    if values.flags & ~wire.ALL_MATERIAL_FLAGS or values.flags < 0:
        raise FarframeError(Result.INVALID_PARAM, "There is no such flag of a material.")
    return MaterialState(
        kind=kind,
        flags=MaterialFlag(values.flags),
        vertex_alpha_mode=_ALPHA_MODES[values.vertex_alpha_mode],
        color_transparency=_TRANSPARENCIES[values.color_transparency],
        **{name: getattr(values, name) for name in _SAME},
    )


def material_values(state: MaterialState) -> wire.MaterialValues:
    """The other way."""
    return wire.MaterialValues(
        flags=int(state.flags),
        vertex_alpha_mode=_name(_ALPHA_MODES, state.vertex_alpha_mode),
        color_transparency=_name(_TRANSPARENCIES, state.color_transparency),
        **{name: getattr(state, name) for name in _SAME},
    )


def material_info(identifier: int, state: MaterialState) -> wire.MaterialInfo:
    """What a device is told of a material."""
    return wire.MaterialInfo(id=identifier, kind=_KIND_NAMES[state.kind], values=material_values(state))


def drawn(state: MaterialState) -> MaterialState:
    """The state that is drawn: what is fading out is transparent, whether it says so or not."""
    if state.fade_out >= 1.0 or state.flags & MaterialFlag.FADE_TO_BLACK:
        return state
    # The alpha of what is opaque has not counted, and does not begin to.
    whole = (*state.albedo_color[:3], 1.0)
    if state.kind is MaterialKind.PBR and not state.flags & MaterialFlag.TRANSPARENT:
        flags = state.flags | MaterialFlag.TRANSPARENT | MaterialFlag.FADES_REFLECTIONS
        return replace(state, flags=flags, albedo_color=whole)
    if state.kind is MaterialKind.COLOR and state.color_transparency is ColorTransparency.OPAQUE:
        return replace(state, color_transparency=ColorTransparency.ALPHA_BLEND, albedo_color=whole)
    return state


def light_of(kind: LightKind, values: wire.LightValues) -> Light:
    """A light."""
    return Light(kind=kind, **{name: getattr(values, name) for name in values.__struct_fields__})


def light_info(entity: int, light: Light) -> wire.LightInfo:
    """What a device is told of a light."""
    return wire.LightInfo(entity=entity, kind=_name(LIGHT_KINDS, light.kind), values=light_values(light))


def light_values(light: Light) -> wire.LightValues:
    """The other way."""
    return wire.LightValues(**{name: getattr(light, name) for name in wire.LightValues.__struct_fields__})


def cut_plane_of(values: wire.CutPlaneValues) -> scene.CutPlane:
    """A cut plane."""
    return scene.CutPlane(
        enabled=values.enabled,
        normal=_AXES[values.normal],
        fade_color=values.fade_color,
        fade_length=values.fade_length,
        filter_mask=values.filter_mask,
        capped=values.capped,
        cap_color=values.cap_color,
        cap_hatching=values.cap_hatching,
    )


def cut_plane_values(plane: scene.CutPlane) -> wire.CutPlaneValues:
    """The other way."""
    return wire.CutPlaneValues(
        enabled=plane.enabled,
        normal=_name(_AXES, plane.normal),
        fade_color=plane.fade_color,
        fade_length=plane.fade_length,
        filter_mask=plane.filter_mask,
        capped=plane.capped,
        cap_color=plane.cap_color,
        cap_hatching=plane.cap_hatching,
    )


def effects_of(values: wire.EffectsValues, sky_kind: scene.SkyKind) -> scene.Effects:
    """The settings of the whole picture; ``sky_kind``: what the sky's texture is, if there is one."""
    return scene.Effects(
        outline=scene.OutlineSettings(
            color=values.outline.color,
            pulse_rate_hz=values.outline.pulse_rate_hz,
            pulse_intensity=values.outline.pulse_intensity,
        ),
        shell=scene.ShellSettings(desaturation=values.shell.desaturation, opacity=values.shell.opacity),
        single_sided=_SIDES[values.single_sided],
        z_fighting=scene.ZFightingSettings(
            enabled=values.z_fighting.enabled, highlighting=values.z_fighting.highlighting
        ),
        sky=scene.SkySettings(uri=values.sky.uri, kind=sky_kind, texture=values.sky.texture),
        camera=scene.CameraSettings(near=values.camera.near, far=values.camera.far),
        stage=scene.StageSettings(position=values.stage.position, rotation=values.stage.rotation),
        debug=scene.DebugSettings(
            frame_count=values.debug.frame_count,
            polygon_count=values.debug.polygon_count,
            wireframe=values.debug.wireframe,
            edges=values.debug.edges,
        ),
        point_size=values.point_size,
    )
