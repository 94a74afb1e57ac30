"""The bodies of the routes for regions. They live beside the contract."""

from __future__ import annotations

import msgspec


class Region(msgspec.Struct, kw_only=True):
    """A region and the base URL of its service."""

    name: str
    endpoint: str


class RegionList(msgspec.Struct, kw_only=True):
    """The region of the service that answers, and all regions that it knows, its own first."""

    region: str
    regions: list[Region]
