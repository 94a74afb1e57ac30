/** The statistics overlay: how fluent, how late, and where the time goes. */

import { type Connection, STAGES, type Stage, type WayKind } from "@farframe/client";
import { grouped, h, milliseconds } from "../../shared/dom.ts";

export const STAGE_TITLES: Readonly<Record<Stage, string>> = {
  input: "To server",
  wait: "Wait",
  draw: "Draw",
  readBack: "Read back",
  encode: "Encode",
  send: "Send",
  network: "Network",
  decode: "Decode",
  show: "Show",
};

const WAY_TITLES: Readonly<Record<WayKind, string>> = {
  webrtc: "WebRTC",
  turn: "WebRTC by way of TURN",
  websocket: "WebSocket",
};

const FACTS = [
  "Latency p95",
  "Round trip",
  "Way",
  "Picture",
  "Drawn at",
  "Detail",
  "Frame",
  "Lost, dropped",
  "Encoder",
  "Adapter",
] as const;
type Fact = (typeof FACTS)[number];

export class StatisticsPanel {
  readonly #element: HTMLElement;
  readonly #headline: HTMLElement[];
  readonly #segments: HTMLElement[];
  readonly #numbers: HTMLElement[];
  readonly #facts: Record<Fact, HTMLElement>;

  constructor(element: HTMLElement) {
    this.#element = element;
    this.#headline = [
      h("dd", { "data-testid": "fps" }),
      h("dd", { "data-testid": "latency" }),
      h("dd", { "data-testid": "bitrate" }),
    ];
    this.#segments = STAGES.map((stage) => colored(h("div", { title: STAGE_TITLES[stage] }), stage));
    this.#numbers = STAGES.map((stage) => h("dd", { "data-testid": `stage-${stage}` }));
    const facts = FACTS.map((fact) => [fact, h("dd", fact === "Way" ? { "data-testid": "way" } : {})] as const);
    this.#facts = Object.fromEntries(facts) as Record<Fact, HTMLElement>;
    const titles = ["frames/s", "latency", "bitrate"];
    element.replaceChildren(
      h(
        "dl",
        { class: "headline" },
        ...this.#headline.map((value, index) => h("div", {}, h("dt", {}, titles[index]), value)),
      ),
      h("div", { class: "stack", role: "img", "aria-label": "Latency by stage" }, ...this.#segments),
      h(
        "dl",
        { class: "legend" },
        ...STAGES.map((stage, index) =>
          h("div", {}, colored(h("i"), stage), h("dt", {}, STAGE_TITLES[stage]), this.#numbers[index]),
        ),
      ),
      h("dl", { class: "facts" }, ...facts.flatMap(([fact, value]) => [h("dt", {}, fact), value])),
    );
  }

  /** Shows the connection's last second. */
  update(connection: Connection): void {
    if (this.#element.hidden) return;
    const statistics = connection.statistics;
    const record = connection.lastRecord;
    const [fps, latency, bitrate] = this.#headline as [HTMLElement, HTMLElement, HTMLElement];
    fps.textContent = statistics ? String(statistics.framesPerSecond) : "–";
    withUnit(latency, milliseconds(statistics?.latencyMedian), "ms");
    withUnit(bitrate, statistics ? (statistics.bitrate / 1e6).toFixed(1) : "–", "Mbit/s");
    const stages = statistics?.stages;
    const total = stages ? STAGES.reduce((sum, stage) => sum + stages[stage], 0) : 0;
    STAGES.forEach((stage, index) => {
      const value = stages?.[stage];
      (this.#segments[index] as HTMLElement).style.width = total > 0 ? `${((value ?? 0) / total) * 100}%` : "0";
      (this.#numbers[index] as HTMLElement).textContent = milliseconds(value);
    });
    const set = (fact: Fact, text: string): void => {
      this.#facts[fact].textContent = text;
    };
    set("Latency p95", `${milliseconds(statistics?.latencyHigh)} ms`);
    set("Round trip", `${milliseconds(statistics?.roundTripMilliseconds)} ms`);
    const { kind, relayed, reason } = connection.way;
    set("Way", `${WAY_TITLES[kind]}${relayed && kind === "websocket" ? ", through the service" : ""}`);
    this.#facts.Way.title = reason;
    set("Lost, dropped", statistics ? `${statistics.packetsLost} packets, ${statistics.framesDropped} frames` : "–");
    if (record) {
      set("Picture", `${record.width} × ${record.height}`);
      set(
        "Drawn at",
        `${record.drawnWidth} × ${record.drawnHeight}, ${record.samples} ${record.samples === 1 ? "sample" : "samples"}`,
      );
      set(
        "Detail",
        `${grouped(record.triangles)} triangles, ${grouped(record.draws)} draws${record.reducedParts > 0 ? `, ${grouped(record.reducedParts)} reduced` : ""}`,
      );
      const what = record.keepAlive
        ? "kept alive"
        : record.still
          ? "still, full quality"
          : record.keyframe
            ? "keyframe"
            : "motion";
      set("Frame", `${grouped(record.frameId)}, ${what}`);
    }
    set("Encoder", connection.info.server.encoder);
    set("Adapter", connection.info.server.adapter);
  }
}

function colored<T extends HTMLElement>(element: T, stage: Stage): T {
  element.style.background = `var(--stage-${stage})`;
  return element;
}

function withUnit(element: HTMLElement, value: string, unit: string): void {
  element.replaceChildren(value, h("small", {}, unit));
}
