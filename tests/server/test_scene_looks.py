"""Commands on looks: materials, overrides, lights, cut planes and effects, as they reach the renderer's scene."""

from __future__ import annotations

import json
import math
from typing import Any

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from farframe.asset.model import Material, Node
from farframe.protocol import appearance as looks
from farframe.protocol import scene as wire
from farframe.protocol.errors import Result
from farframe.render.resources import ModelResource, material_factors, part_tables
from farframe.render.scene import RenderScene
from farframe.scene.effects import Effects, SkyKind
from farframe.scene.lights import Light, LightKind
from farframe.scene.materials import MaterialFlag, MaterialKind, MaterialState
from farframe.scene.resources import FIRST_MODEL_MATERIAL
from farframe.server import scene_values as values
from farframe.server.scene_world import SceneWorld, model_tree
from tests.render.shapes import ModelBuilder, box

OWN = FIRST_MODEL_MATERIAL


def resource(model: Any) -> ModelResource:
    """A model as it is on a device, without one."""
    count = len(model.materials)
    return ModelResource(model, part_tables(model), material_factors(model.materials), np.full(count, -1, np.int64))


def pair() -> Any:
    """Two entities that show the same mesh of two parts, of two materials, below a root."""
    builder = ModelBuilder("pair")
    parts = [builder.part(box(), Material(name, roughness=0.25)) for name in ("first", "second")]
    for number in range(2):
        for part in parts:
            builder.place(part, (2.0 * number, 0, 0))
    built = builder.build()
    built.nodes = [Node(f"node {number}", -1, np.eye(4)) for number in range(2)]
    built.instance_node = np.array([0, 0, 1, 1], np.int32)
    return built


WORDS = sorted(
    {
        field.encode_name
        for kind in (
            looks.MaterialValues, looks.LightValues, looks.CutPlaneValues, looks.EffectsValues, looks.OutlineValues,
            looks.SkyValues, looks.CameraValues, looks.StageValues,
        )
        for field in msgspec.structs.fields(kind)
    }
)  # fmt: skip


class Place:
    """A world with a model in it, and what the renderer has of it."""

    def __init__(self) -> None:
        self.scene = RenderScene()
        self.world = SceneWorld(self.scene)
        self.handle, self.root = self.load()

    def load(self) -> tuple[int, int]:
        built = pair()
        handle = self.scene.add(resource(built), np.eye(4))
        return handle, self.world.add_model(handle, model_tree(built)).first

    def apply(self, *commands: Any) -> list[Result]:
        """Over the wire and back: the results of what was refused."""
        decoded = wire.decode_commands(wire.ApplyParams(commands=wire.encode_commands(list(commands))))
        return [error.result for _, error in self.world.apply(decoded).failures]

    def done(self, *commands: Any) -> None:
        assert self.apply(*commands) == []

    def drawn_with(self) -> list[int]:
        return self.scene.entries[self.handle].material.tolist()


@pytest.fixture
def place() -> Place:
    return Place()


def test_the_wires_values_begin_as_the_scenes() -> None:
    assert values.material_state(MaterialKind.PBR, looks.MaterialValues()) == MaterialState()
    assert values.light_of(LightKind.SPOT, looks.LightValues()) == Light(LightKind.SPOT)
    assert values.effects_of(looks.EffectsValues(), SkyKind.BUILT_IN) == Effects()
    assert values.cut_plane_values(values.cut_plane_of(looks.CutPlaneValues())) == looks.CutPlaneValues()
    other = looks.CutPlaneValues(False, "negativeY", (0.1, 0.2, 0.3, 0.4), 0.5, 6, True, (0.7, 0.8, 0.9, 1.0), 0.2)
    assert values.cut_plane_values(values.cut_plane_of(other)) == other
    assert sum(MaterialFlag) == looks.ALL_MATERIAL_FLAGS
    for name, bit in looks.MATERIAL_FLAGS.items():
        assert MaterialFlag[name.upper()] == bit


