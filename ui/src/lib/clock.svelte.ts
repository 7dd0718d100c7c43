// The server's time of day, ticking once a second. "3 min ago" then holds on laptops whose clock is wrong.

const TICK_MS = 1000;
const OFFSET_MIN_MS = 2000;

class Clock {
  #offset_ms = 0;
  now = $state(Date.now());

  constructor() {
    setInterval(() => {
      if (!document.hidden) this.#tick();
    }, TICK_MS);
    document.addEventListener("visibilitychange", () => this.#tick());
  }

  /** Learn the server's time; differences that its one-second resolution explains are ignored. */
  learn(serverTimeMs: number): void {
    const offset = serverTimeMs - Date.now();
    this.#offset_ms = Math.abs(offset) < OFFSET_MIN_MS ? 0 : offset;
  }

  #tick(): void {
    this.now = Date.now() + this.#offset_ms;
  }
}

export const clock = new Clock();
