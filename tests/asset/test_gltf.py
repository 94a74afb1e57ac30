"""The glTF reader on real files and on a hand-made one for each feature."""

from __future__ import annotations

import base64
import math
from pathlib import Path

import numpy as np
import pytest

from farframe.asset.gltf import read_gltf
from farframe.asset.model import TextureSlot
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import LoadLimits

LIMITS = LoadLimits()


def triangles(model, part=0):
    """(triangles, 3, 3): the corners of a part's full detail."""
    p = model.parts[part]
    level = p.levels[0]
    vertices = model.vertices[p.first_vertex : p.first_vertex + p.vertex_count]
    return vertices["position"][model.indices[level.first_index : level.first_index + level.index_count]].reshape(
        -1, 3, 3
    )


def vertices_of(model, part=0):
    p = model.parts[part]
    return model.vertices[p.first_vertex : p.first_vertex + p.vertex_count]


def refused(path, limits=LIMITS):
    with pytest.raises(FarframeError) as caught:
        read_gltf(path, limits)
    return caught.value


class TestRealFiles:
    def test_box_with_files_beside_it(self, models_folder):
        model = read_gltf(models_folder / "BoxTextured" / "BoxTextured.gltf", LIMITS)
        assert model.triangle_count == 12
        assert len(model.vertices) == 24
        assert model.bounds_min == (-0.5, -0.5, -0.5)
        assert model.bounds_max == (0.5, 0.5, 0.5)
        assert model.textures[0].pixels.shape == (211, 211, 4)
        assert model.textures[0].srgb
        assert model.materials[0].base_color_texture == TextureSlot(0, 0)
        assert model.materials[0].metallic == 0.0

    def test_duck(self, models_folder):
        model = read_gltf(models_folder / "Duck.glb", LIMITS)
        assert model.triangle_count == 4212
        assert len(model.parts) == 1
        assert len(model.vertices) == 2399
        assert model.textures[0].pixels.shape == (512, 512, 4)
        assert model.bounds_min == pytest.approx((-0.69298, 0.09937, -0.61328), abs=2e-4)
        assert model.bounds_max == pytest.approx((0.96180, 1.63970, 0.53925), abs=2e-4)
        assert model.warnings == ["1 camera left out."]

    def test_engine_shares_parts(self, models_folder):
        model = read_gltf(models_folder / "2CylinderEngine.glb", LIMITS)
        assert model.triangle_count == 121_496
        assert len(model.parts) == 34
        assert len(model.instance_part) == 115
        assert len(model.nodes) == 82
        assert len(model.materials) == 34
        # The box of all vertices, moved one by one.
        low, high = np.full(3, np.inf), np.full(3, -np.inf)
        for part, matrix in zip(model.instance_part, model.instance_matrix, strict=True):
            place = vertices_of(model, part)["position"] @ matrix[:3, :3].T + matrix[:3, 3]
            low, high = np.minimum(low, place.min(axis=0)), np.maximum(high, place.max(axis=0))
        assert model.bounds_min == pytest.approx(low.tolist(), rel=1e-6)
        assert model.bounds_max == pytest.approx(high.tolist(), rel=1e-6)

    def test_instance_matrices_are_products_of_the_nodes(self, models_folder):
        model = read_gltf(models_folder / "2CylinderEngine.glb", LIMITS)
        for node, matrix in zip(model.instance_node, model.instance_matrix, strict=True):
            product, index = np.eye(4), int(node)
            while index >= 0:
                assert model.nodes[index].parent < index
                product = model.nodes[index].matrix @ product
                index = model.nodes[index].parent
            np.testing.assert_allclose(matrix, product, rtol=1e-9, atol=1e-9)


