"""Frames handed over by other threads, on their way to the event loop: how many wait, and that a keyframe is first."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from farframe.stream.encoder import EncodedFrame


class FrameInbox:
    """Passes frames to ``take`` in the event loop. Those before the first keyframe go nowhere: for each of them
    ``ask_for_keyframe`` is called. ``accepts`` is asked in the event loop whether frames can be sent at all.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        accepts: Callable[[], bool],
        take: Callable[[EncodedFrame], None],
        ask_for_keyframe: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._accepts = accepts
        self._take = take
        self._ask_for_keyframe = ask_for_keyframe
        self._lock = threading.Lock()
        self._submitted = 0
        self._taken = 0
        self._begun = False

    @property
    def waiting(self) -> int:
        """Frames that were handed over and have not reached the event loop. May be read from any thread."""
        return self._submitted - self._taken

    def submit(self, frame: EncodedFrame) -> None:
        """Hand a frame over, from any thread; after the end of the loop nothing happens."""
        with self._lock:
            self._submitted += 1
        try:
            self._loop.call_soon_threadsafe(self._arrive, frame)
        except RuntimeError:  # the loop is closed
            with self._lock:
                self._submitted -= 1

    def _arrive(self, frame: EncodedFrame) -> None:
        try:
            if not self._accepts():
                return
            if not self._begun and not frame.keyframe:
                self._ask_for_keyframe()
                return
            self._begun = True
            self._take(frame)
        finally:
            self._taken += 1  # afterwards: counted twice for a moment is better than not at all
