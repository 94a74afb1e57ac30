"""One conversion from storage to storage: ``python -m farframe.convert.job``, one process a conversion.

Reads a :class:`~farframe.protocol.conversion.ConversionOrder` as a JSON line on standard input, writes its news on
standard output, and ends with everything that it started when standard input closes or its parent ends.

    list, download -> worker (sandbox) -> thumbnail (sandbox) -> upload

This process speaks to the storage and looks into no file; the sandboxes look into files and speak to nobody. Its folder
is kept when it is killed: the next attempt reads only what has not arrived, and does not convert again what is
converted. A folder that is done has no use any more; whoever ordered the conversion removes it.

Results under the output's prefix: ``N.arrAsset``, ``N.info.json``, ``N.png``, ``N.log.txt``, and last
``N.result.json``, which is there also after a failure, as long as the output container can be written.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

import msgspec

from farframe.convert.errors import INPUT_NOT_FOUND, INTERNAL, LIMITS_EXCEEDED, NAME_NOT_ALLOWED, ConversionFailed
from farframe.convert.result import write_result
from farframe.convert.sandbox import (
    Bounds,
    Breach,
    adopt_orphans,
    end_descendants,
    end_leftovers,
    folder_bytes,
    supervise,
)
from farframe.convert.worker import WorkerEnd, WorkerNews, WorkerOrder, exceeded
from farframe.protocol.conversion import ConversionEnd, ConversionOrder, ConversionStep, StoragePlace, ThumbnailOrder
from farframe.protocol.errors import FarframeError
from farframe.storage.blobs import Blob, Container, StorageError, open_container

T = TypeVar("T")

WORKER_COMMAND = (sys.executable, "-m", "farframe.convert.worker")
THUMBNAIL_COMMAND = (sys.executable, "-m", "farframe.convert.thumbnail")

MAX_LOG_BYTES = 8 * 1024**2
THUMBNAIL_SECONDS = 120.0
THUMBNAIL_MEMORY_BYTES = 4 * 1024**3
SINGLE_FILE_SUFFIXES = frozenset({".xyz", ".ply", ".e57", ".las", ".laz"})
"""Point clouds name no other files: only they and the files of their settings are fetched."""

_MAX_NEWS_BYTES = 256 * 1024
_DOWNLOADED, _CONVERTED, _PICTURED = 0.3, 0.85, 0.9
_CONVERTED_MARK = "converted"
_PR_SET_PDEATHSIG = 1
_KEPT_VARIABLES = frozenset(
    {"PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"}
)
_KEPT_PREFIXES = (
    "LC_",
    "PYTHON",
    "VK_",
    "XDG_",
    "MESA_",
    "LIBGL",
    "NVIDIA_",
    "CUDA_",
    "WGPU_",
    "FARFRAME_TEST_",
    "LP_",
)

INPUT_DENIED = ConversionEnd(
    code="InputContainerAccessDenied",
    message="Access to the input blob container was denied. Invalid access rights or invalid shared access signature.",
)
OUTPUT_DENIED = ConversionEnd(
    code="OutputContainerAccessDenied",
    message="Access to the output blob container was denied. Invalid access rights or invalid shared access signature.",
)
ASSET_MISSING = "Could not find the asset file in the storage account."
INPUT_INVALID = "Invalid input provided. Check logs in output container for details."
TOO_LARGE = "The conversion process exceeded its system resources, the asset is possibly too large."


class _Ended(Exception):  # noqa: N818 - an outcome
    """The conversion came to nothing: what the caller sees, and what the result file says."""

    def __init__(self, end: ConversionEnd, failure: ConversionFailed) -> None:
        super().__init__(end.message)
        self.end = end
        self.failure = failure


def main(worker_command: Sequence[str] = WORKER_COMMAND, thumbnail_command: Sequence[str] = THUMBNAIL_COMMAND) -> None:
    """Do the one order on standard input and end the process, with exit status 0 if that came to an end of any kind."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Storage clients look for credentials and proxies in the environment; only the order names them.
    for name in list(os.environ):
        if name not in _KEPT_VARIABLES and not name.startswith(_KEPT_PREFIXES):
            del os.environ[name]
    line = sys.stdin.buffer.readline()
    if not line:
        return
    order = msgspec.json.decode(line, type=ConversionOrder)
    adopt_orphans()
    threading.Thread(target=_end_with_input, daemon=True).start()
    probing = order.action == "probe"
    _send(asyncio.run(_probe(order)) if probing else Job(order, worker_command, thumbnail_command).run())
    # Not by the interpreter's end: a thread of the storage client that wants to tell it something just then aborts.
    os._exit(0)