def test_a_material_is_made_edited_in_part_and_taken_out(place: Place) -> None:
    place.done(looks.CreateMaterial(id=7, kind="color", set={"albedoColor": [1, 0, 0, 1], "name": "red"}))
    place.done(looks.SetMaterial(id=7, set={"vertexMix": 0.5}))
    state = place.scene.materials[7]
    assert (state.kind, state.albedo_color, state.vertex_mix, state.name) == (
        MaterialKind.COLOR, (1.0, 0.0, 0.0, 1.0), 0.5, "red"
    )  # fmt: skip
    place.done(looks.DestroyMaterial(id=7))
    assert not place.scene.materials
    assert place.apply(looks.SetMaterial(id=7, set={})) == [Result.INVALID_ID]


@pytest.mark.parametrize(
    ("command", "result"),
    [
        (looks.CreateMaterial(id=1), Result.ALREADY_EXISTS),
        (looks.CreateMaterial(id=0), Result.INVALID_PARAM),
        (looks.CreateMaterial(id=1 << 31), Result.INVALID_PARAM),
        (looks.CreateMaterial(id=2, set={"roughness": 2}), Result.INVALID_PARAM),
        (looks.CreateMaterial(id=2, set={"roughness": "rough"}), Result.INVALID_PARAM),
        (looks.CreateMaterial(id=2, set={"albedoColor": [1, 2]}), Result.INVALID_PARAM),
        (looks.CreateMaterial(id=2, set={"albedoMap": 5}), Result.INVALID_ID),
        (looks.CreateMaterial(id=2, set={"albedoMap": looks.OWN_MAP}), Result.INVALID_PARAM),
        (looks.CreateMaterial(id=2, set={"albedoMap": -1}), Result.INVALID_PARAM),
        (looks.CreateMaterial(id=2, set={"flags": 512}), Result.INVALID_PARAM),
        (looks.CreateMaterial(id=2, set={"flags": -1}), Result.INVALID_PARAM),
        (looks.CreateMaterial(id=2, set={"name": "x" * 1025}), Result.STRING_TOO_LONG),
        (looks.SetMaterial(id=3, set={}), Result.INVALID_ID),
        (looks.SetMaterial(id=OWN + 2, set={}), Result.INVALID_ID),
        (looks.SetMaterial(id=-1, set={}), Result.INVALID_ID),
        (looks.DestroyMaterial(id=OWN), Result.NOT_SUPPORTED),
        (looks.OverrideMaterials(id=99, material=1), Result.INVALID_ID),
        (looks.OverrideMaterials(id=OWN + 1, sub_part=2, material=1), Result.INVALID_PARAM),
        (looks.OverrideMaterials(id=OWN + 1, sub_part=-1, material=1), Result.INVALID_PARAM),
        (looks.OverrideMaterials(id=OWN + 1, material=1 << 40), Result.INVALID_PARAM),
        (looks.OverrideMaterials(id=OWN + 1, material=9), Result.INVALID_ID),
        (looks.OverrideMaterials(id=OWN + 1, material=OWN + 2), Result.INVALID_ID),
        (looks.SetMeshMaterial(id=OWN + 1, material=OWN + 2), Result.INVALID_ID),
        (looks.OverrideMaterials(ids=b"123"), Result.INVALID_PARAM),
        (looks.OverrideMaterials(ids=wire.pack([OWN + 1], "u4")), Result.INVALID_PARAM),
        (looks.SetMeshMaterial(id=OWN, material=1), Result.INVALID_PARAM),
        (looks.SetMeshMaterial(id=OWN + 1, sub_part=7, material=1), Result.INVALID_PARAM),
        (looks.DestroyTexture(id=1), Result.INVALID_ID),
        (looks.SetLight(id=99, kind="point"), Result.INVALID_ID),
        (looks.SetLight(id=OWN, kind="point", set={"intensity": -1}), Result.INVALID_PARAM),
        (looks.SetLight(id=OWN, kind="point", set={"projectedTexture": 3}), Result.INVALID_ID),
        (looks.SetLight(id=OWN, kind="spot", set={"spotAngleDeg": [40, 30]}), Result.INVALID_PARAM),
        (looks.RemoveLight(id=OWN, kind="spot"), Result.INVALID_ID),
        (looks.SetCutPlane(id=OWN, set={"filterMask": 256}), Result.INVALID_PARAM),
        (looks.SetCutPlane(id=OWN, set={"normal": "w"}), Result.INVALID_PARAM),
        (looks.SetCutPlane(id=OWN, set={"capColor": [0, 0, 0, 1.5]}), Result.INVALID_PARAM),
        (looks.SetCutPlane(id=OWN, set={"capHatching": -0.1}), Result.INVALID_PARAM),
        (looks.SetCutPlane(id=99), Result.INVALID_ID),
        (looks.RemoveCutPlane(id=OWN), Result.INVALID_ID),
        (looks.SetEffects(set={"pointSize": -1}), Result.INVALID_PARAM),
        (looks.SetEffects(set={"outline": 3}), Result.INVALID_PARAM),
        (looks.SetEffects(set={"outline": {"color": [2, 0, 0]}}), Result.INVALID_PARAM),
        (looks.SetEffects(set={"camera": {"near": 2, "far": 1}}), Result.INVALID_PARAM),
        (looks.SetEffects(set={"sky": {"uri": "https://example.com/sky.hdr"}}), Result.FILE_NOT_FOUND),
        (looks.SetEffects(set={"sky": {"texture": 4}}), Result.INVALID_ID),
        (looks.SetEffects(set={"stage": {"rotation": [0, 0, 0, 0]}}), Result.INVALID_PARAM),
    ],
)
def test_what_is_wrong_is_refused_with_its_name_and_changes_nothing(place: Place, command: Any, result: Result) -> None:
    place.done(looks.CreateMaterial(id=1))
    before = place.scene.version
    assert place.apply(command) == [result]
    assert place.scene.version == before


