"""A writer of FBX files for the tests: the same tree of nodes as ASCII or binary, of any version from 7.1 (2011) on.

Laid out as Blender's developers found it (code.blender.org, "FBX binary file format specification"): records with
32-bit offsets up to 7.4, with 64-bit ones from 7.5 (2016) on. Arrays may be deflated.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VERSIONS = {2011: 7100, 2012: 7200, 2013: 7300, 2014: 7400, 2016: 7500, 2020: 7700}
"""The file versions of the products' years."""


@dataclass(frozen=True)
class Named:
    """An object's name with its class, which the two forms join in different ways."""

    name: str
    kind: str


@dataclass
class Node:
    """A record. Values: int (64 bits), bool, float, str, bytes, Named, or a list of int or float (an array)."""

    name: str
    values: list[Any] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)


def node(name: str, *values: Any, children: Sequence[Node] = ()) -> Node:
    return Node(name, list(values), list(children))


def properties(*entries: tuple[Any, ...]) -> Node:
    """``Properties70`` of entries as they stand in the file: name, type, label, flags, values."""
    return node("Properties70", children=[node("P", *entry) for entry in entries])


@dataclass
class Square:
    """A document of one square, 2 by 4 units in the plane z = 0, with what the tests vary.

    ``texture``: what feeds the diffuse colour, by its file name; ``media``: its content, embedded. ``layers``: further
    images that are laid over it.
    """

    version: int
    unit: float = 100.0
    texture: str = ""
    media: bytes = b""
    layers: tuple[str, ...] = ()
    model_properties: tuple[tuple[Any, ...], ...] = ()

    def nodes(self) -> list[Node]:
        connections = [("OO", 2, 0), ("OO", 1, 2), ("OO", 3, 2), ("OO", 6, 0), ("OO", 1, 6), ("OO", 3, 6)]
        objects = [self._geometry(), *self._models(), self._material()]
        if self.texture:
            connections += [("OP", 20, 3, "DiffuseColor")] if self.layers else [("OP", 10, 3, "DiffuseColor")]
            for number, name in enumerate((self.texture, *self.layers)):
                objects.append(self._texture(10 + number, name))
                if self.layers:
                    connections.append(("OO", 10 + number, 20))
            if self.layers:
                blend = [node("BlendModes", [0] * (1 + len(self.layers))), node("Alphas", [1.0, 0.5])]
                objects.append(node("LayeredTexture", 20, Named("layers", "LayeredTexture"), "", children=blend))
            if self.media:
                objects.append(self._video())
                connections.append(("OO", 30, 10))
        axes = [("UpAxis", 1), ("UpAxisSign", 1), ("FrontAxis", 2), ("FrontAxisSign", 1), ("CoordAxis", 0)]
        settings = [(name, "int", "Integer", "", value) for name, value in [*axes, ("CoordAxisSign", 1)]]
        return [
            node(
                "FBXHeaderExtension",
                children=[
                    node("FBXHeaderVersion", 1003),
                    node("FBXVersion", self.version),
                    node("Creator", "the tests"),
                ],
            ),
            node(
                "GlobalSettings",
                children=[
                    node("Version", 1000),
                    properties(*settings, ("UnitScaleFactor", "double", "Number", "", self.unit)),
                ],
            ),
            node("Objects", children=objects),
            node("Connections", children=[node("C", *each) for each in connections]),
        ]

    def write(self, path: Path, *, binary: bool, deflate: bool = False) -> Path:
        path.write_bytes(binary_file(self.nodes(), self.version, deflate) if binary else ascii_file(self.nodes()))
        return path

    def _geometry(self) -> Node:
        uv = [node("Version", 101), node("Name", "map1"), node("MappingInformationType", "ByPolygonVertex")]
        uv += [node("ReferenceInformationType", "IndexToDirect"), node("UV", [0.0, 0, 1, 0, 1, 1, 0, 1])]
        material = [node("Version", 101), node("Name", ""), node("MappingInformationType", "AllSame")]
        material += [node("ReferenceInformationType", "IndexToDirect"), node("Materials", [0])]
        elements = [
            node("LayerElement", children=[node("Type", kind), node("TypedIndex", 0)])
            for kind in ("LayerElementUV", "LayerElementMaterial")
        ]
        return node(
            "Geometry",
            1,
            Named("", "Geometry"),
            "Mesh",
            children=[
                node("Vertices", [0.0, 0, 0, 2, 0, 0, 2, 4, 0, 0, 4, 0]),
                node("PolygonVertexIndex", [0, 1, 2, -4]),
                node("LayerElementUV", 0, children=[*uv, node("UVIndex", [0, 1, 2, 3])]),
                node("LayerElementMaterial", 0, children=material),
                node("Layer", 0, children=[node("Version", 100), *elements]),
            ],
        )

    def _models(self) -> list[Node]:
        found = []
        for identity, name, x in ((2, "square", 10.0), (6, "again", -10.0)):
            moved = ("Lcl Translation", "Lcl Translation", "", "A", x, 0.0, 0.0)
            more = self.model_properties if identity == 2 else ()
            found.append(
                node(
                    "Model",
                    identity,
                    Named(name, "Model"),
                    "Mesh",
                    children=[node("Version", 232), properties(moved, *more)],
                )
            )
        return found

    def _material(self) -> Node:
        color = properties(
            ("DiffuseColor", "Color", "", "A", 0.8, 0.4, 0.2),
            ("SpecularColor", "Color", "", "A", 0.0, 0.0, 0.0),
            ("ShininessExponent", "Number", "", "A", 20.0),
        )
        head = [node("Version", 102), node("ShadingModel", "phong")]
        return node("Material", 3, Named("paint", "Material"), "", children=[*head, color])

    def _texture(self, identity: int, name: str) -> Node:
        files = [node("FileName", f"C:\\elsewhere\\{name}"), node("RelativeFilename", name)]
        return node(
            "Texture", identity, Named(name, "Texture"), "", children=[node("Type", "TextureVideoClip"), *files]
        )

    def _video(self) -> Node:
        files = [node("Filename", f"C:\\elsewhere\\{self.texture}"), node("RelativeFilename", self.texture)]
        children = [node("Type", "Clip"), *files, node("Content", self.media)]
        return node("Video", 30, Named(self.texture, "Video"), "Clip", children=children)


