"""A model on the device: its buffers and textures, and the flat tables that selection reads every frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import wgpu
from numpy.typing import NDArray

from farframe.asset.format import TextureEntry
from farframe.asset.model import Material, Model, Texture, TextureSlot
from farframe.asset.textures_file import BLOCK_SIZES
from farframe.protocol.errors import FarframeError, Result
from farframe.render.pipelines import OWN_SLOTS, SLOTS, Pipelines, Variant
from farframe.render.solids import solid_parts_of
from farframe.render.textures import mip_chain, mip_sizes

if TYPE_CHECKING:
    from farframe.render.assets import AssetResource, AssetTexture

CHUNK_BYTES = 8 << 20
"""Bytes per step of an upload: a few milliseconds, so that frames can be drawn in between."""

_ADDRESS = {"repeat": "repeat", "mirror": "mirror-repeat", "clamp": "clamp-to-edge"}


@dataclass(slots=True)
class PartTables:
    """Structure of arrays over a model's parts. L is the greatest number of levels of any part.

    ``center``, ``extent``: (p, 3) float64, middle and half size of the box in part space; ``first_index``, ``count``:
    (p, L) uint32 of each level; ``error``: (p, L) float32 metres, infinite beyond a part's last level;
    ``first_vertex``: (p,) uint32; ``variant``: (p,) index into ``ModelResource.variants``.
    """

    center: NDArray[np.float64]
    extent: NDArray[np.float64]
    first_index: NDArray[np.uint32]
    count: NDArray[np.uint32]
    error: NDArray[np.float32]
    first_vertex: NDArray[np.uint32]
    material: NDArray[np.int64]
    vertex_color: NDArray[np.bool_]


def part_tables(model: Model) -> PartTables:
    """The tables of a model's parts."""
    parts = model.parts
    count = len(parts)
    levels = max((len(part.levels) for part in parts), default=1)
    low = np.array([part.bounds_min for part in parts], np.float64).reshape(count, 3)
    high = np.array([part.bounds_max for part in parts], np.float64).reshape(count, 3)
    first_index = np.zeros((count, levels), np.uint32)
    index_count = np.zeros((count, levels), np.uint32)
    error = np.full((count, levels), np.inf, np.float32)
    for row, part in enumerate(parts):
        for column, level in enumerate(part.levels):
            first_index[row, column] = level.first_index
            index_count[row, column] = level.index_count
            error[row, column] = level.error
    if levels > 1:
        # Selection counts the levels that are good enough, so errors must not fall from one level to the next.
        error = np.maximum.accumulate(error, axis=1)
    first_vertex = np.array([part.first_vertex for part in parts], np.uint32)
    vertex_count = np.array([part.vertex_count for part in parts], np.int64)
    tinted = np.zeros(len(model.vertices) + 1, np.int64)
    if len(model.vertices):
        np.cumsum((model.vertices["color"] != 255).any(axis=1), out=tinted[1:])
    start = first_vertex.astype(np.int64)
    return PartTables(
        center=(low + high) / 2.0,
        extent=np.maximum((high - low) / 2.0, 0.0),
        first_index=first_index,
        count=index_count,
        error=error,
        first_vertex=first_vertex,
        material=np.array([part.material for part in parts], np.int64),
        vertex_color=np.asarray(tinted[start + vertex_count] > tinted[start], np.bool_).reshape(count),
    )


def material_factors(materials: list[Material]) -> NDArray[np.float32]:
    """(m, 12) per material, in the order of the instance row's last three fields."""
    return np.array(
        [
            [
                *material.base_color,
                material.metallic,
                # A perfect mirror would show the directional light as a single pixel that twinkles.
                max(material.roughness, 0.03),
                material.normal_scale,
                material.occlusion_strength,
                *material.emissive,
                material.alpha_cutoff,
            ]
            for material in materials
        ],
        np.float32,
    ).reshape(len(materials), 12)