class TestFilesAndBuffers:
    def test_name_is_decided_by_content(self, tmp_path, gltf):
        gltf.node(mesh=gltf.mesh(gltf.quad()))
        assert read_gltf(gltf.write_glb(tmp_path / "strange.name"), LIMITS).triangle_count == 2

    def test_data_uri_and_file_beside_it_agree(self, tmp_path, gltf):
        gltf.node(mesh=gltf.mesh(gltf.quad()))
        (tmp_path / "my buffer ü.bin").write_bytes(bytes(gltf.data))
        inline = read_gltf(gltf.write_gltf(tmp_path / "inline.gltf"), LIMITS)
        beside = read_gltf(gltf.write_gltf(tmp_path / "beside.gltf", "my%20buffer%20%C3%BC.bin"), LIMITS)
        np.testing.assert_array_equal(inline.vertices, beside.vertices)
        assert beside.name == "beside"

    def test_byte_order_mark_is_skipped(self, tmp_path, gltf):
        gltf.node(mesh=gltf.mesh(gltf.quad()))
        path = gltf.write_gltf(tmp_path / "a.gltf")
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        assert read_gltf(path, LIMITS).triangle_count == 2

    @pytest.mark.parametrize(
        "uri",
        ["../outside.bin", "/etc/passwd", "%2e%2e/outside.bin", "file:///etc/passwd", "sub/../../outside.bin", ""],
    )
    def test_nothing_outside_of_the_folder_is_read(self, tmp_path, gltf, uri):
        gltf.node(mesh=gltf.mesh(gltf.quad()))
        (tmp_path / "outside.bin").write_bytes(bytes(gltf.data))
        folder = tmp_path / "folder"
        folder.mkdir()
        path = gltf.write_gltf(folder / "a.gltf", "outside.bin")
        path.write_text(path.read_text().replace('"outside.bin"', f'"{uri}"'))
        assert refused(path).result is Result.FILE_CORRUPT

    def test_no_symbolic_link_leads_out(self, tmp_path, gltf):
        gltf.node(mesh=gltf.mesh(gltf.quad()))
        (tmp_path / "secret.bin").write_bytes(bytes(gltf.data))
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
        assert refused(gltf.write_gltf(folder / "a.gltf", "link.bin")).result is Result.FILE_CORRUPT

    def test_missing_files_are_named(self, tmp_path, gltf):
        gltf.node(mesh=gltf.mesh(gltf.quad()))
        error = refused(gltf.write_gltf(tmp_path / "a.gltf", "missing.bin"))
        assert error.result is Result.FILE_NOT_FOUND
        assert "missing.bin" in error.message
        assert refused(tmp_path / "nothing.glb").result is Result.FILE_NOT_FOUND

    def test_a_pipe_is_no_file_and_is_not_waited_for(self, tmp_path):
        import os

        os.mkfifo(tmp_path / "pipe.glb")
        assert refused(tmp_path / "pipe.glb").result is Result.FILE_NOT_FOUND
        assert refused(tmp_path).result is Result.FILE_NOT_FOUND

    def test_interleaved_and_offset(self, tmp_path, gltf):
        mixed = np.zeros((3, 8), dtype="<f4")
        mixed[:, :3] = [[0, 0, 0], [2, 0, 0], [0, 3, 0]]
        mixed[:, 3:6] = (0, 0, 1)
        view = gltf.view(bytes(8) + mixed.tobytes(), byteStride=32)
        for offset in (8, 20):
            gltf.json["accessors"].append(
                {"bufferView": view, "byteOffset": offset, "componentType": 5126, "count": 3, "type": "VEC3"}
            )
        gltf.node(mesh=gltf.mesh({"attributes": {"POSITION": 0, "NORMAL": 1}}))
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        assert triangles(model).tolist() == [[[0, 0, 0], [2, 0, 0], [0, 3, 0]]]
        assert (vertices_of(model)["normal"][:, :3] == (0, 0, 127)).all()

    def test_sparse_over_zeros_and_over_a_view(self, tmp_path, gltf):
        indices = gltf.view(np.array([1, 2], dtype="<u2").tobytes())
        values = gltf.view(np.array([[1, 0, 0], [0, 1, 0]], dtype="<f4").tobytes())
        sparse = {
            "count": 2,
            "indices": {"bufferView": indices, "componentType": 5123},
            "values": {"bufferView": values},
        }
        gltf.json["accessors"].append({"componentType": 5126, "count": 3, "type": "VEC3", "sparse": sparse})
        moved = gltf.accessor([[9, 9, 9], [7, 7, 7], [8, 8, 8]], sparse=sparse)
        gltf.node(mesh=gltf.mesh({"attributes": {"POSITION": 0}}, {"attributes": {"POSITION": moved}}))
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        assert triangles(model, 0).tolist() == [[[0, 0, 0], [1, 0, 0], [0, 1, 0]]]
        assert triangles(model, 1).tolist() == [[[9, 9, 9], [1, 0, 0], [0, 1, 0]]]

    @pytest.mark.parametrize(("dtype", "largest"), [("i1", 127), ("u1", 255), ("i2", 32767), ("u2", 65535)])
    def test_normalized_integers(self, tmp_path, gltf, dtype, largest):
        low = -largest - 1 if dtype[0] == "i" else 0
        place = gltf.accessor([[low, 0, 0], [largest, 0, 0], [0, largest, 0]], dtype, normalized=True)
        gltf.json["extensionsRequired"] = gltf.json["extensionsUsed"] = ["KHR_mesh_quantization"]
        # Elements must begin at multiples of four bytes; a tight three-byte layout is read nevertheless.
        gltf.node(mesh=gltf.mesh({"attributes": {"POSITION": place}}))
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        expected = [[-1.0 if low else 0.0, 0, 0], [1, 0, 0], [0, 1, 0]]
        np.testing.assert_allclose(triangles(model)[0], expected, atol=1e-6)
        assert model.warnings == []

    def test_quantized_positions_are_not_normalized_unless_said(self, tmp_path, gltf):
        place = gltf.accessor([[0, 0, 0], [300, 0, 0], [0, 200, 0]], "i2")
        gltf.node(mesh=gltf.mesh({"attributes": {"POSITION": place}}))
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        assert model.bounds_max == (300, 200, 0)


