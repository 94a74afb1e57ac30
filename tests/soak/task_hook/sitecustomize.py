"""Lets a render server say how many asyncio tasks it has, for the soak: nobody else asks.

Python imports this by itself where a test has put this folder first on the path; it does nothing unless the process is
a render server and ``SOAK_TASKS`` names a folder. Then the number of unfinished tasks is written there each second,
into a file named by the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from pathlib import Path

FOLDER = os.environ.get("SOAK_TASKS", "")


def _count() -> int:
    # The set may change while it is read from this thread; then it is read again.
    while True:
        with contextlib.suppress(RuntimeError):
            return sum(not task.done() for task in list(asyncio.tasks._all_tasks))


def _report() -> None:
    path = Path(FOLDER) / str(os.getpid())
    while True:
        partial = path.with_suffix(".new")
        partial.write_text(str(_count()))
        partial.replace(path)
        time.sleep(1.0)


if FOLDER and "farframe.server" in sys.orig_argv:
    threading.Thread(target=_report, daemon=True).start()
