/** What `<farframe-viewer>` shows: the elements in its shadow root, and how they look. */

const KEYS_HELP =
  "Drag or use the arrow keys to orbit, with shift to pan. Scroll, pinch or use plus and minus to zoom. F shows all.";

const STYLE = `
:host { display: block; position: relative; min-width: 0; min-height: 0; aspect-ratio: 16 / 9; overflow: hidden; contain: content;
  background: var(--farframe-background, #14171c); color: var(--farframe-color, #e8ebf0);
  font: 14px/1.45 var(--farframe-font, system-ui, sans-serif); }
:host([hidden]) { display: none; }
.stage { position: absolute; inset: 0; cursor: grab; outline: none; user-select: none; -webkit-user-select: none; }
.stage:active { cursor: grabbing; }
.stage:focus-visible::after { content: ""; position: absolute; inset: 0; z-index: 1; pointer-events: none;
  border: 3px solid var(--farframe-focus, #8ab4ff); }
video { position: absolute; inset: 0; width: 100%; height: 100%; display: block; object-fit: contain; }
:host([autoresize]) video { object-fit: fill; }
.status { position: absolute; inset: auto 0 0 0; display: grid; justify-items: start; gap: 6px; padding: 12px 16px;
  background: var(--farframe-surface, rgb(14 16 20 / 82%)); }
.status[hidden], button[hidden], progress[hidden], p[hidden] { display: none; }
p { margin: 0; overflow-wrap: anywhere; }
.hint { opacity: 0.85; }
progress { width: min(100%, 320px); accent-color: var(--farframe-accent, #8ab4ff); }
button { font: inherit; color: #10131a; background: var(--farframe-accent, #8ab4ff); border: 0; border-radius: 6px; min-height: 36px;
  padding: 6px 16px; cursor: pointer; }
button:focus-visible { outline: 3px solid var(--farframe-focus, #fff); outline-offset: 2px; }
.help { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
@media (forced-colors: active) { .stage:focus-visible::after { border-color: Highlight; } .status { border-top: 1px solid CanvasText; } }
`;

/** The elements that change; each is a part that pages can style. */
export interface ViewerParts {
  /** Takes focus, keys and pointers. */
  readonly stage: HTMLElement;
  readonly video: HTMLVideoElement;
  /** Tells what goes on; hidden where there is nothing to tell. */
  readonly status: HTMLElement;
  readonly message: HTMLElement;
  readonly hint: HTMLElement;
  readonly progress: HTMLProgressElement;
  readonly retry: HTMLButtonElement;
}

/** Fills a shadow root. */
export function makeParts(root: ShadowRoot): ViewerParts {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(STYLE);
  root.adoptedStyleSheets = [sheet];
  const make = <K extends keyof HTMLElementTagNameMap>(
    tag: K,
    part: string,
    parent: Node,
  ): HTMLElementTagNameMap[K] => {
    const element = document.createElement(tag);
    element.setAttribute("part", part);
    element.className = part;
    parent.appendChild(element);
    return element;
  };
  const stage = make("div", "stage", root);
  stage.tabIndex = 0;
  stage.setAttribute("role", "application");
  stage.setAttribute("aria-roledescription", "3D view");
  stage.setAttribute("aria-describedby", "help");
  stage.setAttribute("aria-keyshortcuts", "ArrowLeft ArrowRight ArrowUp ArrowDown + - F Home");
  const video = make("video", "video", stage);
  video.setAttribute("aria-hidden", "true");
  video.muted = true;
  video.playsInline = true;
  video.disablePictureInPicture = true;
  const help = make("p", "help", root);
  help.id = "help";
  help.textContent = KEYS_HELP;
  const status = make("div", "status", root);
  status.setAttribute("role", "status");
  status.hidden = true;
  const message = make("p", "message", status);
  const hint = make("p", "hint", status);
  const progress = make("progress", "progress", status);
  progress.setAttribute("aria-label", "Progress");
  const retry = make("button", "retry", status);
  retry.type = "button";
  retry.textContent = "Connect again";
  return { stage, video, status, message, hint, progress, retry };
}