class TestTopology:
    PLACES = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 2, 0))

    def read(self, tmp_path, gltf, mode, indices=None):
        primitive = {"attributes": {"POSITION": gltf.accessor(self.PLACES)}, "mode": mode}
        primitive["attributes"]["NORMAL"] = gltf.accessor([[0, 0, 1]] * 5)
        if indices is not None:
            primitive["indices"] = gltf.accessor(indices, "u1")
        gltf.node(mesh=gltf.mesh(primitive))
        return read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)

    def test_strip_keeps_its_winding(self, tmp_path, gltf):
        model = self.read(tmp_path, gltf, 5)
        corners = triangles(model)
        assert len(corners) == 3
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert (normals[:, 2] > 0).all()

    def test_strip_drops_the_triangles_that_stitch_it(self, tmp_path, gltf):
        model = self.read(tmp_path, gltf, 5, [0, 1, 2, 2, 2, 3, 4])
        # {0,1,2}, then three without an area, then {2,3,4} in an odd place.
        assert len(triangles(model)) == 2

    def test_fan(self, tmp_path, gltf):
        model = self.read(tmp_path, gltf, 6, [0, 1, 3, 4])
        assert [sorted(t) for t in triangles(model).tolist()] == [
            sorted([[0, 0, 0], [1, 0, 0], [1, 1, 0]]),
            sorted([[0, 0, 0], [1, 1, 0], [0, 2, 0]]),
        ]

    @pytest.mark.parametrize(("mode", "name"), [(0, "points"), (1, "lines"), (2, "line loops"), (3, "line strips")])
    def test_others_are_left_out_with_a_warning(self, tmp_path, gltf, mode, name):
        model = self.read(tmp_path, gltf, mode)
        assert model.triangle_count == 0
        assert f"Primitives of {name} are left out." in model.warnings

    def test_unused_vertices_are_left_out(self, tmp_path, gltf):
        model = self.read(tmp_path, gltf, 4, [4, 1, 3])
        assert len(model.vertices) == 3
        assert triangles(model).tolist() == [[[0, 2, 0], [1, 0, 0], [1, 1, 0]]]

    def test_incomplete_triangle_is_left_out(self, tmp_path, gltf):
        model = self.read(tmp_path, gltf, 4, [0, 1, 2, 3])
        assert model.triangle_count == 1
        assert any("ends within a triangle" in each for each in model.warnings)


