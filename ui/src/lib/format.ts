// How numbers, times and durations are written everywhere in the UI.

const MILLISECOND_NS = 1e6;

export function milliseconds(ns: number): number {
  return ns / MILLISECOND_NS;
}

/** Write a value with up to `digits` significant digits: 0.03125, 12,345, 3.2e-7. */
export function formatNumber(value: number | null | undefined, digits = 5): string {
  if (value === null || value === undefined) return "–";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e9) {
    return value.toExponential(digits - 1).replace(/\.?0+e/, "e").replace("e+", "e").replace(/-/g, "−");
  }
  if (Number.isInteger(value)) return value.toLocaleString("en-US").replace("-", "−");
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  return value
    .toLocaleString("en-US", { maximumFractionDigits: Math.min(decimals, 12) })
    .replace("-", "−");
}

/** Write a value with every digit it has. */
export function formatExact(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  return String(value).replace(/-/g, "−");
}

/** Write a count in little space: 950, 12.3k, 4.5M. */
export function formatCount(value: number): string {
  const units = ["", "k", "M", "G", "T"];
  let unit = 0;
  let scaled = value;
  while (Math.abs(scaled) >= 999.5 && unit < units.length - 1) {
    scaled /= 1000;
    unit++;
  }
  const text = unit === 0 ? String(scaled) : Number(scaled.toPrecision(3)).toString();
  return text.replace("-", "−") + units[unit];
}

/** Write a step with all its digits: 1,349. */
export function formatStep(step: number): string {
  return step.toLocaleString("en-US").replace("-", "−");
}

export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  let scaled = bytes;
  while (Math.abs(scaled) >= 1024 && unit < units.length - 1) {
    scaled /= 1024;
    unit++;
  }
  return `${Number(scaled.toPrecision(3))} ${units[unit]}`;
}

/** Return whether a name says that its values are bytes, or bytes per second: host.memory.used.bytes. */
export function namesBytes(name: string): boolean {
  return unitOf(name).startsWith("bytes");
}

/** The last word of a metric's name that says its unit, and what stands behind the number. */
const UNITS: Record<string, string> = {
  percent: " %",
  celsius: " °C",
  watts: " W",
  joules: " J",
  mhz: " MHz",
  per_s: "/s",
};

/** Return the unit that a name ends in: "percent" of host.cpu.percent, "per_s" of host.disk.reads_per_s; or "". */
export function unitOf(name: string): string {
  const found = /(^|[._/])(bytes_per_s|bytes|percent|celsius|watts|joules|mhz|seconds|per_s|count)$/.exec(name);
  return found ? found[2]! : "";
}

/** Write a value of a metric in the unit its name ends in, if that is one of UNITS, bytes or seconds; else as formatNumber does. */
export function formatQuantity(name: string, value: number | null | undefined, digits = 5): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return formatNumber(value, digits);
  const unit = unitOf(name);
  if (unit.startsWith("bytes")) return formatBytes(value) + (unit === "bytes_per_s" ? "/s" : "");
  if (unit === "seconds") return formatSeconds(value, digits);
  return formatNumber(value, digits) + (UNITS[unit] ?? "");
}

/** Write a measured time in the unit that fits: 12 µs, 3.4 ms, 1.5 s, 2h 14m. */
export function formatSeconds(seconds: number, digits = 5): string {
  const size = Math.abs(seconds);
  if (size >= 120) return (seconds < 0 ? "−" : "") + formatDuration(size * 1000);
  if (size === 0 || size >= 1) return `${formatNumber(seconds, digits)} s`;
  if (size >= 1e-3) return `${formatNumber(Number((seconds * 1e3).toPrecision(digits)), digits)} ms`;
  return `${formatNumber(Number((seconds * 1e6).toPrecision(digits)), digits)} µs`;
}

/** Write a duration with its two largest units: 850 ms, 12s, 3m 05s, 2h 14m, 5d 3h. */
export function formatDuration(ms: number): string {
  if (ms < 0) return "0s";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = Math.floor(ms / 1000);
  const [days, hours, minutes] = [
    Math.floor(seconds / 86400),
    Math.floor(seconds / 3600) % 24,
    Math.floor(seconds / 60) % 60,
  ];
  if (days > 0) return `${days}d ${hours}h`;
  if (hours > 0) return `${hours}h ${pad(minutes)}m`;
  if (minutes > 0) return `${minutes}m ${pad(seconds % 60)}s`;
  return `${seconds}s`;
}

/** Write how long a run took or has taken, where milliseconds would only flicker. */
export function formatSpan(ms: number): string {
  return ms < 1000 ? "under 1s" : formatDuration(ms);
}

/** Write how long ago a moment was; older than a month, its date. */
export function formatAgo(ns: number, nowMs: number): string {
  const ms = nowMs - milliseconds(ns);
  if (ms < 5_000) return "just now";
  if (ms < 60_000) return `${Math.floor(ms / 1000)} s ago`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min ago`;
  if (ms < 86_400_000) return `${Math.floor(ms / 3_600_000)} h ago`;
  if (ms < 30 * 86_400_000) return `${Math.floor(ms / 86_400_000)} d ago`;
  const date = new Date(milliseconds(ns));
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
}

/** Write a moment in local time, to the second, with its offset from UTC. */
export function formatTime(ns: number): string {
  const date = new Date(milliseconds(ns));
  const offset = -date.getTimezoneOffset();
  const sign = offset < 0 ? "−" : "+";
  const zone = `${sign}${pad(Math.floor(Math.abs(offset) / 60))}:${pad(Math.abs(offset) % 60)}`;
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  return `${day} ${formatClock(ns)} ${zone}`;
}

/** Write the time of day, to the second. */
export function formatClock(ns: number): string {
  const date = new Date(milliseconds(ns));
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
}

function pad(value: number): string {
  return String(value).padStart(2, "0");
}

/** Write any configuration value on one line. */
export function formatValue(value: unknown): string {
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : formatNumber(value, 7);
  if (typeof value === "string") return value;
  if (value === undefined) return "–";
  // With a space after each comma a long list can wrap.
  return JSON.stringify(value, null, 1).replace(/\n\s*/g, " ").replace(/([[{]) | ([\]}])/g, "$1$2");
}

/** Flatten nested maps to dotted keys, in order; lists stay values. */
export function flatten(map: Record<string, unknown>, prefix = ""): [string, unknown][] {
  return Object.entries(map).flatMap(([key, value]): [string, unknown][] => {
    const isMap = typeof value === "object" && value !== null && !Array.isArray(value);
    if (isMap && Object.keys(value).length > 0) {
      return flatten(value as Record<string, unknown>, `${prefix}${key}.`);
    }
    return [[prefix + key, value]];
  });
}
