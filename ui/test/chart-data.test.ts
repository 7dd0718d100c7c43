import { expect, test } from "vitest";
import { chartData, rangeOf, windowOf } from "../src/lib/chart-data";
import { parseSeries } from "../src/lib/columns";
import { point, raw, SECOND } from "./series";
import { mergeTail } from "../src/lib/columns";

const ORIGIN = 100 * SECOND;

test("x is the step, the seconds since the run began, or the seconds since the epoch", () => {
  const columns = mergeTail(parseSeries(raw([], []), "step"), [point(5, 1, { time: 107 * SECOND })], "step");

  expect(chartData(columns, "step", ORIGIN, 0, false).x).toEqual([5]);
  expect(chartData(columns, "relative", ORIGIN, 0, false).x).toEqual([7]);
  expect(chartData(columns, "wall", ORIGIN, 0, false).x).toEqual([107]);
});

test("NaN leaves a gap in the line and a mark", () => {
  const data = chartData(parseSeries(raw([0, 1, 2], [1, "NaN", 3]), "step"), "step", 0, 0, false);

  expect(data.line).toEqual([1, null, 3]);
  expect(data.marks).toEqual([1]);
  expect(data.special).toBe(1);
});

test("a log axis hides what it cannot show and says how much", () => {
  const data = chartData(parseSeries(raw([0, 1, 2], [1, 0, -3]), "step"), "step", 0, 0, true);

  expect(data.line).toEqual([1, null, null]);
  expect(data.hidden).toBe(2);
});

test("raw points have no band", () => {
  const data = chartData(parseSeries(raw([0, 1], [1, 2]), "step"), "step", 0, 0, false);

  expect(data.banded).toBe(false);
  expect(data.low).toEqual([]);
});

test("smoothing keeps the values themselves behind the smoothed line", () => {
  const data = chartData(parseSeries(raw([0, 1], [1, 2]), "step"), "step", 0, 0.5, false);

  expect(data.raw).toEqual([1, 2]);
  expect(data.line[1]).toBeCloseTo(5 / 3);
});

test("a zoom on steps asks for whole steps, one on time for nanoseconds", () => {
  expect(windowOf("step", 2.3, 7.1, ORIGIN)).toEqual({ from: 2, to: 8 });
  expect(windowOf("relative", 1.5, 2, ORIGIN)).toEqual({ from: 101.5 * SECOND, to: 102 * SECOND });
  expect(rangeOf("relative", { from: 101.5 * SECOND, to: 102 * SECOND }, ORIGIN)).toEqual([1.5, 2]);
});
