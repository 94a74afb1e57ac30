"""A scene on the device: all instances of all its models as rows of one buffer, sorted into batches.

A batch is what one draw call can hold: the same pipeline variant, the same model's buffers, the same textures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import replace as replaced
from typing import Any

import numpy as np
import wgpu
from numpy.typing import NDArray

from farframe.protocol.errors import FarframeError, Result
from farframe.render.assets import AssetResource
from farframe.render.pipelines import INSTANCE_DTYPE, Variant
from farframe.render.points import point_rows
from farframe.render.resources import ModelResource
from farframe.render.scene import InstanceChange, Placed, RenderScene
from farframe.render.visibility import Placement
from farframe.scene.states import State
from farframe.scene.transforms import boxes, invert, stretches

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


MAX_WRITES = 16
"""Runs of rows that are written one by one; beyond that all between the first and the last go in one write."""


class ScenePlacement:
    """The instance buffer and selection tables of a scene. They are rebuilt when a model is added or removed, or when
    the eye has gone far from the origin. What changes of single instances is only written over, unless it makes them
    part of another batch (a mirrored instance does)."""

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
        self._journal = 0
        self._offsets: dict[int, int] = {}
        self._row_of: NDArray[np.int64] = np.zeros(0, np.int64)
        self._rows: NDArray[np.void] = np.zeros(0, INSTANCE_DTYPE)
        self._mirrored: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._box: NDArray[np.float64] = np.zeros((0, 2, 3))
        self._starts: NDArray[np.int64] = np.zeros(0, np.int64)
        self._clouds: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._present = 0

    def has(self, state: State) -> bool:
        """Whether any instance has a state."""
        return bool(self._present & state)

    def rows_with(self, state: State) -> NDArray[np.bool_]:
        """(n,) which instances have a state."""
        return np.asarray(self._rows["flags"][:, 0] & np.uint32(int(state)) != 0, np.bool_)

    def update(self, scene: RenderScene, eye: NDArray[np.float64], release_count: int) -> None:
        """Bring this up to date for ``scene`` seen from ``eye`` (3,) float64 metres."""
        far = bool(np.abs(eye - self.origin).max() > REBASE_METERS)
        key = (scene.placement_version, release_count)
        # Files may hold matrices that overflow; such instances become invisible, not a warning.
        with np.errstate(all="ignore"):
            if key == self._key and not far:
                if self._journal == scene.journal_end:
                    return
                changes = scene.changes_since(self._journal)
                if changes is not None and self._apply(scene, changes):
                    self._journal = scene.journal_end
                    return
            if far:
                self.origin = eye.copy()
            self._key = key
            self._journal = scene.journal_end
            self._build(
                {
                    handle: placed
                    for handle, placed in scene.entries.items()
                    if not placed.resource.released and len(placed.world)
                }
            )

    def _apply(self, scene: RenderScene, changes: Iterable[InstanceChange]) -> bool:
        """Write over what changed of single instances. False: they belong into other batches now."""
        table = self.placement
        touched: list[NDArray[np.int64]] = []
        moved: list[NDArray[np.int64]] = []
        for change in changes:
            offset = self._offsets.get(change.handle)
            if offset is None:
                continue
            assert table is not None and table.visible is not None
            placed = scene.entries[change.handle]
            rows = self._row_of[offset + change.rows]
            table.visible[rows] = placed.visible[change.rows]
            self._rows["tint"][rows] = placed.tint[change.rows]
            self._rows["flags"][rows, 0] = placed.states[change.rows]
            self._rows["flags"][rows, 1] = placed.mask[change.rows]
            touched.append(rows)
            if change.moved:
                world = placed.world[change.rows]
                world[:, :, 3] -= self.origin
                if (_mirrored(world) != self._mirrored[rows]).any():
                    return False
                part = placed.resource.instance_part[change.rows]
                box = _boxes(world, placed.resource.parts.center[part], placed.resource.parts.extent[part])
                self._place_rows(rows, world, box)
                moved.append(rows)
        if touched:
            self._mark_tinted()
            self._mark_states()
            rows = np.unique(np.concatenate(touched))
            self._write_rows(rows)
            if self._clouds[rows].any():
                self._write_clouds()
        if moved and self.asset_rows is not None:
            self._place_asset_rows(np.unique(np.concatenate(moved)))
        return True

    def _place_rows(self, rows: NDArray[np.int64], world: NDArray[np.float64], box: NDArray[np.float64]) -> None:
        """Selection's tables for rows whose matrices are ``world`` (n, 3, 4), relative to the origin, now."""
        table = self.placement
        assert table is not None
        # What lies nowhere, or farther away than squares of 32-bit floats reach, gets a box that no frustum meets.
        lost = ~(np.abs(box) < LOST_METERS).all(axis=(1, 2))
        box[lost] = np.array([[0.0], [-LOST_METERS]])
        extent = box[:, 1].astype(np.float32)
        table.center[rows] = box[:, 0]
        table.extent[rows] = extent
        table.radius[rows] = np.sqrt(np.einsum("ij,ij->i", extent, extent))
        table.scale[rows] = np.sqrt(np.square(world[:, :, :3]).sum(axis=1).max(axis=1))
        self._rows["matrix"][rows] = world
        if self.asset_rows is not None:
            self.asset_rows.world[rows] = world

    def _mark_tinted(self) -> None:
        """Draw the batches in which anything is tinted with the pipeline that can; others do not pay for it."""
        tinted = np.logical_or.reduceat(self._rows["tint"][:, 3] > 0.0, self._starts)
        for number, batch in enumerate(self.batches):
            if batch.variant.tinted != tinted[number] and not batch.variant.points:
                variant = replaced(batch.variant, tinted=bool(tinted[number]))
                self.batches[number] = replaced(batch, variant=variant)

    def _mark_states(self) -> None:
        """Note which states there are at all, so that what nobody uses costs nothing."""
        self._present = int(np.bitwise_or.reduce(self._rows["flags"][:, 0])) if len(self._rows) else 0

    def _write_rows(self, rows: NDArray[np.int64]) -> None:
        """Bring some rows, sorted, onto the device."""
        breaks = np.flatnonzero(np.diff(rows) > 1)
        if len(breaks) >= MAX_WRITES:
            breaks = breaks[:0]
        firsts = rows[np.concatenate([[0], breaks + 1])]
        lasts = rows[np.concatenate([breaks, [len(rows) - 1]])]
        for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
            data = self._rows[first : last + 1].view(np.uint8)
            self._device.queue.write_buffer(self.instances, first * INSTANCE_DTYPE.itemsize, data)

    def _build(self, entries: dict[int, Placed]) -> None:
        variants: dict[Variant, int] = {}
        resources: dict[int, tuple[int, int]] = {}
        order: list[Resource] = []
        part_offset = 0
        columns: dict[str, list[NDArray[Any]]] = {
            name: [] for name in ("world", "part", "own_part", "reach", "material", "key", "visible", "tint", "flags")
        }
        levels = max((placed.resource.parts.count.shape[1] for placed in entries.values()), default=1)
        tables: dict[str, list[NDArray[Any]]] = {name: [] for name in ("first", "count", "error", "vertex")}
        extents: list[NDArray[np.float64]] = []
        self._offsets = {}
        instances = 0
        for handle, placed in entries.items():
            resource = placed.resource
            self._offsets[handle] = instances
            instances += len(placed.world)
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
            world = placed.world.copy()
            world[:, :, 3] -= self.origin
            columns["visible"].append(placed.visible)
            columns["tint"].append(placed.tint)
            columns["flags"].append(np.stack([placed.states, placed.mask], axis=1))
            columns["world"].append(world)
            columns["part"].append(part + offset)
            columns["own_part"].append(part)
            columns["reach"].append(np.abs(resource.parts.center[part]) + resource.parts.extent[part])
            columns["material"].append(resource.factors[resource.parts.material[part]])
            columns["key"].append(self._keys(resource, index, part, world, variants))
            extents.append(_boxes(world, resource.parts.center[part], resource.parts.extent[part]))
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
        count = len(sort)
        self._row_of = np.empty(count, np.int64)
        self._row_of[sort] = np.arange(count)
        self._mirrored = _mirrored(world)
        batch = batch[sort].astype(np.int64)
        self._starts = np.searchsorted(batch, np.arange(len(self.batches)))
        self._clouds = np.array([item.variant.points for item in self.batches], np.bool_)[batch]
        self.placement = Placement(
            center=np.zeros((count, 3), np.float32),
            extent=np.zeros((count, 3), np.float32),
            radius=np.zeros(count, np.float32),
            scale=np.zeros(count, np.float32),
            part=np.concatenate(columns["part"])[sort],
            batch=batch,
            batch_count=len(self.batches),
            first_blend_batch=int(np.count_nonzero(unique[:, 0] == 0)),
            first_index=np.concatenate(tables["first"]),
            count=np.concatenate(tables["count"]),
            error=np.concatenate(tables["error"]),
            first_vertex=np.concatenate(tables["vertex"]),
            visible=np.concatenate(columns["visible"])[sort],
        )
        self._rows = np.zeros(count, INSTANCE_DTYPE)
        material = np.concatenate(columns["material"])[sort]
        self._rows["base_color"], self._rows["surface"] = material[:, :4], material[:, 4:8]
        self._rows["emissive"] = material[:, 8:]
        self._rows["tint"] = np.concatenate(columns["tint"])[sort]
        self._rows["flags"][:, :2] = np.concatenate(columns["flags"])[sort]
        self.asset_rows = None
        self._place_rows(np.arange(count), world, np.concatenate(extents)[sort])
        self._mark_tinted()
        self._mark_states()
        self._place_assets(order, key[sort], world, columns, sort)
        self._write(self._rows)

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
        self.placement.asset = of_resource[key[:, 2]]
        count = len(world)
        self.asset_rows = AssetRows(
            part=np.concatenate(columns["own_part"])[sort],
            world=world,
            inverse=np.zeros((count, 3, 4)),
            least=np.zeros(count, np.float32),
            most=np.zeros(count, np.float32),
            reach=np.concatenate(columns["reach"])[sort],
            one_sided=np.zeros(count, np.bool_),
            cloud=np.cumsum(self._clouds) - self._clouds,
        )
        self._place_asset_rows(np.arange(count))
        if self._clouds.any():
            self._write_clouds()

    def _place_asset_rows(self, rows: NDArray[np.int64]) -> None:
        """What cutting needs of rows whose ``world`` has changed."""
        table, assets = self.placement, self.asset_rows
        assert table is not None and table.asset is not None and assets is not None
        world = assets.world[rows]
        usable = (table.asset[rows] >= 0) & np.isfinite(world).all(axis=(1, 2))
        least, most = np.zeros(len(rows)), np.zeros(len(rows))
        least[usable], most[usable] = stretches(world[usable])
        inverse, invertible = invert(world)
        regular = usable & invertible & (least > 1e-7 * most)
        assets.inverse[rows] = np.where(regular[:, None, None], inverse, 0.0)
        # A little less than it is, so that rounding never makes what is near look far.
        assets.least[rows] = least * regular * 0.99999
        assets.most[rows] = most
        one_sided = np.array([not batch.variant.double_sided for batch in self.batches], np.bool_)
        assets.one_sided[rows] = one_sided[table.batch[rows]] & regular

    def _write_clouds(self) -> None:
        assert self.asset_rows is not None
        rows = point_rows(self.asset_rows.world[self._clouds], self._rows["tint"][self._clouds])
        self.point_rows = self._filled(self.point_rows, "points", rows)

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
                _mirrored(world),
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
        self._present = 0
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


def _mirrored(world: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which (n, 3, 4) matrices turn right hands into left ones."""
    a, b, c = world[:, :, 0], world[:, :, 1], world[:, :, 2]
    determinant = (
        a[:, 0] * (b[:, 1] * c[:, 2] - b[:, 2] * c[:, 1])
        + a[:, 1] * (b[:, 2] * c[:, 0] - b[:, 0] * c[:, 2])
        + a[:, 2] * (b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0])
    )
    return np.asarray(determinant < 0.0, np.bool_)


def _boxes(world: NDArray[np.float64], center: NDArray[np.float64], extent: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2, 3) middle and half size of the boxes of parts, moved."""
    return np.stack(boxes(world, center, extent), axis=1)
