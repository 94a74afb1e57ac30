/** One stop of the tab key for a group of controls: arrows move within it. The pattern of toolbars and tab lists. */

export interface RovingOptions {
  /** Called when the arrows have moved to an item. */
  readonly onMove?: (item: HTMLElement) => void;
}

const BACK = new Set(["ArrowLeft", "ArrowUp"]);
const ON = new Set(["ArrowRight", "ArrowDown"]);

/** Makes the visible `selector` items of `group` one stop. Returns a function that makes an item the stop. */
export function rove(group: HTMLElement, selector: string, options: RovingOptions = {}): (item: HTMLElement) => void {
  const items = (): HTMLElement[] =>
    [...group.querySelectorAll<HTMLElement>(selector)].filter((item) => !item.closest("[hidden]"));
  const stopAt = (stop: HTMLElement): void => {
    for (const item of group.querySelectorAll<HTMLElement>(selector)) item.tabIndex = item === stop ? 0 : -1;
  };
  group.addEventListener("focusin", (event) => {
    const item = (event.target as Element).closest<HTMLElement>(selector);
    if (item && group.contains(item)) stopAt(item);
  });
  group.addEventListener("keydown", (event) => {
    const all = items();
    const at = all.indexOf((event.target as Element).closest<HTMLElement>(selector) as HTMLElement);
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    let next: HTMLElement | undefined;
    if (ON.has(event.key)) next = all[(at + 1) % all.length];
    else if (BACK.has(event.key)) next = all[(at + all.length - 1) % all.length];
    else if (event.key === "Home") next = all[0];
    else if (event.key === "End") next = all.at(-1);
    if (!next) return;
    event.preventDefault();
    next.focus();
    options.onMove?.(next);
  });
  const first = items()[0] ?? group.querySelector<HTMLElement>(selector);
  if (first) stopAt(first);
  return stopAt;
}
