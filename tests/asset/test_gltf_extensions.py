"""Extensions of glTF: compressed geometry and textures, other materials, instancing."""

from __future__ import annotations

import ctypes
import math
import random
from pathlib import Path

import DracoPy
import numpy as np
import pytest

from farframe.asset.budget import Budget
from farframe.asset.gltf import DISPENSABLE_EXTENSIONS, SUPPORTED_EXTENSIONS, read_gltf
from farframe.asset.gltf_compression import decode_draco, decode_meshopt
from farframe.asset.gltf_materials import bake_specular_glossiness, metallic_of, normals_with_z
from farframe.asset.gltf_schema import MeshoptView
from farframe.asset.images import EncodedImage
from farframe.asset.meshopt import encode_rows, encode_triangles, foreign
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import LoadLimits

LIMITS = LoadLimits(max_memory_bytes=256 * 1024**2, max_seconds=30)
KTX2 = Path(__file__).parent / "ktx2"


def refused(path, limits=LIMITS):
    with pytest.raises(FarframeError) as caught:
        read_gltf(path, limits)
    return caught.value


def grid(side=9):
    """Positions, UVs and triangles of a bumpy square."""
    y, x = np.mgrid[0:side, 0:side].reshape(2, -1) / (side - 1)
    positions = np.stack([x, y, 0.1 * np.sin(7 * x) * np.cos(5 * y)], axis=1).astype(np.float32)
    first = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).reshape(-1)
    corners = np.stack([first, first + 1, first + side + 1, first, first + side + 1, first + side], axis=1)
    return positions, np.stack([x, 1 - y], axis=1).astype(np.float32), corners.reshape(-1, 3).astype(np.uint32)


def surface(model):
    """Sorted rows of all triangles' corners, rounded: the same for any order of vertices and triangles."""
    rows = []
    for part, matrix in zip(model.instance_part, model.instance_matrix, strict=True):
        described = model.parts[part]
        level = described.levels[0]
        indices = model.indices[level.first_index : level.first_index + level.index_count]
        vertices = model.vertices[described.first_vertex :][indices]
        places = vertices["position"] @ matrix[:3, :3].T + matrix[:3, 3]
        rows.append(np.concatenate([places, vertices["uv0"]], axis=1).reshape(-1, 15))
    return np.concatenate(rows)


