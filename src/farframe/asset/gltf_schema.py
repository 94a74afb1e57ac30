"""The JSON of a glTF 2.0 file as typed, frozen structures, as far as this reader uses it.

Decoded by msgspec rather than by a glTF library such as pygltflib: the bytes are hostile, so types and ranges must be
checked before any code sees a value, and a wrong one must be reported with its JSON path, not as a traceback from
somewhere behind. msgspec does that in the one pass that also decodes, about ten times faster than ``json`` plus
dataclasses; pygltflib checks nothing and would leave all of it to us. Members that are not named here (unknown
extensions, ``extras`` but those of nodes, which stay text until gltf_metadata.py reads them) are skipped without being
built.

Field names and defaults are those of the glTF 2.0 specification, chapter 5.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Index = Annotated[int, Meta(ge=0, lt=2**31)]
Size = Annotated[int, Meta(ge=0, lt=2**53)]
Count = Annotated[int, Meta(ge=0, lt=2**53)]
Vector2 = tuple[float, float]
Vector3 = tuple[float, float, float]
Vector4 = tuple[float, float, float, float]
Matrix4 = Annotated[list[float], Meta(min_length=16, max_length=16)]
ComponentType = Literal[5120, 5121, 5122, 5123, 5125, 5126]
AccessorType = Literal["SCALAR", "VEC2", "VEC3", "VEC4", "MAT2", "MAT3", "MAT4"]


class _Object(msgspec.Struct, frozen=True, rename="camel", kw_only=True, gc=False):
    """Base of all: camelCase in JSON, unknown members skipped; never in a cycle, so not watched by the collector."""


class Asset(_Object, frozen=True):
    """``asset``: which version of glTF this is."""

    version: str
    min_version: str | None = None


class Buffer(_Object, frozen=True):
    """A run of bytes: the GLB's binary chunk (no ``uri``), a file beside the JSON or a data URI."""

    byte_length: Size
    uri: str | None = None
    name: str = ""


class MeshoptView(_Object, frozen=True):
    """EXT_meshopt_compression and KHR_meshopt_compression: where the compressed bytes of a buffer view are."""

    buffer: Index
    byte_length: Size
    byte_stride: Annotated[int, Meta(ge=1, le=256)]
    count: Count
    mode: Literal["ATTRIBUTES", "TRIANGLES", "INDICES"]
    byte_offset: Size = 0
    filter: Literal["NONE", "OCTAHEDRAL", "QUATERNION", "EXPONENTIAL", "COLOR"] = "NONE"


class BufferViewExtensions(msgspec.Struct, frozen=True):
    """Extensions of a buffer view that this reader understands."""

    EXT_meshopt_compression: MeshoptView | None = None
    KHR_meshopt_compression: MeshoptView | None = None


class BufferView(_Object, frozen=True):
    """A range of a buffer, with the distance between elements if they are interleaved."""

    buffer: Index
    byte_length: Size
    byte_offset: Size = 0
    byte_stride: Annotated[int, Meta(ge=4, le=252, multiple_of=4)] | None = None
    extensions: BufferViewExtensions = BufferViewExtensions()


class SparseIndices(_Object, frozen=True):
    """Which elements a sparse accessor replaces."""

    buffer_view: Index
    component_type: Literal[5121, 5123, 5125]
    byte_offset: Size = 0


class SparseValues(_Object, frozen=True):
    """What a sparse accessor replaces them with."""

    buffer_view: Index
    byte_offset: Size = 0


class Sparse(_Object, frozen=True):
    """Elements of an accessor that differ from its base."""

    count: Count
    indices: SparseIndices
    values: SparseValues


class Accessor(_Object, frozen=True):
    """Typed elements in a buffer view; all zero where there is no view."""

    component_type: ComponentType
    count: Count
    type: AccessorType
    buffer_view: Index | None = None
    byte_offset: Size = 0
    normalized: bool = False
    sparse: Sparse | None = None


class Draco(_Object, frozen=True):
    """KHR_draco_mesh_compression: the compressed triangles, and Draco's ids of the attributes that lie there."""

    buffer_view: Index
    attributes: dict[str, Index]


class PrimitiveExtensions(msgspec.Struct, frozen=True):
    """Extensions of a primitive that this reader understands."""

    KHR_draco_mesh_compression: Draco | None = None


