"""Where the bytes of an asset come from: anything that can be read at any place.

A :class:`FileSource` maps a local file. Others, over HTTP for example, follow the same protocol.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Protocol

from farframe.protocol.errors import FarframeError, Result


class ByteSource(Protocol):
    """Bytes by offset and length. Thread safe; calls block, so they belong on worker threads.

    ``size`` is the number of bytes there are; ``name`` tells people what it is, and holds no secrets.
    """

    size: int
    name: str

    def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``. Raises FileCorrupt beyond the end, FileDownloadFailed where the
        bytes cannot be had."""
        ...

    def close(self) -> None:
        """Let go of what is held. May be called more than once."""
        ...


def beyond_end(name: str) -> FarframeError:
    """The error for bytes that should be there and are not."""
    return FarframeError(
        Result.FILE_CORRUPT,
        f"{name} ends before the bytes that it says it has.",
        next_step="Convert the model again, or copy the file again.",
    )


class FileSource:
    """A local file, mapped. Raises FileNotFound, or FileDownloadFailed if it cannot be read."""

    def __init__(self, path: Path, *, name: str | None = None) -> None:
        self.name = path.name if name is None else name
        self._map: mmap.mmap | None = None
        try:
            with path.open("rb") as file:
                self.size = file.seek(0, 2)
                if self.size:
                    self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise FarframeError(
                Result.FILE_NOT_FOUND, f"There is no {self.name}.", next_step="Check the path."
            ) from None
        except OSError as error:
            raise FarframeError(
                Result.FILE_DOWNLOAD_FAILED,
                f"{self.name} cannot be read: {error.strerror or 'it is no plain file'}.",
                next_step="Check that it is a file that this server may read.",
            ) from None

    def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``. Raises FileCorrupt beyond the end."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise beyond_end(self.name)
        if self._map is None:
            return b""
        return self._map[offset : offset + length]

    def close(self) -> None:
        """Unmap the file."""
        if self._map is not None:
            self._map.close()
            self._map = None
            self.size = 0
