"""Metering: the books balance whatever happens, reports add up, prices never change a total."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from farframe.auth.certificates import CertificateFiles
from farframe.auth.secrets import hash_account_key, new_operator_token
from farframe.auth.tokens import Role, SigningKey
from farframe.cli._operations import csv_of
from farframe.client.errors import ConflictError
from farframe.client.operators import OperatorClient, OperatorInfo
from farframe.fleet.fake import FakeFleet
from farframe.service.app import Service
from farframe.service.clock import ManualClock
from farframe.service.config import ServiceConfig
from farframe.service.metering import Metering, Tally
from farframe.store.store import Store
from farframe.store.usage import SESSION, PriceRow, UsageRow
from farframe.wire.errors import BadRequest, Conflict, WireError
from farframe.wire.sessions import SessionSettings, SessionSize
from farframe.wire.usage import MICROSECONDS_PER_DAY, NewPrice

ACCOUNT = "00000000-0000-4000-8000-000000000001"
MINUTE = 60_000_000
EVER = (0, 10**16)

Action = tuple[Any, ...]
NUMBERS = st.integers(0, 5)
ACTIONS = st.one_of(
    st.tuples(st.just("create"), st.sampled_from(["warm", "cold", "raise"]), st.sampled_from(SessionSize),
              st.integers(0, 12)),
    st.tuples(st.just("come up"), NUMBERS),
    st.tuples(st.just("die"), NUMBERS),
    st.tuples(st.just("stop"), NUMBERS),
    st.tuples(st.just("extend"), NUMBERS, st.integers(1, 30)),
    st.tuples(st.just("pass"), st.integers(1, 8 * MINUTE)),
    st.tuples(st.just("look"), NUMBERS),
    st.tuples(st.just("crash"), st.integers(0, 20 * MINUTE)),
    st.tuples(st.just("end"), st.integers(0, 5 * MINUTE)),
)  # fmt: skip


@dataclass
class Life:
    """What the test itself saw of a session."""

    key: str
    size: str
    lease: int
    ready: int | None = None
    end: int | None = None


class Books:
    """Drives a service without listeners, and keeps books of its own beside it."""

    def __init__(self, folder: Path, key: SigningKey, ca: Path) -> None:
        self.config = ServiceConfig(data_dir=str(folder), servers={"standard": 4, "premium": 4})
        self.key, self.ca = key, ca
        self.clock = ManualClock()
        self.lives: dict[str, Life] = {}

    async def start(self) -> None:
        self.store = await Store.open(self.config.data_path / "farframe.db")
        self.fleet = FakeFleet()
        self.service = Service(
            self.config, self.fleet, self.store, signing_keys=[self.key], ca_file=self.ca, clock=self.clock
        )
        await self.service.start()

    async def crash(self) -> None:
        """Nothing is told to anybody; every server is gone."""
        await self.service.scheduler.stop()
        await self.service.sessions.settle()
        await self.store.close()

    async def end(self) -> None:
        await self.service.stop()
        await self.store.close()

    def life(self, number: int) -> Life | None:
        living = [life for life in self.lives.values() if life.end is None]
        return living[number % len(living)] if living else None

    async def act(self, action: Action) -> None:
        engine = self.service.sessions
        match action:
            case ("create", outcome, size, lease):
                self.fleet.script = deque([outcome])
                name = f"s{len(self.lives)}"
                await engine.create(ACCOUNT, name, SessionSettings(lease_minutes=lease, size=size))
                row = await self.store.sessions.get(ACCOUNT, name)
                assert row is not None
                self.lives[name] = Life(row.key, size.value, lease)
            case ("come up", number) if life := self.life(number):
                if self.fleet.facts(life.key) is None:
                    await self.fleet.make_ready(life.key)
            case ("die", number) if life := self.life(number):
                await self.fleet.lose(life.key)
            case ("stop", number) if life := self.life(number):
                await engine.stop(ACCOUNT, self.name(life))
            case ("extend", number, lease) if life := self.life(number):
                try:
                    await engine.extend(ACCOUNT, self.name(life), lease)
                except WireError:
                    pass
                else:
                    life.lease = lease
            case ("look", number) if life := self.life(number):
                await engine.get(ACCOUNT, self.name(life))
            case ("pass", microseconds):
                self.clock.advance(seconds=microseconds / 1_000_000)
            case ("crash", down):
                await self.crash()
                self.clock.advance(seconds=down / 1_000_000)
                await self.start()
            case ("end", down):
                await self.end()
                # Ended before the time passes: what the service did at its end it did then.
                self.store = await Store.open(self.config.data_path / "farframe.db")
                await self.look()
                await self.store.close()
                self.clock.advance(seconds=down / 1_000_000)
                await self.start()
        await self.look()

    def name(self, life: Life) -> str:
        return next(name for name, other in self.lives.items() if other is life)

    async def look(self) -> None:
        """What every session's status is now."""
        for name, life in self.lives.items():
            row = await self.store.sessions.get(ACCOUNT, name)
            assert row is not None
            now = self.clock.now()
            if row.status == "Ready" and life.ready is None:
                life.ready = now
            if row.status not in ("Starting", "Ready") and life.end is None:
                life.end = now
                if life.ready is not None:
                    life.end = min(now, life.ready + life.lease * MINUTE)

    async def records(self) -> list[UsageRow]:
        return [row async for batch in self.store.usage.records(None, *EVER) for row in batch]


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    async def make(file: Path) -> None:
        store = await Store.open(file)
        await store.accounts.create(ACCOUNT, "a", 1)
        await store.close()

    file = tmp_path_factory.mktemp("empty") / "farframe.db"
    asyncio.run(make(file))
    return file


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(ACTIONS, min_size=4, max_size=25))
def test_every_microsecond_in_ready_is_billed_once(
    actions: list[Action], empty_store: Path, tmp_path: Path, signing_key: SigningKey, certificates: CertificateFiles
) -> None:
    folder = tmp_path / "books"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(empty_store, folder / "farframe.db")

    async def run() -> None:
        books = Books(folder, signing_key, certificates.ca)
        await books.start()
        try:
            for action in actions:
                await books.act(action)
        finally:
            await books.end()
        books.store = await Store.open(folder / "farframe.db")
        try:
            await books.look()
            records = await books.records()
            assert all(record.ended_at >= record.started_at for record in records)
        finally:
            await books.store.close()
        expected = {
            (life.key, life.size, life.ready, life.end)
            for life in books.lives.values()
            # An interval of no length is recorded or not; nobody pays for it.
            if life.ready is not None and life.end != life.ready
        }
        got = [(r.source_key, r.size, r.started_at, r.ended_at) for r in records if r.ended_at != r.started_at]
        assert len(got) == len(set(got))
        assert set(got) == expected

    asyncio.run(run())


