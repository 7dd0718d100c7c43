// Everything a run's page shows, kept up to date: details, names of metrics, points, console.

import { api, ApiError } from "./api";
import type { RunKey } from "./api";
import { connection } from "./connection.svelte";
import { ConsoleLog } from "./console-log.svelte";
import { live } from "./live.svelte";
import { RunFeed } from "./run-feed";
import type { View } from "./run-feed";
import type { RunDetail, RunNews } from "./types";

const DETAIL_PAUSE_MS = 1000;
/** A list of n metrics is asked for at most every n × 5 ms, within these limits. */
const NAMES_PAUSE_MS = 5;
const NAMES_PAUSE_MIN_MS = 250;
const NAMES_PAUSE_MAX_MS = 10_000;

/** Runs a task when asked to, but not again before a pause has passed; then once for all who asked. */
class Paced {
  #timer: ReturnType<typeof setTimeout> | undefined;
  #lastMs = 0;
  #busy = false;
  #again = false;

  constructor(
    private readonly task: () => Promise<void>,
    private readonly pauseMs: () => number,
  ) {}

  ask(): void {
    if (this.#busy) {
      this.#again = true;
      return;
    }
    this.#timer ??= setTimeout(() => void this.#run(), Math.max(0, this.#lastMs + this.pauseMs() - Date.now()));
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => undefined);
  }

  async #run(): Promise<void> {
    this.#lastMs = Date.now();
    this.#busy = true;
    await this.task();
    this.#busy = false;
    this.#timer = undefined;
    if (this.#again) {
      this.#again = false;
      this.ask();
    }
  }
}

export class RunWatch {
  detail: RunDetail | null = $state.raw(null);
  problem: ApiError | null = $state.raw(null);
  metrics: string[] = $state.raw([]);
  metricsLoaded = $state(false);
  readonly feed: RunFeed;
  readonly console: ConsoleLog;
  /** which costly parts are on screen */
  #wanted = { metrics: false, console: false };
  #details: Paced;
  #names: Paced;
  #stops: (() => void)[];

  constructor(
    readonly key: RunKey,
    view: View,
  ) {
    this.feed = new RunFeed(key, view);
    this.console = new ConsoleLog(key);
    this.#details = new Paced(() => this.#loadDetail(), () => DETAIL_PAUSE_MS);
    this.#names = new Paced(
      () => this.#loadNames(),
      () => Math.min(Math.max(this.metrics.length * NAMES_PAUSE_MS, NAMES_PAUSE_MIN_MS), NAMES_PAUSE_MAX_MS),
    );
    this.#details.ask();
    this.#stops = [
      live.follow(`${key.entity}/${key.project}/${key.run}`, {
        run: (news) => this.#hear(news),
        catchUp: () => this.#catchUp(),
      }),
      connection.onRecovered(() => {
        this.feed.retry();
        this.#catchUp();
      }),
    ];
  }

  /** Say which parts are on screen; the others are not fetched. */
  want(wanted: { metrics: boolean; console: boolean }): void {
    this.#wanted = wanted;
    if (wanted.metrics) this.#names.ask();
    if (wanted.console) void this.console.update();
  }

  close(): void {
    for (const stop of this.#stops) stop();
    this.#details.close();
    this.#names.close();
    this.feed.close();
    this.console.close();
  }

  #hear(news: RunNews): void {
    this.feed.news(news.cursor);
    const detail = this.detail;
    if (detail && detail.state !== news.state) this.detail = { ...detail, state: news.state, updated: news.updated };
    this.#details.ask();
    this.want(this.#wanted);
  }

  #catchUp(): void {
    this.#details.ask();
    this.want(this.#wanted);
  }

  async #loadDetail(): Promise<void> {
    try {
      this.detail = await api.run(this.key);
      this.problem = null;
      this.feed.news(this.detail.cursor);
    } catch (error) {
      if (error instanceof ApiError && error.status !== 401) this.problem = error;
    }
  }

  async #loadNames(): Promise<void> {
    try {
      const names = (await api.metrics(this.key)).metrics.map((metric) => metric.name);
      // Keep the array when nothing is new: the charts hang on it.
      if (names.length !== this.metrics.length || names.some((name, i) => name !== this.metrics[i])) {
        this.metrics = names;
      }
      this.metricsLoaded = true;
    } catch {
      // The banner says that the server is away; news or recovery ask again.
    }
  }
}