class TestDraco:
    def add(self, gltf, *, colors=None, members=None, **options):
        positions, uvs, faces = grid()
        generic = {77: colors} if colors is not None else None
        data = DracoPy.encode(
            positions,
            faces,
            quantization_bits=16,
            tex_coord=uvs.astype(np.float64),
            tex_coord_quantization_bits=14,
            generic_attributes=generic,
            **options,
        )
        ids = {each["attribute_type"]: each["unique_id"] for each in DracoPy.decode(data).attributes}
        attributes = {"POSITION": ids[0], "TEXCOORD_0": ids[3]}
        named = {"POSITION": self.described(gltf, "VEC3"), "TEXCOORD_0": self.described(gltf, "VEC2")}
        if colors is not None:
            attributes["COLOR_0"] = 77
            named["COLOR_0"] = self.described(gltf, "VEC4", 5121, normalized=True)
        primitive = {
            "attributes": named,
            "indices": self.described(gltf, "SCALAR", 5125),
            "extensions": {
                "KHR_draco_mesh_compression": {
                    "bufferView": gltf.view(data),
                    "attributes": attributes,
                    **(members or {}),
                }
            },
        }
        gltf.json["extensionsRequired"] = ["KHR_draco_mesh_compression"]
        gltf.node(mesh=gltf.mesh(primitive))
        return data

    def described(self, gltf, kind, component=5126, **members):
        gltf.json["accessors"].append({"componentType": component, "count": 81, "type": kind, **members})
        return len(gltf.json["accessors"]) - 1

    @pytest.mark.parametrize("level", [0, 1, 7, 10])
    def test_is_what_was_encoded(self, tmp_path, gltf, level):
        self.add(gltf, compression_level=level)
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        positions, uvs, faces = grid()
        assert model.triangle_count == len(faces)
        wanted = np.concatenate([positions, uvs], axis=1)[faces].reshape(-1, 15)
        found = surface(model)
        # Triangles come in another order, perhaps begun at another corner.
        middle = wanted.reshape(-1, 3, 5).mean(axis=1)
        distance = np.abs(found.reshape(-1, 3, 5).mean(axis=1)[:, None] - middle).max(axis=2)
        assert distance.min(axis=1).max() < 1e-3
        assert sorted(distance.argmin(axis=1)) == list(range(len(faces)))

    def test_normalised_colours(self, tmp_path, gltf):
        colors = np.tile(np.array([[255, 51, 0, 255]], np.uint8), (81, 1))
        self.add(gltf, colors=colors)
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        assert np.abs(model.vertices["color"].astype(int) - [255, 51, 0, 255]).max() == 0

    def test_metadata_is_skipped(self, tmp_path, gltf):
        positions, _, faces = grid()
        data = DracoPy.encode(positions, faces, create_metadata=True, generic_attributes={"tangents": positions})
        assert int.from_bytes(data[9:11], "little") & 0x8000
        decoded = decode_draco(data, 2, Budget(LIMITS), "it")
        assert len(decoded.indices) == faces.size

    def test_claims_are_checked_before_they_are_decoded(self, tmp_path, gltf):
        data = bytearray(self.add(gltf))
        assert data[5:9] == b"\x02\x02\x01\x01"
        claim = b"\x80\xc2\xd7\x2f"  # 100 million
        huge = bytes(data[:12]) + claim + claim + bytes(data[14:])
        for limits in (LIMITS, LoadLimits(max_triangles=1_000_000)):
            with pytest.raises(FarframeError) as caught:
                decode_draco(huge, 1, Budget(limits), "it")
            assert caught.value.result is Result.EXCEEDS_MEMORY_LIMIT

    @pytest.mark.parametrize(
        ("change", "result"),
        [
            (lambda data: b"drac" + data[4:], Result.FILE_CORRUPT),
            (lambda data: data[:10], Result.FILE_CORRUPT),
            (lambda data: data[:13], Result.FILE_CORRUPT),
            (lambda data: data[: len(data) // 2], Result.FILE_CORRUPT),
            (lambda data: data[:5] + b"\x01\x01" + data[7:], Result.NOT_SUPPORTED),
            (lambda data: data[:7] + b"\x00" + data[8:], Result.FILE_CORRUPT),
        ],
    )
    def test_broken_streams(self, gltf, change, result):
        data = change(bytes(self.add(gltf)))
        with pytest.raises(FarframeError) as caught:
            decode_draco(data, 2, Budget(LIMITS), "it")
        assert caught.value.result is result

    def test_an_attribute_that_does_not_exist(self, tmp_path, gltf):
        self.add(gltf, members={"attributes": {"POSITION": 1234}})
        error = refused(gltf.write_glb(tmp_path / "a.glb"))
        assert error.result is Result.FILE_CORRUPT
        assert "1234" in error.message


_encode_octahedral = foreign(
    "meshopt_encodeFilterOct",
    None,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_void_p,
)


def encoded(rows):
    return encode_rows(np.ascontiguousarray(rows).view(f"V{rows.itemsize * rows.shape[1]}").reshape(-1))


class TestMeshopt:
    def compressed(self, gltf, data, mode, count, stride, extension="EXT_meshopt_compression", **members):
        """A buffer view whose bytes lie compressed in the file; its own buffer has none."""
        place = gltf.view(data)
        source = gltf.json["bufferViews"].pop()
        assert place == len(gltf.json["bufferViews"])
        described = {
            "buffer": 0,
            "byteOffset": source["byteOffset"],
            "byteLength": source["byteLength"],
            "byteStride": stride,
            "count": count,
            "mode": mode,
            **members,
        }
        gltf.json["bufferViews"].append(
            {"buffer": 1, "byteLength": count * stride, "extensions": {extension: described}}
        )
        return place

    def add(self, gltf, extension="EXT_meshopt_compression"):
        positions, uvs, faces = grid()
        normals = np.tile(np.array([0.6, 0.0, 0.8, 0.0], np.float32), (81, 1))
        packed = np.empty((81, 4), np.int8)
        _encode_octahedral(packed.ctypes.data, 81, 4, 8, normals.ctypes.data)
        accessors = []
        for data, count, kind, component, stride, mode, filtered in (
            (encoded(positions), 81, "VEC3", 5126, 12, "ATTRIBUTES", "NONE"),
            (encoded(packed), 81, "VEC3", 5120, 4, "ATTRIBUTES", "OCTAHEDRAL"),
            (encoded(uvs), 81, "VEC2", 5126, 8, "ATTRIBUTES", "NONE"),
            (encode_triangles(faces.reshape(-1)), faces.size, "SCALAR", 5125, 4, "TRIANGLES", "NONE"),
        ):
            view = self.compressed(gltf, data, mode, count, stride, extension, filter=filtered)
            if mode == "ATTRIBUTES":
                gltf.json["bufferViews"][view]["byteStride"] = stride
            gltf.json["accessors"].append(
                {
                    "bufferView": view,
                    "componentType": component,
                    "count": count,
                    "type": kind,
                    "normalized": component == 5120,
                }
            )
            accessors.append(len(gltf.json["accessors"]) - 1)
        gltf.json["extensionsRequired"] = [extension]
        gltf.json["buffers"] = [
            {"byteLength": len(gltf.data)},
            {"byteLength": 1 << 20, "extensions": {extension: {"fallback": True}}},
        ]
        place, normal, uv, index = accessors
        attributes = {"POSITION": place, "NORMAL": normal, "TEXCOORD_0": uv}
        gltf.node(mesh=gltf.mesh({"attributes": attributes, "indices": index}))

    @pytest.mark.parametrize("extension", ["EXT_meshopt_compression", "KHR_meshopt_compression"])
    def test_is_what_was_encoded(self, tmp_path, gltf, extension):
        self.add(gltf, extension)
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        positions, uvs, faces = grid()
        wanted = np.concatenate([positions, uvs], axis=1)[faces].reshape(-1, 3, 5).mean(axis=1)
        assert np.abs(surface(model).reshape(-1, 3, 5).mean(axis=1) - wanted).max() < 1e-6
        assert np.abs(model.vertices["normal"][:, :3] / 127 - [0.6, 0, 0.8]).max() < 0.02
        assert not model.warnings

    def test_the_length_must_agree(self, tmp_path, gltf):
        self.add(gltf)
        gltf.json["bufferViews"][0]["byteLength"] -= 12
        assert refused(gltf.write_glb(tmp_path / "a.glb")).result is Result.FILE_CORRUPT

    def test_claims_are_charged_before_they_are_decoded(self, tmp_path, gltf):
        self.add(gltf)
        view = gltf.json["bufferViews"][0]
        view["byteLength"] = 12 * 10**9
        view["extensions"]["EXT_meshopt_compression"]["count"] = 10**9
        assert refused(gltf.write_glb(tmp_path / "a.glb")).result is Result.EXCEEDS_MEMORY_LIMIT

    @pytest.mark.parametrize(
        "members",
        [
            {"byte_stride": 6},
            {"byte_stride": 12, "filter": "OCTAHEDRAL"},
            {"byte_stride": 4, "filter": "QUATERNION"},
            {"byte_stride": 12, "filter": "COLOR"},
            {"byte_stride": 12, "mode": "TRIANGLES", "count": 81},
            {"byte_stride": 4, "mode": "TRIANGLES", "count": 80},
            {"byte_stride": 4, "mode": "INDICES", "filter": "EXPONENTIAL"},
        ],
    )
    def test_what_decoders_must_not_be_asked(self, members):
        view = MeshoptView(**{"buffer": 0, "byte_length": 9, "count": 81, "mode": "ATTRIBUTES", **members})
        with pytest.raises(FarframeError) as caught:
            decode_meshopt(np.zeros(9, np.uint8), view, Budget(LIMITS), "it")
        assert caught.value.result is Result.FILE_CORRUPT
        assert "stride" in caught.value.message

    @pytest.mark.parametrize(
        ("stride", "coded", "wanted"),
        # Thirteen colours by the encoder and the decoder of the npm package meshoptimizer 1.3.0.
        [
            (
                4,
                (
                    "a1f700930f130f11118f6c8f6c8f9100821fffffffffffffff0080ff0000fdfe7f807f807f8000768677778878"
                    "8b798b798b78000000000000000000000000000000000000005fa2008d01"
                ),
                (
                    "015fbd1b77d53390ef4dab0865c32180dd3b99f753b30f6fcb2987e743a1ff5cb91775d4318fed4ba70563c31f"
                    "7ddb3896f452b0"
                ),
            ),
            (
                8,
                (
                    "a15fff00a51614161416a5cea3cea5a30070111111111170937093707000821f8e8d8e8d8e8d8e00821ffdfefd"
                    "fefdfefd00b98b8c8b8e8db9bab9bab9b70080fefdfefdfe82818281828000503b52503b523d523d523b500078"
                    "897a7889788978897889780000000000000000000000000000b85e48a10000cd8c0000"
                ),
                (
                    "0000b85e70bd9b19517808d73333eb91a2f0cd4c84abaf0766661dc548210080b7dee23a999950f87a5433b35c"
                    "0f146eccccf728ae8767e68f4247a1ffff285ce0ba0b17c2757bd4a4305c8f14ee3c4af5a82005d7638fc2b81e"
                    "707d28dc53380997c2f5eb51a3b0"
                ),
            ),
            (
                8,
                (
                    "a1577700878d8f8d8f8d85998399858502040010045432400000821f1211121112111202080000078787800000"
                    "0a111211121108090a07080a02049a9a9656564000003d513b3d513d513d4f3d513d0204342343434540000000"
                    "000000000000000000000000f6020bfd000066040000"
                ),
                (
                    "2000cb5e77bd83192f78fad62633f2917df0e94c75ab81074c6618c5442110809bde073b93997ef86a5436b362"
                    "0f0d6eb9cc2529b0877ce6a84254a1ffff0b5cd7ba0317ce757ad4c630718f1dee694ad4a84105cc6398c2c41e"
                    "6f7d1bdc6738f296bef5ea5195b0"
                ),
            ),
        ],
    )
    def test_the_colour_filter(self, stride, coded, wanted):
        data = np.frombuffer(bytes.fromhex(coded), np.uint8)
        view = MeshoptView(
            buffer=0, byte_length=len(data), byte_stride=stride, count=13, mode="ATTRIBUTES", filter="COLOR"
        )
        assert decode_meshopt(data, view, Budget(LIMITS), "it").tobytes().hex() == wanted


class TestTextures:
    def ktx2_pixels(self):
        y, x = np.mgrid[0:12, 0:20]
        return np.dstack([x * 12, y * 20, np.where(x < 12, 40, 200), np.where(y < 8, 255, 155)])

    def model(self, tmp_path, gltf, image, extension):
        gltf.json["images"] = [{"bufferView": gltf.view(image)}]
        gltf.json["textures"] = [{"extensions": {extension: {"source": 0}}}]
        gltf.json["extensionsRequired"] = [extension]
        gltf.material(pbrMetallicRoughness={"baseColorTexture": {"index": 0}})
        gltf.node(mesh=gltf.mesh({**gltf.quad(), "material": 0}))
        return read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)

    @pytest.mark.parametrize(("name", "most"), [("etc1s", 40), ("uastc", 16), ("uastc_zstd", 16)])
    def test_ktx2(self, tmp_path, gltf, name, most):
        model = self.model(tmp_path, gltf, (KTX2 / f"{name}.ktx2").read_bytes(), "KHR_texture_basisu")
        pixels = model.textures[0].pixels
        assert pixels.shape == (12, 20, 4)
        difference = np.abs(pixels.astype(int) - self.ktx2_pixels())
        assert difference.max() <= most
        assert difference.mean() < most / 4

    @pytest.mark.parametrize("lossless", [True, False])
    @pytest.mark.parametrize("alpha", [True, False])
    def test_webp(self, tmp_path, gltf, encode_image, lossless, alpha):
        wanted = self.ktx2_pixels().astype(np.uint8)
        if not alpha:
            wanted[..., 3] = 255
        from io import BytesIO

        from PIL import Image

        out = BytesIO()
        image = Image.fromarray(wanted)
        (image if alpha else image.convert("RGB")).save(out, "WEBP", lossless=lossless, quality=95, exact=True)
        model = self.model(tmp_path, gltf, out.getvalue(), "EXT_texture_webp")
        difference = np.abs(model.textures[0].pixels.astype(int) - wanted)
        assert difference.max() == 0 if lossless else difference.mean() < 12

    def test_the_extension_goes_before_the_core(self, tmp_path, gltf, encode_image):
        gltf.texture(encode_image(np.zeros((4, 4, 3), np.uint8)))
        gltf.json["images"].append({"bufferView": gltf.view((KTX2 / "uastc.ktx2").read_bytes())})
        gltf.json["textures"][0]["extensions"] = {"KHR_texture_basisu": {"source": 1}}
        gltf.material(pbrMetallicRoughness={"baseColorTexture": {"index": 0}})
        gltf.node(mesh=gltf.mesh({**gltf.quad(), "material": 0}))
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        assert model.textures[0].pixels.shape == (12, 20, 4)

    @pytest.mark.parametrize("name", ["etc1s", "uastc", "uastc_zstd"])
    def test_size_claims_of_ktx2_are_looked_at_first(self, name):
        data = bytearray((KTX2 / f"{name}.ktx2").read_bytes())
        data[20:28] = (60_000).to_bytes(4, "little") * 2
        with pytest.raises(FarframeError) as caught:
            EncodedImage(bytes(data), "it", Budget(LIMITS))
        assert caught.value.result is Result.EXCEEDS_MEMORY_LIMIT

    def test_a_zstandard_bomb_is_refused_by_its_head(self):
        data = bytearray((KTX2 / "uastc_zstd.ktx2").read_bytes())
        data[80 + 16 : 80 + 24] = (1 << 40).to_bytes(8, "little")
        with pytest.raises(FarframeError) as caught:
            EncodedImage(bytes(data), "it", Budget(LIMITS))
        assert caught.value.result is Result.FILE_CORRUPT

    @pytest.mark.parametrize(("offset", "value"), [(12, 37), (28, 4), (32, 2), (36, 6), (44, 3)])
    def test_other_kinds_of_ktx2_are_named(self, offset, value):
        data = bytearray((KTX2 / "uastc.ktx2").read_bytes())
        data[offset : offset + 4] = value.to_bytes(4, "little")
        with pytest.raises(FarframeError) as caught:
            EncodedImage(bytes(data), "it", Budget(LIMITS))
        assert caught.value.result is Result.NOT_SUPPORTED

    def test_size_claims_of_webp_are_looked_at_first(self):
        head = b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\xff" * 2 + bytes(40)
        with pytest.raises(FarframeError) as caught:
            EncodedImage(head, "it", Budget(LIMITS))
        assert caught.value.result is Result.EXCEEDS_MEMORY_LIMIT

    @pytest.mark.parametrize("name", ["etc1s", "uastc", "uastc_zstd"])
    def test_broken_ktx2_is_a_picture_or_corrupt(self, name):
        whole = (KTX2 / f"{name}.ktx2").read_bytes()
        source = random.Random(5)
        cases = [whole[:length] for length in range(0, len(whole), 7)]
        for _ in range(200):
            data = bytearray(whole)
            for _ in range(source.choice((1, 3))):
                data[source.randrange(12, len(data))] = source.choice((0, 255, source.randrange(256)))
            cases.append(bytes(data))
        refusals = 0
        for data in cases:
            try:
                image = EncodedImage(data, "it", Budget(LIMITS))
                assert image.decode().shape == (image.height, image.width, 4)
            except FarframeError as error:
                refusals += 1
                assert error.result in (Result.FILE_CORRUPT, Result.NOT_SUPPORTED, Result.EXCEEDS_MEMORY_LIMIT)
        assert refusals > 50


class TestSpecularGlossiness:
    """Against the extension's own relation: a metallic-roughness material has the specular colour
    ``0.04 (1 - m) + base m`` and the diffuse colour ``base (1 - 0.04) (1 - m)``."""

    @pytest.mark.parametrize("metallic", [0.0, 0.35, 1.0])
    def test_metalness_is_found_again(self, metallic):
        base = np.array([0.8, 0.8, 0.8])
        specular = 0.04 * (1 - metallic) + base * metallic
        remaining = 1 - specular.max()
        diffuse = base * 0.96 * (1 - metallic) / remaining
        found, found_metallic = metallic_of(diffuse, specular)
        assert float(found_metallic) == pytest.approx(metallic, abs=1e-6)
        assert found == pytest.approx(base, abs=1e-6)

    def test_factors_alone(self, tmp_path, gltf):
        gltf.material(
            extensions={
                "KHR_materials_pbrSpecularGlossiness": {
                    "diffuseFactor": [0, 0, 0, 0.5],
                    "specularFactor": [1.0, 0.77, 0.34],
                    "glossinessFactor": 0.75,
                }
            }
        )
        gltf.json["extensionsRequired"] = ["KHR_materials_pbrSpecularGlossiness"]
        gltf.node(mesh=gltf.mesh({**gltf.quad(), "material": 0}))
        material = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS).materials[0]
        assert material.metallic == pytest.approx(1.0, abs=0.02)
        assert material.base_color == pytest.approx((1.0, 0.77, 0.34, 0.5), abs=0.02)
        assert material.roughness == pytest.approx(0.25)

    def test_a_dielectric_keeps_its_texture(self, tmp_path, gltf, encode_image):
        pixels = np.full((2, 2, 4), 90, np.uint8)
        gltf.texture(encode_image(pixels))
        gltf.material(
            extensions={
                "KHR_materials_pbrSpecularGlossiness": {
                    "diffuseTexture": {"index": 0},
                    "diffuseFactor": [1, 0.5, 1, 1],
                    "specularFactor": [0.04, 0.04, 0.04],
                    "glossinessFactor": 0.2,
                }
            }
        )
        gltf.node(mesh=gltf.mesh({**gltf.quad(), "material": 0}))
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        assert len(model.textures) == 1 and (model.textures[0].pixels == pixels).all()
        material = model.materials[0]
        assert material.metallic == 0.0 and material.metallic_roughness_texture is None
        assert material.base_color == pytest.approx((1, 0.5, 1, 1))

    def test_textures_are_worked_out_texel_by_texel(self, tmp_path, gltf, encode_image):
        diffuse = np.zeros((8, 8, 4), np.uint8)
        diffuse[:, :4] = (188, 10, 10, 200)
        specular = np.zeros((4, 4, 4), np.uint8)
        specular[:, :2] = (56, 56, 56, 64)
        specular[:, 2:] = (255, 226, 155, 255)
        gltf.texture(encode_image(diffuse))
        gltf.texture(encode_image(specular), wrapS=33071)
        gltf.material(
            extensions={
                "KHR_materials_pbrSpecularGlossiness": {
                    "diffuseTexture": {"index": 0},
                    "specularGlossinessTexture": {"index": 1},
                }
            }
        )
        gltf.node(mesh=gltf.mesh({**gltf.quad(TEXCOORD_0=gltf.accessor([[0, 0]] * 4)), "material": 0}))
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        material = model.materials[0]
        assert material.base_color_texture is not None and material.metallic_roughness_texture is not None
        base = model.textures[material.base_color_texture.texture]
        rough = model.textures[material.metallic_roughness_texture.texture]
        assert len(model.textures) == 2 and base.srgb and not rough.srgb
        assert base.pixels.shape == rough.pixels.shape == (8, 8, 4)
        # Red paint: roughness 1 - 64/255, no metal. Gold: its colour is the specular one.
        assert np.abs(base.pixels[4, 0].astype(int) - [188, 10, 10, 200]).max() <= 3
        assert rough.pixels[4, 0, 1:3].tolist() == [191, 0]
        assert np.abs(base.pixels[4, 7, :3].astype(int) - [255, 226, 155]).max() <= 3
        assert rough.pixels[4, 7, 1] == 0 and rough.pixels[4, 7, 2] >= 250

    def test_bands_make_no_difference(self, monkeypatch):
        pixels = np.random.default_rng(2).integers(0, 256, (2, 21, 17, 4), dtype=np.uint8)
        arguments = (pixels[0], pixels[1], (1.0, 0.9, 0.8), (0.5, 0.6, 0.7), 0.9)
        whole = bake_specular_glossiness(*arguments)
        monkeypatch.setattr("farframe.asset.gltf_materials._BAND_ROWS", 4)
        assert all((a == b).all() for a, b in zip(whole, bake_specular_glossiness(*arguments), strict=True))

    def test_what_it_makes_is_charged(self, tmp_path, gltf, encode_image):
        gltf.texture(encode_image(np.zeros((1500, 1500, 3), np.uint8)))
        for number in range(4):
            gltf.material(
                extensions={
                    "KHR_materials_pbrSpecularGlossiness": {
                        "specularGlossinessTexture": {"index": 0},
                        "glossinessFactor": number / 4,
                    }
                }
            )
        gltf.node(mesh=gltf.mesh({**gltf.quad(), "material": 0}))
        limits = LoadLimits(max_total_texture_pixels=10_000_000)
        assert refused(gltf.write_glb(tmp_path / "a.glb"), limits).result is Result.EXCEEDS_MEMORY_LIMIT