class TestNodes:
    def test_transforms(self, tmp_path, gltf):
        mesh = gltf.mesh(gltf.quad())
        half = math.sqrt(0.5)
        gltf.node(translation=[10, 0, 0], rotation=[0, 0, half, half], scale=[2, 1, 1], children=[1])
        gltf.node(root=False, mesh=mesh, matrix=[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 5, 0, 1], name="leaf")
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        # (1, 0, 0) -> leaf: (1, 5, 0) -> scale: (2, 5, 0) -> a quarter turn: (-5, 2, 0) -> (5, 2, 0)
        np.testing.assert_allclose(model.instance_matrix[0] @ (1, 0, 0, 1), (5, 2, 0, 1), atol=1e-12)
        assert model.nodes[1].name == "leaf"
        assert model.nodes[1].parent == 0
        np.testing.assert_allclose(model.bounds_min, (4, 0, 0), atol=1e-9)
        np.testing.assert_allclose(model.bounds_max, (5, 2, 0), atol=1e-9)

    def test_only_the_default_scene_is_shown(self, tmp_path, gltf):
        mesh = gltf.mesh(gltf.quad())
        gltf.node(mesh=mesh, name="first")
        gltf.node(mesh=mesh, name="second", root=False)
        gltf.json["scenes"].append({"nodes": [1]})
        gltf.json["scene"] = 1
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        assert [node.name for node in model.nodes] == ["second"]
        assert "Scene 1 is shown; 1 other scenes are left out." in model.warnings

    def test_without_scenes_all_roots_are_shown(self, tmp_path, gltf):
        mesh = gltf.mesh(gltf.quad())
        gltf.node(children=[1])
        gltf.node(mesh=mesh, root=False)
        gltf.node(mesh=mesh)
        del gltf.json["scenes"], gltf.json["scene"]
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        assert len(model.instance_part) == 2
        assert len(model.nodes) == 3

    def test_a_cycle_is_refused(self, tmp_path, gltf):
        gltf.node(children=[1], root=False)
        gltf.node(children=[0], root=False)
        gltf.json["scenes"][0]["nodes"] = [0]
        assert refused(gltf.write_glb(tmp_path / "a.glb")).result is Result.FILE_CORRUPT
        del gltf.json["scenes"], gltf.json["scene"]
        assert refused(gltf.write_glb(tmp_path / "b.glb")).result is Result.FILE_CORRUPT

    def test_a_node_with_two_parents_is_refused(self, tmp_path, gltf):
        gltf.node(children=[2])
        gltf.node(children=[2])
        gltf.node(root=False)
        error = refused(gltf.write_glb(tmp_path / "a.glb"))
        assert error.result is Result.FILE_CORRUPT
        assert "$.nodes[2]" in error.message

    def test_deep_nesting_is_refused(self, tmp_path, gltf):
        for index in range(2_000):
            gltf.node(root=index == 0, children=[index + 1] if index < 1_999 else [])
        assert refused(gltf.write_glb(tmp_path / "a.glb")).result is Result.EXCEEDS_MEMORY_LIMIT

    def test_too_many_nodes_are_refused(self, tmp_path, gltf):
        for _ in range(11):
            gltf.node()
        limits = LoadLimits(max_nodes=10)
        assert refused(gltf.write_glb(tmp_path / "a.glb"), limits).result is Result.EXCEEDS_MEMORY_LIMIT

    @pytest.mark.parametrize(
        "members",
        [
            {"rotation": [0, 0, 0, 0]},
            {"matrix": [1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]},
            {"translation": [1e30, 0, 0]},
            {"scale": [1e300, 1e300, 1e300]},
        ],
    )
    def test_impossible_transforms_are_refused(self, tmp_path, gltf, members):
        gltf.node(mesh=gltf.mesh(gltf.quad()), **members)
        assert refused(gltf.write_glb(tmp_path / "a.glb")).result is Result.FILE_CORRUPT

    def test_equal_primitives_are_one_part(self, tmp_path, gltf):
        quad = gltf.quad()
        gltf.material()
        first, second = gltf.mesh(quad), gltf.mesh(quad, {**quad, "material": 0})
        gltf.node(mesh=first)
        gltf.node(mesh=second)
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        assert len(model.parts) == 2
        assert model.instance_part.tolist() == [0, 0, 1]
        assert model.instance_node.tolist() == [0, 1, 1]
        assert len(model.vertices) == 8

    def test_an_empty_model(self, tmp_path, gltf):
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        assert model.triangle_count == 0
        assert model.bounds_min[0] > model.bounds_max[0]


