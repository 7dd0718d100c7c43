// From columns to what uPlot draws: x in the unit of the axis, gaps as null, band, smoothed line, marks.

import type { Axis, Columns } from "./columns";
import type { Window } from "./run-feed";
import { smooth } from "./smoothing";

const SECOND_NS = 1e9;

type Values = (number | null)[];

export interface ChartData {
  x: number[];
  /** the main line: smoothed, or the last value of each entry */
  line: Values;
  /** the unsmoothed values behind a smoothed line; empty without smoothing */
  raw: Values;
  low: Values;
  high: Values;
  /** whether any entry covers several values */
  banded: boolean;
  /** indices of entries that hold NaN or infinities */
  marks: number[];
  /** how many NaN and infinite values there are */
  special: number;
  /** how many entries a log axis cannot show */
  hidden: number;
}

/** Where a point lies: steps, seconds since the run began, or seconds since the epoch. */
export function axisValue(axis: Axis, step: number, time_ns: number, origin_ns: number): number {
  if (axis === "step") return step;
  return (axis === "relative" ? time_ns - origin_ns : time_ns) / SECOND_NS;
}

/** Turn a range of x values into a window for the server. Steps are widened to whole ones. */
export function windowOf(axis: Axis, from: number, to: number, origin_ns: number): Window {
  if (axis === "step") return { from: Math.floor(from), to: Math.ceil(to) };
  const origin = axis === "relative" ? origin_ns : 0;
  return { from: Math.round(from * SECOND_NS + origin), to: Math.round(to * SECOND_NS + origin) };
}

/** The reverse of windowOf. */
export function rangeOf(axis: Axis, window: Window, origin_ns: number): [number, number] {
  return [axisValue(axis, window.from, window.from, origin_ns), axisValue(axis, window.to, window.to, origin_ns)];
}

export function chartData(columns: Columns, axis: Axis, origin_ns: number, weight: number, log: boolean): ChartData {
  let hidden = 0;
  const drawable = (value: number | null | undefined): number | null => {
    if (value === null || value === undefined || !Number.isFinite(value)) return null;
    if (log && value <= 0) {
      hidden++;
      return null;
    }
    return value;
  };
  const last = columns.last.map(drawable);
  const hiddenOfLast = hidden;
  const line = weight > 0 ? smooth(columns, weight).map(drawable) : last;
  const banded = columns.count.some((count) => count > 1);
  const marks: number[] = [];
  let special = 0;
  columns.special.forEach((count, i) => {
    special += count;
    if (count > 0) marks.push(i);
  });
  return {
    x: columns.step.map((step, i) => axisValue(axis, step, columns.time[i]!, origin_ns)),
    line,
    raw: weight > 0 ? last : [],
    low: banded ? columns.min.map(drawable) : [],
    high: banded ? columns.max.map(drawable) : [],
    banded,
    marks,
    special,
    hidden: hiddenOfLast,
  };
}
