"""Conversions over the REST API: begin one, ask how far it is, wait for its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from farframe.client.errors import FarframeClientError, LocalFileError
from farframe.wire import conversions as wire

if TYPE_CHECKING:
    from farframe.client.management import RemoteRenderingClient

POLL_SECONDS = 1.0

ProgressCallback = Callable[[str, float], None]
"""Called with the stage's name and the fraction (0 to 1) of the whole that is done."""


class ConversionFailedError(FarframeClientError):
    """The conversion ended without an asset; ``code`` is the service's."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message, next_step="The result file and the log in the output container say more.")
        self.code = code


@dataclass(frozen=True, slots=True)
class StorageLocation:
    """A file or folder in a container. ``sas`` is a signature, a secret; ``path`` is below the container."""

    container: str
    path: str
    sas: str = field(default="", repr=False)

    @classmethod
    def parse(cls, uri: str) -> StorageLocation:
        """Read ``https://account.host/container/path?sas``, ``s3://bucket/path``, ``gs://...``, ``file:///path``, or
        ``upload://id/path`` of an uploaded file.

        Where the host is an address or a plain name, as with emulators, the account is the path's first part. Raises
        LocalFileError for anything else.
        """
        parts = urlsplit(uri)
        scheme, path = parts.scheme.lower(), unquote(parts.path)
        if scheme in ("s3", "gs", "upload") and parts.netloc:
            return cls(f"{scheme}://{parts.netloc}", path.strip("/"))
        if scheme == "file":
            folder, _, name = parts.path.rstrip("/").rpartition("/")
            if folder and name:
                return cls(f"file://{folder}", unquote(name))
        if scheme in ("https", "http") and parts.hostname:
            emulated = parts.hostname.replace(".", "").isdigit() or "." not in parts.hostname or ":" in parts.hostname
            names = path.strip("/").split("/")
            count = 2 if emulated else 1
            if len(names) >= count and all(names[:count]):
                container = f"{scheme}://{parts.netloc}/{'/'.join(names[:count])}"
                return cls(container, "/".join(names[count:]), parts.query)
        raise LocalFileError(
            "The URI names no file in a container.",
            next_step="Use https://account.blob.example.net/container/folder/model.fbx?SAS, s3://bucket/model.fbx, "
            "upload://id/model.fbx or file:///folder/model.fbx.",
        )


async def begin_conversion(
    client: RemoteRenderingClient, conversion_id: str, source: StorageLocation, target: StorageLocation, name: str = ""
) -> wire.Conversion:
    """Have the service convert the file ``source`` into the folder ``target``, as ``name`` (in ``.arrAsset``).

    The folder of the file is read as a whole. The same id with the same places may be sent again.
    """
    from farframe.client.management import decode

    folder, _, asset = source.path.rpartition("/")
    body = wire.CreateConversion(
        settings=wire.CreateConversionSettings(
            input_location=wire.CreateInputLocation(
                storage_container_uri=source.container,
                storage_container_read_list_sas=source.sas or None,
                blob_prefix=folder or None,
                relative_input_asset_path=asset,
            ),
            output_location=wire.CreateOutputLocation(
                storage_container_uri=target.container,
                storage_container_write_sas=target.sas or None,
                blob_prefix=target.path or None,
                output_asset_filename=name or None,
            ),
        )
    )
    response = await client._http.request(
        "PUT", _url(client, conversion_id), what=f"The conversion {conversion_id}", json=body
    )
    return decode(response, wire.Conversion)


async def get_conversion(client: RemoteRenderingClient, conversion_id: str) -> wire.Conversion:
    """The conversion of that id. Raises NotFoundError."""
    from farframe.client.management import decode

    response = await client._http.request("GET", _url(client, conversion_id), what=f"The conversion {conversion_id}")
    return decode(response, wire.Conversion)


async def wait_for_conversion(
    client: RemoteRenderingClient, conversion_id: str, progress: ProgressCallback = lambda stage, fraction: None
) -> wire.Conversion:
    """Wait until the conversion has succeeded. Raises :class:`ConversionFailedError`."""
    from farframe.client.management import decode

    while True:
        response = await client._http.request(
            "GET", _url(client, conversion_id, "progress"), what=f"The conversion {conversion_id}"
        )
        told = decode(response, wire.ConversionProgress)
        progress(told.stage, told.fraction)
        if told.status in (wire.ConversionStatus.SUCCEEDED, wire.ConversionStatus.FAILED):
            break
        await asyncio.sleep(POLL_SECONDS)
    conversion = await get_conversion(client, conversion_id)
    if conversion.error is not None:
        raise ConversionFailedError(conversion.error.message, code=conversion.error.code)
    return conversion


def _url(client: RemoteRenderingClient, conversion_id: str, rest: str = "") -> str:
    name = f"conversions/{quote(conversion_id, safe='')}"
    return client._http.account_url(f"{name}/{rest}" if rest else name)
