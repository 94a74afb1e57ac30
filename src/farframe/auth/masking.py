"""What may stand in a log: no secrets, found by their shape and by the name that they go under, and no line breaks
that a caller sent. One rule for the logs of the service and of the render servers.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any

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
