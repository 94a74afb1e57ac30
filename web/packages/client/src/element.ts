/** Registers `<farframe-viewer>`; see {@link FarframeViewerElement}. Importing it twice is harmless. */

import { FarframeViewerElement } from "./viewer_element.ts";

if (globalThis.customElements && !customElements.get("farframe-viewer")) {
  customElements.define("farframe-viewer", FarframeViewerElement);
}

export {
  type DisconnectedDetail,
  FarframeViewerElement,
  type FarframeViewerEventMap,
  type LookTarget,
  type ScreenshotOptions,
  type ViewerLoadOptions,
  type ViewerState,
} from "./viewer_element.ts";
