"""Conversion workers: a queue that gets conversions done in processes of this machine.

    submit -> store (sealed) -> claim -> python -m farframe.convert.job -> book
                 ^                          |
                 '-- the next service, if this one or its process is killed; twice at most

Each job is a process with a folder of its own below the data folder, ``conversions/<key>``, which is kept until the
conversion has ended, so that a second attempt goes on where the first one was. At most ``conversion_workers`` run at a
time; the others wait in the store, oldest first. Replicas on one database share the queue: a job belongs to who claimed
it, and to nobody when that replica is dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
from collections.abc import Sequence

import msgspec
import structlog

from farframe.protocol.conversion import ConversionEnd, ConversionLimits, ConversionNews, ConversionOrder
from farframe.service.config import ServiceConfig
from farframe.service.conversion_secrets import Sealer, SealError, Signatures
from farframe.service.conversion_storage import ConversionStorage
from farframe.service.conversions import ConversionBook, ConversionJob
from farframe.store.conversion_jobs import JobRow
from farframe.store.store import Store
from farframe.wire.conversions import ConversionSettings, output_asset_uri

log = structlog.get_logger("farframe.service")

JOB_COMMAND = (sys.executable, "-m", "farframe.convert.job")
FOLDER_NAME = "conversions"
MAX_ATTEMPTS = 2
TEND_MICROSECONDS = 2_000_000
LOST_AFTER_MICROSECONDS = 60_000_000
REPORT_SECONDS = 1.0

INTERRUPTED = "The conversion was interrupted twice. Start another one; if it fails as well, ask the operator."
SEALED_ELSEWHERE = "The service that took the conversion is gone, and its signatures with it. Start another one."
NOT_PERMITTED = "The service may not use that storage any more. Send signatures, or ask the operator."
LOST = "The service ended before the conversion was in its queue. Start another one."
_MAX_LINE_BYTES = 256 * 1024


class ConversionWorkers:
    """A :class:`~farframe.service.conversions.ConversionQueue`. ``replica_id`` is this service's identity."""

    def __init__(
        self,
        config: ServiceConfig,
        store: Store,
        replica_id: str,
        sealer: Sealer,
        *,
        job_command: Sequence[str] = JOB_COMMAND,
    ) -> None:
        self._config = config
        self._store = store
        self._replica_id = replica_id
        self._sealer = sealer
        self._command = tuple(job_command)
        self._folder = config.data_path / FOLDER_NAME
        self._limits = ConversionLimits(
            memory_bytes=config.conversion_memory_bytes,
            disk_bytes=config.conversion_disk_bytes,
            seconds=config.conversion_seconds,
        )
        self._running: dict[str, _Run] = {}
        self._book: ConversionBook | None = None
        self._prepared = False
        self._stopping = False
        self._wake = asyncio.Event()
        self._filling: asyncio.Task[None] | None = None
        self.storage = ConversionStorage(config, self._command)

    # The queue's interface ------------------------------------------------------------------------------------------

    async def submit(self, job: ConversionJob, book: ConversionBook) -> None:
        """Keep a job; it begins when a worker is free."""
        signatures = Signatures(job.request.input_sas, job.request.output_sas)
        row = await self._store.conversions.get(job.account_id, job.conversion_id)
        created_at = row.created_at if row is not None else 0
        await self._store.conversion_jobs.add(job.key, self._sealer.seal(job.key, signatures), created_at)
        self._look(book)

    async def tend(self, now: int, book: ConversionBook) -> int | None:
        """Settle what other services and the past left; begin what waits."""
        jobs = self._store.conversion_jobs
        if not self._prepared:
            await jobs.free_all_of(self._replica_id)
            await asyncio.to_thread(self._clear_folders, await jobs.all_keys())
            self._prepared = True
        for key in await jobs.lost(now - LOST_AFTER_MICROSECONDS):
            await book.failed(key, "InternalServerError", LOST)
        standing = await jobs.standing(self._replica_id)
        for key, run in self._running.items():
            if key not in standing:
                log.info("conversion.cancelled", key=key)
                run.cancel()
        await jobs.remove_ended()
        self._look(book)
        return now + TEND_MICROSECONDS

    async def stop(self) -> None:
        """End all processes; their jobs go on with the next service, and this attempt does not count."""
        self._stopping = True
        self._wake.set()
        for run in self._running.values():
            run.cancel()
        while self._running or self._filling is not None:
            tasks = [run.task for run in self._running.values()]
            await asyncio.gather(*tasks, *([self._filling] if self._filling else []), return_exceptions=True)

    # Begin ----------------------------------------------------------------------------------------------------------

    def _look(self, book: ConversionBook) -> None:
        """Claim jobs, in one task at a time."""
        self._book = book
        self._wake.set()
        if self._filling is None and not self._stopping and self._prepared:
            self._filling = asyncio.create_task(self._fill(), name="conversion queue")

    async def _fill(self) -> None:
        try:
            while self._wake.is_set() and not self._stopping:
                self._wake.clear()
                while len(self._running) < self._config.conversion_workers and not self._stopping:
                    job = await self._store.conversion_jobs.claim(self._replica_id)
                    if job is None:
                        break
                    self._begin(job)
        except Exception:
            log.exception("conversion.queue_failed")
        finally:
            self._filling = None

    def _begin(self, job: JobRow) -> None:
        run = _Run()
        self._running[job.key] = run
        run.task = asyncio.create_task(self._do(job, run), name=f"conversion {job.key}")

    async def _do(self, job: JobRow, run: _Run) -> None:
        book = self._book
        assert book is not None
        try:
            ended = await self._attempt(job, run, book)
            if ended:
                await self._store.conversion_jobs.remove(job.key)
                await asyncio.to_thread(shutil.rmtree, self._folder / job.key, ignore_errors=True)
            else:
                await self._store.conversion_jobs.hand_back(job.key, self._replica_id, uncounted=self._stopping)
        except Exception:
            log.exception("conversion.attempt_failed", key=job.key)
            with contextlib.suppress(Exception):
                await self._store.conversion_jobs.hand_back(job.key, self._replica_id, uncounted=False)
        finally:
            del self._running[job.key]
            if not self._stopping:
                self._look(book)

    async def _attempt(self, job: JobRow, run: _Run, book: ConversionBook) -> bool:
        """Whether the conversion has ended, one way or the other."""
        if job.attempts > MAX_ATTEMPTS:
            await book.failed(job.key, "ConversionProcessFailed", INTERRUPTED)
            return True
        settings = msgspec.json.decode(job.settings_json, type=ConversionSettings)
        try:
            signatures = self._sealer.open(job.key, job.sealed)
        except SealError:
            await book.failed(job.key, "InternalServerError", SEALED_ELSEWHERE)
            return True
        order = self.storage.order(job.account_id, settings, signatures.input_sas, signatures.output_sas)
        if order is None:
            await book.failed(job.key, "DelegatedResourceAccessError", NOT_PERMITTED)
            return True
        if not await book.started(job.key) and job.key not in await book.unfinished():
            return True
        folder = self._folder / job.key
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True, mode=0o700)
        order = msgspec.structs.replace(
            order,
            conversion_id=job.conversion_id,
            folder=str(folder),
            limits=self._limits,
            adapter=self._config.adapter,
        )
        log.info("conversion.begins", key=job.key, conversion=job.conversion_id, attempt=job.attempts)
        end = await self._run_process(job, run, order)
        if end is None:
            if self._stopping:
                return False
            if run.cancelled:
                return job.key not in await book.unfinished()
            log.warning("conversion.process_lost", key=job.key, attempt=job.attempts)
            if job.attempts < MAX_ATTEMPTS:
                return False
            await book.failed(job.key, "ConversionProcessFailed", INTERRUPTED)
        elif end.code:
            await book.failed(job.key, end.code, end.message)
        else:
            await book.succeeded(job.key, output_asset_uri(settings), end.bytes_read)
        return True

    async def _run_process(self, job: JobRow, run: _Run, order: ConversionOrder) -> ConversionEnd | None:
        """What the process said last, or ``None`` if it was killed or cancelled."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_MAX_LINE_BYTES,
            start_new_session=True,
        )
        run.process = process
        assert process.stdin is not None
        assert process.stdout is not None
        end: ConversionEnd | None = None
        stage, reported = "", 0.0
        clock = asyncio.get_running_loop().time
        try:
            process.stdin.write(msgspec.json.encode(order) + b"\n")
            if run.cancelled:
                run.cancel()
            while line := await process.stdout.readline():
                news: ConversionNews = msgspec.json.decode(line, type=ConversionNews)
                if isinstance(news, ConversionEnd):
                    end = news
                elif news.stage != stage or clock() - reported >= REPORT_SECONDS:
                    stage, reported = news.stage, clock()
                    await self._store.conversion_jobs.report(job.key, self._replica_id, news.stage, news.fraction)
        except (OSError, ValueError, msgspec.MsgspecError):
            end = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            await process.wait()
        return None if run.cancelled else end

    def _clear_folders(self, keys: set[str]) -> None:
        """Remove folders of jobs that are in no queue any more."""
        if self._folder.is_dir():
            for folder in self._folder.iterdir():
                if folder.name not in keys:
                    shutil.rmtree(folder, ignore_errors=True)


class _Run:
    """A job that runs here."""

    task: asyncio.Task[None]

    def __init__(self) -> None:
        self.process: asyncio.subprocess.Process | None = None
        self.cancelled = False

    def cancel(self) -> None:
        """Have the process end itself and all that it started, by closing its input."""
        self.cancelled = True
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
