/**
 * The viewer's page: link, session, connection, scene. What happens on the wire is in `@farframe/client`.
 *
 *     link ──► sessions ──► starting ──► connecting ──► connected ◄──► interrupted
 *       └──────────┴───────────┴─────────────┴────────────┴──► failed ──► (connecting | sessions)
 */

import {
  Connection,
  type ConnectionStatistics,
  FarframeError,
  type FrameRecord,
  type LedgerEntry,
  type LoadedModel,
  type ManagementClient,
  OrbitCamera,
  OrbitControls,
  type OrbitState,
  type Session,
  toFarframeError,
  type WayChoice,
} from "@farframe/client";
import "../../shared/theme.css";
import "./viewer.css";
import { managementFor, signIn, signOut, takeFragment } from "../../shared/access.ts";
import { byId, placeGlyphs } from "../../shared/dom.ts";
import type { Remedy } from "../../shared/messages.ts";
import { filesOfDrop, filesOfInput } from "./files.ts";
import { CAUTIOUS_LIMITS, type PictureLimits, pictureSize } from "./picture_size.ts";
import { SAMPLE_URI, Scene } from "./scene.ts";
import { chooseSession, clearScreen, showError, showProgress } from "./screens.ts";
import { StatisticsPanel } from "./statistics_panel.ts";

const fragment = takeFragment();

const WAYS: readonly string[] = ["webrtc", "turn", "websocket"] satisfies WayChoice[];
const asked = new URLSearchParams(location.search).get("way") ?? "";
/** `?way=` asks for one way of the stream. */
const wantedWay: WayChoice = WAYS.includes(asked) ? (asked as WayChoice) : "auto";

/** `?watch` watches what the driving device sees; so does a link that is good for nothing else. */
const askedToWatch = new URLSearchParams(location.search).has("watch");
let watching = askedToWatch;

type PageState = "link" | "sessions" | "starting" | "connecting" | "connected" | "interrupted" | "failed";

/** What tests and curious people find as `window.farframeViewer`; described in `web/README.md`. */
interface ViewerHandle {
  readonly state: PageState;
  readonly sessionId: string | undefined;
  readonly error: { result: string; message: string; nextStep: string } | undefined;
  readonly connection: Connection | undefined;
  readonly lastFrame: FrameRecord | undefined;
  readonly lastShown: LedgerEntry | undefined;
  readonly statistics: ConnectionStatistics | undefined;
  readonly models: readonly LoadedModel[];
  readonly camera: OrbitState;
}

declare global {
  interface Window {
    farframeViewer: ViewerHandle;
  }
}

const WIDE = "(width >= 720px)";
const RESIZE_DELAY_MILLISECONDS = 250;
const LEASE_POLL_MILLISECONDS = 15_000;
const EXTENSION_MINUTES = 10;
const MAX_LEASE_MINUTES = 1440;

const video = byId<HTMLVideoElement>("video");
const stage = byId("stage");
const camera = new OrbitCamera();
const statisticsPanel = new StatisticsPanel(byId("statistics"));

let state: PageState = "link";
let sessionId: string | undefined;
let error: FarframeError | undefined;
let connection: Connection | undefined;
let scene: Scene | undefined;
let lastShown: LedgerEntry | undefined;
let sceneEmpty = true;
let panelOpen = matchMedia(WIDE).matches;
/** Whether the panel is open only because something is being loaded. */
let openForLoad = false;
let statisticsOpen = false;

window.farframeViewer = {
  get state() {
    return state;
  },
  get sessionId() {
    return sessionId;
  },
  get error() {
    return error && { result: error.result, message: error.message, nextStep: error.nextStep };
  },
  get connection() {
    return connection;
  },
  get lastFrame() {
    return connection?.lastRecord;
  },
  get lastShown() {
    return lastShown;
  },
  get statistics() {
    return connection?.statistics;
  },
  get models() {
    return scene?.models ?? [];
  },
  get camera() {
    return camera.state;
  },
};

