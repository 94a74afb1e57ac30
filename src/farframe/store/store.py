"""The store as the service holds it: one database, one object a subject."""

from __future__ import annotations

from pathlib import Path

from farframe.store.accounts import AccountStore, SigningKeyStore
from farframe.store.database import Database
from farframe.store.links import LinkStore
from farframe.store.sessions import SessionStore
from farframe.store.uploads import UploadStore
from farframe.store.usage import UsageStore


class Store:
    """All queries. Open it with :meth:`open`, close it with :meth:`close`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.accounts = AccountStore(database)
        self.signing_keys = SigningKeyStore(database)
        self.sessions = SessionStore(database)
        self.uploads = UploadStore(database)
        self.links = LinkStore(database)
        self.usage = UsageStore(database)

    @classmethod
    async def open(cls, file: Path) -> Store:
        """Open the SQLite file, creating or migrating it as needed."""
        return cls(await Database.open(file))

    async def close(self) -> None:
        """Close all connections."""
        await self._database.close()