class TestVertices:
    def test_missing_normals_become_flat(self, tmp_path, gltf):
        place = gltf.accessor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
        color = gltf.accessor(
            [[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255], [9, 9, 9, 9]], "u1", normalized=True
        )
        indices = gltf.accessor([0, 1, 2, 0, 3, 1], "u1")
        gltf.node(mesh=gltf.mesh({"attributes": {"POSITION": place, "COLOR_0": color}, "indices": indices}))
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        assert len(model.vertices) == 6
        assert vertices_of(model)["normal"][:, :3].tolist() == [[0, 0, 127]] * 3 + [[0, 127, 0]] * 3
        assert vertices_of(model)["color"][4].tolist() == [9, 9, 9, 9]

    def test_colors_and_uvs(self, tmp_path, gltf):
        uv0 = gltf.accessor([[0, 0], [255, 0], [255, 255], [0, 255]], "u1", normalized=True)
        uv1 = gltf.accessor([[2, 3], [4, 5], [6, 7], [8, 9]])
        color = gltf.accessor([[0, 0.5, 1]] * 4)
        gltf.node(mesh=gltf.mesh(gltf.quad(TEXCOORD_0=uv0, TEXCOORD_1=uv1, COLOR_0=color)))
        vertices = vertices_of(read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS))
        assert vertices["uv0"].tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]
        assert vertices["uv1"].tolist() == [[2, 3], [4, 5], [6, 7], [8, 9]]
        assert vertices["color"].tolist() == [[0, 128, 255, 255]] * 4

    def test_unusable_normals_and_uvs_are_replaced(self, tmp_path, gltf):
        quad = gltf.quad(
            NORMAL=gltf.accessor([[0, 0, 0], [math.nan, 0, 0], [0, 0, 5], [math.inf, 0, 0]]),
            TEXCOORD_0=gltf.accessor([[math.nan, 0.5], [math.inf, 1], [0, 1], [1, 1]]),
        )
        gltf.node(mesh=gltf.mesh(quad))
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        assert (vertices_of(model)["normal"][:, :3] == (0, 0, 127)).all()
        assert vertices_of(model)["uv0"][:2].tolist() == [[0, 0.5], [0, 1]]
        assert len(model.warnings) == 2

    @pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
    def test_positions_that_are_no_places_are_refused(self, tmp_path, gltf, bad):
        gltf.node(mesh=gltf.mesh(gltf.quad(POSITION=gltf.accessor([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, bad, 0]]))))
        assert refused(gltf.write_glb(tmp_path / "a.glb")).result is Result.FILE_CORRUPT

    def test_indices_out_of_range_are_refused(self, tmp_path, gltf):
        gltf.node(mesh=gltf.mesh({**gltf.quad(), "indices": gltf.accessor([0, 1, 4], "u4")}))
        error = refused(gltf.write_glb(tmp_path / "a.glb"))
        assert error.result is Result.FILE_CORRUPT
        assert "$.meshes[0].primitives[0].indices" in error.message

    def test_attributes_of_unequal_length_are_refused(self, tmp_path, gltf):
        gltf.node(mesh=gltf.mesh(gltf.quad(TEXCOORD_0=gltf.accessor([[0, 0]] * 3))))
        assert refused(gltf.write_glb(tmp_path / "a.glb")).result is Result.FILE_CORRUPT

    @pytest.mark.parametrize("mirrored", [False, True])
    def test_generated_tangents(self, tmp_path, gltf, encode_image, mirrored):
        # u grows to the right, v runs down the image: the picture stands upright on the quad.
        uv = [[0, 1], [1, 1], [1, 0], [0, 0]]
        if mirrored:
            uv = [[1 - u, v] for u, v in uv]
        texture = gltf.texture(encode_image(np.full((2, 2, 3), 128, dtype=np.uint8)))
        gltf.material(normalTexture={"index": texture, "scale": 0.5})
        gltf.node(mesh=gltf.mesh({**gltf.quad(TEXCOORD_0=gltf.accessor(uv)), "material": 0}))
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        tangent = vertices_of(model)["tangent"]
        assert (tangent == ((-127, 0, 0, -127) if mirrored else (127, 0, 0, 127))).all()
        # Either way the bitangent points up in the image, which is up on the quad.
        bitangent = np.cross([0, 0, 1], tangent[0, :3] / 127) * tangent[0, 3] / 127
        assert bitangent.tolist() == [0, 1, 0]
        assert model.materials[0].normal_scale == 0.5
        assert not model.textures[0].srgb

    def test_mirrored_and_plain_triangles_share_no_tangent(self, tmp_path, gltf, encode_image):
        place = gltf.accessor([[0, 0, 0], [1, 0, 0], [1, 1, 0], [-1, 0, 0], [-1, 1, 0], [0, 1, 0]])
        uv = gltf.accessor([[0, 1], [1, 1], [1, 0], [1, 1], [1, 0], [0, 0]])
        normal = gltf.accessor([[0, 0, 1]] * 6)
        indices = gltf.accessor([0, 1, 2, 0, 2, 5, 3, 0, 5, 3, 5, 4], "u1")
        texture = gltf.texture(encode_image(np.full((2, 2, 3), 128, dtype=np.uint8)))
        gltf.material(normalTexture={"index": texture})
        attributes = {"POSITION": place, "NORMAL": normal, "TEXCOORD_0": uv}
        gltf.node(mesh=gltf.mesh({"attributes": attributes, "indices": indices, "material": 0}))
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        assert len(model.vertices) == 8
        for corner in model.indices.reshape(-1, 3):
            side = np.sign(model.vertices["position"][corner, 0].sum())
            assert (model.vertices["tangent"][corner, 3] == 127 * side).all()

    def test_given_tangents_are_kept(self, tmp_path, gltf):
        gltf.node(mesh=gltf.mesh(gltf.quad(TANGENT=gltf.accessor([[0, 2, 0, -1]] * 4))))
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        assert (vertices_of(model)["tangent"] == (0, 127, 0, -127)).all()


