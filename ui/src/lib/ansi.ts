// Console lines as a terminal would leave them: colours become classes, other escapes vanish, and of a line that
// was overwritten with carriage returns (progress bars) the last state remains.

export interface Span {
  text: string;
  classes: string;
}

const ESCAPE = /\x1b(?:\[([0-9;:?]*)([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])/g;

export function parseAnsi(line: string): Span[] {
  const spans: Span[] = [];
  let [bold, dim, color] = [false, false, ""];
  let start = 0;
  const push = (text: string): void => {
    if (!text) return;
    const classes = [bold ? "ansi-bold" : "", dim ? "ansi-dim" : "", color].filter(Boolean).join(" ");
    spans.push({ text, classes });
  };
  const text = lastState(line);
  for (const match of text.matchAll(ESCAPE)) {
    push(text.slice(start, match.index));
    start = match.index + match[0].length;
    if (match[2] !== "m") continue;
    const codes = (match[1] || "0").split(/[;:]/).map(Number);
    for (let i = 0; i < codes.length; i++) {
      const code = codes[i]!;
      if (code === 0) [bold, dim, color] = [false, false, ""];
      else if (code === 1) bold = true;
      else if (code === 2) dim = true;
      else if (code === 22) [bold, dim] = [false, false];
      else if (code === 39) color = "";
      else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) color = `ansi-${code % 10}`;
      else if (code === 38 || code === 48) i += codes[i + 1] === 5 ? 2 : 4;
    }
  }
  push(text.slice(start));
  return spans;
}

export function plainText(line: string): string {
  return lastState(line).replace(ESCAPE, "");
}

function lastState(line: string): string {
  const trimmed = line.replace(/\r+$/, "");
  return trimmed.slice(trimmed.lastIndexOf("\r") + 1);
}
