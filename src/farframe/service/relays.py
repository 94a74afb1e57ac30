"""TURN servers for devices: who may open a session gets credentials that are good for a short while.

Username and password are made from a secret that this service shares with the TURN server, which keeps no accounts
(draft-uberti-behave-turn-rest-00, coturn's ``use-auth-secret``): the username is the time at which it runs out, a colon
and a name; the password is the base64 text of HMAC-SHA1 of the username. The name says which session it was for, to
nobody but us: it is a digest.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from farframe.wire.extensions import IceServer

_TURN = re.compile(r"turns?:(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]{1,253})(:[0-9]{1,5})?(\?transport=(udp|tcp))?\Z")


def is_turn_server(uri: str) -> bool:
    """Whether it is a TURN URI (RFC 7065): ``turn:host``, ``turns:host:port``, with ``?transport=udp`` or ``tcp``."""
    return _TURN.match(uri) is not None


class TurnCredentials:
    """Makes credentials for the configured TURN servers. ``minutes`` is what they are good for at most."""

    def __init__(self, servers: tuple[str, ...], secret: str, minutes: float) -> None:
        self._servers = servers
        self._secret = secret.encode()
        self._seconds = int(minutes * 60)

    def __repr__(self) -> str:
        return f"TurnCredentials({len(self._servers)} servers)"

    def issue(self, account_id: str, session_id: str, now: int, longest: int) -> tuple[list[IceServer], int | None]:
        """What a device needs, and when it runs out in seconds since the epoch; nothing where there are no servers.

        ``now`` in seconds since the epoch; ``longest`` is how many more seconds the caller's own token lives.
        """
        if not self._servers:
            return [], None
        expires = now + max(1, min(self._seconds, longest))
        name = hashlib.blake2b(f"{account_id}/{session_id}".encode(), digest_size=8).hexdigest()
        username = f"{expires}:{name}"
        digest = hmac.new(self._secret, username.encode(), hashlib.sha1).digest()
        credential = base64.b64encode(digest).decode("ascii")
        return [IceServer(urls=list(self._servers), username=username, credential=credential)], expires
