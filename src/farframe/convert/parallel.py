"""Work spread over processes that share what was in memory when they began.

Processes are forked: models need not be copied to them. Where no processes can be had, the work is done here. Workers
end when this process does.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Generic, TypeVar

from farframe.protocol.errors import FarframeError, Result

Task = TypeVar("Task")
Done = TypeVar("Done")

_PR_SET_PDEATHSIG = 1
_shared: Any = None
"""In a worker, what the pool shares with it."""


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers(Generic[Task, Done]):
    """``work(shared, task)`` for many tasks, in ``count`` processes (0: one per core; 1: in this one).

    ``work`` must be a function of a module. Use it as a context manager, begun when ``shared`` is complete.
    """

    def __init__(self, work: Callable[[Any, Task], Done], shared: Any, count: int = 0) -> None:
        self._work = work
        self._shared = shared
        self.count = count or core_count()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers[Task, Done]:
        if self.count > 1 and sys.platform != "win32":
            with contextlib.suppress(OSError, NotImplementedError, ImportError):
                self._pool = ProcessPoolExecutor(
                    self.count, multiprocessing.get_context("fork"), _begin, (self._shared,)
                )
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def map(self, tasks: Iterable[Task]) -> Iterator[Done]:
        """The results in the order of the tasks, of which only a few are ahead at a time.

        Raises what the work raises, and ExceedsMemoryLimit if a worker was killed.
        """
        if self._pool is None:
            for task in tasks:
                yield self._work(self._shared, task)
            return
        waiting: deque[Future[_Outcome]] = deque()
        remaining = iter(tasks)
        try:
            while True:
                while len(waiting) < 2 * self.count:
                    task = next(remaining, _NOTHING)
                    if task is _NOTHING:
                        break
                    waiting.append(self._pool.submit(_guarded, self._work, task))
                if not waiting:
                    return
                result, failure = waiting.popleft().result()
                if failure is not None:
                    raise FarframeError(Result(failure[0]), failure[1], next_step=failure[2])
                yield result
        except BrokenProcessPool:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                "A process that built a part of the model was killed, perhaps because memory ran out.",
                next_step="Convert on a machine with more memory, or with fewer workers.",
            ) from None


_NOTHING: Any = object()
_Outcome = tuple[Any, tuple[str, str, str] | None]


def _begin(shared: Any) -> None:
    global _shared  # noqa: PLW0603
    _shared = shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _guarded(work: Callable[[Any, Any], Any], task: Any) -> _Outcome:
    # Errors of ours do not survive being pickled.
    try:
        return work(_shared, task), None
    except FarframeError as error:
        return None, (str(error.result), error.message, error.next_step)
