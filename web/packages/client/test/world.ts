/** A server with lines that a test breaks, in the place of transports. */

import {
  type ConnectionInfo,
  FarframeError,
  type LoadedModel,
  type ShownFrame,
  type Transport,
  type TransportEvents,
  type TransportSample,
  type WayOpeners,
  type WayOptions,
} from "../src/index.ts";

export type Answer = (method: string, params: Record<string, unknown>) => object | FarframeError | undefined;

/** What is not answered stays so, until a test answers it. */
export class World {
  readonly lines: FakeLine[] = [];
  /** Of each attempt, what it asked for. */
  readonly attempts: WayOptions[] = [];
  readonly asked: { line: number; id: number | undefined; method: string; params: Record<string, unknown> }[] = [];
  /** Thrown by the next attempts, one each. */
  refusals: FarframeError[] = [];
  models: LoadedModel[] = [];
  /** Whether `connection.open` tells only the first of them. */
  moreModels = false;
  role: "driver" | "viewer" = "driver";
  /** The driving device's picture, for who watches. */
  video: object | undefined;
  grace = 30;
  secret: string | undefined = "secret";
  answer: Answer = () => ({});
  readonly openers: WayOpeners = {
    webrtc: async (options, events) => this.open(options, events),
    websocket: async () => {
      throw new FarframeError("HandshakeFailed", "There is no other way.");
    },
  };

  open(options: WayOptions, events: TransportEvents): Transport {
    this.attempts.push(options);
    const refusal = this.refusals.shift();
    if (refusal) throw refusal;
    const line = new FakeLine(this, this.lines.length, events);
    this.lines.push(line);
    return line;
  }

  get line(): FakeLine {
    return this.lines.at(-1) as FakeLine;
  }

  reply(method: string, params: Record<string, unknown>): object | FarframeError | undefined {
    if (method === "connection.open") {
      return {
        protocol: 1,
        sessionId: "s",
        size: "Standard",
        server: { version: "1", adapter: "a", adapterKind: "cpu", encoder: "x264" },
        role: this.role,
        ...(params.renderMode !== undefined && { renderMode: params.renderMode }),
        video: this.video ?? { width: params.width, height: params.height, maxFramesPerSecond: 60, maxBitrate: 1 },
        maxWidth: 4096,
        maxHeight: 4096,
        ...(this.secret && { resumeSecret: this.secret, resumeGraceSeconds: this.grace }),
        ...(this.lines.length > 1 && { resumed: true, scene: this.described }),
      } satisfies Partial<Record<keyof ConnectionInfo, unknown>>;
    }
    if (method === "connection.ping") return { serverTimeMicroseconds: 1 };
    return this.answer(method, params);
  }

  get described(): { models: LoadedModel[]; settings: object; more?: boolean } {
    return this.moreModels
      ? { models: this.models.slice(0, 1), settings: {}, more: true }
      : { models: this.models, settings: {} };
  }

  /** Answers the last request of that method over the present line. */
  settle(method: string, result: object, which = -1): void {
    const line = this.lines.length - 1;
    const { id } = this.asked.filter((each) => each.line === line && each.method === method).at(which) ?? {};
    this.line.events.control(JSON.stringify({ jsonrpc: "2.0", id, result }));
  }

  /** The commands that were sent over a line. */
  commands(line: number): Record<string, unknown>[] {
    const sent = this.asked.filter((each) => each.line === line && each.method === "scene.apply");
    return sent.flatMap(({ params }) => params.commands as Record<string, unknown>[]);
  }

  methods(line: number): string[] {
    return this.asked
      .filter((each) => each.line === line && each.method !== "connection.ping")
      .map(({ method }) => method);
  }
}

export class FakeLine implements Transport {
  readonly kind = "webrtc";
  readonly relayed = false;
  readonly stream = {} as MediaStream;
  readonly poses: ArrayBuffer[] = [];
  readonly events: TransportEvents;
  open = true;
  ended = false;
  attachments = 0;
  shown: ((frame: ShownFrame) => void) | undefined;
  readonly #world: World;
  readonly #number: number;

  constructor(world: World, number: number, events: TransportEvents) {
    this.#world = world;
    this.#number = number;
    this.events = events;
  }

  sendControl(text: string): void {
    if (!this.open) throw new Error("closed");
    const { id, method, params } = JSON.parse(text) as { id?: number; method: string; params: Record<string, unknown> };
    this.#world.asked.push({ line: this.#number, id, method, params });
    if (id === undefined) return;
    const result = this.#world.reply(method, params);
    if (!result) return;
    const error = result instanceof FarframeError && {
      code: -32000,
      message: result.message,
      data: { result: result.result },
    };
    queueMicrotask(() => {
      if (this.open) this.events.control(JSON.stringify({ jsonrpc: "2.0", id, ...(error ? { error } : { result }) }));
    });
  }

  sendPose(bytes: ArrayBuffer): void {
    this.poses.push(bytes);
  }

  poseBacklog(): number {
    return 0;
  }

  attach(_video: HTMLVideoElement, shown: (frame: ShownFrame) => void): () => void {
    this.shown = shown;
    this.attachments++;
    return () => {
      this.attachments--;
    };
  }

  sample: () => Promise<TransportSample | undefined> = async () => undefined;

  async end(): Promise<void> {
    this.ended = true;
  }

  close(): void {
    this.open = false;
  }

  /** The line breaks, as a transport tells it. */
  break(): void {
    this.open = false;
    this.events.lost();
  }
}

/** A model as the server tells it. */
export const model = (modelId: number): LoadedModel =>
  ({ modelId, rootEntity: 2 ** 31 + modelId, entityCount: 1, uri: "x", name: "x" }) as LoadedModel;
