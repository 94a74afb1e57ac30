"""The bodies of the routes for usage and prices, and how their periods are written. They live beside the contract."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec

from farframe.wire.errors import BadRequest
from farframe.wire.times import MICROSECONDS_PER_SECOND

GROUPINGS = ("day", "size")
MAX_PERIOD_DAYS = 400
MICROSECONDS_PER_DAY = 24 * 3600 * MICROSECONDS_PER_SECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_YEAR, _LAST_YEAR = 1971, 2200


class Amount(msgspec.Struct, kw_only=True, frozen=True):
    """Money: a decimal number with six places as text, so that no client rounds it, in a currency (ISO 4217)."""

    currency: str
    amount: str


class UsageLine(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """What one account used of one kind and, where asked for, size, on one day (UTC).

    ``microseconds`` is exact; ``minutes`` is the same to a thousandth. An interval that spans midnight counts on both
    days. ``unpriced_microseconds`` is the part for which no price was valid.
    """

    account_id: str
    kind: str
    microseconds: int
    minutes: float
    intervals: int
    amounts: list[Amount]
    unpriced_microseconds: int
    size: str | None = None
    day: str | None = None
    bytes: int | None = None


class UsageReport(msgspec.Struct, kw_only=True, rename="camel"):
    """Usage in a period, from ``from`` up to, not including, ``to``. ``totals`` sums the lines, by kind."""

    begin: str = msgspec.field(name="from")
    end: str = msgspec.field(name="to")
    by: list[str]
    usage: list[UsageLine]
    totals: list[Amount]


class NewPrice(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A price to add. ``price_per_minute`` is a decimal number with at most six places, as text."""

    kind: Annotated[str, msgspec.Meta(pattern="^(session|conversion)$")]
    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]
    price_per_minute: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,6})?$")]
    valid_from: str
    size: str = ""


class Price(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """A price. It values what began at or after ``valid_from`` and before ``valid_until``."""

    id: str
    kind: str
    currency: str
    price_per_minute: str
    valid_from: str
    size: str | None = None
    valid_until: str | None = None


class PriceList(msgspec.Struct, kw_only=True):
    """Every price that was ever valid."""

    prices: list[Price]


def parse_moment(name: str, text: str) -> int:
    """A day (``2026-11-01``, its first moment in UTC) or a time with a zone, in microseconds since 1970 UTC.

    Raises :class:`BadRequest`.
    """
    example = "a day like 2026-11-01 or a time like 2026-11-01T12:00:00Z"
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            moment = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
        else:
            moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest(f"The {name} value must be {example}.") from None
    if moment.tzinfo is None:
        raise BadRequest(f"The {name} value must name its time zone: {example}.")
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise BadRequest(f"The {name} value must lie between the years {_FIRST_YEAR} and {_LAST_YEAR}.")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def parse_grouping(text: str | None) -> tuple[str, ...]:
    """``day``, ``size`` or both, separated by a comma; both without. Raises :class:`BadRequest`."""
    if text is None:
        return GROUPINGS
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    if any(name not in GROUPINGS for name in names):
        raise BadRequest("The by value must be day, size, or day,size.")
    return tuple(name for name in GROUPINGS if name in names)


def month_of(microseconds: int) -> int:
    """The first moment of the month (UTC) of a time, both in microseconds since 1970 UTC."""
    moment = _EPOCH + timedelta(microseconds=microseconds)
    first = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first - _EPOCH) // timedelta(microseconds=1)


def day_name(day: int) -> str:
    """The name of a day, counted from 1970-01-01."""
    return (_EPOCH + timedelta(days=day)).strftime("%Y-%m-%d")


def format_millionths(millionths: int) -> str:
    """Millionths as a decimal number with six places."""
    sign = "-" if millionths < 0 else ""
    return f"{sign}{abs(millionths) // 1_000_000}.{abs(millionths) % 1_000_000:06d}"


def parse_millionths(text: str) -> int:
    """The reverse of :func:`format_millionths`, for texts that :class:`NewPrice` accepts."""
    whole, _, fraction = text.partition(".")
    return int(whole) * 1_000_000 + int(fraction.ljust(6, "0") or "0")