class TestOtherMaterials:
    def material(self, tmp_path, gltf, **members):
        gltf.material(**members)
        gltf.node(mesh=gltf.mesh({**gltf.quad(TEXCOORD_0=gltf.accessor([[0, 0]] * 4)), "material": 0}))
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        return model, model.materials[0]

    def test_glass_is_transparent(self, tmp_path, gltf):
        model, material = self.material(
            tmp_path, gltf, extensions={"KHR_materials_transmission": {"transmissionFactor": 1.0}}
        )
        assert material.alpha_mode == "blend" and material.base_color == pytest.approx((1, 1, 1, 0.15))
        assert any("let light through" in each for each in model.warnings)

    def test_no_transmission_is_no_change(self, tmp_path, gltf):
        model, material = self.material(tmp_path, gltf, extensions={"KHR_materials_transmission": {}})
        assert material.alpha_mode == "opaque" and not model.warnings

    def test_a_clear_coat_smooths(self, tmp_path, gltf):
        model, material = self.material(
            tmp_path,
            gltf,
            pbrMetallicRoughness={"roughnessFactor": 0.8},
            extensions={"KHR_materials_clearcoat": {"clearcoatFactor": 1.0, "clearcoatRoughnessFactor": 0.2}},
        )
        assert material.roughness == pytest.approx(0.5)
        assert any("Clear coats" in each for each in model.warnings)

    def test_microsofts_packing(self, tmp_path, gltf, encode_image):
        gltf.texture(encode_image(np.full((2, 2, 3), (10, 20, 30), np.uint8)))
        gltf.texture(encode_image(np.full((2, 2, 3), (204, 128, 0), np.uint8)))
        model, material = self.material(
            tmp_path,
            gltf,
            extensions={
                "MSFT_packing_occlusionRoughnessMetallic": {
                    "roughnessMetallicOcclusionTexture": {"index": 0},
                    "normalTexture": {"index": 1},
                }
            },
        )
        assert material.metallic_roughness_texture == material.occlusion_texture is not None
        packed = model.textures[material.occlusion_texture.texture]
        assert packed.pixels[0, 0].tolist() == [30, 10, 20, 255] and not packed.srgb
        assert material.normal_texture is not None
        normal = model.textures[material.normal_texture.texture].pixels[0, 0] / 127.5 - 1
        assert np.linalg.norm(normal[:3]) == pytest.approx(1.0, abs=0.01) and normal[2] > 0.7

    def test_the_core_goes_before_the_packing(self, tmp_path, gltf, encode_image):
        first = gltf.texture(encode_image(np.full((2, 2, 3), 10, np.uint8)))
        second = gltf.texture(encode_image(np.full((2, 2, 3), 20, np.uint8)))
        model, material = self.material(
            tmp_path,
            gltf,
            pbrMetallicRoughness={"metallicRoughnessTexture": {"index": first}},
            extensions={
                "MSFT_packing_occlusionRoughnessMetallic": {"occlusionRoughnessMetallicTexture": {"index": second}}
            },
        )
        assert material.metallic_roughness_texture is not None and material.occlusion_texture is not None
        assert model.textures[material.metallic_roughness_texture.texture].pixels[0, 0, 0] == 10
        assert model.textures[material.occlusion_texture.texture].pixels[0, 0, 0] == 20

    def test_normals_beyond_the_circle_lie_flat(self):
        assert normals_with_z(np.full((1, 1, 4), 255, np.uint8))[0, 0].tolist() == [255, 255, 128, 255]


