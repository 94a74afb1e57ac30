"""A scene on the device: all instances of all its models as rows of one buffer, sorted into batches.

A batch is what one draw call can hold: the same pipeline variant, the same model's buffers, the same textures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import wgpu
from numpy.typing import NDArray

from farframe.protocol.errors import FarframeError, Result
from farframe.render.assets import AssetResource
from farframe.render.pipelines import INSTANCE_DTYPE, Variant
from farframe.render.points import point_rows
from farframe.render.resources import ModelResource
from farframe.render.scene import RenderScene
from farframe.render.visibility import Placement

REBASE_METERS = 256.0
"""How far the eye may be from the origin of the instances' coordinates: 32-bit floats are then exact to 0.02 mm
near the eye, wherever in the world that is."""


LOST_METERS = 1e15
"""Farther away than this, nothing is drawn: files with matrices gone astray must not disturb the rest."""


Resource = ModelResource | AssetResource


@dataclass(slots=True)
class AssetRows:
    """What cutting needs of the instances of assets, by row of the scene; other rows hold zeros. n rows.

    ``part`` (n,) in its own asset; ``world`` (n, 3, 4) part space to origin-relative world, ``inverse`` (n, 3, 4) back
    (zeros where there is no way back); ``least``, ``most`` (n,) stretch; ``reach`` (n, 3) greatest coordinates of the
    part's box; ``one_sided`` (n,).
    """

    part: NDArray[np.int64]
    world: NDArray[np.float64]
    inverse: NDArray[np.float64]
    least: NDArray[np.float32]
    most: NDArray[np.float32]
    reach: NDArray[np.float64]
    one_sided: NDArray[np.bool_]
    cloud: NDArray[np.int64]
    """(n,) which of the instances of point clouds a row is."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Instances that one call can draw. ``texture_set`` is an index into the resource's, or -1."""

    variant: Variant
    resource: Resource
    texture_set: int


