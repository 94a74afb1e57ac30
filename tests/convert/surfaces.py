"""Closed surfaces for tests, and what they are checked with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farframe.asset.container import Asset
from farframe.asset.format import NONE
from farframe.asset.geometry import pack_directions, smooth_normals
from farframe.asset.model import VERTEX_DTYPE, Level, Material, Model, Node, Part, Texture, TextureSlot
from farframe.asset.source import FileSource
from farframe.convert.build import BuildOptions, BuildReport, build_asset
from farframe.protocol.link import LoadLimits


def sphere(triangles: int, *, uv: bool = False, flat: bool = False) -> tuple[NDArray[np.void], NDArray[np.uint32]]:
    """A closed, dented sphere; with ``uv`` a seam along a meridian, with ``flat`` three vertices for each triangle."""
    columns = rows = int(np.sqrt(triangles / 2))
    u, v = np.meshgrid(np.linspace(0, 1, columns + 1), np.linspace(0, 1, rows + 1))
    turn, tilt = 2 * np.pi * (u % 1.0), np.pi * v
    way = np.stack([np.sin(tilt) * np.cos(turn), np.cos(tilt), np.sin(tilt) * np.sin(turn)], -1)
    way[0], way[-1], way[:, -1] = (0, 1, 0), (0, -1, 0), way[:, 0]
    x, y, z = way[..., 0], way[..., 1], way[..., 2]
    far = 1 + 0.1 * np.sin(21 * x) * np.sin(15 * y + 1) * np.sin(18 * z + 2)
    positions = (way * far[..., None]).reshape(-1, 3).astype(np.float32)
    number = np.arange((columns + 1) * (rows + 1)).reshape(rows + 1, columns + 1)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    faces = np.stack([a, b, c, b, d, c], -1).reshape(-1, 3)
    corners = positions[faces]
    different = [(corners[:, i] != corners[:, (i + 1) % 3]).any(axis=1) for i in range(3)]
    faces = faces[different[0] & different[1] & different[2]]
    vertices = np.zeros(len(positions), VERTEX_DTYPE)
    vertices["position"], vertices["color"] = positions, 255
    same = number.copy()
    same[:, -1], same[0], same[-1] = same[:, 0], same[0, 0], same[-1, 0]
    same = same.reshape(-1)
    vertices["normal"] = pack_directions(smooth_normals(positions, same[faces].reshape(-1).astype(np.uint32)))[same]
    if uv:
        vertices["uv0"] = np.stack([u, v], -1).reshape(-1, 2)
    indices = faces.reshape(-1).astype(np.uint32)
    if flat:
        vertices = vertices[indices]
        indices = np.arange(len(indices), dtype=np.uint32)
        p = vertices["position"].reshape(-1, 3, 3).astype(np.float64)
        normals = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        vertices["normal"] = np.repeat(pack_directions(normals.astype(np.float32)), 3, axis=0)
    return vertices, indices


def model_of(*surfaces: tuple[NDArray[np.void], NDArray[np.uint32]], textured: bool = False) -> Model:
    """One part and one node for each surface."""
    parts: list[Part] = []
    vertex = index = 0
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for vertices, indices in surfaces:
        positions = vertices["position"]
        least, most = positions.min(axis=0), positions.max(axis=0)
        low, high = np.minimum(low, least), np.maximum(high, most)
        parts.append(
            Part(
                vertex,
                len(vertices),
                (Level(index, len(indices), 0.0),),
                0,
                tuple(map(float, least)),  # type: ignore[arg-type]
                tuple(map(float, most)),  # type: ignore[arg-type]
            )
        )
        vertex += len(vertices)
        index += len(indices)
    count = len(parts)
    slot = TextureSlot(0) if textured else None
    return Model(
        "surfaces",
        np.concatenate([vertices for vertices, _ in surfaces]),
        np.concatenate([indices for _, indices in surfaces]),
        parts,
        [Material(name="paint", base_color_texture=slot)],
        [Texture(np.full((8, 4, 4), 200, np.uint8), True, name="paint")] if textured else [],
        [Node("root", -1, np.eye(4)), *(Node(f"n{i}", 0, np.eye(4)) for i in range(count))],
        np.arange(count, dtype=np.int32),
        np.arange(1, count + 1, dtype=np.int32),
        np.tile(np.eye(4), (count, 1, 1)),
        tuple(map(float, low)),  # type: ignore[arg-type]
        tuple(map(float, high)),  # type: ignore[arg-type]
    )


def built(model: Model, folder: Path, **options: Any) -> tuple[Asset, BuildReport]:
    """The model as an opened asset."""
    path = folder / "model.arrAsset"
    report = build_asset(model, path, BuildOptions(compress_textures=False, **{"workers": 1, **options}))
    return Asset.open(FileSource(path), LoadLimits()), report


def all_triangles(asset: Asset) -> list[NDArray[np.float32]]:
    """For each cluster its triangles, (n, 3, 3) positions."""
    found = []
    for page in range(len(asset.pages)):
        decoded = asset.decode_page(page, asset.read_page(page))
        for cluster in asset.clusters_of(page):
            first, count = int(cluster["first_index"]), int(cluster["index_count"])
            indices = decoded.indices[first : first + count].astype(np.int64) + int(cluster["first_vertex"])
            found.append(decoded.vertices["position"][indices].reshape(-1, 3, 3))
    return found


def good_groups(asset: Asset, eye: NDArray[np.float64], limit: float) -> NDArray[np.bool_]:
    """Which groups' output may be seen from ``eye`` with an error of ``limit`` at a distance of 1."""
    groups = asset.groups
    off = np.maximum(np.maximum(groups["bounds_min"] - eye, eye - groups["bounds_max"]), 0.0)
    return groups["error"] <= limit * np.linalg.norm(off, axis=1)


def random_pages(asset: Asset, rng: np.random.Generator, share: float) -> NDArray[np.bool_]:
    """Some pages, with all that they depend on, and those of the roots."""
    starts, parents = asset.page_parents
    resident = rng.random(len(asset.pages)) < share
    resident[asset.page_of_cluster[asset.clusters["consumer"] == NONE]] = True
    for page in range(len(asset.pages) - 1, -1, -1):
        if resident[page]:
            resident[parents[starts[page] : starts[page + 1]]] = True
    return resident


def drawn_clusters(
    asset: Asset, good: NDArray[np.bool_], resident: NDArray[np.bool_] | None = None
) -> NDArray[np.intp]:
    """The clusters that the rule of the format draws."""
    if resident is not None:
        good = good | ~resident[asset.groups["page"]]
    padded = np.append(good, False)
    producer = np.minimum(asset.clusters["producer"], len(good))
    consumer = np.minimum(asset.clusters["consumer"], len(good))
    seen = (asset.clusters["producer"] == NONE) | padded[producer]
    return np.flatnonzero(seen & ~padded[consumer])


def open_edges(triangles: NDArray[np.float32]) -> int:
    """How many directed edges lack their opposite once equal positions are joined."""
    places, which = np.unique(triangles.reshape(-1, 3), axis=0, return_inverse=True)
    corners = which.reshape(-1, 3)
    begin = corners.reshape(-1)
    end = np.roll(corners, -1, axis=1).reshape(-1)
    real = begin != end
    begin, end = begin[real], end[real]
    low, high = np.minimum(begin, end), np.maximum(begin, end)
    _, edge = np.unique(low * len(places) + high, return_inverse=True)
    balance = np.bincount(edge.reshape(-1), np.where(begin < end, 1, -1))
    return int(np.count_nonzero(balance))
