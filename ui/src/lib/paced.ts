// Paced: a task that many may ask for and that runs seldom.

/** Runs a task when asked to, but not again before a pause has passed; then once for all who asked. */
export class Paced {
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
