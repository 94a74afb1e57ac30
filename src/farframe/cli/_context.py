"""What holds for every command: where the service is, how results are printed, how coroutines run and end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

    from farframe.client.management import RemoteRenderingClient

T = TypeVar("T")

DEBUG_VARIABLE = "FARFRAME_DEBUG"


class CommandError(Exception):
    """A command cannot do what was asked: one sentence and the next step, for standard error, exit code 1."""


@dataclass(slots=True)
class Context:
    """The options that every command takes."""

    connection: Path | None = None
    as_json: bool = False
    debug: bool = False

    def client(self) -> RemoteRenderingClient:
        """A client of the service that these options name. Raises ConnectionFileError."""
        from farframe.client.management import RemoteRenderingClient

        return RemoteRenderingClient.from_connection_file(self.connection)


context = Context()
"""Set by the command line before the command runs. A process runs one command."""


def debugging() -> bool:
    """Whether tracebacks are wanted."""
    return context.debug or os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def note(text: str) -> None:
    """A line for people, on standard error, so that standard output stays for results."""
    print(text, file=sys.stderr, flush=True)


def emit(value: Mapping[str, Any] | Sequence[Mapping[str, Any]], text: str) -> None:
    """A result on standard output: ``value`` with ``--json``, else ``text``."""
    print(json.dumps(value, indent=2) if context.as_json else text, flush=True)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows in columns, the first row being the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def error_console() -> Console:
    """Where progress is drawn: standard error, plain where that is no terminal."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end. SIGINT and SIGTERM cancel it, so that it can stop what it has leased."""

    async def guarded() -> T:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)
        terminated = False

        def terminate() -> None:
            nonlocal terminated
            terminated = True
            task.cancel()

        with contextlib.suppress(NotImplementedError, RuntimeError):
            # Not on Windows, and not outside the main thread: there, the process just ends.
            loop.add_signal_handler(signal.SIGTERM, terminate)
        try:
            return await task
        except asyncio.CancelledError:
            if terminated:
                raise KeyboardInterrupt from None
            raise

    return asyncio.run(guarded())
