/** The graph of the last frames: stages stacked upon each other. */

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { milliseconds } from "../../shared/dom.ts";
import { INSPECTED_STAGE_TITLES, INSPECTED_STAGES, type InspectedFrame, stageOf } from "./frames.ts";

const SHOWN_FRAMES = 300;
const MIN_TOP_MILLISECONDS = 10;

/** The highest value shown: a few frames that took very long are cut, so that the others stay readable. */
function topOf(totals: readonly number[]): number {
  const sorted = totals.toSorted((a, b) => a - b);
  const high = sorted[Math.floor(sorted.length * 0.95)] ?? 0;
  return Math.max(MIN_TOP_MILLISECONDS, Math.min((sorted.at(-1) ?? 0) * 1.1, high * 2.5));
}

export class Graph {
  readonly #element: HTMLElement;
  readonly #plot: uPlot;
  #top = MIN_TOP_MILLISECONDS;

  constructor(element: HTMLElement) {
    this.#element = element;
    const style = getComputedStyle(document.documentElement);
    const color = (name: string): string => style.getPropertyValue(name).trim();
    const axis = {
      stroke: color("--text-faint"),
      grid: { stroke: color("--line"), width: 1 },
      ticks: { stroke: color("--line"), width: 1 },
      font: "12px system-ui, sans-serif",
    };
    // The uppermost stage comes first and lies behind: each series is the sum up to its stage, filled down to zero.
    const series = INSPECTED_STAGES.toReversed().map((stage) => ({
      label: INSPECTED_STAGE_TITLES[stage],
      stroke: color(`--stage-${stage}`),
      fill: color(`--stage-${stage}`),
      width: 1,
      points: { show: false },
    }));
    this.#plot = new uPlot(
      {
        ...this.#size(),
        legend: { show: false },
        cursor: { show: false },
        scales: { x: { time: false }, y: { range: () => [0, this.#top] } },
        axes: [
          { ...axis, values: (_plot, values) => values.map((value) => (value === 0 ? "newest" : `${value}`)) },
          {
            ...axis,
            size: 52,
            values: (_plot, values) => values.map((value) => (value === 0 ? "0" : milliseconds(value))),
          },
        ],
        series: [{}, ...series],
      },
      [[], ...INSPECTED_STAGES.map(() => [])],
      element,
    );
    new ResizeObserver(() => this.#plot.setSize(this.#size())).observe(element);
  }

  update(frames: readonly InspectedFrame[]): void {
    const shown = frames.slice(-SHOWN_FRAMES);
    const x = shown.map((_, index) => index - shown.length + 1);
    const sums = INSPECTED_STAGES.map((_, upTo) =>
      shown.map((frame) =>
        INSPECTED_STAGES.slice(0, upTo + 1).reduce((sum, stage) => sum + (stageOf(frame, stage) ?? 0), 0),
      ),
    );
    this.#top = topOf(sums.at(-1) ?? []);
    this.#plot.setData([x, ...sums.reverse()]);
  }

  #size(): { width: number; height: number } {
    return { width: Math.max(200, this.#element.clientWidth), height: Math.max(120, this.#element.clientHeight) };
  }
}
