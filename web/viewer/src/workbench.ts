/**
 * The tools of the page and how they meet: what one does, the others see. Each tool is a module of its own; here is only
 * what is between them.
 *
 *     picture ──pick──► selection ──► outline, tree, properties
 *                └────► measure
 *     tree, properties, keys ──► visibility ──► scene
 *     toolbar ──► tools (measure, section, explode), one open at a time
 */

import { type Bounds, type Connection, type Entity, type LoadedModel, type Scene, unionBounds } from "@farframe/client";
import { announce } from "../../shared/announce.ts";
import { byId, h } from "../../shared/dom.ts";
import { download, fileName } from "../../shared/download.ts";
import { Popover } from "../../shared/popover.ts";
import { rove } from "../../shared/roving.ts";
import { Tabs } from "../../shared/tabs.ts";
import { ExplodeTool } from "./explode_tool.ts";
import { lengthOf, middleOf, scaled, subtract } from "./geometry.ts";
import { materialSection } from "./material_section.ts";
import { MeasureTool } from "./measure_tool.ts";
import { type NamedView, viewFromLink } from "./named_views.ts";
import { Overlay } from "./overlay.ts";
import { type PicturePoint, rayThrough } from "./projection.ts";
import { PropertyPanel } from "./property_panel.ts";
import { pictureOf, waitForStill } from "./screenshot.ts";
import { SectionTool } from "./section_tool.ts";
import { Selection } from "./selection.ts";
import { type Shortcut, Shortcuts } from "./shortcuts.ts";
import { STANDARD_VIEWS, type StandardView, VIEW_TITLES } from "./standard_views.ts";
import { TreeModel, titleOf } from "./tree_model.ts";
import { TreeView } from "./tree_view.ts";
import { Viewport } from "./viewport.ts";
import { ViewsPanel } from "./views_panel.ts";
import { isHidden, Visibility } from "./visibility.ts";

export type ToolName = "measure" | "section" | "explode";

const BOUNDS_DELAY_MILLISECONDS = 150;
/** How long a change of the scene takes to the picture at most, before a still picture is waited for. */
const SETTLE_MILLISECONDS = 250;
/** Surfaces before a section that a click may have to go through. */
const MAX_HITS = 256;
const NARROW = "(width < 720px)";

export interface WorkbenchEvents {
  toggleStatistics(): void;
  togglePanel(open?: boolean): void;
}