class TestMaterialsAndTextures:
    def read_material(self, tmp_path, gltf, **members):
        gltf.material(**members)
        gltf.node(
            mesh=gltf.mesh({**gltf.quad(TEXCOORD_0=gltf.accessor([[0, 0], [1, 0], [1, 1], [0, 1]])), "material": 0})
        )
        return read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)

    def test_factors(self, tmp_path, gltf):
        model = self.read_material(
            tmp_path,
            gltf,
            name="red",
            pbrMetallicRoughness={"baseColorFactor": [1, 0.5, 0, 0.25], "metallicFactor": 0.1, "roughnessFactor": 0.2},
            emissiveFactor=[0.1, 0.2, 0.3],
            alphaMode="MASK",
            alphaCutoff=0.4,
            doubleSided=True,
            extensions={"KHR_materials_unlit": {}, "KHR_materials_emissive_strength": {"emissiveStrength": 10}},
        )
        material = model.materials[0]
        assert material.name == "red"
        assert material.base_color == (1, 0.5, 0, 0.25)
        assert (material.metallic, material.roughness) == (0.1, 0.2)
        assert material.emissive == pytest.approx((1, 2, 3))
        assert (material.alpha_mode, material.alpha_cutoff, material.double_sided, material.unlit) == (
            "mask",
            0.4,
            True,
            True,
        )
        assert len(model.materials) == 1

    def test_default_material_is_added_only_when_needed(self, tmp_path, gltf):
        gltf.material(name="unused")
        gltf.node(mesh=gltf.mesh(gltf.quad()))
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        assert len(model.materials) == 2
        assert model.parts[0].material == 1
        assert (model.materials[1].metallic, model.materials[1].roughness) == (1, 1)

    def test_all_slots_and_sampler(self, tmp_path, gltf, encode_image):
        pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
        texture = gltf.texture(encode_image(pixels), magFilter=9728, minFilter=9984, wrapS=33071, wrapT=33648)
        model = self.read_material(
            tmp_path,
            gltf,
            pbrMetallicRoughness={"baseColorTexture": {"index": 0}, "metallicRoughnessTexture": {"index": 0}},
            occlusionTexture={"index": texture, "strength": 0.7, "texCoord": 1},
            emissiveTexture={"index": 0},
            normalTexture={"index": 0},
        )
        material = model.materials[0]
        assert material.base_color_texture == material.emissive_texture == TextureSlot(0, 0)
        assert material.metallic_roughness_texture == material.normal_texture == TextureSlot(1, 0)
        assert material.occlusion_texture == TextureSlot(1, 1)
        assert material.occlusion_strength == 0.7
        assert [texture.srgb for texture in model.textures] == [True, False]
        assert model.textures[0].pixels is model.textures[1].pixels
        assert model.textures[0].pixels[..., :3].tolist() == pixels.tolist()
        described = model.textures[0]
        assert (described.wrap_u, described.wrap_v) == ("clamp", "mirror")
        assert (described.mag_filter, described.min_filter, described.mipmaps) == ("nearest", "nearest", True)

    @pytest.mark.parametrize(
        ("mode", "expected"),
        [("L", [90, 90, 90, 255]), ("LA", [90, 90, 90, 255]), ("P", [90, 90, 90, 255]), ("1", [255, 255, 255, 255])],
    )
    def test_png_modes(self, tmp_path, gltf, encode_image, mode, expected):
        gltf.texture(encode_image(np.full((2, 2), 90 if mode != "1" else 255, dtype=np.uint8), mode=mode))
        model = self.read_material(tmp_path, gltf, pbrMetallicRoughness={"baseColorTexture": {"index": 0}})
        assert model.textures[0].pixels[0, 0].tolist() == expected

    def test_sixteen_bits_are_scaled_not_clipped(self, tmp_path, gltf, encode_image):
        gltf.texture(encode_image(np.full((2, 2), 0x4321, dtype=np.uint16)))
        model = self.read_material(tmp_path, gltf, pbrMetallicRoughness={"baseColorTexture": {"index": 0}})
        assert model.textures[0].pixels[0, 0].tolist() == [0x43, 0x43, 0x43, 255]

    def test_jpeg_in_a_data_uri(self, tmp_path, gltf, encode_image):
        data = base64.b64encode(encode_image(np.full((8, 8, 3), 60, dtype=np.uint8), "JPEG")).decode()
        gltf.json["images"] = [{"uri": "data:image/jpeg;base64," + data}]
        gltf.json["textures"] = [{"source": 0}]
        model = self.read_material(tmp_path, gltf, pbrMetallicRoughness={"baseColorTexture": {"index": 0}})
        assert model.textures[0].pixels.shape == (8, 8, 4)

    def test_a_texture_that_only_an_extension_names_is_left_out(self, tmp_path, gltf):
        gltf.json["textures"] = [{"extensions": {"EXT_texture_avif": {"source": 0}}}]
        gltf.json["extensionsUsed"] = ["EXT_texture_avif"]
        model = self.read_material(tmp_path, gltf, pbrMetallicRoughness={"baseColorTexture": {"index": 0}})
        assert model.materials[0].base_color_texture is None
        assert len(model.warnings) == 2

    def test_texture_transform_is_worked_into_the_uvs(self, tmp_path, gltf, encode_image):
        # The specification's own example: the lower left quarter of the image.
        gltf.texture(encode_image(np.zeros((2, 2, 3), dtype=np.uint8)))
        transform = {"offset": [0, 1], "rotation": math.pi / 2, "scale": [0.5, 0.5]}
        model = self.read_material(
            tmp_path,
            gltf,
            pbrMetallicRoughness={"baseColorTexture": {"index": 0, "extensions": {"KHR_texture_transform": transform}}},
            emissiveTexture={"index": 0},
        )
        material = model.materials[0]
        assert material.base_color_texture == TextureSlot(0, 0)
        assert material.emissive_texture == TextureSlot(0, 1)
        vertices = vertices_of(model)
        np.testing.assert_allclose(vertices["uv0"], [[0, 1], [0, 0.5], [0.5, 0.5], [0.5, 1]], atol=1e-6)
        np.testing.assert_allclose(vertices["uv1"], [[0, 0], [1, 0], [1, 1], [0, 1]])

    def test_more_transforms_than_uv_sets_warn(self, tmp_path, gltf, encode_image):
        gltf.texture(encode_image(np.zeros((2, 2, 3), dtype=np.uint8)))

        def moved(by):
            return {"index": 0, "extensions": {"KHR_texture_transform": {"offset": [by, 0]}}}

        model = self.read_material(
            tmp_path,
            gltf,
            pbrMetallicRoughness={"baseColorTexture": moved(0.1)},
            emissiveTexture=moved(0.2),
            occlusionTexture=moved(0.3),
        )
        assert any("two are kept" in each for each in model.warnings)
        assert model.materials[0].occlusion_texture == TextureSlot(1, 0)


