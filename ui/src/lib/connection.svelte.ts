// Whether the server can be reached, and who is signed in. While it cannot, asks again with growing pauses.

import { api, ApiError, observeApi } from "./api";
import { clock } from "./clock.svelte";
import type { Me } from "./types";

const PAUSE_FIRST_MS = 500;
const PAUSE_MAX_MS = 10_000;

class Connection {
  reachable = $state(true);
  me: Me | null = $state(null);
  /** false until the first answer says who is signed in, if anyone */
  known = $state(false);
  #pause_ms = PAUSE_FIRST_MS;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #recovered = new Set<() => void>();

  constructor() {
    observeApi({
      reached: (serverTimeMs) => this.#reached(serverTimeMs),
      unreachable: () => this.#lost(),
      signedOut: () => {
        this.me = null;
        this.known = true;
      },
    });
  }

  /** Ask who is signed in. */
  async identify(): Promise<void> {
    try {
      this.me = await api.me();
      this.known = true;
    } catch (error) {
      if (error instanceof ApiError) this.known = true;
    }
  }

  async signIn(secret: { token: string } | { key: string }): Promise<void> {
    await api.signIn(secret);
    await this.identify();
  }

  async signOut(): Promise<void> {
    await api.signOut();
    this.me = null;
  }

  /** Call back each time the server answers again after an outage. Return how to stop that. */
  onRecovered(callback: () => void): () => void {
    this.#recovered.add(callback);
    return () => this.#recovered.delete(callback);
  }

  async retry(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    try {
      await api.server();
      if (!this.known) await this.identify();
    } catch {
      // #lost or #reached has been told.
    }
  }

  #lost(): void {
    this.reachable = false;
    if (this.#timer !== undefined) return;
    const pause = this.#pause_ms * (0.5 + Math.random() / 2);
    this.#pause_ms = Math.min(this.#pause_ms * 2, PAUSE_MAX_MS);
    this.#timer = setTimeout(() => void this.retry(), pause);
  }

  #reached(serverTimeMs: number | null): void {
    if (serverTimeMs !== null) clock.learn(serverTimeMs);
    this.#pause_ms = PAUSE_FIRST_MS;
    if (this.reachable) return;
    this.reachable = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const callback of this.#recovered) callback();
  }
}

export const connection = new Connection();
