/** The statistics overlay: how fluent, how late, and where the time goes. */

import { type Connection, type ServerStatistics, STAGES, type Stage, type WayKind } from "@farframe/client";
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

const SERVER_POLL_MILLISECONDS = 2000;

const FACTS = [
  "Latency p95",
  "Round trip",
  "Way",
  "Picture",
  "Drawn at",
  "Detail",
  "Frame",
  "Lost, dropped",
  "Adapter",
  "Encoder",
] as const;
type Fact = (typeof FACTS)[number];

export class StatisticsPanel {
  readonly #element: HTMLElement;
  readonly #headline: HTMLElement[];
  readonly #segments: HTMLElement[];
  readonly #numbers: HTMLElement[];
  readonly #late: HTMLElement[];
  readonly #facts: Record<Fact, HTMLElement>;
  readonly #reason = h("div", { class: "reason", "data-testid": "encoder-reason" });
  #server: ServerStatistics | undefined;
  #askedAt = -Infinity;

  constructor(element: HTMLElement) {
    this.#element = element;
    this.#headline = [
      h("dd", { "data-testid": "fps" }),
      h("dd", { "data-testid": "latency" }),
      h("dd", { "data-testid": "bitrate" }),
    ];
    this.#segments = STAGES.map((stage) => colored(h("div", { title: STAGE_TITLES[stage] }), stage));
    this.#numbers = STAGES.map((stage) => h("td", { "data-testid": `stage-${stage}` }));
    this.#late = STAGES.map((stage) => h("td", { "data-testid": `late-${stage}` }));
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
        "table",
        { class: "legend" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, "Milliseconds"),
            h("th", { scope: "col", title: "Median of the last second" }, "Now"),
            h("th", { scope: "col", title: "Of a hundred frames of the last ten seconds one is later" }, "p99"),
          ),
        ),
        h(
          "tbody",
          {},
          ...STAGES.map((stage, index) =>
            h(
              "tr",
              {},
              h("th", { scope: "row" }, colored(h("i"), stage), STAGE_TITLES[stage]),
              this.#numbers[index],
              this.#late[index],
            ),
          ),
        ),
      ),
      h("dl", { class: "facts" }, ...facts.flatMap(([fact, value]) => [h("dt", {}, fact), value])),
      h("h3", {}, "Why this encoder"),
      this.#reason,
    );
  }

  /** Shows the connection's last second. */
  update(connection: Connection): void {
    if (this.#element.hidden) return;
    void this.#ask(connection);
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
      (this.#late[index] as HTMLElement).textContent = milliseconds(this.#server?.stages?.[stage]?.p99);
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
    // One reason a line: why none of the encoders before it is used.
    this.#reason.replaceChildren(...(this.#server?.encoderReason ?? "").split("; ").map((part) => h("div", {}, part)));
    set("Adapter", connection.info.server.adapter);
  }

  /** What only the server knows: how late the latest frames were, and why it encodes as it does. */
  async #ask(connection: Connection): Promise<void> {
    const now = performance.now();
    if (now - this.#askedAt < SERVER_POLL_MILLISECONDS) return;
    this.#askedAt = now;
    // Without an answer what was known before stays; the next one comes soon.
    this.#server = await connection.serverStatistics().catch(() => this.#server);
  }
}

function colored<T extends HTMLElement>(element: T, stage: Stage): T {
  element.style.background = `var(--stage-${stage})`;
  return element;
}

function withUnit(element: HTMLElement, value: string, unit: string): void {
  element.replaceChildren(value, h("small", {}, unit));
}