class TestWhatIsLeftOut:
    def test_warnings(self, tmp_path, gltf):
        times, weights = gltf.accessor([0.0, 1.0], "f4"), gltf.accessor([0.0, 1.0], "f4")
        morph = {"sampler": 0, "target": {"node": 0, "path": "weights"}}
        gltf.json["animations"] = [{"channels": [morph], "samplers": [{"input": times, "output": weights}]}]
        gltf.json["skins"] = [{"joints": [0]}]
        gltf.json["extensionsUsed"] = ["KHR_lights_punctual"]
        joints = gltf.accessor([[0, 0, 0, 0]] * 4, "u1")
        gltf.node(mesh=gltf.mesh({**gltf.quad(JOINTS_0=joints), "targets": [{"POSITION": 0}]}), skin=0)
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        assert model.triangle_count == 2
        assert model.warnings == [
            "The extension 'KHR_lights_punctual' is left out.",
            "1 skin left out.",
            "Animations of 'weights' are left out.",
            "Morph targets are left out.",
            "Skinned meshes are shown in the pose in which they were bound.",
        ]

    def test_required_extensions_are_named(self, tmp_path, gltf):
        gltf.json["extensionsRequired"] = ["KHR_lights_punctual", "MPEG_mesh_linking"]
        error = refused(gltf.write_glb(tmp_path / "a.glb"))
        assert error.result is Result.NOT_SUPPORTED
        assert "MPEG_mesh_linking" in error.message
        assert error.next_step

    @pytest.mark.parametrize("asset", [{"version": "1.0"}, {"version": "2.1", "minVersion": "2.1"}, {"version": "x"}])
    def test_other_versions(self, tmp_path, gltf, asset):
        gltf.json["asset"] = asset
        assert refused(gltf.write_glb(tmp_path / "a.glb")).result is Result.NOT_SUPPORTED


def test_progress_rises_to_one(models_folder):
    seen = []
    read_gltf(models_folder / "2CylinderEngine.glb", LIMITS, lambda stage, fraction: seen.append((stage, fraction)))
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {stage for stage, _ in seen} >= {"reading", "geometry"}


def test_reads_as_a_path_object_of_any_kind(quad_glb):
    assert isinstance(quad_glb, Path)
    model = read_gltf(quad_glb, LIMITS)
    assert model.triangle_count == 4
    assert model.name == "quad"