class TestInstancing:
    def add(self, gltf, count=3, **attributes):
        gltf.node(
            mesh=gltf.mesh(gltf.quad()),
            name="tree",
            translation=[0, 0, 5],
            extensions={"EXT_mesh_gpu_instancing": {"attributes": attributes}},
        )
        gltf.json["extensionsRequired"] = ["EXT_mesh_gpu_instancing"]

    def test_every_instance_is_a_node(self, tmp_path, gltf):
        half = math.sqrt(0.5)
        gltf.node(name="first")
        self.add(
            gltf,
            TRANSLATION=gltf.accessor([[1, 0, 0], [2, 0, 0], [3, 0, 0]]),
            ROTATION=gltf.accessor([[0, 0, 0, 1], [0, 0, half, half], [0, 0, 0, 1]]),
            SCALE=gltf.accessor([[1, 1, 1], [2, 2, 2], [1, 1, 1]]),
            _COLOR=gltf.accessor([[1, 1, 1]] * 3),
        )
        gltf.node(name="last", mesh=0)
        model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
        assert [node.name for node in model.nodes] == ["first", "tree", "last", "tree[0]", "tree[1]", "tree[2]"]
        assert [node.parent for node in model.nodes] == [-1, -1, -1, 1, 1, 1]
        assert model.instance_node.tolist() == [2, 3, 4, 5]
        assert model.triangle_count == 8
        # The second: twice as large, a quarter turn to the left.
        assert model.instance_matrix[2] @ [1, 0, 0, 1] == pytest.approx([2, 2, 5, 1], abs=1e-6)

    def test_counts_must_agree(self, tmp_path, gltf):
        self.add(gltf, TRANSLATION=gltf.accessor([[1, 0, 0]] * 3), SCALE=gltf.accessor([[1, 1, 1]] * 2))
        assert refused(gltf.write_glb(tmp_path / "a.glb")).result is Result.FILE_CORRUPT

    def test_their_number_is_limited_before_they_are_made(self, tmp_path, gltf):
        gltf.json["accessors"].append({"componentType": 5126, "count": 10**12, "type": "VEC3"})
        self.add(gltf, TRANSLATION=0)
        assert refused(gltf.write_glb(tmp_path / "a.glb")).result is Result.EXCEEDS_MEMORY_LIMIT

    def test_numbers_that_are_none(self, tmp_path, gltf):
        self.add(gltf, TRANSLATION=gltf.accessor([[np.nan, 0, 0]]))
        assert refused(gltf.write_glb(tmp_path / "a.glb")).result is Result.FILE_CORRUPT


