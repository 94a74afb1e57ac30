"""PNG and JPEG bytes to RGBA pixels, with the size looked at before anything is decoded."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import JpegImagePlugin, PngImagePlugin

from farframe.asset.budget import Budget
from farframe.protocol.errors import FarframeError, Result

MAX_IMAGE_SIDE = 16_384
"""Pixels along one side: what graphics devices take at most."""

_DECODE_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    PillowImage.DecompressionBombError,
)
"""What Pillow raises for broken bytes; it has no one error of its own."""


class EncodedImage:
    """An image whose header has been read and charged to a budget; the pixels have not been decoded yet."""

    def __init__(self, data: bytes, name: str, budget: Budget) -> None:
        self.name = name
        # The plugins are called directly: Pillow's own opener guesses among many formats and guards the size by a
        # process-wide setting; here two formats are allowed and the limits come with the call.
        try:
            if data[:8] == b"\x89PNG\r\n\x1a\n":
                self._image: PillowImage.Image = PngImagePlugin.PngImageFile(io.BytesIO(data))
            elif data[:3] == b"\xff\xd8\xff":
                self._image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
            else:
                raise FarframeError(
                    Result.FILE_CORRUPT, f"{name} is neither PNG nor JPEG.", next_step="Convert the texture to PNG."
                )
            self.width, self.height = self._image.size
        except _DECODE_ERRORS:
            raise self._broken() from None
        if self.width < 1 or self.height < 1:
            raise self._broken()
        budget.take_image(self.width, self.height, name)
        if max(self.width, self.height) > MAX_IMAGE_SIDE:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"{name} has {self.width} x {self.height} pixels; a side may have {MAX_IMAGE_SIDE:,}.",
                next_step="Scale the texture down.",
            )

    def decode(self) -> NDArray[np.uint8]:
        """(height, width, 4) RGBA, row 0 at the top. Releases the interpreter lock while it decodes."""
        try:
            image = self._image
            if image.mode.startswith("I"):
                # 16 bits of grey: Pillow's own conversion would clip instead of scale.
                grey = np.asarray(image, dtype=np.int64)
                pixels = np.empty((self.height, self.width, 4), dtype=np.uint8)
                pixels[..., :3] = (np.clip(grey, 0, 65_535) >> 8).astype(np.uint8)[..., None]
                pixels[..., 3] = 255
                return pixels
            return np.array(image.convert("RGBA"), dtype=np.uint8)
        except _DECODE_ERRORS:
            raise self._broken() from None
        except MemoryError:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT, f"{self.name} does not fit into memory.", next_step="Scale it down."
            ) from None

    def _broken(self) -> FarframeError:
        return FarframeError(
            Result.FILE_CORRUPT, f"{self.name} is a broken image.", next_step="Export the texture again."
        )
