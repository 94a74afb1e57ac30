/** Which files were dropped or chosen, and which of them is the model. */

import { FarframeError, type UploadFile } from "@farframe/client";

export const MAX_FILES = 2000;
const MODEL_NAME = /\.(glb|gltf)$/i;

/** A file with its path relative to what was dropped. */
function relativePath(file: File): string {
  return file.webkitRelativePath || file.name;
}

/** Files of an `<input type="file">`. */
export function filesOfInput(list: FileList): UploadFile[] {
  return limited([...list].map((data) => ({ path: relativePath(data), data })));
}

/** Files of a drop, folders included. Must be called while the event is handled: its items are gone afterwards. */
export async function filesOfDrop(transfer: DataTransfer): Promise<UploadFile[]> {
  const entries = [...transfer.items].flatMap((item) => (item.kind === "file" ? (item.webkitGetAsEntry() ?? []) : []));
  const files: UploadFile[] = [];
  const pending: FileSystemEntry[] = [...entries];
  for (let entry = pending.shift(); entry; entry = pending.shift()) {
    if (entry.isDirectory) {
      pending.push(...(await children(entry as FileSystemDirectoryEntry)));
    } else {
      const data = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
      files.push({ path: entry.fullPath.replace(/^\/+/, ""), data });
      limited(files);
    }
  }
  return files;
}

async function children(folder: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = folder.createReader();
  const all: FileSystemEntry[] = [];
  for (;;) {
    // A reader gives a hundred entries at a time, and none at the end.
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return all;
    all.push(...some);
  }
}

function limited(files: UploadFile[]): UploadFile[] {
  if (files.length > MAX_FILES) {
    throw new FarframeError("ExceedsMemoryLimit", `That are more than ${MAX_FILES} files.`, {
      nextStep: "Choose the folder of one model.",
    });
  }
  return files;
}

/** The model among files: the `.glb` or `.gltf` nearest to the top. The others are its side files. */
export function modelAmong(files: readonly UploadFile[]): UploadFile {
  const depth = (file: UploadFile): number => file.path.split("/").length;
  const models = files
    .filter((file) => MODEL_NAME.test(file.path))
    .sort((a, b) => depth(a) - depth(b) || a.path.localeCompare(b.path));
  const model = models[0];
  if (!model) {
    throw new FarframeError("NotSupported", "There is no .glb or .gltf file among these.", {
      nextStep: "Drop a glTF model; for a .gltf drop its whole folder.",
    });
  }
  return model;
}
