// TensorBoard's smoothing: an exponential moving average with its start-up bias removed
// (tensorboard/webapp/widgets/line_chart_v2/data_transformer.ts), carried over buckets by their counts.

import type { Columns } from "./columns";

/**
 * Return the smoothed value of every entry. weight is in [0, 1]; 0 returns the last values.
 *
 * On raw points this is TensorBoard's result to the bit. A bucket of c finite values counts as c values at
 * its mean: ema = w^c · ema + (1 − w^c) · mean, debiased by 1 − w^(all counts so far). Entries without a finite
 * value pass through and do not advance; a constant series is returned as it is.
 */
export function smooth(columns: Columns, weight: number): number[] {
  const w = Math.min(Math.max(weight, 0), 1);
  if (w === 0 || isConstant(columns)) return columns.last.slice();
  const smoothed: number[] = new Array(columns.last.length);
  let ema = 0;
  let seen = 0;
  for (let i = 0; i < smoothed.length; i++) {
    const count = columns.count[i]! - columns.special[i]!;
    const mean = columns.mean[i];
    if (count <= 0 || mean === null || mean === undefined) {
      smoothed[i] = columns.last[i]!;
      continue;
    }
    const decay = count === 1 ? w : w ** count;
    ema = ema * decay + (1 - decay) * mean;
    seen += count;
    smoothed[i] = ema / (w === 1 ? 1 : 1 - w ** seen);
  }
  return smoothed;
}

function isConstant(columns: Columns): boolean {
  let first: number | null = null;
  for (let i = 0; i < columns.last.length; i++) {
    const min = columns.min[i];
    if (min === null || min === undefined) return false;
    first ??= min;
    if (min !== first || columns.max[i] !== first || columns.special[i]! > 0) return false;
  }
  return true;
}
