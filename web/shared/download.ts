/** Gives the person a file. */

const KEPT_MILLISECONDS = 30_000;

/** Lets the browser save `data` as `name`. */
export function download(data: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(data);
  link.download = name;
  link.click();
  // The browser reads it some time after the click.
  setTimeout(() => URL.revokeObjectURL(link.href), KEPT_MILLISECONDS);
}

/** A file's name from any text: no more than letters, digits, dots and dashes. */
export function fileName(text: string, ending: string): string {
  const stem = text
    .normalize("NFKD")
    .replace(/[^\p{L}\p{N}._-]+/gu, "-")
    .replace(/^[-.]+|[-.]+$/g, "")
    .slice(0, 80);
  return `${stem || "farframe"}.${ending}`;
}
