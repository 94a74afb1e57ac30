"""What the service and the process of one conversion say to each other. No I/O here.

The process reads one :class:`ConversionOrder` as a JSON line on standard input, and writes JSON lines:

    ConversionStep*  ConversionEnd          for ``action = "convert"``
    ConversionEnd                           for ``action = "probe"``

Orders hold secrets: they travel through the pipe only, and ``repr`` shows none of them.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class StoragePlace(msgspec.Struct, frozen=True, kw_only=True):
    """A container, a prefix in it, and what opens it.

    ``kind`` says how it is spoken to. ``endpoint`` is the URL of the storage account (``azure``) or of the S3 server
    (``s3``; empty for Amazon's own); ``container`` the container's or bucket's name, or an absolute folder (``file``).
    ``prefix`` is empty or ends in a slash. Of the secrets, ``sas`` is a signature without its question mark, ``key`` an
    account's key, a secret access key or a service account in JSON, ``key_id`` the id of an access key.
    """

    kind: Literal["azure", "s3", "gcs", "file"]
    endpoint: str = ""
    account: str = ""
    container: str
    prefix: str = ""
    region: str = ""
    sas: str = ""
    key_id: str = ""
    key: str = ""

    def __repr__(self) -> str:
        return f"StoragePlace(kind={self.kind!r}, endpoint={self.endpoint!r}, container={self.container!r})"


class ConversionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one conversion may cost. ``memory_bytes`` counts all its processes together, ``disk_bytes`` input, output
    and temporary files, ``seconds`` the time between begin and end of the conversion itself, transfers apart."""

    memory_bytes: int = 8 * 1024**3
    disk_bytes: int = 100 * 1024**3
    seconds: float = 4 * 3600.0
    transfer_seconds: float = 6 * 3600.0
    input_files: int = 20_000


class ConversionOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What to convert. ``folder`` is the job's own; it is kept between attempts, so that these can go on.

    ``asset`` is the path of the model below the input's prefix, ``base_name`` the output's name without its extension.
    ``allowed_folders`` are those below which local files may be read, ``writable_folders`` those for results;
    ``allowed_networks`` are spoken to although they are private, and without TLS.
    """

    action: Literal["convert", "probe"] = "convert"
    conversion_id: str = ""
    folder: str = ""
    source: StoragePlace
    target: StoragePlace
    asset: str = ""
    base_name: str = ""
    limits: ConversionLimits = ConversionLimits()
    allowed_folders: tuple[str, ...] = ()
    writable_folders: tuple[str, ...] = ()
    allowed_networks: tuple[str, ...] = ()
    ca_file: str = ""
    in_place: bool = False
    """Whether the source, a folder, is read where it is, and not copied first."""
    thumbnail: bool = True
    adapter: Literal["auto", "gpu", "cpu"] = "auto"


class ThumbnailOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Which converted asset to draw, and where the PNG goes. For the process that does it, whose parent is ``parent``;
    the scratch folder is its working and temporary folder."""

    asset: str
    picture: str
    scratch_folder: str
    adapter: Literal["auto", "gpu", "cpu"] = "auto"
    parent: int


class ConversionStep(msgspec.Struct, frozen=True, kw_only=True, tag="step"):
    """How far it is: the stage's name, and the fraction of the whole, 0 to 1."""

    stage: str
    fraction: float


class ConversionEnd(msgspec.Struct, frozen=True, kw_only=True, tag="end"):
    """How it ended. ``code`` is empty after success; else it and ``message`` are for the caller."""

    code: str = ""
    message: str = ""
    bytes_read: int = 0


ConversionNews = ConversionStep | ConversionEnd
