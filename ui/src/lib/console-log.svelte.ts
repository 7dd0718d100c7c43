// The console output of a run: fetched by cursor, the newest lines kept.

import { api } from "./api";
import type { RunKey } from "./api";
import { plainText } from "./ansi";
import type { ConsoleLine } from "./types";

const PAGE = 5_000;
/** Older lines are let go beyond this; the page says how many. */
const LINES_MAX = 100_000;

export interface NumberedLine extends ConsoleLine {
  number: number;
}

export class ConsoleLog {
  lines: NumberedLine[] = $state.raw([]);
  dropped = $state(0);
  loaded = $state(false);
  #cursor = 0;
  #count = 0;
  #busy = false;
  #again = false;
  #closed = false;

  constructor(readonly key: RunKey) {}

  /** Fetch whatever is new. */
  async update(): Promise<void> {
    this.#again = true;
    if (this.#busy) return;
    this.#busy = true;
    try {
      while (this.#again && !this.#closed) {
        this.#again = false;
        const answer = await api.console(this.key, this.#cursor, PAGE);
        if (this.#closed) return;
        if (answer.more && answer.cursor > this.#cursor) this.#again = true;
        this.#cursor = answer.cursor;
        if (answer.lines.length > 0) this.#append(answer.lines);
      }
      this.loaded = true;
    } catch {
      // The banner says that the server is away; the next news asks again.
    } finally {
      this.#busy = false;
    }
  }

  close(): void {
    this.#closed = true;
  }

  #append(added: ConsoleLine[]): void {
    const numbered = added.map((line) => ({ ...line, number: ++this.#count }));
    const lines = [...this.lines, ...numbered];
    const excess = Math.max(0, lines.length - LINES_MAX);
    this.dropped += excess;
    this.lines = excess > 0 ? lines.slice(excess) : lines;
  }
}

/** Return the lines that contain text, ignoring case. */
export function matchingLines(lines: NumberedLine[], text: string): NumberedLine[] {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return lines;
  return lines.filter((line) => plainText(line.text).toLowerCase().includes(wanted));
}
