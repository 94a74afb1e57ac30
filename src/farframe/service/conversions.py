"""Conversions: their rules between the store, which keeps them, and the queue, which gets them done.

A signature (SAS) goes from the request to the queue and nowhere else: it is in no row, no log and no answer.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec
import structlog

from farframe.service.clock import Clock
from farframe.service.config import ServiceConfig
from farframe.service.quotas import CONVERSIONS, Quotas
from farframe.store.conversion_jobs import ConversionJobStore
from farframe.store.conversions import FAILED, SUCCEEDED, ConversionRow, ConversionStore, NewConversion
from farframe.store.quotas import QuotaReached
from farframe.wire.conversions import (
    Conversion,
    ConversionOutput,
    ConversionProgress,
    ConversionRequest,
    ConversionSettings,
    ConversionStatus,
)
from farframe.wire.errors import (
    BadRequest,
    Conflict,
    DelegatedResourceAccessError,
    ErrorDetail,
    QuotaExceeded,
    ResourceMissing,
    Unauthorized,
)
from farframe.wire.sessions import PAGE_SIZE
from farframe.wire.times import format_utc_time

log = structlog.get_logger("farframe.service")

NO_WORKERS_CODE = "ConversionProcessFailed"
NO_WORKERS_MESSAGE = "This service has no conversion workers. Ask its operator for one that has."
PUBLIC_STORAGE_SUFFIX = ".blob.core.windows.net"
_TEND_MICROSECONDS = 60_000_000
_POSITION = re.compile(r"1-([0-9]{1,18})-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\Z")


@dataclass(frozen=True, slots=True)
class ConversionJob:
    """What there is to do. ``request`` holds the signatures, which ``repr`` does not show."""

    key: str
    account_id: str
    conversion_id: str
    request: ConversionRequest


class ConversionBook(Protocol):
    """Where a queue writes what becomes of its jobs. Each call says whether it took place."""

    async def started(self, key: str) -> bool:
        """The work begins: NotStarted to Running."""

    async def succeeded(self, key: str, output_uri: str, bytes_read: int) -> bool:
        """The asset is at ``output_uri``; ``bytes_read`` bytes of input made it. Running to Succeeded."""

    async def failed(self, key: str, code: str, message: str) -> bool:
        """It came to nothing; the caller sees code and message. NotStarted or Running to Failed."""

    async def unfinished(self) -> list[str]:
        """The keys of all conversions that have not ended, oldest first."""


class ConversionQueue(Protocol):
    """Gets conversions done. Every job that it takes ends, one way or the other, also after a crash."""

    async def submit(self, job: ConversionJob, book: ConversionBook) -> None:
        """Take a job that is in the book as NotStarted. Returns at once; the work goes on elsewhere."""

    async def tend(self, now: int, book: ConversionBook) -> int | None:
        """One of the scheduler's jobs, first called at the start: settle what an earlier run left. Returns when to be
        called again, if at all."""

    async def stop(self) -> None:
        """End what goes on in the background."""


class StorageGate(Protocol):
    """Knows whose storage may be used."""

    async def permits(self, account_id: str, request: ConversionRequest) -> bool:
        """Whether the account may use both containers of a request, with what came along or with the operator's
        credentials."""


class NoConversionWorkers:
    """The queue of a service without conversion workers: it takes jobs and fails them, with a word on why.

    It settles every unfinished conversion that it finds in the book, also those of other replicas: replicas on one
    database either all have workers or none has.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, job: ConversionJob, book: ConversionBook) -> None:
        """Fail the job, after the caller has its answer."""
        task = asyncio.create_task(self._refuse(job.key, book))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def tend(self, now: int, book: ConversionBook) -> int | None:
        """Fail what a service that died had taken."""
        for key in await book.unfinished():
            await self._refuse(key, book)
        return now + _TEND_MICROSECONDS

    async def stop(self) -> None:
        """Wait for the last refusals."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _refuse(self, key: str, book: ConversionBook) -> None:
        await book.failed(key, NO_WORKERS_CODE, NO_WORKERS_MESSAGE)


class ConversionEngine:
    """Creates and shows conversions; the book of the queue; one of the scheduler's jobs."""

    def __init__(
        self,
        config: ServiceConfig,
        store: ConversionStore,
        quotas: Quotas,
        queue: ConversionQueue,
        clock: Clock,
        storage: StorageGate | None = None,
        jobs: ConversionJobStore | None = None,
    ) -> None:
        self._storage = storage
        self._jobs = jobs
        self._linked = frozenset(linked_host(entry) for entry in config.linked_storage)
        self._store = store
        self._quotas = quotas
        self._queue = queue
        self._clock = clock
        self._tasks: set[asyncio.Task[Any]] = set()

    # Operations ---------------------------------------------------------------------------------------------------

    async def create(self, account_id: str, conversion_id: str, request: ConversionRequest) -> tuple[Conversion, bool]:
        """A new conversion, or the one that has the id already if its settings are the same, signatures aside.

        Returns it and whether it is new. Raises :class:`DelegatedResourceAccessError`, :class:`Conflict`,
        :class:`QuotaExceeded`.
        """
        if self._storage is not None and not await self._storage.permits(account_id, request):
            raise DelegatedResourceAccessError
        places = request.settings
        for uri, sas in (
            ()
            if self._storage is not None
            else (
                (places.input_location.storage_container_uri, request.input_sas),
                (places.output_location.storage_container_uri, request.output_sas),
            )
        ):
            if not sas and not self._is_linked(account_id, uri):
                raise DelegatedResourceAccessError
        limit = await self._quotas.limit(account_id, CONVERSIONS)
        settings_json = msgspec.json.encode(request.settings).decode("utf-8")
        # In a task of its own: a caller that hangs up must not leave a conversion that no queue knows.
        return await asyncio.shield(self._spawn(self._create(account_id, conversion_id, request, settings_json, limit)))

    async def _create(
        self, account_id: str, conversion_id: str, request: ConversionRequest, settings_json: str, limit: int | None
    ) -> tuple[Conversion, bool]:
        new = NewConversion(
            key=str(uuid.uuid4()),
            account_id=account_id,
            id=conversion_id,
            created_at=self._clock.now(),
            settings_json=settings_json,
        )
        try:
            made = await self._store.create(new, limit=limit)
        except QuotaReached as reached:
            raise QuotaExceeded(
                f"The account has {reached.used} unfinished conversions, and {reached.limit} are allowed at a time. "
                "Wait for one to end.",
                code="ConversionQuotaExceeded",
            ) from None
        if made is None:
            # The account was deleted after this call's token was looked at, which is void by now.
            raise Unauthorized
        row, created = made
        if not created:
            if row.settings_json != settings_json:
                raise Conflict("A resource already exists under the given ID.")
            return describe(row), False
        log.info("conversion.created", conversion=conversion_id, key=row.key)
        await self._queue.submit(
            ConversionJob(key=row.key, account_id=account_id, conversion_id=conversion_id, request=request), self
        )
        return describe(row), True

    async def get(self, account_id: str, conversion_id: str) -> Conversion:
        """The conversion in any status. Raises :class:`ResourceMissing`."""
        row = await self._store.get(account_id, conversion_id)
        if row is None:
            raise ResourceMissing
        return describe(row)

    async def page(self, account_id: str, skip_token: str | None) -> tuple[list[Conversion], str | None]:
        """Conversions in every status, oldest first, and the token of the next page if there is one."""
        after = None
        if skip_token is not None:
            match = _POSITION.match(skip_token)
            if match is None:
                raise BadRequest("The skiptoken value is not valid. Follow @nextLink as it is.")
            after = (int(match[1]), match[2])
        rows = await self._store.page(account_id, after=after, count=PAGE_SIZE + 1)
        page = rows[:PAGE_SIZE]
        more = len(rows) > PAGE_SIZE
        return [describe(row) for row in page], f"1-{page[-1].created_at}-{page[-1].key}" if more else None

    async def progress(self, account_id: str, conversion_id: str) -> ConversionProgress | None:
        """How far the conversion of that id is, if there is one."""
        row = await self._store.get(account_id, conversion_id)
        if row is None:
            return None
        said = await self._jobs.progress(row.key) if self._jobs is not None else None
        stage, fraction = (said.stage, said.fraction) if said is not None else ("waiting", 0.0)
        if row.status in (SUCCEEDED, FAILED):
            stage, fraction = "done", 1.0
        return ConversionProgress(id=row.id, status=ConversionStatus(row.status), stage=stage, fraction=fraction)

    # The queue's book ---------------------------------------------------------------------------------------------

    async def started(self, key: str) -> bool:
        """NotStarted to Running."""
        return await self._store.mark_running(key, self._clock.now())

    async def succeeded(self, key: str, output_uri: str, bytes_read: int) -> bool:
        """Running to Succeeded."""
        changed = await self._store.mark_succeeded(key, output_uri, bytes_read, self._clock.now())
        if changed:
            log.info("conversion.succeeded", key=key)
        return changed

    async def failed(self, key: str, code: str, message: str) -> bool:
        """NotStarted or Running to Failed."""
        changed = await self._store.mark_failed(key, code, message, self._clock.now())
        if changed:
            log.warning("conversion.failed", key=key, error=code, message=message)
        return changed

    async def unfinished(self) -> list[str]:
        """The keys of all conversions that have not ended."""
        return [row.key for row in await self._store.unfinished()]

    # Begin and end ------------------------------------------------------------------------------------------------

    async def tend(self, now: int) -> int | None:
        """One of the scheduler's jobs."""
        return await self._queue.tend(now, self)

    async def stop(self) -> None:
        """End the queue, when no more requests come."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._queue.stop()

    def _is_linked(self, account_id: str, container_uri: str) -> bool:
        # The whole host, and nothing that only begins like it: contoso.example.org is somebody else's.
        parts = urlsplit(container_uri)
        host = (parts.hostname or "").lower() + (f":{parts.port}" if parts.port not in (None, 443) else "")
        secure = parts.scheme.lower() == "https" or parts.hostname in ("localhost", "127.0.0.1")
        return secure and (host in self._linked or f"{account_id}/{host}" in self._linked)

    def _spawn(self, coroutine: Coroutine[Any, Any, tuple[Conversion, bool]]) -> asyncio.Task[tuple[Conversion, bool]]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def linked_host(entry: str) -> str:
    """An entry of ``linked_storage`` with the whole host that it stands for; a plain name is a public storage account.

    >>> linked_host("contoso")
    'contoso.blob.core.windows.net'
    """
    account, slash, storage = entry.lower().rpartition("/")
    return f"{account}{slash}{storage if '.' in storage or ':' in storage else storage + PUBLIC_STORAGE_SUFFIX}"


def describe(row: ConversionRow) -> Conversion:
    """The conversion as it goes on the wire."""
    error = None
    if row.status == FAILED:
        # Never null here: the official Python client would take the failure for a normal result.
        error = ErrorDetail(
            code=row.error_code or "InternalServerError", message=row.error_message or "The conversion failed."
        )
    output: ConversionOutput | msgspec.UnsetType = msgspec.UNSET
    if row.status == SUCCEEDED:
        output = ConversionOutput(output_asset_uri=row.output_uri or "")
    return Conversion(
        id=row.id,
        creation_time=format_utc_time(row.created_at),
        settings=msgspec.json.decode(row.settings_json, type=ConversionSettings),
        output=output,
        error=error,
        status=ConversionStatus(row.status),
    )
