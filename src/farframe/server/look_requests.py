"""The methods that ask how a scene looks: what there is of materials, textures, lights, cut planes and effects.

What changes it comes as commands in batches, see :mod:`farframe.server.scene_requests`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from farframe.protocol import appearance as wire
from farframe.protocol import messages
from farframe.protocol.messages import Incoming, Message

if TYPE_CHECKING:
    from farframe.server.requests import Handler
    from farframe.server.scene_requests import SceneRequests

PAGE_BYTES = 96 * 1024
"""What an answer's data may take, packed, before it is split."""


class LookRequests:
    """Answers from the render thread, by the way that ``entities`` has there, after all batches that came before."""

    def __init__(self, entities: SceneRequests) -> None:
        self._run = entities.run

    @property
    def reading_methods(self) -> Mapping[str, Handler]:
        """What only asks."""
        return {
            "scene.getMaterials": self._get_materials,
            "scene.getTextures": self._get_textures,
            "scene.getSubParts": self._get_sub_parts,
            "scene.getComponents": self._get_components,
            "scene.getEffects": self._get_effects,
        }

    async def _get_materials(self, message: Incoming) -> Message:
        params = messages.convert_params(message.params, wire.RangeParams)
        return await self._run(lambda world: world.looks.told_materials(params.first, params.last))

    async def _get_textures(self, message: Incoming) -> Message:
        params = messages.convert_params(message.params, wire.FirstParams)
        return await self._run(lambda world: world.looks.told_textures(params.first))

    async def _get_sub_parts(self, message: Incoming) -> Message:
        params = messages.convert_params(message.params, wire.SubPartsParams)
        limit = wire.SUB_PART_PAGE
        while True:
            count = limit
            table, ranks = await self._run(
                lambda world: world.looks.sub_parts(world.meshes, params, count)  # noqa: B023 - awaited at once
            )
            told = wire.SubPartTable(*(getattr(table, name)[:count] for name in wire.SUB_PART_COLUMNS))
            data = await asyncio.to_thread(wire.pack_sub_parts, told)
            if len(data) <= PAGE_BYTES or limit == 1:
                following, skip = (int(table.entity[count]), int(ranks[count])) if len(ranks) > count else (0, 0)
                return wire.SubPartsResult(count=len(told.entity), data=data, next=following, skip=skip)
            limit = max(1, min(limit // 2, len(told.entity) * PAGE_BYTES // len(data)))

    async def _get_components(self, message: Incoming) -> Message:
        params = messages.convert_params(message.params, wire.FirstParams)
        return await self._run(lambda world: world.looks.told_components(params.first))

    async def _get_effects(self, message: Incoming) -> Message:
        return await self._run(lambda world: world.looks.effects)
