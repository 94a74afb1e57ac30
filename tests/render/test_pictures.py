"""Does it look right? Pictures against references that a person has looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from farframe.asset.model import Material, Model, Texture, TextureSlot
from farframe.protocol.records import View
from farframe.render import Engine, FrameInput, Quality, RenderScene
from tests.render.pictures import assert_picture
from tests.render.shapes import ModelBuilder, box, look_at, plane, sphere

WIDTH, HEIGHT = 480, 270


def draw(
    engine: Engine, model: Model, view: View, scene: RenderScene | None = None, quality: Quality | None = None
) -> NDArray[np.uint8]:
    scene = scene or RenderScene()
    resource = engine.upload(model)
    handle = scene.add(resource, np.eye(4))
    frame = engine.render(FrameInput((view,), WIDTH, HEIGHT, quality or Quality(), scene))
    pixels = frame.pixels.copy()
    frame.release()
    scene.remove(handle)
    engine.release(resource)
    return pixels


def checker(color_a: tuple[int, ...], color_b: tuple[int, ...], size: int = 64, cells: int = 8) -> NDArray[np.uint8]:
    row, column = np.mgrid[0:size, 0:size] * cells // size
    return np.where(((row + column) % 2)[..., None], np.array(color_a), np.array(color_b)).astype(np.uint8)


def bumps(size: int = 128, cells: int = 6) -> NDArray[np.uint8]:
    """A normal map of round bumps."""
    v, u = (np.mgrid[0:size, 0:size] + 0.5) / size * cells % 1.0 * 2.0 - 1.0
    inside = (u * u + v * v < 0.75)[..., None]
    z = np.sqrt(np.maximum(1.0 - u * u - v * v, 0.0))
    normal = np.where(inside, np.stack([u, -v, z], -1), np.array([0.0, 0.0, 1.0]))
    rgb = np.rint(normal * 127.5 + 127.5).astype(np.uint8)
    return np.dstack([rgb, np.full((size, size), 255, np.uint8)])


def test_material_spheres(engine: Engine) -> None:
    builder = ModelBuilder()
    for row, (color, metallic) in enumerate(
        [((0.80, 0.03, 0.03), 0.0), ((0.95, 0.95, 0.95), 1.0), ((1.0, 0.77, 0.34), 1.0), ((0.9, 0.9, 0.9), 0.0)]
    ):
        for column in range(7):
            material = Material(base_color=(*color, 1.0), metallic=metallic, roughness=column / 6)
            builder.place(builder.part(sphere(), material), ((column - 3) * 2.3, (1.5 - row) * 2.3, 0))
    pixels = draw(engine, builder.build(), look_at((0, 2, 19), degrees=30))
    assert_picture("material-spheres", pixels)


def test_metalness_steps(engine: Engine) -> None:
    builder = ModelBuilder()
    for row in range(3):
        for column in range(6):
            material = Material(base_color=(0.10, 0.32, 0.62, 1.0), metallic=column / 5, roughness=0.15 + 0.3 * row)
            builder.place(builder.part(sphere(), material), ((column - 2.5) * 2.3, (1 - row) * 2.3, 0))
    assert_picture("metalness-steps", draw(engine, builder.build(), look_at((0, 1, 15), degrees=32)))


def test_textures(engine: Engine) -> None:
    """From left: base colour; normal map; metallic-roughness; occlusion; emissive."""
    builder = ModelBuilder()
    emission = np.zeros((64, 64, 4), np.uint8)
    emission[28:36, :, :] = (40, 220, 255, 255)
    shade = np.full((64, 64, 4), 255, np.uint8)
    shade[..., 0] = np.abs(np.linspace(-255, 255, 64))[None, :]
    builder.textures = [
        Texture(checker((200, 60, 30, 255), (240, 220, 190, 255)), srgb=True),
        Texture(bumps(), srgb=False),
        Texture(checker((0, 40, 255, 255), (0, 200, 0, 255)), srgb=False),
        Texture(shade, srgb=False),
        Texture(emission, srgb=True),
    ]
    grey = (0.6, 0.6, 0.6, 1.0)
    materials = [
        Material(metallic=0.0, roughness=0.4, base_color_texture=TextureSlot(0)),
        Material(metallic=0.0, roughness=0.35, base_color=grey, normal_texture=TextureSlot(1)),
        Material(base_color=(0.9, 0.7, 0.4, 1.0), metallic_roughness_texture=TextureSlot(2)),
        Material(metallic=0.0, roughness=0.8, occlusion_texture=TextureSlot(3)),
        Material(
            metallic=0.0,
            roughness=0.5,
            base_color=(0.05, 0.05, 0.06, 1.0),
            emissive=(2.0, 2.0, 2.0),
            emissive_texture=TextureSlot(4),
        ),
    ]
    for index, material in enumerate(materials):
        builder.place(builder.part(sphere(), material), ((index - 2) * 2.2, 0, 0))
    assert_picture("textures", draw(engine, builder.build(), look_at((0, 1.2, 12), degrees=30)))


def test_all_textures_on_a_box(engine: Engine) -> None:
    builder = ModelBuilder()
    builder.textures = [
        Texture(checker((180, 185, 190, 255), (90, 95, 105, 255), cells=4), srgb=True),
        Texture(bumps(cells=4), srgb=False),
        Texture(checker((255, 90, 255, 255), (120, 160, 0, 255), cells=4), srgb=False),
    ]
    material = Material(
        base_color_texture=TextureSlot(0),
        normal_texture=TextureSlot(1),
        metallic_roughness_texture=TextureSlot(2),
        occlusion_texture=TextureSlot(2),
    )
    builder.place(builder.part(box(), material))
    assert_picture("all-textures", draw(engine, builder.build(), look_at((3.2, 2.4, 4), degrees=33)))


def test_alpha_modes(engine: Engine) -> None:
    """From left: opaque ignores alpha; mask cuts it; blend, three panes one behind the other."""
    builder = ModelBuilder()
    dots = np.full((128, 128, 4), (40, 90, 200, 255), np.uint8)
    v, u = np.mgrid[0:128, 0:128] % 32 - 15.5
    dots[..., 3] = np.where(u * u + v * v < 120, 255, 0)
    builder.textures = [Texture(dots, srgb=True)]
    for index, mode in enumerate(("opaque", "mask")):
        material = Material(
            metallic=0.0, roughness=0.5, alpha_mode=mode, base_color_texture=TextureSlot(0), double_sided=True
        )
        builder.place(builder.part(plane(), material), ((index - 1) * 2.2 - 0.2, 0, 0))
    # Listed front to back, so that drawing them in the order of the file would be wrong.
    for depth, color in ((0.5, (0.9, 0.1, 0.1)), (0.0, (0.1, 0.8, 0.2)), (-0.5, (0.1, 0.2, 0.9))):
        material = Material(base_color=(*color, 0.55), metallic=0.0, roughness=0.3, alpha_mode="blend")
        builder.place(builder.part(plane(0.7), material), (1.9 + depth * 0.8, depth * 0.6, depth))
    assert_picture("alpha-modes", draw(engine, builder.build(), look_at((0, 0.4, 9), degrees=30)))


def test_vertex_colors_uv_sets_unlit_and_mirrors(engine: Engine) -> None:
    """From left: vertex colours; UV set 1 (twice as fine as set 0); a mirrored instance; unlit; a back side."""
    builder = ModelBuilder()
    builder.textures = [
        Texture(checker((235, 235, 235, 255), (60, 60, 60, 255), cells=4), srgb=True),
        Texture(bumps(cells=3), srgb=False),
    ]
    tinted, indices = sphere()
    tinted["color"][:, :3] = np.rint((tinted["position"] * 0.5 + 0.5) * 255)
    builder.place(builder.part((tinted, indices), Material(metallic=0.0, roughness=0.5)), (-4.4, 0, 0))
    double, indices = sphere()
    double["uv1"] = double["uv0"] * 3
    fine = Material(metallic=0.0, roughness=0.6, base_color_texture=TextureSlot(0, uv_set=1))
    builder.place(builder.part((double, indices), fine), (-2.2, 0, 0))
    bumpy = Material(metallic=0.0, roughness=0.3, base_color=(0.2, 0.5, 0.3, 1.0), normal_texture=TextureSlot(1))
    builder.place(builder.part(box(0.75), bumpy), (0, 0, 0), (-1.0, 1.0, 1.0))
    builder.place(builder.part(sphere(), Material(base_color=(0.95, 0.45, 0.1, 1.0), unlit=True)), (2.2, 0, 0))
    back = Material(base_color=(0.7, 0.3, 0.7, 1.0), metallic=0.0, roughness=0.4, double_sided=True)
    builder.place(builder.part(plane(0.9), back), (4.4, 0, 0), (-1.0, 1.0, -1.0))
    assert_picture("colors-uv-mirror-unlit", draw(engine, builder.build(), look_at((0, 1.5, 12), degrees=30)))


def test_lights_and_background(engine: Engine) -> None:
    builder = ModelBuilder()
    builder.place(builder.part(sphere(), Material(metallic=0.0, roughness=0.25)), (-1.2, 0, 0))
    builder.place(builder.part(sphere(), Material(metallic=1.0, roughness=0.05)), (1.2, 0, 0))
    scene = RenderScene()
    scene.light_direction = (-1.0, 0.4, 0.3)
    scene.light_color = (1.0, 0.6, 0.3)
    scene.light_intensity = 4.0
    scene.environment_intensity = 0.35
    scene.environment_rotation = 1.2
    scene.exposure = 1.2
    scene.background = (0.01, 0.012, 0.02)
    assert_picture("lights-background", draw(engine, builder.build(), look_at((0, 0.5, 6), degrees=30), scene))


def test_motion_quality_looks_like_full_quality(engine: Engine) -> None:
    builder = ModelBuilder()
    builder.place(builder.part(sphere(), Material(base_color=(0.8, 0.1, 0.1, 1.0), metallic=0.0, roughness=0.4)))
    model, view = builder.build(), look_at((0, 0.5, 4), degrees=33)
    still = draw(engine, model, view).astype(int)
    moving = draw(engine, model, view, quality=Quality(samples=1)).astype(int)
    difference = np.abs(still - moving).max(axis=2)
    # Only the silhouette may differ: about its length in pixels of 129,600.
    assert (difference > 6).mean() < 0.008
    assert np.percentile(difference, 98) <= 2


@pytest.mark.parametrize(
    ("name", "eye", "target"),
    [
        ("Duck.glb", (2.2, 1.7, 2.6), (0.1, 0.85, 0.0)),
        ("2CylinderEngine.glb", (520.0, 330.0, 560.0), (0.0, 0.0, 0.0)),
    ],
)
def test_real_models(engine: Engine, models_folder: Path, name: str, eye: tuple, target: tuple) -> None:
    from farframe.asset.gltf import read_gltf
    from farframe.protocol.link import LoadLimits

    path = models_folder / name
    assert path.exists(), f"{path} is missing"
    model = read_gltf(path, LoadLimits())
    scene = RenderScene()
    view = look_at(eye, target, near=0.05, far=5000.0)
    assert_picture(Path(name).stem, draw(engine, model, view, scene))
