"""The build as a whole: progress, giving up, texture roles, points, what the file says of itself."""

from __future__ import annotations

import numpy as np
import pytest

from farframe.asset.container import Asset
from farframe.asset.format import POINT_DTYPE
from farframe.asset.model import Material, TextureSlot
from farframe.asset.source import FileSource
from farframe.convert.build import BuildOptions, build_asset
from farframe.convert.build_textures import plain_texture, texture_role
from farframe.convert.points import PointCloud
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import LoadLimits
from tests.convert.surfaces import built, model_of, sphere


def test_progress_never_falls_and_ends(tmp_path):
    told: list[tuple[str, float]] = []
    model = model_of(sphere(3_000, uv=True), sphere(500, uv=True), textured=True)
    build_asset(
        model, tmp_path / "x.arrAsset", BuildOptions(workers=1), lambda stage, share: told.append((stage, share))
    )
    shares = [share for _, share in told]
    assert shares == sorted(shares) and shares[0] == 0.0 and shares[-1] == 1.0
    assert {stage for stage, _ in told} >= {"clusters", "textures", "writing"}


def test_giving_up_leaves_nothing(tmp_path):
    class EnoughError(Exception):
        pass

    def give_up(stage: str, share: float) -> None:
        if share > 0.3:
            raise EnoughError

    with pytest.raises(EnoughError):
        build_asset(model_of(sphere(2_000)), tmp_path / "x.arrAsset", BuildOptions(workers=1), give_up)
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "x.arrAsset"
    path.write_bytes(b"old")
    broken = model_of(sphere(200))
    broken.vertices["position"][5] = np.inf
    with pytest.raises(FarframeError) as error:
        build_asset(broken, path, BuildOptions(workers=1))
    assert error.value.result is Result.FILE_CORRUPT and error.value.next_step
    assert path.read_bytes() == b"old"
    build_asset(model_of(sphere(200)), path, BuildOptions(workers=1))
    assert len(Asset.open(FileSource(path), LoadLimits()).parts) == 1


def test_models_without_triangles_are_assets(tmp_path):
    nothing = model_of((sphere(8)[0], np.zeros(3, np.uint32)))
    asset, report = built(nothing, tmp_path)
    assert len(asset.parts) == 1 and report.triangles == 0 and len(asset.pages) == len(asset.clusters) == 0
    nothing.parts, nothing.instance_part, nothing.instance_node = (
        [],
        nothing.instance_part[:0],
        nothing.instance_node[:0],
    )
    nothing.instance_matrix = nothing.instance_matrix[:0]
    asset, _ = built(nothing, tmp_path)
    assert len(asset.parts) == 0 and len(asset.nodes) == 2


def test_textures_have_the_role_that_shows_most():
    model = model_of(sphere(200, uv=True), textured=True)
    slot = TextureSlot(0)
    for materials, role in (
        ([Material()], "mask"),
        ([Material(metallic_roughness_texture=slot)], "mask"),
        ([Material(emissive_texture=slot)], "color"),
        ([Material(base_color_texture=slot)], "color"),
        ([Material(base_color_texture=slot, alpha_mode="mask")], "color_alpha"),
        ([Material(base_color_texture=slot), Material(normal_texture=slot)], "normal"),
    ):
        model.materials = materials
        assert texture_role(model, 0) == role


def test_plain_levels_are_means_of_light():
    model = model_of(sphere(200, uv=True), textured=True)
    texture = model.textures[0]
    texture.pixels = np.zeros((2, 5, 4), np.uint8)
    texture.pixels[:, ::2] = 255
    levels = plain_texture(texture).mips
    assert [len(level) for level in levels] == [40, 8, 4]
    # Half of the light is 188 in sRGB; half of the coverage 128. The last pixel is the mean of three columns.
    assert list(levels[1]) == [188, 188, 188, 128, 213, 213, 213, 170]
    texture.srgb = False
    assert list(plain_texture(texture).mips[1][:4]) == [128] * 4


def test_parts_far_away_keep_their_shape(tmp_path):
    vertices, indices = sphere(2_000)
    vertices["position"] = vertices["position"] * 0.5 + (0, 0, 10_000)
    asset, _ = built(model_of((vertices, indices)), tmp_path)
    decoded = asset.decode_page(0, asset.read_page(0))
    known = {tuple(row) for row in np.round(vertices["position"], 2).tolist()}
    found = decoded.vertices["position"]
    assert sum(tuple(row) in known for row in np.round(found, 2).tolist()) > 0.95 * len(found)
    # The numbers of the input lie 1 mm apart there.
    assert float(asset.parts["step"][0]) <= 0.001


def test_points_become_an_asset(tmp_path):
    rng = np.random.default_rng(6)
    points = np.zeros(20_000, POINT_DTYPE)
    points["position"], points["color"] = rng.uniform(0, 10, (20_000, 3)), 200
    low, high = points["position"].min(axis=0).astype(float), points["position"].max(axis=0).astype(float)
    cloud = PointCloud("scan", points, np.zeros(3), low, high, np.eye(4))
    report = build_asset(cloud, tmp_path / "scan.arrAsset", BuildOptions(workers=1))
    asset = Asset.open(FileSource(tmp_path / "scan.arrAsset"), LoadLimits())
    assert report.points == 20_000 == int(asset.parts["triangles"][0]) and report.pages == len(asset.pages)
    assert sum(len(asset.decode_page(i, asset.read_page(i)).vertices) for i in range(len(asset.pages))) >= 20_000
