"""What the TypeScript client is tested against of the scene's bytes is what the Python code makes of them.

Run this file as a script to write the fixtures anew after a change of the layouts.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from farframe.protocol import appearance
from farframe.protocol import scene as wire

FIXTURES = Path(__file__).parents[2] / "web" / "packages" / "client" / "test" / "fixtures" / "scene.json"

RECORD = wire.TransformsRecord(
    sequence=2**32 - 1,
    ids=np.array([7, 2**31 + 3], np.uint32),
    positions=np.array([[0.5, -2.25, 1234567.125], [0.0, 1e15, -1.0]]),
    rotations=np.array([[0.0, 0.0, 0.0, 1.0], [0.5, -0.5, 0.5, 0.5]], np.float32),
    scales=np.array([[1.0, 2.0, 0.25], [-1.0, 1.0, 1.0]], np.float32),
)
TABLE = wire.EntityTable(
    position=RECORD.positions,
    id=np.array([7, 2**31 + 3]),
    parent=np.array([0, 7]),
    rotation=RECORD.rotations,
    scale=RECORD.scales,
    tint=np.array([[1.0, 0.5, 0.25, 0.75], [1.0, 1.0, 1.0, 1.0]]),
    on=np.array([8 + 256, 0]),
    off=np.array([1, 64]),
    flags=np.array([wire.IS_DISABLED, wire.IS_MESH | wire.IS_STATIC]),
    mask=np.array([255, 3]),
    names=["Größe €", ""],
)
SUB_PARTS = appearance.SubPartTable(
    *(np.array(column, np.uint32) for column in ([7, 7, 2**31 + 3], [1, 2, 1], [2**31, 0, 2**31], [0, 0, 5], [3, 0, 0]))
)


def defaults() -> dict[str, Any]:
    """How things begin, as the wire has it, with all members."""

    def whole(values: Any) -> Any:
        if isinstance(values, msgspec.Struct):
            fields = msgspec.structs.fields(type(values))
            return {item.encode_name: whole(getattr(values, item.name)) for item in fields}
        return list(values) if isinstance(values, tuple) else values

    return {
        "material": whole(appearance.MaterialValues()),
        "light": whole(appearance.LightValues()),
        "cutPlane": whole(appearance.CutPlaneValues()),
        "effects": whole(appearance.EffectsValues()),
        "materialFlags": {
            "".join([first, *map(str.capitalize, rest)]): value
            for name, value in appearance.MATERIAL_FLAGS.items()
            for first, *rest in [name.split("_")]
        },
        "ownMap": appearance.OWN_MAP,
    }


def content() -> dict[str, Any]:
    """The bytes, and what they mean."""
    rows = [
        {
            "id": int(TABLE.id[row]),
            "parent": int(TABLE.parent[row]),
            "name": TABLE.names[row],
            **{name: getattr(TABLE, name)[row].tolist() for name in ("position", "rotation", "scale", "tint")},
            **{name: int(getattr(TABLE, name)[row]) for name in ("on", "off", "flags", "mask")},
        }
        for row in range(2)
    ]
    return {
        "sequence": RECORD.sequence,
        "record": base64.b64encode(wire.encode_transforms(RECORD)).decode(),
        "entities": rows,
        "page": base64.b64encode(wire.pack_entities(TABLE)).decode(),
        "subParts": [
            {
                name: int(getattr(SUB_PARTS, name)[row])
                for name in ("entity", "part", "material", "replaced", "override")
            }
            for row in range(3)
        ],
        "subPartPage": base64.b64encode(appearance.pack_sub_parts(SUB_PARTS)).decode(),
        "defaults": defaults(),
    }


def test_fixtures_mean_what_the_code_says() -> None:
    kept, now = json.loads(FIXTURES.read_text(encoding="utf-8")), content()
    # What zlib makes of the same bytes may differ from one version to the next.
    page = wire.unpack_entities(2, base64.b64decode(kept.pop("page")))
    now.pop("page")
    sub_parts = appearance.unpack_sub_parts(3, base64.b64decode(kept.pop("subPartPage")))
    now.pop("subPartPage")
    for name in ("entity", "part", "material", "replaced", "override"):
        np.testing.assert_array_equal(getattr(sub_parts, name), getattr(SUB_PARTS, name))
    assert kept == now
    for name in ("position", "id", "parent", "rotation", "scale", "tint", "on", "off", "flags", "mask"):
        np.testing.assert_array_equal(getattr(page, name), getattr(TABLE, name))
    assert page.names == TABLE.names


if __name__ == "__main__":
    FIXTURES.write_text(json.dumps(content(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
