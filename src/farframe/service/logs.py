"""Logging: structlog for everything, other libraries' messages included; secrets never get through."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

MASK = "***"

_MANY_LINES = frozenset({"exception", "stack", "last_words"})
_SECRET_NAMES = re.compile(r"(?i)(authorization|token|secret|password|account_?key|private|^code$)")
_SECRET_VALUES = re.compile(
    r"ff[klo]_[A-Za-z0-9_-]{8,}"  # account keys, codes of one-time links, tokens of operators
    r"|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"  # tokens
    r"|(?i:(?<=bearer )\S+)"
    r"|(?<=[?&]sig=)[^&\s\"']+"  # the signature in a storage URL
)


def one_line(text: str) -> str:
    """The text with everything that is not printable written out, ``\\u000a`` for a line's end."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def mask_text(text: str) -> str:
    """The text with everything that looks like a secret replaced."""
    return _SECRET_VALUES.sub(MASK, text)


def mask_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that masks secrets by name and by shape, and writes control characters out: what a caller
    sent must not look like a line of its own. Tracebacks keep their lines.
    """
    for name, value in event.items():
        if name != "event" and _SECRET_NAMES.search(name):
            event[name] = MASK
        elif isinstance(value, str):
            text = mask_text(value)
            event[name] = text if name in _MANY_LINES else one_line(text)
    return event


def configure_logging(level: str, style: str) -> None:
    """Log to standard error: JSON, or readable lines for ``console``; ``auto`` picks by whether it is a terminal."""
    readable = style == "console" or (style == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        # First: what is below the level costs nothing more.
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if readable else (structlog.processors.JSONRenderer())
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            mask_secrets,
            renderer,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for former in root.handlers[:]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # Their informative messages repeat what we log ourselves, with query strings and all.
    for name in ("uvicorn", "uvicorn.error", "httpx", "httpcore", "alembic", "aiosqlite", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
