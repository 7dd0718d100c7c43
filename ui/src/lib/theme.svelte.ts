// Light or dark: what the system says, until the user chooses; the choice is remembered.

const STORED = "tracker.theme";

class Theme {
  #system = $state(matchMedia("(prefers-color-scheme: dark)").matches);
  #chosen: "light" | "dark" | null = $state(readChoice());
  dark = $derived(this.#chosen ? this.#chosen === "dark" : this.#system);

  constructor() {
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => {
      this.#system = event.matches;
    });
  }

  toggle(): void {
    this.#chosen = this.dark ? "light" : "dark";
    document.documentElement.dataset.theme = this.#chosen;
    store(STORED, this.#chosen);
  }
}

function readChoice(): "light" | "dark" | null {
  const stored = recall(STORED);
  return stored === "light" || stored === "dark" ? stored : null;
}

/** Remember a setting in this browser, where that is allowed. */
export function store(name: string, value: string): void {
  try {
    localStorage.setItem(name, value);
  } catch {
    // Storage is a convenience; without it the choice lasts for this visit.
  }
}

export function recall(name: string): string | null {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

export const theme = new Theme();
