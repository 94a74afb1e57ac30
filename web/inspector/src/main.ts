/** The inspector's page, served by a render server: what each frame cost, and the server's log. */

import type { FarframeError } from "@farframe/client";
import "../../shared/theme.css";
import "./inspector.css";
import { takeFragment } from "../../shared/access.ts";
import { byId, bytes, grouped, h, milliseconds, withCode } from "../../shared/dom.ts";
import { explain } from "../../shared/messages.ts";
import {
  addDeviceLine,
  INSPECTED_STAGE_TITLES,
  INSPECTED_STAGES,
  type InspectedFrame,
  readFrame,
  stageOf,
  summarize,
} from "./frames.ts";
import { Graph } from "./graph.ts";
import { follow } from "./lines.ts";

const STORAGE_KEY = "farframe.inspector";
const KEPT_FRAMES = 600;
const LISTED_FRAMES = 80;
const KEPT_LOG_LINES = 500;
const LEVELS: readonly string[] = ["debug", "info", "warning", "error"];
/** Members of a log line that have a place of their own. */
const OWN_MEMBERS: ReadonlySet<string> = new Set(["timestamp", "level", "event"]);

const fragmentToken = takeFragment().get("token");
if (fragmentToken) sessionStorage.setItem(STORAGE_KEY, fragmentToken);
const token = fragmentToken ?? sessionStorage.getItem(STORAGE_KEY) ?? "";

let frames: InspectedFrame[] = [];
let log: Record<string, unknown>[] = [];
let paused = false;
let framesChanged = true;
let logChanged = true;

function rank(level: unknown): number {
  const name = level === "critical" ? "error" : level === "warn" ? "warning" : level;
  const at = LEVELS.indexOf(String(name));
  return at < 0 ? 1 : at;
}

function drawFrames(graph: Graph): void {
  graph.update(frames);
  const { fps, bitrate, median, high } = summarize(frames);
  const last = frames.at(-1);
  const figure = (title: string, value: string): HTMLElement => h("div", {}, h("dt", {}, title), h("dd", {}, value));
  byId("figures").replaceChildren(
    figure("frames/s", last ? String(fps) : "–"),
    figure("Mbit/s", last ? (bitrate / 1e6).toFixed(1) : "–"),
    figure("ms per frame, median", last ? milliseconds(median) : "–"),
    figure("ms, 95th percentile", last ? milliseconds(high) : "–"),
    figure("drawn at", last ? `${last.drawnWidth} × ${last.drawnHeight}` : "–"),
    figure(last?.samples === 1 ? "sample" : "samples", last ? String(last.samples) : "–"),
    figure("triangles", last ? grouped(last.triangles) : "–"),
  );
  byId("frames").replaceChildren(
    ...(frames.length === 0
      ? [
          h(
            "tr",
            {},
            h("td", { class: "blank", colspan: INSPECTED_STAGES.length + 4 }, "No frame yet: connect a device."),
          ),
        ]
      : frames
          .slice(-LISTED_FRAMES)
          .reverse()
          .map((frame) =>
            h(
              "tr",
              { "data-testid": "frame" },
              h("td", {}, String(frame.frameId)),
              h("td", {}, String(frame.poseId)),
              ...INSPECTED_STAGES.map((stage) => h("td", {}, milliseconds(stageOf(frame, stage)))),
              h("td", {}, bytes(frame.bytes)),
              h("td", { class: "kind" }, frame.missing ? "never arrived" : frame.kind),
            ),
          )),
  );
}

function drawLog(): void {
  const host = byId("log");
  const lowest = rank(byId<HTMLSelectElement>("level").value);
  const atEnd = host.scrollHeight - host.scrollTop - host.clientHeight < 24;
  const shown = log.filter((line) => rank(line.level) >= lowest);
  host.replaceChildren(
    ...(shown.length === 0
      ? [h("p", { class: "blank" }, "Nothing to report.")]
      : shown.map((line) => {
          const members = Object.entries(line)
            .filter(([name]) => !OWN_MEMBERS.has(name))
            .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`)
            .join(" ");
          const level = LEVELS[rank(line.level)] ?? "info";
          const at = new Date(String(line.timestamp));
          const time = Number.isNaN(at.getTime()) ? "" : at.toLocaleTimeString([], { hour12: false });
          return h(
            "div",
            { "data-testid": "log-line", "data-level": level },
            h("time", {}, time),
            h("span", { class: "level" }, level),
            h("span", { class: "text" }, `${String(line.event ?? "")} `, h("span", { class: "members" }, members)),
          );
        })),
  );
  if (atEnd) host.scrollTop = host.scrollHeight;
}

const problems = new Map<string, FarframeError>();

function showProblems(source: string, error: FarframeError | undefined): void {
  if (error) problems.set(source, error);
  else problems.delete(source);
  const [first] = problems.values();
  const state = byId("state");
  state.textContent = first ? "Not connected" : "Live";
  state.dataset.tone = first ? "bad" : "good";
  const problem = byId("problem");
  problem.hidden = first === undefined;
  if (!first) return;
  const { title, text } =
    first.result === "AuthenticationFailed"
      ? { title: "No access", text: "The token is missing or has expired. Open the inspector from the console again." }
      : explain(first);
  problem.replaceChildren(h("strong", {}, title), ...withCode(text));
}

function begin(): void {
  byId("legend").replaceChildren(
    ...INSPECTED_STAGES.map((stage) => {
      const mark = h("i");
      mark.style.background = `var(--stage-${stage})`;
      return h("li", {}, mark, INSPECTED_STAGE_TITLES[stage]);
    }),
  );
  const heads = ["Frame", "Pose", ...INSPECTED_STAGES.map((stage) => INSPECTED_STAGE_TITLES[stage]), "Size", ""];
  byId("frames-head").replaceChildren(h("tr", {}, ...heads.map((head) => h("th", { scope: "col" }, head))));
  const graph = new Graph(byId("graph"));
  const pause = byId("pause");
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Resume" : "Pause";
  });
  byId("level").addEventListener("change", drawLog);

  void follow("ledger", token, {
    onStart: () => {
      frames = [];
      framesChanged = true;
    },
    onLines: (lines) => {
      for (const line of lines) {
        if (addDeviceLine(frames, line)) continue;
        const frame = readFrame(line, frames.at(-1)?.poseId);
        if (frame) frames.push(frame);
      }
      frames = frames.slice(-KEPT_FRAMES);
      framesChanged = true;
    },
    onProblem: (error) => showProblems("ledger", error),
  });
  void follow("log", token, {
    onStart: () => {
      log = [];
      logChanged = true;
    },
    onLines: (lines) => {
      log = [...log, ...lines].slice(-KEPT_LOG_LINES);
      logChanged = true;
    },
    onProblem: (error) => showProblems("log", error),
  });

  const draw = (): void => {
    if (!paused) {
      if (framesChanged) drawFrames(graph);
      if (logChanged) drawLog();
      framesChanged = false;
      logChanged = false;
    }
    requestAnimationFrame(draw);
  };
  draw();
}

begin();
