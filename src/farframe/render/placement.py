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
from farframe.render.pipelines import INSTANCE_DTYPE, Variant
from farframe.render.resources import ModelResource
from farframe.render.scene import RenderScene
from farframe.render.visibility import Placement

REBASE_METERS = 256.0
"""How far the eye may be from the origin of the instances' coordinates: 32-bit floats are then exact to 0.02 mm
near the eye, wherever in the world that is."""


LOST_METERS = 1e15
"""Farther away than this, nothing is drawn: files with matrices gone astray must not disturb the rest."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Instances that one call can draw. ``texture_set`` is an index into the resource's, or -1."""

    variant: Variant
    resource: ModelResource
    texture_set: int


class ScenePlacement:
    """The instance buffer and selection tables of a scene, rebuilt when a model is added, moved or removed, or when
    the eye has gone far from the origin."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self.origin = np.zeros(3)
        self.batches: list[Batch] = []
        self.placement: Placement | None = None
        self.instances: Any = None
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
            self._build([(r, m) for r, m in scene.entries.values() if not r.released and len(r.model.instance_part)])

    def _build(self, entries: list[tuple[ModelResource, NDArray[np.float64]]]) -> None:
        variants: dict[Variant, int] = {}
        resources: dict[int, tuple[int, int]] = {}
        order: list[ModelResource] = []
        part_offset = 0
        columns: dict[str, list[NDArray[Any]]] = {name: [] for name in ("world", "part", "material", "key")}
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
            model = resource.model
            part = model.instance_part.astype(np.int64)
            world = matrix @ model.instance_matrix
            world[:, :3, 3] -= self.origin
            columns["world"].append(world)
            columns["part"].append(part + offset)
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
        rows = np.zeros(len(sort), INSTANCE_DTYPE)
        rows["matrix"] = world[:, :3, :]
        material = np.concatenate(columns["material"])[sort]
        rows["base_color"], rows["surface"], rows["emissive"] = material[:, :4], material[:, 4:8], material[:, 8:]
        self._write(rows)

    @staticmethod
    def _keys(
        resource: ModelResource,
        index: int,
        part: NDArray[np.int64],
        world: NDArray[np.float64],
        variants: dict[Variant, int],
    ) -> NDArray[np.int64]:
        """(n, 4): blended, number of the variant, of the resource, of the texture set. Batches sort by it."""
        material = resource.parts.material[part]
        traits = np.stack(
            [material, resource.parts.vertex_color[part], np.linalg.det(world[:, :3, :3]) < 0.0], axis=1
        ).astype(np.int64)
        unique, inverse = np.unique(traits, axis=0, return_inverse=True)
        rows = np.empty((len(unique), 4), np.int64)
        for row, (number, tinted, mirrored) in enumerate(unique):
            variant = Variant.of(resource.model.materials[number], vertex_color=bool(tinted), mirrored=bool(mirrored))
            variant_number = variants.setdefault(variant, len(variants))
            rows[row] = (variant.alpha_mode == "blend", variant_number, index, resource.texture_set[number])
        return np.asarray(rows[inverse.reshape(-1)], np.int64)

    def _clear(self) -> None:
        self.batches = []
        self.placement = None
        self.destroy()

    def _write(self, rows: NDArray[np.void]) -> None:
        limit = int(self._device.limits["max-buffer-size"])
        if rows.nbytes > limit:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"The scene has {len(rows)} part instances; this device takes {limit // INSTANCE_DTYPE.itemsize}.",
                next_step="Merge parts, or load fewer models.",
            )
        if self.instances is None or self.instances.size < rows.nbytes or self.instances.size > 4 * rows.nbytes + 4096:
            self.destroy()
            usage = wgpu.BufferUsage.VERTEX | wgpu.BufferUsage.COPY_DST
            self.instances = self._device.create_buffer(label="instances", size=rows.nbytes, usage=usage)
        self._device.queue.write_buffer(self.instances, 0, rows.view(np.uint8))

    def destroy(self) -> None:
        """Free the instance buffer."""
        if self.instances is not None:
            self.instances.destroy()
            self.instances = None