function setState(next: PageState): void {
  state = next;
  document.body.dataset.state = next;
  const live = next === "connected" || next === "interrupted";
  byId("toolbar").hidden = !live;
  byId("fit").hidden = watching;
  byId("panel-toggle").hidden = !live || watching;
  byId("leave").hidden = !live;
  byId("panel").hidden = !live || !panelOpen || watching;
  byId("watching").hidden = !live || !watching;
  byId("undriven").hidden = next !== "connected" || !watching || (connection?.driven ?? true);
  byId("statistics").hidden = !live || !statisticsOpen;
  byId("interrupted").hidden = next !== "interrupted";
  byId("empty").hidden = !live || !sceneEmpty || watching;
  const chip = byId("session-chip");
  chip.hidden = sessionId === undefined;
  chip.dataset.tone = next === "connected" ? "good" : next === "failed" ? "bad" : "busy";
  byId("session-name").textContent = sessionId ?? "";
  chip.title = sessionId ?? "";
  if (!live) {
    byId("lease").hidden = true;
    byId("extend").hidden = true;
  }
}

function togglePanel(open = !panelOpen): void {
  panelOpen = open;
  openForLoad = false;
  byId("panel").hidden = !open;
  byId("panel-toggle").setAttribute("aria-expanded", String(open));
}

/** Shows how a load goes on; on a small screen the panel goes away again when the model is there. */
function showLoads(): void {
  if (panelOpen) return;
  togglePanel(true);
  openForLoad = !matchMedia(WIDE).matches;
}

function toggleStatistics(open = !statisticsOpen): void {
  statisticsOpen = open;
  byId("statistics").hidden = !open;
  byId("statistics-toggle").setAttribute("aria-pressed", String(open));
  if (connection) statisticsPanel.update(connection);
}

const aspect = (): number => Math.max(1, stage.clientWidth) / Math.max(1, stage.clientHeight);

function sendPose(): void {
  connection?.setPose(camera.view(aspect()));
}

function fitView(): void {
  camera.frame(scene?.bounds, aspect());
  sendPose();
}

function limits(): PictureLimits {
  if (!connection) return CAUTIOUS_LIMITS;
  const { maxWidth, maxHeight, server } = connection.info;
  return { maxWidth, maxHeight, adapterKind: server.adapterKind };
}

function wantedSize(): { width: number; height: number } {
  return pictureSize(stage.clientWidth, stage.clientHeight, devicePixelRatio, limits());
}

let resizeTimer: ReturnType<typeof setTimeout> | undefined;

function resized(): void {
  sendPose();
  clearTimeout(resizeTimer);
  resizeTimer = setTimeout(() => {
    const size = wantedSize();
    if (!connection || connection.state === "closed" || watching) return;
    if (size.width === connection.video.width && size.height === connection.video.height) return;
    // The old size stays on the screen when this fails; the end of a connection is told elsewhere.
    connection.configureVideo(size).catch(() => undefined);
  }, RESIZE_DELAY_MILLISECONDS);
}

