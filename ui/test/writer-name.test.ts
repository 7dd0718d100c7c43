import { describe, expect, it } from "vitest";
import { writerName } from "../src/lib/writer-name";

describe("the name of a writer", () => {
  const parent = "0f".repeat(16);

  it.each([
    [{ rank: null }, "main"],
    [{ rank: 3, role: null, parent: null }, "rank 3"],
    [{ rank: 3, parent }, "rank 3, child"],
    [{ rank: null, parent, role: "helper" }, "main, helper"],
    [{ rank: 0, parent, role: "again" }, "rank 0, went on"],
    [{ rank: null, role: "supervisor" }, "supervisor"],
    [{ rank: null, role: "aside" }, "in passing"],
    [{ rank: null, parent, role: "of a later version" }, "main, child"],
  ])("says what it is", (stream, name) => {
    expect(writerName(stream)).toBe(name);
  });
});
