"""The bodies about accounts' limits."""

from __future__ import annotations

import msgspec


class QuotaReport(msgspec.Struct, kw_only=True, rename="camel"):
    """The limits in force, by name; null where there is none. ``own`` names those that are the account's own."""

    account_id: str
    quotas: dict[str, int | None]
    own: list[str]


class SetQuotas(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Limits to set, by name: -1 for no limit, null for the service's default. Others stay as they are."""

    quotas: dict[str, int | None]