class Primitive(_Object, frozen=True):
    """Geometry with one material. ``mode`` is the topology: 0 points, 1-3 lines, 4 triangles, 5 strip, 6 fan."""

    attributes: dict[str, Index]
    indices: Index | None = None
    material: Index | None = None
    mode: Annotated[int, Meta(ge=0, le=6)] = 4
    targets: list[Any] = []
    extensions: PrimitiveExtensions = PrimitiveExtensions()


class Mesh(_Object, frozen=True):
    """Primitives that a node shows together."""

    primitives: list[Primitive]
    name: str = ""


class Instancing(_Object, frozen=True):
    """EXT_mesh_gpu_instancing: accessors with one element for each instance of the node's mesh."""

    attributes: dict[str, Index] = {}


class NodeExtensions(msgspec.Struct, frozen=True):
    """Extensions of a node that this reader understands."""

    EXT_mesh_gpu_instancing: Instancing | None = None


class Node(_Object, frozen=True):
    """A node: either ``matrix`` (column-major) or translation, rotation (xyzw) and scale."""

    name: str = ""
    children: list[Index] = []
    mesh: Index | None = None
    skin: Index | None = None
    camera: Index | None = None
    matrix: Matrix4 | None = None
    translation: Vector3 | None = None
    rotation: Vector4 | None = None
    scale: Vector3 | None = None
    extensions: NodeExtensions = NodeExtensions()
    extras: msgspec.Raw = msgspec.Raw()


class Scene(_Object, frozen=True):
    """The roots that are shown together."""

    nodes: list[Index] = []
    name: str = ""


class TextureTransform(_Object, frozen=True):
    """KHR_texture_transform."""

    offset: Vector2 = (0.0, 0.0)
    rotation: float = 0.0
    scale: Vector2 = (1.0, 1.0)
    tex_coord: Index | None = None


class TextureInfoExtensions(msgspec.Struct, frozen=True):
    """Extensions of a texture reference that this reader understands."""

    KHR_texture_transform: TextureTransform | None = None


class TextureInfo(_Object, frozen=True):
    """A reference to a texture. ``scale`` is of normal textures, ``strength`` of occlusion textures."""

    index: Index
    tex_coord: Index = 0
    scale: float = 1.0
    strength: float = 1.0
    extensions: TextureInfoExtensions = TextureInfoExtensions()


class MetallicRoughness(_Object, frozen=True):
    """``pbrMetallicRoughness``."""

    base_color_factor: Vector4 = (1.0, 1.0, 1.0, 1.0)
    base_color_texture: TextureInfo | None = None
    metallic_factor: float = 1.0
    roughness_factor: float = 1.0
    metallic_roughness_texture: TextureInfo | None = None


class EmissiveStrength(_Object, frozen=True):
    """KHR_materials_emissive_strength."""

    emissive_strength: Annotated[float, Meta(ge=0.0)] = 1.0


class SpecularGlossiness(_Object, frozen=True):
    """KHR_materials_pbrSpecularGlossiness."""

    diffuse_factor: Vector4 = (1.0, 1.0, 1.0, 1.0)
    diffuse_texture: TextureInfo | None = None
    specular_factor: Vector3 = (1.0, 1.0, 1.0)
    glossiness_factor: float = 1.0
    specular_glossiness_texture: TextureInfo | None = None


class Clearcoat(_Object, frozen=True):
    """KHR_materials_clearcoat, the parts of it that something can be made of."""

    clearcoat_factor: float = 0.0
    clearcoat_roughness_factor: float = 0.0


class Transmission(_Object, frozen=True):
    """KHR_materials_transmission."""

    transmission_factor: float = 0.0
    transmission_texture: TextureInfo | None = None


class PackedOcclusion(_Object, frozen=True):
    """MSFT_packing_occlusionRoughnessMetallic: other packings of the core's textures."""

    occlusion_roughness_metallic_texture: TextureInfo | None = None
    roughness_metallic_occlusion_texture: TextureInfo | None = None
    normal_texture: TextureInfo | None = None


class MaterialExtensions(msgspec.Struct, frozen=True):
    """Extensions of a material that this reader understands."""

    KHR_materials_unlit: dict[str, msgspec.Raw] | None = None
    KHR_materials_emissive_strength: EmissiveStrength | None = None
    KHR_materials_pbrSpecularGlossiness: SpecularGlossiness | None = None
    KHR_materials_clearcoat: Clearcoat | None = None
    KHR_materials_transmission: Transmission | None = None
    MSFT_packing_occlusionRoughnessMetallic: PackedOcclusion | None = None


