"""Regions: which there are, and something to measure the way to this one with.

All of it is public: whoever chooses a region has no token for it yet. Nothing here costs more than the answer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from farframe.service.access import query_value
from farframe.service.addresses import Addresses
from farframe.service.exchange import AnyRequest, content_response, empty_response, json_response
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


def region_routes(region: str, others: Mapping[str, str], addresses: Addresses) -> list[HTTPRouteHandler]:
    """``GET /regions`` and ``GET /latency``, the latter with ``?bytes=`` for throughput."""

    @get("/regions")
    async def get_regions(request: AnyRequest) -> Response[bytes]:
        own = Region(name=region, endpoint=addresses.public_url or addresses.endpoint)
        peers = [Region(name=name, endpoint=url) for name, url in sorted(others.items())]
        return json_response(RegionList(region=region, regions=[own, *peers]), headers=_ANYBODY)

    @get("/latency")
    async def get_latency(request: AnyRequest) -> Response[bytes]:
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
