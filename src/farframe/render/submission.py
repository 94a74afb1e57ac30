"""The commands of a picture on their way to the device: recorded into one encoder as long as nothing has to come in
between, so that most pictures are submitted once and waited for once.

Each submission costs a turn through the driver, and each wait one through two threads: on a CPU adapter that is a
millisecond of a frame of ten.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import wgpu
from numpy.typing import NDArray

from farframe.render.targets import Fence


class Submission:
    """What is recorded of the present picture on a device. Render thread only."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._recorded: Any = None
        """What is not submitted yet."""
        self._fence = Fence(device)

    def begin(self) -> None:
        """A new picture: what an error has left of the one before is forgotten."""
        self._recorded = None

    def recording(self) -> Any:
        """An encoder that goes on where the picture's last pass ended; give it back with :meth:`keep`, or send it."""
        recorded, self._recorded = self._recorded, None
        return self._device.create_command_encoder() if recorded is None else recorded

    def keep(self, encoder: Any) -> None:
        """What comes next goes on in this encoder."""
        self._recorded = encoder

    def send(self, encoder: Any) -> None:
        """Submit, without waiting."""
        self._device.queue.submit([encoder.finish()])

    def flush(self) -> None:
        """Submit what is recorded, before something is written anew that it reads."""
        if self._recorded is not None:
            self.send(self.recording())

    def finish(self) -> None:
        """Submit what is recorded, and wait until it is done."""
        encoder = self.recording()
        self._fence.record(encoder)
        self.send(encoder)
        self._fence.wait()

    def filled(self, buffer: Any, tables: list[NDArray[np.uint32]]) -> Any:
        """``buffer``, or a larger one, with the commands of all views in it: (v, n) uint32 each."""
        table = np.concatenate(tables)
        if not table.nbytes:
            return buffer
        self.flush()
        if buffer is None or buffer.size < table.nbytes:
            if buffer is not None:
                buffer.destroy()
            usage = wgpu.BufferUsage.INDIRECT | wgpu.BufferUsage.COPY_DST
            size = 1 << max(12, int(table.nbytes - 1).bit_length())
            buffer = self._device.create_buffer(label="commands", size=size, usage=usage)
        self._device.queue.write_buffer(buffer, 0, table)
        return buffer
