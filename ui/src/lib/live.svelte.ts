// News from the server: the one EventSource of this tab. Closed while the tab is hidden; whoever follows is told to
// catch up whenever news may have been missed.

import { connection } from "./connection.svelte";
import type { RunNews } from "./types";

const REOPEN_FIRST_MS = 500;
const REOPEN_MAX_MS = 10_000;

export interface Follower {
  run?(news: RunNews): void;
  /** The host has new samples, of itself or of a process. */
  host?(machine: string): void;
  /** Something happened to the host. */
  hostEvent?(machine: string): void;
  /** News may have been missed: ask for the present state. */
  catchUp(): void;
}

class Live {
  connected = $state(false);
  #source: EventSource | null = null;
  #filter: string | null = null;
  #follower: Follower | null = null;
  #pause_ms = REOPEN_FIRST_MS;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#close();
      else this.#open();
    });
    // A page kept for the back button must not hold one of the browser's few connections.
    addEventListener("pagehide", () => this.#close());
    addEventListener("pageshow", (event) => {
      if (event.persisted) this.#open();
    });
    connection.onRecovered(() => this.#open());
  }

  /** Follow one run ("entity/project/run"), or all with null. A later call replaces it. Return how to stop. */
  follow(filter: string | null, follower: Follower): () => void {
    this.#close();
    this.#filter = filter;
    this.#follower = follower;
    if (!document.hidden) this.#open();
    return () => {
      if (this.#follower !== follower) return;
      this.#follower = null;
      this.#close();
    };
  }

  #open(): void {
    this.#close();
    if (!this.#follower || document.hidden) return;
    const query = this.#filter ? `?run=${encodeURIComponent(this.#filter)}` : "";
    const source = new EventSource(`/api/v1/events${query}`);
    this.#source = source;
    source.addEventListener("open", () => {
      this.connected = true;
      this.#pause_ms = REOPEN_FIRST_MS;
      this.#follower?.catchUp();
    });
    source.addEventListener("run", (event) => this.#follower?.run?.(JSON.parse(event.data) as RunNews));
    source.addEventListener("host", (event) => {
      this.#follower?.host?.((JSON.parse(event.data) as { machine: string }).machine);
    });
    source.addEventListener("host_event", (event) => {
      this.#follower?.hostEvent?.((JSON.parse(event.data) as { machine: string }).machine);
    });
    source.addEventListener("reset", () => this.#follower?.catchUp());
    source.addEventListener("error", () => this.#reopenLater());
  }

  /** Browsers retry by themselves, but not after every kind of failure, and without saying that one is signed out. */
  #reopenLater(): void {
    this.#close();
    const pause = this.#pause_ms * (0.5 + Math.random() / 2);
    this.#pause_ms = Math.min(this.#pause_ms * 2, REOPEN_MAX_MS);
    this.#timer = setTimeout(() => {
      void connection.identify().then(() => {
        // When unreachable, onRecovered reopens.
        if (connection.reachable && connection.me) this.#open();
      });
    }, pause);
  }

  #close(): void {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
    this.connected = false;
  }
}

export const live = new Live();
