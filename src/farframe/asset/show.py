"""What an asset holds, for people: counts, levels, sizes, the scene graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farframe.asset.container import Asset
from farframe.asset.format import NONE, POINTS


def facts(asset: Asset) -> dict[str, Any]:
    """The asset in numbers, ready for JSON. Lengths in metres, sizes in bytes."""
    index, pages = asset.index, asset.pages
    tables = sum(
        section.size
        for section in (index.parts, index.groups, index.clusters, index.pages, index.instances, index.nodes)
    )
    textures = sum(mip.size for texture in index.textures for mip in texture.mips)
    instances = np.bincount(asset.instances["part"], minlength=len(asset.parts))
    solid = asset.parts["kind"] != POINTS
    counts = asset.parts["triangles"].astype(np.int64)
    return {
        "name": index.name,
        "generator": index.generator,
        "sceneGraphMode": index.scene_graph_mode,
        "bounds": {"min": list(index.bounds_min), "max": list(index.bounds_max)},
        "recenteringOffset": list(index.recentering_offset),
        "contentHash": index.content_hash,
        "parts": len(asset.parts),
        "instances": len(asset.instances),
        "nodes": len(asset.nodes),
        "materials": len(index.materials),
        "textures": len(index.textures),
        "triangles": int(counts[solid].sum()),
        "points": int(counts[~solid].sum()),
        "trianglesOfAllInstances": int((counts * instances)[solid].sum()),
        "pointsOfAllInstances": int((counts * instances)[~solid].sum()),
        "clusters": len(asset.clusters),
        "groups": len(asset.groups),
        "pages": len(pages),
        "levels": levels(asset),
        "bytes": {
            "file": asset.source.size,
            "tables": tables,
            "pages": int(pages["size"].sum(dtype=np.int64)),
            "textures": textures,
        },
        "warnings": list(index.warnings),
    }


def levels(asset: Asset) -> list[dict[str, Any]]:
    """For each step of simplification, finest first: what it holds, and by how much it may be off at most."""
    level = cluster_levels(asset)
    primitives = np.where(
        asset.parts["kind"][asset.clusters["part"]] == POINTS,
        asset.clusters["vertex_count"],
        asset.clusters["index_count"] // 3,
    )
    made = asset.clusters["producer"] != NONE
    error = np.zeros(len(level))
    error[made] = asset.groups["error"][asset.clusters["producer"][made]]
    found = []
    for number in range(int(level.max(initial=-1)) + 1):
        here = level == number
        found.append(
            {
                "clusters": int(here.sum()),
                "primitives": int(primitives[here].sum()),
                "largestError": float(error[here].max(initial=0.0)),
            }
        )
    return found


def cluster_levels(asset: Asset) -> NDArray[np.int64]:
    """For each cluster how many steps of simplification it is away from the full surface."""
    clusters = asset.clusters
    group_level = np.zeros(len(asset.groups), np.int64)
    made = clusters["producer"] != NONE
    used = clusters["consumer"] != NONE
    level = np.zeros(len(clusters), np.int64)
    # Groups follow those whose output they consume, so this ends; the deepest graph has few dozen steps.
    while True:
        deeper = np.zeros_like(group_level)
        np.maximum.at(deeper, clusters["consumer"][used], level[used] + 1)
        if (deeper == group_level).all():
            return level
        group_level = deeper
        level[made] = group_level[clusters["producer"][made]]


def tree(asset: Asset, limit: int = 200) -> Iterator[tuple[int, str]]:
    """The scene graph in depth-first order, as depth and a line of text, at most ``limit`` of them."""
    children: dict[int, list[int]] = {}
    for node, parent in enumerate(asset.nodes["parent"].tolist()):
        children.setdefault(parent, []).append(node)
    parts: dict[int, list[int]] = {}
    for part, node in zip(asset.instances["part"].tolist(), asset.instances["node"].tolist(), strict=True):
        parts.setdefault(node, []).append(part)
    waiting = [(0, node) for node in reversed(children.get(-1, []))]
    shown = 0
    while waiting:
        depth, node = waiting.pop()
        if shown == limit:
            yield 0, f"... {len(asset.nodes) - limit:,} more nodes"
            return
        shown += 1
        text = printable(asset.index.node_names[node]) or f"node {node}"
        for part in parts.get(node, []):
            row = asset.parts[part]
            what = "points" if int(row["kind"]) == POINTS else "triangles"
            text += f"  [{int(row['triangles']):,} {what}]"
        yield depth, text
        waiting += [(depth + 1, child) for child in reversed(children.get(node, []))]


def printable(text: str, length: int = 80) -> str:
    """A name from a file, safe to print: no control characters, not too long."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown if len(shown) <= length else shown[: length - 3] + "..."