async def test_an_end_whose_record_cannot_be_written_did_not_take_place(world: Any) -> None:
    await world.create()
    world.clock.advance(minutes=3)

    async def change(statement: str) -> None:
        async with world.store._database.write() as connection:
            await connection.execute(text(statement))

    await change(
        "CREATE TRIGGER full BEFORE INSERT ON usage_records BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
    )
    assert (await world.call("POST", "/s/:stop")).status_code == 500
    assert (await world.show())["status"] == "Ready"
    await change("DROP TRIGGER full")
    assert (await world.call("POST", "/s/:stop")).status_code == 204
    records = [row async for batch in world.store.usage.records(None, *EVER) for row in batch]
    assert [row.ended_at - row.started_at for row in records] == [3 * MINUTE]


async def test_the_database_refuses_to_change_records(world: Any) -> None:
    await world.create()
    world.clock.advance(minutes=3)
    await world.call("POST", "/s/:stop")
    for change in ("UPDATE usage_records SET ended_at = ended_at + 1", "DELETE FROM usage_records"):
        with pytest.raises(Exception, match="never changed"):
            async with world.store._database.write() as connection:
                await connection.execute(text(change))


async def usage(world: Any, query: str = "", **headers: Any) -> Any:
    path = f"/accounts/{world.account}/usage"
    response = await world.http.get(f"{path}?{query}", headers=headers.get("headers", world.headers))
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_report(world: Any) -> None:
    await world.create("a")
    await world.create("b", size="Premium")
    world.clock.advance(minutes=2, seconds=30)
    await world.call("POST", "/a/:stop")
    world.clock.advance(minutes=1)
    report = await usage(world)
    (line,) = report["usage"]
    assert line["microseconds"] == 150_000_000
    assert line["minutes"] == 2.5
    assert (line["kind"], line["size"], line["intervals"]) == ("session", "Standard", 1)
    assert line["amounts"] == []
    assert line["unpricedMicroseconds"] == 150_000_000
    assert line["day"] == report["to"][:10]
    await world.call("POST", "/b/:stop")
    world.clock.advance(minutes=1)
    assert [line["size"] for line in (await usage(world, "by=size"))["usage"]] == ["Premium", "Standard"]
    assert ["size" in line or "day" in line for line in (await usage(world, "by="))["usage"]] == [False]


