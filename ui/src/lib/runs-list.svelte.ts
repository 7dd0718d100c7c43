// The runs on the list page: pages of the present query, kept up to date by news.

import { api, ApiError } from "./api";
import type { RunsQuery } from "./api";
import type { Run, RunNews } from "./types";

const PAGE = 50;
/** More rows than this are not asked for again as a whole; news still change them one by one. */
const REFRESH_MAX = 200;
const REFRESH_PAUSE_MS = 1000;

export class RunsList {
  runs: Run[] = $state.raw([]);
  total = $state(0);
  loaded = $state(false);
  loading = $state(false);
  problem: ApiError | null = $state(null);
  #query: RunsQuery = {};
  #cursor: string | null = null;
  #generation = 0;
  #refreshTimer: ReturnType<typeof setTimeout> | undefined;
  #refreshedAt = 0;

  get complete(): boolean {
    return this.loaded && this.#cursor === null;
  }

  /** Show the first page of another query; what is shown stays until it is here. */
  async show(query: RunsQuery): Promise<void> {
    this.#query = query;
    await this.#fetch(PAGE, null);
  }

  async more(): Promise<void> {
    if (!this.loading && this.#cursor !== null) await this.#fetch(PAGE, this.#cursor);
  }

  news(news: RunNews): void {
    const at = this.runs.findIndex((run) => sameRun(run, news));
    if (at >= 0) {
      const changed = { ...this.runs[at]!, state: news.state, updated: news.updated };
      this.runs = this.runs.with(at, changed);
    }
    this.refreshSoon();
  }

  /** Ask for what is shown again, at most once a second. */
  refreshSoon(): void {
    if (this.#refreshTimer !== undefined) return;
    const pause = Math.max(0, this.#refreshedAt + REFRESH_PAUSE_MS - Date.now());
    this.#refreshTimer = setTimeout(() => {
      this.#refreshTimer = undefined;
      if (this.loading) this.refreshSoon();
      else void this.#refresh();
    }, pause);
  }

  close(): void {
    this.#generation++;
    clearTimeout(this.#refreshTimer);
  }

  async #refresh(): Promise<void> {
    this.#refreshedAt = Date.now();
    const generation = this.#generation;
    const limit = Math.min(Math.max(this.runs.length, PAGE), REFRESH_MAX);
    try {
      const page = await api.runs({ ...this.#query, limit });
      if (generation !== this.#generation) return;
      const shown = new Set(page.runs.map(runId));
      const rest = this.runs.slice(limit).filter((run) => !shown.has(runId(run)));
      if (rest.length === 0) this.#cursor = page.cursor;
      this.runs = [...page.runs, ...rest];
      this.total = page.total;
      this.problem = null;
    } catch {
      // The banner says that the server is away; recovery refreshes.
    }
  }

  async #fetch(limit: number, cursor: string | null): Promise<void> {
    const generation = ++this.#generation;
    this.loading = true;
    try {
      const page = await api.runs({ ...this.#query, limit, cursor });
      if (generation !== this.#generation) return;
      const before = cursor === null ? [] : this.runs;
      const known = new Set(before.map(runId));
      this.runs = [...before, ...page.runs.filter((run) => !known.has(runId(run)))];
      this.total = page.total;
      this.#cursor = page.cursor;
      this.loaded = true;
      this.problem = null;
    } catch (error) {
      if (generation === this.#generation && error instanceof ApiError) this.problem = error;
    } finally {
      if (generation === this.#generation) this.loading = false;
    }
  }
}

export function runId(run: { entity: string; project: string; run: string }): string {
  return `${run.entity}/${run.project}/${run.run}`;
}

function sameRun(a: Run, b: RunNews): boolean {
  return a.run === b.run && a.project === b.project && a.entity === b.entity;
}

/** Return the names of the numbers most runs have, for columns of their own. */
export function keyMetrics(runs: Run[], most: number): string[] {
  const counts = new Map<string, number>();
  for (const run of runs) {
    for (const [name, value] of Object.entries(run.summary ?? {})) {
      if (isNumeric(value) && !name.startsWith("_")) counts.set(name, (counts.get(name) ?? 0) + 1);
    }
  }
  const byCount = [...counts].sort((a, b) => b[1] - a[1]);
  return byCount.slice(0, most).map(([name]) => name);
}

function isNumeric(value: unknown): boolean {
  return typeof value === "number" || (typeof value === "string" && /^(NaN|-?Infinity)$/.test(value));
}

/** Milliseconds the run has taken so far. */
export function runDuration(run: { state: string; created: number; finished: number | null; updated: number }, nowMs: number): number {
  const end = run.state === "running" ? nowMs : (run.finished ?? run.updated) / 1e6;
  return Math.max(0, end - run.created / 1e6);
}