@pytest.mark.parametrize("extension", sorted(SUPPORTED_EXTENSIONS | DISPENSABLE_EXTENSIONS))
def test_a_file_may_require_what_is_read(tmp_path, gltf, extension):
    gltf.json["extensionsUsed"] = gltf.json["extensionsRequired"] = [extension]
    gltf.node(mesh=gltf.mesh(gltf.quad()))
    model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
    assert model.triangle_count == 2
    assert bool(model.warnings) == (extension in DISPENSABLE_EXTENSIONS)


def test_broken_compressed_geometry_is_refused_or_a_sound_model(tmp_path, new_gltf):
    source = random.Random(11)
    refusals = 0
    for make in (TestDraco().add, TestMeshopt().add):
        gltf = new_gltf()
        make(gltf)
        whole = bytes(gltf.data)
        for _ in range(100):
            data = bytearray(whole)
            for _ in range(source.choice((1, 2, 8))):
                data[source.randrange(len(data))] = source.choice((0, 255, source.randrange(256)))
            gltf.data = data
            try:
                model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
            except FarframeError as error:
                assert error.result in (Result.FILE_CORRUPT, Result.NOT_SUPPORTED, Result.EXCEEDS_MEMORY_LIMIT)
                refusals += 1
                continue
            for part in model.parts:
                level = part.levels[0]
                indices = model.indices[level.first_index : level.first_index + level.index_count]
                assert int(indices.max()) < part.vertex_count
            assert np.isfinite(model.vertices["position"]).all()
    assert 50 < refusals < 200


def test_a_file_may_use_all_of_them_at_once(rich_glb):
    model = read_gltf(rich_glb, LIMITS)
    assert model.triangle_count == 8
    assert len(model.textures) == 4
    material = model.materials[0]
    slots = (
        material.base_color_texture,
        material.metallic_roughness_texture,
        material.occlusion_texture,
        material.normal_texture,
    )
    assert None not in slots
    assert material.alpha_mode == "blend"