def test_overrides_beat_meshes_beat_files_and_fall_back_when_a_material_goes(place: Place) -> None:
    first, second = place.root + 1, place.root + 2
    place.done(looks.CreateMaterial(id=1), looks.CreateMaterial(id=2), looks.CreateMaterial(id=3))
    place.done(looks.SetMeshMaterial(id=first, sub_part=1, material=1))
    assert place.drawn_with() == [0, 1, 0, 1]
    place.done(looks.OverrideMaterials(id=second, sub_part=1, material=2))
    assert place.drawn_with() == [0, 1, 0, 2]
    packed = [wire.pack(column, "u4") for column in ([first, second], [0, 1], [3, 3])]
    place.done(looks.OverrideMaterials(ids=packed[0], sub_parts=packed[1], materials=packed[2]))
    assert place.drawn_with() == [3, 1, 0, 3]
    table, ranks = place.world.looks.sub_parts(place.world.meshes, looks.SubPartsParams(), 100)
    assert ranks.tolist() == [0, 1, 0, 1] and table.entity.tolist() == [first, first, second, second]
    assert table.override.tolist() == [3, 0, 0, 3] and table.material.tolist() == [OWN, OWN + 1] * 2
    assert table.replaced.tolist() == [0, 1, 0, 1]
    assert table.part[0] == table.part[2] != table.part[1] == table.part[3]
    place.done(looks.DestroyMaterial(id=3))
    assert place.drawn_with() == [0, 1, 0, 1]
    place.done(looks.DestroyMaterial(id=1))
    assert place.drawn_with() == [0, 0, 0, 0]


def test_a_models_own_material_is_read_and_edited_for_all_its_users(place: Place) -> None:
    told = place.world.looks.told_materials(1, (1 << 32) - 1)
    assert [(item.id, item.values.name, item.values.roughness) for item in told.materials] == [
        (OWN, "first", 0.25), (OWN + 1, "second", 0.25)
    ]  # fmt: skip
    place.done(looks.SetMaterial(id=OWN + 1, set={"roughness": 0.75}))
    assert place.scene.entries[place.handle].own[1].roughness == 0.75
    assert place.world.looks.told_materials(OWN + 1, OWN + 1).materials[0].values.roughness == 0.75
    other, _ = place.load()
    assert not place.scene.entries[other].own
    assert [item.id - OWN for item in place.world.looks.told_materials(OWN, OWN + 9).materials] == [0, 1, 2, 3]


