"""The store as the service holds it: one database, one object a subject."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import delete, false

from farframe.store.accounts import AccountStore, OperatorStore, SigningKeyStore
from farframe.store.audit import AuditStore
from farframe.store.conversion_jobs import ConversionJobStore
from farframe.store.conversions import ConversionStore
from farframe.store.database import Database
from farframe.store.direct import Direct
from farframe.store.links import LinkStore
from farframe.store.quotas import QuotaStore
from farframe.store.replicas import ReplicaStore
from farframe.store.schema import one_time_links
from farframe.store.sessions import SessionStore
from farframe.store.uploads import UploadStore
from farframe.store.usage import UsageStore


class Store:
    """All queries. Open it with :meth:`open`, close it with :meth:`close`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._direct = Direct(database)
        self.accounts = AccountStore(database, self._direct)
        self.operators = OperatorStore(database)
        self.audit = AuditStore(database, self._direct)
        self.signing_keys = SigningKeyStore(database)
        self.sessions = SessionStore(database, self._direct)
        self.uploads = UploadStore(database)
        self.links = LinkStore(database)
        self.replicas = ReplicaStore(database)
        self.conversions = ConversionStore(database)
        self.conversion_jobs = ConversionJobStore(database)
        self.quotas = QuotaStore(database, self._direct)
        self.usage = UsageStore(database)

    @classmethod
    async def open(cls, source: Path | str) -> Store:
        """Open an SQLite file or a ``postgresql://`` URL, creating or migrating tables as needed."""
        return cls(await Database.open(source))

    async def check_writable(self) -> None:
        """Raise unless the database takes writes: it is there, not read-only, and the lock can be had."""
        async with self._database.write() as connection:
            await connection.execute(delete(one_time_links).where(false()))

    @property
    def is_sqlite(self) -> bool:
        """Whether the store is a file that one service has to itself, else a database that several may share."""
        return self._database.is_sqlite

    async def close(self) -> None:
        """Close all connections."""
        await self._direct.close()
        await self._database.close()
