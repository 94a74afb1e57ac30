/** Lease a Farframe render server, connect to it from a browser, load models and see them move as video. */

export { OrbitCamera, type OrbitState, type Sphere, sphereOf, symmetricFieldOfView, unionBounds } from "./camera.ts";
export { ClockAlignment, nowMicroseconds } from "./clock.ts";
export {
  type ConnectionEvents,
  type ConnectionState,
  type ConnectionStatistics,
  type ConnectOptions,
  evenSize,
} from "./connect_options.ts";
export { Connection } from "./connection.ts";
export {
  cancelled,
  errorFromAnswer,
  FarframeError,
  type FarframeErrorOptions,
  isResult,
  nextStepOf,
  RESULTS,
  type Result,
  toFarframeError,
} from "./errors.ts";
export { Emitter, type Listener } from "./events.ts";
export {
  isNewer,
  Ledger,
  type LedgerEntry,
  type LedgerSummary,
  type ShownFrame,
  STAGES,
  type Stage,
  type StageTimes,
  stageTimes,
} from "./ledger.ts";
export {
  API_VERSION,
  endedError,
  ManagementClient,
  type ManagementOptions,
  newId,
  type QuotaReport,
  type RedeemedLink,
  redeemLink,
  type Session,
  type SessionSize,
  type SessionStatus,
  type SessionToken,
  type StoredUpload,
  type UploadFile,
  type UploadList,
  type UploadProgress,
  type UsageLine,
  type UsageReport,
  type ViewerLink,
} from "./management.ts";
export {
  type Bounds,
  type ConnectionInfo,
  type LoadedModel,
  type LoadProgress,
  PROTOCOL_VERSION,
  RENDER_MODE_CHOICES,
  type RenderMode,
  type RenderModeChoice,
  type SceneSettings,
  type ServerInfo,
  type ServerStatistics,
  type SessionEnding,
  type VideoSettings,
} from "./messages.ts";
export { OrbitControls, type OrbitControlsOptions } from "./orbit_controls.ts";
export type { FrameStatistics, PerformanceAssessment, PerformanceInformation, Rating } from "./performance.ts";
export { CAUTIOUS_LIMITS, type PictureLimits, pictureSize } from "./picture_size.ts";
export { PoseSender, type PoseSenderEnvironment } from "./pose_sender.ts";
export {
  decodeFrame,
  decodePose,
  encodePose,
  encodeReport,
  type FieldOfView,
  type FrameRecord,
  type FrameReport,
  MAX_REPORTED_FRAMES,
  MAX_VIEWS,
  type PoseRecord,
  type Quaternion,
  RECORD_VERSION,
  type ReportedFrame,
  type Vector3,
  type View,
} from "./records.ts";
export {
  bestRegion,
  fetchRegions,
  type MeasureOptions,
  measureRegion,
  measureRegions,
  type Region,
  type RegionList,
  type RegionMeasurement,
  type RegionOutcome,
} from "./regions.ts";
export { FrameReporter, type FrameReporterEnvironment } from "./reports.ts";
export { MAX_CONTROL_MESSAGE_BYTES, type RequestOptions, RpcPeer } from "./rpc.ts";
export {
  type AnimationInfo,
  type AnimationLoop,
  type AnimationState,
  ModelAnimation,
  type PlayOptions,
} from "./scene/animations.ts";
export type { Axis, CutPlane, CutPlaneValues } from "./scene/cut_planes.ts";
export type {
  CameraOverride,
  CameraValues,
  Debug,
  DebugValues,
  Outline,
  OutlineValues,
  Shell,
  ShellValues,
  SingleSidedMode,
  Sky,
  StageSpace,
  StageValues,
  ZFighting,
  ZFightingValues,
} from "./scene/effects.ts";
export { Entity, MeshPart, SubPart } from "./scene/entity.ts";
export type {
  DirectionalLight,
  DirectionalLightValues,
  Light,
  LightKind,
  LightValues,
  PointLight,
  PointLightValues,
  SpotLight,
  SpotLightValues,
} from "./scene/lights.ts";
export {
  type Color3,
  type Color4,
  type Material,
  type MaterialKind,
  type MaterialMap,
  type MaterialValues,
  type Pair,
  Texture,
  type TextureInfo,
  type TextureKind,
} from "./scene/materials.ts";
export type { Command, SceneFailure } from "./scene/outbox.ts";
export type { Overrides, Tint } from "./scene/overrides.ts";
export type { Overlap, OverlapOptions, Overlaps, RayHit, RayHits, RayOptions, Shape } from "./scene/queries.ts";
export {
  type CreateOptions,
  Scene,
  type SceneEvents,
  type SceneLink,
  type SceneLoadOptions,
  type TextureLoadOptions,
} from "./scene/scene.ts";
export type { Transforms } from "./scene/transforms.ts";
export { expiryOf, type TokenProvider, type TokenRequest, TokenSource } from "./tokens.ts";
export type { Transport, TransportEvents, TransportSample, Way, WayChoice, WayKind } from "./transport.ts";
export { type FoundWay, findWay, forgetWays, type WayOpeners, type WayOptions } from "./ways.ts";
export { streamUrl } from "./websocket.ts";
export { type Fetch, handshake, preferH264, type WhepSession } from "./whep.ts";
