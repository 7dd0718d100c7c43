// How the samples of a machine and of a run's processes are ordered for people: sections by subject, first what one
// looks at first, short titles.

import { unitOf } from "./format";
import type { RunHost } from "./types";

/** One chart: which metric, of the host or of the run's processes. */
export interface Item {
  metric: string;
  source: "host" | "run";
  /** whose it is, where a section has several: "GPU 3 ", "rank 0 " */
  prefix: string;
  title: string;
}

export interface Section {
  id: string;
  name: string;
  note: string;
  /** what one looks at first, and the rest */
  first: Item[];
  more: Item[];
  /** whether it is open until someone closes it */
  open: boolean;
}

/** What is known of a writer of the run. */
export interface Writer {
  rank: number | null;
  pid: number | null;
}

interface Subject {
  id: string;
  name: string;
  /** second words of its metrics' names: host.<word>. */
  words: string[];
  /** names without "host." that one looks at first, in order */
  first: RegExp[];
  open: boolean;
}

const SUBJECTS: Subject[] = [
  {
    id: "cpu",
    name: "CPU",
    words: ["cpu", "frequency"],
    first: [/^cpu\.percent$/, /^cpu\.core_max\.percent$/, /^cpu\.iowait\.percent$/, /^cpu\.load1$/, /^frequency\.mean\.mhz$/],
    open: true,
  },
  {
    id: "memory",
    name: "Memory",
    words: ["memory", "vmstat", "numa", "edac"],
    first: [
      /^memory\.percent$/, /^memory\.used\.bytes$/, /^memory\.available\.bytes$/, /^memory\.swap_used\.bytes$/,
      /^memory\.dev_shm\.percent$/, /^vmstat\.oom_kills\.count$/, /^edac\.uncorrectable\.count$/,
    ],
    open: true,
  },
  {
    id: "pressure",
    name: "Pressure",
    words: ["pressure"],
    first: [/\.some\.percent$/, /\.full\.percent$/],
    open: true,
  },
  {
    id: "disk",
    name: "Disks",
    words: ["disk"],
    first: [
      /^disk\.read\.bytes_per_s$/, /^disk\.written\.bytes_per_s$/, /^disk\.busy_max\.percent$/, /^disk\.wait_max\.seconds$/,
    ],
    open: true,
  },
  {
    id: "network",
    name: "Network",
    words: ["network", "tcp", "infiniband"],
    first: [
      /^network\.received\.bytes_per_s$/, /^network\.sent\.bytes_per_s$/, /^infiniband\.received\.bytes_per_s$/,
      /^infiniband\.sent\.bytes_per_s$/, /^network\.errors_per_s$/, /^network\.drops_per_s$/, /^tcp\.retransmits\.percent$/,
    ],
    open: true,
  },
  {
    id: "filesystem",
    name: "File systems",
    words: ["filesystem", "nfs", "lustre"],
    first: [/^filesystem\.fullest\.percent$/, /^filesystem\.[^.]+\.percent$/, /^(nfs|lustre)\.(read|written)\.bytes_per_s$/],
    open: false,
  },
  { id: "scrape", name: "Scraped endpoints", words: ["scrape"], first: [], open: false },
  {
    id: "power",
    name: "Temperature and power",
    words: ["thermal", "power"],
    first: [/^thermal\.(cpu|max)\.celsius$/, /^power\.(cpu|system|platform)\.watts$/, /^thermal\.throttled\.percent$/],
    open: false,
  },
];

/** Names below host.gpu.<index>. */
const GPU_FIRST = [
  /^utilization(\.percent)?$/, /^memory\.used\.bytes$/, /^sm\.active\.percent$/, /^tensor\.active\.percent$/, /^power\.watts$/,
  /^temperature\.celsius$/,
];
/** Names of what is sampled of a writer. */
const PROCESS_FIRST = [
  /^process\.cpu\.percent$/, /^process\.rss\.bytes$/, /^process\.gpu\..+\.memory\.bytes$/,
  /^process\.gpu\..+\.utilization\.percent$/, /^process\.(read|written)\.bytes_per_s$/,
];
const GROUP_FIRST = [
  /^cgroup\.memory\.(percent|current\.bytes)$/, /^cgroup\.memory\.oom_kills\.count$/, /^cgroup\.cpu\.(throttled\.)?percent$/,
];
/** Where no pattern names what comes first, so many do. */
const FIRST_MAX = 6;
/** Fewer than this are not worth a button. */
const MORE_MIN = 3;

