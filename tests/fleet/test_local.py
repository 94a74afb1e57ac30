"""The local fleet against real processes: warm starts, deaths of every kind, and nothing left running."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from farframe.fleet import local
from farframe.fleet.base import Assignment, ServerFacts
from farframe.fleet.local import LocalFleet, LocalFleetConfig
from farframe.protocol.link import Assign, NewTokenRules, TokenRules, ToServer

FAKE = Path(__file__).with_name("fake_server.py")


class Listener:
    def __init__(self) -> None:
        self.ready: asyncio.Queue[tuple[str, ServerFacts]] = asyncio.Queue()
        self.lost: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue()

    async def server_ready(self, session_key: str, facts: ServerFacts) -> None:
        self.ready.put_nowait((session_key, facts))

    async def server_lost(self, session_key: str, code: str, message: str) -> None:
        self.lost.put_nowait((session_key, code, message))


def assignment(key: str = "key-1", session: str = "session-1") -> Assignment:
    return Assignment(key, session, "account", "Standard", "")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(
    folder: Path, behaviour: str = "good", **changes: object
) -> AsyncIterator[tuple[LocalFleet, Listener]]:
    config = LocalFleetConfig(
        data_dir=folder,
        certificate_file=folder / "cert.pem",
        key_file=folder / "key.pem",
        token_keys="{}",
        token_issuer="test",
        replenish_delay_seconds=0.0,
        command=(sys.executable, str(FAKE), behaviour),
    )
    fleet, listener = LocalFleet(replace(config, **changes)), Listener()  # type: ignore[arg-type]
    present = set((folder / "run").glob("*.sock"))
    await fleet.start(listener)
    try:
        yield fleet, listener
    finally:
        pids = fleet.process_ids()
        await fleet.stop()
        assert not [pid for pid in pids if alive(pid)], "the fleet left processes running"
        assert set((folder / "run").glob("*.sock")) <= present, "the fleet left sockets of its own"


async def test_a_warm_server_is_there_at_once_and_replaced(tmp_path: Path) -> None:
    async with running(tmp_path) as (fleet, listener):
        await until(lambda: fleet.warm_count == 1)
        facts = await fleet.assign(assignment())
        assert facts is not None
        assert facts.handshake_port == 50001
        assert facts.relay_url == "https://127.0.0.1:50001"
        assert fleet.facts("key-1") == facts
        await until(lambda: fleet.warm_count == 1)
        assert listener.ready.empty(), "the facts were returned, so nobody needs to be told again"


async def test_without_a_warm_server_the_listener_hears_later(tmp_path: Path) -> None:
    async with running(tmp_path, warm_servers=0) as (fleet, listener):
        assert await fleet.assign(assignment()) is None
        key, facts = await asyncio.wait_for(listener.ready.get(), 60)
        assert key == "key-1"
        assert fleet.facts("key-1") == facts


async def test_release_ends_the_process(tmp_path: Path) -> None:
    async with running(tmp_path) as (fleet, listener):
        await until(lambda: fleet.warm_count == 1)
        facts = await fleet.assign(assignment())
        assert facts is not None
        await fleet.release("key-1", "SessionStopped")
        await until(lambda: not alive(facts.pid))
        assert fleet.facts("key-1") is None
        assert listener.lost.empty(), "a release is no loss"
        await fleet.release("key-1", "SessionStopped")


@pytest.mark.slow
async def test_a_stubborn_server_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "EXIT_GRACE_SECONDS", 0.5)
    async with running(tmp_path, "stubborn") as (fleet, _):
        await until(lambda: fleet.warm_count == 1)
        facts = await fleet.assign(assignment())
        assert facts is not None
        await fleet.release("key-1", "SessionExpired")
        await until(lambda: not alive(facts.pid))


async def test_a_killed_server_is_reported_and_its_children_end(tmp_path: Path) -> None:
    async with running(tmp_path, "child") as (fleet, listener):
        await until(lambda: fleet.warm_count == 1)
        facts = await fleet.assign(assignment())
        assert facts is not None
        children = Path(f"/proc/{facts.pid}/task/{facts.pid}/children").read_text().split()
        assert children
        work = Path(facts.link_path).with_suffix(".work")
        (work / "download").write_bytes(b"half a model")
        os.kill(facts.pid, signal.SIGKILL)
        key, code, message = await asyncio.wait_for(listener.lost.get(), 60)
        assert (key, code) == ("key-1", "ServerDied")
        assert "signal 9" in message
        await until(lambda: not any(alive(int(child)) for child in children))
        await until(lambda: not work.exists())


async def test_a_server_that_dies_of_its_session_is_reported(tmp_path: Path) -> None:
    async with running(tmp_path, warm_servers=0) as (fleet, listener):
        await fleet.assign(assignment(session="dies"))
        key, code, _ = await asyncio.wait_for(listener.lost.get(), 60)
        assert (key, code) == ("key-1", "ServerDied")


@pytest.mark.parametrize(
    ("behaviour", "code"), [("crash-at-start", "ServerStartFailed"), ("fail-at-start", "NoPortAvailable")]
)
async def test_a_server_that_cannot_start_is_reported(tmp_path: Path, behaviour: str, code: str) -> None:
    async with running(tmp_path, behaviour, warm_servers=0) as (fleet, listener):
        await fleet.assign(assignment())
        lost = await asyncio.wait_for(listener.lost.get(), 60)
        assert lost[:2] == ("key-1", code)
        assert lost[2]


async def test_a_missing_program_is_reported(tmp_path: Path) -> None:
    async with running(tmp_path, warm_servers=0, command=(str(tmp_path / "nothing"),)) as (fleet, listener):
        await fleet.assign(assignment())
        _, code, _ = await asyncio.wait_for(listener.lost.get(), 60)
        assert code == "ServerStartFailed"


async def test_a_server_that_never_gets_ready_is_given_up(tmp_path: Path) -> None:
    async with running(tmp_path, "never-ready", warm_servers=0, start_timeout_seconds=1.0) as (fleet, listener):
        await fleet.assign(assignment())
        _, code, message = await asyncio.wait_for(listener.lost.get(), 60)
        assert code == "ServerStartFailed"
        assert "not ready within" in message


@pytest.mark.slow
async def test_a_silent_server_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "HEARTBEAT_TIMEOUT_SECONDS", 1.0)
    async with running(tmp_path, "silent") as (fleet, listener):
        await until(lambda: fleet.warm_count == 1)
        await fleet.assign(assignment())
        _, code, _ = await asyncio.wait_for(listener.lost.get(), 60)
        assert code == "ServerUnresponsive"


async def test_a_session_stopped_while_starting_gets_no_server(tmp_path: Path) -> None:
    async with running(tmp_path, warm_servers=0) as (fleet, listener):
        await fleet.assign(assignment())
        await fleet.release("key-1", "SessionStopped")
        await fleet.assign(assignment("key-2", "session-2"))
        key, _ = await asyncio.wait_for(listener.ready.get(), 60)
        assert key == "key-2"
        assert fleet.facts("key-1") is None


async def test_failing_warm_starts_back_off(tmp_path: Path) -> None:
    began = asyncio.get_running_loop().time()
    async with running(tmp_path, "crash-at-start") as (fleet, _):
        await until(lambda: fleet._failed_starts >= 2)
        # By the beginning, not by now: whoever looks may come late.
        assert fleet._replenish_at - began >= 1.0 + 2.0


async def test_a_long_data_folder_gets_short_sockets(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    async with running(folder) as (fleet, _):
        await until(lambda: fleet.warm_count == 1)


def crash(fleet: LocalFleet) -> dict[str, str]:
    """Drop a fleet as kill -9 drops it: its links close and nothing is said. Returns the link path of each session."""
    assert fleet._watcher is not None
    fleet._watcher.cancel()  # or it would start the next warm server, whose socket would be found as left behind
    paths = {}
    for key in fleet.session_keys():
        facts = fleet.facts(key)
        assert facts is not None
        paths[key] = facts.link_path
    for server in list(fleet._servers.values()):
        fleet._leave(server)
    return paths


async def test_a_living_server_is_adopted_with_its_session(tmp_path: Path) -> None:
    async with running(tmp_path, warm_servers=0) as (first, listener):
        await first.assign(assignment())
        key, facts = await asyncio.wait_for(listener.ready.get(), 60)
        paths = crash(first)
        async with running(tmp_path, warm_servers=0) as (second, second_listener):
            assert second.can_reach(paths[key])
            adopted = await second.adopt(assignment(), paths[key])
            await second.clear_left_behind(())
            assert adopted == facts
            assert second.facts(key) == facts
            assert second.session_keys() == [key]
            os.kill(facts.pid, signal.SIGKILL)
            assert (await asyncio.wait_for(second_listener.lost.get(), 60))[:2] == (key, "ServerDied")
            assert await second.adopt(assignment(), paths[key]) is None, "it is gone"
        assert listener.lost.empty()


async def test_a_server_is_not_adopted_for_a_session_that_it_does_not_serve(tmp_path: Path) -> None:
    async with running(tmp_path, warm_servers=0) as (first, listener):
        await first.assign(assignment())
        key, facts = await asyncio.wait_for(listener.ready.get(), 60)
        paths = crash(first)
        async with running(tmp_path, warm_servers=0) as (second, _):
            assert await second.adopt(assignment("key-2"), paths[key]) is None
            assert alive(facts.pid)
            await second.clear_left_behind(())
            await until(lambda: not alive(facts.pid))


async def test_servers_that_nobody_adopts_are_ended_in_any_state(tmp_path: Path) -> None:
    for behaviour in ("good", "never-ready", "stubborn"):
        async with running(tmp_path, behaviour) as (first, _):
            await until(lambda fleet=first: bool(fleet.process_ids()))  # type: ignore[misc]
            pids = first.process_ids()
            crash(first)
            async with running(tmp_path, warm_servers=0) as (second, _):
                await second.clear_left_behind(())
                assert not [pid for pid in pids if alive(pid)]


async def test_a_server_that_belongs_to_another_service_is_kept(tmp_path: Path) -> None:
    async with running(tmp_path, warm_servers=0) as (first, listener):
        await first.assign(assignment())
        key, facts = await asyncio.wait_for(listener.ready.get(), 60)
        async with running(tmp_path / "other", warm_servers=0) as (second, _):
            assert await second.adopt(assignment(), facts.link_path) is not None
            await until(lambda: first.session_keys() == [])
            assert listener.lost.empty(), "it was taken over, not lost"
            async with running(tmp_path, warm_servers=0) as (third, _):
                await third.clear_left_behind({facts.link_path})
                assert alive(facts.pid)
                assert second.facts(key) is not None
        await until(lambda: not alive(facts.pid))


async def test_servers_of_sessions_can_outlive_their_service(tmp_path: Path) -> None:
    async with running(tmp_path) as (fleet, _):
        await until(lambda: fleet.warm_count == 1)
        facts = await fleet.assign(assignment())
        assert facts is not None
        await until(lambda: len(fleet.process_ids()) == 2)
        (spare,) = set(fleet.process_ids()) - {facts.pid}
        await fleet.stop(keep_sessions=True)
        assert alive(facts.pid)
        assert not alive(spare)
        async with running(tmp_path, warm_servers=0) as (second, _):
            assert await second.adopt(assignment(), facts.link_path) == facts


async def test_a_server_that_nobody_takes_over_ends_itself(tmp_path: Path) -> None:
    async with running(tmp_path, orphan_timeout_seconds=0.1) as (fleet, _):
        await until(lambda: fleet.warm_count == 1)
        facts = await fleet.assign(assignment())
        assert facts is not None
        await fleet.stop(keep_sessions=True)
        await until(lambda: not alive(facts.pid))
        Path(facts.link_path).unlink()


async def test_servers_are_told_once_which_tokens_are_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[object] = []
    send = local._Server.send

    def recorded(self: local._Server, message: ToServer) -> None:
        sent.append(message)
        send(self, message)

    monkeypatch.setattr(local._Server, "send", recorded)
    first, second = TokenRules(key_generations={1: 1}), TokenRules(key_generations={1: 2})
    async with running(tmp_path) as (fleet, _):
        await until(lambda: fleet.warm_count == 1)
        await fleet.assign(replace(assignment(), token_rules=first))
        assert fleet.account_ids() == {"account"}
        fleet.set_token_rules("account", first)
        fleet.set_token_rules("another", second)
        fleet.set_token_rules("account", second)
        fleet.set_token_rules("account", second)
    rules = [getattr(message, "token_rules", None) for message in sent if isinstance(message, Assign | NewTokenRules)]
    assert rules == [first, second]


async def test_a_server_that_is_not_warm_yet_starts_with_the_newest_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[object] = []
    send = local._Server.send

    def recorded(self: local._Server, message: ToServer) -> None:
        sent.append(message)
        send(self, message)

    monkeypatch.setattr(local._Server, "send", recorded)
    first, second = TokenRules(key_generations={1: 1}), TokenRules(key_generations={1: 2})
    async with running(tmp_path, warm_servers=0) as (fleet, listener):
        await fleet.assign(replace(assignment(), token_rules=first))
        await until(lambda: bool(fleet.account_ids()))
        fleet.set_token_rules("account", second)
        await asyncio.wait_for(listener.ready.get(), 60)
    rules = [getattr(message, "token_rules", None) for message in sent if isinstance(message, Assign | NewTokenRules)]
    assert rules == [second] or rules == [first, second]
