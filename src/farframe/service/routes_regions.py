"""Regions: which there are, and something to measure the way to this one with.

All of it is public: whoever chooses a region has no token for it yet. Nothing here costs more than the answer, and
calls are counted by address.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from farframe.service.access import Access, query_value
from farframe.service.addresses import Addresses
from farframe.service.exchange import AnyRequest, content_response, empty_response, json_response
from farframe.service.identity import StartError
from farframe.wire.errors import BadRequest
from farframe.wire.regions import Region, RegionList

MAX_PAYLOAD_BYTES = 1024 * 1024
"""What one request for measuring throughput may ask for."""

_BLOCK = os.urandom(64 * 1024)
"""Random, so that nothing on the way compresses it."""

_ANYBODY: Mapping[str, str] = {
    "cache-control": "no-store",
    # Pages of any origin may measure: no credentials go with it and nothing but time comes back.
    "access-control-allow-origin": "*",
    "timing-allow-origin": "*",
    "cross-origin-resource-policy": "cross-origin",
}


def region_routes(
    access: Access,
    region: str,
    others: Mapping[str, str],
    addresses: Addresses,
    ca_files: Mapping[str, str] | None = None,
) -> list[HTTPRouteHandler]:
    """``GET /regions`` and ``GET /latency``, the latter with ``?bytes=`` for throughput.

    ``ca_files`` are the roots of other regions, which this service vouches for: its callers trust it already.
    """
    roots = {name: _certificates_of(Path(path)) for name, path in (ca_files or {}).items()}

    @get("/regions")
    async def get_regions(request: AnyRequest) -> Response[bytes]:
        access.public(request)
        own = Region(name=region, endpoint=addresses.public_url or addresses.endpoint)
        peers = [
            Region(name=name, endpoint=url, ca_certificates=roots.get(name)) for name, url in sorted(others.items())
        ]
        return json_response(RegionList(region=region, regions=[own, *peers]), headers=_ANYBODY)

    @get("/latency")
    async def get_latency(request: AnyRequest) -> Response[bytes]:
        access.public(request)
        text = query_value(request, "bytes")
        if text is None:
            return empty_response(204, _ANYBODY)
        # Seven digits at most: zeros in front must not hide a large number from the comparison.
        if not (text.isascii() and text.isdigit() and len(text) <= 7) or not 1 <= int(text) <= MAX_PAYLOAD_BYTES:
            raise BadRequest(f"The bytes value must be a whole number from 1 to {MAX_PAYLOAD_BYTES}.")
        count = int(text)
        content = (_BLOCK * (count // len(_BLOCK) + 1))[:count]
        return content_response(content, "application/octet-stream", 200, _ANYBODY)

    return [get_regions, get_latency]


def _certificates_of(path: Path) -> str:
    """The certificates of a PEM file and nothing else of it: a key that lies beside them must not be told to the world.
    Raises :class:`StartError`."""
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StartError(
            f"region_ca_files must name PEM files of certificates, which {path} is not: {error}."
        ) from None
    return "".join(certificate.public_bytes(Encoding.PEM).decode("ascii") for certificate in found)
