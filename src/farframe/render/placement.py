"""A scene on the device: all instances of all its models as rows of one buffer, sorted into batches.

A batch is what one draw call can hold: the same pipeline variant, the same model's buffers, the same textures. Rows
stay where they are for as long as no model comes or goes; an instance that takes another material, is mirrored or
counts for depth only gets another number of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from typing import Any

import numpy as np
import wgpu
from numpy.typing import NDArray

from farframe.protocol.errors import FarframeError, Result
from farframe.render.assets import AssetResource
from farframe.render.material_table import NOWHERE, MaterialTable, MaterialTextures
from farframe.render.pipelines import INSTANCE_DTYPE, Pipelines, Variant
from farframe.render.points import point_rows
from farframe.render.resources import ModelResource, Uploader
from farframe.render.scene import InstanceChange, MaterialChange, Placed, RenderScene
from farframe.render.styles import Styles
from farframe.render.visibility import Placement, Run
from farframe.render.z_fighting import depth_biases
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
    part's box; ``one_sided`` (n,); ``regular`` (n,) there is a way back, and it is a good one.
    """

    part: NDArray[np.int64]
    world: NDArray[np.float64]
    inverse: NDArray[np.float64]
    least: NDArray[np.float32]
    most: NDArray[np.float32]
    reach: NDArray[np.float64]
    one_sided: NDArray[np.bool_]
    regular: NDArray[np.bool_]
    cloud: NDArray[np.int64]
    """(n,) which of the instances of point clouds a row is."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Instances that one call can draw. ``texture_set`` is an index into the resource's, or -1; ``textures`` are those
    of materials that the resource knows nothing of."""

    variant: Variant
    resource: Resource
    texture_set: int
    textures: MaterialTextures | None = None

    def texture_group(self) -> Any:
        """The bind group of its textures, or ``None`` where it has none."""
        if self.textures is not None:
            return self.textures.group()
        return self.resource.texture_sets[self.texture_set] if self.texture_set >= 0 else None


MAX_WRITES = 16
"""Runs of rows that are written one by one; beyond that all between the first and the last go in one write."""


