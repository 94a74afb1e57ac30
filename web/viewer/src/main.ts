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
  type OrbitState,
  toFarframeError,
  type WayChoice,
} from "@farframe/client";
import "../../shared/theme.css";
import "./viewer.css";
import "./tools.css";
import { managementFor, signIn, signOut, takeFragment } from "../../shared/access.ts";
import { byId, placeGlyphs } from "../../shared/dom.ts";
import type { Remedy } from "../../shared/messages.ts";
import { watchLease } from "./lease.ts";
import { listenForModels } from "./loading.ts";
import { ModelList } from "./model_list.ts";
import { chooseSession, clearScreen, showError, showProgress } from "./screens.ts";
import { StatisticsPanel } from "./statistics_panel.ts";
import { Workbench } from "./workbench.ts";

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
  /** The ids of the entities that are selected. */
  readonly selection: readonly number[];
}

declare global {
  interface Window {
    farframeViewer: ViewerHandle;
  }
}

const WIDE = "(width >= 720px)";

const video = byId<HTMLVideoElement>("video");
placeGlyphs();
const workbench = new Workbench(video, byId("stage"), {
  toggleStatistics: () => toggleStatistics(),
  togglePanel: (open) => togglePanel(open),
});
const statisticsPanel = new StatisticsPanel(byId("statistics"));

let state: PageState = "link";
let sessionId: string | undefined;
let error: FarframeError | undefined;
let connection: Connection | undefined;
let models: ModelList | undefined;
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
    return models?.models ?? [];
  },
  get camera() {
    return workbench.viewport.camera.state;
  },
  get selection() {
    return workbench.selection.entities.map((entity) => entity.id);
  },
};

function setState(next: PageState): void {
  state = next;
  document.body.dataset.state = next;
  const live = next === "connected" || next === "interrupted";
  byId("toolbar").hidden = !live;
  for (const id of ["fit", "view-button", "measure", "section", "explode"]) byId(id).hidden = watching;
  byId("panel-toggle").hidden = !live || watching;
  byId("leave").hidden = !live;
  byId("panel").hidden = !live || !panelOpen || watching;
  byId("panel-toggle").setAttribute("aria-expanded", String(panelOpen));
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
  if (watching || !models) return;
  panelOpen = open;
  openForLoad = false;
  byId("panel").hidden = !open;
  byId("panel-toggle").setAttribute("aria-expanded", String(open));
}

/** Shows how a load goes on; on a small screen the panel goes away again when the model is there. */
function showLoads(): void {
  workbench.tabs.show("models-panel");
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

/** One connection from the handshake to its end; resolves with why it ended. */
async function connected(
  management: ManagementClient,
  id: string,
  reload: readonly string[],
  returning: boolean,
): Promise<FarframeError> {
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
    ...workbench.viewport.firstSize,
  });
  connection = live;
  const close = workbench.open(live);
  models = new ModelList(live, management, {
    onEmpty: (empty) => {
      sceneEmpty = empty;
      byId("empty").hidden = !empty || watching;
    },
    onChange: (all, loaded) => {
      if (loaded && openForLoad) togglePanel(false);
      workbench.modelsChanged(all, loaded, loaded !== undefined && all.length === 1 && !keepCamera);
    },
  });
  // Who comes back finds the camera where it was.
  let keepCamera = returning && reload.length > 0;
  clearScreen();
  setState("connected");
  const ended = new Promise<FarframeError>((resolve) => live.on("closed", resolve));
  live.on("state", (next) => {
    if (next === "connected" || next === "interrupted") setState(next);
  });
  live.on("driver", () => setState(state));
  live.on("resumed", () => {
    // Its view may have changed meanwhile, and so may the size of this window.
    workbench.viewport.resized();
    statisticsPanel.update(live);
  });
  live.on("frame", (entry) => {
    lastShown = entry;
  });
  live.on("statistics", () => statisticsPanel.update(live));
  const lease = watchLease(management, id, {
    watching,
    onProblem: (thrown) => {
      workbench.tabs.show("models-panel");
      models?.report(thrown);
      togglePanel(true);
    },
  });
  workbench.viewport.resized();
  workbench.viewport.focus();
  const loads = Promise.all(reload.map((uri) => models?.load(uri)));
  void loads.then(() => {
    keepCamera = false;
  });
  try {
    return await ended;
  } finally {
    lease.abort();
    close();
  }
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
  let returning = false;
  sessionId = fragment.get("session") ?? undefined;
  const first = fragment.get("model");
  if (first) reload = [first];
  workbench.link = fragment.get("view");
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
      error = await connected(management, sessionId, kept, returning);
      returning = true;
      reload = models?.models.map((model) => model.uri) ?? [];
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
      returning = false;
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

byId("panel-toggle").addEventListener("click", () => togglePanel());
byId("panel-close").addEventListener("click", () => {
  togglePanel(false);
  byId("panel-toggle").focus();
});
byId("statistics-toggle").addEventListener("click", () => toggleStatistics());
byId("leave").addEventListener("click", () => void connection?.close());
listenForModels({
  models: () => (watching || (state !== "connected" && state !== "interrupted") ? undefined : models),
  onBegin: showLoads,
});
void run();