const collator = new Intl.Collator("en", { numeric: true });

/** Return a name without "host." and without its unit: memory.used of host.memory.used.bytes. */
export function shortName(name: string): string {
  return withoutUnit(name.replace(/^host\./, ""));
}

function withoutUnit(name: string): string {
  const unit = unitOf(name);
  const at = name.length - unit.length - 1;
  return unit && at > 0 && name[at] === "." ? name.slice(0, at) : name;
}

/** Return whether charts of a metric begin at 0: all but those whose level says nothing, such as temperatures. */
export function fromZero(metric: string): boolean {
  return !["celsius", "mhz", "joules"].includes(unitOf(metric));
}

/** Split "system.3.process.cpu.percent" into the writer's index and the rest. */
export function parseRunMetric(name: string): { stream: number; rest: string } | null {
  const found = /^system\.(\d+)\.(.+)$/s.exec(name);
  return found ? { stream: Number(found[1]), rest: found[2]! } : null;
}

function parseGpuMetric(name: string): { index: number; rest: string } | null {
  const found = /^(?:host\.)?gpu\.(\d+)\.(.+)$/s.exec(name);
  return found ? { index: Number(found[1]), rest: found[2]! } : null;
}

interface Ranked extends Item {
  rank: number;
}

/** Return the place of the first pattern that a name matches, or Infinity. */
function rankOf(name: string, patterns: RegExp[]): number {
  const at = patterns.findIndex((pattern) => pattern.test(name));
  return at < 0 ? Infinity : at;
}

function makeSection(id: string, name: string, open: boolean, items: Ranked[], note = ""): Section {
  const byName = (a: Ranked, b: Ranked): number =>
    collator.compare(a.prefix, b.prefix) || collator.compare(a.metric, b.metric);
  const ranked = items.filter((item) => item.rank < Infinity);
  ranked.sort((a, b) => a.rank - b.rank || byName(a, b));
  const rest = items.filter((item) => item.rank === Infinity).sort(byName);
  const few = ranked.length === 0 ? rest.splice(0, FIRST_MAX) : [];
  const first = [...ranked, ...few];
  const all = rest.length < MORE_MIN;
  return { id, name, note, open, first: all ? [...first, ...rest] : first, more: all ? [] : rest };
}

/** Order what there is on one machine of a run. runMetrics: names as system.<index of the writer>.<metric>. */
export function machineSections(
  host: RunHost,
  writers: Writer[],
  hostMetrics: string[],
  runMetrics: string[],
): Section[] {
  const [processes, groups] = runSections(host, writers, runMetrics);
  const [own, ...others] = gpuSections(host, hostMetrics);
  return [processes, own, groups, ...subjectSections(hostMetrics), ...others].filter(
    (section): section is Section => section !== undefined && (section.first.length > 0 || section.note !== ""),
  );
}

function runSections(host: RunHost, writers: Writer[], names: string[]): [Section, Section] {
  const here = new Set(host.streams);
  const found = names
    .map((metric) => ({ metric, ...parseRunMetric(metric) }))
    .filter((each): each is { metric: string; stream: number; rest: string } => here.has(each.stream!));
  const several = new Set(found.map((each) => each.stream)).size > 1;
  const items = (group: boolean): Ranked[] =>
    found
      .filter((each) => each.rest.startsWith("cgroup.") === group)
      .map(({ metric, stream, rest }) => ({
        metric,
        source: "run",
        prefix: several ? `${writerLabel(writers[stream], stream)} ` : "",
        title: withoutUnit(rest.replace(/^(process|cgroup)\./, "")),
        rank: rankOf(rest, group ? GROUP_FIRST : PROCESS_FIRST),
      }));
  const name = several ? "Processes of this run" : "Process of this run";
  const note = found.length === 0 ? "Its agent has sampled no process of this run here." : "";
  return [
    makeSection("processes", name, true, items(false), note),
    makeSection("groups", several ? "Their control groups" : "Its control group", true, items(true)),
  ];
}

