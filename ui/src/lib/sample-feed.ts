// The samples behind the System charts: buckets of the metrics of a host or of a run's processes, asked again when
// there is news.

import { requestParts } from "./api";
import type { SeriesQuery } from "./api";
import { emptyColumns, parseSeries } from "./columns";
import type { Columns } from "./columns";
import type { Feed, Listener, Window } from "./run-feed";
import { BUCKETS } from "./run-feed";
import type { SeriesAnswer } from "./types";

/** Nanoseconds; null means from the first sample, or until the last. */
export interface Span {
  from: number | null;
  to: number | null;
}

export class SampleFeed implements Feed {
  #listeners = new Map<string, Set<Listener>>();
  #columns = new Map<string, Columns>();
  #wanted = new Set<string>();
  #loading = false;
  #closed = false;
  #span: Span = { from: null, to: null };

  constructor(private readonly ask: (query: Omit<SeriesQuery, "x">) => Promise<SeriesAnswer>) {}

  watch(metric: string, listener: Listener): () => void {
    let listeners = this.#listeners.get(metric);
    if (!listeners) this.#listeners.set(metric, (listeners = new Set()));
    listeners.add(listener);
    const columns = this.#columns.get(metric);
    if (columns) listener(columns);
    this.#want([metric]);
    return () => listeners.delete(listener);
  }

  setSpan(span: Span | Window): void {
    this.#span = span;
    this.refresh();
  }

  /** Ask for everything that is on screen. */
  refresh(): void {
    this.#want([...this.#listeners].filter(([, listeners]) => listeners.size > 0).map(([metric]) => metric));
  }

  close(): void {
    this.#closed = true;
  }

  #want(metrics: string[]): void {
    for (const metric of metrics) this.#wanted.add(metric);
    if (this.#loading || this.#wanted.size === 0) return;
    this.#loading = true;
    queueMicrotask(() => void this.#load());
  }

  async #load(): Promise<void> {
    try {
      while (this.#wanted.size > 0 && !this.#closed) {
        const metrics = requestParts([...this.#wanted])[0]!;
        for (const metric of metrics) this.#wanted.delete(metric);
        const answer = await this.ask({ metric: metrics, buckets: BUCKETS, ...this.#span });
        if (this.#closed) return;
        for (const metric of metrics) {
          const series = answer.series[metric];
          const columns = series ? parseSeries(series, "time") : emptyColumns();
          this.#columns.set(metric, columns);
          for (const listener of this.#listeners.get(metric) ?? []) listener(columns);
        }
      }
    } catch {
      // The page shows that the server is away; the next refresh asks again.
    } finally {
      this.#loading = false;
    }
  }
}
