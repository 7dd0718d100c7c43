// How the charts of a page look. In the address, so that a link shows the same; the latest choice is remembered too.

import type { Axis } from "./columns";
import type { View, Window } from "./run-feed";
import { router } from "./router.svelte";
import { recall, store } from "./theme.svelte";

const STORED = "tracker.charts";
const AXES: readonly string[] = ["step", "relative", "wall"];

interface Remembered {
  axis?: string;
  smoothing?: number;
  log?: boolean;
}

class ChartSettings {
  #remembered: Remembered = $state(readRemembered());

  axis: Axis = $derived.by(() => {
    const axis = router.query.get("x") ?? this.#remembered.axis ?? "step";
    return (AXES.includes(axis) ? axis : "step") as Axis;
  });
  smoothing: number = $derived.by(() => {
    const weight = Number(router.query.get("smooth") ?? this.#remembered.smoothing ?? 0);
    return weight >= 0 && weight < 1 ? weight : 0;
  });
  log: boolean = $derived.by(() => {
    const scale = router.query.get("y");
    return scale === null ? this.#remembered.log === true : scale === "log";
  });
  search: string = $derived(router.query.get("metric") ?? "");
  #window: Window | null = $derived.by(() => {
    const [from, to] = [router.query.get("from"), router.query.get("to")];
    if (from === null || to === null) return null;
    const window = { from: Number(from), to: Number(to) };
    return window.from < window.to ? window : null;
  });
  view: View = $derived({ axis: this.axis, window: this.#window });

  setAxis(axis: Axis): void {
    this.#remember({ axis });
    // A window is in the unit of its axis.
    router.setQuery({ x: axis, from: null, to: null });
  }

  setSmoothing(weight: number): void {
    this.#remember({ smoothing: weight });
    router.setQuery({ smooth: String(weight) });
  }

  setLog(log: boolean): void {
    this.#remember({ log });
    router.setQuery({ y: log ? "log" : "linear" });
  }

  setSearch(text: string): void {
    router.setQuery({ metric: text });
  }

  zoom(window: Window | null): void {
    router.setQuery(
      { from: window ? String(window.from) : null, to: window ? String(window.to) : null },
      { push: window !== null },
    );
  }

  #remember(change: Remembered): void {
    this.#remembered = { ...this.#remembered, ...change };
    store(STORED, JSON.stringify(this.#remembered));
  }
}

function readRemembered(): Remembered {
  try {
    return (JSON.parse(recall(STORED) ?? "{}") as Remembered | null) ?? {};
  } catch {
    return {};
  }
}

export const chartSettings = new ChartSettings();
