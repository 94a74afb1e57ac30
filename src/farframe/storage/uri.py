"""Model URIs: parsed and classified, without touching what they name.

builtin://Engine                                    a model that comes with the server
upload://<upload id>/<path>                         a file of one of the account's uploads
file:///<absolute path>                             a file below a folder that the operator allows
https://<host>/<path>[?<query>]                     a file on the web; a query (a SAS, say) is a secret
http://...                                          as https, for networks that the operator lists only
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import unquote, urlsplit

import httpx

from farframe.protocol.errors import FarframeError, Result
from farframe.storage.containers import UPLOAD_ID

MAX_URI_LENGTH = 8_192
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class BuiltinUri:
    """``builtin://<name>``."""

    name: str


@dataclass(frozen=True, slots=True)
class UploadUri:
    """``upload://<upload id>/<path>``; ``path`` is relative, decoded, and holds neither ``.`` nor ``..``."""

    upload_id: str
    path: str


@dataclass(frozen=True, slots=True)
class FileUri:
    """``file:///<path>``; ``path`` is absolute and decoded."""

    path: str


@dataclass(frozen=True, slots=True)
class WebUri:
    """``https://`` or ``http://``. ``url`` holds the query and is not shown by ``repr``; ``shown`` is without it."""

    url: httpx.URL = field(repr=False)

    @property
    def shown(self) -> str:
        """The URL without its query: fit for messages and logs."""
        return shown_url(self.url)


ModelUri = BuiltinUri | UploadUri | FileUri | WebUri


def parse_model_uri(uri: str) -> ModelUri:
    """What kind of URI this is. Raises :class:`FarframeError` with ``INVALID_URI`` if it is none that can be loaded.

    Messages never repeat the URI: it may hold a secret.
    """
    if not uri or len(uri) > MAX_URI_LENGTH:
        invalid(f"A model's URI has 1 to {MAX_URI_LENGTH:,} characters.")
    scheme, separator, rest = uri.partition("://")
    scheme = scheme.lower()
    if not separator:
        invalid("A model is named by a URI with a scheme, such as https:// or builtin://.")
    if scheme in ("https", "http"):
        return WebUri(parse_web_url(uri))
    if scheme not in ("builtin", "upload", "file"):
        invalid("The URI's scheme is none that models are loaded from.")
    if "?" in rest or "#" in rest:
        invalid(f"A {scheme} URI has no query and no fragment; write %3F and %23 in a name.")
    host, _, encoded_path = rest.partition("/")
    path = _decoded(encoded_path)
    if scheme == "builtin":
        if path or not host or _FORBIDDEN.search(host):
            invalid("A built-in model is named like builtin://Engine.")
        return BuiltinUri(host)
    if scheme == "upload":
        parts = path.split("/")
        if not UPLOAD_ID.fullmatch(host) or any(part in ("", ".", "..") for part in parts) or "\\" in path:
            invalid("An uploaded model is named like upload://<upload id>/<path>.")
        return UploadUri(host, path)
    if host.lower() not in ("", "localhost") or not path:
        invalid("A file is named like file:///folder/model.glb, on the server itself.")
    return FileUri("/" + path)


def parse_web_url(url: str) -> httpx.URL:
    """An absolute http or https URL without user, password and fragment. Raises ``INVALID_URI`` otherwise."""
    if _FORBIDDEN.search(url):
        invalid("The URL holds spaces or control characters; write them as %20 and the like.")
    try:
        parsed = httpx.URL(url)
        # httpx takes what browsers take; the standard library's second opinion catches odd ports and brackets.
        port = urlsplit(url).port
    except (httpx.InvalidURL, ValueError, UnicodeError):
        invalid("The URL is malformed.")
    if parsed.scheme not in ("https", "http") or not parsed.host or port == 0:
        invalid("The URL is malformed.")
    if parsed.userinfo:
        invalid("A URL with a user name or a password is not fetched.")
    return parsed.copy_with(fragment=None)


def shown_url(url: httpx.URL) -> str:
    """A URL without its query: fit for messages and logs."""
    return str(url.copy_with(query=None, fragment=None))


def invalid(message: str, next_step: str = "Check the model's URI.") -> NoReturn:
    """Refuse a URI."""
    raise FarframeError(Result.INVALID_URI, message, next_step=next_step)


def _decoded(path: str) -> str:
    try:
        decoded = unquote(path, errors="strict")
    except UnicodeDecodeError:
        invalid("The URI's path is not valid UTF-8.")
    if "\0" in decoded:
        invalid("The URI's path holds a zero character.")
    return decoded