def ascii_file(nodes: Sequence[Node]) -> bytes:
    """The text form."""
    version = next(each for each in nodes[0].children if each.name == "FBXVersion").values[0]
    lines = [f"; FBX {version // 1000}.{version % 1000 // 100}.0 project file"]

    def value(given: Any) -> str:
        match given:
            case Named():
                return f'"{given.kind}::{given.name}"'
            case bytes():
                return f'"{base64.b64encode(given).decode()}"'
            case str():
                return f'"{given}"'
            case bool():
                return "Y" if given else "N"
        return str(given)

    def put(each: Node, indent: str) -> None:
        if each.values and isinstance(each.values[0], list):
            numbers = ",".join(str(number) for number in each.values[0])
            lines.append(f"{indent}{each.name}: *{len(each.values[0])} {{ a: {numbers} }}")
            return
        if each.name == "Content":
            # On a line of its own, after a comma.
            lines.append(f"{indent}{each.name}: ,\n{indent}\t{value(each.values[0])}")
            return
        head = f"{indent}{each.name}: {','.join(value(given) for given in each.values)}"
        if not each.children:
            lines.append(head)
            return
        lines.append(f"{head} {{")
        for child in each.children:
            put(child, indent + "\t")
        lines.append(f"{indent}}}")

    for each in nodes:
        put(each, "")
    return "\n".join(lines).encode() + b"\n"


def binary_file(nodes: Sequence[Node], version: int, deflate: bool) -> bytes:
    """The binary form."""
    wide = version >= 7500
    numbers, end = ("<QQQB", bytes(25)) if wide else ("<IIIB", bytes(13))

    def value(given: Any) -> bytes:
        match given:
            case list():
                floats = any(isinstance(each, float) for each in given)
                raw = struct.pack(f"<{len(given)}{'d' if floats else 'i'}", *given)
                packed = zlib.compress(raw) if deflate else raw
                return struct.pack("<cIII", b"d" if floats else b"i", len(given), int(deflate), len(packed)) + packed
            case Named():
                text = f"{given.name}\x00\x01{given.kind}".encode()
                return struct.pack("<cI", b"S", len(text)) + text
            case str():
                return struct.pack("<cI", b"S", len(given.encode())) + given.encode()
            case bytes():
                return struct.pack("<cI", b"R", len(given)) + given
            case bool():
                return struct.pack("<cB", b"C", int(given))
            case int():
                return struct.pack("<cq", b"L", given)
        return struct.pack("<cd", b"D", given)

    def record(each: Node, begin: int) -> bytes:
        name = each.name.encode()
        body = b"".join(value(given) for given in each.values)
        start = begin + struct.calcsize(numbers) + len(name) + len(body)
        inner = b""
        for child in each.children:
            inner += record(child, start + len(inner))
        if each.children:
            inner += end
        return struct.pack(numbers, start + len(inner), len(each.values), len(body), len(name)) + name + body + inner

    data = b"Kaydara FBX Binary  \x00\x1a\x00" + struct.pack("<I", version)
    for each in nodes:
        data += record(each, len(data))
    return data + end
