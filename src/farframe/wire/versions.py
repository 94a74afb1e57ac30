"""The values of ``api-version`` that the data plane serves, and the header that announces them."""

from __future__ import annotations

API_VERSIONS: tuple[str, ...] = ("2021-01-01-preview", "2021-01-01")
"""In the order in which the hosted service announced them. Both mean the same contract."""

SUPPORTED_VERSIONS_HEADER = ", ".join(API_VERSIONS)
"""The value of the response header ``api-supported-versions``."""

TOKEN_API_VERSION = "2019-02-28-preview"  # noqa: S105 - a version, not a secret
"""What the official SDKs send to the token endpoint, which ignores it."""
