"""What surrounds a scene on the device: environment and lights, in the bind group that every pass begins with.

Environments are prefiltered elsewhere (``environment``, ``sky``), on any thread; here they only become a texture, at
the first picture that is lit by them. The last few stay.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import wgpu
from numpy.typing import NDArray

from farframe.protocol.records import View
from farframe.render.environment import Environment, studio
from farframe.render.frame import VIEW_DTYPE, Viewport
from farframe.render.lights import LightTables
from farframe.render.pipelines import LightFeature, Pipelines
from farframe.render.scene import RenderScene

KEPT_ENVIRONMENTS = 4
"""Textures that stay, 4 MB each."""


class Surroundings:
    """The bind group of a view. ``uniforms``: the buffer of the views' numbers, read at a dynamic offset;
    ``others``: entries of the group that are somebody else's."""

    def __init__(self, device: Any, pipelines: Pipelines, uniforms: Any, others: list[dict[str, Any]]) -> None:
        self._device = device
        self._pipelines = pipelines
        self._uniforms = uniforms
        self._others = others
        self._textures: OrderedDict[Environment, Any] = OrderedDict()
        self._sampler = device.create_sampler(mag_filter="linear", min_filter="linear")
        self._lights = LightTables(device)
        self._made_for: tuple[Environment, int] | None = None
        self.group: Any = None
        """For the scene that :meth:`update` was last called for."""
        self.use(studio())

    def use(self, environment: Environment) -> None:
        """Light the next picture by ``environment``."""
        key = (environment, self._lights.version)
        if key != self._made_for:
            self._made_for = key
            self.group = self._make_group(self._texture(environment))

    def update(
        self,
        scene: RenderScene,
        views: tuple[View, ...],
        ports: tuple[Viewport, ...],
        origin: NDArray[np.float64],
        records: NDArray[np.void],
    ) -> LightFeature:
        """Bring the lights of ``scene`` and its environment onto the device; see
        :meth:`~farframe.render.lights.LightTables.update`. What shaders need for lights."""
        images = scene.light_images
        lit = self._lights.update(scene.lights, images, scene.exposure, views, ports, origin, records)
        self.use(scene.environment or studio())
        return lit

    def _texture(self, environment: Environment) -> Any:
        if environment not in self._textures:
            while len(self._textures) >= KEPT_ENVIRONMENTS:
                self._textures.popitem(last=False)[1].destroy()
            layers, size = environment.texels.shape[:2]
            texture = self._device.create_texture(
                label="environment",
                size=(size, size, layers),
                format="rgba8unorm",
                usage=wgpu.TextureUsage.TEXTURE_BINDING | wgpu.TextureUsage.COPY_DST,
            )
            self._device.queue.write_texture(
                {"texture": texture},
                environment.texels,
                {"bytes_per_row": size * 4, "rows_per_image": size},
                (size, size, layers),
            )
            self._textures[environment] = texture
        self._textures.move_to_end(environment)
        return self._textures[environment]

    def _make_group(self, texture: Any) -> Any:
        return self._device.create_bind_group(
            layout=self._pipelines.view_layout,
            entries=[
                {"binding": 0, "resource": {"buffer": self._uniforms, "offset": 0, "size": VIEW_DTYPE.itemsize}},
                {"binding": 1, "resource": texture.create_view(dimension="2d-array")},
                {"binding": 2, "resource": self._sampler},
                {"binding": 3, "resource": {"buffer": self._lights.rows}},
                {"binding": 4, "resource": {"buffer": self._lights.lists}},
                {"binding": 5, "resource": self._lights.images.create_view(dimension="2d-array")},
                *self._others,
            ],
        )
