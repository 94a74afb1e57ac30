"""Play what a file brings along. A glTF of a mill, which this program writes itself, has two animations: its sails
turn, and its cap swings to the wind. The server plays them; the program changes speeds, lets both go on for a second,
then pauses them at a moment of its choice.

python examples/play_animation.py play_animation.png
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from farframe.client import FrameFlags, RemoteRenderingClient

CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
SIDES = ((0, 1, 3, 2), (6, 7, 5, 4), (4, 5, 1, 0), (2, 3, 7, 6), (1, 5, 7, 3), (4, 0, 2, 6))


def mill() -> dict[str, Any]:
    """A glTF document with its buffer inside: a tower, a cap that swings, and four sails that turn on it."""
    positions = np.array([CORNERS[corner] for side in SIDES for corner in side], "<f4")
    normals = np.repeat([np.cross(*(CORNERS[[s[1], s[3]]] - CORNERS[s[0]])) for s in SIDES], 4, axis=0).astype("<f4")
    indices = np.array([4 * side + corner for side in range(6) for corner in (0, 1, 2, 0, 2, 3)], "<u2")
    angle = np.pi * np.arange(5) / 4
    turns = np.stack([0 * angle, 0 * angle, np.sin(angle), np.cos(angle)], axis=1).astype("<f4")
    half = np.array([0.0, 0.3, 0.0, -0.3, 0.0])
    swings = np.stack([0 * half, np.sin(half), 0 * half, np.cos(half)], axis=1).astype("<f4")
    times = np.arange(5, dtype="<f4")
    arrays = [(positions, "VEC3"), (normals, "VEC3"), (indices, "SCALAR"), (times, "SCALAR"), (turns, "VEC4"),
              (swings, "VEC4")]  # fmt: skip
    data, views, accessors = b"", [], []
    for number, (array, kind) in enumerate(arrays):
        views.append({"buffer": 0, "byteOffset": len(data), "byteLength": array.nbytes})
        accessors.append({"bufferView": number, "componentType": 5123 if array.dtype == "<u2" else 5126,
                          "count": len(array), "type": kind})  # fmt: skip
        data += array.tobytes() + bytes(-array.nbytes % 4)
    accessors[0] |= {"min": [-0.5] * 3, "max": [0.5] * 3}
    colors = [(0.75, 0.7, 0.6, 1), (0.5, 0.12, 0.08, 1), (0.95, 0.93, 0.88, 1)]
    primitive = {"attributes": {"POSITION": 0, "NORMAL": 1}, "indices": 2}

    def box(mesh: int, place: list[float], size: list[float], **more: Any) -> dict[str, Any]:
        return {"mesh": mesh, "translation": place, "scale": size, **more}

    sails = [box(2, [0.7 * x, 0.7 * y, 0.0], [0.3 + abs(x), 0.3 + abs(y), 0.06])
             for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1))]  # fmt: skip
    return {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0, 1]}],
        "nodes": [
            box(0, [0, 1.25, 0], [1.2, 2.5, 1.2], name="tower"),
            {"name": "cap", "translation": [0, 2.5, 0], "children": [2, 3]},
            box(1, [0, 0.3, 0], [1.3, 0.6, 1.4]),
            {"name": "sails", "translation": [0, 0.25, 0.85], "children": [4, 5, 6, 7]},
            *sails,
        ],
        "materials": [{"pbrMetallicRoughness": {"baseColorFactor": color, "metallicFactor": 0}} for color in colors],
        "meshes": [{"primitives": [{**primitive, "material": number}]} for number in range(3)],
        "animations": [
            {"name": "sails turn", "samplers": [{"input": 3, "output": 4}],
             "channels": [{"sampler": 0, "target": {"node": 3, "path": "rotation"}}]},
            {"name": "cap swings", "samplers": [{"input": 3, "output": 5}],
             "channels": [{"sampler": 0, "target": {"node": 1, "path": "rotation"}}]},
        ],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(data), "uri": f"data:;base64,{base64.b64encode(data).decode()}"}],
    }  # fmt: skip


async def main(out: str) -> None:
    """Lease a server, load the mill, play its animations, pause them, save the picture."""
    async with (
        RemoteRenderingClient.from_connection_file() as client,
        client.leased(lease_minutes=10) as session,
        session.connect(width=1280, height=720) as connection,
    ):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "mill.gltf"
            path.write_text(json.dumps(mill()))
            root = await connection.scene.load_model(path)
        connection.look_at_model(root.model)
        turn, swing = await connection.scene.animations(root)
        print(f"{turn.name!r} and {swing.name!r} take {turn.duration:g} s")
        turn.play(speed=2.0)
        swing.play(loop="pingPong", speed=0.5)
        moving = 0
        async for frame in connection.frames():
            # Where nothing changes the last picture comes again, once a second.
            moving += FrameFlags.KEEP_ALIVE not in frame.flags
            if moving == 20:
                break
        print(f"{moving} frames while they were played")

        # At rest no frame is drawn; the entities have been where they are all the time.
        for animation, moment in ((turn, 0.4), (swing, 1.0)):
            animation.pause()
            animation.seek(moment)
        await connection.scene.flush()
        frame = await connection.wait_for_still()
        Image.fromarray(frame.image).save(out)
        print(f"{out}: the cap is still at {root.find('cap').rotation}, as the program has it")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1]))