def _end_with_input() -> None:
    """Standard input closes when whoever ordered the conversion is gone, or wants it no more."""
    # Below Python's buffer, whose lock this thread would hold when the interpreter ends.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    end_descendants()
    os._exit(1)


def _send(news: ConversionStep | ConversionEnd) -> None:
    os.write(sys.stdout.fileno(), msgspec.json.encode(news) + b"\n")


@contextlib.asynccontextmanager
async def _opened(order: ConversionOrder, place: StoragePlace, *, write: bool) -> AsyncIterator[Container]:
    folders = order.writable_folders if write else (*order.allowed_folders, *order.writable_folders)
    try:
        async with open_container(
            place,
            write=write,
            allowed_folders=folders,
            allowed_networks=order.allowed_networks,
            ca_file=order.ca_file,
        ) as container:
            yield container
    except FarframeError as error:
        raise StorageError("unreachable", error.message) from None


async def _probe(order: ConversionOrder) -> ConversionEnd:
    """Whether the credentials open both containers, one for reading, the other for writing."""
    for place, denied, write in ((order.source, INPUT_DENIED, False), (order.target, OUTPUT_DENIED, True)):
        if place.sas or place.kind == "file":
            continue
        try:
            async with _opened(order, place, write=write) as container:
                await (container.probe_writing() if write else container.probe_reading())
        except StorageError as error:
            if error.reason in ("denied", "refused"):
                return denied
    return ConversionEnd()


