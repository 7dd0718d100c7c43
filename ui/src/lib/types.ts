// What the server's query API answers with. Times are integer nanoseconds since the epoch.

export type RunState = "running" | "finished" | "failed" | "crashed";

export interface Me {
  principal: string;
  kind: string;
  entity: string;
  scopes: string[];
}

export interface Project {
  entity: string;
  project: string;
  runs: number;
  updated: number | null;
}

export interface Run {
  entity: string;
  project: string;
  run: string;
  name: string | null;
  notes: string | null;
  tags: string[];
  group: string | null;
  job_type: string | null;
  state: RunState;
  exit_code: number | null;
  created: number;
  updated: number;
  finished: number | null;
  /** why it ended, where that is more than code 0 */
  cause: string | null;
  user: string | null;
  host: string | null;
  agent_seen: number | null;
  steps: number | null;
  points: number;
  metrics: number;
  cursor: number;
  summary?: Record<string, unknown>;
}

export interface RunPage {
  runs: Run[];
  cursor: string | null;
  total: number;
}

export interface Gap {
  offset: number;
  bytes: number;
  reason: string;
}

export interface Lost {
  records: number;
  reason: string;
}

export interface RunException {
  type?: string;
  message?: string;
  traceback?: string;
}

export interface Stream {
  stream: string;
  uid: number;
  user: string | null;
  host: string | null;
  pid: number | null;
  rank: number | null;
  role?: string | null;
  parent?: string | null;
  state: string;
  exit_code: number | null;
  exception: RunException | null;
  next: number;
  gaps: Gap[];
  lost: Lost[];
  problems: unknown[];
}

export interface Host {
  machine: string;
  host: string | null;
  seen: number | null;
  inventory: Record<string, unknown> | null;
}

/** A GPU of a run: seen there by the driver, or named by the environment of its writers. */
export interface RunGpu {
  index: number;
  uuid: string | null;
  mig: string | null;
  name: string | null;
  /** indexes of the writers that have it */
  streams: number[];
  seen: boolean;
}

/** A machine that writers of a run are on. */
export interface RunHost {
  machine: string;
  host: string;
  /** an agent has described it */
  known: boolean;
  streams: number[];
  /** those of the run; null where that is not known */
  gpus: RunGpu[] | null;
}

export interface HostEvent {
  time: number;
  level: "info" | "warn" | "error";
  title: string;
  text: string;
  facts: Record<string, unknown>;
}

export interface HostEventsAnswer {
  events: HostEvent[];
  more: boolean;
}

export interface StopState {
  id: number;
  by: string;
  asked: number;
  /** since when the processes it was for are gone */
  done: number | null;
  deliveries: { machine: string; time: number; result: string; reason: string }[];
}

export interface WriterEnd {
  stream: string;
  rank: number | null;
  role?: string | null;
  parent?: string | null;
  host: string;
  pid: number | null;
  cause: string | null;
  evidence: Record<string, unknown>;
}

/** The black box of a run. */
export interface CrashAnswer {
  state: RunState;
  cause: string | null;
  time: number | null;
  host: string | null;
  writers: WriterEnd[];
  console: { time: number; stream: string; text: string }[];
  samples: Record<string, WireSeries>;
}

export interface RunDetail extends Omit<Run, "host" | "summary"> {
  stop: StopState | null;
  can_stop: boolean;
  config: Record<string, unknown>;
  summary: Record<string, unknown>;
  fields: Record<string, unknown>;
  streams: Stream[];
  host: Partial<Host> | string | null;
}

export interface Metric {
  name: string;
  count: number;
  last: number | string | null;
  last_step: number | null;
  min: number | null;
  max: number | null;
}

/** A number on the wire: NaN and the infinities travel as strings. */
export type WireNumber = number | "NaN" | "Infinity" | "-Infinity" | null;

export interface WireSeries {
  x: number[];
  step: number[];
  time: number[];
  last: WireNumber[];
  min: WireNumber[];
  max: WireNumber[];
  mean: WireNumber[];
  count: number[];
  special: number[];
}

export interface SeriesAnswer {
  cursor: number;
  series: Record<string, WireSeries>;
}

export interface WirePoints {
  step: number[];
  time: number[];
  value: WireNumber[];
  stream: number[];
  offset: number[];
}

export interface PointsAnswer {
  cursor: number;
  points: Record<string, WirePoints>;
  streams: string[];
  more: boolean;
}

export interface ConsoleLine {
  time: number;
  stream: string;
  text: string;
}

export interface ConsoleAnswer {
  cursor: number;
  lines: ConsoleLine[];
  more: boolean;
}

export interface RunFile {
  path: string;
  sha256: string;
  size: number;
  mtime: number;
  policy: string;
  updated: number;
  machine: string;
  host: string;
  uid: number;
}

export interface FilesAnswer {
  files: RunFile[];
  cursor: string | null;
  total: number;
  bytes: number;
}

export interface RunNews {
  entity: string;
  project: string;
  run: string;
  cursor: number;
  state: RunState;
  updated: number;
}
