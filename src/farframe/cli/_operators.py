"""``farframe account`` and ``farframe audit``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from farframe.cli._context import CommandError, context, emit, note, run_async, table
from farframe.client.operators import OperatorClient, OperatorInfo
from farframe.wire.operators import Account, AccountKey, AuditRecord
from farframe.wire.quotas import QuotaReport


def _client() -> OperatorClient:
    return OperatorClient(OperatorInfo.find(context.connection))


def _facts(value: Any) -> Any:
    return msgspec.to_builtins(value)


def _print_account(account: Account) -> None:
    rows = [["id", account.account_id], ["name", account.name], ["created", account.creation_time]]
    rows += [[f"key {key.serial}", _key_text(key)] for key in account.keys]
    emit(_facts(account), table(rows))


def _key_text(key: AccountKey) -> str:
    return key.key or f"set {key.generation} times, last {key.creation_time}"


def create(name: str, account_id: str | None) -> None:
    """Make an account and print its keys."""

    async def work() -> Account:
        async with _client() as client:
            return await client.create_account(name, account_id)

    _print_account(run_async(work()))
    note("These keys are shown this once.")


def list_all() -> None:
    """List accounts, oldest first."""

    async def work() -> list[Account]:
        async with _client() as client:
            return [account async for account in client.list_accounts()]

    accounts = run_async(work())
    rows = [["ID", "NAME", "CREATED"], *([item.account_id, item.name, item.creation_time] for item in accounts)]
    emit([_facts(item) for item in accounts], table(rows) if accounts else "No accounts.")


def show(account_id: str) -> None:
    """Print one account."""

    async def work() -> Account:
        async with _client() as client:
            return await client.get_account(account_id)

    _print_account(run_async(work()))


def delete(account_id: str, *, sure: bool) -> None:
    """Delete an account."""
    if not sure:
        raise CommandError(
            f"This ends the sessions of account {account_id} and makes its keys and tokens void, for good. "
            "Add --yes if that is what you want."
        )

    async def work() -> None:
        async with _client() as client:
            await client.delete_account(account_id)

    run_async(work())
    emit({"accountId": account_id, "deleted": True}, f"The account {account_id} is deleted.")


def regenerate_key(account_id: str, serial: int) -> None:
    """Give an account a new key and print it."""

    async def work() -> AccountKey:
        async with _client() as client:
            return await client.regenerate_key(account_id, serial)

    key = run_async(work())
    emit(_facts(key), key.key or "")
    note("This key is shown this once; the former one and its tokens are void.")


def revoke_tokens(account_id: str) -> None:
    """Make all of an account's tokens void."""

    async def work() -> None:
        async with _client() as client:
            await client.revoke_tokens(account_id)

    run_async(work())
    emit({"accountId": account_id, "revoked": True}, f"All tokens of the account {account_id} are void.")


def show_quotas(account_id: str) -> None:
    """Print an account's limits."""

    async def work() -> QuotaReport:
        async with _client() as client:
            return await client.quotas(account_id)

    _print_quotas(run_async(work()))


def set_quotas(account_id: str, limits: Sequence[str]) -> None:
    """Set limits that are written as NAME=VALUE and print all of them."""
    wanted = dict(_limit_of(text) for text in limits)

    async def work() -> QuotaReport:
        async with _client() as client:
            return await client.set_quotas(account_id, wanted)

    _print_quotas(run_async(work()))


def _limit_of(text: str) -> tuple[str, int | None]:
    name, _, value = (part.strip() for part in text.partition("="))
    if name and value in ("none", "default"):
        return name, -1 if value == "none" else None
    if not name or not (value.isascii() and value.isdigit()):
        raise CommandError(f"{text!r} is no limit. Write it as sessions.standard=4, session_minutes=none or …=default.")
    return name, int(value)


def _print_quotas(report: QuotaReport) -> None:
    rows = [["QUOTA", "LIMIT", ""]]
    rows += [
        [name, "none" if limit is None else str(limit), "" if name in report.own else "the service's default"]
        for name, limit in report.quotas.items()
    ]
    emit(_facts(report), table(rows))


def audit(account_id: str | None, action: str | None, begin: str | None, end: str | None, limit: int) -> None:
    """Print the newest entries of the audit log, oldest of them first."""

    async def work() -> list[AuditRecord]:
        records: list[AuditRecord] = []
        async with _client() as client:
            async for record in client.audit(account_id=account_id, action=action, begin=begin, end=end):
                records.append(record)
                if len(records) >= limit:
                    break
        return records[::-1]

    records = run_async(work())
    rows = [["TIME", "WHO", "ROLE", "DID", "OUTCOME", "TO", "FROM", "MS-CV"]]
    rows += [
        [
            item.time,
            item.actor,
            item.role or "-",
            item.action,
            item.outcome,
            item.target or "-",
            item.address or "-",
            item.correlation or "-",
        ]
        for item in records
    ]
    emit([_facts(item) for item in records], table(rows) if records else "Nothing is in the log for that.")
