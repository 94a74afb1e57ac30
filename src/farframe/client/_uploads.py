"""Which local files make up a model, and how they are sent.

    given                    sent
    -----------------------  ---------------------------------------------------------------------------
    model.glb, other file    the file
    model.gltf               the file and the files that it refers to, below its folder and nowhere else
    folder                   all files in it (hidden ones left out); the one model file on top is the main one

What a .gltf refers to is decided by its author, who may be hostile: a reference out of its folder is refused, so that
a model cannot carry private files of this machine to a service. Naming a folder sends that folder knowingly.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit

import httpx
import msgspec

from farframe.client._http import ServiceHttp
from farframe.client.errors import LocalFileError, ServiceError
from farframe.wire.extensions import UploadedFile

MODEL_SUFFIXES = (".glb", ".gltf")
MAX_FILES = 10_000
MAX_GLTF_BYTES = 256 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024
UPLOAD_TIMEOUT = httpx.Timeout(60.0, connect=10.0, read=600.0)


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """How far an upload is, in bytes and files; ``name`` is the file being sent, relative to the model's folder."""

    sent_bytes: int
    total_bytes: int
    name: str
    file_count: int

    @property
    def fraction(self) -> float:
        """0 to 1."""
        return self.sent_bytes / self.total_bytes if self.total_bytes else 1.0


UploadCallback = Callable[[UploadProgress], None]


@dataclass(frozen=True, slots=True)
class LocalModel:
    """Files to send: ``files`` maps the path inside the upload (forward slashes) to the local file, ``main`` is one."""

    main: str
    files: dict[str, Path]


class _Reference(msgspec.Struct):
    uri: str | None = None


class _Gltf(msgspec.Struct):
    buffers: list[_Reference] = []
    images: list[_Reference] = []


def is_uri(model: str | os.PathLike[str]) -> bool:
    """Whether ``model`` is a URI for the render server rather than a path on this machine."""
    return isinstance(model, str) and "://" in model


def collect(path: Path) -> LocalModel:
    """The files of a model. Raises LocalFileError."""
    try:
        if path.is_dir():
            return _collect_folder(path)
        if not path.exists():
            raise LocalFileError(
                f"There is no file {path}.",
                next_step="Name a file or a folder with a model that is there, or a URI such as builtin://Engine.",
            )
        if not path.is_file():
            raise LocalFileError(f"{path} is not a file.", next_step="Name a .glb or .gltf file, or a folder with one.")
        if path.suffix.lower() == ".gltf":
            return _collect_gltf(path)
        return LocalModel(path.name, {path.name: path})
    except OSError as error:
        raise LocalFileError(
            f"{error.filename or path} cannot be read: {error.strerror}.", next_step="Check its permissions."
        ) from error


def _collect_folder(folder: Path) -> LocalModel:
    files: dict[str, Path] = {}
    real = folder.resolve()
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(root, name)
            # A link out of the folder may have come with a downloaded model: what it names was not meant to be sent.
            if name.startswith(".") or not file.is_file() or not file.resolve().is_relative_to(real):
                continue
            files[file.relative_to(folder).as_posix()] = file
            if len(files) > MAX_FILES:
                raise LocalFileError(
                    f"{folder} holds more than {MAX_FILES} files.", next_step="Put the model into a folder of its own."
                )
    models = [name for name in files if name.lower().endswith(MODEL_SUFFIXES)]
    candidates = [name for name in models if "/" not in name] or models
    if not candidates:
        raise LocalFileError(
            f"{folder} holds no .glb or .gltf file.", next_step="Name the folder that holds the model, or the model."
        )
    if len(candidates) > 1:
        listed = ", ".join(candidates[:5]) + (", ..." if len(candidates) > 5 else "")
        raise LocalFileError(f"{folder} holds several models: {listed}.", next_step="Name one of these files instead.")
    return LocalModel(candidates[0], files)


