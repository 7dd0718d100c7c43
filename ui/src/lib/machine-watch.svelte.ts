// Everything the System tab shows of one machine of a run, kept up to date: names, samples, events.

import { api, ApiError } from "./api";
import type { RunKey } from "./api";
import { Paced } from "./paced";
import { SampleFeed } from "./sample-feed";
import type { Span } from "./sample-feed";
import type { HostEvent } from "./types";

const NAMES_PAUSE_MS = 5_000;
const SAMPLES_PAUSE_MS = 1_000;
const EVENTS_MAX = 200;

export class MachineWatch {
  hostMetrics: string[] = $state.raw([]);
  runMetrics: string[] = $state.raw([]);
  events: HostEvent[] = $state.raw([]);
  /** there are older ones than those shown */
  moreEvents = $state(false);
  loaded = $state(false);
  problem = $state("");
  readonly host: SampleFeed;
  readonly run: SampleFeed;
  #names: Paced;
  #samples: Paced;
  #closed = false;

  constructor(
    readonly key: RunKey,
    readonly machine: string,
    private span: Span,
  ) {
    this.host = new SampleFeed((query) => api.hostSeries(machine, query));
    this.run = new SampleFeed((query) => api.runSystemSeries(key, query));
    this.#names = new Paced(() => this.#loadNames(), () => NAMES_PAUSE_MS);
    this.#samples = new Paced(() => this.#loadSamples(), () => SAMPLES_PAUSE_MS);
    this.ask();
  }

  /** Show another part of time. `life` is all of the run's: events are asked for in that. */
  setSpan(shown: Span, life: Span): void {
    this.span = life;
    this.host.setSpan(shown);
    this.run.setSpan(shown);
  }

  /** Ask for what is new. */
  ask(): void {
    this.#names.ask();
    this.#samples.ask();
  }

  close(): void {
    this.#closed = true;
    this.#names.close();
    this.#samples.close();
    this.host.close();
    this.run.close();
  }

  async #loadSamples(): Promise<void> {
    this.host.refresh();
    this.run.refresh();
    try {
      const answer = await api.hostEvents(this.machine, { ...this.span, limit: EVENTS_MAX });
      if (this.#closed) return;
      // Keep the array when nothing is new: the charts hang on it.
      const same = answer.events.length === this.events.length && answer.events[0]?.time === this.events[0]?.time;
      if (!same) this.events = answer.events;
      this.moreEvents = answer.more;
    } catch {
      // The names, asked for at the same time, say what is wrong.
    }
  }

  async #loadNames(): Promise<void> {
    try {
      const [host, run] = await Promise.all([api.hostMetrics(this.machine).catch(noneOf404), api.runSystemMetrics(this.key)]);
      if (this.#closed) return;
      this.hostMetrics = kept(this.hostMetrics, host.metrics.map((metric) => metric.name));
      this.runMetrics = kept(this.runMetrics, run.metrics.map((metric) => metric.name));
      this.problem = "";
      this.loaded = true;
    } catch (error) {
      if (error instanceof ApiError) {
        this.problem = error.reason;
        this.loaded = true;
      }
    }
  }
}

/** A host that nobody has described has no metrics. */
function noneOf404(error: unknown): { metrics: { name: string }[] } {
  if (error instanceof ApiError && error.status === 404) return { metrics: [] };
  throw error;
}

function kept(before: string[], now: string[]): string[] {
  const same = before.length === now.length && now.every((name, i) => name === before[i]);
  return same ? before : now;
}
