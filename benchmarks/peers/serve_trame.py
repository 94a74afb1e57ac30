"""trame-rca with VTK: ``serve_trame.py MESH.npz PORT MODE QUALITY``, MODE ``jpeg`` or ``video``.

Run by the peers' environment. Multisampling is off, and 60 frames a second are allowed instead of its usual 30.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import path
import vtkmodules.vtkRenderingOpenGL2  # noqa: F401 - registers what draws
from trame.app import get_server
from trame.ui.html import DivLayout
from trame.widgets import rca
from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray
from vtkmodules.vtkCommonCore import vtkPoints, vtkUnsignedCharArray
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
from vtkmodules.vtkInteractionStyle import vtkInteractorStyleUser
from vtkmodules.vtkRenderingCore import (
    vtkActor,
    vtkActor2D,
    vtkLight,
    vtkPolyDataMapper,
    vtkPolyDataMapper2D,
    vtkRenderer,
    vtkRenderWindow,
    vtkRenderWindowInteractor,
)


def cells(triangles: np.ndarray) -> vtkCellArray:
    """Triangles as VTK wants them."""
    array = vtkCellArray()
    offsets = np.arange(0, 3 * len(triangles) + 1, 3, dtype=np.int64)
    array.SetData(
        numpy_to_vtkIdTypeArray(offsets, deep=True),
        numpy_to_vtkIdTypeArray(np.ascontiguousarray(triangles.reshape(-1), np.int64), deep=True),
    )
    return array


def surface(mesh: dict[str, np.ndarray]) -> vtkActor:
    """The model as one actor with a colour by vertex."""
    data = vtkPolyData()
    points = vtkPoints()
    points.SetData(numpy_to_vtk(mesh["positions"], deep=True))
    data.SetPoints(points)
    data.SetPolys(cells(mesh["triangles"]))
    data.GetPointData().SetNormals(numpy_to_vtk(mesh["normals"], deep=True))
    data.GetPointData().SetScalars(numpy_to_vtk(mesh["colors"], deep=True))
    mapper = vtkPolyDataMapper()
    mapper.SetInputData(data)
    actor = vtkActor()
    actor.SetMapper(mapper)
    actor.GetProperty().SetAmbient(0.25)
    actor.GetProperty().SetDiffuse(0.75)
    return actor


class Mark:
    """Squares in the upper left corner."""

    def __init__(self) -> None:
        corners, squares = [], []
        for index in range(path.CELLS):
            left, top = index * path.CELL, path.HEIGHT
            first = len(corners)
            for x, y in ((0, 0), (1, 0), (1, 1), (0, 1)):
                corners.append((left + x * path.CELL, top - (1 - y) * path.CELL, 0.0))
            squares += [(first, first + 1, first + 2), (first, first + 2, first + 3)]
        self.data = vtkPolyData()
        points = vtkPoints()
        points.SetData(numpy_to_vtk(np.array(corners, np.float32), deep=True))
        self.data.SetPoints(points)
        self.data.SetPolys(cells(np.array(squares)))
        self.colors = vtkUnsignedCharArray()
        self.colors.SetNumberOfComponents(3)
        self.colors.SetNumberOfTuples(2 * path.CELLS)
        self.data.GetCellData().SetScalars(self.colors)
        mapper = vtkPolyDataMapper2D()
        mapper.SetInputData(self.data)
        self.actor = vtkActor2D()
        self.actor.SetMapper(mapper)
        self.show(0)

    def show(self, number: int) -> None:
        """Write a number."""
        for index, white in enumerate(path.mark(number)):
            value = 255 if white else 0
            for half in (0, 1):
                self.colors.SetTuple3(2 * index + half, value, value, value)
        self.colors.Modified()
        self.data.Modified()


def main(mesh_path: str, port: str, mode: str, quality: str) -> None:
    """Serve until ended."""
    mesh = dict(np.load(mesh_path))
    orbit = path.Orbit.around(mesh["positions"].min(axis=0), mesh["positions"].max(axis=0))
    renderer = vtkRenderer()
    renderer.SetBackground(*path.BACKGROUND)
    renderer.AutomaticLightCreationOff()
    light = vtkLight()
    light.SetLightTypeToSceneLight()
    light.SetPositional(False)
    light.SetFocalPoint(0.0, 0.0, 0.0)
    light.SetPosition(*path.LIGHT)
    renderer.AddLight(light)
    renderer.AddActor(surface(mesh))
    mark = Mark()
    renderer.AddActor(mark.actor)
    window = vtkRenderWindow()
    window.SetMultiSamples(0)
    window.SetOffScreenRendering(True)
    window.SetSize(path.WIDTH, path.HEIGHT)
    window.AddRenderer(renderer)
    interactor = vtkRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    interactor.SetInteractorStyle(vtkInteractorStyleUser())
    camera = renderer.GetActiveCamera()
    camera.SetViewAngle(path.VERTICAL_FOV_DEGREES)

    def turn(number: int) -> None:
        camera.SetFocalPoint(*orbit.centre)
        camera.SetPosition(*orbit.eye(number))
        camera.SetViewUp(0.0, 1.0, 0.0)
        camera.SetClippingRange(*orbit.clip)
        mark.show(number)

    turn(0)
    interactor.AddObserver("MouseMoveEvent", lambda *_: turn(path.number_of(interactor.GetEventPosition()[0])))
    server = get_server(client_type="vue3")
    with DivLayout(server) as layout:
        layout.root.style = f"position:fixed;left:0;top:0;width:{path.WIDTH}px;height:{path.HEIGHT}px;overflow:hidden"
        area = rca.RemoteControlledArea(
            name="view",
            display="image" if mode == "jpeg" else "video-decoder",
            send_mouse_move=True,
            event_throttle_ms=16,
            style="width:100%;height:100%",
        )
    server.controller.on_server_ready.add(
        lambda **_: area.create_view_handler(
            window,
            encoder="turbo-jpeg" if mode == "jpeg" else None,
            target_fps=60,
            interactive_quality=int(quality),
            still_quality=int(quality),
        )
    )
    server.start(port=int(port), host="127.0.0.1", open_browser=False, show_connection_info=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
