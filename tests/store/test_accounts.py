"""Accounts, key generations and revocations, on both databases."""

from __future__ import annotations

import asyncio

from farframe.store.accounts import AccountState, SigningKeyRow
from farframe.store.store import Store


async def test_generations_count_up(store: Store) -> None:
    assert await store.accounts.state("a") == AccountState({}, 0)
    assert await store.accounts.set_key("a", 1, b"1" * 48, 1) == 1
    assert await store.accounts.set_key("a", 2, b"2" * 48, 1) == 1
    generations = await asyncio.gather(*(store.accounts.set_key("a", 1, bytes(48), 2) for _ in range(5)))
    assert sorted(generations) == [2, 3, 4, 5, 6]
    assert await store.accounts.state("a") == AccountState({1: 6, 2: 1}, 0)
    await store.accounts.revoke_tokens("a", 50)
    await store.accounts.revoke_tokens("a", 40)
    assert await store.accounts.state("a") == AccountState({1: 6, 2: 1}, 50)
    assert await store.accounts.forget_revocations(45) == 1


async def test_a_deleted_account_is_gone_and_its_id_stays_taken(store: Store) -> None:
    await store.accounts.set_key("a", 1, b"1" * 48, 1)
    assert await store.accounts.mark_deleted("a", 5)
    assert not await store.accounts.mark_deleted("a", 6)
    assert await store.accounts.state("a") is None
    assert await store.accounts.get("a") is None
    oldest = await store.accounts.first()
    assert oldest is not None and oldest.id == "b"
    assert await store.accounts.keys("a") == []
    assert [account.id for account in await store.accounts.page(after=None, count=10)] == ["b"]
    assert not await store.accounts.create("a", "again", 7)
    # A key that somebody sets in this very moment opens nothing.
    await store.accounts.set_key("a", 1, b"1" * 48, 8)
    assert await store.accounts.state("a") is None
    assert await store.accounts.key_hashes("a") == []


async def test_of_two_services_one_makes_the_next_signing_key(store: Store) -> None:
    assert await store.signing_keys.add(SigningKeyRow("k1", "pem"), 10)
    made = await asyncio.gather(
        *(store.signing_keys.add(SigningKeyRow(f"k{n}", "pem"), 100, unless_newer_than=50) for n in (2, 3, 4))
    )
    assert made.count(True) >= 1
    if store._database.is_sqlite:
        assert made.count(True) == 1
    assert not await store.signing_keys.add(SigningKeyRow("k5", "pem"), 101, unless_newer_than=50)
    await store.signing_keys.forget("k1")
    assert "k1" not in [row.id for row in await store.signing_keys.active()]
