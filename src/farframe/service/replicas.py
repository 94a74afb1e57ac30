"""Who supervises which render server: after a restart, beside other services, and when one of those dies.

Each service is a replica with an identity of its own, kept in its data folder. A session belongs to the replica whose
fleet serves it; everything else about a session any replica may do. Every :data:`BEAT_MICROSECONDS` a replica

* moves its ``seen_at`` in the store;
* ends the servers whose session ended elsewhere, and leaves those that another replica has taken over;
* fails sessions of its own that have no server and wait for none;
* takes over the sessions of replicas that have not been heard of for ``replica_timeout_seconds``.

Whether another replica is silent is measured on this replica's clock, by how long its ``seen_at`` has not changed, so
that the clocks of the machines need not agree. A server on this machine can be adopted at once. One that cannot be
reached from here waits for its own service, which may be restarting; its session fails when the server's own patience
(``orphan_timeout_seconds``) is over as well.

A replica that takes over keeps every server that lives, even beyond its own limit (``servers``): it then creates no
session of that size until enough of them have ended. Sessions that still wait for a server get one within the limit,
the oldest first; the others fail as they would have at their creation.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import structlog

from farframe.fleet.base import EndReason, Fleet
from farframe.service.clock import Clock
from farframe.service.config import ServiceConfig
from farframe.service.sessions import SessionEngine
from farframe.store.replicas import Standing
from farframe.store.sessions import ACTIVE, EXPIRED, READY, STARTING, SessionRow
from farframe.store.store import Store

log = structlog.get_logger("farframe.service")

BEAT_MICROSECONDS = 2_000_000
_STALLED_AFTER_BEATS = 3
_CHECK_EVERY_BEATS = 5
"""How often this replica looks for sessions of its own without a server, and for sessions of unknown replicas."""

_SIDE_BY_SIDE = 16
REPLICA_FILE_NAME = "replica-id"


def ensure_replica_id(folder: Path) -> str:
    """The identity of the service that runs on this data folder; made at its first start."""
    path = folder / REPLICA_FILE_NAME
    try:
        return str(uuid.UUID(path.read_text("ascii").strip()))
    except (OSError, ValueError):
        replica_id = str(uuid.uuid4())
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{replica_id}\n")
    temporary.replace(path)
    return replica_id


class Supervision:
    """Keeps sessions and servers together. One of the scheduler's periodic jobs, by :meth:`tend`."""

    def __init__(
        self,
        config: ServiceConfig,
        store: Store,
        fleet: Fleet,
        engine: SessionEngine,
        clock: Clock,
        *,
        url: Callable[[], str],
        wake_scheduler: Callable[[], None],
    ) -> None:
        self._config = config
        self._store = store
        self._fleet = fleet
        self._engine = engine
        self._clock = clock
        self._url = url
        self._wake_scheduler = wake_scheduler
        self._beats = 0
        self._last_beat: int | None = None
        self._observed: dict[str, tuple[int | None, int]] = {}
        """Of each other replica: its seen_at, and when this replica first saw that value."""
        self._strays: list[str] = []
        self._without_server: set[str] = set()

    @property
    def replica_id(self) -> str:
        """This service's identity."""
        return self._engine.replica_id

    # Begin and end ------------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """After a start, when the fleet runs: adopt the servers that still live, start those that were on their way,
        fail the sessions whose server is gone, end the servers whose session is gone."""
        await self._store.replicas.announce(self.replica_id, self._url(), self._clock.now())
        if self._store.is_sqlite:
            # The lock on the data folder says that nobody else is there.
            for replica in await self._store.replicas.all():
                if replica.id != self.replica_id:
                    rows = await self._store.replicas.active_of(replica.id)
                    await self._claim(replica.id, replica.seen_at, rows)
                    await self._store.replicas.give_up(replica.id, replica.seen_at)
            for stray in await self._store.replicas.strays():
                await self._claim(stray, None, await self._store.replicas.active_of(stray))
        await self._claim(None, None, await self._store.replicas.active_of(None))
        await self._resume_all(await self._store.replicas.active_of(self.replica_id))
        await self._fleet.clear_left_behind(await self._store.replicas.link_paths())

    async def end(self) -> None:
        """All sessions of this replica have ended: take it off the list."""
        await self._store.replicas.withdraw(self.replica_id)

    # The beat -----------------------------------------------------------------------------------------------------

    async def tend(self, now: int) -> int:
        """See the module. Returns when it wants to be called next."""
        stalled = self._last_beat is not None and now - self._last_beat > _STALLED_AFTER_BEATS * BEAT_MICROSECONDS
        self._last_beat = now
        if not await self._store.replicas.beat(self.replica_id, now):
            log.warning("replica.was_given_up", replica=self.replica_id)
            await self._store.replicas.announce(self.replica_id, self._url(), now)
        if stalled:
            # The others may have been held up with us: begin to watch them anew.
            self._observed.clear()
        await self._follow_store()
        if self._beats % _CHECK_EVERY_BEATS == 0:
            await self._fail_forgotten()
            self._strays = await self._store.replicas.strays()
        self._beats += 1
        await self._watch_others(now)
        return now + BEAT_MICROSECONDS

    async def _follow_store(self) -> None:
        """What another replica did to a session of ours has to happen to its server as well."""
        keys = self._fleet.session_keys()
        standing = await self._store.replicas.standing(keys)
        for key in keys:
            at = standing.get(key)
            if at is None or at.status not in ACTIVE:
                reason: EndReason = "SessionExpired" if at is not None and at.status == EXPIRED else "SessionStopped"
                await self._engine.release(key, reason)
            elif at.replica_id != self.replica_id:
                await self._hand_on(key, at)

    async def _hand_on(self, key: str, at: Standing) -> None:
        log.warning("session.taken_over", key=key, by=at.replica_id)
        facts = self._fleet.facts(key)
        if facts is not None and facts.link_path == at.link_path:
            self._fleet.leave(key)
        else:  # the other replica gave the session another server
            await self._engine.release(key, "SessionStopped")

    async def _fail_forgotten(self) -> None:
        """A session that twice in a row has no server and waits for none would never end or never begin."""
        rows = await self._store.replicas.active_of(self.replica_id)
        served = set(self._fleet.session_keys()) | self._engine.busy_keys()
        without = {row.key for row in rows if row.key not in served}
        for key in without & self._without_server:
            await self._engine.server_lost(
                key, "ServerLost", "The session's render server is gone. Create another session."
            )
        self._without_server = without

    # Other replicas -----------------------------------------------------------------------------------------------

    async def _watch_others(self, now: int) -> None:
        others: dict[str, int | None] = {
            replica.id: replica.seen_at for replica in await self._store.replicas.all() if replica.id != self.replica_id
        }
        others.update((stray, None) for stray in self._strays if stray not in others and stray != self.replica_id)
        patience = round(self._config.replica_timeout_seconds * 1_000_000)
        for replica_id, seen_at in others.items():
            known = self._observed.get(replica_id)
            if known is None or known[0] != seen_at:
                self._observed[replica_id] = (seen_at, now)
            elif now - known[1] >= patience:
                orphaned = now - known[1] >= patience + round(self._config.orphan_timeout_seconds * 1_000_000)
                await self._inherit(replica_id, seen_at, orphaned=orphaned)
        self._observed = {key: value for key, value in self._observed.items() if key in others}
        if others:
            # Their sessions have deadlines that nobody told us of.
            self._wake_scheduler()

    async def _inherit(self, dead: str, seen_at: int | None, *, orphaned: bool) -> None:
        """Take over from a replica that is silent. ``orphaned``: servers out of reach have ended by now."""
        rows = await self._store.replicas.active_of(dead)
        ours = [
            row
            for row in rows
            if orphaned or row.status == STARTING or (row.link_path and self._fleet.can_reach(row.link_path))
        ]
        taken = await self._claim(dead, seen_at, ours)
        if taken:
            log.warning("replica.dead", replica=dead, sessions=len(taken))
        await self._resume_all(taken)
        if len(ours) == len(rows) and seen_at is not None:
            await self._store.replicas.give_up(dead, seen_at)

    async def _claim(self, former: str | None, seen_at: int | None, rows: list[SessionRow]) -> list[SessionRow]:
        if not rows:
            return []
        keys = [row.key for row in rows]
        taken = set(await self._store.replicas.take_over(former, seen_at, self.replica_id, keys))
        return [row for row in rows if row.key in taken]

    async def _resume_all(self, rows: list[SessionRow]) -> None:
        gate = asyncio.Semaphore(_SIDE_BY_SIDE)

        async def resume(row: SessionRow) -> None:
            async with gate:
                await self._engine.resume(row)

        await asyncio.gather(*(resume(row) for row in rows))
        if any(row.status == READY for row in rows):
            self._wake_scheduler()
