// Columns: one metric as a chart holds it. Each entry is a raw point (count 1) or a bucket of several,
// in the order of the x axis. Base columns come from /series; raw points of /points are merged in.

import type { WireNumber, WirePoints, WireSeries } from "./types";

export type Axis = "step" | "relative" | "wall";

/** What the server buckets by. */
export type ServerAxis = "step" | "time";

export interface Columns {
  step: number[];
  time: number[];
  last: number[];
  /** null where a bucket has no finite value */
  min: (number | null)[];
  max: (number | null)[];
  mean: (number | null)[];
  count: number[];
  special: number[];
}

export interface Point {
  step: number;
  time: number;
  value: number;
  stream: number;
  offset: number;
}

export function serverAxis(axis: Axis): ServerAxis {
  return axis === "step" ? "step" : "time";
}

export function emptyColumns(): Columns {
  return { step: [], time: [], last: [], min: [], max: [], mean: [], count: [], special: [] };
}

export function parseNumber(value: WireNumber): number {
  return value === null ? NaN : Number(value);
}

function parseFinite(value: WireNumber): number | null {
  const number = parseNumber(value);
  return Number.isFinite(number) ? number : null;
}

/** Read a /series answer. Of raw points at one step only the last is kept, as everywhere. */
export function parseSeries(wire: WireSeries, axis: ServerAxis): Columns {
  const columns = emptyColumns();
  for (let i = 0; i < wire.step.length; i++) {
    const at = columns.step.length - 1;
    const same = axis === "step" && at >= 0 && columns.step[at] === wire.step[i];
    if (same && columns.count[at] === 1 && wire.count[i] === 1) dropLast(columns);
    columns.step.push(wire.step[i]!);
    columns.time.push(wire.time[i]!);
    columns.last.push(parseNumber(wire.last[i]!));
    columns.min.push(parseFinite(wire.min[i]!));
    columns.max.push(parseFinite(wire.max[i]!));
    columns.mean.push(parseFinite(wire.mean[i]!));
    columns.count.push(wire.count[i]!);
    columns.special.push(wire.special[i]!);
  }
  return columns;
}

function dropLast(columns: Columns): void {
  for (const column of Object.values(columns) as unknown[][]) column.pop();
}

export function parsePoints(wire: WirePoints): Point[] {
  return wire.step.map((step, i) => ({
    step,
    time: wire.time[i]!,
    value: parseNumber(wire.value[i]!),
    stream: wire.stream[i]!,
    offset: wire.offset[i]!,
  }));
}

/**
 * Add points to a sorted tail, in place, and keep it sorted by (step, stream, offset) or (time, stream, offset).
 * On the step axis the last point of a step wins. Return whether any came out of order.
 */
export function appendPoints(tail: Point[], added: Point[], axis: ServerAxis): boolean {
  const before = tail.length;
  let ordered = true;
  for (const point of added) {
    const previous = tail.at(-1);
    if (previous && comparePoints(previous, point, axis) > 0) ordered = false;
    tail.push(point);
  }
  if (!ordered) tail.sort((a, b) => comparePoints(a, b, axis));
  if (axis === "step") keepLastOfEachStep(tail, ordered ? Math.max(before - 1, 0) : 0);
  return !ordered;
}

function comparePoints(a: Point, b: Point, axis: ServerAxis): number {
  return a[axis] - b[axis] || a.stream - b.stream || a.offset - b.offset;
}

function keepLastOfEachStep(tail: Point[], from: number): void {
  let kept = from;
  for (let i = from; i < tail.length; i++) {
    if (i + 1 < tail.length && tail[i + 1]!.step === tail[i]!.step) continue;
    tail[kept++] = tail[i]!;
  }
  tail.length = kept;
}

/**
 * Return base with the tail merged in; both are sorted by the axis. A point behind the end of the base goes into the
 * bucket that covers it, replaces the raw point of its step, or becomes an entry of its own.
 */
export function mergeTail(base: Columns, tail: Point[], axis: ServerAxis): Columns {
  if (tail.length === 0) return base;
  const merged = emptyColumns();
  const keys = base[axis];
  let next = 0;
  for (let i = 0; i < keys.length; i++) {
    const end = keys[i]!;
    const bucket = base.count[i]! > 1;
    // Raw entries let earlier points through as entries of their own.
    while (!bucket && next < tail.length && tail[next]![axis] < end) pushPoint(merged, tail[next++]!);
    pushEntry(merged, base, i);
    while (next < tail.length && tail[next]![axis] <= end && (bucket || axis === "step")) {
      const point = tail[next++]!;
      if (bucket) foldPoint(merged, point, point[axis] === end);
      else replaceLast(merged, point);
    }
  }
  while (next < tail.length) pushPoint(merged, tail[next++]!);
  return merged;
}

function pushEntry(to: Columns, from: Columns, i: number): void {
  to.step.push(from.step[i]!);
  to.time.push(from.time[i]!);
  to.last.push(from.last[i]!);
  to.min.push(from.min[i]!);
  to.max.push(from.max[i]!);
  to.mean.push(from.mean[i]!);
  to.count.push(from.count[i]!);
  to.special.push(from.special[i]!);
}

function pushPoint(to: Columns, point: Point): void {
  const finite = Number.isFinite(point.value);
  to.step.push(point.step);
  to.time.push(point.time);
  to.last.push(point.value);
  to.min.push(finite ? point.value : null);
  to.max.push(finite ? point.value : null);
  to.mean.push(finite ? point.value : null);
  to.count.push(1);
  to.special.push(finite ? 0 : 1);
}

function replaceLast(to: Columns, point: Point): void {
  dropLast(to);
  pushPoint(to, point);
}

function foldPoint(to: Columns, point: Point, isLast: boolean): void {
  const i = to.step.length - 1;
  if (isLast) to.last[i] = point.value;
  if (Number.isFinite(point.value)) {
    const finite = to.count[i]! - to.special[i]!;
    to.min[i] = to.min[i] === null ? point.value : Math.min(to.min[i]!, point.value);
    to.max[i] = to.max[i] === null ? point.value : Math.max(to.max[i]!, point.value);
    to.mean[i] = ((to.mean[i] ?? 0) * finite + point.value) / (finite + 1);
  } else {
    to.special[i]!++;
  }
  to.count[i]!++;
}
