/** The materials of a part among its properties: what they are, and how they look when one changes them, here or everywhere. */

import type { Entity, Material, MaterialValues, Scene } from "@farframe/client";
import { announce } from "../../shared/announce.ts";
import { grouped, h } from "../../shared/dom.ts";
import { colorText, linearOf } from "./colors.ts";
import type { Section } from "./property_panel.ts";

/** More than that nobody edits by hand. */
const MAX_MATERIALS = 12;

/** Sliders from 0 to 1, and what a person calls them. */
const SHARES: readonly (readonly ["roughness" | "metalness", string])[] = [
  ["roughness", "Roughness"],
  ["metalness", "Metalness"],
];
const MAPS = ["albedoMap", "normalMap", "roughnessMap", "metalnessMap", "aoMap", "emissiveMap"] as const;

/** What a change concerns: all that is made of the material, or the selected part. */
export type Scope = "everywhere" | "part";

export interface MaterialContext {
  readonly scene: Scene | undefined;
}

/** The materials of an entity, each once, in the order of its parts. */
export function materialsOf(entity: Entity): Material[] {
  return [...new Set(entity.subParts.flatMap((part) => part.material ?? []))];
}

/** How many entities of a scene are made of each of some materials. */
export function usesOf(scene: Iterable<Entity>, materials: readonly Material[]): Map<Material, number> {
  const uses = new Map(materials.map((material) => [material, 0]));
  for (const entity of scene) {
    const seen = new Set<Material>();
    for (const part of entity.subParts) {
      const material = part.material;
      const count = material && uses.get(material);
      if (count === undefined || seen.has(material as Material)) continue;
      seen.add(material as Material);
      uses.set(material as Material, count + 1);
    }
  }
  return uses;
}

/** What a material made for one part takes over. The maps of a file stay with the file's own material. */
export function copyOf(values: Readonly<MaterialValues>): Partial<MaterialValues> {
  const copy = { ...values };
  for (const map of MAPS) if (copy[map] === "own") copy[map] = undefined;
  return copy;
}

/** Makes sections for the property panel. What a change concerns stays as a person chose it, from part to part. */
export function materialSections(context: MaterialContext): Section {
  let scope: Scope = "everywhere";
  /** Materials that were made here, each for one entity. */
  const made = new Map<Material, Entity>();

  const makeOwn = (entity: Entity, material: Material): Material => {
    const { scene } = context;
    if (!scene) return material;
    for (const [old, of] of made) {
      if (of.valid) continue;
      made.delete(old);
      old.destroy();
    }
    const own = scene.createMaterial(material.kind, copyOf(material.values));
    made.set(own, entity);
    for (const part of entity.subParts) if (part.material === material) part.material = own;
    return own;
  };

  const giveBack = (entity: Entity, own: Material): void => {
    for (const part of entity.subParts) if (part.override === own) part.material = undefined;
    if (made.delete(own)) own.destroy();
  };

  return (entity, _signal, refresh) => {
    const materials = materialsOf(entity).slice(0, MAX_MATERIALS);
    if (materials.length === 0) return undefined;
    const owns = new Set(entity.subParts.flatMap((part) => part.override ?? []));
    const shared = materials.filter((material) => !owns.has(material));
    const uses = usesOf(context.scene ?? [], shared);
    const most = Math.max(0, ...uses.values());
    let sharing = [...uses.values()].filter((count) => count > 1).length;
    const note = h("p", { class: "faint note", "data-testid": "material-note" });
    const buttons = (["everywhere", "part"] as const).map((name) =>
      h(
        "button",
        {
          class: "small grow",
          "data-testid": `material-${name}`,
          click: () => {
            scope = name;
            show();
            announce(note.textContent);
          },
        },
        name === "everywhere" ? "Everywhere" : "This part only",
      ),
    );
    const show = (): void => {
      buttons.forEach((button, index) => {
        button.setAttribute("aria-pressed", String((index === 1) === (scope === "part")));
      });
      note.textContent = noteOf(scope, materials.length, most, shared);
    };
    show();
    const section = h(
      "section",
      { class: "panel-section", "aria-labelledby": "material-title", "data-testid": "materials" },
      h("h3", { id: "material-title" }, materials.length === 1 ? "Material" : `${materials.length} materials`),
    );
    if (most > 1) {
      const group = h("span", { class: "segments", role: "group", "aria-label": "What a change concerns" }, ...buttons);
      section.append(group, note);
    }
    materials.forEach((material, index) => {
      let target = material;
      const own = owns.has(material);
      const back = h(
        "div",
        { class: "row", hidden: !own },
        h("span", { class: "grow faint note" }, "Of this part only"),
        h(
          "button",
          {
            class: "small",
            "data-testid": "material-reset",
            click: () => {
              giveBack(entity, target);
              announce("The part is made of the model's material again.");
              refresh();
            },
          },
          "Use the model's",
        ),
      );
      const edited = (): Material => {
        // The first change makes it: until then there is nothing of the part's own.
        if (!own && target === material && scope === "part" && (uses.get(material) ?? 0) > 1) {
          target = makeOwn(entity, material);
          back.hidden = target === material;
          if (target !== material) sharing -= 1;
          for (const button of buttons) button.disabled = sharing === 0;
        }
        return target;
      };
      section.append(editorOf(material, index, edited), back);
    });
    return section;
  };
}

