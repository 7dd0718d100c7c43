// What a writer of a run is called among the others: its rank, and what it is beside the training.

import type { Stream } from "./types";

export function writerName(stream: Pick<Stream, "rank" | "role" | "parent">): string {
  if (stream.role === "supervisor") return "supervisor";
  if (stream.role === "aside") return "in passing";
  const own = stream.rank === null ? "main" : `rank ${stream.rank}`;
  if (stream.role === "again") return `${own}, went on`;
  if (stream.role === "helper") return `${own}, helper`;
  return stream.parent ? `${own}, child` : own;
}
