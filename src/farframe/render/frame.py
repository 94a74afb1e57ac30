"""A frame's input and output, and the numbers that the shaders get of each view."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from farframe.protocol.records import View
from farframe.render.environment import RANGE, Environment, rotate_harmonics
from farframe.render.scene import RenderScene
from farframe.render.z_fighting import bias_scale
from farframe.scene.effects import CameraSettings, StageSettings


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a frame is drawn. ``samples`` per pixel, 1 or 4; ``scale`` of width and height, 0.25 to 1;
    ``pixel_error``: the greatest projected error in drawn pixels of a part's level, 0 draws full detail;
    ``cut_error``: the same for the clusters of assets, above 0, as far as their pages are there."""

    samples: int = 4
    scale: float = 1.0
    pixel_error: float = 0.0
    cut_error: float = 1.0

    def __post_init__(self) -> None:
        if (
            self.samples not in (1, 4)
            or not 0.25 <= self.scale <= 1.0
            or not self.pixel_error >= 0.0
            or not self.cut_error > 0.0
        ):
            raise ValueError(f"not a quality that can be drawn: {self}")


FULL_QUALITY = Quality()


@dataclass(frozen=True, slots=True)
class FrameInput:
    """What to draw. One or two ``views`` (two are drawn side by side, each half as wide), ``width`` and ``height`` of
    the output in pixels; ``read_depth`` also fills the frame's depth. A frame that is a band of a larger picture (see
    ``bands``) says so: the picture's ``full_height`` and the band's ``first_row`` in it, both in output pixels."""

    views: tuple[View, ...]
    width: int
    height: int
    quality: Quality
    scene: RenderScene
    read_depth: bool = False
    first_row: int = 0
    full_height: int | None = None


