"""The bodies of the operators' interface: accounts, their keys, the audit log."""

from __future__ import annotations

import msgspec


class CreateAccount(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A new account. ``name`` is for people; ``account_id`` a UUID of one's own choice, else one is made up."""

    name: str
    account_id: str | None = None


class AccountKey(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """One of an account's two keys. ``key`` itself is there in the answer that made it and never again.

    ``generation`` counts how often the key has been set.
    """

    serial: int
    creation_time: str
    generation: int
    key: str | None = None

    def __repr__(self) -> str:
        return f"AccountKey(serial={self.serial}, generation={self.generation})"


class Account(msgspec.Struct, kw_only=True, rename="camel"):
    """An account, with what may be told of its keys."""

    account_id: str
    name: str
    creation_time: str
    keys: list[AccountKey]


class AccountList(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A page of accounts, oldest first."""

    accounts: list[Account]
    next_link: str | None = msgspec.field(default=None, name="@nextLink")


class AuditRecord(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """Something that somebody did or tried; ``outcome`` is ``ok``, ``refused`` or ``failed``."""

    id: int
    time: str
    actor: str
    role: str
    action: str
    outcome: str
    account_id: str | None = None
    target: str | None = None
    correlation: str | None = None
    address: str | None = None


class AuditList(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A page of the audit log, newest first."""

    records: list[AuditRecord]
    next_link: str | None = msgspec.field(default=None, name="@nextLink")
