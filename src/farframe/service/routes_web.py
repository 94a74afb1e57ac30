"""The console and the viewer: the files of the web bundle, and nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from farframe.service.exchange import AnyRequest, content_response, empty_response, path_segments
from farframe.service.frontier import decode_segment
from farframe.wire.errors import NotFound

BUNDLE_FOLDER = Path(str(resources.files("farframe"))) / "web_bundle"

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "media-src 'self' blob: mediastream:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "manifest-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    )
)
"""No inline code or style, nothing from elsewhere: everything goes through this one origin."""

MEASURING_PAGE = "measure"
"""The one page that asks other origins: the other regions, which configuration names."""

PAGE_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), xr-spatial-tracking=(self)",
}
"""What every page carries."""

_CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".webmanifest": "application/manifest+json; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".wasm": "application/wasm",
    ".txt": "text/plain; charset=utf-8",
}

_FILE_NAME = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\Z")
_MISSING = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Farframe</title>
<h1>The web pages have not been built</h1>
<p>The service runs, but this installation has no web bundle. In the source tree, run <code>./dev setup</code>, which
builds it, and load this page again. A wheel from a release has the pages inside.</p></html>
"""


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    content_type: str
    etag: str


class WebBundle:
    """The files below a folder, by the path in the URL. Read on demand and kept until they change."""

    def __init__(self, folder: Path = BUNDLE_FOLDER) -> None:
        self._folder = folder
        self._kept: dict[Path, tuple[int, _File]] = {}

    @property
    def exists(self) -> bool:
        """Whether the bundle has been built."""
        return (self._folder / "index.html").is_file()

    def find(self, segments: list[str]) -> _File | None:
        """The file at a path of decoded segments; a folder stands for its ``index.html``."""
        if not all(_FILE_NAME.match(segment) for segment in segments):
            return None
        path = self._folder.joinpath(*segments)
        if path.is_dir():
            path /= "index.html"
        # Not even a link inside the bundle leads out of it.
        if not path.is_file() or not path.resolve().is_relative_to(self._folder.resolve()):
            return None
        changed = path.stat().st_mtime_ns
        kept = self._kept.get(path)
        if kept is None or kept[0] != changed:
            content = path.read_bytes()
            content_type = _CONTENT_TYPES.get(path.suffix.lower(), "application/octet-stream")
            digest = hashlib.blake2b(content, digest_size=12).hexdigest()
            kept = (changed, _File(content, content_type, f'"{digest}"'))
            self._kept[path] = kept
        return kept[1]


def web_routes(bundle: WebBundle, regions: Iterable[str] = ()) -> list[HTTPRouteHandler]:
    """Every GET that no other route takes. ``regions`` are the URLs that the page for measuring may call."""
    own_origin = "connect-src 'self'"
    measuring = CONTENT_SECURITY_POLICY.replace(own_origin, " ".join((own_origin, *sorted(set(regions)))))

    async def serve(request: AnyRequest) -> Response[bytes]:
        segments = [decode_segment(segment) for segment in path_segments(request)] or [""]
        folder = segments[-1] == ""
        if folder:
            segments.pop()
        if not await asyncio.to_thread(lambda: bundle.exists):
            if segments in ([], ["viewer"]):
                headers = {**PAGE_HEADERS, "cache-control": "no-store"}
                return content_response(_MISSING.encode(), _CONTENT_TYPES[".html"], 503, headers)
            raise NotFound("There is nothing at this address.")
        file = await asyncio.to_thread(bundle.find, segments)
        if file is None:
            raise NotFound("There is nothing at this address. /openapi.json describes what there is.")
        is_page = file.content_type.startswith("text/html")
        if is_page and segments and not folder and not segments[-1].endswith(".html"):
            # Relative references in the page need the slash.
            return empty_response(308, {"location": "/" + "/".join(segments) + "/"})
        immutable = segments[:1] == ["assets"]
        headers = {
            **PAGE_HEADERS,
            **({"content-security-policy": measuring} if segments[:1] == [MEASURING_PAGE] else {}),
            "etag": file.etag,
            "cache-control": "public, max-age=31536000, immutable" if immutable else "no-cache",
        }
        if file.etag in request.headers.get("if-none-match", ""):
            return empty_response(304, headers)
        return content_response(file.content, file.content_type, 200, headers)

    @get("/")
    async def get_console(request: AnyRequest) -> Response[bytes]:
        return await serve(request)

    @get("/{file_path:path}")
    async def get_file(request: AnyRequest) -> Response[bytes]:
        return await serve(request)

    return [get_console, get_file]
