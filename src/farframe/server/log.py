"""The server's log: JSON lines on standard error, and the latest of them for the inspector."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import msgspec
import structlog

from farframe.auth.masking import mask_secrets

KEPT_LINES = 200
"""As many as the inspector of Azure Remote Rendering showed."""

LogEvent = dict[str, Any]

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(level: str, tell: Callable[[LogEvent], None], **context: str) -> None:
    """Send structlog and the standard library's log to standard error and to ``tell``, secrets masked."""

    def tee(logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        tell(dict(event))
        return msgspec.json.encode(event, enc_hook=str).decode()

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        mask_secrets,
        tee,
    ]
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS.get(level, 20)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    if context:
        structlog.contextvars.bind_contextvars(**context)
    logging.basicConfig(handlers=[_ToStructlog()], level=logging.WARNING, force=True)


class _ToStructlog(logging.Handler):
    """Hands what libraries log over to structlog, so that there is one log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on with its logger's name."""
        level = {v: k for k, v in _LEVELS.items()}.get(min(record.levelno // 10 * 10, 40), "info")
        message = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            message += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
        getattr(structlog.get_logger(record.name), level)("library", logger=record.name, message=message)
