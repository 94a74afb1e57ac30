"""What each role may do.

    permission            Administrator  Client  Viewer  what it covers
    --------------------  -------------  ------  ------  ------------------------------------------------------------
    CONVERT               yes            no      no      start a conversion
    READ_CONVERSIONS      yes            no      no      a conversion's properties, the list of conversions
    MANAGE_SESSIONS       yes            yes     no      create a session, extend its lease
    READ_SESSIONS         yes            yes     yes     a session's properties, the list of sessions
    STOP_SESSIONS         yes            yes     no      stop a session
    RENDER                yes            yes     no      connect a device, which drives the session
    WATCH                 yes            yes     yes     connect a device that watches what the driving one sees
    DIAGNOSE              yes            yes     no      open the inspector
    UPLOAD                yes            yes     no      store, list and delete uploaded files
    SHARE                 yes            yes     yes     make a token for one session, of one's own role or a lower one
    MANAGE_ACCOUNT        yes            no      no      make links that let others in, read usage and quotas

The rows but WATCH, UPLOAD, SHARE and MANAGE_ACCOUNT, and two roles, are those of Azure Remote Rendering, the rest is
Farframe's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from farframe.auth.tokens import Role


class Permission(StrEnum):
    """One kind of thing to do; see the table at the top of this module."""

    CONVERT = "convert/action"
    READ_CONVERSIONS = "convert/read"
    MANAGE_SESSIONS = "managesessions/action"
    READ_SESSIONS = "managesessions/read"
    STOP_SESSIONS = "managesessions/delete"
    RENDER = "render/read"
    DIAGNOSE = "diagnostic/read"
    WATCH = "watch/read"
    UPLOAD = "uploads"
    SHARE = "share"
    MANAGE_ACCOUNT = "manageaccount"


_CLIENT = frozenset(Permission) - {Permission.CONVERT, Permission.READ_CONVERSIONS, Permission.MANAGE_ACCOUNT}

PERMISSIONS: Mapping[Role, frozenset[Permission]] = {
    Role.ADMINISTRATOR: frozenset(Permission),
    Role.CLIENT: _CLIENT,
    Role.VIEWER: frozenset({Permission.READ_SESSIONS, Permission.WATCH, Permission.SHARE}),
}
"""The table at the top of this module."""

_RANKS: Mapping[Role, int] = {Role.VIEWER: 0, Role.CLIENT: 1, Role.ADMINISTRATOR: 2}


def may(role: Role, permission: Permission) -> bool:
    """Whether the role has the permission."""
    return permission in PERMISSIONS[role]


def covers(role: Role, other: Role) -> bool:
    """Whether ``role`` may hand out ``other``: nobody gives more than they have."""
    return _RANKS[role] >= _RANKS[other]
