import { expect, test } from "vitest";
import { fromZero, machineSections, narrow, parseRunMetric, shortName, writerLabel } from "../src/lib/machine";
import type { Section } from "../src/lib/machine";
import type { RunGpu, RunHost } from "../src/lib/types";

const gpu = (index: number, mig: string | null = null): RunGpu => ({
  index, mig, uuid: `GPU-${index}`, name: "H200", streams: [0], seen: true,
});
const host = (gpus: RunGpu[] | null, streams = [0]): RunHost => ({ machine: "m", host: "node", known: true, streams, gpus });
const RANKS = [0, 1, 2].map((rank) => ({ rank, pid: 100 + rank }));

function metricsOf(sections: Section[], id: string): string[] {
  const section = sections.find((each) => each.id === id);
  return section ? [...section.first, ...section.more].map((item) => item.metric) : [];
}

function titles(section: Section | undefined): string[] {
  return (section?.first ?? []).map((item) => item.prefix + item.title);
}

test("a run's own processes and GPUs stand before the machine, and other GPUs last", () => {
  const names = ["host.cpu.percent", "host.memory.percent", "host.gpu.0.power.watts", "host.gpu.1.power.watts"];

  const run = ["system.0.process.cpu.percent", "system.0.cgroup.cpu.percent"];

  const sections = machineSections(host([gpu(1)]), RANKS, names, run);

  expect(sections.map((section) => [section.id, section.name])).toEqual([
    ["processes", "Process of this run"],
    ["gpu", "GPU of this run"],
    ["groups", "Its control group"],
    ["cpu", "CPU"],
    ["memory", "Memory"],
    ["gpu-others", "Other GPUs of the machine"],
  ]);
  expect(metricsOf(sections, "gpu")).toEqual(["host.gpu.1.power.watts"]);
  expect(metricsOf(sections, "gpu-others")).toEqual(["host.gpu.0.power.watts"]);
  expect(sections[1]!.note).toBe("GPU 1: H200");
  expect(sections.at(-1)!.open).toBe(false);
});

test("every metric has a chart, and only one", () => {
  const names = [
    "host.cpu.percent", "cpu.percent", "host.odd", "odd.thing", "x", "host.gpu.0.utilization.percent", "gpu.0.utilization",
    "host.gpu.x.strange", "host.infiniband.mlx5_0.sent.bytes_per_s", "host.filesystem./data.percent", "host.gpu.12.mig.1.memory.percent",
  ];
  const run = ["system.0.process.rss.bytes", "system.0.cgroup.memory.current.bytes", "system.0.else"];

  for (const gpus of [null, [], [gpu(0)], [gpu(12)]]) {
    const shown = machineSections(host(gpus), RANKS, names, run).flatMap((each) => [...each.first, ...each.more]);

    expect(shown.map((item) => item.metric).sort()).toEqual([...names, ...run].sort());
  }
});

test("only writers of this machine are shown with it, each by its name", () => {
  const run = [0, 1, 2].flatMap((stream) => [`system.${stream}.process.rss.bytes`, `system.${stream}.process.cpu.percent`]);

  const [processes] = machineSections(host(null, [0, 2]), RANKS, [], run);

  expect(processes!.name).toBe("Processes of this run");
  expect(titles(processes)).toEqual(["rank 0 cpu", "rank 2 cpu", "rank 0 rss", "rank 2 rss"]);
});

test("what one looks at first comes first, GPUs side by side, and the rest on request", () => {
  const names = [10, 2].flatMap((index) =>
    ["pcie.width.count", "power.watts", "utilization.percent", "ecc.corrected.volatile.count"].map(
      (name) => `host.gpu.${index}.${name}`,
    ),
  );

  const section = machineSections(host([gpu(2), gpu(10)]), RANKS, names, []).find((each) => each.id === "gpu")!;

  expect(titles(section)).toEqual(["GPU 2 utilization", "GPU 10 utilization", "GPU 2 power", "GPU 10 power"]);
  expect(section.more.map((item) => item.prefix + item.title)).toEqual([
    "GPU 2 ecc.corrected.volatile", "GPU 2 pcie.width", "GPU 10 ecc.corrected.volatile", "GPU 10 pcie.width",
  ]);
});

test("a few metrics more need no button", () => {
  const [section] = machineSections(host([]), RANKS, ["host.cpu.percent", "host.cpu.forks_per_s", "host.cpu.load5"], [])
    .filter((each) => each.id === "cpu");

  expect(titles(section)).toEqual(["cpu", "cpu.forks_per_s", "cpu.load5"]);
  expect(section!.more).toEqual([]);
});

test("it says so where GPUs are not known, none, or not sampled", () => {
  const note = (gpus: RunGpu[] | null, names: string[]): string | undefined =>
    machineSections(host(gpus), RANKS, names, []).find((section) => section.id === "gpu")?.note;
  const names = ["host.gpu.0.power.watts"];

  expect(note(null, names)).toBe("All of the machine: which of them this run has is not known.");
  expect(note(null, [])).toBeUndefined();
  expect(note([], names)).toBe("This run was given none of the machine's GPUs.");
  expect(note([], [])).toBeUndefined();
  expect(note([gpu(3)], names)).toBe("GPU 3: no samples of it.");
  expect(note([gpu(0), gpu(0, "MIG-1")], names)).toBe("GPU 0: H200 · a part of GPU 0 (MIG-1)");
  expect(note([{ ...gpu(0), seen: false }], names)).toBe("GPU 0: H200 · as its environment says");
});

test("a host without samples of the run says so in place of charts", () => {
  const [processes] = machineSections(host(null), RANKS, ["host.cpu.percent"], ["system.1.process.rss.bytes"]);

  expect(processes).toMatchObject({ id: "processes", first: [], note: "Its agent has sampled no process of this run here." });
});

test("a search leaves the charts that match, all open", () => {
  const sections = machineSections(host([]), RANKS, ["host.cpu.percent", "host.nfs.ops_per_s"], ["system.0.process.rss.bytes"]);

  const found = narrow(sections, new Set(["host.nfs.ops_per_s"]));

  expect(found.map((section) => [section.id, section.open, titles(section)])).toEqual([["filesystem", true, ["nfs.ops_per_s"]]]);
});

test.each([
  ["host.memory.used.bytes", "memory.used"],
  ["host.disk.sda.wait.seconds", "disk.sda.wait"],
  ["host.cpu.load1", "cpu.load1"],
  ["process.count", "process"],
  ["count", "count"],
])("%s is called %s for short", (name, short) => {
  expect(shortName(name)).toBe(short);
});

test.each([
  ["system.0.process.cpu.percent", { stream: 0, rest: "process.cpu.percent" }],
  ["system.12.x", { stream: 12, rest: "x" }],
  ["system.x.y", null],
  ["host.cpu.percent", null],
])("%s is read", (name, read) => {
  expect(parseRunMetric(name)).toEqual(read);
});

test("writers are called by rank, else by pid, else by number", () => {
  expect(writerLabel({ rank: 0, pid: 5 }, 3)).toBe("rank 0");
  expect(writerLabel({ rank: null, pid: 5 }, 3)).toBe("pid 5");
  expect(writerLabel(undefined, 3)).toBe("writer 3");
});

test("shares and amounts begin at 0, temperatures and clocks do not", () => {
  expect(["host.cpu.percent", "a.bytes", "b.watts", "c.per_s", "d"].map(fromZero)).toEqual([true, true, true, true, true]);
  expect(["a.celsius", "b.mhz", "c.joules"].map(fromZero)).toEqual([false, false, false]);
});
