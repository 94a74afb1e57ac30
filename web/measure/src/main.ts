/** The page that measures the way to every region from where it is opened, and names the best. It needs no token. */

import {
  bestRegion,
  fetchRegions,
  measureRegion,
  type Region,
  type RegionMeasurement,
  toFarframeError,
} from "@farframe/client";
import "../../shared/theme.css";
import "./measure.css";
import { byId, h, milliseconds, withCode } from "../../shared/dom.ts";
import { explain } from "../../shared/messages.ts";

/** One region's line, from waiting to measured. */
class Row {
  readonly element: HTMLElement;
  readonly region: Region;
  readonly #result = h("div", { class: "result numbers" });
  readonly #mark = h("span", { class: "mark" });
  readonly #fill = h("div");

  constructor(region: Region) {
    this.region = region;
    this.element = h(
      "li",
      { class: "region", "data-testid": "region", "data-region": region.name },
      h(
        "div",
        { class: "name" },
        h("div", { class: "title" }, h("span", { class: "ellipsis", title: region.name }, region.name), this.#mark),
        h("div", { class: "host ellipsis", title: region.endpoint }, hostOf(region.endpoint)),
      ),
      this.#result,
    );
    this.waiting();
  }

  waiting(): void {
    this.#state("waiting");
    this.#result.replaceChildren(h("span", { class: "faint" }, "Waiting"));
  }

  measuring(): void {
    this.#state("measuring");
    this.#result.replaceChildren(h("span", { class: "status", "data-tone": "busy" }, "Measuring…"));
  }

  show(measurement: RegionMeasurement): void {
    this.#state(measurement.outcome);
    const { roundTrip, throughput } = measurement;
    if (roundTrip === undefined) {
      this.#result.replaceChildren(...explanation(this.region, measurement));
      return;
    }
    this.#result.replaceChildren(
      h(
        "div",
        { class: "figure" },
        h("div", { class: "value" }, milliseconds(roundTrip), h("span", { class: "unit" }, " ms")),
        h("div", { class: "label" }, "round trip"),
        h("div", { class: "bar" }, this.#fill),
      ),
      h(
        "div",
        { class: "figure" },
        h("div", { class: "value" }, ...speed(throughput ?? 0)),
        h("div", { class: "label" }, "throughput"),
      ),
    );
  }

  /** How long the bar is among the others, 0 to 1. */
  set length(fraction: number) {
    this.#fill.style.width = `${Math.max(2, fraction * 100)}%`;
  }

  set best(best: boolean) {
    this.element.classList.toggle("best", best);
    this.#mark.textContent = best ? "Best from here" : "";
  }

  #state(state: string): void {
    this.element.dataset.state = state;
  }
}

function hostOf(endpoint: string): string {
  try {
    return new URL(endpoint).host;
  } catch {
    return endpoint;
  }
}

function speed(bitsPerSecond: number): (string | Node)[] {
  const [value, unit] = bitsPerSecond >= 1e9 ? [bitsPerSecond / 1e9, "Gbit/s"] : [bitsPerSecond / 1e6, "Mbit/s"];
  return [value.toFixed(value < 10 ? 1 : 0), h("span", { class: "unit" }, ` ${unit}`)];
}

/** What is known of a region that could not be measured, and what one can do about it. No more than is known. */
function explanation(region: Region, { outcome, status }: RegionMeasurement): Node[] {
  const open = h(
    "a",
    { href: `${region.endpoint}/health/live`, target: "_blank", rel: "noopener noreferrer" },
    "Open it in a new tab",
  );
  const told = (title: string, ...text: (string | Node)[]): Node[] => [
    h("div", { class: "trouble" }, h("strong", {}, title), h("p", {}, ...text)),
  ];
  switch (outcome) {
    case "silent":
      return told("No answer", "Nothing came back in ten seconds. It is down, or a firewall is in the way.");
    case "refused":
      return told(
        "Answers, but not to this page",
        "Something is there that does not let pages of other origins measure. A proxy in front may drop the headers.",
      );
    case "failed":
      return told(
        `Answered with status ${status ?? 0}`,
        status === 429
          ? "It is measured too often from here. Wait a minute."
          : "Something is there, but not a Farframe service, or not one that is well.",
      );
    default:
      return region.caCertificates
        ? told(
            "Not reached",
            "It is down, or this browser does not trust its certificate, whose authority is its own. Browsers do not tell pages which. ",
            open,
            " to see.",
          )
        : told(
            "Not reached",
            "It is down, or this browser does not trust its certificate. Browsers do not tell pages which. ",
            open,
            " to see.",
          );
  }
}

async function measure(): Promise<void> {
  const again = byId<HTMLButtonElement>("again");
  const verdict = byId("verdict");
  again.disabled = true;
  byId("problem").hidden = true;
  byId("advice").hidden = true;
  verdict.hidden = false;
  verdict.textContent = "Measuring from this browser…";
  try {
    const list = await fetchRegions(location.origin);
    const rows = list.regions.map(
      (region) => new Row(region.name === list.region ? { ...region, endpoint: location.origin } : region),
    );
    byId("regions").replaceChildren(...rows.map(({ element }) => element));
    const measured: RegionMeasurement[] = [];
    // One after the other: side by side they would share the line.
    for (const row of rows) {
      row.measuring();
      const measurement = await measureRegion(row.region);
      measured.push(measurement);
      row.show(measurement);
      const longest = Math.max(...measured.map(({ roundTrip }) => roundTrip ?? 0));
      for (const [index, { roundTrip }] of measured.entries()) {
        const each = rows[index];
        if (each && roundTrip !== undefined) each.length = roundTrip / longest;
      }
    }
    conclude(rows, measured);
  } catch (thrown) {
    const { title, text } = explain(toFarframeError(thrown, "Asking for the regions"));
    verdict.hidden = true;
    byId("problem").replaceChildren(h("strong", {}, title), ...withCode(text));
    byId("problem").hidden = false;
  } finally {
    again.disabled = false;
  }
}

function conclude(rows: readonly Row[], measured: readonly RegionMeasurement[]): void {
  const best = bestRegion(measured);
  const verdict = byId("verdict");
  if (!best) {
    verdict.textContent = "No region answers. Check the network, then measure again.";
    return;
  }
  // The nearest on top, what could not be measured at the end, each group as it was listed.
  const times = new Map(measured.map(({ name, roundTrip }) => [name, roundTrip ?? Number.POSITIVE_INFINITY]));
  const time = ({ region }: Row): number => times.get(region.name) ?? Number.POSITIVE_INFINITY;
  const order = rows.toSorted((a, b) => (time(a) === time(b) ? 0 : time(a) - time(b)));
  byId("regions").append(...order.map(({ element }) => element));
  const alone = rows.length === 1;
  for (const row of rows) row.best = !alone && row.region.name === best.name;
  verdict.replaceChildren(
    ...(alone
      ? ["This service knows of no other region than its own, ", h("strong", {}, best.name), "."]
      : [
          h("strong", {}, best.name),
          " has the shortest round trip from here, which is what a moving picture needs most.",
        ]),
  );
  if (alone) return;
  byId("advice").replaceChildren(
    ...withCode(
      `\`farframe session create --region ${best.name}\` leases there; with \`--region best\` the command measures for itself, from where it runs.`,
    ),
  );
  byId("advice").hidden = false;
}

byId("again").addEventListener("click", () => void measure());
void measure();
