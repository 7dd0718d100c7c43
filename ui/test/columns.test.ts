import { expect, test } from "vitest";
import { appendPoints, emptyColumns, mergeTail, parseSeries } from "../src/lib/columns";
import type { Columns, Point } from "../src/lib/columns";
import { point, raw, SECOND } from "./series";

/** Two buckets: steps 0–9 (mean 5, last 1) and 10–19 (mean 2, last 3). */
function buckets(): Columns {
  return {
    step: [9, 19],
    time: [9 * SECOND, 19 * SECOND],
    last: [1, 3],
    min: [0, 1],
    max: [9, 4],
    mean: [5, 2],
    count: [10, 10],
    special: [0, 0],
  };
}

test("NaN and infinities that travel as strings become numbers and leave min, max and mean empty", () => {
  const columns = parseSeries(raw([0, 1, 2], [1, "NaN", "-Infinity"]), "step");

  expect(columns.last).toEqual([1, NaN, -Infinity]);
  expect(columns.mean).toEqual([1, null, null]);
  expect(columns.special).toEqual([0, 1, 1]);
});

test("of raw points at one step the last is shown", () => {
  const columns = parseSeries(raw([0, 1, 1, 2], [10, 11, 12, 13]), "step");

  expect(columns.step).toEqual([0, 1, 2]);
  expect(columns.last).toEqual([10, 12, 13]);
});

test("points that arrive in order are appended without being called out of order", () => {
  const tail: Point[] = [point(1, 1)];

  const disordered = appendPoints(tail, [point(2, 2), point(3, 3)], "step");

  expect(disordered).toBe(false);
  expect(tail.map((each) => each.value)).toEqual([1, 2, 3]);
});

test("a late step is sorted in and reported", () => {
  const tail: Point[] = [point(1, 1), point(5, 5)];

  const disordered = appendPoints(tail, [point(3, 3)], "step");

  expect(disordered).toBe(true);
  expect(tail.map((each) => each.step)).toEqual([1, 3, 5]);
});

test("at one step the greatest stream and offset win, whatever the order of arrival", () => {
  const tail: Point[] = [];

  appendPoints(tail, [point(4, 30, { stream: 1, offset: 10 })], "step");
  appendPoints(tail, [point(4, 10, { stream: 0, offset: 900 }), point(4, 40, { stream: 1, offset: 20 })], "step");

  expect(tail.map((each) => each.value)).toEqual([40]);
});

test("on a time axis points of one step are all kept", () => {
  const tail: Point[] = [];

  appendPoints(tail, [point(4, 1, { time: 1 }), point(4, 2, { time: 2 })], "time");

  expect(tail).toHaveLength(2);
});

test("a tail behind the base is appended to it", () => {
  const merged = mergeTail(parseSeries(raw([0, 1], [1, 2]), "step"), [point(2, 3)], "step");

  expect(merged.step).toEqual([0, 1, 2]);
  expect(merged.last).toEqual([1, 2, 3]);
});

test("a tail point at a raw step replaces it, one between raw steps stands between them", () => {
  const merged = mergeTail(parseSeries(raw([0, 2], [1, 2]), "step"), [point(1, 5), point(2, 9)], "step");

  expect(merged.step).toEqual([0, 1, 2]);
  expect(merged.last).toEqual([1, 5, 9]);
});

test("a late point is folded into the bucket that covers it without becoming its last value", () => {
  const merged = mergeTail(buckets(), [point(12, 100)], "step");

  expect(merged.step).toEqual([9, 19]);
  expect(merged.last).toEqual([1, 3]);
  expect(merged.max).toEqual([9, 100]);
  expect(merged.count).toEqual([10, 11]);
  expect(merged.mean[1]).toBeCloseTo((2 * 10 + 100) / 11);
});

test("a late NaN is counted in its bucket and leaves the mean alone", () => {
  const merged = mergeTail(buckets(), [point(12, NaN)], "step");

  expect(merged.special).toEqual([0, 1]);
  expect(merged.mean).toEqual([5, 2]);
});

test("merging does not change the base", () => {
  const base = buckets();

  mergeTail(base, [point(12, 100), point(30, 1)], "step");

  expect(base).toEqual(buckets());
});

test("merged entries are sorted and complete for random points in random order", () => {
  const seed = Date.now() % 1e6;
  console.log(`seed ${seed}`);
  let state = seed;
  const random = (): number => (state = (state * 48271) % 2147483647) / 2147483647;
  const points = Array.from({ length: 300 }, (_, i) => point(Math.floor(random() * 200), i, { offset: i }));
  const expected = new Map(points.map((each) => [each.step, each.value]));
  const tail: Point[] = [];

  for (let at = 0; at < points.length; at += 7) appendPoints(tail, points.slice(at, at + 7), "step");
  const merged = mergeTail(emptyColumns(), tail, "step");

  expect(merged.step).toEqual([...expected.keys()].sort((a, b) => a - b));
  expect(merged.last).toEqual(merged.step.map((step) => expected.get(step)));
});