function noteOf(scope: Scope, count: number, uses: number, shared: readonly Material[]): string {
  if (scope === "everywhere") {
    return count === 1
      ? `Changes all ${grouped(uses)} parts that are made of it.`
      : "Changes all parts that are made of the same.";
  }
  const others = uses === 2 ? "The other one stays as it is." : `The other ${grouped(uses - 1)} stay as they are.`;
  const textured = shared.some((material) => MAPS.some((map) => material.values[map] === "own"));
  return [
    "Changes this part.",
    count === 1 ? others : "Others stay as they are.",
    textured && "Textures of the file stay with them.",
  ]
    .filter(Boolean)
    .join(" ");
}

/** `edited` tells what to change: the material itself, or one that the part has for itself since. */
function editorOf(material: Material, index: number, edited: () => Material): HTMLElement {
  const name = material.values.name || `Material ${index + 1}`;
  const set = (values: Partial<MaterialValues>): void => {
    if (!material.valid) return;
    const target = edited();
    if (target.valid) target.set(values);
  };
  const [red, green, blue, alpha] = material.values.albedoColor;
  const color = h("input", {
    type: "color",
    value: colorText([red, green, blue]),
    "aria-label": `Colour of ${name}`,
    "data-testid": "material-color",
    input: () => set({ albedoColor: [...linearOf(color.value), alpha] }),
  });
  return h(
    "div",
    { class: "material" },
    h("div", { class: "row" }, h("span", { class: "grow ellipsis", title: name }, name), color),
    ...(material.kind === "pbr" ? SHARES.map(([member, title]) => shareOf(material, member, title, name, set)) : []),
  );
}

function shareOf(
  material: Material,
  member: "roughness" | "metalness",
  title: string,
  name: string,
  set: (values: Partial<MaterialValues>) => void,
): HTMLElement {
  const value = h("output", { class: "numbers" }, (material.values[member] as number).toFixed(2));
  const slider = h("input", {
    type: "range",
    min: 0,
    max: 100,
    value: Math.round((material.values[member] as number) * 100),
    "aria-label": `${title} of ${name}`,
    "data-testid": `material-${member}`,
    input: () => {
      set({ [member]: slider.valueAsNumber / 100 });
      value.textContent = (slider.valueAsNumber / 100).toFixed(2);
    },
  });
  return h("div", { class: "setting" }, h("span", {}, title), slider, value);
}
