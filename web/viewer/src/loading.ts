/** The ways in which a model gets into the page: an address, the sample, files, a drop. */

import { byId } from "../../shared/dom.ts";
import { filesOfDrop, filesOfInput } from "./files.ts";
import { type ModelList, SAMPLE_URI } from "./model_list.ts";

export interface LoadingContext {
  /** The models of the connection, if there is one that may load. */
  models(): ModelList | undefined;
  /** A load begins: its progress shall be seen. */
  onBegin(): void;
}

export function listenForModels(context: LoadingContext): void {
  const on = (id: string, listener: () => void): void => byId(id).addEventListener("click", listener);
  const loadSample = (): void => {
    context.onBegin();
    void context.models()?.load(SAMPLE_URI);
  };
  const chooseFile = (): void => byId("file-input").click();
  on("sample", loadSample);
  on("empty-sample", loadSample);
  on("file", chooseFile);
  on("empty-file", chooseFile);
  on("folder", () => byId("folder-input").click());
  on("clear", () => {
    const models = context.models();
    models?.clear().catch((thrown: unknown) => models.report(thrown));
  });

  byId("load-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const field = byId<HTMLInputElement>("uri");
    const uri = field.value.trim();
    if (uri === "") {
      field.focus();
      return;
    }
    field.value = "";
    void context.models()?.load(uri);
  });

  for (const id of ["file-input", "folder-input"]) {
    const input = byId<HTMLInputElement>(id);
    input.addEventListener("change", () => {
      if (!input.files?.length) return;
      try {
        const files = filesOfInput(input.files);
        context.onBegin();
        void context.models()?.loadFiles(files);
      } catch (thrown) {
        context.models()?.report(thrown);
      }
      input.value = "";
    });
  }
  listenForDrops(context);
}

function listenForDrops(context: LoadingContext): void {
  let depth = 0;
  const dragging = (by: number): void => {
    depth = Math.max(0, depth + by);
    byId("drop").hidden = depth === 0 || !context.models();
  };
  const carriesFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") ?? false;
  addEventListener("dragenter", (event) => carriesFiles(event) && dragging(1));
  addEventListener("dragleave", (event) => carriesFiles(event) && dragging(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    dragging(-depth);
    const models = context.models();
    if (!event.dataTransfer || !models) return;
    context.onBegin();
    filesOfDrop(event.dataTransfer).then(
      (files) => models.loadFiles(files),
      (thrown: unknown) => models.report(thrown),
    );
  });
}
