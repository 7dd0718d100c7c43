// Everything a run's page shows, kept up to date: details, names of metrics, points, console.

import { api, ApiError } from "./api";
import type { RunKey } from "./api";
import { connection } from "./connection.svelte";
import { ConsoleLog } from "./console-log.svelte";
import { live } from "./live.svelte";
import { Paced } from "./paced";
import { RunFeed } from "./run-feed";
import type { View } from "./run-feed";
import type { RunDetail, RunNews } from "./types";

const DETAIL_PAUSE_MS = 1000;
/** A list of n metrics is asked for at most every n × 5 ms, within these limits. */
const NAMES_PAUSE_MS = 5;
const NAMES_PAUSE_MIN_MS = 250;
const NAMES_PAUSE_MAX_MS = 10_000;

export class RunWatch {
  detail: RunDetail | null = $state.raw(null);
  problem: ApiError | null = $state.raw(null);
  metrics: string[] = $state.raw([]);
  metricsLoaded = $state(false);
  readonly feed: RunFeed;
  readonly console: ConsoleLog;
  /** which costly parts are on screen */
  #wanted = { metrics: false, console: false };
  #hostListeners = new Set<(machine: string | null) => void>();
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
        host: (machine) => this.#tellHosts(machine),
        hostEvent: (machine) => this.#tellHosts(machine),
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

  /** Hear of news about hosts; null: of any, since some may have been missed. Return how to stop. */
  onHost(listener: (machine: string | null) => void): () => void {
    this.#hostListeners.add(listener);
    return () => this.#hostListeners.delete(listener);
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

  #tellHosts(machine: string | null): void {
    for (const listener of this.#hostListeners) listener(machine);
  }

  #catchUp(): void {
    this.#tellHosts(null);
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
