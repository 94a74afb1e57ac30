"""From the instances of assets that a view may see to commands: each asset is cut, its clusters become indirect draws.

What :func:`~farframe.render.visibility.select` asks for where a scene has assets. Numpy only; the pools in which the
clusters lie are named by the pages' state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from farframe.render.cut import Seen, cut, slackened
from farframe.render.placement import ScenePlacement
from farframe.render.points import CUT_POINTS, point_commands, point_kinds
from farframe.render.visibility import (
    COMMAND_FIELDS,
    CUT,
    NO_BOXES,
    NO_CLOUD,
    Cloud,
    Clusters,
    Cutter,
)

if TYPE_CHECKING:
    from farframe.render.assets import AssetResource
    from farframe.render.streaming import Residency

TINY = 0.5
"""An instance of an asset whose size is below this share of the allowed error is not drawn."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """How a view looks, relative to the placement's origin: ``planes`` (6, 4) and ``eye`` (3,), the near clip distance,
    pixels per radian, and of an orthographic view the direction of its rays (3,), see
    :func:`~farframe.render.visibility.select`."""

    planes: NDArray[np.float64]
    eye: NDArray[np.float64]
    near: float
    density: float
    forward: NDArray[np.float64] | None = None


def asset_cutter(
    placement: ScenePlacement,
    outlook: Outlook,
    *,
    pixel_error: float,
    wanted_error: float,
    point_size: float,
    cpu: bool,
    residency: Residency,
) -> Cutter:
    """The function that cuts the assets which a view sees.

    ``pixel_error``: of the picture that is drawn; ``wanted_error``: of the one for which pages are fetched. ``cpu``:
    points are drawn as a CPU likes it, their sizes multiplied by ``point_size``.
    """
    rows_of, of_asset = placement.asset_rows, placement.placement
    assert rows_of is not None and of_asset is not None and of_asset.asset is not None
    number_of, radius = of_asset.asset, of_asset.radius
    planes, density, forward = outlook.planes, outlook.density, outlook.forward

    def seen_of(resource: AssetResource, row: NDArray[np.int64], nearest: NDArray[np.float32]) -> Seen:
        world, inverse = rows_of.world[row], rows_of.inverse[row]
        local = np.empty((len(row), 6, 4))
        local[:, :, :3] = planes[:, :3] @ world[:, :, :3]
        local[:, :, 3] = world[:, :, 3] @ planes[:, :3].T + planes[:, 3]
        return Seen(
            part=rows_of.part[row],
            eye=(inverse[:, :, :3] @ outlook.eye + inverse[:, :, 3]).astype(np.float32),
            planes=slackened(local, rows_of.reach[row]),
            nearest=nearest,
            least=rows_of.least[row],
            most=rows_of.most[row],
            one_sided=rows_of.one_sided[row] & ~placement.styles.opened(of_asset, row),
            forward=None if forward is None else (inverse[:, :, :3] @ forward).astype(np.float32),
        )

    def cutter(rows: NDArray[np.int64], nearest: NDArray[np.float32]) -> Clusters:
        large = 2.0 * radius[rows] * np.float32(density) > np.float32(TINY * pixel_error) * nearest
        rows, nearest = rows[large], nearest[large]
        commands, owners, distances, boxes, clouds = [], [], [], [], []
        triangles = 0
        number = number_of[rows]
        for asset in np.unique(number).tolist():
            resource = placement.assets[asset]
            mine = np.flatnonzero(number == asset)
            row = rows[mine]
            found = cut(
                resource.tables,
                resource.pages,
                seen_of(resource, row, nearest[mine]),
                pixels_per_radian=density,
                pixel_error=pixel_error,
                wanted_error=wanted_error,
                picture=residency.picture,
            )
            table, cluster, owner = resource.tables, found.cluster, row[found.seen]
            page = table.cluster_page[cluster]
            command = np.empty((len(cluster), COMMAND_FIELDS), np.uint32)
            command[:, 0] = table.index_count[cluster]
            command[:, 1] = 1
            command[:, 2] = resource.pages.index[page] + table.first_index[cluster]
            command[:, 3] = resource.pages.vertex[page] + table.first_vertex[cluster]
            command[:, 4] = owner
            distance = found.distance
            cloud = table.part_points[rows_of.part[owner]]
            if cloud.any():
                some = cluster[cloud]
                pixels = table.point_size[some] * rows_of.most[owner[cloud]] * np.float32(density * point_size)
                if forward is None:
                    pixels /= np.maximum(distance[cloud], outlook.near)
                kind = point_kinds(pixels, cpu=cpu)
                count, slot = table.vertex_count[some], rows_of.cloud[owner[cloud]]
                point_command = point_commands(command[cloud, 3], count, slot, kind)
                if of_asset.style is not None:
                    kind |= np.where(of_asset.style[owner[cloud]] & CUT, CUT_POINTS, 0).astype(np.uint8)
                clouds.append((kind, point_command, int(count.sum())))
                command, owner, cluster, distance = command[~cloud], owner[~cloud], cluster[~cloud], distance[~cloud]
            triangles += int(command[:, 0].sum(dtype=np.int64)) // 3
            commands.append(command)
            owners.append(owner)
            distances.append(distance)
            turned = rows_of.world[owner]
            middle = np.einsum("vij,vj->vi", turned[:, :, :3], table.center[cluster].astype(np.float64))
            half = np.einsum("vij,vj->vi", np.abs(turned[:, :, :3]), table.extent[cluster].astype(np.float64))
            boxes.append(np.stack([middle + turned[:, :, 3], half], axis=1).astype(np.float32))
        if not commands:
            return Clusters(
                np.zeros((0, COMMAND_FIELDS), np.uint32),
                np.zeros(0, np.int64),
                np.zeros(0, np.float32),
                0,
                NO_CLOUD,
                NO_BOXES,
            )
        return Clusters(
            np.concatenate(commands),
            np.concatenate(owners),
            np.concatenate(distances),
            triangles,
            _cloud(clouds),
            np.concatenate(boxes),
        )

    return cutter


def _cloud(parts: list[tuple[NDArray[np.uint8], NDArray[np.uint32], int]]) -> Cloud:
    """The clusters of points of all assets, sorted by kind."""
    if not parts:
        return NO_CLOUD
    kind = np.concatenate([part[0] for part in parts])
    order = np.argsort(kind, kind="stable")
    kinds, starts, counts = np.unique(kind[order], return_index=True, return_counts=True)
    runs = tuple(zip(kinds.tolist(), starts.tolist(), counts.tolist(), strict=True))
    return Cloud(np.concatenate([part[1] for part in parts])[order], runs, sum(part[2] for part in parts))
