// The points behind the charts of one run: initial buckets, then only new points by cursor.

import { api, requestParts } from "./api";
import type { RunKey } from "./api";
import {
  appendPoints, emptyColumns, mergeTail, parsePoints, parseSeries, serverAxis,
} from "./columns";
import type { Axis, Columns, Point } from "./columns";

/** Buckets asked for per chart: about one for each pixel of a chart in the grid. */
export const BUCKETS = 500;
/** A tail this long is bucketed again by the server. */
const TAIL_MAX = BUCKETS;
/** After a failed request, news do not cause another one for this long. */
const RETRY_PAUSE_MS = 1_000;
const POINTS_LIMIT = 10_000;
/** When news are further ahead than this, buckets are cheaper than points. */
const BEHIND_MAX = 20_000;
/** After points behind the end of what is shown, their order among other streams is asked of the server. */
const REORDER_PAUSE_MS = 2_000;

export interface Window {
  from: number;
  to: number;
}

/** What all charts of a page show: an axis and, when zoomed, a window in its unit (steps, or ns since the epoch). */
export interface View {
  axis: Axis;
  window: Window | null;
}

export type Listener = (columns: Columns) => void;

/** Where charts get their data from. */
export interface Feed {
  /** Deliver a metric's columns now and at every change. Return how to stop. */
  watch(metric: string, listener: Listener): () => void;
}

interface Entry {
  listeners: Set<Listener>;
  base: Columns | null;
  tail: Point[];
  cursor: number;
  /** the view that base answers */
  view: View | null;
  disordered: boolean;
}

export class RunFeed implements Feed {
  #entries = new Map<string, Entry>();
  #view: View;
  #latest = 0;
  #wanted = new Set<string>();
  /** Their points are left to the buckets on the way, which may be older than what a tick would add. */
  #underWay = new Set<string>();
  #loading = false;
  #ticking = false;
  #reorder: ReturnType<typeof setTimeout> | undefined;
  #closed = false;
  #quietUntil_ms = 0;

  constructor(
    readonly key: RunKey,
    view: View,
  ) {
    this.#view = view;
  }

