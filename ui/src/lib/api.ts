// The one door to the server's HTTP API. Turns every failure into ApiError or Unreachable.

import type {
  ConsoleAnswer, CrashAnswer, FilesAnswer, Host, HostEventsAnswer, Me, Metric, PointsAnswer, Project, Run, RunDetail,
  RunHost, RunPage, SeriesAnswer, StopState,
} from "./types";
import type { ServerAxis } from "./columns";

const REQUEST_TIMEOUT_MS = 30_000;
/** Keeps request lines below what servers and proxies accept. */
const QUERY_CHARS_MAX = 6_000;
const METRICS_PER_REQUEST_MAX = 40;

/** The server answered with an error. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly reason: string,
    readonly hint: string | null,
  ) {
    super(reason);
  }
}

/** No answer from the server, or one of something in front of it that could not reach it. */
export class Unreachable extends Error {}

export interface ApiEvents {
  reached(serverTimeMs: number | null): void;
  unreachable(): void;
  signedOut(): void;
}

let events: ApiEvents | null = null;

/** Say who hears about reachability and lost sessions. */
export function observeApi(observer: ApiEvents): void {
  events = observer;
}

type Query = Record<string, string | number | null | undefined | string[]>;

async function request<T>(path: string, options: { query?: Query; body?: unknown } = {}): Promise<T> {
  const init: RequestInit = {
    credentials: "same-origin",
    headers: { Accept: "application/json" },
    signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
  };
  if (options.body !== undefined) {
    init.method = "POST";
    init.headers = { ...init.headers, "Content-Type": "application/json" };
    init.body = JSON.stringify(options.body);
  }
  let response: Response;
  let text: string;
  try {
    response = await fetch(path + queryString(options.query ?? {}), init);
    text = await response.text();
  } catch (error) {
    events?.unreachable();
    throw new Unreachable("The server does not answer.", { cause: error });
  }
  if ([502, 503, 504].includes(response.status)) {
    events?.unreachable();
    throw new Unreachable(`The server is not available (${response.status}).`);
  }
  const date = Date.parse(response.headers.get("Date") ?? "");
  events?.reached(Number.isNaN(date) ? null : date);
  const value = parseJson(text);
  if (response.ok) return value as T;
  const problem = (value ?? {}) as { error?: string; reason?: string; hint?: string };
  if (response.status === 401 && path !== "/api/v1/signin") events?.signedOut();
  throw new ApiError(
    response.status,
    problem.error ?? "error",
    problem.reason ?? `The server answered ${response.status}.`,
    problem.hint ?? null,
  );
}

function parseJson(text: string): unknown {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

function queryString(query: Query): string {
  const parts: string[] = [];
  for (const [name, value] of Object.entries(query)) {
    if (value === null || value === undefined || value === "") continue;
    for (const each of Array.isArray(value) ? value : [value]) {
      parts.push(`${name}=${encodeURIComponent(each)}`);
    }
  }
  return parts.length ? `?${parts.join("&")}` : "";
}

/** Split metric names so that each part fits into one request. */
export function requestParts(names: string[]): string[][] {
  const parts: string[][] = [];
  let chars = Infinity;
  for (const name of names) {
    const size = encodeURIComponent(name).length + 8;
    if (chars + size > QUERY_CHARS_MAX || parts.at(-1)!.length >= METRICS_PER_REQUEST_MAX) {
      parts.push([]);
      chars = 0;
    }
    parts.at(-1)!.push(name);
    chars += size;
  }
  return parts;
}

export interface RunKey {
  entity: string;
  project: string;
  run: string;
}

export function runPath(key: RunKey): string {
  return [key.entity, key.project, key.run].map(encodeURIComponent).join("/");
}

export interface RunsQuery {
  project?: string;
  state?: string;
  q?: string;
  sort?: string;
  limit?: number;
  cursor?: string | null;
}

export interface SeriesQuery {
  metric: string[];
  x: ServerAxis;
  buckets: number;
  from?: number | null;
  to?: number | null;
}

const runUrl = (key: RunKey, part = ""): string => `/api/v1/runs/${runPath(key)}${part}`;
/** The address of a file's bytes: one of several hosts', so that none hides another's. */
export function fileUrl(key: RunKey, file: { path: string; machine: string }): string {
  return runUrl(key, "/file") + queryString({ path: file.path, machine: file.machine });
}
const hostUrl = (machine: string, part: string): string => `/api/v1/hosts/${encodeURIComponent(machine)}${part}`;

export const api = {
  me: () => request<Me>("/api/v1/me"),
  server: () => request<{ version: string }>("/api/v1/server"),
  signIn: (secret: { token: string } | { key: string }) => request<unknown>("/api/v1/signin", { body: secret }),
  signOut: () => request<unknown>("/api/v1/signout", { body: {} }),
  projects: () => request<{ projects: Project[] }>("/api/v1/projects"),
  runs: (query: RunsQuery) => request<RunPage>("/api/v1/runs", { query: { ...query } }),
  find: (run: string, project: string | null) => request<Run>("/api/v1/find", { query: { run, project } }),
  run: (key: RunKey) => request<RunDetail>(runUrl(key)),
  crash: ({ entity, project, run }: RunKey) => request<CrashAnswer>(runUrl({ entity, project, run }, "/crash")),
  stop: (key: RunKey) => request<StopState>(runUrl(key, "/stop"), { body: {} }),
  metrics: (key: RunKey) => request<{ metrics: Metric[] }>(runUrl(key, "/metrics")),
  series: (key: RunKey, query: SeriesQuery) =>
    request<SeriesAnswer>(runUrl(key, "/series"), { query: { ...query } }),
  points: (key: RunKey, metric: string[], after: number, limit: number) =>
    request<PointsAnswer>(runUrl(key, "/points"), { query: { metric, after, limit } }),
  console: (key: RunKey, after: number, limit: number) =>
    request<ConsoleAnswer>(runUrl(key, "/console"), { query: { after, limit } }),
  files: (key: RunKey, cursor: string | null) =>
    request<FilesAnswer>(runUrl(key, "/files"), { query: { cursor } }),
  runHosts: (key: RunKey) => request<{ hosts: RunHost[] }>(runUrl(key, "/system")),
  runSystemMetrics: (key: RunKey) => request<{ metrics: Metric[] }>(runUrl(key, "/system/metrics")),
  runSystemSeries: (key: RunKey, query: Omit<SeriesQuery, "x">) =>
    request<SeriesAnswer>(runUrl(key, "/system/series"), { query: { ...query } }),
  hosts: () => request<{ hosts: Host[] }>("/api/v1/hosts"),
  hostMetrics: (machine: string) => request<{ metrics: Metric[] }>(hostUrl(machine, "/metrics")),
  hostSeries: (machine: string, query: Omit<SeriesQuery, "x">) =>
    request<SeriesAnswer>(hostUrl(machine, "/series"), { query: { ...query } }),
  hostEvents: (machine: string, query: { from: number | null; to: number | null; limit: number }) =>
    request<HostEventsAnswer>(hostUrl(machine, "/events"), { query: { ...query } }),
};
