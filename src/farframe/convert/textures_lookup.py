"""Finding textures: designers' files hold paths of the machine that they were made on.

The stored path's suffixes are tried, the longest first, each below the folder of the source asset; the first that is a
file wins. Only files whose resolved place is inside the input folder count: ``..``, absolute paths and links never
lead out of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from farframe.asset.budget import Budget
from farframe.asset.images import EncodedImage
from farframe.convert.errors import MISSING_TEXTURE, ConversionWarning
from farframe.protocol.errors import FarframeError, Result

MAX_PATH_LENGTH = 4_096
MAX_SUFFIXES = 64
MAX_IMAGE_BYTES = 1024**3


def find_texture(stored: str, asset_folder: Path, input_folder: Path) -> Path | None:
    """The file for a stored path (with ``/`` or ``\\``), or ``None``."""
    if not stored or len(stored) > MAX_PATH_LENGTH or "\0" in stored:
        return None
    members = [each for each in stored.replace("\\", "/").split("/") if each not in ("", ".")]
    root = input_folder.resolve()
    for begin in range(max(0, len(members) - MAX_SUFFIXES), len(members)):
        suffix = members[begin:]
        if ".." in suffix or any(":" in each for each in suffix):
            continue
        try:
            resolved = asset_folder.joinpath(*suffix).resolve()
            if resolved.is_relative_to(root) and resolved.is_file():
                return resolved
        except (OSError, RuntimeError, ValueError):
            continue
    return None


class TextureFiles:
    """Reads the images that a file's materials name, each file once; what is missing becomes a warning."""

    def __init__(self, asset_folder: Path, input_folder: Path, budget: Budget) -> None:
        self.warnings: list[ConversionWarning] = []
        self._asset_folder = asset_folder
        self._input_folder = input_folder
        self._budget = budget
        self._pixels: dict[object, NDArray[np.uint8] | None] = {}

    def read(self, stored: str, material: str, embedded: bytes = b"") -> NDArray[np.uint8] | None:
        """(height, width, 4) RGBA of the image at a stored path, or of ``embedded`` bytes; ``None`` with a warning."""
        if embedded:
            return self._decoded((stored, hash(embedded)), embedded, stored or "An embedded texture", material)
        path = find_texture(stored, self._asset_folder, self._input_folder)
        if path is None:
            self._missing(stored, material, "No such file lies beside the model or below.")
            return None
        if path not in self._pixels:
            if path.stat().st_size > MAX_IMAGE_BYTES:
                self._missing(stored, material, f"The file is larger than {MAX_IMAGE_BYTES:,} bytes.")
                return None
            self._budget.take_bytes(path.stat().st_size, path.name)
            data = path.read_bytes()
            self._budget.give_bytes(len(data))
            return self._decoded(path, data, path.name, material)
        return self._pixels[path]

    def _decoded(self, key: object, data: bytes, name: str, material: str) -> NDArray[np.uint8] | None:
        if key not in self._pixels:
            try:
                self._pixels[key] = EncodedImage(data, ascii(name[-80:]), self._budget).decode()
            except FarframeError as error:
                if error.result is not Result.FILE_CORRUPT:
                    raise
                self._pixels[key] = None
                self._missing(name, material, error.message)
        return self._pixels[key]

    def _missing(self, stored: str, material: str, problem: str) -> None:
        warning = ConversionWarning(
            MISSING_TEXTURE, {"texture": stored[:500], "material": material[:500], "problem": problem}
        )
        if warning not in self.warnings:
            self.warnings.append(warning)