def test_a_models_own_material_is_put_on_other_parts_and_models_until_its_model_goes(place: Place) -> None:
    other, root = place.load()
    place.done(looks.OverrideMaterials(id=place.root + 1, sub_part=0, material=OWN + 1))
    assert place.drawn_with() == [OWN + 1, 0, 0, 0] and place.scene.shared == {OWN + 1: (place.handle, 1)}
    place.done(
        looks.OverrideMaterials(id=root + 1, sub_part=1, material=OWN + 1),
        looks.SetMeshMaterial(id=root + 2, sub_part=0, material=OWN),
        looks.CreateMaterial(id=5),
        looks.OverrideMaterials(id=root + 2, sub_part=1, material=5),
        looks.OverrideMaterials(id=place.root + 2, sub_part=1, material=OWN + 3),
    )
    worn = place.scene.entries[other].material
    assert worn.tolist() == [OWN, OWN + 1, OWN, 5]
    table, _ = place.world.looks.sub_parts(place.world.meshes, looks.SubPartsParams(first=root), 100)
    assert table.override.tolist() == [0, OWN + 1, 0, 5] and table.replaced.tolist() == [OWN, 0, OWN, 0]
    before = place.scene.material_journal_end
    place.done(looks.SetMaterial(id=OWN + 1, set={"roughness": 0.75}))
    changes = place.scene.material_changes_since(before)
    assert changes is not None and {(change.handle, change.index, change.id) for change in changes} == {
        (place.handle, 1, 0), (0, 0, OWN + 1),
    }  # fmt: skip
    # A command that is refused shares nothing.
    packed = [wire.pack(column, "u4") for column in ([root + 1, root + 1], [0, 1], [OWN, 77])]
    shared = dict(place.scene.shared)
    assert place.apply(looks.OverrideMaterials(ids=packed[0], sub_parts=packed[1], materials=packed[2])) == [
        Result.INVALID_ID
    ]
    assert place.scene.shared == shared and worn.tolist() == [OWN, OWN + 1, OWN, 5]
    place.done(wire.Destroy(id=place.root))
    place.scene.remove(place.handle)
    place.world.remove_model(place.handle)
    assert worn.tolist() == [0, 0, 0, 5]
    assert set(place.scene.shared) == {OWN + 3}, "that of the model that stays"
    assert place.apply(looks.OverrideMaterials(id=root + 1, material=OWN)) == [Result.INVALID_ID]
    table, _ = place.world.looks.sub_parts(place.world.meshes, looks.SubPartsParams(), 100)
    assert table.override.tolist() == [0, 0, 0, 5] and not table.replaced.any()


def test_what_takes_a_models_place_is_dressed_as_it_was(place: Place) -> None:
    place.done(looks.CreateMaterial(id=1), looks.SetMaterial(id=OWN, set={"metalness": 1}))
    place.done(looks.OverrideMaterials(id=place.root + 2, sub_part=0, material=1))
    built = pair()
    place.scene.replace(place.handle, resource(built))
    place.world.replace_model(place.handle, model_tree(built))
    assert place.drawn_with() == [0, 0, 1, 0]
    assert place.scene.entries[place.handle].own[0].metalness == 1.0


def test_what_fades_out_becomes_transparent_by_itself(place: Place) -> None:
    place.done(looks.CreateMaterial(id=1, set={"fadeOut": 0.5}), looks.CreateMaterial(id=2, kind="color"))
    assert place.scene.materials[1].flags & MaterialFlag.TRANSPARENT
    assert not place.world.looks.told_materials(1, 1).materials[0].values.flags & MaterialFlag.TRANSPARENT
    place.done(looks.SetMaterial(id=1, set={"fadeOut": 1}))
    assert not place.scene.materials[1].flags & MaterialFlag.TRANSPARENT
    place.done(looks.SetMaterial(id=2, set={"fadeOut": 0, "flags": int(MaterialFlag.FADE_TO_BLACK)}))
    assert place.scene.materials[2].color_transparency == 0
    place.done(looks.SetMaterial(id=2, set={"flags": 0}))
    assert place.scene.materials[2].color_transparency == 1


