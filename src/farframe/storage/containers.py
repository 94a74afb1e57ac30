"""URIs of containers: what kind of storage they name, without touching it.

https://<account>.<domain>/<container>            Azure Blob Storage
https://<host>[:<port>]/<account>/<container>     the same where the account is part of the path, as in emulators
http://...                                        as https, for networks that the operator lists only
s3://<bucket>                                     S3, of Amazon or of whoever the operator's configuration names
gs://<bucket>                                     Google Cloud Storage
file:///<absolute folder>                         a folder on the server
upload://<upload id>                              what the account has uploaded to the service under that id
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

Kind = Literal["azure", "s3", "gcs", "file", "upload"]

UPLOAD_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


class ContainerUriError(ValueError):
    """The URI names no container."""


@dataclass(frozen=True, slots=True)
class ContainerUri:
    """A parsed URI. ``endpoint`` is the URL of the storage account, for Azure; ``host`` has its port where that is not
    the scheme's own; ``container`` is a container's or bucket's name, an absolute folder, or the id of an upload."""

    kind: Kind
    container: str
    host: str = ""
    endpoint: str = ""
    account: str = ""


def parse_container_uri(uri: str) -> ContainerUri:
    """What kind of container that is. Raises :class:`ContainerUriError`, whose message does not repeat the URI."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        raise ContainerUriError("The URI is malformed.") from None
    scheme = parts.scheme.lower()
    if parts.username is not None or parts.password is not None or "?" in uri or "#" in uri:
        raise ContainerUriError("The URI of a container has no user, query or fragment.")
    if scheme == "file":
        return _folder(parts.netloc, parts.path)
    if scheme == "upload":
        # Not the host name: that is in lower case.
        if parts.path not in ("", "/") or not UPLOAD_ID.fullmatch(parts.netloc):
            raise ContainerUriError("An upload is named like upload://engine-1; folders go into blobPrefix.")
        return ContainerUri("upload", parts.netloc)
    host = (parts.hostname or "").lower()
    names = parts.path.strip("/").split("/") if parts.path.strip("/") else []
    if not host or any(name in ("", ".", "..") for name in names) or "%" in parts.path:
        raise ContainerUriError("The URI names no container.")
    if scheme in ("s3", "gs"):
        if names or port is not None:
            raise ContainerUriError(f"A bucket is named like {scheme}://bucket; folders go into blobPrefix.")
        return ContainerUri("s3" if scheme == "s3" else "gcs", parts.netloc)
    if scheme not in ("https", "http"):
        raise ContainerUriError("The URI's scheme is none of https, s3, gs, file and upload.")
    if len(names) not in (1, 2):
        raise ContainerUriError("A container is named like https://account.blob.example.net/container.")
    bracketed = f"[{host}]" if ":" in host else host
    address = bracketed if port in (None, {"https": 443, "http": 80}[scheme]) else f"{bracketed}:{port}"
    if len(names) == 1:
        return ContainerUri("azure", names[0], address, f"{scheme}://{address}", host.partition(".")[0])
    return ContainerUri("azure", names[1], address, f"{scheme}://{address}/{names[0]}", names[0])


def _folder(host: str, path: str) -> ContainerUri:
    folder = unquote(path)
    if host.lower() not in ("", "localhost") or not folder.startswith("/") or "\0" in folder:
        raise ContainerUriError("A folder is named like file:///folder, on the server itself.")
    if ".." in folder.split("/"):
        raise ContainerUriError("The path of a folder holds no '..'.")
    return ContainerUri("file", folder)


def is_below(path: Path, folders: tuple[str, ...]) -> bool:
    """Whether a path, links followed, is one of the folders or below one of them."""
    try:
        resolved = path.resolve()
        return any(resolved.is_relative_to(Path(folder).resolve()) for folder in folders)
    except (OSError, RuntimeError, ValueError):
        return False
