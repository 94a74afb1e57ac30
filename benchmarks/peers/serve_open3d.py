"""Open3D's WebRTC server: ``serve_open3d.py MESH.npz PORT MODE QUALITY``. Run by its own environment.

It reads WEBRTC_IP, WEBRTC_PORT and WEBRTC_STUN_SERVER from the environment; its rate is its own choice.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import open3d
import path

open3d.visualization.webrtc_server.enable_webrtc()

from open3d.visualization import gui, rendering  # noqa: E402 - the line above has to come first


def main(mesh_path: str, _port: str, _mode: str, _quality: str) -> None:
    """Serve until ended."""
    mesh = dict(np.load(mesh_path))
    orbit = path.Orbit.around(mesh["positions"].min(axis=0), mesh["positions"].max(axis=0))
    application = gui.Application.instance
    application.initialize()
    window = application.create_window("peer", path.WIDTH, path.HEIGHT)
    view = gui.SceneWidget()
    view.scene = rendering.Open3DScene(window.renderer)
    view.scene.set_background((*path.BACKGROUND, 1.0))
    view.scene.show_skybox(False)
    view.scene.view.set_post_processing(False)
    view.scene.view.set_shadowing(False, rendering.View.ShadowType.PCF)
    view.scene.scene.enable_indirect_light(True)
    window.add_child(view)
    surface = open3d.geometry.TriangleMesh(
        open3d.utility.Vector3dVector(mesh["positions"].astype(np.float64)),
        open3d.utility.Vector3iVector(mesh["triangles"].astype(np.int32)),
    )
    surface.vertex_normals = open3d.utility.Vector3dVector(mesh["normals"].astype(np.float64))
    surface.vertex_colors = open3d.utility.Vector3dVector(mesh["colors"] / 255)
    material = rendering.MaterialRecord()
    material.shader = "defaultLit"
    view.scene.add_geometry("model", surface, material)
    squares = []
    for index in range(path.CELLS):
        square = gui.Vert()
        square.frame = gui.Rect(index * path.CELL, 0, path.CELL, path.CELL)
        window.add_child(square)
        squares.append(square)

    def layout(_context: object) -> None:
        view.frame = window.content_rect
        for index, square in enumerate(squares):
            square.frame = gui.Rect(index * path.CELL, 0, path.CELL, path.CELL)

    window.set_on_layout(layout)
    near, far = orbit.clip

    def turn(number: int) -> None:
        view.scene.camera.set_projection(
            path.VERTICAL_FOV_DEGREES,
            path.WIDTH / path.HEIGHT,
            near,
            far,
            rendering.Camera.FovType.Vertical,
        )
        view.scene.camera.look_at(orbit.centre, orbit.eye(number), (0.0, 1.0, 0.0))
        for square, white in zip(squares, path.mark(number), strict=True):
            value = 1.0 if white else 0.0
            square.background_color = gui.Color(value, value, value)
        view.force_redraw()

    def moved(event: gui.MouseEvent) -> gui.SceneWidget.EventCallbackResult:
        if event.type in (gui.MouseEvent.Type.MOVE, gui.MouseEvent.Type.DRAG):
            turn(path.number_of(event.x))
        return gui.SceneWidget.EventCallbackResult.CONSUMED

    view.set_on_mouse(moved)
    turn(0)
    application.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
