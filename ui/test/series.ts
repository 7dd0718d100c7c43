// Series as /series and /points answer, for tests.

import type { Point } from "../src/lib/columns";
import type { WireNumber, WireSeries } from "../src/lib/types";

export const SECOND = 1e9;

/** Raw entries at the given steps, one second apart per step. */
export function raw(steps: number[], values: WireNumber[]): WireSeries {
  const finite = values.map((value) => (typeof value === "number" ? value : null));
  return {
    x: steps,
    step: steps,
    time: steps.map((step) => step * SECOND),
    last: values,
    min: finite,
    max: finite,
    mean: finite,
    count: steps.map(() => 1),
    special: finite.map((value) => (value === null ? 1 : 0)),
  };
}

export function point(step: number, value: number, place: Partial<Point> = {}): Point {
  return { step, time: step * SECOND, value, stream: 0, offset: step * 100, ...place };
}
