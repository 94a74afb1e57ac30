"""Under which URLs this service can be reached, and under which one the present caller reached it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from litestar.types import Scope

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?\Z")
_LOOPBACK_CLIENTS = ("127.", "::1", "::ffff:127.")


@dataclass(slots=True)
class Addresses:
    """``endpoint`` is the https URL for everybody, ``http_url`` the plain one for browsers on this machine.

    Both are filled in when the listeners' ports are known. ``public_url`` is set where a reverse proxy stands in front.
    """

    endpoint: str = ""
    http_url: str = ""
    public_url: str = ""

    def base(self, scope: Scope) -> str:
        """The URL of this service as the caller knows it: links must lead back the same way, token and all."""
        host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
        if not _HOST.match(host):
            return self.public_url or self.endpoint
        if self.public_url and self.public_url.partition("://")[2].lower() == host.lower():
            return self.public_url
        return f"{scope['scheme']}://{host}"

    def for_browser(self, scope: Scope) -> str:
        """The URL for a browser of the caller's: the plain one for callers on this machine, whose browsers rarely trust
        our root."""
        client = scope.get("client")
        local = client is not None and client[0].startswith(_LOOPBACK_CLIENTS)
        return self.http_url if local and self.http_url and not self.public_url else self.base(scope)


def host_in_url(name: str) -> str:
    """A host name or address as it is written in a URL: IPv6 addresses in brackets."""
    return f"[{name}]" if ":" in name and not name.startswith("[") else name