@dataclass(slots=True)
class RenderedFrame:
    """A drawn frame. ``pixels``: (height, width, 4) uint8 RGBA, sRGB, a view of mapped memory that is valid until
    :meth:`release`; ``depth``: (height, width) float32 metres along the view axis, infinite where nothing is.

    ``width`` and ``height`` are as drawn, so they may be smaller than was asked for. Times are ``time.perf_counter``
    seconds. ``draws`` counts visible part instances and clusters, ``reduced_parts`` the parts below full detail.
    ``over_limit``: triangles and points are more than the scene's ``primitive_limit``, whatever was tried.
    ``hidden_triangles``: in view, but found to be behind others, so neither drawn nor counted.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    depth: NDArray[np.float32] | None
    draw_start: float
    draw_end: float
    read_back: float
    triangles: int
    draws: int
    reduced_parts: int
    samples: int
    _release: Callable[[], None] | None = field(default=None, repr=False)
    points: int = 0
    over_limit: bool = False
    hidden_triangles: int = 0

    def release(self) -> None:
        """Hand the memory back, from any thread. The arrays must not be touched afterwards; a second call is fine."""
        release, self._release = self._release, None
        if release is not None:
            release()


@dataclass(frozen=True, slots=True)
class VisibleCounts:
    """What a frame draws, over all its views: triangles, part instances, and those below full detail."""

    triangles: int
    draws: int
    reduced_parts: int
    points: int = 0
    over_limit: bool = False


VIEW_DTYPE = np.dtype(
    [
        ("view_projection", "<f4", (4, 4)),
        ("ray_corner", "<f4", 4),
        ("ray_dx", "<f4", 4),
        ("ray_dy", "<f4", 4),
        ("light_direction", "<f4", 4),
        ("light_color", "<f4", 4),
        ("irradiance", "<f4", (9, 4)),
        ("environment", "<f4", 4),
        ("viewport", "<f4", 4),
        ("backdrop_top", "<f4", 4),
        ("backdrop_bottom", "<f4", 4),
        ("eye", "<f4", 4),
        ("across", "<f4", 4),
        ("down", "<f4", 4),
        ("light_grid", "<f4", 4),
        ("light_cells", "<f4", 4),
    ]
)
"""The uniform ``View`` of ``shaders/view.wgsl``."""

BACKDROP_TOP = (0.36, 0.38, 0.41)
BACKDROP_BOTTOM = (0.64, 0.64, 0.645)
BACKDROP_POOL = 0.16


@dataclass(frozen=True, slots=True)
class Viewport:
    """Where a view lies in the target, in pixels."""

    x: int
    y: int
    width: int
    height: int


def viewports(count: int, width: int, height: int) -> tuple[Viewport, ...]:
    """The places of ``count`` views (1 or 2) side by side in a target."""
    if count == 1:
        return (Viewport(0, 0, width, height),)
    half = width // 2
    return (Viewport(0, 0, half, height), Viewport(half, 0, half, height))


def rotation_matrix(orientation: tuple[float, float, float, float]) -> NDArray[np.float64]:
    """The (3, 3) matrix of a unit quaternion xyzw: view space to world space."""
    x, y, z, w = orientation
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def with_clip_distances(views: tuple[View, ...], camera: CameraSettings) -> tuple[View, ...]:
    """The views with the clip distances that a scene demands, if it does."""
    if (camera.near, camera.far) == (0.0, 0.0):
        return views
    return tuple(replace(view, near=camera.near, far=camera.far) for view in views)


def on_stage(views: tuple[View, ...], stage: StageSettings) -> tuple[View, ...]:
    """Views in the space of poses, as they stand in the world."""
    length = math.hypot(*stage.rotation)
    ax, ay, az, aw = (number / length for number in stage.rotation)
    if (ax, ay, az) == (0.0, 0.0, 0.0) and stage.position == (0.0, 0.0, 0.0):
        return views
    turn = rotation_matrix((ax, ay, az, aw))
    moved = []
    for view in views:
        x, y, z = turn @ np.array(view.position) + np.array(stage.position)
        bx, by, bz, bw = view.orientation
        orientation = (
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        )
        moved.append(replace(view, position=(float(x), float(y), float(z)), orientation=orientation))
    return tuple(moved)


def projection_matrix(view: View) -> NDArray[np.float64]:
    """The (4, 4) reversed-Z projection: depth 1 at the near clip distance, 0 at the far one."""
    left, right, up, down = view.tangents
    near, far = view.near, view.far
    if view.orthographic:
        return np.array(
            [
                [2 / (right - left), 0, 0, -(right + left) / (right - left)],
                [0, 2 / (up - down), 0, -(up + down) / (up - down)],
                [0, 0, 1 / (far - near), far / (far - near)],
                [0, 0, 0, 1],
            ]
        )
    return np.array(
        [
            [2 / (right - left), 0, (right + left) / (right - left), 0],
            [0, 2 / (up - down), (up + down) / (up - down), 0],
            [0, 0, near / (far - near), near * far / (far - near)],
            [0, 0, -1, 0],
        ]
    )


def view_projection(view: View, origin: NDArray[np.float64]) -> NDArray[np.float64]:
    """The (4, 4) matrix from world space relative to ``origin`` to clip space."""
    rotation = rotation_matrix(view.orientation)
    world_to_view = np.eye(4)
    world_to_view[:3, :3] = rotation.T
    world_to_view[:3, 3] = -rotation.T @ (np.array(view.position) - origin)
    return np.asarray(projection_matrix(view) @ world_to_view, np.float64)


def pixels_per_radian(view: View, viewport: Viewport) -> float:
    """Drawn pixels that a small angle covers in the middle of the picture, in the finer direction; of an orthographic
    view: that a metre covers at any distance."""
    left, right, up, down = view.tangents
    across = viewport.width / (right - left)
    upright = viewport.height / (up - down)
    return max(across, upright)


def fill_view(
    record: NDArray[np.void],
    view: View,
    viewport: Viewport,
    scene: RenderScene,
    matrix: NDArray[np.float64],
    environment: Environment,
    origin: NDArray[np.float64],
    band: tuple[float, float] = (0.0, 1.0),
) -> None:
    """Write the uniform of a view into ``record``, one row of :data:`VIEW_DTYPE`.

    ``band``: where the viewport's rows lie in the whole picture, from 0 (its upper edge) to 1 (its lower edge).
    ``origin``: what positions on the device are relative to; the fields of lights are left to ``lights``.
    ``matrix``: its :func:`view_projection`; ``environment``: what lights the scene, before rotation.
    """
    rotation = rotation_matrix(view.orientation)
    left, right, up, down = view.tangents
    pixel = ((right - left) / viewport.width, (up - down) / viewport.height)
    step_x = rotation[:, 0] * pixel[0]
    step_y = rotation[:, 1] * -pixel[1]
    corner = rotation[:, 0] * left + rotation[:, 1] * up - viewport.x * step_x - viewport.y * step_y
    eye = np.array(view.position) - origin
    record["view_projection"] = matrix.T
    if view.orthographic:
        # Rays are parallel and begin all over the plane of the eye.
        record["ray_corner"][:3] = -rotation[:, 2]
        record["ray_dx"][:3] = record["ray_dy"][:3] = 0.0
        record["eye"] = (*(eye + corner), 1.0)
    else:
        record["ray_corner"][:3] = corner - rotation[:, 2]
        record["ray_dx"][:3], record["ray_dy"][:3] = step_x, step_y
        record["eye"] = (*eye, 0.0)
    record["across"] = (*rotation[:, 0], pixel[0])
    record["down"] = (*-rotation[:, 1], pixel[1])
    record["ray_corner"][3] = scene.point_size
    record["ray_dx"][3], record["ray_dy"][3] = view.near, view.far
    light = np.array(scene.light_direction, np.float64)
    record["light_direction"][:3] = light / np.linalg.norm(light)
    record["light_color"][:3] = np.array(scene.light_color) * (scene.light_intensity * scene.exposure)
    record["light_color"][3] = scene.exposure
    image_light = scene.environment_intensity * scene.exposure
    record["irradiance"][:, :3] = rotate_harmonics(environment.irradiance, scene.environment_rotation) * image_light
    angle = scene.environment_rotation
    scale = image_light * environment.range / RANGE
    record["environment"] = (math.cos(angle), math.sin(angle), scale, bias_scale(view, scene.effects.z_fighting))
    rows = viewport.height / (band[1] - band[0])
    record["viewport"] = (viewport.x, viewport.y - band[0] * rows, 1.0 / viewport.width, 1.0 / rows)
    record["backdrop_top"] = (*BACKDROP_TOP, BACKDROP_POOL)
    record["backdrop_bottom"] = (*BACKDROP_BOTTOM, math.inf)
