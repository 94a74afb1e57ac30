/** The models in the scene: uploads and loads with their progress, the list, and the box around all of them. */

import {
  type Connection,
  type Entity,
  type LoadedModel,
  type ManagementClient,
  toFarframeError,
  type UploadFile,
  unionBounds,
} from "@farframe/client";
import { byId, bytes, glyph, grouped, h, withCode } from "../../shared/dom.ts";
import { explain } from "../../shared/messages.ts";
import { modelAmong } from "./files.ts";

export const SAMPLE_URI = "builtin://Engine";

const STAGE_TEXTS: Readonly<Record<string, string>> = {
  download: "Fetching",
  read: "Reading",
  simplify: "Preparing levels of detail",
  upload: "Handing over to the graphics adapter",
};

/** One thing that goes on, with a bar; after a failure it stays with what went wrong until dismissed. */
class Activity {
  readonly #abort = new AbortController();
  readonly #stage = h("span", { class: "stage grow ellipsis", "data-testid": "activity-stage" });
  readonly #fill = h("div");
  readonly #button = h("button", { type: "button", class: "small", click: () => this.#abort.abort() }, "Cancel");
  readonly #element: HTMLElement;

  constructor(name: string) {
    this.#element = h(
      "div",
      { class: "activity", "data-testid": "activity" },
      h("div", { class: "ellipsis", title: name }, name),
      h("div", { class: "bar", role: "progressbar", "aria-label": name }, this.#fill),
      h("div", { class: "row" }, this.#stage, this.#button),
    );
    const list = byId("activities");
    list.append(this.#element);
    list.hidden = false;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  update(stage: string, fraction: number): void {
    this.#stage.textContent = `${stage}, ${Math.floor(fraction * 100)} %`;
    this.#fill.style.width = `${fraction * 100}%`;
  }

  end(): void {
    this.#element.remove();
    const list = byId("activities");
    list.hidden = list.childElementCount === 0;
  }

  fail(thrown: unknown): void {
    const error = toFarframeError(thrown, "Loading");
    if (error.result === "Cancelled") {
      this.end();
      return;
    }
    const { title, text } = explain(error);
    this.#element.dataset.result = error.result;
    this.#element.replaceChildren(
      h(
        "div",
        { class: "row" },
        h("span", { class: "problem grow", role: "alert", "data-testid": "load-error" }, title),
      ),
      h("p", { class: "soft" }, ...withCode(text)),
      h("div", { class: "row" }, h("button", { type: "button", class: "small", click: () => this.end() }, "Dismiss")),
    );
  }
}

export interface ModelEvents {
  /** The models changed; `loaded` is the root of the newest when one came. */
  onChange(models: readonly LoadedModel[], loaded: Entity | undefined): void;
  /** Whether the scene is empty and nothing is on its way into it. */
  onEmpty(empty: boolean): void;
}

export class ModelList {
  readonly #connection: Connection;
  readonly #management: ManagementClient;
  readonly #events: ModelEvents;
  readonly #models: LoadedModel[] = [];
  #last: Promise<unknown> = Promise.resolve();
  #loading = 0;

  constructor(connection: Connection, management: ManagementClient, events: ModelEvents) {
    this.#connection = connection;
    this.#management = management;
    this.#events = events;
    byId("activities").replaceChildren();
    byId("activities").hidden = true;
    this.#draw();
  }

  get models(): readonly LoadedModel[] {
    return this.#models;
  }

  get bounds() {
    return unionBounds(this.#models.map((model) => model.bounds));
  }

  /** Loads by URI, one after the other. Never rejects: what fails is shown. */
  load(uri: string): Promise<void> {
    const activity = new Activity(uri);
    activity.update("Waiting", 0);
    return this.#queue(() => this.#load(uri, activity), activity);
  }

  /** Uploads files and loads the model among them. Never rejects. */
  loadFiles(files: readonly UploadFile[]): Promise<void> {
    let model: UploadFile;
    try {
      model = modelAmong(files);
    } catch (error) {
      new Activity("Files").fail(error);
      return Promise.resolve();
    }
    const activity = new Activity(model.path);
    activity.update("Waiting", 0);
    return this.#queue(async () => {
      const total = files.reduce((sum, file) => sum + file.data.size, 0);
      const uris = await this.#management.upload(files, {
        signal: activity.signal,
        onProgress: ({ fraction }) => activity.update(`Uploading ${bytes(total)}`, fraction),
      });
      await this.#load(uris[files.indexOf(model)] as string, activity);
    }, activity);
  }

  /** Shows a problem that came up before a load could begin. */
  report(error: unknown): void {
    new Activity("Files").fail(error);
  }

  /** Takes everything out of the scene. */
  async clear(): Promise<void> {
    await this.#connection.clearScene();
    // One whose load ended while the answer was on its way is in the scene.
    const { scene } = this.#connection;
    const left = this.#models.filter((model) => scene.get(model.rootEntity) !== undefined);
    this.#models.splice(0, this.#models.length, ...left);
    this.#draw();
    this.#events.onChange(this.#models, undefined);
  }

  async #unload(model: LoadedModel): Promise<void> {
    try {
      await this.#connection.unloadModel(model.modelId);
    } catch (error) {
      this.report(error);
      return;
    }
    // The list may have been cleared before the answer came.
    const at = this.#models.indexOf(model);
    if (at < 0) return;
    this.#models.splice(at, 1);
    this.#draw();
    this.#events.onChange(this.#models, undefined);
  }

  #queue(task: () => Promise<void>, activity: Activity): Promise<void> {
    this.#loading += 1;
    this.#tellEmpty();
    const run = async (): Promise<void> => {
      try {
        activity.signal.throwIfAborted();
        await task();
        activity.end();
      } catch (error) {
        activity.fail(error);
      } finally {
        this.#loading -= 1;
        this.#tellEmpty();
      }
    };
    const queued = this.#last.then(run);
    this.#last = queued;
    return queued;
  }

  async #load(uri: string, activity: Activity): Promise<void> {
    activity.update("Asking the server", 0);
    const root = await this.#connection.scene.loadModel(uri, {
      signal: activity.signal,
      onProgress: ({ stage, fraction }) => activity.update(STAGE_TEXTS[stage] ?? stage, fraction),
    });
    if (root.model) this.#models.push(root.model);
    this.#draw();
    this.#events.onChange(this.#models, root);
  }

  #tellEmpty(): void {
    this.#events.onEmpty(this.#models.length === 0 && this.#loading === 0);
  }

  #draw(): void {
    this.#tellEmpty();
    byId("models-section").hidden = this.#models.length === 0;
    byId("models").replaceChildren(
      ...this.#models.map((model) => {
        const name = model.name || model.uri;
        const warnings =
          model.warnings.length > 0 &&
          h(
            "details",
            { class: "warnings" },
            h("summary", {}, model.warnings.length === 1 ? "1 remark" : `${model.warnings.length} remarks`),
            ...model.warnings.map((warning) => h("div", {}, warning)),
          );
        const remove = h("button", {
          class: "small icon quiet",
          title: `Remove ${name}`,
          "aria-label": `Remove ${name}`,
          click: () => void this.#unload(model),
        });
        remove.append(glyph("trash"));
        return h(
          "li",
          { "data-testid": "model", "data-model": model.modelId },
          h("span", { class: "name ellipsis", title: model.uri }, name),
          h(
            "span",
            { class: "counts numbers" },
            `${grouped(model.triangleCount)} triangles, ${grouped(model.partCount)} parts`,
          ),
          remove,
          warnings,
        );
      }),
    );
  }
}
