"""The bodies of the routes for regions. They live beside the contract."""

from __future__ import annotations

import msgspec


class Region(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """A region and the base URL of its service; ``ca_certificates`` are the roots to trust there, in PEM, where it has
    roots of its own."""

    name: str
    endpoint: str
    ca_certificates: str | None = None


class RegionList(msgspec.Struct, kw_only=True):
    """The region of the service that answers, and all regions that it knows, its own first."""

    region: str
    regions: list[Region]