@dataclass(slots=True, eq=False)
class ModelResource:
    """A model on the device. Made by :meth:`Engine.upload`, freed by :meth:`Engine.release`.

    ``factors``: (m, 12) float32 per material, in the order of the instance row's last three fields;
    ``texture_set``: per material an index into ``texture_sets`` (bind groups) or -1.
    """

    model: Model
    parts: PartTables
    factors: NDArray[np.float32]
    texture_set: NDArray[np.int64]
    vertices: Any = None
    indices: Any = None
    textures: list[Any] = field(default_factory=list)
    texture_sets: list[Any] = field(default_factory=list)
    size_bytes: int = 0
    released: bool = False
    _solid: NDArray[np.uint8] | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def solid(self) -> NDArray[np.uint8]:
        """(p,) which parts have an inside, and how, see ``solids``; found when it is first asked for."""
        if self._solid is None:
            self._solid = solid_parts_of(self.model)
        return self._solid

    @property
    def instance_part(self) -> NDArray[np.int32]:
        """(i,) the part of each instance."""
        return self.model.instance_part

    @property
    def instance_matrix(self) -> NDArray[np.float64]:
        """(i, 4, 4) part space to model space."""
        return self.model.instance_matrix

    @property
    def materials(self) -> list[Material]:
        """The model's materials."""
        return self.model.materials

    def variant(self, part: int, *, mirrored: bool) -> Variant:
        """The pipeline variant that draws a part."""
        return Variant.of(
            self.model.materials[int(self.parts.material[part])],
            vertex_color=bool(self.parts.vertex_color[part]),
            mirrored=mirrored,
        )

    def texture_binding(self, uploader: Uploader, number: int) -> tuple[Any, Any] | None:
        """The view and the sampler of one of the model's textures."""
        return self.textures[number].create_view(), uploader.sampler(self.model.textures[number])

    def texture_state(self, number: int) -> int:
        """Grows no more: the textures of a model are there in full once it is uploaded."""
        return 0

    def normal_xy(self, material: int) -> bool:
        """Whether the normal map of a material has two channels: files of models have three."""
        return False

    def destroy(self) -> None:
        """Free everything on the device."""
        for buffer in (self.vertices, self.indices):
            if buffer is not None:
                buffer.destroy()
        for texture in self.textures:
            texture.destroy()
        self.vertices = self.indices = None
        self.textures.clear()
        self.texture_sets.clear()
        self.size_bytes = 0
        self.released = True