class ScenePlacement:
    """The instance buffer and selection tables of a scene. They are rebuilt when a model is added or removed, or when
    the eye has gone far from the origin. What changes of single instances and of materials is only written over."""

    def __init__(self, device: Any, pipelines: Pipelines, uploader: Uploader) -> None:
        self._device = device
        self._pipelines = pipelines
        self._uploader = uploader
        self.table = MaterialTable(device, pipelines, uploader)
        self.origin = np.zeros(3)
        self.batches: list[Batch] = []
        self.placement: Placement | None = None
        self.assets: list[AssetResource] = []
        self.asset_rows: AssetRows | None = None
        self.instances: Any = None
        self.point_rows: Any = None
        self._key: tuple[int, int] | None = None
        self._journal = 0
        self._material_journal = 0
        self._offsets: dict[int, int] = {}
        self._resources: list[Resource] = []
        self._placed: list[Placed] = []
        self._own_slot: NDArray[np.int64] = np.zeros(0, np.int64)
        self._own_material: NDArray[np.int64] = np.zeros(0, np.int64)
        self._slot: NDArray[np.int64] = np.zeros(0, np.int64)
        self._material: NDArray[np.uint32] = np.zeros(0, np.uint32)
        self._shown: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._traits: NDArray[np.int64] = np.zeros(0, np.int64)
        self._batch_of_code: dict[int, int] = {}
        self._batch_numbers: dict[tuple[Variant, int, object], int] = {}
        self._rows: NDArray[np.void] = np.zeros(0, INSTANCE_DTYPE)
        self._mirrored: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._box: NDArray[np.float64] = np.zeros((0, 2, 3))
        self._clouds: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._present = 0
        self.styles = Styles()

    def variant(self, run: Run) -> Variant:
        """What draws a run: its batch's variant, as the run's style has it."""
        return self.styles.variant(self.batches[run.batch].variant, run.style)

    def restyle(self, scene: RenderScene) -> bool:
        """Bring the instances' styles up to date; whether they may be others than before."""
        table = self.placement
        if table is not None and table.solid is None and any(item.plane.capped for item in scene.cut_planes):
            table.solid = np.concatenate(
                [placed.resource.solid[placed.resource.instance_part] for placed in self._placed]
            )
        return self.styles.update(scene, self.placement, self.origin, self._rows["flags"], self._present)

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
                if self._journal == scene.journal_end and self._material_journal == scene.material_journal_end:
                    return
                changes = scene.changes_since(self._journal)
                materials = scene.material_changes_since(self._material_journal)
                if changes is not None and materials is not None:
                    self._journal, self._material_journal = scene.journal_end, scene.material_journal_end
                    self._apply(scene, list(changes), materials)
                    return
            if far:
                self.origin = eye.copy()
            self._key = key
            self._journal, self._material_journal = scene.journal_end, scene.material_journal_end
            self._build(
                scene,
                {
                    handle: placed
                    for handle, placed in scene.entries.items()
                    if not placed.resource.released and len(placed.world)
                },
            )

    def _apply(
        self, scene: RenderScene, changes: Sequence[InstanceChange], materials: Sequence[MaterialChange]
    ) -> None:
        """Write over what changed of single instances and of materials."""
        table = self.placement
        if table is None:
            return
        touched: list[NDArray[np.int64]] = []
        moved: list[NDArray[np.int64]] = []
        dressed = self._changed_materials(scene, materials) if materials else []
        for change in changes:
            offset = self._offsets.get(change.handle)
            if offset is None:
                continue
            placed = scene.entries[change.handle]
            rows = offset + change.rows
            self._shown[rows] = placed.visible[change.rows]
            self._rows["tint"][rows] = placed.tint[change.rows]
            self._rows["flags"][rows, 0] = placed.states[change.rows]
            self._rows["flags"][rows, 1] = placed.mask[change.rows]
            self._material[rows] = placed.material[change.rows]
            touched.append(rows)
            if change.dressed:
                dressed.append(rows)
            if change.moved:
                world = placed.world[change.rows]
                world[:, :, 3] -= self.origin
                mirrored = _mirrored(world)
                flipped = mirrored != self._mirrored[rows]
                if flipped.any():
                    self._mirrored[rows] = mirrored
                    dressed.append(rows[flipped])
                part = placed.resource.instance_part[change.rows]
                box = _boxes(world, placed.resource.parts.center[part], placed.resource.parts.extent[part])
                self._place_rows(rows, world, box)
                moved.append(rows)
        # A material or texture that nothing is drawn with concerns no row.
        dressed = [rows for rows in dressed if len(rows)]
        if dressed:
            again = np.unique(np.concatenate(dressed))
            self._dress(scene, again)
            touched.append(again)
        if touched:
            rows = np.unique(np.concatenate(touched))
            self._show(rows)
            self._mark_tinted()
            self._mark_states()
            self._write_rows(rows)
            if self._clouds[rows].any():
                self._write_clouds()
        if moved and self.asset_rows is not None:
            self._place_asset_rows(np.unique(np.concatenate(moved)))
        if dressed and self.asset_rows is not None:
            self._mark_sides(again)

    def _changed_materials(self, scene: RenderScene, changes: Sequence[MaterialChange]) -> list[NDArray[np.int64]]:
        """Let the table follow changes of materials; the rows that are drawn differently for it."""
        ids = {change.id for change in changes if change.id}
        for material in ids:
            self.table.refresh(material, scene)
        rows = [np.flatnonzero(np.isin(self._material, list(ids)))] if ids else []
        for handle, index in {(change.handle, change.index) for change in changes if change.handle}:
            first = self._offsets.get(handle)
            if first is None:
                continue
            placed = scene.entries[handle]
            mine = np.arange(first, first + len(placed.world))
            mine = mine[self._own_material[mine] == index]
            self._own_slot[mine] = self._slot_of(handle, placed, index, scene)
            rows.append(mine)
        textures = {change.texture for change in changes if change.texture}
        if textures:
            slots = self.table.refresh_texture(textures, scene)
            rows.append(np.flatnonzero(np.isin(self._slot, slots)))
        return rows

    def _slot_of(self, handle: int, placed: Placed, index: int, scene: RenderScene) -> int:
        """The slot of a model's own material, as the scene has edited it or as it is."""
        if index in placed.own:
            return self.table.edited(handle, placed.resource, index, scene)
        return self.table.own(placed.resource) + index

    def _dress(self, scene: RenderScene, rows: NDArray[np.int64]) -> None:
        """Find material and batch of rows anew: one pass of arrays, and Python for each kind of them only."""
        slot = self._own_slot[rows]
        material = self._material[rows]
        given = np.flatnonzero(material)
        if len(given):
            ids, number = np.unique(material[given], return_inverse=True)
            of_id = np.array([self.table.of_scene(one, scene) for one in ids.tolist()], np.int64)[number.reshape(-1)]
            slot[given] = np.where(of_id == NOWHERE, slot[given], of_id)
        self._slot[rows] = slot
        factors = self.table.factors[slot]
        self._rows["base_color"][rows] = factors[:, :4]
        self._rows["surface"][rows] = factors[:, 4:8]
        self._rows["emissive"][rows] = factors[:, 8:]
        self._rows["flags"][rows, 2] = slot
        counts = self._rows["flags"][rows, 0] & np.uint32(int(State.TRANSPARENCY_WRITES_DEPTH)) != 0
        code = self._traits[rows] | self._mirrored[rows].astype(np.int64) * _MIRRORED | counts * _COUNTS_FOR_DEPTH
        code |= self.table.look[slot] << _LOOK_SHIFT
        codes, number = np.unique(code, return_inverse=True)
        batches = np.array([self._batch(one, scene) for one in codes.tolist()], np.int64)
        table = self.placement
        assert table is not None
        table.batch[rows] = batches[number.reshape(-1)]
        table.batch_count = len(self.batches)
        table.blended = np.array([batch.variant.alpha_mode == "blend" for batch in self.batches], np.bool_)

    def _batch(self, code: int, scene: RenderScene) -> int:
        """The number of the batch of instances with these traits and this look; made if there is none."""
        number = self._batch_of_code.get(code)
        if number is not None:
            return number
        index = (code >> _RESOURCE_SHIFT) & _MAX_RESOURCES
        resource = self._resources[index]
        look = self.table.looks[code >> _LOOK_SHIFT]
        textures: MaterialTextures | None = None
        texture_set = NOWHERE
        which: object = None
        if code & _POINTS:
            variant = Variant(points=True, unlit=True)
        else:
            variant = look.on(
                vertex_color=bool(code & _VERTEX_COLOR),
                mirrored=bool(code & _MIRRORED),
                tangents=bool(code & _TANGENTS),
                counts_for_depth=bool(code & _COUNTS_FOR_DEPTH),
            )
            if look.own_set is not None:
                which = texture_set = look.own_set
            elif variant.textured or variant.extras:
                textures, which = self.table.textures(look, resource, scene), look.textures
        key = (variant, index, which)
        if key not in self._batch_numbers:
            self._batch_numbers[key] = len(self.batches)
            self.batches.append(Batch(variant, resource, texture_set, textures))
        number = self._batch_of_code[code] = self._batch_numbers[key]
        return number

    def _show(self, rows: NDArray[np.int64]) -> None:
        """Draw rows that are visible, unless there is nothing to be seen of their material."""
        table = self.placement
        assert table is not None and table.visible is not None
        table.visible[rows] = self._shown[rows] & ~self.table.gone[self._slot[rows]]

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
        assert self.placement is not None
        tinted = np.zeros(len(self.batches), np.bool_)
        tinted[self.placement.batch[self._rows["tint"][:, 3] > 0.0]] = True
        for number, batch in enumerate(self.batches):
            if batch.variant.tinted != tinted[number] and not batch.variant.points:
                variant = replaced(batch.variant, tinted=bool(tinted[number]))
                self.batches[number] = replaced(batch, variant=variant)

    def _mark_states(self) -> None:
        """Note which states there are at all, so that what nobody uses costs nothing."""
        self._present = int(np.bitwise_or.reduce(self._rows["flags"][:, 0])) if len(self._rows) else 0

    def _write_rows(self, rows: NDArray[np.int64]) -> None:
        """Bring some rows, sorted, onto the device. There may be none: a change can concern no instance any more."""
        if not len(rows):
            return
        breaks = np.flatnonzero(np.diff(rows) > 1)
        if len(breaks) >= MAX_WRITES:
            breaks = breaks[:0]
        firsts = rows[np.concatenate([[0], breaks + 1])]
        lasts = rows[np.concatenate([breaks, [len(rows) - 1]])]
        for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
            data = self._rows[first : last + 1].view(np.uint8)
            self._device.queue.write_buffer(self.instances, first * INSTANCE_DTYPE.itemsize, data)

    def _build(self, scene: RenderScene, entries: dict[int, Placed]) -> None:
        self.batches = []
        self._batch_of_code, self._batch_numbers = {}, {}
        self._offsets = {}
        self.table.destroy()
        self.table = MaterialTable(self._device, self._pipelines, self._uploader)
        if not entries:
            self._clear()
            return
        resources: dict[int, tuple[int, int]] = {}
        order: list[Resource] = []
        part_offset = 0
        names = ("world", "part", "own_part", "reach", "material", "key", "visible", "tint", "flags", "slot", "traits")
        columns: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        levels = max(placed.resource.parts.count.shape[1] for placed in entries.values())
        tables: dict[str, list[NDArray[Any]]] = {name: [] for name in ("first", "count", "error", "vertex")}
        extents: list[NDArray[np.float64]] = []
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
            material = resource.parts.material[part]
            first_slot = self.table.own(resource)
            slot = first_slot + material
            for edited in placed.own:
                slot[material == edited] = self._slot_of(handle, placed, edited, scene)
            columns["visible"].append(placed.visible)
            columns["tint"].append(placed.tint)
            columns["flags"].append(np.stack([placed.states, placed.mask], axis=1))
            columns["world"].append(world)
            columns["part"].append(part + offset)
            columns["own_part"].append(part)
            columns["reach"].append(np.abs(resource.parts.center[part]) + resource.parts.extent[part])
            columns["slot"].append(slot)
            columns["material"].append(material)
            columns["key"].append(placed.material)
            columns["traits"].append(_part_traits(resource)[part] | index << _RESOURCE_SHIFT)
            extents.append(_boxes(world, resource.parts.center[part], resource.parts.extent[part]))
        if len(order) > _MAX_RESOURCES:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"The scene has {len(order)} different models; {_MAX_RESOURCES} can be drawn.",
                next_step="Merge models, or load fewer.",
            )
        self._resources = order
        self._placed = list(entries.values())
        world = np.concatenate(columns["world"])
        count = len(world)
        self._mirrored = _mirrored(world)
        self._own_slot = np.concatenate(columns["slot"]).astype(np.int64)
        self._own_material = np.concatenate(columns["material"]).astype(np.int64)
        self._material = np.concatenate(columns["key"]).astype(np.uint32)
        self._traits = np.concatenate(columns["traits"]).astype(np.int64)
        self._shown = np.concatenate(columns["visible"])
        self._slot = np.zeros(count, np.int64)
        self._clouds = (self._traits & _POINTS) != 0
        self.placement = Placement(
            center=np.zeros((count, 3), np.float32),
            extent=np.zeros((count, 3), np.float32),
            radius=np.zeros(count, np.float32),
            scale=np.zeros(count, np.float32),
            part=np.concatenate(columns["part"]),
            batch=np.zeros(count, np.int64),
            batch_count=0,
            blended=np.zeros(0, np.bool_),
            first_index=np.concatenate(tables["first"]),
            count=np.concatenate(tables["count"]),
            error=np.concatenate(tables["error"]),
            first_vertex=np.concatenate(tables["vertex"]),
            visible=np.zeros(count, np.bool_),
        )
        self._rows = np.zeros(count, INSTANCE_DTYPE)
        self._rows["tint"] = np.concatenate(columns["tint"])
        self._rows["flags"][:, :2] = np.concatenate(columns["flags"])
        self.asset_rows = None
        rows = np.arange(count)
        self._place_rows(rows, world, np.concatenate(extents))
        self._rows["flags"][:, 3] = depth_biases(self.placement.radius).view(np.uint32)
        self._dress(scene, rows)
        self._show(rows)
        self._mark_tinted()
        self._mark_states()
        self._place_assets(order, world, columns)
        self._write(self._rows)

    def _place_assets(
        self, order: list[Resource], world: NDArray[np.float64], columns: dict[str, list[NDArray[Any]]]
    ) -> None:
        """Fill what cutting needs, if there are assets at all."""
        assert self.placement is not None
        self.assets = [resource for resource in order if isinstance(resource, AssetResource)]
        self.asset_rows = None
        if not self.assets:
            return
        number = {id(resource): index for index, resource in enumerate(self.assets)}
        of_resource = np.array([number.get(id(resource), -1) for resource in order], np.int64)
        self.placement.asset = of_resource[(self._traits >> _RESOURCE_SHIFT) & _MAX_RESOURCES]
        count = len(world)
        self.asset_rows = AssetRows(
            part=np.concatenate(columns["own_part"]),
            world=world,
            inverse=np.zeros((count, 3, 4)),
            least=np.zeros(count, np.float32),
            most=np.zeros(count, np.float32),
            reach=np.concatenate(columns["reach"]),
            one_sided=np.zeros(count, np.bool_),
            regular=np.zeros(count, np.bool_),
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
        assets.regular[rows] = regular
        self._mark_sides(rows)

    def _mark_sides(self, rows: NDArray[np.int64]) -> None:
        """Note which rows are drawn with one side only."""
        assert self.placement is not None and self.asset_rows is not None
        one_sided = np.array([not batch.variant.double_sided for batch in self.batches], np.bool_)
        self.asset_rows.one_sided[rows] = one_sided[self.placement.batch[rows]] & self.asset_rows.regular[rows]

    def _write_clouds(self) -> None:
        assert self.asset_rows is not None
        rows = point_rows(
            self.asset_rows.world[self._clouds], self._rows["tint"][self._clouds], self._rows["flags"][self._clouds, 1]
        )
        self.point_rows = self._filled(self.point_rows, "points", rows)

    def _clear(self) -> None:
        self.batches = []
        self._placed = []
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
        """Free the buffers of instances and materials."""
        self.table.destroy()
        for buffer in (self.instances, self.point_rows):
            if buffer is not None:
                buffer.destroy()
        self.instances = self.point_rows = None


_VERTEX_COLOR, _MIRRORED, _POINTS, _TANGENTS, _COUNTS_FOR_DEPTH = 1, 2, 4, 8, 16
_RESOURCE_SHIFT, _LOOK_SHIFT = 5, 25
_MAX_RESOURCES = (1 << (_LOOK_SHIFT - _RESOURCE_SHIFT)) - 1
"""Traits of an instance as bits of one number, with those of its model and of its look: what decides its batch."""


def _part_traits(resource: Resource) -> NDArray[np.int64]:
    """(p,) the traits that an instance has by its part."""
    traits = resource.parts.vertex_color.astype(np.int64) * _VERTEX_COLOR
    if isinstance(resource, AssetResource):
        traits |= np.where(resource.tables.part_points, _POINTS, 0)
    # A file's part has tangents where its own material has a normal map.
    slots = [material.normal_texture for material in resource.materials]
    mapped = np.array([slot is not None and slot.uv_set == 0 for slot in slots] or [False], np.bool_)
    return traits | np.where(mapped[resource.parts.material], _TANGENTS, 0)


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