async def test_who_may_read_a_report(world: Any) -> None:
    path = f"/accounts/{world.account}/usage"
    assert (await world.http.get(path)).status_code == 401
    assert (await world.http.get(path, headers=world.bearer(role=Role.CLIENT))).status_code == 403
    other = world.bearer(account="00000000-0000-4000-8000-00000000ffff")
    assert (await world.http.get(path, headers=other)).status_code in (401, 403)


@pytest.mark.parametrize(
    "query",
    [
        "from=yesterday",
        "to=2026-13-01",
        "from=2026-01-01T00:00:00",
        "from=2026-02-01&to=2026-01-01",
        "by=month",
        "from=2020-01-01&to=2026-01-01",
        "from=0001-01-01",
    ],
)
async def test_periods_that_make_no_sense(world: Any, query: str) -> None:
    response = await world.http.get(f"/accounts/{world.account}/usage?{query}", headers=world.headers)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "BadRequest"


def record(start: int, end: int, size: str = "Standard") -> UsageRow:
    key = f"{start}-{end}-{size}"
    return UsageRow(
        key=key, kind=SESSION, source_key=key, account_id=ACCOUNT, size=size, region="r", started_at=start,
        ended_at=end, bytes=0,
    )  # fmt: skip


RECORDS = st.lists(
    st.tuples(st.integers(0, 3 * MICROSECONDS_PER_DAY), st.integers(0, 2 * MICROSECONDS_PER_DAY)).map(
        lambda pair: record(pair[0], pair[0] + pair[1])
    ),
    max_size=12,
)


@given(
    records=RECORDS, cuts=st.lists(st.integers(0, 6 * MICROSECONDS_PER_DAY), max_size=4), price=st.integers(0, 10**7)
)
def test_periods_and_days_add_up(records: list[UsageRow], cuts: list[int], price: int) -> None:
    prices = [
        PriceRow(id="1", kind=SESSION, size="Standard", currency="EUR", micros_per_minute=price, valid_from=0,
                 valid_until=MICROSECONDS_PER_DAY),
        PriceRow(id="2", kind=SESSION, size="Standard", currency="EUR", micros_per_minute=2 * price,
                 valid_from=MICROSECONDS_PER_DAY, valid_until=None),
    ]  # fmt: skip
    edges = sorted({0, *cuts, 6 * MICROSECONDS_PER_DAY})
    used = 0
    for begin, end in itertools.pairwise(edges):
        tally = Tally(begin, end, ("day",), prices)
        for row in records:
            tally.add(row)
        used += sum(line.microseconds for line in tally.lines())
    assert used == sum(row.ended_at - row.started_at for row in records)

    whole = Tally(edges[0], edges[-1], (), prices)
    by_day = Tally(edges[0], edges[-1], ("day", "size"), prices)
    for row in records:
        whole.add(row)
        by_day.add(row)
    assert whole.totals() == by_day.totals()
    exact = sum(
        Fraction(row.ended_at - row.started_at, MINUTE)
        * (price if row.started_at < MICROSECONDS_PER_DAY else 2 * price)
        for row in records
    )
    for total in whole.totals():
        assert abs(Fraction(total.amount) * 1_000_000 - exact) <= Fraction(1, 2)


