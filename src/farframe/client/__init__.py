"""The Python SDK: lease render servers (REST), connect to them, load models, receive frames.

This room runs in the programs of others: it never prints, never logs secrets, and leaves no task behind. It knows the
wire, the protocol and the stream, and must not know the service, the server or the renderer. Everything public is
named here; modules that begin with an underscore are nobody's but ours.
"""

from farframe.client._uploads import UploadProgress
from farframe.client.animations import Animation
from farframe.client.components import Component, CutPlane, DirectionalLight, Light, PointLight, SpotLight
from farframe.client.connection_file import ConnectionInfo
from farframe.client.entities import Entity, Group, Overrides
from farframe.client.errors import (
    AuthenticationError,
    ConflictError,
    ConnectionFileError,
    ConnectionLostError,
    FarframeClientError,
    HandshakeError,
    InvalidRequestError,
    LocalFileError,
    NotFoundError,
    PermissionDeniedError,
    RequestError,
    RequestTimeoutError,
    RuntimeConnectionError,
    ServiceError,
    ServiceUnreachableError,
    SessionEndedError,
    SessionFailedError,
    TooManyRequestsError,
)
from farframe.client.frame import Frame, FrameStream, FrameTimings
from farframe.client.loads import LoadedModel, LoadProgress
from farframe.client.management import InspectorLink, RemoteRenderingClient, SessionToken, ViewerLink
from farframe.client.materials import Material, Mesh, OwnTexture, Texture
from farframe.client.operators import OperatorClient, OperatorInfo
from farframe.client.performance import (
    ConnectionStatistics,
    FrameStatistics,
    PerformanceAssessment,
    PerformanceInformation,
    ServiceStatistics,
)
from farframe.client.queries import Overlap, Overlaps
from farframe.client.runtime import RuntimeConnection
from farframe.client.scene import RayHit, RayHits, Scene, SceneFailure
from farframe.client.session import Session, SessionFailure, SessionProperties
from farframe.client.settings import (
    CameraSettings,
    DebugSettings,
    OutlineSettings,
    ShellSettings,
    StageSettings,
    ZFightingSettings,
)
from farframe.client.ways import Way
from farframe.protocol.errors import Result
from farframe.protocol.records import FieldOfView, FrameFlags, FrameRecord, View

__all__ = [
    "Animation",
    "AuthenticationError",
    "CameraSettings",
    "Component",
    "ConflictError",
    "ConnectionFileError",
    "ConnectionInfo",
    "ConnectionLostError",
    "ConnectionStatistics",
    "CutPlane",
    "DebugSettings",
    "DirectionalLight",
    "Entity",
    "FarframeClientError",
    "FieldOfView",
    "Frame",
    "FrameFlags",
    "FrameRecord",
    "FrameStatistics",
    "FrameStream",
    "FrameTimings",
    "Group",
    "HandshakeError",
    "InspectorLink",
    "InvalidRequestError",
    "Light",
    "LoadProgress",
    "LoadedModel",
    "LocalFileError",
    "Material",
    "Mesh",
    "NotFoundError",
    "OperatorClient",
    "OperatorInfo",
    "OutlineSettings",
    "Overlap",
    "Overlaps",
    "Overrides",
    "OwnTexture",
    "PerformanceAssessment",
    "PerformanceInformation",
    "PermissionDeniedError",
    "PointLight",
    "RayHit",
    "RayHits",
    "RemoteRenderingClient",
    "RequestError",
    "RequestTimeoutError",
    "Result",
    "RuntimeConnection",
    "RuntimeConnectionError",
    "Scene",
    "SceneFailure",
    "ServiceError",
    "ServiceStatistics",
    "ServiceUnreachableError",
    "Session",
    "SessionEndedError",
    "SessionFailedError",
    "SessionFailure",
    "SessionProperties",
    "SessionToken",
    "ShellSettings",
    "SpotLight",
    "StageSettings",
    "Texture",
    "TooManyRequestsError",
    "UploadProgress",
    "View",
    "ViewerLink",
    "Way",
    "ZFightingSettings",
]
