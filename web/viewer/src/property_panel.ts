/** What is selected, in words and numbers: its place, how it is drawn, its material, what its file says about it. */

import {
  type Entity,
  FarframeError,
  type Overrides,
  type Quaternion,
  type Scene,
  type Tint,
  toFarframeError,
  type Vector3,
} from "@farframe/client";
import { glyph, grouped, h } from "../../shared/dom.ts";
import { explain } from "../../shared/messages.ts";
import { colorText, linearOf } from "./colors.ts";
import { degreesOf, quaternionOf } from "./geometry.ts";
import type { Selection } from "./selection.ts";
import { titleOf } from "./tree_model.ts";
import { lengthText, type Unit } from "./units.ts";
import { isHidden } from "./visibility.ts";

const AXES = ["X", "Y", "Z"] as const;
const NUMBER_DIGITS = 5;
const MAX_METADATA_ROWS = 300;
const DEFAULT_TINT: Tint = [0.9, 0.25, 0.05, 0.6];

/** Overrides that are a switch, and what a person calls them. */
const SWITCHES: readonly (readonly [keyof Overrides, string])[] = [
  ["seeThrough", "See-through"],
  ["shell", "Shell"],
  ["disableCollision", "Not clickable"],
];

export interface PropertyContext {
  readonly scene: Scene | undefined;
  readonly unit: Unit;
  onShow(entities: readonly Entity[]): void;
  onToggleVisibility(entities: readonly Entity[]): void;
  onIsolate(entities: readonly Entity[]): void;
  /** Something was moved. */
  onMoved(): void;
}

/** A section of the panel that someone else fills, for one entity. `refresh` shows the panel anew, with the focus in it. */
export type Section = (entity: Entity, signal: AbortSignal, refresh: () => void) => HTMLElement | undefined;

export class PropertyPanel {
  readonly #element: HTMLElement;
  readonly #selection: Selection;
  readonly #context: PropertyContext;
  readonly #sections: readonly Section[];
  #showing = new AbortController();

  constructor(element: HTMLElement, selection: Selection, context: PropertyContext, sections: readonly Section[] = []) {
    this.#element = element;
    this.#selection = selection;
    this.#context = context;
    this.#sections = sections;
    selection.on("change", () => this.show());
    this.show();
  }

