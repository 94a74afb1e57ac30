"""``farframe asset``: what converted files hold."""

from __future__ import annotations

from pathlib import Path

from farframe.cli._context import CommandError, context, emit


def show(file: Path, *, nodes: int) -> None:
    """Print what the asset ``file`` holds. Everything in it is checked, but pages and textures are not read."""
    from farframe.asset.container import Asset
    from farframe.asset.show import facts, printable, tree
    from farframe.asset.source import FileSource
    from farframe.protocol.errors import FarframeError
    from farframe.protocol.link import LoadLimits

    try:
        asset = Asset.open(FileSource(file), LoadLimits())
    except FarframeError as error:
        raise CommandError(str(error)) from None
    found = facts(asset)
    if context.as_json:
        found["tree"] = [{"depth": depth, "node": text} for depth, text in tree(asset, nodes)]
        emit(found, "")
        return

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
    from rich.tree import Tree

    console = Console(highlight=False)
    sizes = found["bytes"]
    low, high = found["bounds"]["min"], found["bounds"]["max"]
    summary = Table.grid(padding=(0, 2))
    for what, text in (
        ("name", printable(found["name"])),
        ("made by", printable(found["generator"])),
        (
            "size",
            f"{_bytes(sizes['file'])}: {_bytes(sizes['pages'])} pages, {_bytes(sizes['textures'])} textures, "
            f"{_bytes(sizes['tables'])} tables",
        ),
        ("extent", " x ".join(f"{b - a:.4g}" for a, b in zip(low, high, strict=True)) + " m"),
        ("triangles", f"{found['triangles']:,} ({found['trianglesOfAllInstances']:,} in all instances)"),
        ("points", f"{found['points']:,}"),
        ("parts", f"{found['parts']:,}, {found['instances']:,} instances under {found['nodes']:,} nodes"),
        ("look", f"{found['materials']:,} materials, {found['textures']:,} textures"),
        ("graph", f"{found['clusters']:,} clusters, {found['groups']:,} groups, {found['pages']:,} pages"),
        ("content", found["contentHash"]),
    ):
        summary.add_row(Text(what, "bold"), Text(text))
    console.print(summary)
    for warning in found["warnings"]:
        console.print(Text(f"warning: {printable(warning, 300)}", "yellow"))
    levels = Table("level", "clusters", "triangles or points", "largest error", box=None, padding=(0, 2, 0, 0))
    for number, level in enumerate(found["levels"]):
        levels.add_row(
            str(number), f"{level['clusters']:,}", f"{level['primitives']:,}", f"{level['largestError']:.3g} m"
        )
    console.print()
    console.print(levels)
    root = Tree(Text("scene", "bold"))
    above = [root]
    for depth, text in tree(asset, nodes):
        del above[depth + 1 :]
        # Deep chains would only run out of the window.
        above.append(above[min(depth, len(above) - 1)].add(Text(text)))
    console.print()
    console.print(root)


def _bytes(size: int) -> str:
    """A size for people."""
    if size < 1024:
        return f"{size} B"
    amount = size / 1024
    for unit in ("KB", "MB"):
        if amount < 1024:
            return f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GB"
