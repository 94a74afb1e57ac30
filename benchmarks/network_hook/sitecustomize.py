"""Keeps some rendered pictures of a render server, so that ``./dev bench network`` can compare what arrived with them.

Python imports this by itself where the benchmark has put this folder first on the path; it changes nothing unless the
process is a render server and ``NETWORK_BENCHMARK_PICTURES`` names a folder. Then the first picture of each second of
presentation time is written there, ``PTS.npy``, shape (h, w, 4), as it was handed to the encoder.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from pathlib import Path

FOLDER = os.environ.get("NETWORK_BENCHMARK_PICTURES", "")


def _install() -> None:
    import numpy as np

    from farframe.stream import encoder

    waiting: queue.SimpleQueue[tuple[int, np.ndarray]] = queue.SimpleQueue()

    def write() -> None:
        while True:
            pts, picture = waiting.get()
            np.save(Path(FOLDER) / f"{pts}.npy", picture)

    threading.Thread(target=write, daemon=True).start()
    original = encoder.AvEncoder.encode
    last: dict[int, int] = {}

    def encode(self, rgba, pts, **options):
        if pts // 90_000 != last.get(id(self)):
            last[id(self)] = pts // 90_000
            waiting.put((pts, np.array(rgba)))
        return original(self, rgba, pts, **options)

    encoder.AvEncoder.encode = encode


if FOLDER and "farframe.server" in sys.orig_argv:
    _install()
