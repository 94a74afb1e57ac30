"""Sessions as they appear on the wire, and the rules for the bodies that create and update them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from farframe.wire.errors import BadRequest, ErrorDetail, UnprocessableEntity

MAX_LEASE_MINUTES = 1440
PAGE_SIZE = 50


class SessionStatus(StrEnum):
    """The life of a session. ``Error``, ``Expired`` and ``Stopped`` are final."""

    STARTING = "Starting"
    READY = "Ready"
    STOPPED = "Stopped"
    ERROR = "Error"
    EXPIRED = "Expired"

    @property
    def final(self) -> bool:
        """Whether no other status can follow."""
        return self not in ACTIVE_STATUSES


ACTIVE_STATUSES = frozenset({SessionStatus.STARTING, SessionStatus.READY})


class SessionSize(StrEnum):
    """The size of a render server. On the way in any case is taken."""

    STANDARD = "Standard"
    PREMIUM = "Premium"


_SIZES = {size.value.lower(): size for size in SessionSize}


class Session(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """A session. The order of members is the order on the wire; members without a value are absent.

    ``arr_inspector_port``, ``handshake_port`` and ``hostname`` are there in ``Ready``, ``teraflops`` in ``Ready`` and
    kept afterwards, ``error`` in ``Error`` only.
    """

    id: str
    creation_time: str
    arr_inspector_port: int | None = None
    handshake_port: int | None = None
    elapsed_time_minutes: int
    hostname: str | None = None
    max_lease_time_minutes: int
    size: SessionSize
    status: SessionStatus
    teraflops: float | None = None
    error: ErrorDetail | None = None


class SessionList(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A page of sessions; ``@nextLink`` is absent on the last one."""

    sessions: list[Session]
    next_link: str | None = msgspec.field(default=None, name="@nextLink")


class CreateSession(msgspec.Struct, kw_only=True, rename="camel"):
    """The body of a create request, for the interface description; :func:`parse_create` reads it."""

    max_lease_time_minutes: int
    size: str


class UpdateSession(msgspec.Struct, kw_only=True, rename="camel"):
    """The body of an update request, for the interface description; :func:`parse_update` reads it."""

    max_lease_time_minutes: int


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What a caller asks for: a lease in minutes (0 to 1440) and a size."""

    lease_minutes: int
    size: SessionSize


def parse_create(body: bytes) -> SessionSettings:
    """The settings in the body of a create request. Unknown members are ignored.

    Raises :class:`BadRequest` for anything else than the two required members with allowed values.
    """
    members = _object(body)
    lease = _lease(members)
    if lease < 0:
        raise BadRequest("The maxLeaseTimeMinutes value cannot be negative.")
    if lease > MAX_LEASE_MINUTES:
        raise BadRequest(f"The maxLeaseTimeMinutes value cannot be larger than {MAX_LEASE_MINUTES}.")
    return SessionSettings(lease_minutes=lease, size=_size(members))


def parse_update(body: bytes) -> int:
    """The new total lease in minutes in the body of an update request.

    Raises :class:`BadRequest` for a malformed body and :class:`UnprocessableEntity` for a lease above the maximum.
    Whether it is larger than the present one is for the caller to find out.
    """
    lease = _lease(_object(body))
    if lease > MAX_LEASE_MINUTES:
        raise UnprocessableEntity(f"The maxLeaseTimeMinutes value cannot be larger than {MAX_LEASE_MINUTES}.")
    return lease


def _object(body: bytes) -> dict[str, object]:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise BadRequest("The request body is not valid JSON.") from None
    if not isinstance(value, dict):
        raise BadRequest("The request body must be a JSON object.")
    return value


def _lease(members: dict[str, object]) -> int:
    lease = members.get("maxLeaseTimeMinutes")
    if lease is None:
        raise BadRequest("The maxLeaseTimeMinutes value is required.")
    # bool is an int in Python, not in JSON.
    if isinstance(lease, bool) or not isinstance(lease, int):
        raise BadRequest("The maxLeaseTimeMinutes value must be an integer number of minutes.")
    return lease


def _size(members: dict[str, object]) -> SessionSize:
    name = members.get("size")
    if name is None:
        raise BadRequest("The size value is required: Standard or Premium.")
    size = _SIZES.get(name.lower()) if isinstance(name, str) else None
    if size is None:
        shown = name if isinstance(name, str) else msgspec.json.encode(name).decode()
        raise BadRequest(f"Can't specify this VM size: {shown[:64]}. Use Standard or Premium.")
    return size