def test_lights_stand_where_their_entities_do(place: Place) -> None:
    half = math.sqrt(0.5)
    place.done(
        wire.Create(id=1, position=(0, 5, 0)),
        wire.Create(id=2, parent=1, position=(1, 0, 0), rotation=(0, half, 0, half), scale=(3, 3, 3)),
        looks.SetLight(id=2, kind="point", set={"intensity": 3, "color": [1, 0, 0]}),
        looks.SetLight(id=2, kind="spot"),
    )
    point, spot = place.scene.lights
    assert point.light.intensity == 3.0 and spot.light.kind is LightKind.SPOT
    np.testing.assert_allclose(point.position, (1, 5, 0))
    np.testing.assert_allclose(np.array(point.axes), ((0, 0, -1), (0, 1, 0), (1, 0, 0)), atol=1e-12)
    place.done(wire.SetTransform(id=1, position=(0, 7, 0)))
    np.testing.assert_allclose(place.scene.lights[1].position, (1, 7, 0))
    version = place.scene.version
    place.done(wire.SetTransform(id=place.root, position=(1, 1, 1)))
    assert place.scene.version > version
    lights = place.scene.lights
    assert place.world.looks.components.place(place.world.graph, place.world.graph.update()) is None
    assert place.scene.lights is lights
    place.done(wire.SetEnabled(id=1, enabled=False))
    assert place.scene.lights == ()
    place.done(wire.SetEnabled(id=1, enabled=True), looks.SetLight(id=2, kind="spot", set={"enabled": False}))
    assert len(place.scene.lights) == 1
    place.done(looks.RemoveLight(id=2, kind="point"), looks.SetLight(id=2, kind="spot", set={"enabled": True}))
    assert [placed.light.kind for placed in place.scene.lights] == [LightKind.SPOT]
    place.done(wire.Destroy(id=1))
    assert place.scene.lights == () and not place.world.looks.components.lights


def test_the_first_eight_planes_that_were_enabled_cut(place: Place) -> None:
    for number in range(1, 11):
        place.done(
            wire.Create(id=number, position=(number, 0, 0)),
            looks.SetCutPlane(id=number, set={"normal": "negativeX" if number == 1 else "x"}),
        )
    assert [plane.offset for plane in place.scene.cut_planes] == [-1, 2, 3, 4, 5, 6, 7, 8]
    np.testing.assert_allclose(place.scene.cut_planes[0].normal, (-1, 0, 0))
    place.done(looks.SetCutPlane(id=3, set={"enabled": False}))
    assert [plane.offset for plane in place.scene.cut_planes] == [-1, 2, 4, 5, 6, 7, 8, 9]
    place.done(looks.SetCutPlane(id=3, set={"enabled": True}))
    assert 3 not in [plane.offset for plane in place.scene.cut_planes]
    place.done(looks.SetCutPlane(id=4, set={"filterMask": 0}), wire.SetEnabled(id=5, enabled=False))
    assert [plane.offset for plane in place.scene.cut_planes] == [-1, 2, 6, 7, 8, 9, 10, 3]
    place.done(looks.RemoveCutPlane(id=1))
    assert len(place.scene.cut_planes) == 7


def test_effects_are_set_in_part(place: Place) -> None:
    place.done(
        looks.SetEffects(set={"outline": {"color": [1, 0, 0]}, "pointSize": 2}),
        looks.SetEffects(set={"outline": {"pulseRateHz": 1}, "singleSided": "normal", "sky": {"uri": "builtin://A"}}),
        looks.SetEffects(set={"debug": {"wireframe": True}, "unknown": {"x": 1}}),
    )
    effects = place.scene.effects
    assert effects.outline.color == (1.0, 0.0, 0.0) and effects.outline.pulse_rate_hz == 1.0
    assert effects.debug.wireframe and effects.single_sided == 0 and effects.sky.uri == "builtin://A"
    assert place.scene.point_size == 2.0


