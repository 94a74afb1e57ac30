"""Values as they are written on a command line."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

MIN_EDGE_PIXELS = 64
MAX_EDGE_PIXELS = 8192

Size = tuple[int, int]
Vector = tuple[float, float, float]

_SIZE = re.compile(r"([0-9]{1,5})[xX×]([0-9]{1,5})")


def _text(tokens: Sequence[Any]) -> str:
    return str(tokens[0].value)


def parse_size(kind: Any, tokens: Sequence[Any]) -> Size:
    """``1280x720`` as (width, height) in pixels: even, since video knows no odd sizes."""
    match = _SIZE.fullmatch(_text(tokens))
    if match is None:
        raise ValueError(f'"{_text(tokens)}" is no picture size; write it as 1280x720.')
    width, height = int(match[1]), int(match[2])
    if not all(MIN_EDGE_PIXELS <= edge <= MAX_EDGE_PIXELS for edge in (width, height)):
        raise ValueError(f"A picture has {MIN_EDGE_PIXELS} to {MAX_EDGE_PIXELS} pixels on each side.")
    if width % 2 or height % 2:
        raise ValueError("Width and height must be even numbers.")
    return width, height


def parse_vector(kind: Any, tokens: Sequence[Any]) -> Vector:
    """``2,1,2`` as three finite numbers."""
    parts = _text(tokens).split(",")
    try:
        x, y, z = (float(part) for part in parts)
    except ValueError:
        raise ValueError(f'"{_text(tokens)}" is no point; write it as 2,1,2.') from None
    if not all(math.isfinite(value) for value in (x, y, z)):
        raise ValueError("A point has three finite numbers.")
    return x, y, z


def parse_server_size(kind: Any, tokens: Sequence[Any]) -> str:
    """Standard or Premium, in any case."""
    name = _text(tokens).lower()
    if name not in ("standard", "premium"):
        raise ValueError(f'"{_text(tokens)}" is no size of render servers; choose standard or premium.')
    return name.capitalize()


def parse_servers(kind: Any, tokens: Sequence[Any]) -> str:
    """``standard=2,premium=1``: how many servers of each size may run. Given back in its plain form."""
    counts: dict[str, int] = {}
    for part in _text(tokens).split(","):
        name, _, count = (piece.strip() for piece in part.partition("="))
        size = name.lower()
        if size not in ("standard", "premium") or size in counts or not (count.isascii() and count.isdigit()):
            raise ValueError(f'"{_text(tokens)}" is no number of servers; write it as standard=2,premium=1.')
        counts[size] = int(count)
    if not any(counts.values()):
        raise ValueError("At least one server must be allowed.")
    return ",".join(f"{size}={count}" for size, count in counts.items())


def parse_port(kind: Any, tokens: Sequence[Any]) -> int:
    """0 (any free one) to 65535."""
    text = _text(tokens)
    if not (text.isascii() and text.isdigit()) or int(text) > 65535:
        raise ValueError(f'"{text}" is no port; choose 0 to 65535.')
    return int(text)


def parse_lease(kind: Any, tokens: Sequence[Any]) -> int:
    """Whole minutes, 1 to 1440."""
    text = _text(tokens)
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 1440:
        raise ValueError(f'"{text}" is no lease; choose 1 to 1440 whole minutes.')
    return int(text)


def parse_grace(kind: Any, tokens: Sequence[Any]) -> float:
    """Seconds, 0 to 3600."""
    text = _text(tokens)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise ValueError(f'"{text}" is no grace time; choose 0 to 3600 seconds.')
    return seconds


def show_size(size: Size) -> str:
    """A picture's size as it is written."""
    return f"{size[0]}x{size[1]}"