/** One connection from the handshake to its end; resolves with why it ended. */
async function connected(management: ManagementClient, id: string, reload: readonly string[]): Promise<FarframeError> {
  setState("connecting");
  showProgress("connect");
  const wantsTurn = wantedWay === "auto" || wantedWay === "turn";
  // What is wrong with the session the handshake says better.
  const iceServers = wantsTurn ? await management.iceServers(id).catch(() => []) : [];
  const live = await Connection.connect({
    url: management.whepUrl(id),
    token: tokenOf,
    client: "farframe-viewer",
    way: wantedWay,
    iceServers,
    watch: watching,
    ...pictureSize(stage.clientWidth, stage.clientHeight, devicePixelRatio, CAUTIOUS_LIMITS),
  });
  connection = live;
  const detach = live.attach(video);
  scene = new Scene(live, management, {
    onEmpty: (empty) => {
      sceneEmpty = empty;
      byId("empty").hidden = !empty || watching;
    },
    onChange: (models, loaded) => {
      if (loaded && openForLoad) togglePanel(false);
      if (loaded && models.length === 1 && !keepCamera) fitView();
      else {
        camera.setBounds(scene?.bounds);
        sendPose();
      }
    },
  });
  let keepCamera = reload.length > 0;
  clearScreen();
  setState("connected");
  const ended = new Promise<FarframeError>((resolve) => live.on("closed", resolve));
  live.on("state", (next) => {
    if (next === "connected" || next === "interrupted") setState(next);
  });
  live.on("driver", () => setState(state));
  live.on("resumed", () => {
    // Its view may have changed meanwhile, and so may the size of this window.
    resized();
    statisticsPanel.update(live);
  });
  live.on("frame", (entry) => {
    lastShown = entry;
  });
  live.on("statistics", () => statisticsPanel.update(live));
  const lease = watchLease(management, id);
  resized();
  video.dataset["quiet"] = "";
  video.focus({ preventScroll: true });
  const loads = Promise.all(reload.map((uri) => scene?.load(uri)));
  void loads.then(() => {
    keepCamera = false;
  });
  try {
    return await ended;
  } finally {
    lease.abort();
    detach();
  }
}

function watchLease(management: ManagementClient, id: string): AbortController {
  const abort = new AbortController();
  const extend = byId<HTMLButtonElement>("extend");
  const show = (session: Session): void => {
    const left = Math.max(0, session.maxLeaseTimeMinutes - session.elapsedTimeMinutes);
    byId("lease").textContent = `${left} min left`;
    byId("lease").hidden = false;
    extend.hidden = watching || session.maxLeaseTimeMinutes >= MAX_LEASE_MINUTES;
  };
  const poll = async (): Promise<void> => {
    try {
      const session = await management.getSession(id, { signal: abort.signal });
      if (!abort.signal.aborted) show(session);
    } catch {
      // The picture matters more than its lease; the next poll tells again.
    }
  };
  extend.addEventListener(
    "click",
    async () => {
      extend.disabled = true;
      try {
        const { maxLeaseTimeMinutes } = await management.getSession(id);
        show(await management.extendSession(id, Math.min(MAX_LEASE_MINUTES, maxLeaseTimeMinutes + EXTENSION_MINUTES)));
      } catch (thrown) {
        scene?.report(thrown);
        togglePanel(true);
      } finally {
        extend.disabled = false;
      }
    },
    { signal: abort.signal },
  );
  void poll();
  const timer = setInterval(() => void poll(), LEASE_POLL_MILLISECONDS);
  abort.signal.addEventListener("abort", () => clearInterval(timer), { once: true });
  return abort;
}

async function pickSession(management: ManagementClient): Promise<string> {
  showProgress("session");
  const sessions = await management.listSessions();
  setState("sessions");
  const choice = await chooseSession(sessions, watching);
  if ("open" in choice) return choice.open;
  showProgress("session");
  return (await management.createSession(choice.create)).id;
}

async function waitForServer(management: ManagementClient, id: string): Promise<boolean> {
  setState("starting");
  const abort = new AbortController();
  showProgress("server", () => abort.abort());
  try {
    await management.waitUntilReady(id, { signal: abort.signal });
    return true;
  } catch (thrown) {
    if (abort.signal.aborted) return false;
    throw thrown;
  }
}

let tokenOf = "";

