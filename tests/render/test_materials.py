"""Materials that a device makes and edits, on pixels: each property against what it has to come to by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from farframe.asset.container import Asset
from farframe.asset.model import Material, Texture, TextureSlot
from farframe.asset.source import FileSource
from farframe.asset.srgb import linear_of_srgb, srgb_of_linear
from farframe.asset.textures_file import TextureData
from farframe.convert.build import BuildOptions, build_asset
from farframe.protocol.link import LoadLimits
from farframe.render import Engine, FrameInput, Quality, RenderScene, TextureResource
from farframe.render.materials import state_of
from farframe.scene.materials import (
    OWN_MAP,
    ColorTransparency,
    MaterialFlag,
    MaterialKind,
    MaterialState,
    VertexAlphaMode,
)
from tests.render.shapes import ModelBuilder, look_at, plane, sphere

SIZE = 96
VIEW = look_at((0, 0, 4.0), aspect=1.0, degrees=20.0)
BACKGROUND = (0.2, 0.3, 0.5)
COLOR = MaterialState(kind=MaterialKind.COLOR, flags=MaterialFlag.NONE)
OPAQUE_GREY = replace(COLOR, albedo_color=(0.5, 0.5, 0.5, 1.0))


def quad(*, color: tuple[int, int, int, int] = (255, 255, 255, 255), own: Material | None = None, **textures: Any):
    """A square that fills the view, with vertex colours."""
    builder = ModelBuilder(textures=list(textures.values()))
    vertices, indices = plane(1.0)
    vertices["color"] = color
    builder.place(builder.part((vertices, indices), own or Material(unlit=True)))
    return builder.build()


def linear(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Linear light of sRGB bytes."""
    return linear_of_srgb(np.ascontiguousarray(pixels[..., :3])).astype(np.float64)


def picture(engine: Engine, scene: RenderScene, samples: int = 1, view: Any = VIEW, size: int = SIZE):
    for _ in range(300):
        frame = engine.render(FrameInput((view,), size, size, Quality(samples=samples), scene))
        pixels = frame.pixels.copy()
        frame.release()
        if engine.residency.idle:
            return pixels
        engine.residency.upload()
    raise AssertionError("pages do not come")


