"""The ``farframe`` command: a thin, talkative shell around the Python SDK.

This room turns words on a command line into calls of :mod:`farframe.client` and their outcomes into text and exit
codes. It must not know the service, the server or the renderer: ``farframe up`` starts the service as another program
and hands it environment variables. Whatever is heavy is imported inside the command that needs it, so that ``--help``
answers at once.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, ``sys.argv`` by default.

    Returns the exit code: 0, 1 when the command failed, 2 when it was misused, 130 when it was interrupted.
    """
    from farframe.cli._app import run

    return run(arguments)