async function run(): Promise<void> {
  let management: ManagementClient | undefined;
  let reload: readonly string[] = [];
  let code = fragment.get("link");
  let bound = false;
  sessionId = fragment.get("session") ?? undefined;
  const first = fragment.get("model");
  if (first) reload = [first];
  for (;;) {
    try {
      if (!management) {
        setState("link");
        showProgress("link");
        const access = await signIn(code);
        code = null;
        tokenOf = access.accessToken;
        management = managementFor(access);
        watching = askedToWatch || access.role === "Viewer";
        // A link for one session opens that session and no other.
        bound = access.sessionId !== undefined;
        sessionId = access.sessionId ?? sessionId;
      }
      sessionId ??= await pickSession(management);
      rememberSession(sessionId);
      if (!(await waitForServer(management, sessionId))) {
        if (bound) throw new FarframeError("DisconnectRequest", "The session goes on starting.");
        forgetSession();
        continue;
      }
      const kept = reload;
      reload = [];
      error = await connected(management, sessionId, kept);
      reload = scene?.models.map((model) => model.uri) ?? [];
    } catch (thrown) {
      error = toFarframeError(thrown, "Connecting");
    }
    if (error.result === "DisconnectRequest") {
      reload = [];
      if (!bound) {
        forgetSession();
        error = undefined;
        continue;
      }
      error = new FarframeError(error.result, "The session goes on until its lease ends.");
    }
    if (error.status === 401) signOut();
    setState("failed");
    const allowed: Remedy[] = management && !bound ? ["sessions"] : [];
    if (sessionId !== undefined || !management) allowed.push("reconnect");
    const remedy = await showError(error, allowed);
    error = undefined;
    if (remedy === "sessions") {
      forgetSession();
      reload = [];
    }
  }
}

/** A reload of the page comes back to the same session: its id, no secret, stays in the address. */
function rememberSession(id: string): void {
  history.replaceState(null, "", `#session=${encodeURIComponent(id)}`);
}

function forgetSession(): void {
  sessionId = undefined;
  history.replaceState(null, "", location.pathname + location.search);
}

function listen(): void {
  for (const event of ["blur", "keydown"]) video.addEventListener(event, () => delete video.dataset["quiet"]);
  placeGlyphs();
  new OrbitControls(camera, video, { onChange: sendPose, onFit: fitView });
  new ResizeObserver(resized).observe(stage);

  const on = (id: string, listener: () => void): void => byId(id).addEventListener("click", listener);
  const loadSample = (): void => {
    showLoads();
    void scene?.load(SAMPLE_URI);
  };
  const chooseFile = (): void => byId("file-input").click();
  on("sample", loadSample);
  on("empty-sample", loadSample);
  on("file", chooseFile);
  on("empty-file", chooseFile);
  on("folder", () => byId("folder-input").click());
  on("fit", fitView);
  on("panel-toggle", () => togglePanel());
  on("statistics-toggle", () => toggleStatistics());
  on("clear", () => void scene?.clear().catch((thrown: unknown) => scene?.report(thrown)));
  on("leave", () => void connection?.close());
  on("fullscreen", () => {
    const change = document.fullscreenElement
      ? document.exitFullscreen()
      : document.documentElement.requestFullscreen();
    change.catch(() => undefined);
  });
  byId("fullscreen").hidden = !document.fullscreenEnabled;

  byId("load-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const field = byId<HTMLInputElement>("uri");
    const uri = field.value.trim();
    if (uri === "") {
      field.focus();
      return;
    }
    field.value = "";
    void scene?.load(uri);
  });

  for (const id of ["file-input", "folder-input"]) {
    const input = byId<HTMLInputElement>(id);
    input.addEventListener("change", () => {
      if (!input.files?.length) return;
      try {
        const files = filesOfInput(input.files);
        showLoads();
        void scene?.loadFiles(files);
      } catch (thrown) {
        scene?.report(thrown);
      }
      input.value = "";
    });
  }

  let dragDepth = 0;
  const dragging = (by: number): void => {
    dragDepth = Math.max(0, dragDepth + by);
    byId("drop").hidden = watching || dragDepth === 0 || (state !== "connected" && state !== "interrupted");
  };
  const carriesFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") ?? false;
  addEventListener("dragenter", (event) => carriesFiles(event) && dragging(1));
  addEventListener("dragleave", (event) => carriesFiles(event) && dragging(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    dragging(-dragDepth);
    if (!event.dataTransfer || !scene || watching) return;
    showLoads();
    filesOfDrop(event.dataTransfer).then(
      (files) => scene?.loadFiles(files),
      (thrown: unknown) => scene?.report(thrown),
    );
  });

  addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !connection) return;
    if (event.key.toLowerCase() === "s") toggleStatistics();
  });
}

listen();
void run();
