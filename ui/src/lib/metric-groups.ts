// Metrics grouped for display by the part of their name before the first "/".

export interface MetricGroup {
  /** "" holds the metrics without a prefix */
  name: string;
  metrics: string[];
}

const collator = new Intl.Collator("en", { numeric: true });

/** Group names; groups and names in natural order, metrics without a prefix first. */
export function groupMetrics(names: string[]): MetricGroup[] {
  const groups = new Map<string, string[]>();
  for (const name of names) {
    const slash = name.indexOf("/");
    const group = slash > 0 ? name.slice(0, slash) : "";
    const members = groups.get(group);
    if (members) members.push(name);
    else groups.set(group, [name]);
  }
  return [...groups]
    .map(([name, metrics]) => ({ name, metrics: metrics.sort(collator.compare) }))
    .sort((a, b) => collator.compare(a.name, b.name));
}

/** Return the names that contain every word of the query, ignoring case; or match it as /regex/. */
export function filterMetrics(names: string[], query: string): string[] {
  const text = query.trim();
  if (!text) return names;
  const pattern = /^\/(.+)\/$/.exec(text);
  if (pattern) {
    try {
      const regex = new RegExp(pattern[1]!, "i");
      return names.filter((name) => regex.test(name));
    } catch {
      return [];
    }
  }
  const words = text.toLowerCase().split(/\s+/);
  return names.filter((name) => words.every((word) => name.toLowerCase().includes(word)));
}

/** Return the names that no definition hides: one of the very name counts, else the longest glob that fits. */
export function withoutHidden(names: string[], definitions: unknown): string[] {
  if (!Array.isArray(definitions)) return names;
  const hidden = new Map<string, boolean>();
  for (const each of definitions) {
    if (typeof each?.name === "string") hidden.set(each.name, each.hidden === true);
  }
  if (![...hidden.values()].includes(true)) return names;
  const globs = [...hidden.keys()].filter((name) => name.endsWith("*")).sort((a, b) => b.length - a.length);
  return names.filter((name) => {
    const glob = globs.find((each) => name.startsWith(each.slice(0, -1)));
    return !(hidden.get(name) ?? (glob !== undefined && hidden.get(glob)));
  });
}
