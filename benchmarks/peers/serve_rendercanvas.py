"""pygfx through rendercanvas' HTTP backend: ``serve_rendercanvas.py MESH.npz PORT MODE QUALITY``.

Run by the peers' environment. Supersampling and antialiasing are off, which is the cheapest it can draw.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import path
import pygfx
from rendercanvas.http import HttpRenderCanvas, loop


def main(mesh_path: str, port: str, _mode: str, quality: str) -> None:
    """Serve until ended."""
    mesh = dict(np.load(mesh_path))
    orbit = path.Orbit.around(mesh["positions"].min(axis=0), mesh["positions"].max(axis=0))
    canvas = HttpRenderCanvas(size=(path.WIDTH, path.HEIGHT), update_mode="ondemand", max_fps=60, vsync=False)
    canvas._quality = int(quality)
    renderer = pygfx.WgpuRenderer(canvas, pixel_scale=1, ppaa="none")
    scene = pygfx.Scene()
    scene.add(pygfx.Background.from_color(path.BACKGROUND))
    scene.add(pygfx.AmbientLight("#ffffff", 0.5))
    light = pygfx.DirectionalLight("#ffffff", 2.0)
    light.local.position = path.LIGHT
    scene.add(light)
    colors = np.concatenate([mesh["colors"], np.full((len(mesh["colors"]), 1), 255, np.uint8)], axis=1)
    geometry = pygfx.Geometry(
        positions=mesh["positions"],
        normals=mesh["normals"],
        indices=mesh["triangles"].astype(np.uint32),
        colors=(colors / 255).astype(np.float32),
    )
    scene.add(pygfx.Mesh(geometry, pygfx.MeshPhongMaterial(color_mode="vertex", shininess=10)))
    camera = pygfx.PerspectiveCamera(path.VERTICAL_FOV_DEGREES)
    camera.depth_range = orbit.clip
    scene.add(camera)

    # The mark hangs in front of the camera, in a plane where a pixel is known.
    near = orbit.clip[0] * 1.5
    pixel = 2 * near * np.tan(np.radians(path.VERTICAL_FOV_DEGREES) / 2) / path.HEIGHT
    corners, squares = [], []
    for index in range(path.CELLS):
        first = len(corners)
        for x, y in ((0, 0), (1, 0), (1, 1), (0, 1)):
            corners.append(
                (
                    ((index + x) * path.CELL - path.WIDTH / 2) * pixel,
                    (path.HEIGHT / 2 - (1 - y) * path.CELL) * pixel,
                    -near,
                )
            )
        squares += [(first, first + 1, first + 2), (first, first + 2, first + 3)]
    shades = np.ones((len(corners), 4), np.float32)
    mark_geometry = pygfx.Geometry(
        positions=np.array(corners, np.float32), indices=np.array(squares, np.uint32), colors=shades
    )
    mark = pygfx.Mesh(mark_geometry, pygfx.MeshBasicMaterial(color_mode="vertex"))
    camera.add(mark)

    def turn(number: int) -> None:
        camera.local.position = orbit.eye(number)
        camera.look_at(orbit.centre)
        for index, white in enumerate(path.mark(number)):
            shades[4 * index : 4 * index + 4, :3] = 1.0 if white else 0.0
        mark_geometry.colors.data[:] = shades
        mark_geometry.colors.update_full()

    def moved(event: dict) -> None:
        turn(path.number_of(event["x"]))
        canvas.request_draw()

    turn(0)
    canvas.add_event_handler(moved, "pointer_move")
    canvas.request_draw(lambda: renderer.render(scene, camera))
    loop.run("127.0.0.1", int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