class Stage:
    """A model in a scene whose instances all have material 1."""

    def __init__(self, engine: Engine, model: Any) -> None:
        self.engine = engine
        self.resource = engine.upload(model)
        self.scene = RenderScene()
        self.scene.background = BACKGROUND
        self.handle = self.scene.add(self.resource, np.eye(4))
        count = len(self.resource.instance_part)
        self.scene.update_instances(self.handle, np.arange(count), material=np.ones(count, np.uint32))
        self._textures: list[TextureResource] = []

    def texture(self, number: int, pixels: Any, **more: Any) -> None:
        """Give the scene a texture of (h, w, 1, 2 or 4) bytes."""
        array = np.ascontiguousarray(pixels, np.uint8)
        kind = {1: "r8unorm", 2: "rg8unorm", 4: "rgba8unorm"}[array.shape[2]]
        data = TextureData("t", kind, array.shape[1], array.shape[0], 1, (array.tobytes(),), **more)
        self._textures.append(self.engine.upload_texture(data))
        self.scene.set_texture(number, self._textures[-1])

    def draw(self, state: MaterialState, samples: int = 1) -> NDArray[np.uint8]:
        assert state.problem() is None
        self.scene.set_material(1, state)
        return picture(self.engine, self.scene, samples)

    def middle(self, state: MaterialState) -> NDArray[np.float64]:
        """Linear light in the middle."""
        return linear(self.draw(state))[SIZE // 2, SIZE // 2]

    def close(self) -> None:
        self.engine.release(self.resource)
        for texture in self._textures:
            self.engine.release_texture(texture)


@pytest.fixture
def stage(engine: Engine) -> Iterator[Stage]:
    stage = Stage(engine, quad())
    yield stage
    stage.close()


@pytest.fixture
def colored(engine: Engine) -> Iterator[Stage]:
    """Vertices with half of red and an alpha of 0.4."""
    stage = Stage(engine, quad(color=(128, 255, 255, 102)))
    yield stage
    stage.close()


def close(found: NDArray[np.float64], expected: Any, tolerance: float = 0.012) -> None:
    np.testing.assert_allclose(found, expected, atol=tolerance)


def over(color: Any, alpha: float) -> NDArray[np.float64]:
    return np.asarray(color) * alpha + np.asarray(BACKGROUND) * (1.0 - alpha)


class TestColorMaterials:
    def test_albedo_is_what_is_seen(self, stage: Stage) -> None:
        close(stage.middle(replace(COLOR, albedo_color=(0.1, 0.4, 0.9, 0.2))), (0.1, 0.4, 0.9))

    @pytest.mark.parametrize("samples", [1, 4])
    def test_transparency_modes(self, stage: Stage, samples: int) -> None:
        state = replace(COLOR, albedo_color=(0.1, 0.4, 0.9, 0.25))
        for mode, expected in (
            (ColorTransparency.OPAQUE, (0.1, 0.4, 0.9)),
            (ColorTransparency.ALPHA_BLEND, over((0.1, 0.4, 0.9), 0.25)),
            (ColorTransparency.ADDITIVE, np.array(BACKGROUND) + np.array((0.1, 0.4, 0.9)) * 0.25),
        ):
            found = linear(stage.draw(replace(state, color_transparency=mode), samples))[SIZE // 2, SIZE // 2]
            close(found, expected)

    def test_fade_out_and_fade_to_black(self, stage: Stage) -> None:
        half = replace(OPAQUE_GREY, fade_out=0.5)
        close(stage.middle(half), over((0.5, 0.5, 0.5), 0.5))
        close(stage.middle(replace(half, flags=MaterialFlag.FADE_TO_BLACK)), (0.25, 0.25, 0.25))
        close(stage.middle(replace(half, fade_out=0.0)), BACKGROUND)
        close(stage.middle(replace(half, fade_out=0.0, flags=MaterialFlag.FADE_TO_BLACK)), (0, 0, 0))
        close(stage.middle(OPAQUE_GREY), (0.5, 0.5, 0.5))

    def test_vertex_mix(self, colored: Stage) -> None:
        red = 128 / 255
        state = replace(OPAQUE_GREY, flags=MaterialFlag.USE_VERTEX_COLOR)
        for mix in (1.0, 0.5, 0.0):
            close(colored.middle(replace(state, vertex_mix=mix)), (0.5 * (1 - mix + mix * red), 0.5, 0.5))
        close(colored.middle(OPAQUE_GREY), (0.5, 0.5, 0.5))

    def test_alpha_clipping(self, stage: Stage) -> None:
        state = replace(OPAQUE_GREY, flags=MaterialFlag.ALPHA_CLIPPED, albedo_color=(0.5, 0.5, 0.5, 0.4))
        close(stage.middle(replace(state, alpha_clip_threshold=0.39)), (0.5, 0.5, 0.5))
        close(stage.middle(replace(state, alpha_clip_threshold=0.41)), BACKGROUND)
        blended = replace(state, color_transparency=ColorTransparency.ALPHA_BLEND)
        close(stage.middle(replace(blended, alpha_clip_threshold=0.39)), over((0.5, 0.5, 0.5), 0.4))
        close(stage.middle(replace(blended, alpha_clip_threshold=0.41)), BACKGROUND)

    def test_double_sided(self, engine: Engine, stage: Stage) -> None:
        behind = look_at((0, 0, -4.0), aspect=1.0, degrees=20.0)
        for flags, expected in ((MaterialFlag.NONE, BACKGROUND), (MaterialFlag.DOUBLE_SIDED, (0.5, 0.5, 0.5))):
            stage.scene.set_material(1, replace(OPAQUE_GREY, flags=flags))
            close(linear(picture(engine, stage.scene, view=behind))[SIZE // 2, SIZE // 2], expected)

    def test_texture_coordinates_are_scaled_and_moved(self, stage: Stage) -> None:
        """A texture of four columns: a place u of the square shows column floor(4 * (u * scale + offset)) mod 4."""
        columns = np.zeros((4, 4, 4), np.uint8)
        columns[..., 0] = np.array([0, 80, 160, 240])
        columns[..., 3] = 255
        stage.texture(7, columns, srgb=False)
        # The square is wider than the view; the view's rows and columns map linearly onto it.
        half = 4.0 * np.tan(np.radians(20.0) / 2)
        u = 0.5 + (np.arange(SIZE) + 0.5 - SIZE / 2) / (SIZE / 2) * half / 2.0
        for scale, offset in (((1.0, 1.0), (0.0, 0.0)), ((2.0, 1.0), (0.0, 0.0)), ((-3.0, 1.0), (0.4, 0.0))):
            state = replace(COLOR, albedo_map=7, texcoord_scale=scale, texcoord_offset=offset)
            place = np.mod(4.0 * (u * scale[0] + offset[0]), 4.0)
            row = linear(stage.draw(state))[SIZE // 2, :, 0]
            # Within a column the filter reaches its pure colour only in the middle.
            sure = np.abs(np.mod(place, 1.0) - 0.5) < 0.06
            assert sure.sum() > 4
            close(row[sure], np.floor(place[sure]) * 80 / 255, 0.06)

    def test_fresnel_effect(self, engine: Engine) -> None:
        """On a ball the glow is (1 - cos)^exponent of the angle between normal and eye."""
        builder = ModelBuilder()
        builder.place(builder.part(sphere(slices=256, stacks=128), Material(unlit=True)))
        stage = Stage(engine, builder.build())
        stage.scene.background = (0.0, 0.0, 0.0)
        size, distance = 256, 8.0
        view = look_at((0, 0, distance), aspect=1.0, degrees=16.0)
        for exponent in (0.5, 1.0, 3.0):
            state = replace(
                COLOR,
                albedo_color=(0.1, 0.0, 0.0, 1.0),
                flags=MaterialFlag.FRESNEL_EFFECT,
                fresnel_effect_color=(0.0, 0.5, 0.8),
                fresnel_effect_exponent=exponent,
            )
            stage.scene.set_material(1, state)
            row = linear(picture(engine, stage.scene, view=view, size=size))[size // 2]
            for x in (150, 190, 220):
                # The ray through the pixel meets the unit ball where sin(angle) = b, the ray's distance to its centre.
                slope = (x + 0.5 - size / 2) / (size / 2) * np.tan(np.radians(8.0))
                b = distance * slope / np.hypot(1.0, slope)
                glow = (1.0 - np.sqrt(1.0 - b * b)) ** exponent
                close(row[x], (0.1, 0.5 * glow, 0.8 * glow), 0.02)
        stage.close()


class TestPbrMaterials:
    @pytest.fixture
    def dark(self, stage: Stage) -> Stage:
        """Only the directional light, straight from the eye, too weak to reach the tone mapper's shoulder."""
        stage.scene.environment_intensity = 0.0
        stage.scene.light_direction = (0.0, 0.0, 1.0)
        stage.scene.light_color = (1.0, 1.0, 1.0)
        stage.scene.light_intensity = 1.0
        return stage

    def lit(self, albedo: float, *, highlights: bool, roughness: float = 1.0, metalness: float = 0.0) -> float:
        """Radiance under a light of irradiance 1 from the eye's side, at normal incidence, by the formulas that the
        shader names, and the tone mapper's toe (Khronos PBR Neutral, below its shoulder)."""
        f0 = 0.04 + (albedo - 0.04) * metalness
        fit = np.array([-1.0, -0.0275, -0.572, 0.022]) * roughness + np.array([1.0, 0.0425, 1.04, -0.04])
        a004 = min(fit[0] ** 2, 2.0**-9.28) * fit[0] + fit[1]
        scale, bias = -1.04 * a004 + fit[2], 1.04 * a004 + fit[3]
        multiple = 1.0 + f0 * (1.0 / (scale + bias) - 1.0)
        a2 = max(roughness**2, 0.002) ** 2
        visibility = 0.5 / (2.0 * np.sqrt((1.0 - a2) + a2) + 1e-5)
        fresnel = f0 if highlights else 0.0
        direct = albedo * (1.0 - metalness) / np.pi * (1.0 - fresnel) + fresnel / (np.pi * a2) * visibility * multiple
        return direct - (direct - 6.25 * direct**2 if direct < 0.08 else 0.04)

    @pytest.mark.parametrize("highlights", [True, False])
    @pytest.mark.parametrize("roughness", [1.0, 0.7])
    def test_light_and_specular_highlights(self, dark: Stage, highlights: bool, roughness: float) -> None:
        flags = MaterialFlag.SPECULAR_HIGHLIGHTS if highlights else MaterialFlag.NONE
        state = MaterialState(flags=flags, albedo_color=(0.8, 0.8, 0.8, 1.0), roughness=roughness)
        close(dark.middle(state), [self.lit(0.8, highlights=highlights, roughness=roughness)] * 3, 0.01)

    def test_separate_maps_of_roughness_and_metalness(self, dark: Stage) -> None:
        """Grey maps multiply their numbers, whether they have one channel or four; packed maps by green and blue."""
        flat = np.ones((4, 4, 1), np.uint8)
        dark.texture(2, flat * 204)
        dark.texture(3, flat * 102)
        dark.texture(4, np.dstack([flat * 51, flat * 51, flat * 51, flat * 255]))
        dark.texture(5, np.dstack([flat * 255, flat * 204, flat * 102, flat * 255]))
        base = MaterialState(albedo_color=(0.6, 0.6, 0.6, 1.0), roughness=1.0, metalness=1.0)
        for roughness_map, metalness_map, roughness, metalness in (
            (2, 3, 0.8, 0.4),
            (2, 4, 0.8, 0.2),
            (4, 3, 0.2 * 4, 0.4),
            (5, 5, 0.8, 0.4),
            (0, 3, 0.8, 0.4),
            (2, 0, 0.8, 0.4),
        ):
            state = replace(base, roughness_map=roughness_map, metalness_map=metalness_map)
            if roughness_map == 4:
                continue  # a roughness of 0.2 is a highlight beyond the shoulder: see the next test
            state = replace(
                state, roughness=1.0 if roughness_map else roughness, metalness=1.0 if metalness_map else metalness
            )
            expected = self.lit(0.6, highlights=True, roughness=roughness, metalness=metalness)
            close(dark.middle(state), [expected] * 3, 0.012)

    def test_maps_equal_numbers(self, dark: Stage) -> None:
        grey = np.full((4, 4, 4), 64, np.uint8)
        dark.texture(2, grey)
        base = MaterialState(albedo_color=(0.6, 0.5, 0.4, 1.0), metalness=0.5)
        for name in ("roughness", "metalness"):
            by_number = dark.draw(replace(base, **{name: 64 / 255 * getattr(base, name)}))
            by_map = dark.draw(replace(base, **{f"{name}_map": 2}))
            np.testing.assert_allclose(by_map.astype(int), by_number.astype(int), atol=2)

    def test_albedo_maps_are_srgb_unless_their_file_says_otherwise(self, stage: Stage) -> None:
        texel = np.tile(np.uint8([188, 100, 50, 255]), (4, 4, 1))
        stage.texture(2, texel)
        stage.texture(3, texel, srgb=False)
        close(stage.middle(replace(COLOR, albedo_map=2)), linear_of_srgb(np.uint8([188, 100, 50])))
        close(stage.middle(replace(COLOR, albedo_map=3)), np.array([188, 100, 50]) / 255)
        stage.texture(4, np.full((4, 4, 1), 188, np.uint8))
        close(stage.middle(replace(COLOR, albedo_map=4)), [188 / 255] * 3)

    def test_emission(self, dark: Stage) -> None:
        dark.scene.light_intensity = 0.0
        state = MaterialState(emissive_color=(0.5, 0.25, 0.5))
        # Grey channels lose the tone mapper's offset, see lit.
        close(dark.middle(state), (0.46, 0.21, 0.46))
        dark.texture(2, np.tile(np.uint8([188, 188, 188, 255]), (4, 4, 1)))
        half = float(linear_of_srgb(np.uint8([188]))[0])
        expected = np.array([0.5, 0.25, 0.5]) * half
        close(dark.middle(replace(state, emissive_map=2)), expected - 0.04)

    def test_ambient_occlusion_dims_the_sky_only(self, stage: Stage) -> None:
        stage.texture(2, np.full((4, 4, 1), 64, np.uint8))
        state = MaterialState(albedo_color=(0.3, 0.3, 0.3, 1.0))
        stage.scene.light_intensity = 0.0
        stage.scene.exposure = 0.7
        full = stage.middle(state)
        for scale in (1.0, 0.5):
            dimmed = 1.0 + scale * (64 / 255 - 1.0)
            close(untoned(stage.middle(replace(state, ao_map=2, ao_scale=scale))), untoned(full) * dimmed, 0.015)
        stage.scene.environment_intensity, stage.scene.light_intensity = 0.0, 2.0
        stage.scene.light_direction = (0, 0, 1)
        close(stage.middle(replace(state, ao_map=2)), stage.middle(state), 1e-6)

    def test_vertex_alpha_modes(self, engine: Engine) -> None:
        alpha = 0.4
        colored = Stage(engine, quad(color=(255, 255, 255, 102)))
        scene = colored.scene
        state = MaterialState(
            flags=MaterialFlag.SPECULAR_HIGHLIGHTS | MaterialFlag.USE_VERTEX_COLOR, albedo_color=(0.3, 0.3, 0.3, 1.0)
        )
        plain = replace(state, vertex_alpha_mode=VertexAlphaMode.OPACITY)
        for sky, light, factors in (
            (1.0, 0.0, {VertexAlphaMode.OCCLUSION: alpha, VertexAlphaMode.LIGHT_MASK: alpha}),
            (0.0, 1.5, {VertexAlphaMode.OCCLUSION: 1.0, VertexAlphaMode.LIGHT_MASK: alpha}),
        ):
            scene.environment_intensity, scene.light_intensity, scene.light_direction = sky, light, (0, 0, 1)
            full = untoned(colored.middle(plain))  # seen only if transparent
            for mode, factor in factors.items():
                close(untoned(colored.middle(replace(state, vertex_alpha_mode=mode))), full * factor, 0.015)
        transparent = replace(plain, flags=plain.flags | MaterialFlag.TRANSPARENT | MaterialFlag.FADES_REFLECTIONS)
        close(colored.middle(transparent), over(colored.middle(plain), alpha))
        colored.close()

    def test_transparent_surfaces_still_reflect(self, stage: Stage) -> None:
        state = MaterialState(
            flags=MaterialFlag.SPECULAR_HIGHLIGHTS | MaterialFlag.TRANSPARENT,
            albedo_color=(1.0, 1.0, 1.0, 0.0),
            roughness=0.5,
        )
        stage.scene.light_direction, stage.scene.light_intensity = (0.0, 0.0, 1.0), 3.0
        found = stage.middle(state)
        black = stage.middle(replace(state, flags=MaterialFlag.SPECULAR_HIGHLIGHTS, albedo_color=(0, 0, 0, 1)))
        assert black.max() > 0.05
        close(found, np.array(BACKGROUND) + black, 0.006)
        close(stage.middle(replace(state, flags=state.flags | MaterialFlag.FADES_REFLECTIONS)), BACKGROUND, 0.003)

    def test_normal_maps_without_tangents_bend_light_as_those_with(self, dark: Stage) -> None:
        """A square's normal (x, y, z) of the map is that of the world: u runs along +X, v downwards."""
        dark.scene.light_intensity = 2.0
        state = MaterialState(flags=MaterialFlag.NONE, albedo_color=(0.5, 0.5, 0.5, 1.0), normal_map=2)
        for number, normal in enumerate([(0.6, 0.0, 0.8), (0.0, 0.6, 0.8), (-0.48, -0.36, 0.8)]):
            texel = np.rint((np.array([*normal, 1.0]) * 0.5 + 0.5) * 255).astype(np.uint8)
            dark.texture(2, np.tile(texel, (4, 4, 1)))
            for light in ((0.6, 0.0, 0.8), (0.0, 0.6, 0.8), (-0.6, 0.0, 0.8)):
                dark.scene.light_direction = light
                cosine = max(0.0, float(np.dot(normal, light)))
                diffuse = 0.5 / np.pi * 2.0 * cosine
                expected = diffuse - (diffuse - 6.25 * diffuse**2 if diffuse < 0.08 else 0.04)
                close(dark.middle(state), [expected] * 3, 0.02)
            assert number < 3
        # No scale is no bend at all.
        dark.scene.light_direction = (0, 0, 1)
        flat = dark.middle(replace(state, normal_map=0))
        close(dark.middle(replace(state, normal_map_scale=0.0)), flat, 0.01)

    def test_normal_maps_of_two_channels(self, dark: Stage) -> None:
        dark.texture(2, np.tile(np.uint8([204, 128]), (4, 4, 1)), srgb=False)
        dark.texture(3, np.tile(np.uint8([204, 128, 230, 255]), (4, 4, 1)), srgb=False)
        dark.scene.light_direction = (1, 0.3, 1)
        state = MaterialState(flags=MaterialFlag.NONE, normal_map=2)
        np.testing.assert_allclose(dark.middle(state), dark.middle(replace(state, normal_map=3)), atol=0.01)


def untoned(color: NDArray[np.float64]) -> NDArray[np.float64]:
    """Grey radiance before the tone mapper, below its shoulder."""
    color = np.asarray(color, np.float64)
    return np.where(color < 0.04, np.sqrt(color / 6.25), color + 0.04)


class TestOwnMaterials:
    @pytest.fixture(params=["model", "asset"])
    def resource(self, engine: Engine, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
        """A model with most kinds of own materials, side by side, plain or as an asset."""
        random = np.random.default_rng(5)
        noise = random.integers(60, 255, (16, 16, 4), np.uint8)
        noise[..., 3] = np.where(np.arange(16) % 4 < 2, 255, 90)[None]
        normal = np.full((16, 16, 4), 255, np.uint8)
        normal[..., :2] = random.integers(108, 148, (16, 16, 2))
        builder = ModelBuilder(textures=[Texture(noise, srgb=True), Texture(noise, srgb=False), Texture(normal, False)])
        color, data, bumps = TextureSlot(0), TextureSlot(1, 1), TextureSlot(2)
        materials = [
            Material(base_color=(0.7, 0.2, 0.1, 1), metallic=0.3, roughness=0.5),
            Material(base_color_texture=color, metallic_roughness_texture=data, normal_texture=bumps),
            Material(base_color_texture=color, alpha_mode="mask", alpha_cutoff=0.5, double_sided=True),
            Material(base_color=(0.2, 0.5, 0.9, 0.4), alpha_mode="blend", roughness=0.2),
            Material(base_color_texture=color, unlit=True),
            Material(base_color_texture=color, unlit=True, alpha_mode="blend"),
            Material(emissive=(0.5, 0.4, 0.1), emissive_texture=color, occlusion_texture=data),
        ]
        for number, material in enumerate(materials):
            mesh = sphere(slices=32, stacks=16)
            if number in (0, 3):
                mesh[0]["color"] = (255, 180, 255, 200)
            builder.place(builder.part(mesh, material), ((number - 3) * 2.2, 0, 0))
        model = builder.build()
        if request.param == "model":
            resource = engine.upload(model)
            yield resource
            engine.release(resource)
            return
        path = tmp_path / "materials.arrAsset"
        build_asset(model, path, BuildOptions(workers=1))
        asset = Asset.open(FileSource(path), LoadLimits())
        resource = engine.open_asset(asset)
        yield resource
        engine.release(resource)
        asset.close()

    VIEW = look_at((0, 2.0, 20.0), aspect=4.0, degrees=12.0)

    def draw(self, engine: Engine, scene: RenderScene) -> NDArray[np.uint8]:
        for _ in range(300):
            frame = engine.render(FrameInput((self.VIEW,), 480, 120, Quality(samples=1, cut_error=0.2), scene))
            pixels = frame.pixels.copy()
            frame.release()
            if engine.residency.idle:
                return pixels
            engine.residency.upload()
        raise AssertionError("pages do not come")

    def test_as_states_they_look_as_in_their_file(self, engine: Engine, resource: Any) -> None:
        scene = RenderScene()
        handle = scene.add(resource, np.eye(4))
        before = self.draw(engine, scene)
        uses = [bool(resource.parts.vertex_color[resource.parts.material == n].any()) for n in range(7)]
        assert sum(uses) == 2
        for index, material in enumerate(resource.materials):
            scene.set_own_material(handle, index, state_of(material, vertex_color=uses[index]))
        np.testing.assert_allclose(self.draw(engine, scene).astype(int), before.astype(int), atol=2)
        scene.set_own_material(
            handle, 0, replace(state_of(resource.materials[0], vertex_color=True), albedo_color=(0, 0, 1, 1))
        )
        after = self.draw(engine, scene)
        changed = (after != before).any(axis=(0, 2))
        assert changed[:84].mean() > 0.3, "the first ball is another"
        assert not changed[86:].any(), "and the rest as it was"
        scene.set_own_material(handle, 0, None)
        for index in range(1, 7):
            scene.set_own_material(handle, index, None)
        np.testing.assert_array_equal(self.draw(engine, scene), before)

    def test_instances_take_materials_and_give_them_back(self, engine: Engine, resource: Any) -> None:
        scene = RenderScene()
        handle = scene.add(resource, np.eye(4))
        before = self.draw(engine, scene)
        scene.set_material(9, replace(COLOR, albedo_color=(0, 1, 0, 1)))
        rows = np.array([1, 3])
        scene.update_instances(handle, rows, material=np.full(2, 9, np.uint32))
        after = self.draw(engine, scene)
        width = 480 / (2 * 20.1 * np.tan(np.radians(6.0)) * 4)
        for number in range(7):
            x = round(240 + (number - 3) * 2.2 * width)
            if number in (1, 3):
                np.testing.assert_array_equal(after[60, x, :3], (0, 255, 0))
            else:
                np.testing.assert_array_equal(after[60, x], before[60, x])
        # What is built anew looks as what was written over.
        other = RenderScene()
        other.set_material(9, replace(COLOR, albedo_color=(0, 1, 0, 1)))
        other.update_instances(other.add(resource, np.eye(4)), rows, material=np.full(2, 9, np.uint32))
        np.testing.assert_array_equal(self.draw(engine, other), after)
        scene.set_material(9, None)
        np.testing.assert_array_equal(self.draw(engine, scene), before)
        scene.set_material(9, replace(COLOR, albedo_color=(0, 1, 0, 1)))
        np.testing.assert_array_equal(self.draw(engine, scene), after)
        scene.update_instances(handle, rows, material=np.zeros(2, np.uint32))
        np.testing.assert_array_equal(self.draw(engine, scene), before)

    def test_own_maps_stay_under_edited_numbers(self, engine: Engine, resource: Any) -> None:
        scene = RenderScene()
        handle = scene.add(resource, np.eye(4))
        state = state_of(resource.materials[1], vertex_color=False)
        assert state.albedo_map == state.normal_map == state.roughness_map == OWN_MAP
        scene.set_own_material(handle, 1, replace(state, albedo_color=(1.0, 0.0, 0.0, 1.0)))
        red = self.draw(engine, scene)[45:75, 100:130].astype(int)
        assert red[..., 0].std() > 8, "the texture is still seen"
        scene.set_own_material(handle, 1, replace(state, albedo_color=(1.0, 0.0, 0.0, 1.0), albedo_map=0))
        smooth = self.draw(engine, scene)[45:75, 100:130].astype(int)
        assert smooth[..., 0].mean() > red[..., 0].mean() + 5, "and now it is not"

    @pytest.fixture
    def others(self, engine: Engine) -> Iterator[Any]:
        """The same balls in the same places, all of one plain material, in a model of their own."""
        builder = ModelBuilder("others")
        for number in range(7):
            mesh = sphere(slices=32, stacks=16)
            if number in (0, 3):
                mesh[0]["color"] = (255, 180, 255, 200)
            builder.place(builder.part(mesh, Material(base_color=(0.05, 0.05, 0.05, 1.0))), ((number - 3) * 2.2, 0, 0))
        resource = engine.upload(builder.build())
        yield resource
        engine.release(resource)

    @staticmethod
    def balls(picture: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
        """The middles of the seven balls."""
        width = 480 / (2 * 20.1 * np.tan(np.radians(6.0)) * 4)
        centers = [round(240 + (number - 3) * 2.2 * width) for number in range(7)]
        return [picture[45:75, x - 15 : x + 15, :3].astype(np.int64) for x in centers]

    def test_shared_they_look_alike_on_another_model_with_their_maps(
        self, engine: Engine, resource: Any, others: Any
    ) -> None:
        scene = RenderScene()
        there = scene.add(resource, np.eye(4))
        wanted = self.balls(self.draw(engine, scene))
        source = np.eye(4)
        source[1, 3] = 500.0  # far out of the picture
        scene.remove(there)
        there, here = scene.add(resource, source), scene.add(others, np.eye(4))
        plain = self.draw(engine, scene)
        for index in range(7):
            scene.share_material(100 + index, there, index)
        rows = np.arange(7)
        scene.update_instances(here, rows, material=(100 + rows).astype(np.uint32))
        dressed = self.draw(engine, scene)
        for number, (seen, ball) in enumerate(zip(self.balls(dressed), wanted, strict=True)):
            # Without tangents of the part the bumps are seen by derived ones.
            assert np.abs(seen - ball).mean() < (8.0 if number == 1 else 2.0), number
            assert np.abs(self.balls(plain)[number] - ball).mean() > 10.0, number
        # What is built anew looks as what was written over.
        other = RenderScene()
        again, first = other.add(resource, source), other.add(others, np.eye(4))
        for index in range(7):
            other.share_material(100 + index, again, index)
        other.update_instances(first, rows, material=(100 + rows).astype(np.uint32))
        np.testing.assert_array_equal(self.draw(engine, other), dressed)
        # They follow edits, keep their maps in them, and go with their model.
        state = state_of(resource.materials[4], vertex_color=False)
        scene.set_own_material(there, 4, replace(state, albedo_color=(1.0, 0.0, 0.0, 1.0)))
        red = self.balls(self.draw(engine, scene))[4]
        assert red[..., 0].std() > 8 and red[..., 1:].max() < 3
        scene.set_own_material(there, 4, None)
        np.testing.assert_array_equal(self.draw(engine, scene), dressed)
        scene.set_material(104, None)
        unshared = self.draw(engine, scene)
        np.testing.assert_array_equal(self.balls(unshared)[4], self.balls(plain)[4])
        np.testing.assert_array_equal(self.balls(unshared)[5], self.balls(dressed)[5])
        scene.remove(there)
        assert not scene.shared
        np.testing.assert_array_equal(self.draw(engine, scene), plain)

    def test_a_resource_that_is_freed_takes_its_shared_materials_along(
        self, engine: Engine, resource: Any, others: Any
    ) -> None:
        """Even where the model is still placed: drawn without, not an error."""
        model = ModelBuilder(textures=[Texture(np.full((4, 4, 4), 255, np.uint8), srgb=True)])
        model.place(model.part(sphere(), Material(base_color_texture=TextureSlot(0), unlit=True)), (0, 500, 0))
        brief = engine.upload(model.build())
        scene = RenderScene()
        there, here = scene.add(brief, np.eye(4)), scene.add(others, np.eye(4))
        plain = self.draw(engine, scene)
        scene.share_material(9, there, 0)
        scene.update_instances(here, np.array([2]), material=np.array([9], np.uint32))
        assert (self.balls(self.draw(engine, scene))[2] == 255).all()
        engine.release(brief)
        np.testing.assert_array_equal(self.draw(engine, scene), plain)


def test_textures_that_go_leave_plain_surfaces(stage: Stage) -> None:
    stage.texture(2, np.tile(np.uint8([0, 188, 0, 255]), (4, 4, 1)))
    state = replace(COLOR, albedo_map=2, albedo_color=(0.5, 0.5, 0.5, 1.0))
    green = 0.5 * float(linear_of_srgb(np.uint8([188]))[0])
    close(stage.middle(state), (0.0, green, 0.0))
    stage.scene.set_texture(2, None)
    close(stage.middle(state), (0.5, 0.5, 0.5))
    stage.texture(2, np.tile(np.uint8([188, 0, 0, 255]), (4, 4, 1)))
    close(stage.middle(state), (green, 0.0, 0.0))
    # Freed while it is named: drawn without, not an error.
    stage.engine.release_texture(stage.scene.textures[2])
    close(stage.middle(replace(state, name="touched")), (0.5, 0.5, 0.5))


def test_only_ids_and_indices_that_mean_something_are_taken(stage: Stage) -> None:
    with pytest.raises(ValueError):
        stage.scene.set_material(0, COLOR)
    with pytest.raises(ValueError):
        stage.scene.set_texture(OWN_MAP, None)
    with pytest.raises(IndexError):
        stage.scene.set_own_material(stage.handle, 1, COLOR)
    with pytest.raises(KeyError):
        stage.scene.set_own_material(99, 0, COLOR)
    with pytest.raises(ValueError):
        stage.scene.share_material(0, stage.handle, 0)
    with pytest.raises(IndexError):
        stage.scene.share_material(5, stage.handle, 1)
    with pytest.raises(KeyError):
        stage.scene.share_material(5, 99, 0)


def test_srgb_tables_agree() -> None:
    """What the expectations above are read with."""
    codes = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(srgb_of_linear(linear_of_srgb(codes)), codes)
