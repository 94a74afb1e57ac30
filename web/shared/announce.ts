/** Says something to people who do not see the page change: a live region that is read out politely. */

const PAUSE_MILLISECONDS = 60;
let pending: ReturnType<typeof setTimeout> | undefined;

/** Announces `text` in the element `announcer`; a later announcement takes the place of one not yet made. */
export function announce(text: string): void {
  const region = document.getElementById("announcer");
  if (!region) return;
  clearTimeout(pending);
  // The same text twice would be no change, and be read once.
  region.textContent = "";
  pending = setTimeout(() => {
    region.textContent = text;
  }, PAUSE_MILLISECONDS);
}
