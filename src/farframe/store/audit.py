"""The audit log: who did what. Rows are added; the database itself refuses to change or delete them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from sqlalchemy import select

from farframe.store.database import Database
from farframe.store.direct import Direct, Statement
from farframe.store.schema import audit_log

_FIELD_LENGTHS = {
    "actor": 256,
    "role": 32,
    "action": 64,
    "target": 512,
    "outcome": 32,
    "correlation": 128,
    "address": 64,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One thing that somebody did or tried.

    ``at`` in microseconds since 1970 UTC; ``account_id`` is the account it was done to, if any; ``outcome`` is ``ok``,
    ``refused`` or ``failed``; ``correlation`` is the answer's MS-CV; ``address`` the caller's network address.
    """

    at: int
    actor: str
    role: str
    account_id: str | None
    action: str
    target: str | None
    outcome: str
    correlation: str | None
    address: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow(AuditEntry):
    """An entry as kept; ``id`` rises with time."""

    id: int


class AuditStore:
    """Queries about the audit log."""

    def __init__(self, database: Database, direct: Direct) -> None:
        self._database = database
        self._direct = direct

    async def add(self, entries: Sequence[AuditEntry]) -> None:
        """Add entries in one transaction. Texts longer than their columns are cut."""
        if not entries:
            return
        await self._direct.change_many(_ADD, [_values(entry) for entry in entries])

    async def page(
        self,
        *,
        before_id: int | None = None,
        account_id: str | None = None,
        action: str | None = None,
        since: int | None = None,
        until: int | None = None,
        count: int,
    ) -> list[AuditRow]:
        """Up to ``count`` entries, newest first, from before the entry ``before_id``. ``since`` is included, ``until``
        is not; both in microseconds since 1970 UTC."""
        columns = audit_log.c
        query = select(audit_log).order_by(columns.id.desc()).limit(count)
        if before_id is not None:
            query = query.where(columns.id < before_id)
        if account_id is not None:
            query = query.where(columns.account_id == account_id)
        if action is not None:
            query = query.where(columns.action == action)
        if since is not None:
            query = query.where(columns.at >= since)
        if until is not None:
            query = query.where(columns.at < until)
        async with self._database.read() as connection:
            return [AuditRow(**row._mapping) for row in await connection.execute(query)]


_NAMES = [field.name for field in fields(AuditEntry)]
_ADD = Statement(
    f"INSERT INTO audit_log ({', '.join(_NAMES)}) VALUES ({', '.join(f':{name}' for name in _NAMES)})"  # noqa: S608
)


def _values(entry: AuditEntry) -> dict[str, object]:
    values: dict[str, object] = asdict(entry)
    for name, length in _FIELD_LENGTHS.items():
        value = values[name]
        if isinstance(value, str):
            values[name] = value[:length]
    return values
