"""``farframe config check`` and ``farframe usage``."""

from __future__ import annotations

import csv
import io
import os
import sys
from pathlib import Path

from farframe.cli._context import CommandError, context, emit, run_async, table
from farframe.client.operators import OperatorClient, OperatorInfo
from farframe.client.regions import RegionLatency, best
from farframe.paths import DATA_VARIABLE
from farframe.wire.usage import NewPrice, Price, UsageReport

CHECKER = "farframe.service.check_config"
ARCHIVER = "farframe.service.archive"


def check_config(file: Path | None) -> None:
    """Become the service's own check. Does not return."""
    if file is not None and not file.is_file():
        raise CommandError(f"There is no file {file}. Name a TOML file, or none to check the environment.")
    sys.stdout.flush()
    sys.stderr.flush()
    words = [] if file is None else [str(file)]
    os.execve(sys.executable, [sys.executable, "-m", CHECKER, *words], os.environ)  # noqa: S606


def archive(direction: str, file: Path, data: Path | None, config: Path | None) -> None:
    """Become the service's own archiver. Does not return."""
    if config is not None and not config.is_file():
        raise CommandError(f"There is no config file {config}. Name a TOML file with --config.")
    environment = dict(os.environ)
    if data is not None:
        environment[DATA_VARIABLE] = str(data.expanduser().resolve())
    if config is not None:
        environment["FARFRAME_CONFIG"] = str(config.resolve())
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, "-m", ARCHIVER, direction, str(file)], environment)  # noqa: S606


def latency() -> None:
    """Measure all regions and name the nearest."""

    async def work() -> list[RegionLatency]:
        async with context.client() as client:
            return await client.latency()

    measured = run_async(work())
    nearest = best(measured)
    rows = [["REGION", "ROUND TRIP", "THROUGHPUT", ""]]
    for region in measured:
        if region.round_trip is None:
            rows.append([region.name, "-", "-", region.error])
            continue
        speed = "-" if region.throughput is None else f"{region.throughput / 1e6:.0f} Mbit/s"
        rows.append([region.name, f"{region.round_trip * 1000:.1f} ms", speed, "best" if region is nearest else ""])
    emit(
        [
            {
                "region": region.name,
                "endpoint": region.endpoint,
                "roundTripSeconds": region.round_trip,
                "bitsPerSecond": region.throughput,
                "error": region.error or None,
                "best": region is nearest,
            }
            for region in measured
        ],
        table(rows),
    )
    if nearest is None:
        raise CommandError("No region answers. Check the network, then try again.")


def _operator() -> OperatorClient:
    return OperatorClient(OperatorInfo.find(context.connection))


def prices() -> None:
    """Print the price lists."""

    async def work() -> list[Price]:
        async with _operator() as client:
            return await client.prices()

    _print_prices(run_async(work()))


def add_price(kind: str, per_minute: str, currency: str, *, begin: str, size: str | None) -> None:
    """Add a price and print it."""
    new = NewPrice(kind=kind, size=size or "", currency=currency.upper(), price_per_minute=per_minute, valid_from=begin)

    async def work() -> Price:
        async with _operator() as client:
            return await client.add_price(new)

    _print_prices([run_async(work())])


def _print_prices(listed: list[Price]) -> None:
    rows = [["KIND", "SIZE", "A MINUTE", "CURRENCY", "FROM", "UNTIL"]]
    rows += [
        [
            price.kind,
            price.size or "-",
            price.price_per_minute,
            price.currency,
            price.valid_from,
            price.valid_until or "-",
        ]
        for price in listed
    ]
    emit(
        [
            {
                "kind": price.kind,
                "size": price.size,
                "pricePerMinute": price.price_per_minute,
                "currency": price.currency,
                "validFrom": price.valid_from,
                "validUntil": price.valid_until,
            }
            for price in listed
        ],
        table(rows) if listed else "No prices. `farframe prices add` adds one.",
    )


def usage(begin: str | None, end: str | None, by: str, *, as_csv: bool, all_accounts: bool) -> None:
    """Print what the account, or with an operator's rights all accounts used."""

    async def work() -> UsageReport:
        if all_accounts:
            async with _operator() as operator:
                return await operator.usage(begin, end, by)
        async with context.client() as client:
            return await client.usage(begin, end, by)

    print_report(run_async(work()), as_csv=as_csv)


def print_report(report: UsageReport, *, as_csv: bool) -> None:
    """Print a report: CSV, or a table for people, or JSON where that was asked for."""
    if as_csv:
        print(csv_of(report), end="", flush=True)
        return
    rows = [["DAY", "ACCOUNT", "KIND", "SIZE", "INTERVALS", "MINUTES", "AMOUNT"]]
    for line in report.usage:
        amounts = ", ".join(f"{amount.amount} {amount.currency}" for amount in line.amounts)
        rows.append(
            [
                line.day or "-",
                line.account_id,
                line.kind,
                line.size or "-",
                str(line.intervals),
                f"{line.minutes:.3f}",
                amounts or "-",
            ]
        )
    totals = ", ".join(f"{amount.amount} {amount.currency}" for amount in report.totals)
    text = f"{report.begin} to {report.end}\n" + (table(rows) if report.usage else "Nothing was used.")
    if totals:
        text += f"\nTotal {totals}"
    emit(
        {
            "from": report.begin,
            "to": report.end,
            "usage": [
                {
                    "day": line.day,
                    "accountId": line.account_id,
                    "kind": line.kind,
                    "size": line.size,
                    "intervals": line.intervals,
                    "microseconds": line.microseconds,
                    "bytes": line.bytes,
                    "amounts": [{"currency": amount.currency, "amount": amount.amount} for amount in line.amounts],
                }
                for line in report.usage
            ],
            "totals": [{"currency": amount.currency, "amount": amount.amount} for amount in report.totals],
        },
        text,
    )


def csv_of(report: UsageReport) -> str:
    """A report as CSV: one row a line and currency. Durations in microseconds, so that sums stay exact."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["day", "account_id", "kind", "size", "intervals", "microseconds", "minutes", "bytes", "currency", "amount"]
    )
    for line in report.usage:
        facts = [line.day or "", line.account_id, line.kind, line.size or "", line.intervals, line.microseconds]
        for money in [[amount.currency, amount.amount] for amount in line.amounts] or [["", ""]]:
            writer.writerow([*facts, f"{line.minutes:.3f}", "" if line.bytes is None else line.bytes, *money])
    return out.getvalue()
