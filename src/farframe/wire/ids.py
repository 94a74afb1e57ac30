"""Ids that callers choose, and account ids."""

from __future__ import annotations

import re
import uuid

MAX_ID_LENGTH = 256

# \Z and not $: the latter also matches before a final newline.
_ID = re.compile(r"[A-Za-z0-9_-]{1,256}\Z")
_UUID = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}\Z")


def is_valid_id(value: str) -> bool:
    """Whether ``value`` can name a session, a conversion or an upload: 1 to 256 of ``A-Z a-z 0-9 _ -``."""
    return _ID.match(value) is not None


def normalize_account_id(value: str) -> str | None:
    """The canonical (lower case) form of an account id, which is a UUID in any case; ``None`` if it is none."""
    return value.lower() if _UUID.match(value) else None


def new_account_id() -> str:
    """A fresh account id."""
    return str(uuid.uuid4())
