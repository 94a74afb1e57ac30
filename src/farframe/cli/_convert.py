"""``farframe convert``: local files by a process on this machine, files in storage by the service."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from farframe.cli._context import CommandError, context, emit, error_console, note, run_async
from farframe.protocol.conversion import (
    ConversionEnd,
    ConversionLimits,
    ConversionNews,
    ConversionOrder,
    StoragePlace,
)

MODEL_SUFFIXES = frozenset({".glb", ".gltf", ".fbx", ".obj", ".stl", ".ply", ".xyz", ".e57", ".las", ".laz"})
JOB_COMMAND = (sys.executable, "-m", "farframe.convert.job")

Show = Callable[[str, float], None]


def convert(source: str, out: str | None, *, conversion_id: str | None, wait: bool, memory: int) -> None:
    """Convert a local file or folder here, or the file that a URI names with the service."""
    if "://" in source:
        run_async(_remote(source, out, conversion_id, wait=wait))
    else:
        _local(Path(source).expanduser(), out, memory)


def _local(source: Path, out: str | None, memory: int) -> None:
    if out is not None and "://" in out:
        raise CommandError(
            "A local file is converted into a local folder. Upload it to storage first, or change --out."
        )
    model = _model(source)
    folder = Path(out).expanduser() if out is not None else Path.cwd()
    name = model.stem
    if folder.suffix == ".arrAsset":
        folder, name = folder.parent, folder.stem
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{folder} cannot be written: {error.strerror}. Choose another --out.") from None
    # Beside the output, so that what is large is on the same disk.
    work = Path(tempfile.mkdtemp(prefix=".farframe-convert-", dir=folder))
    try:
        order = ConversionOrder(
            conversion_id=name,
            folder=str(work),
            source=StoragePlace(kind="file", container=str(model.parent.resolve())),
            target=StoragePlace(kind="file", container=str(folder.resolve())),
            asset=model.name,
            base_name=name,
            limits=ConversionLimits(memory_bytes=memory),
            allowed_folders=(str(model.parent.resolve()),),
            writable_folders=(str(folder.resolve()),),
            in_place=True,
        )
        with _bar() as show:
            end = _run(order, show)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if end.code:
        raise CommandError(f"{end.message} See {folder / f'{name}.result.json'} and {folder / f'{name}.log.txt'}.")
    asset = folder / f"{name}.arrAsset"
    size = asset.stat().st_size
    emit({"asset": str(asset), "bytes": size, "input": str(model)}, f"{asset}  {size / 1e6:.1f} MB")


def _model(source: Path) -> Path:
    """The model that a path means: itself, or the only one in a folder."""
    if source.is_file():
        return source
    if not source.is_dir():
        raise CommandError(f"There is no file or folder {source}.")
    models = sorted(path for path in source.iterdir() if path.suffix.lower() in MODEL_SUFFIXES and path.is_file())
    if len(models) != 1:
        found = ", ".join(path.name for path in models[:5]) or "none"
        raise CommandError(f"{source} must hold one model, and holds {found}. Name the file itself.")
    return models[0]


def _run(order: ConversionOrder, show: Show) -> ConversionEnd:
    end = ConversionEnd(code="ConversionProcessFailed", message="The conversion process ended unexpectedly.")
    with subprocess.Popen(JOB_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(msgspec.json.encode(order) + b"\n")
            process.stdin.flush()
            for line in process.stdout:
                news: ConversionNews = msgspec.json.decode(line, type=ConversionNews)
                if isinstance(news, ConversionEnd):
                    end = news
                else:
                    show(news.stage, news.fraction)
        finally:
            # Its input closes, and it ends with all that it started.
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()
    return end


async def _remote(source: str, out: str | None, conversion_id: str | None, *, wait: bool) -> None:
    from farframe.client.conversions import StorageLocation, begin_conversion, wait_for_conversion

    given = StorageLocation.parse(source)
    if out is None and given.container.startswith("upload://"):
        raise CommandError("Results do not go into uploads. Name a folder of a storage with --out.")
    folder = given.path.rpartition("/")[0]
    name = ""
    target = StorageLocation(given.container, folder, given.sas)
    if out is not None:
        target = StorageLocation.parse(out if "://" in out else f"{given.container}/{out}")
        if target.path.endswith(".arrAsset"):
            path, _, name = target.path.rpartition("/")
            target = StorageLocation(target.container, path, target.sas)
        if target.container == given.container and not target.sas:
            target = StorageLocation(target.container, target.path, given.sas)
    key = conversion_id or str(uuid.uuid4())
    async with context.client() as client:
        conversion = await begin_conversion(client, key, given, target, name)
        if not wait:
            emit(_facts(conversion), key)
            return
        note(f"Conversion {key}")
        with _bar() as show:
            conversion = await wait_for_conversion(client, key, show)
    value = _facts(conversion)
    emit(value, str(value.get("asset", key)))


def _facts(conversion: Any) -> dict[str, Any]:
    value: dict[str, Any] = {"id": conversion.id, "status": str(conversion.status)}
    if conversion.output is not msgspec.UNSET:
        value["asset"] = conversion.output.output_asset_uri
    return value


@contextlib.contextmanager
def _bar() -> Iterator[Show]:
    """A progress bar on standard error; where that is no terminal, a line for each stage."""
    console = error_console()
    if not console.is_terminal:
        stages: list[str] = []

        def tell(stage: str, fraction: float) -> None:
            if stage not in stages:
                stages.append(stage)
                note(f"{stage} ({fraction:.0%})")

        yield tell
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<12}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=1.0)
        yield lambda stage, fraction: progress.update(task, description=stage[:40], completed=fraction)
