"""The bodies of Farframe's own routes: uploads, viewer links, inspector links. They live beside the contract."""

from __future__ import annotations

import msgspec


class UploadedFile(msgspec.Struct, kw_only=True, rename="camel"):
    """The answer to a stored file. ``uri`` is what a device loads; the whole upload goes at ``expiration_time``."""

    uri: str
    bytes: int
    expiration_time: str


class ListedFile(msgspec.Struct, kw_only=True, rename="camel"):
    """A stored file in a list."""

    uri: str
    upload_id: str
    path: str
    bytes: int
    creation_time: str
    expiration_time: str


class UploadList(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A page of stored files, oldest first, and how much of the quota all of them use."""

    uploads: list[ListedFile]
    used_bytes: int = msgspec.field(name="usedBytes")
    quota_bytes: int = msgspec.field(name="quotaBytes")
    next_link: str | None = msgspec.field(default=None, name="@nextLink")


class IceServer(msgspec.Struct, kw_only=True):
    """A TURN server, as browsers' ``RTCIceServer``."""

    urls: list[str]
    username: str
    credential: str


class IceServers(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """The TURN servers that a device may use for a session; none where none are configured."""

    ice_servers: list[IceServer] = msgspec.field(name="iceServers")
    expires_at: str | None = None


class CreateViewerLink(msgspec.Struct, kw_only=True, rename="camel"):
    """What a viewer link is for: the whole account, or one session; to drive (Client) or to watch (Viewer). ``page``
    is what it opens: ``viewer``, or ``console``, which is for the whole account."""

    session_id: str | None = None
    role: str = "Client"
    page: str = "viewer"


class Link(msgspec.Struct, kw_only=True, rename="camel"):
    """A link that carries a secret in its fragment, which browsers never send to a server."""

    url: str
    expires_at: str


class CreateSessionToken(msgspec.Struct, kw_only=True, rename="camel"):
    """What a session token shall be good for. ``role`` is Client (unless one is only a viewer oneself) or Viewer."""

    role: str | None = None
    minutes: int = 60


class SessionToken(msgspec.Struct, kw_only=True, rename="camel"):
    """A token that is good for one session, to hand to a device, which then needs nothing else."""

    access_token: str
    account_id: str
    session_id: str
    role: str
    expires_at: str
    endpoint: str

    def __repr__(self) -> str:
        return f"SessionToken(session_id={self.session_id!r}, role={self.role!r}, expires_at={self.expires_at!r})"


class RedeemLink(msgspec.Struct, kw_only=True):
    """The code of a one-time link."""

    code: str


class RedeemedLink(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """What a one-time link yields: a short-lived token and where to use it."""

    access_token: str
    account_id: str
    expires_at: str
    endpoint: str
    session_id: str | None = None
    role: str = "Client"


class AccessToken(msgspec.Struct, kw_only=True):
    """The token endpoint's answer, with the capital A of the hosted service."""

    access_token: str = msgspec.field(name="AccessToken")
