import { expect, test } from "vitest";
import { parseSeries } from "../src/lib/columns";
import type { Columns } from "../src/lib/columns";
import { smooth } from "../src/lib/smoothing";
import type { WireNumber } from "../src/lib/types";
import { raw } from "./series";

function series(values: WireNumber[]): Columns {
  return parseSeries(raw(values.map((_, step) => step), values), "step");
}

/** What TensorBoard computes, written down from its formula. */
function tensorBoard(values: number[], w: number): number[] {
  let last = 0;
  let n = 0;
  return values.map((y) => {
    if (!Number.isFinite(y)) return y;
    last = last * w + (1 - w) * y;
    n++;
    return last / (w === 1 ? 1 : 1 - w ** n);
  });
}

const VALUES = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5];

test.each([0.1, 0.6, 0.9, 0.999])("on raw points weight %d gives TensorBoard's values", (w) => {
  expect(smooth(series(VALUES), w)).toEqual(tensorBoard(VALUES, w));
});

test("without weight the values come back as they are", () => {
  expect(smooth(series(VALUES), 0)).toEqual(VALUES);
});

test("NaN passes through and does not advance the average", () => {
  const smoothed = smooth(series([1, "NaN", 3]), 0.5);

  expect(smoothed).toEqual(tensorBoard([1, NaN, 3], 0.5));
  expect(smoothed[2]).toBeCloseTo((0.5 * 0.5 * 1 + 0.5 * 3) / (1 - 0.25));
});

test("a constant series stays exactly constant", () => {
  expect(smooth(series([0.1, 0.1, 0.1, 0.1]), 0.9)).toEqual([0.1, 0.1, 0.1, 0.1]);
});

test("a bucket of equal values weighs as much as its points one by one", () => {
  const points = [7, 2, 2, 2, 2, 5];
  const bucketed: Columns = {
    ...series([7, 2, 5]),
    step: [0, 4, 5],
    count: [1, 4, 1],
  };

  const smoothed = smooth(bucketed, 0.8);

  const exact = tensorBoard(points, 0.8);
  expect(smoothed[1]).toBeCloseTo(exact[4]!, 12);
  expect(smoothed[2]).toBeCloseTo(exact[5]!, 12);
});

test("a bucket of nothing but NaN passes through", () => {
  const columns: Columns = { ...series([1, "NaN", 3]), count: [1, 5, 1], special: [0, 5, 0] };

  expect(smooth(columns, 0.5)).toEqual(tensorBoard([1, NaN, 3], 0.5));
});
