"""What tests of the store share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from farframe.store.store import Store


@pytest.fixture
async def store(database_source: Path | str) -> AsyncIterator[Store]:
    """A store with two accounts, "a" and "b", on both kinds of database."""
    store = await Store.open(database_source)
    await store.accounts.create("a", "one", 1)
    await store.accounts.create("b", "two", 2)
    yield store
    await store.close()
