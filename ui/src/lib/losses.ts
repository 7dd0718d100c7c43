// Counts what a run lacks, so that no loss is silent.

import type { Stream } from "./types";

export interface Losses {
  bytes: number;
  records: number;
  problems: number;
  /** how many facts there are to tell */
  total: number;
}

export function countLosses(streams: Stream[]): Losses {
  const losses: Losses = { bytes: 0, records: 0, problems: 0, total: 0 };
  for (const stream of streams) {
    for (const gap of stream.gaps) losses.bytes += gap.bytes;
    for (const lost of stream.lost) losses.records += lost.records;
    losses.problems += stream.problems.length;
    losses.total += stream.gaps.length + stream.lost.length + stream.problems.length;
  }
  return losses;
}
