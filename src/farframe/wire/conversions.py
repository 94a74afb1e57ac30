"""Conversions as they appear on the wire, and the rules for the body that creates one.

Shared access signatures are secrets: they come in, go to whoever does the work, and appear in no answer, no ``repr``
and not in what is compared or kept.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import unquote, urlsplit

import msgspec

from farframe.wire.errors import BadRequest, ErrorDetail
from farframe.wire.ids import is_valid_id

ASSET_SUFFIX = ".arrAsset"
"""What the name of every converted asset ends in."""

MAX_URI_LENGTH = 2048
MAX_BLOB_NAME_LENGTH = 1024
"""The longest name that a blob can have: of a prefix and the path below it, together."""

MAX_SAS_LENGTH = 8192


class ConversionStatus(StrEnum):
    """The life of a conversion. ``Succeeded`` and ``Failed`` are final.

    ``Cancelled`` is described as well, but the official Python client does not know it as an end and would poll for
    ever: no conversion here gets it.
    """

    NOT_STARTED = "NotStarted"
    RUNNING = "Running"
    CANCELLED = "Cancelled"
    FAILED = "Failed"
    SUCCEEDED = "Succeeded"


class InputLocation(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel", frozen=True):
    """Where the input is: a container, a prefix in it that ends in a slash, and the asset's path below the prefix."""

    storage_container_uri: str
    blob_prefix: str | None = None
    relative_input_asset_path: str