class ScenePlacement:
    """The instance buffer and selection tables of a scene, rebuilt when a model is added, moved or removed, or when
    the eye has gone far from the origin."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self.origin = np.zeros(3)
        self.batches: list[Batch] = []
        self.placement: Placement | None = None
        self.assets: list[AssetResource] = []
        self.asset_rows: AssetRows | None = None
        self.instances: Any = None
        self.point_rows: Any = None
        self._key: tuple[int, int] | None = None

    def update(self, scene: RenderScene, eye: NDArray[np.float64], release_count: int) -> None:
        """Bring this up to date for ``scene`` seen from ``eye`` (3,) float64 metres."""
        far = bool(np.abs(eye - self.origin).max() > REBASE_METERS)
        key = (scene.placement_version, release_count)
        if key == self._key and not far:
            return
        if far:
            self.origin = eye.copy()
        self._key = key
        # Files may hold matrices that overflow; such instances become invisible, not a warning.
        with np.errstate(all="ignore"):
            self._build([(r, m) for r, m in scene.entries.values() if not r.released and len(r.instance_part)])

    def _build(self, entries: list[tuple[Resource, NDArray[np.float64]]]) -> None:
        variants: dict[Variant, int] = {}
        resources: dict[int, tuple[int, int]] = {}
        order: list[Resource] = []
        part_offset = 0
        columns: dict[str, list[NDArray[Any]]] = {
            name: [] for name in ("world", "part", "own_part", "reach", "material", "key")
        }
        levels = max((r.parts.count.shape[1] for r, _ in entries), default=1)
        tables: dict[str, list[NDArray[Any]]] = {name: [] for name in ("first", "count", "error", "vertex")}
        extents: list[NDArray[np.float64]] = []
        for resource, matrix in entries:
            if id(resource) not in resources:
                resources[id(resource)] = (len(order), part_offset)
                order.append(resource)
                part_offset += len(resource.parts.first_vertex)
                for name, table, fill in (
                    ("first", resource.parts.first_index, 0),
                    ("count", resource.parts.count, 0),
                    ("error", resource.parts.error, np.inf),
                ):
                    padding = ((0, 0), (0, levels - table.shape[1]))
                    tables[name].append(np.pad(table, padding, constant_values=fill))
                tables["vertex"].append(resource.parts.first_vertex)
            index, offset = resources[id(resource)]
            part = resource.instance_part.astype(np.int64)
            world = matrix @ resource.instance_matrix
            world[:, :3, 3] -= self.origin
            columns["world"].append(world)
            columns["part"].append(part + offset)
            columns["own_part"].append(part)
            columns["reach"].append(np.abs(resource.parts.center[part]) + resource.parts.extent[part])
            columns["material"].append(resource.factors[resource.parts.material[part]])
            columns["key"].append(self._keys(resource, index, part, world, variants))
            center = np.einsum("nij,nj->ni", world[:, :3, :3], resource.parts.center[part]) + world[:, :3, 3]
            extent = np.einsum("nij,nj->ni", np.abs(world[:, :3, :3]), resource.parts.extent[part])
            extents.append(np.stack([center, extent], axis=1))
        if not entries:
            self._clear()
            return
        key = np.concatenate(columns["key"])
        unique, batch = np.unique(key, axis=0, return_inverse=True)
        batch = batch.reshape(-1)
        sort = np.argsort(batch, kind="stable")
        names = list(variants)
        self.batches = [Batch(names[row[1]], order[row[2]], int(row[3])) for row in unique]
        world = np.concatenate(columns["world"])[sort]
        box = np.concatenate(extents)[sort]
        # What lies nowhere, or farther away than squares of 32-bit floats reach, gets a box that no frustum meets.
        lost = ~(np.abs(box) < LOST_METERS).all(axis=(1, 2))
        box[lost] = np.array([[0.0], [-LOST_METERS]])
        extent32 = box[:, 1].astype(np.float32)
        self.placement = Placement(
            center=box[:, 0].astype(np.float32),
            extent=extent32,
            radius=np.sqrt(np.einsum("ij,ij->i", extent32, extent32)),
            scale=np.sqrt(np.square(world[:, :3, :3]).sum(axis=1).max(axis=1)).astype(np.float32),
            part=np.concatenate(columns["part"])[sort],
            batch=batch[sort].astype(np.int64),
            batch_count=len(self.batches),
            first_blend_batch=int(np.count_nonzero(unique[:, 0] == 0)),
            first_index=np.concatenate(tables["first"]),
            count=np.concatenate(tables["count"]),
            error=np.concatenate(tables["error"]),
            first_vertex=np.concatenate(tables["vertex"]),
        )
        self._place_assets(order, key[sort], world, columns, sort)
        rows = np.zeros(len(sort), INSTANCE_DTYPE)
        rows["matrix"] = world[:, :3, :]
        material = np.concatenate(columns["material"])[sort]
        rows["base_color"], rows["surface"], rows["emissive"] = material[:, :4], material[:, 4:8], material[:, 8:]
        self._write(rows)

    def _place_assets(
        self,
        order: list[Resource],
        key: NDArray[np.int64],
        world: NDArray[np.float64],
        columns: dict[str, list[NDArray[Any]]],
        sort: NDArray[np.intp],
    ) -> None:
        """Fill what cutting needs, if there are assets at all."""
        assert self.placement is not None
        self.assets = [resource for resource in order if isinstance(resource, AssetResource)]
        self.asset_rows = None
        if not self.assets:
            return
        number = {id(resource): index for index, resource in enumerate(self.assets)}
        of_resource = np.array([number.get(id(resource), -1) for resource in order], np.int64)
        asset = of_resource[key[:, 2]]
        self.placement.asset = asset
        linear = world[:, :3, :3]
        usable = (asset >= 0) & np.isfinite(linear).all(axis=(1, 2)) & np.isfinite(world[:, :3, 3]).all(axis=1)
        stretch = np.zeros((len(world), 3))
        stretch[usable] = np.linalg.svd(linear[usable], compute_uv=False)
        regular = stretch[:, 2] > 1e-7 * stretch[:, 0]
        inverse = np.zeros((len(world), 3, 4))
        inverse[regular] = np.linalg.inv(world[regular])[:, :3]
        one_sided = np.array([not batch.variant.double_sided for batch in self.batches], np.bool_)
        clouds = np.array([batch.variant.points for batch in self.batches], np.bool_)[self.placement.batch]
        self.asset_rows = AssetRows(
            part=np.concatenate(columns["own_part"])[sort],
            world=world[:, :3],
            inverse=inverse,
            # A little less than it is, so that rounding never makes what is near look far.
            least=(stretch[:, 2] * regular * 0.99999).astype(np.float32),
            most=stretch[:, 0].astype(np.float32),
            reach=np.concatenate(columns["reach"])[sort],
            one_sided=one_sided[self.placement.batch] & regular,
            cloud=np.cumsum(clouds) - clouds,
        )
        if clouds.any():
            self.point_rows = self._filled(self.point_rows, "points", point_rows(world[clouds, :3]))

    @staticmethod
    def _keys(
        resource: Resource,
        index: int,
        part: NDArray[np.int64],
        world: NDArray[np.float64],
        variants: dict[Variant, int],
    ) -> NDArray[np.int64]:
        """(n, 4): blended, number of the variant, of the resource, of the texture set. Batches sort by it."""
        material = resource.parts.material[part]
        traits = np.stack(
            [
                material,
                resource.parts.vertex_color[part],
                np.linalg.det(world[:, :3, :3]) < 0.0,
                resource.tables.part_points[part] if isinstance(resource, AssetResource) else np.zeros(len(part)),
            ],
            axis=1,
        ).astype(np.int64)
        unique, some, inverse = np.unique(traits, axis=0, return_index=True, return_inverse=True)
        rows = np.empty((len(unique), 4), np.int64)
        for row, (number, _, mirrored, points) in enumerate(unique):
            variant = resource.variant(int(part[some[row]]), mirrored=bool(mirrored))
            variant_number = variants.setdefault(variant, len(variants))
            textures = -1 if points else resource.texture_set[number]
            rows[row] = (variant.alpha_mode == "blend", variant_number, index, textures)
        return np.asarray(rows[inverse.reshape(-1)], np.int64)

    def _clear(self) -> None:
        self.batches = []
        self.placement = None
        self.assets = []
        self.asset_rows = None
        self.destroy()

    def _write(self, rows: NDArray[np.void]) -> None:
        limit = int(self._device.limits["max-buffer-size"])
        if rows.nbytes > limit:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"The scene has {len(rows)} part instances; this device takes {limit // INSTANCE_DTYPE.itemsize}.",
                next_step="Merge parts, or load fewer models.",
            )
        self.instances = self._filled(self.instances, "instances", rows)

    def _filled(self, buffer: Any, label: str, rows: NDArray[np.void]) -> Any:
        """``buffer`` with ``rows`` in it, or another one where it is too small or far too large."""
        if buffer is None or buffer.size < rows.nbytes or buffer.size > 4 * rows.nbytes + 4096:
            if buffer is not None:
                buffer.destroy()
            usage = wgpu.BufferUsage.VERTEX | wgpu.BufferUsage.COPY_DST
            buffer = self._device.create_buffer(label=label, size=rows.nbytes, usage=usage)
        self._device.queue.write_buffer(buffer, 0, rows.view(np.uint8))
        return buffer

    def destroy(self) -> None:
        """Free the buffers of instances."""
        for buffer in (self.instances, self.point_rows):
            if buffer is not None:
                buffer.destroy()
        self.instances = self.point_rows = None