def _collect_gltf(path: Path) -> LocalModel:
    if path.stat().st_size > MAX_GLTF_BYTES:
        raise LocalFileError(f"{path} is larger than {MAX_GLTF_BYTES} bytes.", next_step="Convert it to .glb first.")
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_Gltf)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise LocalFileError(
            f"{path} is not a glTF file: {error}.", next_step="Export it again, or name another file."
        ) from None
    files = {path.name: path}
    folder = path.parent.resolve()
    for reference in (*content.buffers, *content.images):
        if reference.uri is None or reference.uri.startswith("data:"):
            continue
        name, file = _resolve(reference.uri, path, folder)
        files[name] = file
        if len(files) > MAX_FILES:
            raise LocalFileError(
                f"{path} refers to more than {MAX_FILES} files.", next_step="Convert it to .glb first."
            )
    return LocalModel(path.name, files)


def _resolve(uri: str, gltf: Path, folder: Path) -> tuple[str, Path]:
    """The name inside the upload and the local file of a reference."""
    shown = uri if len(uri) <= 100 else uri[:97] + "..."
    outside = LocalFileError(
        f"{gltf} refers to {shown!r}, which is not in its folder.",
        next_step="Name the folder that holds all files of the model instead, or convert it to .glb.",
    )
    try:
        parts = urlsplit(uri)
    except ValueError:
        raise outside from None
    if parts.scheme or parts.netloc or not parts.path or "\0" in unquote(parts.path):
        raise outside
    relative = PurePosixPath(unquote(parts.path))
    if relative.is_absolute() or ".." in relative.parts:
        raise outside
    file = folder / relative
    if not file.resolve().is_relative_to(folder):
        raise outside
    if not file.is_file():
        raise LocalFileError(
            f"{gltf} refers to {shown!r}, which does not exist.", next_step="Copy the missing file next to the model."
        )
    return relative.as_posix(), file


async def send(http: ServiceHttp, model: LocalModel, progress: UploadCallback | None) -> str:
    """Send a model's files, the main one last, and return the main one's URI. Raises LocalFileError, ServiceError."""
    upload_id = str(uuid.uuid4())
    order = [name for name in model.files if name != model.main] + [model.main]
    try:
        sizes = {name: model.files[name].stat().st_size for name in order}
    except OSError as error:
        raise LocalFileError(f"{error.filename} cannot be read: {error.strerror}.", next_step="Try again.") from error
    total = sum(sizes.values())
    done = 0
    uri = ""
    for name in order:

        def report(sent: int, name: str = name, before: int = done) -> None:
            if progress is not None:
                progress(UploadProgress(before + sent, total, name, len(order)))

        report(0)
        file, size = model.files[name], sizes[name]

        def body(file: Path = file, size: int = size, report: Callable[[int], None] = report) -> AsyncIterator[bytes]:
            return _read(file, size, report)

        response = await http.request(
            "PUT",
            http.account_url(f"uploads/{upload_id}/{quote(name)}"),
            what=f"The upload of {name}",
            body=body,
            headers={"Content-Length": str(size), "Content-Type": "application/octet-stream"},
            timeout=UPLOAD_TIMEOUT,
        )
        done += size
        report(size)
        try:
            uri = msgspec.json.decode(response.content, type=UploadedFile).uri
        except (msgspec.DecodeError, UnicodeError) as error:
            raise ServiceError(
                "The service answered an upload with something else than its URI.",
                status=response.status_code,
                next_step="Check that service and client have the same version.",
            ) from error
    return uri


async def _read(file: Path, size: int, report: Callable[[int], None]) -> AsyncIterator[bytes]:
    """Exactly ``size`` bytes of a file in chunks, read beside the event loop."""
    changed = LocalFileError(f"{file} changed while it was being sent.", next_step="Try again when it is complete.")
    try:
        stream = await asyncio.to_thread(file.open, "rb")
    except OSError as error:
        raise LocalFileError(f"{file} cannot be read: {error.strerror}.", next_step="Check its permissions.") from error
    with contextlib.closing(stream):
        sent = 0
        while sent < size:
            chunk = await asyncio.to_thread(stream.read, min(CHUNK_BYTES, size - sent))
            if not chunk:
                raise changed
            yield chunk
            sent += len(chunk)
            report(sent)
        if await asyncio.to_thread(stream.read, 1):
            raise changed
