"""What a service does with sessions that another one had: it has a capacity of its own."""

from __future__ import annotations

from typing import Any

from farframe.store.sessions import NewSession, Refusal, ServerColumns
from tests.service.conftest import WorldFactory

REFUSAL = Refusal(code="NoServerAvailable", message="none")


async def left_by_another(world: Any, name: str, *, ready: bool, size: str = "Standard") -> None:
    """A session of a service that is gone, with a server that can be adopted if it is ready."""
    now = world.clock.now()
    new = NewSession(
        key=name, account_id=world.account, id=name, size=size, lease_minutes=9, created_at=now, replica_id="dead"
    )
    await world.store.sessions.create(new, limit=100, refusal=REFUSAL)
    if ready:
        server = ServerColumns(
            server_id=name, pid=1, hostname="h", handshake_port=1, inspector_port=2, teraflops=1.0, link_path=name
        )
        assert await world.store.sessions.mark_ready(name, server, now, owner="dead")
        world.fleet.adoptable.add(name)
    world.clock.advance(seconds=0.001)


async def statuses(world: Any) -> dict[str, str]:
    return {row.id: row.status for name in "abcde" if (row := await world.store.sessions.get(world.account, name))}


async def test_sessions_that_wait_get_servers_within_the_limit_oldest_first(make_world: WorldFactory) -> None:
    async with make_world(servers={"standard": 2, "premium": 1}) as world:
        for name in "abc":
            await left_by_another(world, name, ready=False)
        await left_by_another(world, "d", ready=True)
        await left_by_another(world, "e", ready=False, size="Premium")
        await world.service.supervision.recover()
        assert await statuses(world) == {"a": "Ready", "b": "Error", "c": "Error", "d": "Ready", "e": "Ready"}
        assert [assignment.session_key for assignment in world.fleet.assigned] == ["a", "e"]
        error = (await world.show("b"))["error"]
        assert error["code"] == "NoServerAvailable"
        assert "All 2 Standard render servers are in use" in error["message"]


async def test_servers_that_live_are_kept_beyond_the_limit_and_nothing_is_created_until_they_end(
    make_world: WorldFactory,
) -> None:
    async with make_world(servers={"standard": 1, "premium": 1}) as world:
        for name in "ab":
            await left_by_another(world, name, ready=True)
        await world.service.supervision.recover()
        assert await statuses(world) == {"a": "Ready", "b": "Ready"}
        for name, stopped in (("x", "a"), ("y", "b")):
            assert (await world.create(name)).status_code == 201
            assert (await world.show(name))["error"]["code"] == "NoServerAvailable"
            assert (await world.call("POST", f"/{stopped}/:stop")).status_code == 204
        await world.create("z")
        assert (await world.show("z"))["status"] == "Ready"
        records = [row async for batch in world.store.usage.records(None, 0, 2**62) for row in batch]
        assert sorted(row.source_key for row in records) == ["a", "b"]