def test_clearing_puts_everything_back(place: Place) -> None:
    looks_of = place.world.looks
    texture = looks_of.textures.add("file:///a.png", cube=False, width=4, height=4, levels=1, size_bytes=64)
    place.done(
        wire.Create(id=1),
        looks.CreateMaterial(id=1, set={"albedoMap": texture.id}),
        looks.SetEffects(set={"sky": {"texture": texture.id}, "outline": {"color": [0, 0, 0]}}),
        looks.SetLight(id=1, kind="spot", set={"projectedTexture": texture.id}),
        looks.SetCutPlane(id=1),
        looks.OverrideMaterials(id=place.root + 1, material=1),
    )
    assert place.scene.effects.sky.kind is SkyKind.EQUIRECTANGULAR
    place.scene.remove(place.handle)
    place.world.remove_model(place.handle)
    place.world.clear()
    assert place.scene.lights == place.scene.cut_planes == ()
    assert place.scene.effects == Effects() and not place.scene.materials
    assert looks_of.freed == [texture] and not len(looks_of.textures)


def test_a_texture_lives_while_anything_names_it(place: Place) -> None:
    looks_of = place.world.looks
    texture = looks_of.textures.add("file:///a.png", cube=False, width=4, height=4, levels=1, size_bytes=64)
    cube = looks_of.textures.add("file:///a.dds", cube=True, width=4, height=4, levels=1, size_bytes=64)
    place.done(
        wire.Create(id=1),
        looks.CreateMaterial(id=1, set={"albedoMap": texture.id, "normalMap": texture.id}),
        looks.SetMaterial(id=OWN, set={"emissiveMap": texture.id}),
        looks.SetLight(id=1, kind="point", set={"projectedTexture": cube.id}),
        looks.SetEffects(set={"sky": {"texture": cube.id}}),
    )
    assert place.apply(looks.SetMaterial(id=1, set={"albedoMap": cube.id})) == [Result.INVALID_PARAM]
    wrong = looks.SetLight(id=1, kind="point", set={"projectedTexture": texture.id})
    assert place.apply(wrong) == [Result.INVALID_PARAM]
    place.done(looks.DestroyTexture(id=texture.id), looks.DestroyTexture(id=cube.id))
    assert place.apply(looks.DestroyTexture(id=cube.id)) == [Result.INVALID_ID]
    place.done(looks.DestroyMaterial(id=1), looks.SetEffects(set={"sky": {"texture": 0}}))
    assert not looks_of.freed
    place.done(wire.Destroy(id=1))
    assert looks_of.freed == [cube]
    assert looks_of.textures.want("file:///a.png", cube=False) is texture
    place.done(looks.DestroyTexture(id=texture.id))
    place.scene.remove(place.handle)
    place.world.remove_model(place.handle)
    assert looks_of.freed == [cube, texture]
    assert looks_of.textures.want("file:///a.png", cube=False) is None


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from([0, 1, 2, 5, OWN, looks.OWN_MAP, "builtin://Studio", 1e300, "point", "pbr"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
    max_leaves=6,
)
COMMANDS = st.fixed_dictionaries(
    {"op": st.sampled_from([kind.__struct_config__.tag for kind in looks.AppearanceCommand.__args__])},
    optional={
        "id": st.sampled_from([0, 1, 2, 3, 99, OWN, OWN + 1, OWN + 2, -1, 1 << 40]) | JUNK,
        "kind": st.sampled_from(["pbr", "color", "point", "spot", "directional"]) | JUNK,
        "set": st.dictionaries(st.sampled_from(WORDS), JUNK, max_size=4),
        "subPart": st.integers(-1, 3) | JUNK,
        "material": st.integers(-1, 4) | JUNK,
        "ids": st.text(max_size=12),
    },
)


@settings(max_examples=150, deadline=None)
@given(st.lists(COMMANDS, max_size=30))
def test_garbage_is_refused_by_name_and_what_is_drawn_stays_sound(commands: list[Any]) -> None:
    place = Place()
    place.done(wire.Create(id=1), looks.CreateMaterial(id=1))
    place.world.looks.textures.add("file:///a.png", cube=False, width=4, height=4, levels=1, size_bytes=64)
    raw = [msgspec.Raw(json.dumps(command).encode()) for command in commands]
    decoded = wire.decode_commands(wire.ApplyParams(commands=raw))
    outcome = place.world.apply(decoded)
    assert len(outcome.failures) <= len(commands)
    scene, told = place.scene, place.world.looks
    assert scene.effects.problem() is None
    for state in (*scene.materials.values(), *scene.entries[place.handle].own.values()):
        assert state.problem() is None
        assert 0 <= state.albedo_map < 2 or state.albedo_map == looks.OWN_MAP
    assert all(placed.light.problem() is None for placed in scene.lights)
    assert all(np.isfinite((*placed.normal, placed.offset)).all() for placed in scene.cut_planes)
    assert set(place.drawn_with()) <= {0, *scene.materials}
    for answer in (told.told_materials(1, (1 << 32) - 1), told.told_components(1), told.told_textures(1), told.effects):
        assert msgspec.json.decode(msgspec.json.encode(answer), type=type(answer)) == answer
    place.world.clear()
    assert scene.effects == Effects() and not scene.materials and not scene.lights and not scene.cut_planes


def test_answers_fit_into_messages_whatever_there_is(place: Place) -> None:
    for first in range(1, 1025, 64):
        place.done(*[looks.CreateMaterial(id=n, set={"name": "\0" * 1024}) for n in range(first, first + 64)])
        place.done(*[wire.Create(id=n) for n in range(first, first + 64)])
        place.done(
            *[looks.SetLight(id=n, kind="spot", set={"color": [1e-5 / n] * 3}) for n in range(first, first + 64)]
        )
        place.done(*[looks.SetCutPlane(id=n, set={"fadeLength": 1e-7 * n}) for n in range(first, first + 64)])
    told = place.world.looks
    materials, at = 0, 1
    while at:
        page = told.told_materials(at, 1 << 31)
        assert len(msgspec.json.encode(page)) < 200_000
        materials, at = materials + len(page.materials), page.next
    lights, planes, at = 0, 0, 1
    while at:
        parts = told.told_components(at)
        assert len(msgspec.json.encode(parts)) < 200_000
        lights, planes, at = lights + len(parts.lights), planes + len(parts.cut_planes), parts.next
    assert (materials, lights, planes) == (1025, 1024, 1024)


def test_a_device_cannot_fill_the_server(place: Place) -> None:
    place.done(wire.Create(id=1))
    refused: list[Result] = []
    for first in range(1, 20_001, 4000):
        refused += place.apply(*[looks.CreateMaterial(id=number) for number in range(first, first + 4000)])
    assert refused == [Result.EXCEEDS_MEMORY_LIMIT] * (20_000 - looks.MAX_MATERIALS)
    for first in range(2, 4002, 4000):
        place.done(*[wire.Create(id=number) for number in range(first, first + 4000)])
    lights = place.apply(*[looks.SetLight(id=number, kind="point") for number in range(1, 4001)])
    assert lights == [Result.EXCEEDS_MEMORY_LIMIT] * (4000 - looks.MAX_LIGHTS)
    planes = place.apply(*[looks.SetCutPlane(id=number) for number in range(1, 4001)])
    assert planes == [Result.EXCEEDS_MEMORY_LIMIT] * (4000 - looks.MAX_CUT_PLANES)
    assert len(place.scene.lights) == looks.MAX_LIGHTS
    textures = place.world.looks.textures
    with pytest.raises(Exception, match="at most 1,024 textures"):
        textures.add("x", cube=False, width=1, height=1, levels=1, size_bytes=(1 << 30) + 1)
