/** The materials of a part among its properties: what they are, and how they look when one changes them. */

import type { Entity, Material, MaterialValues } from "@farframe/client";
import { h } from "../../shared/dom.ts";
import { colorText, linearOf } from "./colors.ts";

/** More than that nobody edits by hand. */
const MAX_MATERIALS = 12;

/** Sliders from 0 to 1, and what a person calls them. */
const SHARES: readonly (readonly ["roughness" | "metalness", string])[] = [
  ["roughness", "Roughness"],
  ["metalness", "Metalness"],
];

/** The materials of an entity, each once, in the order of its parts. */
export function materialsOf(entity: Entity): Material[] {
  return [...new Set(entity.subParts.flatMap((part) => part.material ?? []))];
}

/** The section, or undefined for what has no material. */
export function materialSection(entity: Entity): HTMLElement | undefined {
  const materials = materialsOf(entity);
  if (materials.length === 0) return undefined;
  return h(
    "section",
    { class: "panel-section", "aria-labelledby": "material-title", "data-testid": "materials" },
    h("h3", { id: "material-title" }, materials.length === 1 ? "Material" : `${materials.length} materials`),
    ...materials.slice(0, MAX_MATERIALS).map(editorOf),
    h("p", { class: "faint note" }, "Changes all parts that are made of it."),
  );
}

function editorOf(material: Material, index: number): HTMLElement {
  const name = material.values.name || `Material ${index + 1}`;
  const set = (values: Partial<MaterialValues>): void => {
    if (material.valid) material.set(values);
  };
  const [red, green, blue] = material.values.albedoColor;
  const color = h("input", {
    type: "color",
    value: colorText([red, green, blue]),
    "aria-label": `Colour of ${name}`,
    "data-testid": "material-color",
    input: () => set({ albedoColor: [...linearOf(color.value), material.values.albedoColor[3]] }),
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
