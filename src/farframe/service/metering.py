"""Usage reports: records of the store summed by account, kind, day and size, and valued by the price lists.

All sums are of integers and exact; only the last step, a sum of money, is rounded, to a millionth of the currency.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from farframe.service.clock import Clock
from farframe.store.store import Store
from farframe.store.usage import CONVERSION, PriceRefused, PriceRow, UsageRow
from farframe.wire.errors import BadRequest, Conflict
from farframe.wire.sessions import SessionSize
from farframe.wire.times import MICROSECONDS_PER_MINUTE, format_utc_time
from farframe.wire.usage import (
    MAX_PERIOD_DAYS,
    MICROSECONDS_PER_DAY,
    Amount,
    NewPrice,
    Price,
    UsageLine,
    UsageReport,
    day_name,
    format_millionths,
    month_of,
    parse_grouping,
    parse_millionths,
    parse_moment,
)

_Key = tuple[str, str, str | None, int | None]
"""Account, kind, size if grouped by it, day since 1970 if grouped by it."""


@dataclass(slots=True)
class _Sum:
    microseconds: int = 0
    intervals: int = 0
    bytes: int = 0
    unpriced: int = 0
    money: dict[str, int] = field(default_factory=dict)
    """By currency, in millionths of it times microseconds a minute: whole numbers."""


class Tally:
    """Sums usage records within a period. Feed it with :meth:`add`, then read :meth:`lines` and :meth:`totals`."""

    def __init__(self, begin: int, end: int, by: Sequence[str], prices: Sequence[PriceRow]) -> None:
        self._begin, self._end = begin, end
        self._by_day, self._by_size = "day" in by, "size" in by
        self._prices = prices
        self._sums: dict[_Key, _Sum] = {}

    def add(self, record: UsageRow) -> None:
        """Count the part of a record that lies in the period."""
        start, stop = max(record.started_at, self._begin), min(record.ended_at, self._end)
        if stop <= start:
            return
        valid = [
            price
            for price in self._prices
            if price.kind == record.kind
            and price.size == record.size
            and price.valid_from <= record.started_at
            and (price.valid_until is None or record.started_at < price.valid_until)
        ]
        unread = record.bytes if start == record.started_at else 0
        for day, length in self._split(start, stop):
            size = record.size if self._by_size else None
            key = (record.account_id, record.kind, size, day if self._by_day else None)
            total = self._sums.setdefault(key, _Sum())
            total.microseconds += length
            total.intervals += 1
            # What a conversion read counts where it began.
            total.bytes += unread
            unread = 0
            if not valid:
                total.unpriced += length
            for price in valid:
                money = price.micros_per_minute * length
                total.money[price.currency] = total.money.get(price.currency, 0) + money

    def lines(self) -> list[UsageLine]:
        """One line a group, by day, account, kind and size."""

        def order(item: tuple[_Key, _Sum]) -> tuple[int, str, str, str]:
            account, kind, size, day = item[0]
            return (day or 0, account, kind, size or "")

        return [
            UsageLine(
                account_id=account,
                kind=kind,
                size=size or None,
                day=None if day is None else day_name(day),
                microseconds=total.microseconds,
                minutes=round(total.microseconds / MICROSECONDS_PER_MINUTE, 3),
                intervals=total.intervals,
                bytes=total.bytes if kind == CONVERSION else None,
                unpriced_microseconds=total.unpriced,
                amounts=_amounts(total.money),
            )
            for (account, kind, size, day), total in sorted(self._sums.items(), key=order)
        ]

    def totals(self) -> list[Amount]:
        """The money of all groups together, rounded once."""
        money: dict[str, int] = {}
        for total in self._sums.values():
            for currency, value in total.money.items():
                money[currency] = money.get(currency, 0) + value
        return _amounts(money)

    def _split(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The days of an interval and how much of it lies in each, in microseconds."""
        if not self._by_day:
            yield start // MICROSECONDS_PER_DAY, stop - start
            return
        while start < stop:
            day = start // MICROSECONDS_PER_DAY
            midnight = (day + 1) * MICROSECONDS_PER_DAY
            yield day, min(stop, midnight) - start
            start = midnight


def _amounts(money: dict[str, int]) -> list[Amount]:
    half = MICROSECONDS_PER_MINUTE // 2
    return [
        Amount(currency=currency, amount=format_millionths((value + half) // MICROSECONDS_PER_MINUTE))
        for currency, value in sorted(money.items())
    ]


class Metering:
    """Reports and price lists over one store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def report(self, account_id: str | None, begin: str | None, end: str | None, by: str | None) -> UsageReport:
        """Usage of an account, or of all for ``None``, in a period; the present month up to now without one.

        What still runs is not in it. Raises :class:`BadRequest` for values that cannot be read.
        """
        now = self._clock.now()
        last = now if end is None else parse_moment("to", end)
        first = month_of(last) if begin is None else parse_moment("from", begin)
        if first > last:
            raise BadRequest("The from value must not be later than the to value.")
        if last - first > MAX_PERIOD_DAYS * MICROSECONDS_PER_DAY:
            raise BadRequest(f"A report covers at most {MAX_PERIOD_DAYS} days. Ask for a shorter period.")
        grouping = parse_grouping(by)
        tally = Tally(first, last, grouping, await self._store.usage.prices())
        async for batch in self._store.usage.records(account_id, first, last):
            for record in batch:
                tally.add(record)
            await asyncio.sleep(0)
        return UsageReport(
            begin=format_utc_time(first),
            end=format_utc_time(last),
            by=list(grouping),
            usage=tally.lines(),
            totals=tally.totals(),
        )

    async def prices(self) -> list[Price]:
        """Every price that was ever valid."""
        return [_price(row) for row in await self._store.usage.prices()]

    async def add_price(self, new: NewPrice) -> Price:
        """Add a price. Raises :class:`BadRequest`, and :class:`Conflict` if it would change a total."""
        size = new.size
        if new.kind == CONVERSION:
            if size:
                raise BadRequest("A price for conversions has no size.")
        else:
            known = {known.value.lower(): known.value for known in SessionSize}
            if size.lower() not in known:
                raise BadRequest(f"The size value must be one of {', '.join(known.values())}.")
            size = known[size.lower()]
        try:
            row = await self._store.usage.add_price(
                kind=new.kind,
                size=size,
                currency=new.currency,
                micros_per_minute=parse_millionths(new.price_per_minute),
                valid_from=parse_moment("validFrom", new.valid_from),
            )
        except PriceRefused as refusal:
            raise Conflict(str(refusal)) from None
        return _price(row)


def _price(row: PriceRow) -> Price:
    return Price(
        id=row.id,
        kind=row.kind,
        size=row.size or None,
        currency=row.currency,
        price_per_minute=format_millionths(row.micros_per_minute),
        valid_from=format_utc_time(row.valid_from),
        valid_until=None if row.valid_until is None else format_utc_time(row.valid_until),
    )
