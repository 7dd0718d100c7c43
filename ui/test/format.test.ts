import { expect, test } from "vitest";
import {
  flatten, formatAgo, formatBytes, formatCount, formatDuration, formatExact, formatNumber, formatQuantity, formatStep,
  formatValue,
} from "../src/lib/format";

test.each([
  [0, "0"],
  [0.5, "0.5"],
  [0.123456789, "0.12346"],
  [0.00012345678, "0.00012346"],
  [0.00001234, "1.234e−5"],
  [12345.678, "12,346"],
  [-2.5, "−2.5"],
  [1234567, "1,234,567"],
  [1.5e12, "1.5e12"],
  [NaN, "NaN"],
  [Infinity, "∞"],
  [-Infinity, "−∞"],
  [null, "–"],
])("the number %d is written %s", (value, text) => {
  expect(formatNumber(value)).toBe(text);
});

test("an exact number keeps all of its digits", () => {
  expect(formatExact(0.1 + 0.2)).toBe("0.30000000000000004");
});

test.each([
  [999, "999"],
  [1000, "1k"],
  [12_345, "12.3k"],
  [999_950, "1M"],
  [4_500_000, "4.5M"],
])("the count %d is written %s", (value, text) => {
  expect(formatCount(value)).toBe(text);
});

test.each([
  [850, "850 ms"],
  [12_000, "12s"],
  [185_000, "3m 05s"],
  [8_040_000, "2h 14m"],
  [446_400_000, "5d 4h"],
])("the duration %d ms is written %s", (ms, text) => {
  expect(formatDuration(ms)).toBe(text);
});

test.each([
  [1_000, "just now"],
  [42_000, "42 s ago"],
  [3_600_000, "1 h ago"],
  [172_800_000, "2 d ago"],
])("%d ms before now is written %s", (ms, text) => {
  const now = 1.8e12;

  expect(formatAgo((now - ms) * 1e6, now)).toBe(text);
});

test("bytes are written in binary units", () => {
  expect(formatBytes(512)).toBe("512 B");
  expect(formatBytes(5 * 1024 * 1024)).toBe("5 MiB");
});

test("nested maps become dotted keys, lists and empty maps stay values", () => {
  expect(flatten({ model: { width: 64, depth: [1, 2] }, empty: {}, seed: 1 })).toEqual([
    ["model.width", 64],
    ["model.depth", [1, 2]],
    ["empty", {}],
    ["seed", 1],
  ]);
  expect(formatValue([1, "a, [b]", { c: 2 }])).toBe('[1, "a, [b]", {"c": 2}]');
});

test.each([
  ["host.cpu.percent", 62.5, "62.5 %"],
  ["gpu/temp.celsius", 71, "71 °C"],
  ["host.gpu.0.power.watts", 412.25, "412.25 W"],
  ["host.gpu.0.clock.sm.mhz", 1980, "1,980 MHz"],
  ["host.disk.reads_per_s", 1200, "1,200/s"],
  ["host.disk.wait_max.seconds", 0.00042, "420 µs"],
  ["host.disk.wait_max.seconds", 0.0121, "12.1 ms"],
  ["host.nfs.rtt.seconds", 1.5, "1.5 s"],
  ["host.nfs.rtt.seconds", 0, "0 s"],
  ["host.uptime.seconds", 8040, "2h 14m"],
  ["host.cpu.threads.count", 12, "12"],
  ["accuracy", 12, "12"],
  ["host.cpu.percent", NaN, "NaN"],
  ["host.memory.used.bytes", 3 * 1024 ** 3, "3 GiB"],
  ["host.disk.read.bytes_per_s", 4096, "4 KiB/s"],
  ["host.network.bytes_per_s", null, "–"],
  ["megabytes", 4096, "4,096"],
  ["train/loss", 0.25, "0.25"],
])("a value of %s is written in the unit its name ends in", (name, value, text) => {
  expect(formatQuantity(name, value)).toBe(text);
});

test("a step keeps all its digits", () => {
  expect(formatStep(1349)).toBe("1,349");
  expect(formatStep(2 ** 40)).toBe("1,099,511,627,776");
});
