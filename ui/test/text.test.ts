import { expect, test } from "vitest";
import { parseAnsi, plainText } from "../src/lib/ansi";
import { countLosses } from "../src/lib/losses";
import { filterMetrics, groupMetrics, withoutHidden } from "../src/lib/metric-groups";
import type { Stream } from "../src/lib/types";

test("metrics are grouped by the part before the first slash, in natural order", () => {
  const groups = groupMetrics(["val/loss", "gpu/10/util", "gpu/2/util", "loss", "/odd"]);

  expect(groups).toEqual([
    { name: "", metrics: ["/odd", "loss"] },
    { name: "gpu", metrics: ["gpu/2/util", "gpu/10/util"] },
    { name: "val", metrics: ["val/loss"] },
  ]);
});

test("metrics are found by all words in any case, or by a regular expression between slashes", () => {
  const names = ["train/loss", "val/loss", "val/Accuracy"];

  expect(filterMetrics(names, "VAL loss")).toEqual(["val/loss"]);
  expect(filterMetrics(names, "/^val.*y$/")).toEqual(["val/Accuracy"]);
  expect(filterMetrics(names, "/(/")).toEqual([]);
});

test("metrics are hidden as they were defined, the nearest definition first", () => {
  const names = ["epoch", "val/a", "val/b", "loss"];
  const definitions = [
    { name: "epoch", hidden: true },
    { name: "val/*", hidden: true },
    { name: "val/b", summary: ["min"] },
    { name: 3, hidden: true },
    null,
  ];

  expect(withoutHidden(names, definitions)).toEqual(["val/b", "loss"]);
  expect(withoutHidden(names, [{ name: "*", hidden: true }, { name: "loss" }])).toEqual(["loss"]);
  expect(withoutHidden(names, undefined)).toBe(names);
});

test("colours become classes and other escapes vanish", () => {
  const spans = parseAnsi("\x1b[1;31mbad\x1b[0m \x1b[2Kok\x1b]0;title\x07");

  expect(spans).toEqual([
    { text: "bad", classes: "ansi-bold ansi-1" },
    { text: " ", classes: "" },
    { text: "ok", classes: "" },
  ]);
});

test("256 colours and true colours do not leak their numbers into other attributes", () => {
  expect(parseAnsi("\x1b[38;5;1mx")).toEqual([{ text: "x", classes: "" }]);
  expect(parseAnsi("\x1b[38;2;1;2;31mx")).toEqual([{ text: "x", classes: "" }]);
});

test("of a line overwritten by carriage returns the last state remains", () => {
  expect(plainText("10%\r50%\r100%\r")).toBe("100%");
});

test("every gap, loss and problem is counted", () => {
  const stream = {
    gaps: [{ offset: 0, bytes: 10, reason: "damage" }],
    lost: [{ records: 3, reason: "disk full" }],
    problems: ["odd", "odder"],
  } as unknown as Stream;

  expect(countLosses([stream, stream])).toEqual({ bytes: 20, records: 6, problems: 4, total: 8 });
});