  /** Shows what is selected now. */
  show(): void {
    this.#showing.abort();
    this.#showing = new AbortController();
    const entities = this.#selection.entities;
    const [first] = entities;
    if (!first) {
      this.#element.replaceChildren(
        h("p", { class: "soft nothing" }, "Click on a part of the model, or choose one in the tree."),
      );
      return;
    }
    const signal = this.#showing.signal;
    const refresh = (): void => {
      this.show();
      this.#element.focus({ preventScroll: true });
    };
    if (entities.length > 1) {
      this.#element.replaceChildren(this.#head(entities), this.#appearance(entities));
      return;
    }
    this.#element.replaceChildren(
      this.#head(entities),
      this.#transform(first),
      this.#appearance(entities),
      ...this.#sections.flatMap((section) => section(first, signal, refresh) ?? []),
      this.#metadata(first, signal),
    );
  }

  #head(entities: readonly Entity[]): HTMLElement {
    const [entity] = entities as [Entity];
    const one = entities.length === 1;
    const hidden = isHidden(entity);
    const button = (
      name: "fit" | "eye" | "eyeOff" | "isolate",
      label: string,
      id: string,
      act: () => void,
    ): HTMLElement => {
      const made = h("button", { class: "small grow", "data-testid": id, click: act });
      made.append(glyph(name), label);
      return made;
    };
    const kind = entity.isPointCloud ? "Points" : entity.hasMesh ? "Part" : "Group";
    const below = one ? [...entity.descendants()].length - 1 : 0;
    return h(
      "section",
      { class: "panel-section", "aria-label": "Selection" },
      h(
        "h2",
        { class: "title", "data-testid": "selection-title" },
        one ? titleOf(entity) : `${grouped(entities.length)} parts`,
      ),
      one &&
        h(
          "p",
          { class: "faint" },
          [kind, below > 0 && `${grouped(below)} below it`, entity.isStatic && "cannot be moved"]
            .filter(Boolean)
            .join(", "),
        ),
      h(
        "div",
        { class: "row" },
        button("fit", "Show", "property-show", () => this.#context.onShow(entities)),
        button(hidden ? "eyeOff" : "eye", hidden ? "Unhide" : "Hide", "property-hide", () =>
          this.#context.onToggleVisibility(entities),
        ),
        button("isolate", "Isolate", "property-isolate", () => this.#context.onIsolate(entities)),
      ),
    );
  }

  #transform(entity: Entity): HTMLElement {
    const rows: readonly [string, string, () => Vector3, (value: Vector3) => void][] = [
      ["Position", "m", () => entity.position, (value) => (entity.position = value)],
      [
        "Rotation",
        "°",
        () => degreesOf(entity.rotation),
        (value) => (entity.rotation = quaternionOf(value) as Quaternion),
      ],
      ["Scale", "", () => entity.scale, (value) => (entity.scale = value)],
    ];
    const problem = h("p", { class: "problem", role: "alert", hidden: true });
    const fields: (() => void)[] = [];
    const field = (title: string, axis: number, get: () => Vector3, set: (value: Vector3) => void): HTMLElement => {
      const input = h("input", {
        class: "number",
        inputmode: "decimal",
        autocomplete: "off",
        "aria-label": `${title} ${AXES[axis]}`,
        disabled: entity.isStatic,
        change: () => {
          const value = Number(input.value.replace(",", ".").replace("\u2212", "-"));
          try {
            if (input.value.trim() === "" || !Number.isFinite(value)) {
              throw new FarframeError("InvalidParam", "That is not a number.");
            }
            set(get().with(axis, value) as unknown as Vector3);
            problem.hidden = true;
            this.#context.onMoved();
          } catch (thrown) {
            problem.textContent = toFarframeError(thrown).message;
            problem.hidden = false;
          }
          for (const refresh of fields) refresh();
        },
      });
      fields.push(() => {
        input.value = numberText(get()[axis] as number);
      });
      return input;
    };
    const section = h(
      "section",
      { class: "panel-section", "aria-labelledby": "transform-title" },
      h("h3", { id: "transform-title" }, "Transform"),
      h(
        "div",
        { class: "transform" },
        h("span"),
        ...AXES.map((axis) => h("span", { class: `axis axis-${axis.toLowerCase()}`, "aria-hidden": "true" }, axis)),
        ...rows.flatMap(([title, unit, get, set]) => [
          h("span", { class: "soft" }, title, unit ? h("small", { class: "faint" }, ` ${unit}`) : ""),
          ...AXES.map((_, axis) => field(title, axis, get, set)),
        ]),
      ),
      problem,
    );
    for (const refresh of fields) refresh();
    return section;
  }

  #appearance(entities: readonly Entity[]): HTMLElement {
    const [entity] = entities as [Entity];
    const override = (changes: Overrides): void => this.#context.scene?.override(entities, changes);
    const switches = SWITCHES.map(([state, title]) => {
      const box = h("input", {
        type: "checkbox",
        "data-testid": `override-${state}`,
        checked: entity.overrides[state] === true,
        change: () => override({ [state]: box.checked ? true : undefined }),
      });
      return h("label", { class: "check" }, box, title);
    });
    const tint = entity.overrides.tint || undefined;
    const color = h("input", {
      type: "color",
      "aria-label": "Tint colour",
      "data-testid": "tint-color",
      value: colorText(tint ?? DEFAULT_TINT),
      input: () => apply(true),
    });
    const strength = h("input", {
      type: "range",
      min: 0,
      max: 100,
      "aria-label": "Tint strength",
      value: Math.round((tint ?? DEFAULT_TINT)[3] * 100),
      input: () => apply(true),
    });
    const tinted = h("input", {
      type: "checkbox",
      "data-testid": "override-tint",
      checked: tint !== undefined,
      change: () => apply(tinted.checked),
    });
    const apply = (on: boolean): void => {
      tinted.checked = on;
      override({ tint: on ? tintFrom(color.value, strength.valueAsNumber / 100) : undefined });
    };
    return h(
      "section",
      { class: "panel-section", "aria-labelledby": "appearance-title" },
      h("h3", { id: "appearance-title" }, "Appearance"),
      h("div", { class: "row tint" }, h("label", { class: "check" }, tinted, "Tint"), color, strength),
      h("div", { class: "checks" }, ...switches),
    );
  }

  #metadata(entity: Entity, signal: AbortSignal): HTMLElement {
    const list = h("dl", { class: "facts", "data-testid": "metadata" });
    const section = h(
      "section",
      { class: "panel-section", "aria-labelledby": "metadata-title" },
      h("h3", { id: "metadata-title" }, "Information"),
      list,
    );
    const add = (name: string, value: string): void => list.append(h("dt", { title: name }, name), h("dd", {}, value));
    const model = entity.model;
    if (model) {
      add("Triangles", grouped(model.triangleCount));
      add("Parts", grouped(model.partCount));
      add("Materials", grouped(model.materialCount));
    }
    void (async () => {
      try {
        const [bounds, metadata] = await Promise.all([entity.bounds(), entity.metadata()]);
        if (signal.aborted) return;
        if (bounds) {
          const size = AXES.map((_, axis) => (bounds.max[axis] as number) - (bounds.min[axis] as number));
          add("Size", size.map((metres) => lengthText(metres, this.#context.unit)).join(" × "));
        }
        const rows = Object.entries(metadata);
        for (const [name, value] of rows.slice(0, MAX_METADATA_ROWS)) add(name, String(value));
        if (rows.length > MAX_METADATA_ROWS) add("…", `${grouped(rows.length - MAX_METADATA_ROWS)} more`);
        section.hidden = list.childElementCount === 0;
      } catch (thrown) {
        if (!signal.aborted) section.append(h("p", { class: "problem" }, explain(toFarframeError(thrown)).title));
      }
    })();
    return section;
  }
}

/** As few digits as say it. */
export function numberText(value: number): string {
  const text = value.toFixed(NUMBER_DIGITS).replace(/\.?0+$/, "");
  return text === "-0" ? "0" : text;
}

function tintFrom(text: string, weight: number): Tint {
  const [red, green, blue] = linearOf(text);
  return [red, green, blue, weight];
}