class Job:
    """One conversion. ``report`` is called with each stage and the fraction of the whole that is done."""

    def __init__(
        self,
        order: ConversionOrder,
        worker_command: Sequence[str] = WORKER_COMMAND,
        thumbnail_command: Sequence[str] = THUMBNAIL_COMMAND,
        report: Callable[[ConversionStep], None] = _send,
    ) -> None:
        self._order = order
        self._worker_command = worker_command
        self._thumbnail_command = thumbnail_command
        self._report = report
        self._last: tuple[str, int] = ("", -1)
        folder = Path(order.folder)
        self._folder = folder
        self._input, self._output, self._scratch = folder / "input", folder / "output", folder / "scratch"
        self._log = folder / "log" / "log.txt"
        self._bytes_read = 0

    def run(self) -> ConversionEnd:
        """All of it, in this thread: whoever starts the sandboxes must live as long as they do."""
        order = self._order
        end_leftovers(self._folder)
        for folder in (self._input, self._output, self._scratch, self._log.parent):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        end = ConversionEnd()
        try:
            try:
                self._bytes_read = asyncio.run(self._within_time(self._download()))
                mark = self._folder / _CONVERTED_MARK
                if not mark.exists():
                    shutil.rmtree(self._output)
                    shutil.rmtree(self._scratch)
                    self._output.mkdir(mode=0o700)
                    self._scratch.mkdir(mode=0o700)
                    self._convert()
                    self._step("thumbnail", _CONVERTED)
                    if order.thumbnail:
                        self._picture()
                    mark.touch()
            except StorageError as error:
                raise _source_failed(error) from None
            except OSError as error:
                raise _Ended(
                    ConversionEnd(code="InternalServerError", message="The service could not write its own disk."),
                    ConversionFailed(INTERNAL, details={"error": os.strerror(error.errno or 0)}),
                ) from None
        except _Ended as ended:
            end = ended.end
            result = self._output / f"{order.base_name}.result.json"
            if not result.is_file():
                write_result(self._output, order.base_name, order.conversion_id, failure=ended.failure)
        try:
            asyncio.run(self._within_time(self._upload(failed=bool(end.code))))
        except StorageError as error:
            end = end if end.code else _target_failed(error)
        return msgspec.structs.replace(end, bytes_read=self._bytes_read)

    async def _within_time(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(self._order.limits.transfer_seconds):
                return await work
        except TimeoutError:
            raise StorageError("unreachable", "The transfer took longer than is allowed.") from None

    def _step(self, stage: str, fraction: float) -> None:
        now = (stage, int(fraction * 1000))
        if now != self._last:
            self._last = now
            self._report(ConversionStep(stage=stage, fraction=fraction))

    # The steps ------------------------------------------------------------------------------------------------------

    async def _download(self) -> int:
        """Fetch what the prefix names; how many bytes that is. Raises StorageError, _Ended without the asset."""
        order = self._order
        self._step("listing", 0.0)
        if order.in_place:
            self._input = Path(order.source.container)
            try:
                return (await asyncio.to_thread((self._input / order.asset).stat)).st_size
            except OSError:
                raise _missing() from None
        async with _opened(order, order.source, write=False) as container:
            blobs = await container.list(
                max_files=order.limits.input_files,
                max_bytes=order.limits.disk_bytes,
                only=_files_of_single(order.asset),
            )
            if not any(blob.path == order.asset for blob in blobs):
                raise _missing()
            await asyncio.to_thread(self._forget_others, blobs)

            def progress(done: int, total: int) -> None:
                self._step("downloading", _DOWNLOADED * done / max(total, 1))

            return await container.download(blobs, self._input, self._folder / "input.journal", progress)

    def _forget_others(self, blobs: list[Blob]) -> None:
        """Remove files of an earlier attempt that are not in the container any more."""
        wanted = {self._input / blob.path for blob in blobs}
        for root, _, names in os.walk(self._input):
            for name in names:
                if Path(root, name) not in wanted:
                    Path(root, name).unlink()

    def _convert(self) -> None:
        """Run the worker. Raises _Ended."""
        order = self._order
        self._step("converting", _DOWNLOADED)
        limits = order.limits
        taken = 0 if order.in_place else folder_bytes([self._input])
        bounds = Bounds(limits.memory_bytes, max(limits.disk_bytes - taken, 1), limits.seconds)
        wanted = WorkerOrder(
            conversion_id=order.conversion_id,
            input_folder=str(self._input),
            asset=order.asset,
            output_folder=str(self._output),
            base_name=order.base_name,
            scratch_folder=str(self._scratch),
            limits=msgspec.structs.replace(limits, disk_bytes=bounds.disk_bytes),
            parent=os.getpid(),
        )
        share = _CONVERTED - _DOWNLOADED
        breach, end, status = self._in_sandbox(
            self._worker_command,
            msgspec.json.encode(wanted),
            bounds,
            lambda step: self._step(step.stage, _DOWNLOADED + share * step.fraction),
        )
        if breach is not None:
            failure = exceeded(breach)
        elif end is not None and not end.code:
            return
        elif end is not None:
            failure = ConversionFailed(end.code, end.title, end.details)
        elif status in (-signal.SIGXCPU, -signal.SIGXFSZ):
            failure = exceeded("time" if status == -signal.SIGXCPU else "disk")
        else:
            failure = ConversionFailed(
                INTERNAL,
                details={
                    "error": f"The conversion process ended unexpectedly ({_ending(status)}).",
                    "next step": "The log tells more. Check the model with a validator of its format.",
                },
            )
        told = f"{INPUT_INVALID} {failure.title} ({failure.code})"
        message = TOO_LARGE if failure.code == LIMITS_EXCEEDED else told
        if breach is not None or end is None:
            write_result(self._output, order.base_name, order.conversion_id, failure=failure)
        raise _Ended(ConversionEnd(code="ConversionProcessFailed", message=message), failure)

    def _picture(self) -> None:
        """Render the thumbnail. A conversion without one is still a conversion."""
        order = self._order
        bounds = Bounds(THUMBNAIL_MEMORY_BYTES, 1024**3, THUMBNAIL_SECONDS)
        wanted = ThumbnailOrder(
            asset=str(self._output / f"{order.base_name}.arrAsset"),
            picture=str(self._output / f"{order.base_name}.png"),
            scratch_folder=str(self._scratch),
            adapter=order.adapter,
            parent=os.getpid(),
        )
        breach, _, status = self._in_sandbox(
            self._thumbnail_command, msgspec.json.encode(wanted), bounds, lambda step: None
        )
        if breach is not None or status != 0:
            (self._output / f"{order.base_name}.png").unlink(missing_ok=True)
            with self._log.open("a", encoding="utf-8") as log:
                log.write(f"No thumbnail was rendered: {breach or _ending(status)}.\n")

    def _in_sandbox(
        self,
        command: Sequence[str],
        wanted: bytes,
        bounds: Bounds,
        on_step: Callable[[ConversionStep], None],
    ) -> tuple[Breach | None, WorkerEnd | None, int]:
        """Run a process under bounds. Which one it exceeded, what it said last, and how it ended."""
        end: WorkerEnd | None = None
        decoder = msgspec.json.Decoder(WorkerNews)

        def listen(stream: IO[bytes]) -> None:
            nonlocal end
            for line in iter(lambda: stream.readline(_MAX_NEWS_BYTES), b""):
                with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
                    news = decoder.decode(line)
                    if isinstance(news, WorkerEnd):
                        end = news
                    else:
                        on_step(news)

        with self._log.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._scratch,
                start_new_session=True,
            )
            assert process.stdin is not None
            assert process.stdout is not None
            listener = threading.Thread(target=listen, args=(process.stdout,), daemon=True)
            listener.start()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(wanted + b"\n")
                process.stdin.close()
            breach = supervise(process, bounds, [self._output, self._scratch, self._log.parent])
            listener.join()
            process.stdout.close()
        return breach, end, process.returncode

    async def _upload(self, *, failed: bool) -> None:
        """Put the results, the result file last. After a failure only it and the log. Raises StorageError."""
        order = self._order
        name = order.base_name
        await asyncio.to_thread(self._keep_log, self._output / f"{name}.log.txt")
        result = self._output / f"{name}.result.json"
        suffixes = [".log.txt"] if failed else [".info.json", ".png", ".log.txt", ".arrAsset"]
        files = [path for suffix in suffixes if (path := self._output / f"{name}{suffix}").is_file()] + [result]
        total = max(sum(path.lstat().st_size for path in files), 1)
        done = 0
        self._step("uploading", _PICTURED)
        async with _opened(order, order.target, write=True) as container:
            for path in files:
                before = done

                def progress(part: int, _whole: int, before: int = before) -> None:
                    self._step("uploading", _PICTURED + (1 - _PICTURED) * (before + part) / total)

                await container.upload(path, path.name, progress)
                done += path.lstat().st_size

    def _keep_log(self, target: Path) -> None:
        """The log's beginning, for those who ordered the conversion; folders of this machine are left out."""
        text = b""
        with contextlib.suppress(FileNotFoundError), self._log.open("rb") as log:
            text = log.read(MAX_LOG_BYTES)
        text = text.replace(str(self._folder).encode(), b"").replace(sys.prefix.encode(), b"")
        target.write_bytes(text.replace(str(Path(__file__).parents[2]).encode(), b""))