  watch(metric: string, listener: Listener): () => void {
    let entry = this.#entries.get(metric);
    if (!entry) {
      entry = { listeners: new Set(), base: null, tail: [], cursor: 0, view: null, disordered: false };
      this.#entries.set(metric, entry);
    }
    entry.listeners.add(listener);
    if (entry.base) listener(this.#columns(entry));
    if (entry.view === this.#view) void this.#tick();
    else this.#want([metric]);
    return () => entry.listeners.delete(listener);
  }

  /** Show another axis or window. Charts keep what they have until its data arrives. */
  setView(view: View): void {
    this.#view = view;
    this.#want(this.#watched());
  }

  /** Hear that the run has records up to this cursor. */
  news(cursor: number): void {
    this.#latest = Math.max(this.#latest, cursor);
    void this.#tick();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#reorder);
  }

  #watched(): string[] {
    return [...this.#entries].filter(([, entry]) => entry.listeners.size > 0).map(([metric]) => metric);
  }

  #want(metrics: string[]): void {
    for (const metric of metrics) this.#wanted.add(metric);
    // Charts that appear together share one request.
    if (!this.#loading) {
      this.#loading = true;
      queueMicrotask(() => void this.#load());
    }
  }

  async #load(): Promise<void> {
    try {
      while (this.#wanted.size > 0 && !this.#closed) {
        const metrics = requestParts([...this.#wanted])[0]!;
        this.#underWay = new Set(metrics);
        for (const metric of metrics) this.#wanted.delete(metric);
        await this.#loadSeries(metrics);
        this.#underWay.clear();
      }
    } catch {
      // The page shows that the server is away or what it refused. Ask again later, not at once.
      this.#quietUntil_ms = Date.now() + RETRY_PAUSE_MS;
    } finally {
      this.#underWay.clear();
      this.#loading = false;
    }
    void this.#tick();
  }

  async #loadSeries(metrics: string[]): Promise<void> {
    const view = this.#view;
    const x = serverAxis(view.axis);
    const { from = null, to = null } = view.window ?? {};
    const answer = await api.series(this.key, { metric: metrics, x, buckets: BUCKETS, from, to });
    if (this.#closed) return;
    if (view !== this.#view) {
      this.#want(metrics);
      return;
    }
    for (const metric of metrics) {
      const entry = this.#entries.get(metric);
      const series = answer.series[metric];
      if (!entry) continue;
      entry.base = series ? parseSeries(series, x) : emptyColumns();
      entry.tail = [];
      entry.cursor = answer.cursor;
      entry.view = view;
      entry.disordered = false;
      this.#tell(entry);
    }
  }

  /** Fetch what is new for the watched metrics, one request for all that stand at the same cursor. */
  async #tick(): Promise<void> {
    if (this.#ticking || Date.now() < this.#quietUntil_ms) return;
    this.#ticking = true;
    try {
      while (!this.#closed) {
        const behind = this.#watched().filter((metric) => {
          const entry = this.#entries.get(metric)!;
          const busy = this.#wanted.has(metric) || this.#underWay.has(metric);
          return !busy && entry.view === this.#view && entry.cursor < this.#latest;
        });
        if (behind.length === 0) break;
        const first = this.#entries.get(behind[0]!)!.cursor;
        if (this.#latest - first > BEHIND_MAX) {
          const far = behind.filter((metric) => this.#latest - this.#entries.get(metric)!.cursor > BEHIND_MAX);
          for (const metric of far) this.#entries.get(metric)!.view = null;
          this.#want(far);
          continue;
        }
        const group = behind.filter((metric) => this.#entries.get(metric)!.cursor === first);
        let moved = false;
        for (const part of requestParts(group)) moved = (await this.#loadPoints(part, first)) || moved;
        if (!moved) break;
      }
    } catch {
      this.#quietUntil_ms = Date.now() + RETRY_PAUSE_MS;
    } finally {
      this.#ticking = false;
    }
    const unloaded = this.#watched().filter((metric) => this.#entries.get(metric)!.view !== this.#view);
    if (unloaded.length > 0 && !this.#loading && !this.#closed) this.#want(unloaded);
  }

  /** Ask at once for whatever failed. */
  retry(): void {
    this.#quietUntil_ms = 0;
    void this.#tick();
  }

  async #loadPoints(metrics: string[], after: number): Promise<boolean> {
    const view = this.#view;
    const answer = await api.points(this.key, metrics, after, POINTS_LIMIT);
    if (this.#closed) return false;
    const axis = serverAxis(view.axis);
    const long: string[] = [];
    for (const metric of metrics) {
      const entry = this.#entries.get(metric);
      if (!entry || entry.view !== view || view !== this.#view || entry.cursor !== after) continue;
      const wire = answer.points[metric];
      entry.cursor = answer.cursor;
      if (!wire || wire.step.length === 0) continue;
      const points = parsePoints(wire).filter((point) => inWindow(point[axis], view.window));
      if (points.length === 0) continue;
      const shownTo = entry.base?.[axis].at(-1) ?? -Infinity;
      const unordered = appendPoints(entry.tail, points, axis);
      if (axis === "step" && (unordered || points.some((point) => point.step <= shownTo))) this.#askOrder(entry);
      this.#tell(entry);
      if (entry.tail.length > TAIL_MAX) long.push(metric);
    }
    if (long.length > 0) this.#want(long);
    return answer.cursor > after;
  }

  #askOrder(entry: Entry): void {
    entry.disordered = true;
    this.#reorder ??= setTimeout(() => {
      this.#reorder = undefined;
      this.#want(this.#watched().filter((metric) => this.#entries.get(metric)!.disordered));
    }, REORDER_PAUSE_MS);
  }

  #columns(entry: Entry): Columns {
    return mergeTail(entry.base!, entry.tail, serverAxis((entry.view ?? this.#view).axis));
  }

  #tell(entry: Entry): void {
    if (entry.listeners.size === 0) return;
    const columns = this.#columns(entry);
    for (const listener of entry.listeners) listener(columns);
  }
}

function inWindow(x: number, window: Window | null): boolean {
  return window === null || (x >= window.from && x <= window.to);
}
