// The list of a run's files, fetched while its tab is open.

import { api, ApiError } from "./api";
import type { RunKey } from "./api";
import type { RunFile } from "./types";

/** While a run lives its news come every second; its files are not asked for as often. */
const PAUSE_MS = 3000;

export class RunFileList {
  files: RunFile[] = $state.raw([]);
  total = $state(0);
  bytes = $state(0);
  loaded = $state(false);
  problem: string | null = $state(null);
  #cursor: string | null = $state.raw(null);
  #pages = 1;
  #busy = false;
  #again = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #lastMs = 0;

  constructor(private readonly key: RunKey) {}

  /** Whether there are more files than those in `files`. */
  get more(): boolean {
    return this.#cursor !== null;
  }

  /** Fetch what is shown anew, soon. */
  refresh(): void {
    this.#timer ??= setTimeout(() => void this.#load(), Math.max(0, this.#lastMs + PAUSE_MS - Date.now()));
  }

  /** Show one page more. */
  showMore(): void {
    this.#pages++;
    void this.#load();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => undefined);
  }

  async #load(): Promise<void> {
    if (this.#busy) {
      this.#again = true;
      return;
    }
    this.#busy = true;
    this.#lastMs = Date.now();
    try {
      const files: RunFile[] = [];
      let cursor: string | null = null;
      for (let page = 0; page < this.#pages; page++) {
        const answer = await api.files(this.key, cursor);
        files.push(...answer.files);
        cursor = answer.cursor;
        this.total = answer.total;
        this.bytes = answer.bytes;
        if (cursor === null) break;
      }
      this.files = files;
      this.#cursor = cursor;
      this.loaded = true;
      this.problem = null;
    } catch (error) {
      if (error instanceof ApiError) this.problem = error.reason;
      else if (this.loaded) this.#again = true;
    }
    this.#busy = false;
    this.#timer = undefined;
    if (this.#again) {
      this.#again = false;
      this.refresh();
    }
  }
}
