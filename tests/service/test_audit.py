"""The audit log: what gets in, that it cannot be changed or forged, and who may read it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from farframe.auth.masking import one_line
from farframe.auth.secrets import hash_account_key, new_operator_token
from farframe.auth.tokens import Role
from farframe.service.audit import MAX_STRANGERS_A_MINUTE
from farframe.service.logs import configure_logging
from farframe.store.audit import AuditEntry
from farframe.store.store import Store


@pytest.fixture
async def operator(world: Any) -> dict[str, str]:
    token = new_operator_token()
    await world.store.operators.set_token("here:/data", hash_account_key(token), 1)
    return {"Authorization": f"Bearer {token}"}


async def entries(world: Any) -> list[Any]:
    await world.service.audit.flush()
    rows = await world.store.audit.page(count=1000)
    return rows[::-1]


async def test_who_did_what(world: Any, operator: dict[str, str]) -> None:
    token = await world.http.get(
        f"/accounts/{world.account}/token", headers={"Authorization": f"Bearer {world.account}:{world.key}"}
    )
    world.headers = {"Authorization": f"Bearer {token.json()['AccessToken']}"}
    created = await world.create()
    await world.call("GET", "/s")
    session = await world.http.post(f"/accounts/{world.account}/sessions/s/token", headers=world.headers)
    device = {"Authorization": f"Bearer {session.json()['accessToken']}"}
    await world.call("PATCH", "/s", headers=device, json={"maxLeaseTimeMinutes": 60})
    await world.call("PATCH", "/s", headers=device, json={"maxLeaseTimeMinutes": 1})
    await world.call("POST", "/s/:stop", headers=world.bearer(role=Role.VIEWER))
    await world.call("POST", "/s/:stop")
    made = await world.http.post("/operator/accounts", headers=operator, json={"name": "acme"})
    rows = await entries(world)
    assert [(row.actor, row.role, row.action, row.outcome) for row in rows] == [
        ("key:1", "", "token.issue", "ok"),
        ("key:1", "Administrator", "session.create", "ok"),
        ("key:1", "Administrator", "session.token", "ok"),
        ("key:1 session:s", "Client", "session.extend", "ok"),
        ("key:1 session:s", "Client", "session.extend", "failed"),
        ("service", "Viewer", "session.stop", "refused"),
        ("key:1", "Administrator", "session.stop", "ok"),
        ("operator:here:/data", "Operator", "account.create", "ok"),
    ]
    assert rows[1].correlation == created.headers["ms-cv"]
    assert rows[1].target == f"/accounts/{world.account}/sessions/s"
    assert {row.address for row in rows} == {"127.0.0.1"}
    assert {row.account_id for row in rows[:-1]} == {world.account}
    assert rows[-1].account_id == made.json()["accountId"]


async def test_an_operator_s_deed_is_written_before_it_is_answered(world: Any, operator: dict[str, str]) -> None:
    await world.http.post("/operator/accounts", headers=operator, json={"name": "acme"})
    rows = await world.store.audit.page(count=10)
    assert [row.action for row in rows] == ["account.create"]


async def test_what_was_refused_is_there_too(world: Any) -> None:
    other = "00000000-0000-4000-8000-000000000000"
    await world.http.get(f"/accounts/{world.account}/token", headers={"Authorization": f"Bearer {world.account}:x"})
    await world.call("GET", "/s", headers={})
    await world.call("GET", "/s", headers=world.bearer(account=other))
    await world.http.get("/operator/accounts")
    await world.http.post("/viewer-links/redeem", json={"code": "ffl_wrong"})
    rows = await entries(world)
    assert [(row.actor, row.action, row.outcome) for row in rows] == [
        ("unknown", "token.issue", "refused"),
        ("unknown", "session.read", "refused"),
        ("service", "session.read", "refused"),
        ("unknown", "operator.read", "refused"),
        ("unknown", "link.redeem", "failed"),
    ]


async def test_no_secret_gets_in(world: Any, operator: dict[str, str]) -> None:
    pair = f"Bearer {world.account}:secret"
    await world.http.get(f"/accounts/{world.account}/token", headers={"Authorization": pair})
    await world.create()
    made = (await world.http.post("/operator/accounts", headers=operator, json={"name": "acme"})).json()
    everything = repr(await entries(world))
    for secret in ("secret", world.headers["Authorization"][7:], operator["Authorization"][7:], made["keys"][0]["key"]):
        assert secret not in everything


async def test_strangers_cannot_fill_the_log(world: Any) -> None:
    for _ in range(MAX_STRANGERS_A_MINUTE + 30):
        await world.call("GET", "/s", headers={})
    assert len(await entries(world)) == MAX_STRANGERS_A_MINUTE
    await world.create()
    assert (await entries(world))[-1].action == "session.create", "what callers with a right to it do is never left out"
    world.clock.advance(seconds=61)
    await world.call("GET", "/s", headers={})
    assert (await entries(world))[-1].outcome == "refused"


@pytest.mark.parametrize(
    "name", ["a%0Ab", "a%0D%0A2026 operator ok", "%1b%5b31m", "%e2%80%ae", "%e2%80%a8", "%ff%fe", "x" * 2000]
)
async def test_no_entry_looks_like_two(world: Any, name: str) -> None:
    await world.call("PUT", f"/{name}", json={"maxLeaseTimeMinutes": 1, "size": "Standard"})
    (row,) = await entries(world)
    assert (row.action, row.outcome) == ("session.create", "failed")
    assert row.target.isprintable()
    assert len(row.target) <= 512


@given(st.text())
def test_what_is_written_is_printable(value: str) -> None:
    assert one_line(value).isprintable()


async def test_rows_are_never_changed(database_source: Any) -> None:
    store = await Store.open(database_source)
    try:
        entry = AuditEntry(
            at=1, actor="a", role="", account_id=None, action="x", target=None, outcome="ok", correlation=None,
            address=None,
        )  # fmt: skip
        await store.audit.add([entry])
        for statement in ("UPDATE audit_log SET actor = 'b'", "DELETE FROM audit_log"):
            with pytest.raises(DBAPIError, match="never changed"):
                async with store._database.write() as connection:
                    await connection.execute(text(statement))
        assert [row.actor for row in await store.audit.page(count=10)] == ["a"]
    finally:
        await store.close()


async def test_operators_read_it_page_by_page(world: Any, operator: dict[str, str]) -> None:
    rows = [
        AuditEntry(
            at=1_750_000_000_000_000 + index * 1_000_000,
            actor="key:1",
            role="Client",
            account_id=world.account if index % 2 else None,
            action="session.stop" if index % 3 else "session.create",
            target=str(index),
            outcome="ok",
            correlation=None,
            address=None,
        )
        for index in range(450)
    ]
    await world.store.audit.add(rows)

    async def read(query: str) -> list[str]:
        url, targets = f"/operator/audit?{query}", []
        while url:
            body = (await world.http.get(url, headers=operator)).json()
            targets += [record["target"] for record in body["records"]]
            url = body.get("@nextLink")
        return targets

    assert await read("") == [str(index) for index in range(449, -1, -1)]
    assert await read(f"account={world.account.upper()}") == [str(index) for index in range(449, 0, -2)]
    assert await read("action=session.create") == [str(index) for index in range(447, -1, -3)]
    assert await read("from=2025-06-15T15:06:40Z&to=2025-06-15T15:06:43%2B00:00") == ["2", "1", "0"]
    for query in ("from=yesterday", "to=0", "account=x", "skiptoken=x", "from=9999-99-99"):
        assert (await world.http.get(f"/operator/audit?{query}", headers=operator)).status_code == 400


async def test_a_log_that_cannot_be_written_is_tried_again(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store, add = world.store.audit, world.store.audit.add
    failures = 1

    async def failing(batch: Any) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError("full")
        await add(batch)

    monkeypatch.setattr(store, "add", failing)
    assert (await world.create()).status_code == 201

    async def written() -> bool:
        return bool(await store.page(count=1))

    await world.until(written)


@pytest.mark.parametrize("style", ["console", "json"])
def test_no_log_line_looks_like_two(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    kept, level = logging.getLogger().handlers[:], logging.getLogger().level
    configure_logging("info", style)
    try:
        structlog.get_logger("farframe.service").info("x", sent="a\n2026 [error] forged\r\x1b[2J\u2028b")
    finally:
        logging.getLogger().handlers[:] = kept
        logging.getLogger().setLevel(level)
        structlog.reset_defaults()
    (line,) = capsys.readouterr().err.splitlines()
    assert "forged" in line
    assert "\x1b[2J" not in line
