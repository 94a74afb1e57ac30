/**
 * The tools of the page and how they meet: what one does, the others see. Each tool is a module of its own; here is only
 * what is between them.
 *
 *     picture ──pick──► selection ──► outline, tree, properties
 *                └────► measure
 *     tree, properties, keys ──► visibility ──► scene
 *     toolbar ──► tools (measure, section, explode), one open at a time
 */

import {
  type Bounds,
  type Connection,
  type Entity,
  type LoadedModel,
  type RayHit,
  type Scene,
  unionBounds,
  type Vector3,
} from "@farframe/client";
import { announce } from "../../shared/announce.ts";
import { byId, h } from "../../shared/dom.ts";
import { download, fileName } from "../../shared/download.ts";
import { Popover } from "../../shared/popover.ts";
import { rove } from "../../shared/roving.ts";
import { Tabs } from "../../shared/tabs.ts";
import { ExplodeTool } from "./explode_tool.ts";
import { lengthOf, middleOf, scaled, subtract } from "./geometry.ts";
import { materialSections } from "./material_section.ts";
import { MeasureTool } from "./measure_tool.ts";
import { type NamedView, viewFromLink } from "./named_views.ts";
import { Overlay } from "./overlay.ts";
import { type PicturePoint, rayThrough } from "./projection.ts";
import { PropertyPanel } from "./property_panel.ts";
import { pictureOf } from "./screenshot.ts";
import { placed } from "./section.ts";
import { SectionTool } from "./section_tool.ts";
import { Selection } from "./selection.ts";
import { type Shortcut, Shortcuts } from "./shortcuts.ts";
import { type Picked, placesAround, snap } from "./snapping.ts";
import { STANDARD_VIEWS, type StandardView, VIEW_TITLES } from "./standard_views.ts";
import { TreeModel, titleOf } from "./tree_model.ts";
import { TreeView } from "./tree_view.ts";
import { Viewport } from "./viewport.ts";
import { ViewsPanel } from "./views_panel.ts";
import { isHidden, Visibility } from "./visibility.ts";

export type ToolName = "measure" | "section" | "explode";

