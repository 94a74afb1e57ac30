"""Whose storage conversions may use, and with which credentials: a signature that came along, or the operator's own.

azure    the request's signature, else ``storage_credentials`` of that account at that host
s3, gs   ``storage_credentials`` of that bucket
file     folders of ``allowed_folders`` (to read), of ``writable_folders`` (both ways)
upload   the account's own uploads (to read)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from farframe.protocol.conversion import ConversionEnd, ConversionNews, ConversionOrder, StoragePlace
from farframe.service.config import ServiceConfig, StorageCredentials
from farframe.service.uploads import UPLOADS_FOLDER
from farframe.storage.containers import ContainerUriError, is_below, parse_container_uri
from farframe.wire.conversions import ConversionRequest, ConversionSettings

log = structlog.get_logger("farframe.service")

PROBE_SECONDS = 20.0


class ConversionStorage:
    """Turns the places of a request into places with credentials."""

    def __init__(self, config: ServiceConfig, job_command: Sequence[str]) -> None:
        self._config = config
        self._job_command = tuple(job_command)

    def order(
        self, account_id: str, settings: ConversionSettings, input_sas: str, output_sas: str
    ) -> ConversionOrder | None:
        """The order for these settings as far as storage goes, or ``None`` if the account may not use one of them."""
        given, wanted = settings.input_location, settings.output_location
        source = self._place(account_id, given.storage_container_uri, given.blob_prefix, input_sas, write=False)
        target = self._place(account_id, wanted.storage_container_uri, wanted.blob_prefix, output_sas, write=True)
        if source is None or target is None:
            return None
        return ConversionOrder(
            source=source,
            target=target,
            asset=given.relative_input_asset_path.lstrip("/"),
            base_name=wanted.output_asset_filename.removesuffix(".arrAsset"),
            allowed_folders=(
                # An upload is in a folder that the operator need not list.
                (source.container,)
                if given.storage_container_uri.lower().startswith("upload:")
                else self._config.allowed_folders
            ),
            writable_folders=self._config.writable_folders,
            allowed_networks=self._config.allowed_networks,
            ca_file=self._config.download_ca_file,
        )

    async def permits(self, account_id: str, request: ConversionRequest) -> bool:
        """Whether the account may use both places. Linked storage is asked; whether a signature is good shows later."""
        order = self.order(account_id, request.settings, request.input_sas, request.output_sas)
        if order is None:
            return False
        if all(place.sas or place.kind == "file" for place in (order.source, order.target)):
            return True
        return await self._probe(order)

    async def _probe(self, order: ConversionOrder) -> bool:
        """Ask storage, in a process of its own; storage that does not answer is taken for willing."""
        process = await asyncio.create_subprocess_exec(
            *self._job_command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                # Left open: the process ends when this closes.
                process.stdin.write(msgspec.json.encode(msgspec.structs.replace(order, action="probe")) + b"\n")
                news: ConversionNews = msgspec.json.decode(await process.stdout.readline(), type=ConversionNews)
        except (TimeoutError, OSError, msgspec.MsgspecError):
            return True
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        return not (isinstance(news, ConversionEnd) and news.code)

    def _place(self, account_id: str, uri: str, prefix: str | None, sas: str, *, write: bool) -> StoragePlace | None:
        try:
            container = parse_container_uri(uri)
        except ContainerUriError:
            return None
        if container.kind == "upload":
            # What is read lies below the account's own folder, whatever the prefix says: it holds no "..".
            folder = self._config.data_path.resolve() / UPLOADS_FOLDER / account_id / container.container
            return None if write else StoragePlace(kind="file", container=str(folder), prefix=prefix or "")
        if container.kind == "file":
            folders = self._config.writable_folders if write else self._readable
            allowed = is_below(Path(container.container), folders)
            return StoragePlace(kind="file", container=container.container, prefix=prefix or "") if allowed else None
        plain = StoragePlace(
            kind=container.kind,
            endpoint=container.endpoint,
            account=container.account,
            container=container.container,
            prefix=prefix or "",
        )
        if sas and container.kind == "azure":
            return msgspec.structs.replace(plain, sas=sas)
        for entry in self._config.storage_credentials:
            if entry.kind != container.kind or ("write" if write else "read") not in entry.access:
                continue
            if entry.accounts and account_id not in entry.accounts:
                continue
            if entry.name != (container.account if container.kind == "azure" else container.container):
                continue
            # The operator's credentials go to the host that the operator named, and to no other of that name.
            if container.kind == "azure" and azure_endpoint(entry) != container.endpoint.lower():
                continue
            return msgspec.structs.replace(
                plain,
                endpoint=plain.endpoint or entry.endpoint,
                region=entry.region,
                key_id=entry.key_id,
                key=entry.key,
            )
        return None

    @property
    def _readable(self) -> tuple[str, ...]:
        return (*self._config.allowed_folders, *self._config.writable_folders)


def azure_endpoint(entry: StorageCredentials) -> str:
    """The URL of a storage account, in lower case and without a slash at its end."""
    return (entry.endpoint or f"https://{entry.name}.blob.core.windows.net").lower().rstrip("/")
