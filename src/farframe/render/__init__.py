"""The engine: turns models and a scene into pixels. The only room that makes wgpu calls.

It knows nothing of devices, sessions, entities or video; it draws what a :class:`RenderScene` holds, on a GPU or on
the CPU through lavapipe, and hands back pixels in mapped memory. ``docs/rendering.md`` tells how and how fast.
"""

from farframe.render.assets import AssetResource, PreparedAsset, prepare_asset
from farframe.render.engine import Engine
from farframe.render.frame import FULL_QUALITY, FrameInput, Quality, RenderedFrame
from farframe.render.quality import QualityGovernor
from farframe.render.resources import ModelResource
from farframe.render.scene import RenderScene
from farframe.render.textures import TextureResource

__all__ = [
    "FULL_QUALITY",
    "AssetResource",
    "Engine",
    "FrameInput",
    "ModelResource",
    "PreparedAsset",
    "Quality",
    "QualityGovernor",
    "RenderScene",
    "RenderedFrame",
    "TextureResource",
    "prepare_asset",
]