class Material(_Object, frozen=True):
    """A material of the metallic-roughness model."""

    name: str = ""
    pbr_metallic_roughness: MetallicRoughness = MetallicRoughness()
    normal_texture: TextureInfo | None = None
    occlusion_texture: TextureInfo | None = None
    emissive_texture: TextureInfo | None = None
    emissive_factor: Vector3 = (0.0, 0.0, 0.0)
    alpha_mode: Literal["OPAQUE", "MASK", "BLEND"] = "OPAQUE"
    alpha_cutoff: Annotated[float, Meta(ge=0.0)] = 0.5
    double_sided: bool = False
    extensions: MaterialExtensions = MaterialExtensions()


class Image(_Object, frozen=True):
    """The bytes of an image file: in a buffer view, in a file or in a data URI."""

    uri: str | None = None
    buffer_view: Index | None = None
    name: str = ""


class Sampler(_Object, frozen=True):
    """How a texture is read; numbers are OpenGL's."""

    mag_filter: Literal[9728, 9729] | None = None
    min_filter: Literal[9728, 9729, 9984, 9985, 9986, 9987] | None = None
    wrap_s: Literal[33071, 33648, 10497] = 10497
    wrap_t: Literal[33071, 33648, 10497] = 10497


class TextureImage(_Object, frozen=True):
    """KHR_texture_basisu and EXT_texture_webp: the image to read instead of the core's."""

    source: Index | None = None


class TextureExtensions(msgspec.Struct, frozen=True):
    """Extensions of a texture that this reader understands."""

    KHR_texture_basisu: TextureImage | None = None
    EXT_texture_webp: TextureImage | None = None


class Texture(_Object, frozen=True):
    """An image and how it is read. ``source`` may be missing where only an extension names the image."""

    sampler: Index | None = None
    source: Index | None = None
    name: str = ""
    extensions: TextureExtensions = TextureExtensions()


class AnimationSampler(_Object, frozen=True):
    """Keys: times and values by accessor."""

    input: Index
    output: Index
    interpolation: Literal["STEP", "LINEAR", "CUBICSPLINE"] = "LINEAR"


class AnimationTarget(_Object, frozen=True):
    """What is moved: ``translation``, ``rotation`` or ``scale`` of a node, or something that is not read."""

    path: str
    node: Index | None = None


class AnimationChannel(_Object, frozen=True):
    """Which sampler moves what."""

    sampler: Index
    target: AnimationTarget


class Animation(_Object, frozen=True):
    """Channels that are played together."""

    channels: list[AnimationChannel] = []
    samplers: list[AnimationSampler] = []
    name: str = ""


class Document(_Object, frozen=True):
    """The whole JSON. Lists of what is left out are kept as raw bytes: only their number is of interest."""

    asset: Asset
    accessors: list[Accessor] = []
    buffers: list[Buffer] = []
    buffer_views: list[BufferView] = []
    images: list[Image] = []
    materials: list[Material] = []
    meshes: list[Mesh] = []
    nodes: list[Node] = []
    samplers: list[Sampler] = []
    scene: Index | None = None
    scenes: list[Scene] = []
    textures: list[Texture] = []
    animations: list[Animation] = []
    cameras: list[msgspec.Raw] = []
    skins: list[msgspec.Raw] = []
    extensions_used: list[str] = []
    extensions_required: list[str] = []
    extensions: dict[str, msgspec.Raw] = {}


_decoder = msgspec.json.Decoder(Document)


def decode_document(data: bytes | memoryview) -> Document:
    """The typed document of some JSON bytes.

    Raises ``ValueError`` with a sentence that names the place (``$.accessors[3].count``) for anything that is not a
    glTF 2.0 document: ``msgspec.MsgspecError``'s texts are fit to be shown.
    """
    try:
        document: Document = _decoder.decode(data)
    except RecursionError:
        raise ValueError("The JSON is nested too deeply.") from None
    except UnicodeDecodeError:
        raise ValueError("The JSON is not valid UTF-8.") from None
    except msgspec.MsgspecError as error:
        raise ValueError(f"{error}.") from None
    return document
