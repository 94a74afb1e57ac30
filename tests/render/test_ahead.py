"""What may come is compiled beforehand: nothing of it costs the picture that first shows it a pipeline."""

from __future__ import annotations

import numpy as np

from farframe.asset.model import Material, Texture, TextureSlot
from farframe.render import Engine, FrameInput, Quality, RenderScene
from farframe.render.ahead import OCCASIONS
from farframe.scene.effects import CutPlane, PlacedCutPlane
from farframe.scene.lights import Light, LightKind, PlacedLight
from farframe.scene.states import State
from tests.render.shapes import ModelBuilder, look_at, sphere


def scene_of(engine: Engine) -> tuple[RenderScene, int]:
    """A plain ball, one of two sides, a textured one, and one that is mirrored."""
    builder = ModelBuilder()
    texture = TextureSlot(0)
    for material in (Material(), Material(double_sided=True), Material(base_color_texture=texture)):
        builder.place(builder.part(sphere(0.5, 8, 4), material))
    builder.place(builder.part(sphere(0.5, 8, 4), Material()), scale=(-1.0, 1.0, 1.0))
    builder.textures.append(Texture(np.full((4, 4, 4), 200, np.uint8), srgb=True))
    scene = RenderScene()
    return scene, scene.add(engine.upload(builder.build()), np.eye(4))


def draw(engine: Engine, scene: RenderScene) -> None:
    """As in motion and as at rest."""
    for quality in (Quality(1, 0.5, 1.0), Quality()):
        engine.render(FrameInput((look_at((0, 0, 5)),), 64, 64, quality, scene)).release()


def everything_happens(engine: Engine, scene: RenderScene, handle: int) -> dict[str, int]:
    """Pipelines that pictures made, by what had happened before them."""
    rows = np.arange(4)
    made: dict[str, int] = {}

    def drawn(name: str) -> None:
        before = engine.pipelines.created
        draw(engine, scene)
        made[name] = engine.pipelines.created - before

    for name, state in (("selected", State.SELECTED), ("see-through", State.SEE_THROUGH), ("shell", State.SHELL)):
        scene.update_instances(handle, rows, states=np.full(4, int(state), np.uint32))
        drawn(name)
    scene.update_instances(handle, rows, states=np.zeros(4, np.uint32))
    normals = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    for name, count in (("cut", 1), ("cut twice", 2)):
        scene.cut_planes = tuple(PlacedCutPlane(CutPlane(), normal, 0.0) for normal in normals[:count])
        drawn(name)
    for name, count in (("cut and closed", 1), ("cut twice and closed", 2)):
        planes = (CutPlane(capped=True), CutPlane(capped=True))
        places = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0))
        scene.cut_planes = tuple(map(PlacedCutPlane, planes, places, (0.0, 0.0)))[:count]
        drawn(name)
    scene.cut_planes = ()
    for name, kind in (("lit", LightKind.POINT), ("lit by a spot", LightKind.SPOT)):
        scene.lights = (PlacedLight(Light(kind), (0.0, 0.0, 2.0)),)
        drawn(name)
    scene.lights = ()
    scene.update_instances(handle, rows, tint=np.tile(np.array([1.0, 0.0, 0.0, 0.5], np.float32), (4, 1)))
    drawn("tinted")
    return made


def test_pictures_make_no_pipeline_for_what_was_prepared(fresh: Engine) -> None:
    fresh.warm_up()
    scene, handle = scene_of(fresh)
    draw(fresh, scene)
    before = fresh.pipelines.created
    steps = 1
    while fresh.prepare_ahead():
        steps += 1
    assert steps >= 2 * len(OCCASIONS), "a step is small: one kind of surface, one occasion, one sample count"
    assert fresh.pipelines.created > before
    made = everything_happens(fresh, scene, handle)
    assert set(made) == set(OCCASIONS)
    assert made == dict.fromkeys(made, 0)
    assert not fresh.prepare_ahead()


def test_without_it_each_of_them_would_cost_a_picture(fresh: Engine) -> None:
    scene, handle = scene_of(fresh)
    draw(fresh, scene)
    assert min(everything_happens(fresh, scene, handle).values()) > 0


def test_what_was_released_is_prepared_no_more_and_the_plainest_is_before_any_model(fresh: Engine) -> None:
    scene, handle = scene_of(fresh)
    resource = scene.entries[handle].resource
    assert fresh.prepare_ahead()
    scene.remove(handle)
    fresh.release(resource)
    made = fresh.pipelines.created
    assert not fresh.prepare_ahead()
    assert fresh.pipelines.created == made
    fresh.warm_up()
    held = fresh.model_bytes
    while fresh.prepare_ahead():
        pass
    assert fresh.model_bytes == held, "the model that it was done with is gone"
    builder = ModelBuilder()
    builder.place(builder.part(sphere(0.5, 8, 4), Material()))
    builder.place(builder.part(sphere(0.5, 8, 4), Material(double_sided=True)))
    made = fresh.pipelines.created
    fresh.upload(builder.build())
    while fresh.prepare_ahead():
        pass
    assert fresh.pipelines.created == made
