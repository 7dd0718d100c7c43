// Routes of the UI over the History API. Every view, with its filters and its zoom, has its own address.

export type Route =
  | { page: "runs" }
  | { page: "signin" }
  | { page: "find"; run: string }
  | { page: "run"; entity: string; project: string; run: string }
  | { page: "missing" };

export function parseRoute(path: string): Route {
  let parts: string[];
  try {
    parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    return { page: "missing" };
  }
  const [first, second, third] = parts;
  if (parts.length === 0) return { page: "runs" };
  if (parts.length === 1 && first === "signin") return { page: "signin" };
  if (parts.length === 2 && first === "runs") return { page: "find", run: second! };
  if (parts.length === 3) return { page: "run", entity: first!, project: second!, run: third! };
  return { page: "missing" };
}

class Router {
  path = $state(location.pathname);
  query = $state.raw(new URLSearchParams(location.search));
  route: Route = $derived(parseRoute(this.path));

  constructor() {
    addEventListener("popstate", () => this.#read());
    document.addEventListener("click", (event) => this.#followLink(event));
  }

  go(href: string, options: { replace?: boolean } = {}): void {
    const from = this.path;
    if (options.replace) history.replaceState(null, "", href);
    else history.pushState(null, "", href);
    this.#read();
    if (this.path !== from) scrollTo(0, 0);
  }

  /** Change some parameters of the address; null removes one. */
  setQuery(changes: Record<string, string | null>, options: { push?: boolean } = {}): void {
    const query = new URLSearchParams(this.query);
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === "") query.delete(name);
      else query.set(name, value);
    }
    const text = query.toString();
    if (text === this.query.toString()) return;
    this.go(this.path + (text ? `?${text}` : ""), { replace: !options.push });
  }

  #read(): void {
    this.path = location.pathname;
    this.query = new URLSearchParams(location.search);
  }

  #followLink(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element | null)?.closest?.("a");
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (link.pathname.startsWith("/api/")) return;
    event.preventDefault();
    this.go(link.pathname + link.search + link.hash);
  }
}

export const router = new Router();