def _files_of_single(asset: str) -> frozenset[str] | None:
    """For a format that names no other files: what to fetch. Else ``None``, for everything."""
    path = PurePosixPath(asset)
    if path.suffix.lower() not in SINGLE_FILE_SUFFIXES:
        return None
    beside = (f"{path.stem}.ConversionSettings.json", "conversionSettings.json", f"{path.stem}.MaterialOverrides.json")
    return frozenset({asset, *(str(path.with_name(name)) for name in beside)})


def _missing() -> _Ended:
    """What the caller sees without an asset."""
    details = {
        "error": ASSET_MISSING,
        "next step": "Check blobPrefix and relativeInputAssetPath; upper and lower case differ.",
    }
    return _Ended(
        ConversionEnd(code="InputContainerError", message=ASSET_MISSING),
        ConversionFailed(INPUT_NOT_FOUND, details=details),
    )


def _source_failed(error: StorageError) -> _Ended:
    """What the caller sees when the input cannot be had."""
    code, end = INPUT_NOT_FOUND, ConversionEnd(code="InputContainerError", message=str(error))
    if error.reason == "denied":
        end = INPUT_DENIED
    elif error.reason == "missing":
        end = ConversionEnd(code="InputContainerError", message=f"{ASSET_MISSING} {error}")
    elif error.reason == "too large":
        code, end = LIMITS_EXCEEDED, ConversionEnd(code="ConversionProcessFailed", message=f"{TOO_LARGE} {error}")
    elif error.reason == "name":
        code = NAME_NOT_ALLOWED
    return _Ended(end, ConversionFailed(code, details={"error": end.message}))


def _target_failed(error: StorageError) -> ConversionEnd:
    if error.reason == "denied":
        return OUTPUT_DENIED
    return ConversionEnd(code="OutputContainerError", message=f"The results could not be written: {error}")


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"


if __name__ == "__main__":
    main()