export function writerLabel(writer: Writer | undefined, index: number): string {
  if (writer && writer.rank !== null) return `rank ${writer.rank}`;
  return writer && writer.pid !== null ? `pid ${writer.pid}` : `writer ${index}`;
}

function gpuSections(host: RunHost, names: string[]): Section[] {
  const found = names
    .map((metric) => ({ metric, ...parseGpuMetric(metric) }))
    .filter((each): each is { metric: string; index: number; rest: string } => each.index !== undefined);
  const item = ({ metric, index, rest }: { metric: string; index: number; rest: string }): Ranked => ({
    metric,
    source: "host",
    prefix: `GPU ${index} `,
    title: withoutUnit(rest),
    rank: rankOf(rest, GPU_FIRST),
  });
  if (host.gpus === null) {
    const note = found.length > 0 ? "All of the machine: which of them this run has is not known." : "";
    return [makeSection("gpu", "GPUs", true, found.map(item), note)];
  }
  const own = new Set(host.gpus.map((gpu) => gpu.index));
  const mine = found.filter((each) => own.has(each.index));
  let note = "";
  if (own.size === 0) note = found.length > 0 ? "This run was given none of the machine's GPUs." : "";
  else if (mine.length === 0) note = `GPU ${[...own].sort((a, b) => a - b).join(", ")}: no samples of it.`;
  else note = describeGpus(host);
  return [
    makeSection("gpu", own.size === 1 ? "GPU of this run" : "GPUs of this run", true, mine.map(item), note),
    makeSection("gpu-others", "Other GPUs of the machine", false, found.filter((each) => !own.has(each.index)).map(item)),
  ];
}

/** "GPU 2, 3: NVIDIA H100 · part of GPU 0 (MIG-…)" */
function describeGpus(host: RunHost): string {
  const whole = new Map<string, number[]>();
  const parts: string[] = [];
  for (const gpu of host.gpus ?? []) {
    if (gpu.mig !== null) parts.push(`a part of GPU ${gpu.index} (${gpu.mig})`);
    else whole.set(gpu.name ?? "", [...(whole.get(gpu.name ?? "") ?? []), gpu.index]);
  }
  const texts = [...whole].map(([name, indexes]) => `GPU ${indexes.join(", ")}${name && `: ${name}`}`);
  const told = (host.gpus ?? []).every((gpu) => !gpu.seen) ? ["as its environment says"] : [];
  return [...texts, ...parts, ...told].join(" · ");
}

function subjectSections(names: string[]): Section[] {
  const rest = names.filter((name) => parseGpuMetric(name) === null);
  const word = (name: string): string => name.replace(/^host\./, "").split(".")[0]!;
  const known = new Set(SUBJECTS.flatMap((subject) => subject.words));
  const others = [...new Set(rest.map(word).filter((each) => !known.has(each)))].sort(collator.compare);
  const subjects = [
    ...SUBJECTS,
    ...others.map((each): Subject => ({ id: each, name: each, words: [each], first: [], open: false })),
  ];
  return subjects.map((subject) => {
    const members = rest.filter((name) => subject.words.includes(word(name)));
    const items = members.map((metric): Ranked => {
      const plain = metric.replace(/^host\./, "");
      const single = subject.words.length === 1 && plain.includes(".");
      const title = withoutUnit(single ? plain.slice(plain.indexOf(".") + 1) : plain);
      return { metric, source: "host", prefix: "", title, rank: rankOf(plain, subject.first) };
    });
    return makeSection(subject.id, subject.name, subject.open, items);
  });
}

/** Return the sections with only those charts whose names were asked for, everything open. */
export function narrow(sections: Section[], wanted: Set<string>): Section[] {
  return sections
    .map((section) => ({
      ...section,
      note: "",
      open: true,
      first: [...section.first, ...section.more].filter((item) => wanted.has(item.metric)),
      more: [],
    }))
    .filter((section) => section.first.length > 0);
}
