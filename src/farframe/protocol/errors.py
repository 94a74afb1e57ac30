"""What can go wrong between a device and a render server, as typed results.

The names are those of the ``Result`` codes that applications of Azure Remote Rendering know, where one fits; the
few that are ours are marked. A name is stable and never reused with another meaning.

    Group        Result                     When
    -----------  -------------------------  -----------------------------------------------------------------
    core         Fail                       something unexpected inside the server
                 Cancelled                  the caller cancelled the request
                 InvalidParam               a parameter is missing, of the wrong type or out of range
                 NotSupported               the method or feature does not exist in this server
                 StringTooLong              a name or text is longer than it may be
                 InProgress                 the same thing is already being done
    load         FileNotFound               the model, or a file that it refers to, does not exist
                 FileDownloadFailed         the model could not be fetched
                 FileCorrupt                the model was fetched and is broken
                 ExceedsMemoryLimit         the model needs more memory, pixels or time than the limits allow
                 InvalidUri                 the URI is malformed or points where this server must not read
    object       InvalidId                  no object has that id
                 InvalidParentId            no entity has the id that is named as the parent
                 AlreadyExists              an object with that id exists already
                 CyclicReference            an entity would become its own ancestor
                 ObjectStatic               the entity is part of a model that was converted to stay as it is
    connection   AuthenticationFailed       the token is missing, wrong, expired or for another session
                 OtherSessionConnected      another device is connected
                 VideoCodecNotAvailable     the offer holds no H.264 that this server can send
                 HandshakeFailed            the offer is not an SDP offer that can be answered
                 ProtocolError              a message or record that is not of this protocol
                 ProtocolVersionMismatch    the device speaks another version of this protocol
                 ConnectionLost             the device has not been heard for too long
                 DisconnectRequest          the device ended the connection
                 DeviceLost                 the graphics device failed
                 NothingToResume            (ours) the scene that the device wants back is gone
                 WatchingOnly               (ours) the device, or its token, may only watch
                 TooManySpectators          (ours) as many devices watch the session as may
    session      SessionStopped             (ours) the session was stopped
                 SessionExpired             (ours) the lease ran out
                 SessionNotReady            (ours) the session has no server yet, or no longer
"""

from __future__ import annotations

from enum import StrEnum


class Result(StrEnum):
    """The stable name of an outcome. See the table at the top of this module."""

    FAIL = "Fail"
    CANCELLED = "Cancelled"
    INVALID_PARAM = "InvalidParam"
    NOT_SUPPORTED = "NotSupported"
    STRING_TOO_LONG = "StringTooLong"
    IN_PROGRESS = "InProgress"
    FILE_NOT_FOUND = "FileNotFound"
    FILE_DOWNLOAD_FAILED = "FileDownloadFailed"
    FILE_CORRUPT = "FileCorrupt"
    EXCEEDS_MEMORY_LIMIT = "ExceedsMemoryLimit"
    INVALID_URI = "InvalidUri"
    INVALID_ID = "InvalidId"
    INVALID_PARENT_ID = "InvalidParentId"
    ALREADY_EXISTS = "AlreadyExists"
    CYCLIC_REFERENCE = "CyclicReference"
    OBJECT_STATIC = "ObjectStatic"
    AUTHENTICATION_FAILED = "AuthenticationFailed"
    OTHER_SESSION_CONNECTED = "OtherSessionConnected"
    VIDEO_CODEC_NOT_AVAILABLE = "VideoCodecNotAvailable"
    HANDSHAKE_FAILED = "HandshakeFailed"
    PROTOCOL_ERROR = "ProtocolError"
    PROTOCOL_VERSION_MISMATCH = "ProtocolVersionMismatch"
    CONNECTION_LOST = "ConnectionLost"
    DISCONNECT_REQUEST = "DisconnectRequest"
    DEVICE_LOST = "DeviceLost"
    NOTHING_TO_RESUME = "NothingToResume"
    WATCHING_ONLY = "WatchingOnly"
    TOO_MANY_SPECTATORS = "TooManySpectators"
    SESSION_STOPPED = "SessionStopped"
    SESSION_EXPIRED = "SessionExpired"
    SESSION_NOT_READY = "SessionNotReady"


RETRYABLE = frozenset(
    {
        Result.FILE_DOWNLOAD_FAILED,
        Result.OTHER_SESSION_CONNECTED,
        Result.CONNECTION_LOST,
        Result.SESSION_NOT_READY,
        Result.TOO_MANY_SPECTATORS,
    }
)
"""Results after which the same call can succeed later without any change by the caller."""


class FarframeError(Exception):
    """An error with a stable :class:`Result`, a sentence for a person and what to do next.

    ``str(error)`` is the message followed by the next step; both are safe to show to whoever made the call.
    """

    def __init__(self, result: Result, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.result = result
        self.message = message
        self.next_step = next_step

    @property
    def retryable(self) -> bool:
        """Whether the same call can succeed later without any change by the caller."""
        return self.result in RETRYABLE

    def __str__(self) -> str:
        return f"{self.message} {self.next_step}".strip()