const BOUNDS_DELAY_MILLISECONDS = 150;
/** How long a picture to be saved waits to be still. */
const STILL_MILLISECONDS = 8000;
/** Surfaces before a section that a click may have to go through. */
const MAX_HITS = 256;
/** How near, CSS pixels, a corner must be to be meant. */
const SNAP_PIXELS = 9;
const COARSE_SNAP_PIXELS = 20;
/** So many section planes are named in the line above the parts. */
const SECTIONS_NAMED = 4;
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
  #boundsAsked = 0;
  #tool: ToolName | undefined;
  /** Clicks whose answers have not come, one after the other. */
  #answered: Promise<void> = Promise.resolve();
  #waiting = 0;
  /** Grows whenever something other than a click into the picture selects: clicks before that no longer count. */
  #choices = 0;
  #choosing = false;
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
      [
        materialSections({
          get scene() {
            return workbench.#scene;
          },
        }),
      ],
    );
    this.#views = new ViewsPanel(byId("views-panel"), {
      capture: (name) => this.#capture(name),
      restore: (view) => this.#restore(view),
      linkTo: (part) => {
        const model = this.#models[0]?.uri ?? "";
        const fragment = new URLSearchParams(location.hash.slice(1));
        if (model) fragment.set("model", model);
        fragment.set("view", part);
        return `${location.origin}${location.pathname}#${fragment}`;
      },
    });
    this.#measure = new MeasureTool({
      onDraw: (drawings) => {
        this.#overlay.drawings = drawings;
        this.#drawOverlay();
      },
      onChange: (count) => byId("measure").toggleAttribute("data-on", count > 0),
      onUnit: () => {
        this.#section.refresh();
        this.#properties.show();
      },
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
    this.#section = new SectionTool({
      get scene() {
        return workbench.#scene;
      },
      get bounds() {
        return workbench.#bounds;
      },
      get unit() {
        return workbench.#measure.unit;
      },
      onChange: () => this.#sectionsChanged(),
      onPicking: () => this.#showTool(),
    });
    this.#viewMenu = new Popover(byId("view-button"), this.#fillViewMenu());
    this.#listen();
    const shortcuts = new Shortcuts(
      this.#shortcuts(),
      byId<HTMLDialogElement>("keys"),
      () => this.#connection !== undefined,
    );
    byId("help").addEventListener("click", () => shortcuts.help());
    this.selection.on("change", (entities) => {
      if (!this.#choosing) this.#choices += 1;
      this.#selected(entities);
    });
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
      this.#boundsAsked += 1;
      this.#choices += 1;
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
    this.#explode.reset();
    this.#boundsAsked += 1;
    this.selection.prune();
    if (loaded) this.#treeModel.open(loaded);
    this.#tree.reload();
    const bounds = this.#modelBounds;
    this.#bounds = bounds;
    this.#measure.size = bounds ? lengthOf(subtract(bounds.max, bounds.min)) : 1;
    this.#section.refresh();
    if (models.length === 0) this.#measure.clear();
    const first = models[0];
    this.#views.setModel(first ? modelKey(first) : "", first?.name ?? "");
    this.viewport.setBounds(bounds);
    if (fit) this.viewport.fit(bounds, bounds, true);
    if (loaded && models.length === 1) this.tabs.show("parts-panel");
    if (models.length === 0) this.tabs.show("models-panel");
    if (loaded) announce(`${titleOf(loaded)} is loaded, ${loaded.model?.partCount ?? 0} parts.`);
    // A model's box is where it was loaded; a person may have moved one since.
    if (bounds) void this.#askBounds();
    if (loaded && this.#linked) {
      this.#restore(this.#linked);
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
    if (tool !== "section") this.#section.pickFace(false);
    this.#showTool();
    if (tool !== "measure") this.#measure.giveUp();
    if (!tool) return;
    if (tool === "section") this.#section.begin();
    this.#viewMenu.close(false);
    if (matchMedia(NARROW).matches) this.#events.togglePanel(false);
  }

  /** What the pointer is for. */
  #showTool(): void {
    this.#video.dataset["tool"] = this.#section.picking ? "face" : (this.#tool ?? "");
  }

  toggleTool(tool: ToolName): void {
    this.use(this.#tool === tool ? undefined : tool);
    announce(
      this.#tool ? `${byId(tool).getAttribute("aria-label")} on` : `${byId(tool).getAttribute("aria-label")} off`,
    );
    // A tool that is set by a slider has it in hand at once; one that picks leaves the focus with the picture.
    if (this.#tool && this.#tool !== "measure") {
      byId("tool-options").querySelector<HTMLElement>("input, button:enabled")?.focus();
    }
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
    const name = fileName(this.#models[0]?.name ?? "farframe", "png");
    try {
      // A change that was refused has been told where it was made.
      await connection.scene.flush().catch(() => undefined);
      const still = await connection.waitForStill({ timeoutMilliseconds: STILL_MILLISECONDS }).then(
        () => true,
        () => false,
      );
      const picture = await pictureOf(this.#video);
      download(picture, name);
      announce(still ? "Picture saved." : "Picture saved as it was on the screen.");
    } catch {
      announce("There is no picture to save.");
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
    on("section-edit", () => {
      this.use("section");
      byId("tool-options").querySelector("input")?.focus();
    });
    on("section-clear", () => {
      this.#section.set([]);
      announce("All section planes removed.");
      byId("tree").focus();
    });
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
    if (this.#section.picking) {
      this.#section.pickFace(false);
      announce("No face is picked.");
    } else if (this.#tool === "measure" && this.#measure.begun) this.#measure.giveUp();
    else if (this.#tool) {
      const within = byId("tool-options").contains(document.activeElement);
      const button = byId(this.#tool);
      this.use(undefined);
      if (within) button.focus();
    } else {
      this.#choices += 1;
      this.selection.clear();
    }
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

  /** What is seen at a point of the picture. `corners`: with those of the triangle there. */
  async #hitAt(at: PicturePoint, corners = false): Promise<RayHit | undefined> {
    const scene = this.#scene;
    if (!scene || this.#models.length === 0) return undefined;
    const { start, end } = rayThrough(this.viewport.shown, at);
    // As it is cut at the click: until the answer comes the planes may move.
    const isCutAway = this.#section.cut;
    if (!isCutAway) return (await scene.castRay(start, end, { policy: "closestHit", corners })).hits[0];
    // Rays go on through what a section took away.
    const { hits } = await scene.castRay(start, end, { policy: "closestHits", maxHits: MAX_HITS, corners });
    return hits.find((hit) => !isCutAway(hit.position));
  }

  /** What is pointed at: a corner, an edge or a face. */
  async #pointAt(at: PicturePoint): Promise<Picked | undefined> {
    const { size, shown } = this.viewport;
    const radius = matchMedia("(pointer: coarse)").matches ? COARSE_SNAP_PIXELS : SNAP_PIXELS;
    const places = this.#measure.snaps ? placesAround(at, radius, size) : [at];
    const isCutAway = this.#section.cut;
    const hits = await Promise.all(places.map((place) => this.#hitAt(place, this.#measure.snaps)));
    const samples = places.map((place, index) => ({ at: place, hit: hits[index] }));
    return snap(shown, samples, radius, size, (point) => !isCutAway?.(point));
  }

  /** Clicks count in their order, whichever answer comes first, and for what they were for when they were made. */
  #pick(at: PicturePoint, extend: boolean): Promise<void> {
    const answer = this.#answerTo(at, extend);
    const before = this.#answered;
    this.#waiting += 1;
    this.#video.dataset["picking"] = "";
    this.#answered = (async () => {
      await before;
      // Without an answer nothing is picked; why there was none, the page tells elsewhere.
      const take = await answer.catch(() => undefined);
      take?.();
      this.#waiting -= 1;
      if (this.#waiting === 0) delete this.#video.dataset["picking"];
    })();
    return this.#answered;
  }

  /** Asks what a click of now is for; resolves with what to do then, unless a person went on to something else. */
  #answerTo(at: PicturePoint, extend: boolean): Promise<() => void> {
    const face = this.#section.picking;
    if (face) {
      return this.#hitAt(at).then((hit) => () => {
        if (face !== this.#section.picking) return;
        if (!hit || hit.kind === "point") announce("There is no face.");
        else this.#section.addFace(hit.position, towards(hit));
      });
    }
    if (this.#tool === "measure") {
      const { revision } = this.#measure;
      return this.#pointAt(at).then((picked) => () => {
        if (this.#measure.revision !== revision) return;
        if (picked) this.#measure.pick(picked);
        else announce("There is nothing.");
      });
    }
    const choices = this.#choices;
    return this.#hitAt(at).then((hit) => () => {
      if (choices !== this.#choices || (hit && !hit.entity.valid)) return;
      this.#choosing = true;
      try {
        this.#select(hit?.entity, extend);
      } finally {
        this.#choosing = false;
      }
    });
  }

  #select(entity: Entity | undefined, extend: boolean): void {
    if (!entity) {
      if (!extend) this.selection.clear();
      return;
    }
    if (this.tabs.current === "models-panel") this.tabs.show("parts-panel");
    if (extend) this.selection.toggle(entity);
    else this.selection.set([entity]);
    this.#tree.reveal(entity);
  }

  async #pickAndShow(at: PicturePoint): Promise<void> {
    if (this.#tool === "measure") return;
    if (this.#section.picking) return this.#pick(at, false);
    const { moves } = this.viewport;
    const hit = await this.#hitAt(at).catch(() => undefined);
    if (moves !== this.viewport.moves) return;
    if (hit) await this.#show([hit.entity]);
    else this.fitAll();
  }

  async #show(entities: readonly Entity[]): Promise<void> {
    const { moves } = this.viewport;
    const alive = entities.filter((entity) => entity.valid);
    const boxes = await Promise.all(alive.map((entity) => entity.bounds().catch(() => undefined)));
    // Who moved the camera meanwhile wants it to be where it is.
    if (moves !== this.viewport.moves) return;
    const bounds = unionBounds(boxes.filter((box) => box !== undefined));
    if (bounds) this.viewport.fit(bounds, this.#bounds);
  }

  /** Parts lie elsewhere: the camera must know how far the scene reaches, at once roughly, and soon exactly. */
  #moved(): void {
    if (this.#measure.measures.length > 0 || this.#measure.begun) {
      this.#measure.clear();
      announce("Parts were moved. What was measured before is removed.");
    }
    const box = this.#modelBounds;
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
    const planes = this.#section.entities;
    return planes.size > 0 ? roots.filter((root) => !planes.has(root)) : roots;
  }

  async #askBounds(): Promise<void> {
    const turn = ++this.#boundsAsked;
    const roots = this.#roots();
    const boxes = await Promise.all(roots.map((root) => root.bounds().catch(() => undefined)));
    const bounds = unionBounds(boxes.filter((box) => box !== undefined));
    // Asked again since, or other models came: the newer answer counts.
    if (!bounds || !this.#scene || turn !== this.#boundsAsked) return;
    this.#bounds = bounds;
    this.viewport.setBounds(bounds);
    this.#section.refresh();
  }

  #sectionsChanged(): void {
    const { titles } = this.#section;
    byId("section").toggleAttribute("data-on", titles.length > 0);
    const note = byId("section-note");
    note.hidden = titles.length === 0;
    const names = byId("section-names");
    names.textContent =
      titles.length > SECTIONS_NAMED ? `Cut by ${titles.length} planes` : `Cut by ${titles.join(", ")}`;
    names.title = titles.join(", ");
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
      sections: this.#section.states,
      parts: this.#visibility?.forced(root) ?? { hidden: [], shown: [] },
    };
  }

  /** Shows a view. All but the parts' way is done at once, so that nothing later than the view is undone by it. */
  #restore(view: NamedView): void {
    const first = this.#models[0];
    const scene = this.#scene;
    if (first && scene) {
      const at = (places: readonly number[]): Entity[] =>
        places.flatMap((place) => (place < first.entityCount ? (scene.get(first.rootEntity + place) ?? []) : []));
      this.#visibility?.restore(at(view.parts.hidden), at(view.parts.shown));
      this.#visibilityChanged();
    }
    const bounds = this.#modelBounds;
    if (bounds) this.#section.set(view.sections.map((kept) => placed(kept, bounds)));
    if (view.edges !== this.#edges.checked) this.setEdges(view.edges);
    if (view.orthographic !== this.viewport.orthographic) this.setOrthographic(view.orthographic);
    this.viewport.go(view.camera);
    void this.#explode.set(view.apart);
  }

  /** The box of the models as they came. */
  get #modelBounds(): Bounds | undefined {
    return unionBounds(this.#models.map((model) => model.bounds));
  }
}

/** The normal of what a ray hit, on the side from which it was hit. */
function towards({ kind, normal }: RayHit): Vector3 {
  return kind === "back" ? scaled(normal, -1) : normal;
}

/** What views are kept under: a model is the same when it is called so and has as many parts and triangles. */
function modelKey(model: LoadedModel): string {
  return `${model.name}:${model.partCount}:${model.triangleCount}`;
}