export class Workbench {
  readonly viewport: Viewport;
  readonly selection: Selection;
  readonly tabs: Tabs;
  readonly #events: WorkbenchEvents;
  readonly #video: HTMLVideoElement;
  readonly #overlay: Overlay;
  readonly #tree: TreeView;
  readonly #treeModel: TreeModel;
  readonly #properties: PropertyPanel;
  readonly #views: ViewsPanel;
  readonly #viewMenu: Popover;
  readonly #measure: MeasureTool;
  readonly #explode: ExplodeTool;
  readonly #section: SectionTool;
  readonly #edges = h("input", {
    type: "checkbox",
    "data-testid": "edges",
    change: () => this.setEdges(this.#edges.checked),
  });
  readonly #parallel = h("input", {
    type: "checkbox",
    "data-testid": "orthographic",
    change: () => this.setOrthographic(this.#parallel.checked),
  });
  #connection: Connection | undefined;
  #scene: Scene | undefined;
  #visibility: Visibility | undefined;
  #models: readonly LoadedModel[] = [];
  #bounds: Bounds | undefined;
  #boundsTimer: ReturnType<typeof setTimeout> | undefined;
  #tool: ToolName | undefined;
  #picks = 0;
  /** The view that a link asked for, until there is a model to see it with. */
  #linked: NamedView | undefined;

  constructor(video: HTMLVideoElement, stage: HTMLElement, events: WorkbenchEvents) {
    this.#events = events;
    this.#video = video;
    this.#overlay = new Overlay(byId("overlay") as unknown as SVGSVGElement);
    this.viewport = new Viewport(video, stage, {
      onPick: (at, extend) => void this.#pick(at, extend),
      onDoublePick: (at) => void this.#pickAndShow(at),
      onShown: () => this.#drawOverlay(),
      onFit: () => void this.fit(),
    });
    this.selection = new Selection((entities, changes) => {
      const alive = entities.filter((entity) => entity.valid);
      if (alive.length > 0) this.#scene?.override(alive, changes);
    });
    this.tabs = new Tabs(byId("tabs"));
    this.#treeModel = new TreeModel(() => this.#roots());
    this.#tree = new TreeView(
      { tree: byId("tree"), search: byId<HTMLInputElement>("tree-search"), count: byId("tree-count") },
      this.#treeModel,
      this.selection,
      {
        onShow: (entity) => void this.#show([entity]),
        onToggleVisibility: (entity) => {
          this.#visibility?.toggle(entity);
          this.#visibilityChanged();
        },
      },
    );
    const workbench = this;
    this.#properties = new PropertyPanel(
      byId("properties-panel"),
      this.selection,
      {
        get scene() {
          return workbench.#scene;
        },
        get unit() {
          return workbench.#measure.unit;
        },
        onShow: (entities) => void this.#show(entities),
        onToggleVisibility: () => this.toggleHidden(),
        onIsolate: () => this.isolate(),
        onMoved: () => this.#moved(),
      },
      [materialSection],
    );
    this.#views = new ViewsPanel(byId("views-panel"), {
      capture: (name) => this.#capture(name),
      restore: (view) => void this.#restore(view),
      linkTo: (part) => {
        const model = this.#models[0]?.uri ?? "";
        const fragment = new URLSearchParams(location.hash.slice(1));
        if (model) fragment.set("model", model);
        fragment.set("view", part);
        return `${location.origin}${location.pathname}#${fragment}`;
      },
    });
    this.#measure = new MeasureTool((drawings) => {
      this.#overlay.drawings = drawings;
      this.#drawOverlay();
    });
    this.#explode = new ExplodeTool({
      get scene() {
        return workbench.#scene;
      },
      get bounds() {
        return workbench.#bounds;
      },
      get roots() {
        return workbench.#roots();
      },
      onMoved: () => this.#moved(),
    });
    this.#section = new SectionTool(
      {
        get scene() {
          return workbench.#scene;
        },
        get bounds() {
          return workbench.#bounds;
        },
        onChange: (on) => byId("section").toggleAttribute("data-on", on),
      },
      () => {
        this.use(undefined);
        byId("section").focus();
      },
    );
    this.#viewMenu = new Popover(byId("view-button"), this.#fillViewMenu());
    this.#listen();
    const shortcuts = new Shortcuts(
      this.#shortcuts(),
      byId<HTMLDialogElement>("keys"),
      () => this.#connection !== undefined,
    );
    byId("help").addEventListener("click", () => shortcuts.help());
    this.selection.on("change", (entities) => this.#selected(entities));
    this.#selected([]);
  }

  /** The view out of a link, for the first model that comes. */
  set link(part: string | null) {
    this.#linked = part ? viewFromLink(part) : undefined;
  }

  get tool(): ToolName | undefined {
    return this.#tool;
  }

  /** Works on a connection until the returned function is called. */
  open(connection: Connection): () => void {
    this.#connection = connection;
    this.#scene = connection.watching ? undefined : connection.scene;
    const scene = this.#scene;
    const roots = (): readonly Entity[] => this.#roots();
    this.#visibility =
      scene &&
      new Visibility({
        get roots() {
          return roots();
        },
        override: (entities, changes) => scene.override(entities, changes),
      });
    this.#edges.checked = false;
    const detach = this.viewport.attach(connection);
    this.#tree.reload();
    return () => {
      detach();
      clearTimeout(this.#boundsTimer);
      this.#connection = undefined;
      this.#scene = undefined;
      this.#visibility = undefined;
      this.#explode.forget();
      this.#section.forget();
      this.#measure.clear();
      this.selection.clear();
      this.use(undefined);
      this.#tree.reload();
    };
  }

  /** Other models are in the scene. `loaded` came just now; `fit`: the camera goes to it. */
  modelsChanged(models: readonly LoadedModel[], loaded: Entity | undefined, fit: boolean): void {
    this.#models = models;
    void this.#explode.set(0);
    this.selection.prune();
    if (loaded) this.#treeModel.open(loaded);
    this.#tree.reload();
    const bounds = unionBounds(models.map((model) => model.bounds));
    this.#bounds = bounds;
    this.#section.refresh();
    this.#measure.size = bounds ? lengthOf(subtract(bounds.max, bounds.min)) : 1;
    if (models.length === 0) this.#measure.clear();
    const first = models[0];
    this.#views.setModel(first ? modelKey(first) : "", first?.name ?? "");
    this.viewport.setBounds(bounds);
    if (fit) this.viewport.fit(bounds, bounds, true);
    if (loaded && models.length === 1) this.tabs.show("parts-panel");
    if (models.length === 0) this.tabs.show("models-panel");
    if (loaded) announce(`${titleOf(loaded)} is loaded, ${loaded.model?.partCount ?? 0} parts.`);
    if (loaded && this.#linked) {
      void this.#restore(this.#linked);
      this.#linked = undefined;
    }
  }

  /** Puts what is selected, or all, into the view. */
  async fit(): Promise<void> {
    if (this.selection.size > 0) await this.#show(this.selection.entities);
    else this.fitAll();
  }

  fitAll(): void {
    this.viewport.fit(this.#bounds, this.#bounds);
  }

  look(view: StandardView): void {
    this.viewport.look(view, this.#bounds);
    announce(`${VIEW_TITLES[view]} view`);
  }

  /** Looks with parallel rays, or in perspective. */
  setOrthographic(orthographic: boolean): void {
    this.viewport.orthographic = orthographic;
    this.#parallel.checked = orthographic;
    announce(orthographic ? "Orthographic" : "Perspective");
  }

  /** Shaded with the edges of surfaces drawn over, or without. */
  setEdges(edges: boolean): void {
    if (!this.#scene) return;
    this.#scene.debug.edges = edges;
    this.#edges.checked = edges;
    announce(edges ? "Shaded with edges" : "Shaded");
  }

  /** Opens a tool, or none. */
  use(tool: ToolName | undefined): void {
    this.#tool = tool;
    for (const name of ["measure", "section", "explode"] as const) {
      byId(name).setAttribute("aria-pressed", String(name === tool));
    }
    const options = byId("tool-options");
    const element = tool && this.#elementOf(tool);
    options.hidden = !element;
    options.replaceChildren(...(element ? [element] : []));
    this.#video.dataset["tool"] = tool ?? "";
    if (tool !== "measure") this.#measure.clear();
    if (!tool) return;
    if (tool === "section") this.#section.begin();
    this.#viewMenu.close(false);
    if (matchMedia(NARROW).matches) this.#events.togglePanel(false);
  }

  toggleTool(tool: ToolName): void {
    this.use(this.#tool === tool ? undefined : tool);
    announce(
      this.#tool ? `${byId(tool).getAttribute("aria-label")} on` : `${byId(tool).getAttribute("aria-label")} off`,
    );
    // A tool that is set by a slider has it in hand at once; one that picks leaves the focus with the picture.
    if (this.#tool && this.#tool !== "measure") byId("tool-options").querySelector("input")?.focus();
  }

  toggleHidden(): void {
    const entities = this.selection.entities;
    const [first] = entities;
    if (!first || !this.#visibility) return;
    const hide = !isHidden(first);
    if (hide) this.#visibility.hide(entities);
    else this.#visibility.show(entities);
    announce(`${entities.length === 1 ? titleOf(first) : `${entities.length} parts`} ${hide ? "hidden" : "shown"}.`);
    this.#visibilityChanged();
  }

  isolate(): void {
    if (this.selection.size === 0) return;
    this.#visibility?.isolate(this.selection.entities);
    announce("Everything else is hidden.");
    this.#visibilityChanged();
  }

  showAll(): void {
    this.#visibility?.showAll();
    announce("Everything is shown.");
    this.#visibilityChanged();
  }

  /** Saves the picture of full quality. */
  async saveScreenshot(): Promise<void> {
    const connection = this.#connection;
    if (!connection) return;
    const button = byId<HTMLButtonElement>("screenshot");
    if (button.getAttribute("aria-busy") === "true") return;
    button.setAttribute("aria-busy", "true");
    try {
      await this.#scene?.flush().catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, SETTLE_MILLISECONDS));
      const still = await waitForStill(connection);
      const picture = await pictureOf(this.#video);
      download(picture, fileName(this.#models[0]?.name ?? "farframe", "png"));
      announce(still ? "Picture saved." : "Picture saved as it was on the screen.");
    } finally {
      button.removeAttribute("aria-busy");
    }
  }

  toggleFullScreen(): void {
    const change = document.fullscreenElement
      ? document.exitFullscreen()
      : document.documentElement.requestFullscreen();
    change.catch(() => undefined);
  }

  #elementOf(tool: ToolName): HTMLElement {
    return { measure: this.#measure.element, explode: this.#explode.element, section: this.#section.element }[tool];
  }

  #listen(): void {
    const on = (id: string, listener: () => void): void => byId(id).addEventListener("click", listener);
    on("fit", () => void this.fit());
    on("measure", () => this.toggleTool("measure"));
    on("section", () => this.toggleTool("section"));
    on("explode", () => this.toggleTool("explode"));
    on("screenshot", () => void this.saveScreenshot());
    on("fullscreen", () => this.toggleFullScreen());
    on("isolate", () => this.isolate());
    on("hide", () => this.toggleHidden());
    on("show-all", () => this.showAll());
    byId("fullscreen").hidden = !document.fullscreenEnabled;
    rove(byId("toolbar"), "button");
  }

  #fillViewMenu(): HTMLElement {
    const menu = byId("view-menu");
    menu.replaceChildren(
      h(
        "div",
        { class: "views-grid" },
        ...STANDARD_VIEWS.map((view, index) =>
          h(
            "button",
            { class: "small quiet", "data-testid": `view-${view}`, click: () => this.look(view) },
            VIEW_TITLES[view],
            h("kbd", { "aria-hidden": "true" }, String(index + 1)),
          ),
        ),
      ),
    );
    rove(menu.firstElementChild as HTMLElement, "button");
    menu.append(
      h(
        "div",
        { class: "menu-switches" },
        h("label", { class: "check" }, this.#parallel, "Orthographic"),
        h("label", { class: "check" }, this.#edges, "Shaded with edges"),
      ),
    );
    return menu;
  }

  #shortcuts(): Shortcut[] {
    const model = (key: string, title: string, run: () => void): Shortcut => ({ key, title, group: "Model", run });
    const panel = (tab: string): void => {
      this.#events.togglePanel(true);
      this.tabs.show(tab);
    };
    return [
      ...STANDARD_VIEWS.map(
        (view, index): Shortcut => ({
          key: String(index + 1),
          title: VIEW_TITLES[view],
          group: "Look",
          run: () => this.look(view),
        }),
      ),
      { key: "f", title: "Fit the selection, or all", group: "Look", run: () => void this.fit() },
      {
        key: "o",
        title: "Orthographic or perspective",
        group: "Look",
        run: () => this.setOrthographic(!this.viewport.orthographic),
      },
      {
        key: "d",
        title: "Shaded with edges",
        group: "Look",
        run: () => this.setEdges(!this.#edges.checked),
      },
      { key: "v", title: "Views of the toolbar", group: "Look", run: () => this.#viewMenu.toggle() },
      { key: "b", title: "Save a named view", group: "Look", run: () => this.#views.save() },
      ...[1, 2, 3, 4, 5, 6, 7, 8, 9].map(
        (number): Shortcut => ({
          key: `alt+${number}`,
          title: number === 1 ? "Named view 1 (to 9)" : "",
          group: "Look",
          run: () => this.#views.go(number - 1),
        }),
      ),
      model("h", "Hide or show the selection", () => this.toggleHidden()),
      model("i", "Isolate the selection", () => this.isolate()),
      model("a", "Show everything", () => this.showAll()),
      model("u", "Select the group around it", () => this.#selectParent()),
      model("/", "Search parts", () => {
        panel("parts-panel");
        this.#tree.focusSearch();
      }),
      model("r", "Properties", () => {
        panel("properties-panel");
        byId("properties-panel").focus();
      }),
      { key: "m", title: "Measure", group: "Tools", run: () => this.toggleTool("measure") },
      { key: "x", title: "Section", group: "Tools", run: () => this.toggleTool("section") },
      { key: "e", title: "Explode", group: "Tools", run: () => this.toggleTool("explode") },
      { key: "p", title: "Save a picture", group: "Tools", run: () => void this.saveScreenshot() },
      { key: "escape", title: "Leave the tool, let go of the selection", group: "Tools", run: () => this.#escape() },
      { key: "t", title: "Side panel", group: "Page", run: () => this.#events.togglePanel() },
      { key: "s", title: "Statistics", group: "Page", run: () => this.#events.toggleStatistics() },
      { key: "g", title: "Full screen", group: "Page", run: () => this.toggleFullScreen() },
      { key: "?", title: "These keys", group: "Page", run: () => byId("help").click() },
    ];
  }

  #escape(): void {
    if (this.#tool === "measure" && this.#measure.points.length > 0) this.#measure.clear();
    else if (this.#tool) {
      const within = byId("tool-options").contains(document.activeElement);
      const button = byId(this.#tool);
      this.use(undefined);
      if (within) button.focus();
    } else this.selection.clear();
  }

  #selectParent(): void {
    const parents = this.selection.entities.flatMap((entity) => entity.parent ?? []);
    if (parents.length > 0) this.#choose([...new Set(parents)]);
  }

  #choose(entities: readonly Entity[]): void {
    this.selection.set(entities);
    const last = this.selection.last;
    if (last) this.#tree.reveal(last);
  }

  #selected(entities: readonly Entity[]): void {
    const none = entities.length === 0;
    byId<HTMLButtonElement>("isolate").disabled = none;
    byId<HTMLButtonElement>("hide").disabled = none;
    const [first] = entities;
    if (!first) return;
    announce(entities.length === 1 ? `${titleOf(first)} selected` : `${entities.length} parts selected`);
  }

  #visibilityChanged(): void {
    this.#tree.refresh();
    this.#properties.show();
    byId<HTMLButtonElement>("show-all").disabled = !this.#visibility?.changed;
  }

  /** What is seen at a point of the picture. */
  async #hitAt(at: PicturePoint) {
    const scene = this.#scene;
    if (!scene || this.#models.length === 0) return undefined;
    const { start, end } = rayThrough(this.viewport.shown, at);
    // As it is cut at the click: until the answer comes the plane may move.
    const isCutAway = this.#section.cut;
    if (!isCutAway) return (await scene.castRay(start, end, { policy: "closestHit" })).hits[0];
    // Rays go on through what a section took away.
    const { hits } = await scene.castRay(start, end, { policy: "closestHits", maxHits: MAX_HITS });
    return hits.find((hit) => !isCutAway(hit.position));
  }

  async #pick(at: PicturePoint, extend: boolean): Promise<void> {
    const turn = ++this.#picks;
    const measuring = this.#tool === "measure";
    // Without an answer nothing is picked; why there was none, the page tells elsewhere.
    const hit = await this.#hitAt(at).catch(() => undefined);
    if (turn !== this.#picks) return;
    if (measuring) {
      if (hit) this.#measure.pick(hit.position);
      else announce("There is nothing.");
      return;
    }
    if (!hit) {
      if (!extend) this.selection.clear();
      return;
    }
    if (this.tabs.current === "models-panel") this.tabs.show("parts-panel");
    if (extend) this.selection.toggle(hit.entity);
    else this.selection.set([hit.entity]);
    this.#tree.reveal(hit.entity);
  }

  async #pickAndShow(at: PicturePoint): Promise<void> {
    if (this.#tool === "measure") return;
    const hit = await this.#hitAt(at).catch(() => undefined);
    if (hit) await this.#show([hit.entity]);
    else this.fitAll();
  }

  async #show(entities: readonly Entity[]): Promise<void> {
    const alive = entities.filter((entity) => entity.valid);
    const boxes = await Promise.all(alive.map((entity) => entity.bounds().catch(() => undefined)));
    const bounds = unionBounds(boxes.filter((box) => box !== undefined));
    if (bounds) this.viewport.fit(bounds, this.#bounds);
  }

  /** Parts lie elsewhere: the camera must know how far the scene reaches, at once roughly, and soon exactly. */
  #moved(): void {
    const box = unionBounds(this.#models.map((model) => model.bounds));
    if (box) {
      const grown = 1 + 2 * this.#explode.amount;
      const [middle, half] = [middleOf(box), scaled(subtract(box.max, box.min), grown / 2)];
      const around = { min: subtract(middle, half), max: subtract(middle, scaled(half, -1)) };
      this.viewport.setBounds(unionBounds(this.#bounds ? [around, this.#bounds] : [around]));
    }
    clearTimeout(this.#boundsTimer);
    this.#boundsTimer = setTimeout(() => void this.#askBounds(), BOUNDS_DELAY_MILLISECONDS);
  }

  /** What is in the scene, but for what the tools put there. */
  #roots(): readonly Entity[] {
    const roots = this.#scene?.roots ?? [];
    const plane = this.#section.entity;
    return plane ? roots.filter((root) => root !== plane) : roots;
  }

  async #askBounds(): Promise<void> {
    const roots = this.#roots();
    const boxes = await Promise.all(roots.map((root) => root.bounds().catch(() => undefined)));
    const bounds = unionBounds(boxes.filter((box) => box !== undefined));
    if (!bounds || !this.#scene) return;
    this.#bounds = bounds;
    this.viewport.setBounds(bounds);
  }

  #drawOverlay(): void {
    const { width, height } = this.viewport.size;
    this.#overlay.draw(this.viewport.shown, width, height);
  }

  #capture(name: string): NamedView {
    const root = this.#models[0]?.rootEntity ?? 0;
    return {
      name,
      camera: this.viewport.goal,
      orthographic: this.viewport.orthographic,
      edges: this.#edges.checked,
      apart: this.#explode.amount,
      section: this.#section.state,
      parts: this.#visibility?.forced(root) ?? { hidden: [], shown: [] },
    };
  }

  async #restore(view: NamedView): Promise<void> {
    const first = this.#models[0];
    const scene = this.#scene;
    if (first && scene) {
      const at = (places: readonly number[]): Entity[] =>
        places.flatMap((place) => (place < first.entityCount ? (scene.get(first.rootEntity + place) ?? []) : []));
      this.#visibility?.restore(at(view.parts.hidden), at(view.parts.shown));
      this.#visibilityChanged();
    }
    await this.#explode.set(view.apart);
    this.#section.set(view.section);
    if (view.edges !== this.#edges.checked) this.setEdges(view.edges);
    if (view.orthographic !== this.viewport.orthographic) this.setOrthographic(view.orthographic);
    this.viewport.go(view.camera);
  }
}

/** What views are kept under: a model is the same when it is called so and has as many parts and triangles. */
function modelKey(model: LoadedModel): string {
  return `${model.name}:${model.partCount}:${model.triangleCount}`;
}