class Uploader:
    """Brings models onto a device, in steps."""

    def __init__(self, device: Any, pipelines: Pipelines, *, anisotropy: int, decode_blocks: bool = False) -> None:
        self._device = device
        self._pipelines = pipelines
        self._anisotropy = anisotropy
        # A CPU adapter decodes a block for each texel that it reads, which costs BC7 up to a hundred times as much.
        self._decoded_formats = {"bc5-rg-unorm", "bc7-rgba-unorm"} if decode_blocks else set()
        if "texture-compression-bc" not in device.features:
            self._decoded_formats = {"bc1-rgba-unorm", "bc5-rg-unorm", "bc7-rgba-unorm"}
        self._samplers: dict[tuple[Any, ...], Any] = {}
        self._white = self._solid((255, 255, 255, 255))
        self._flat = self._solid((128, 128, 255, 255))
        self._plain_sampler = self._sampler(Texture(np.zeros((1, 1, 4), np.uint8), srgb=False))

    @property
    def decoded_formats(self) -> frozenset[str]:
        """Formats of blocks that textures should not have on this device."""
        return frozenset(
            BLOCK_SIZES if "texture-compression-bc" not in self._device.features else self._decoded_formats
        )

    def _solid(self, rgba: tuple[int, int, int, int]) -> Any:
        texture = self._device.create_texture(
            size=(1, 1, 1),
            format="rgba8unorm",
            usage=wgpu.TextureUsage.TEXTURE_BINDING | wgpu.TextureUsage.COPY_DST,
        )
        self._device.queue.write_texture({"texture": texture}, bytes(rgba), {"bytes_per_row": 4}, (1, 1, 1))
        return texture

    def _sampler(self, texture: Texture | TextureEntry) -> Any:
        key = (texture.wrap_u, texture.wrap_v, texture.mag_filter, texture.min_filter, texture.mipmaps)
        if key not in self._samplers:
            smooth = texture.mag_filter == texture.min_filter == "linear" and texture.mipmaps
            self._samplers[key] = self._device.create_sampler(
                address_mode_u=_ADDRESS[texture.wrap_u],
                address_mode_v=_ADDRESS[texture.wrap_v],
                mag_filter=texture.mag_filter,
                min_filter=texture.min_filter,
                mipmap_filter="linear" if texture.mipmaps else "nearest",
                max_anisotropy=self._anisotropy if smooth else 1,
            )
        return self._samplers[key]

    def start(self, model: Model) -> ModelResource:
        """A resource for ``model``, nothing of it on the device yet. Raises ``ExceedsMemoryLimit`` if it is too big."""
        limit = int(self._device.limits["max-buffer-size"])
        if max(model.vertices.nbytes, model.indices.nbytes) > limit:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"The model {model.name!r} needs a buffer larger than the {limit >> 20} MB that this device allows.",
                next_step="Simplify it, or split it into several models.",
            )
        side = int(self._device.limits["max-texture-dimension-2d"])
        for texture in model.textures:
            if max(texture.pixels.shape[:2]) > side:
                height, width = texture.pixels.shape[:2]
                raise FarframeError(
                    Result.EXCEEDS_MEMORY_LIMIT,
                    f"The texture {texture.name!r} of {width} x {height} pixels is larger than this device's {side}.",
                    next_step="Scale it down.",
                )
        factors = material_factors(model.materials)
        return ModelResource(model, part_tables(model), factors, np.full(len(model.materials), -1, np.int64))

    def steps(self, resource: ModelResource) -> Iterator[float]:
        """Bring ``resource`` onto the device. Yields the share that is done, from above 0 to 1."""
        model = resource.model
        texture_bytes = sum(texture.pixels.nbytes for texture in model.textures) * 4 // 3
        total = max(1, model.vertices.nbytes + model.indices.nbytes + texture_bytes)
        done = 0
        usage = wgpu.BufferUsage
        for name, array, kind in (("vertices", model.vertices, usage.VERTEX), ("indices", model.indices, usage.INDEX)):
            data = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
            buffer = self._device.create_buffer(label=name, size=max(4, len(data)), usage=kind | usage.COPY_DST)
            setattr(resource, name, buffer)
            resource.size_bytes += buffer.size
            for start in range(0, len(data), CHUNK_BYTES):
                chunk = data[start : start + CHUNK_BYTES]
                self._device.queue.write_buffer(buffer, start, chunk)
                done += len(chunk)
                yield min(done / total, 0.99)
        for texture in model.textures:
            resource.textures.append(self._upload_texture(texture))
            resource.size_bytes += texture.pixels.nbytes * 4 // 3
            done += texture.pixels.nbytes * 4 // 3
            yield min(done / total, 0.99)
        self._bind_textures(resource)
        yield 1.0

    def _upload_texture(self, texture: Texture) -> Any:
        height, width = texture.pixels.shape[:2]
        levels = len(mip_sizes(width, height)) if texture.mipmaps else 1
        result = self._device.create_texture(
            label=texture.name,
            size=(width, height, 1),
            format="rgba8unorm-srgb" if texture.srgb else "rgba8unorm",
            mip_level_count=levels,
            usage=wgpu.TextureUsage.TEXTURE_BINDING | wgpu.TextureUsage.COPY_DST,
        )
        for level, pixels in zip(range(levels), mip_chain(texture.pixels, srgb=texture.srgb), strict=False):
            self._device.queue.write_texture(
                {"texture": result, "mip_level": level},
                np.ascontiguousarray(pixels),
                {"bytes_per_row": pixels.shape[1] * 4},
                (pixels.shape[1], pixels.shape[0], 1),
            )
        return result

    def _bind_textures(self, resource: ModelResource) -> None:
        """One bind group for each distinct set of textures."""
        groups: dict[tuple[int, ...], int] = {}
        for index, material in enumerate(resource.model.materials):
            if not Variant.of(material, vertex_color=False, mirrored=False).textured:
                continue
            slots: list[TextureSlot | None] = [getattr(material, f"{name}_texture") for name in OWN_SLOTS]
            key = tuple(-1 if slot is None else slot.texture for slot in slots)
            if key not in groups:
                groups[key] = len(resource.texture_sets)
                resource.texture_sets.append(self._texture_set(resource, key))
            resource.texture_set[index] = groups[key]

    def _texture_set(self, resource: ModelResource, key: tuple[int, ...]) -> Any:
        return self.texture_group([None if number < 0 else resource.texture_binding(self, number) for number in key])

    def texture_group(self, bindings: Sequence[tuple[Any, Any] | None]) -> Any:
        """The bind group of the textures of a material, by slot: a view and its sampler, or ``None``. Slots at the end
        may be left out."""
        entries: list[dict[str, Any]] = []
        for slot, name in enumerate(SLOTS):
            binding = bindings[slot] if slot < len(bindings) else None
            if binding is None:
                binding = (self._flat if name == "normal" else self._white).create_view(), self._plain_sampler
            entries += [
                {"binding": 2 * slot, "resource": binding[0]},
                {"binding": 2 * slot + 1, "resource": binding[1]},
            ]
        return self._device.create_bind_group(layout=self._pipelines.texture_layout, entries=entries)

    @cached_property
    def no_textures(self) -> Any:
        """The bind group of a material without textures."""
        return self.texture_group(())

    @property
    def plain_sampler(self) -> Any:
        """Repeats, and filters between texels and levels: for textures that say nothing else."""
        return self._plain_sampler

    def sampler(self, texture: Texture | TextureEntry) -> Any:
        """The sampler that a texture of a model asks for."""
        return self._sampler(texture)

    def make_asset_texture(self, entry: TextureEntry) -> AssetTexture:
        """A texture of an asset, with no level in it yet. Blocks that the device cannot read are decoded on the way."""
        from farframe.render.assets import AssetTexture, texture_usage

        # Blocks need a full size in whole blocks, too.
        decoded = entry.format in self._decoded_formats or (
            entry.format != "rgba8unorm" and bool(entry.width % 4 or entry.height % 4)
        )
        suffix = "-srgb" if entry.srgb and entry.format != "bc5-rg-unorm" else ""
        texture = self._device.create_texture(
            label=entry.name,
            size=(entry.width, entry.height, 1),
            format=("rgba8unorm" if decoded else entry.format) + suffix,
            mip_level_count=len(entry.mips),
            usage=texture_usage(),
        )
        return AssetTexture(entry, texture, decoded)

    def write_level(self, texture: AssetTexture, level: int, data: bytes) -> None:
        """Put the bytes of a level, see :meth:`AssetResource.level_data`, onto the device."""
        from farframe.render.assets import level_layout

        row_bytes, width, height = level_layout(texture, level)
        self._device.queue.write_texture(
            {"texture": texture.texture, "mip_level": level}, data, {"bytes_per_row": row_bytes}, (width, height, 1)
        )

    def asset_texture_set(self, resource: AssetResource, key: tuple[int, ...]) -> Any:
        """The bind group of an asset's textures (-1: none), each with the levels that are there."""
        return self.texture_group([None if number < 0 else resource.texture_binding(self, number) for number in key])