async def price(metering: Metering, amount: str, begin: str) -> None:
    await metering.add_price(
        NewPrice(kind="session", size="standard", currency="EUR", price_per_minute=amount, valid_from=begin)
    )


async def test_totals_never_change_when_a_price_list_does(world: Any) -> None:
    metering = world.service.metering
    await price(metering, "0.5", "2020-01-01")
    await world.create("a")
    world.clock.advance(minutes=4)
    await world.call("POST", "/a/:stop")
    world.clock.advance(minutes=1)
    before = (await usage(world))["totals"]
    assert before == [{"currency": "EUR", "amount": "2.000000"}]
    for begin in ("2020-01-01", "2019-01-01", "2021-06-01"):
        with pytest.raises(Conflict):
            await price(metering, "9", begin)
    now = (await usage(world))["to"]
    await price(metering, "1", now)
    assert (await usage(world))["totals"] == before
    await world.create("b")
    world.clock.advance(minutes=4)
    await world.call("POST", "/b/:stop")
    world.clock.advance(minutes=1)
    assert (await usage(world))["totals"] == [{"currency": "EUR", "amount": "6.000000"}]
    listed = await metering.prices()
    assert [(entry.price_per_minute, entry.valid_until) for entry in listed] == [("0.500000", now), ("1.000000", None)]


@pytest.mark.parametrize(("kind", "size"), [("session", "Huge"), ("session", ""), ("conversion", "Standard")])
async def test_prices_for_what_does_not_exist(world: Any, kind: str, size: str) -> None:
    with pytest.raises(BadRequest):
        await world.service.metering.add_price(
            NewPrice(kind=kind, size=size, currency="EUR", price_per_minute="1", valid_from="2030-01-01")
        )


async def test_the_records_outlive_the_session(world: Any) -> None:
    await world.create()
    world.clock.advance(minutes=2)
    await world.call("POST", "/s/:stop")
    assert await world.store.sessions.forget_ended(world.clock.now() + 1) == 1
    world.clock.advance(minutes=1)
    assert (await usage(world))["usage"][0]["minutes"] == 2
    now = world.clock.now()
    assert await world.store.usage.session_microseconds(world.account, 0, now, now) == 2 * MINUTE
    await world.create("t")
    world.clock.advance(minutes=1)
    now = world.clock.now()
    assert await world.store.usage.session_microseconds(world.account, 0, now, now) == 3 * MINUTE


async def test_operators_see_all_accounts_and_set_prices(world: Any, tmp_path: Path) -> None:
    token = new_operator_token()
    await world.store.operators.set_token("test", hash_account_key(token), 1)
    info = OperatorInfo(world.endpoint, token, world.ca)
    for path in ("/operator/usage", "/operator/prices"):
        assert (await world.http.get(path)).status_code == 401
        assert (await world.http.get(path, headers=world.headers)).status_code == 401
    async with OperatorClient(info) as operator:
        added = await operator.add_price(
            NewPrice(kind="session", size="standard", currency="EUR", price_per_minute="0.25", valid_from="2020-01-01")
        )
        assert (added.size, added.price_per_minute) == ("Standard", "0.250000")
        await world.create()
        world.clock.advance(minutes=2)
        await world.call("POST", "/s/:stop")
        world.clock.advance(minutes=1)
        report = await operator.usage()
        assert [(line.account_id, line.minutes) for line in report.usage] == [(world.account, 2)]
        assert [total.amount for total in report.totals] == ["0.500000"]
        with pytest.raises(ConflictError, match="total must not change"):
            await operator.add_price(
                NewPrice(kind="session", size="Standard", currency="USD", price_per_minute="1", valid_from="2020-01-01")
            )
        assert [price.currency for price in await operator.prices()] == ["EUR"]
    text = csv_of(report)
    assert text.splitlines()[1].endswith(",2.000,,EUR,0.500000")
    for body in (b"", b"{}", b'{"kind":"session","currency":"eur","pricePerMinute":"1","validFrom":"2030-01-01"}'):
        headers = {"Authorization": f"Bearer {token}"}
        assert (await world.http.post("/operator/prices", content=body, headers=headers)).status_code == 400
