"""Texture blocks (BC1, BC5, BC7) back to pixels, for devices that cannot sample them and for judging encoders.

A block holds 4 x 4 texels; rows of blocks follow one another from the top. A level whose size is no multiple of 4 has
whole blocks all the same, the texels beyond its edge being padding.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import texture2ddecoder
from numpy.typing import NDArray

BlockFormat = Literal["bc1-rgba-unorm", "bc5-rg-unorm", "bc7-rgba-unorm"]

BLOCK_BYTES: dict[str, int] = {"bc1-rgba-unorm": 8, "bc5-rg-unorm": 16, "bc7-rgba-unorm": 16}
_DECODERS = {
    "bc1-rgba-unorm": texture2ddecoder.decode_bc1,
    "bc5-rg-unorm": texture2ddecoder.decode_bc5,
    "bc7-rgba-unorm": texture2ddecoder.decode_bc7,
}


def level_bytes(texture_format: str, width: int, height: int) -> int:
    """Bytes of one mip level of so many texels in a format of :data:`farframe.asset.format.TextureFormat`.

    Raises ``KeyError`` for another format.
    """
    if texture_format == "rgba8unorm":
        return width * height * 4
    return ((width + 3) // 4) * ((height + 3) // 4) * BLOCK_BYTES[texture_format]


def decode_blocks(texture_format: BlockFormat, data: bytes, width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 4) RGBA of one mip level of ``width`` x ``height`` texels, row 0 at the top.

    BC5 gives its two channels in R and G, with B 0 and A 255, as a sampler does. All bytes are some picture: only the
    length can be wrong, which raises ``ValueError``. Releases no lock; some 20 million texels a second.
    """
    if width < 1 or height < 1 or len(data) != level_bytes(texture_format, width, height):
        raise ValueError(f"{len(data)} bytes are no level of {width} x {height} texels of {texture_format}")
    decoded = np.frombuffer(_DECODERS[texture_format](data, width, height), np.uint8).reshape(height, width, 4)
    # The decoder writes blue first.
    return np.ascontiguousarray(decoded[..., [2, 1, 0, 3]])
