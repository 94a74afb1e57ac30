"""Times on the wire. Inside the service a time is an integer: microseconds since 1970-01-01T00:00:00 UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

MICROSECONDS_PER_SECOND = 1_000_000
MICROSECONDS_PER_MINUTE = 60 * MICROSECONDS_PER_SECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def format_session_time(microseconds: int) -> str:
    """A session's ``creationTime``: ISO 8601 with ``+00:00``, trailing zeros of the fraction cut.

    >>> format_session_time(1_663_117_532_477_350)
    '2022-09-14T01:05:32.47735+00:00'
    """
    text = (_EPOCH + timedelta(microseconds=microseconds)).isoformat().removesuffix("+00:00")
    return f"{text.rstrip('0') if '.' in text else text}+00:00"


def format_utc_time(microseconds: int) -> str:
    """The times of Farframe's own extensions: ISO 8601 ending in ``Z``."""
    return format_session_time(microseconds).removesuffix("+00:00") + "Z"


def whole_minutes(microseconds: int) -> int:
    """A duration in whole minutes, rounded down; never negative."""
    return max(0, microseconds) // MICROSECONDS_PER_MINUTE
