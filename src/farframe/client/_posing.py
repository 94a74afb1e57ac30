"""Where a connected device looks from. A part of :class:`~farframe.client.runtime.RuntimeConnection`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farframe.client import camera
from farframe.client._clock import now_us
from farframe.client._pose_pace import PosePace
from farframe.client.errors import RequestError
from farframe.client.loads import LoadedModel
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.messages import Bounds, VideoResult
from farframe.protocol.records import MAX_VIEWS, PoseFlags, PoseRecord, View, decode_pose, encode_pose

if TYPE_CHECKING:
    from farframe.client._transport import Transport
    from farframe.client.scene import Scene

RESEND_FIRST_SECONDS = 0.2
RESEND_MAX_SECONDS = 1.0
"""The pose channel may lose records: the newest pose is sent again until a frame shows that it arrived."""

SCATTERED_FACTOR = 10.0
"""Once parts were moved within their models nobody here knows how far: clip distances then hold a box so much larger.
Depth is as precise as a 32-bit float, near or far, so that costs nothing that is seen."""

ID_RANGE = 1 << 32


@dataclass(slots=True)
class LookAt:
    """The last :meth:`Posing.look_at`, kept so that clip distances follow what is loaded later."""

    eye: camera.Vector3
    target: camera.Vector3
    up: camera.Vector3
    vertical_fov_degrees: float
    near: float | None
    far: float | None
    orthographic: float | None


class Posing:
    """The poses that the device sends: the newest counts, and is sent again until a frame shows it."""

    if TYPE_CHECKING:
        scene: Scene
        _transport: Transport
        _video: VideoResult
        _watch: bool
        _models: dict[int, LoadedModel]

        def _require_open(self) -> None: ...

    def __init__(self) -> None:
        super().__init__()
        self._pose: PoseRecord | None = None
        self._pose_seen = asyncio.Event()
        self._pose_pace = PosePace()
        self._pose_changed = asyncio.Event()
        self._look_at: LookAt | None = None

    def look_at(
        self,
        eye: camera.Vector3,
        target: camera.Vector3,
        up: camera.Vector3 = (0.0, 1.0, 0.0),
        vertical_fov_degrees: float = camera.DEFAULT_VERTICAL_FOV_DEGREES,
        near: float | None = None,
        far: float | None = None,
        *,
        orthographic: float | None = None,
    ) -> int:
        """Look from ``eye`` at ``target`` (world, metres) and return the pose's id.

        With ``orthographic`` rays are parallel, as in a technical drawing, and the picture is that many metres high.
        Clip distances that are not given hold all loaded models, also those that are loaded afterwards, wherever they
        are moved to; with parts moved within them, or animations, they hold ten times as much around.
        Raises ValueError for impossible values.
        """
        wanted = LookAt(eye, target, up, vertical_fov_degrees, near, far, orthographic)
        pose_id = self._set_views((self._view(wanted),))
        self._look_at = wanted
        return pose_id

    def look_at_model(
        self,
        model: LoadedModel | None = None,
        *,
        azimuth_degrees: float = camera.THREE_QUARTER_AZIMUTH_DEGREES,
        elevation_degrees: float = camera.THREE_QUARTER_ELEVATION_DEGREES,
        vertical_fov_degrees: float = camera.DEFAULT_VERTICAL_FOV_DEGREES,
        orthographic: bool = False,
    ) -> int:
        """Look at a model (all of them, if none is given), where its root is by now, so that it fills the picture;
        returns the pose's id.

        ``azimuth_degrees`` turns from the front (+Z) towards +X, ``elevation_degrees`` lifts the eye.
        Raises ValueError when there is no model.
        """
        bounds = camera.union(self.scene._boxes(tuple(self._models.values()) if model is None else [model]))
        if bounds is None:
            raise ValueError("there is no model to look at")
        eye, target = camera.fit(
            bounds,
            aspect=self._aspect,
            vertical_fov_degrees=vertical_fov_degrees,
            azimuth_degrees=azimuth_degrees,
            elevation_degrees=elevation_degrees,
        )
        height = camera.fit_height(bounds, eye, target, aspect=self._aspect) if orthographic else None
        return self.look_at(eye, target, vertical_fov_degrees=vertical_fov_degrees, orthographic=height)

    def set_pose(self, views: View | Sequence[View], *, predict: bool = False) -> int:
        """Send a pose of one view, or of two for stereo, and return its id; ``Frame.pose_id`` names it.

        The newest pose counts. With ``predict`` the server draws for where the views will be when the frame is seen, as
        it should for a head, which moves by itself. Raises ValueError for anything but one or two valid views.
        """
        chosen = (views,) if isinstance(views, View) else tuple(views)
        if not 1 <= len(chosen) <= MAX_VIEWS:
            raise ValueError(f"a pose has 1 or {MAX_VIEWS} views")
        pose_id = self._set_views(chosen, PoseFlags.PREDICT if predict else PoseFlags.NONE)
        self._look_at = None
        return pose_id

    @property
    def pose(self) -> PoseRecord | None:
        """The newest pose that was set."""
        return self._pose

    @property
    def _aspect(self) -> float:
        return self._video.width / self._video.height

    def _bounds(self) -> Bounds | None:
        """What clip distances have to hold."""
        bounds = camera.union(self.scene._boxes(tuple(self._models.values())))
        return camera.grown(bounds, SCATTERED_FACTOR) if bounds is not None and self.scene._scattered else bounds

    def _view(self, wanted: LookAt) -> View:
        return camera.look_at(
            wanted.eye,
            wanted.target,
            wanted.up,
            vertical_fov_degrees=wanted.vertical_fov_degrees,
            orthographic=wanted.orthographic,
            aspect=self._aspect,
            near=wanted.near,
            far=wanted.far,
            bounds=self._bounds(),
        )

    def _set_views(self, views: tuple[View, ...], flags: PoseFlags = PoseFlags.NONE) -> int:
        self._require_open()
        if self._watch:
            raise RequestError(
                Result.WATCHING_ONLY,
                "A device that watches has no camera of its own.",
                next_step="Connect to drive, with a token of the role Client.",
            )
        # 0 stands for "no pose yet" on the other side.
        pose_id = 1 if self._pose is None else (self._pose.pose_id + 1) % ID_RANGE or 1
        pose = PoseRecord(pose_id, now_us(), views, flags)
        data = encode_pose(pose)
        try:
            decode_pose(data)
        except FarframeError as error:  # the server would say so, too, but cannot answer a pose
            raise ValueError(error.message) from error
        self._pose = pose
        self._pose_seen.clear()
        self._pose_changed.set()
        if self._pose_pace.allows(now_us() / 1e6):
            self._transport.send_pose(data)
        return pose_id

    async def _resend_pose(self) -> None:
        """Send the newest pose again until a frame shows it: the channel does not repeat what is lost."""
        while True:
            await self._pose_changed.wait()
            self._pose_changed.clear()
            wait = RESEND_FIRST_SECONDS
            while not self._pose_seen.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._pose_seen.wait()
                if self._pose_changed.is_set():
                    # A newer one went out by itself.
                    break
                if not self._pose_seen.is_set() and self._pose is not None:
                    self._transport.send_pose(encode_pose(self._pose))
                    wait = min(wait * 2, RESEND_MAX_SECONDS)
