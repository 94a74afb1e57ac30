"""Secrets in text: found by their shape and by the name that they go under, and replaced. For every log there is."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any

MASK = "***"

_SECRET_NAMES = re.compile(r"(?i)(authorization|token|secret|password|account_?key|private|^code$)")
_SECRET_VALUES = re.compile(
    r"ff[kl]_[A-Za-z0-9_-]{8,}"  # account keys and codes of one-time links
    r"|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"  # tokens
    r"|(?i:(?<=bearer )\S+)"
    r"|(?<=[?&]sig=)[^&\s\"']+"  # the signature in a storage URL
)


def mask_text(text: str) -> str:
    """The text with everything that looks like a secret replaced."""
    return _SECRET_VALUES.sub(MASK, text)


def mask_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that masks secrets by name and by shape."""
    for name, value in event.items():
        if name != "event" and _SECRET_NAMES.search(name):
            event[name] = MASK
        elif isinstance(value, str):
            event[name] = mask_text(value)
    return event