class OutputLocation(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel", frozen=True):
    """Where the result goes: a container, a prefix in it that ends in a slash, and the file's name."""

    storage_container_uri: str
    blob_prefix: str | None = None
    output_asset_filename: str


class ConversionSettings(msgspec.Struct, kw_only=True, rename="camel", frozen=True):
    """The settings in their normal form, without secrets: what answers show and what retries are compared by."""

    input_location: InputLocation
    output_location: OutputLocation


class ConversionOutput(msgspec.Struct, kw_only=True, rename="camel"):
    """What a successful conversion made."""

    output_asset_uri: str


class Conversion(msgspec.Struct, kw_only=True, rename="camel"):
    """A conversion. The order of members is the order on the wire.

    ``output`` is there in ``Succeeded`` only; ``error`` always, null in every status but ``Failed``.
    """

    id: str
    creation_time: str
    settings: ConversionSettings
    output: ConversionOutput | msgspec.UnsetType = msgspec.UNSET
    error: ErrorDetail | None
    status: ConversionStatus


class ConversionProgress(msgspec.Struct, kw_only=True, rename="camel"):
    """How far a conversion is. ``stage`` names what is done just now; ``fraction`` is 0 to 1 of the whole."""

    id: str
    status: ConversionStatus
    stage: str
    fraction: float


class ConversionList(msgspec.Struct, kw_only=True):
    """A page of conversions; ``@nextLink`` is null on the last one."""

    conversions: list[Conversion]
    next_link: str | None = msgspec.field(name="@nextLink")


class CreateInputLocation(msgspec.Struct, kw_only=True, rename="camel"):
    """An input location in a request, for the interface description."""

    storage_container_uri: str
    storage_container_read_list_sas: str | None = None
    blob_prefix: str | None = None
    relative_input_asset_path: str


class CreateOutputLocation(msgspec.Struct, kw_only=True, rename="camel"):
    """An output location in a request, for the interface description."""

    storage_container_uri: str
    storage_container_write_sas: str | None = None
    blob_prefix: str | None = None
    output_asset_filename: str | None = None


class CreateConversionSettings(msgspec.Struct, kw_only=True, rename="camel"):
    """The settings in a request, for the interface description."""

    input_location: CreateInputLocation
    output_location: CreateOutputLocation


class CreateConversion(msgspec.Struct, kw_only=True):
    """The body of a create request, for the interface description; :func:`parse_conversion` reads it."""

    settings: CreateConversionSettings


@dataclass(frozen=True, slots=True)
class ConversionRequest:
    """What a caller asks for. The signatures have no leading ``?`` and are empty where none was given."""

    settings: ConversionSettings
    input_sas: str = field(default="", repr=False)
    output_sas: str = field(default="", repr=False)


def parse_conversion(body: bytes) -> ConversionRequest:
    """The settings in the body of a create request, brought into their normal form. Unknown members are ignored.

    Optional members may be absent, null or empty. Raises :class:`BadRequest` for anything that is not as described.
    """
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise BadRequest("The request body is not valid JSON.") from None
    if not isinstance(value, dict):
        raise BadRequest("The request body must be a JSON object.")
    settings = _object(value, "settings", "settings")
    source = _object(settings, "inputLocation", "settings.inputLocation")
    target = _object(settings, "outputLocation", "settings.outputLocation")
    input_path = _blob_name(_required(source, "relativeInputAssetPath"), "relativeInputAssetPath")
    input_prefix = _prefix(source, input_path)
    output_name = _output_name(target, input_path)
    return ConversionRequest(
        settings=ConversionSettings(
            input_location=InputLocation(
                storage_container_uri=_container(source, "inputLocation", uploads=True),
                blob_prefix=input_prefix,
                relative_input_asset_path=input_path,
            ),
            output_location=OutputLocation(
                storage_container_uri=_container(target, "outputLocation"),
                blob_prefix=_prefix(target, output_name),
                output_asset_filename=output_name,
            ),
        ),
        input_sas=_sas(source, "storageContainerReadListSas"),
        output_sas=_sas(target, "storageContainerWriteSas"),
    )


def output_asset_uri(settings: ConversionSettings) -> str:
    """Where the converted asset goes: container, prefix and name."""
    place = settings.output_location
    return f"{place.storage_container_uri.rstrip('/')}/{place.blob_prefix or ''}{place.output_asset_filename}"


def _object(members: dict[str, object], name: str, shown: str) -> dict[str, object]:
    value = members.get(name)
    if value is None:
        raise BadRequest(f"The {shown} value is required.")
    if not isinstance(value, dict):
        raise BadRequest(f"The {shown} value must be a JSON object.")
    return value


def _text(members: dict[str, object], name: str) -> str:
    value = members.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRequest(f"The {name} value must be a string.")
    return value


def _required(members: dict[str, object], name: str) -> str:
    value = _text(members, name)
    if not value:
        raise BadRequest(f"The {name} value is required.")
    return value


def _container(members: dict[str, object], location: str, *, uploads: bool = False) -> str:
    """The URI of a container as it was sent, perhaps of an upload. The message never shows it: people paste signatures
    behind it."""
    shown = f"The storageContainerUri value of the {location}"
    uri = _text(members, "storageContainerUri")
    if not uri:
        raise BadRequest(f"{shown} is required.")
    if len(uri) > MAX_URI_LENGTH:
        raise BadRequest(f"{shown} is longer than {MAX_URI_LENGTH} characters.")
    problem = BadRequest(f"{shown} is not the URI of a container, like https://account.blob.example.net/container.")
    if not all("!" <= character <= "~" for character in uri) or "\\" in uri:
        raise problem
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        raise problem from None
    names = parts.path.strip("/").split("/")
    scheme = parts.scheme.lower()
    if scheme == "file":
        # A folder on the server; a name of a host would be somebody else's.
        if parts.netloc.lower() not in ("", "localhost") or not parts.path.startswith("/") or "?" in uri or "#" in uri:
            raise problem
        if ".." in unquote(parts.path).split("/") or "\0" in unquote(parts.path):
            raise problem
        return uri
    if scheme == "upload":
        if not uploads:
            raise BadRequest(f"{shown} must not be an upload. Results go to storage: use a container or a folder.")
        if uri.rstrip("/") != f"{parts.scheme}://{parts.netloc}" or not is_valid_id(parts.netloc):
            raise problem
        return uri
    bucket = scheme in ("s3", "gs") and not parts.path.strip("/") and parts.port is None
    if not parts.hostname or not (bucket or (scheme in ("https", "http") and all(names))):
        raise problem
    if parts.username is not None or parts.password is not None or "#" in uri or "?" in uri:
        raise BadRequest(
            f"{shown} must have no user, query or fragment. Send a shared access signature in its own member."
        )
    if any(name in (".", "..") for name in names) or "%" in parts.path:
        raise problem
    return uri


def _prefix(members: dict[str, object], rest: str) -> str | None:
    prefix = _text(members, "blobPrefix")
    if not prefix:
        return None
    prefix = _blob_name(prefix if prefix.endswith("/") else f"{prefix}/", "blobPrefix")
    if len(prefix) + len(rest) > MAX_BLOB_NAME_LENGTH:
        raise BadRequest(
            f"The blobPrefix value and the path below it are longer than {MAX_BLOB_NAME_LENGTH} characters."
        )
    return prefix


def _output_name(members: dict[str, object], input_path: str) -> str:
    name = _text(members, "outputAssetFilename")
    if not name:
        plain = input_path.rstrip("/").rpartition("/")[2]
        stem, dot, _ = plain.rpartition(".")
        name = (stem if dot and stem else plain) + ASSET_SUFFIX
    if not name.endswith(ASSET_SUFFIX) or name == ASSET_SUFFIX:
        raise BadRequest(f"The outputAssetFilename value must be a file name that ends in {ASSET_SUFFIX}.")
    if "/" in name:
        raise BadRequest("The outputAssetFilename value must be a name without folders. Use blobPrefix for these.")
    return _blob_name(name, "outputAssetFilename")


def _blob_name(value: str, name: str) -> str:
    """A blob's name, or a part of one. Parts like ``..`` could lead out of the container, once they are in a URL."""
    if len(value) > MAX_BLOB_NAME_LENGTH:
        raise BadRequest(f"The {name} value is longer than {MAX_BLOB_NAME_LENGTH} characters.")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise BadRequest(f"The {name} value must be text without control characters.")
    if any(part in (".", "..") for part in value.replace("\\", "/").split("/")):
        raise BadRequest(f"The {name} value must not hold the parts '.' and '..'.")
    return value


def _sas(members: dict[str, object], name: str) -> str:
    value = _text(members, name).removeprefix("?")
    if len(value) > MAX_SAS_LENGTH:
        raise BadRequest(f"The {name} value is longer than {MAX_SAS_LENGTH} characters.")
    return value
