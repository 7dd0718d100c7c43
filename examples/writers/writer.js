// Writes a run that Tracker's agent ships: a record stream (docs/record-format.md) with Node's own modules alone.
//
//     node writer.js SPOOL RUN [STEPS [PAUSE_S]]
//
// Node cannot take a POSIX lock, so there is no lock file: what is written is shipped all the same, but until EXIT
// nobody can tell that this process is alive. `tracker run -- node writer.js ...` can: it holds one for the run.
"use strict";

const crypto = require("crypto");
const fs = require("fs");
const os = require("os");
const path = require("path");

const HEADER = 0, METRICS = 1, CONFIG = 4, RUN = 6, EXIT = 9, LOST = 13;

/** Return a number of bytes as msgpack has it: big-endian, behind a tag. */
function number(tag, width, value) {
  const bytes = Buffer.alloc(1 + width, tag);
  if (width === 8) bytes.writeBigInt64BE(BigInt(value), 1);
  else bytes.writeUIntBE(value, 1, width);
  return bytes;
}

/** Return a value as msgpack. BigInts and whole numbers become integers, other numbers float64, Buffers bin. */
function pack(value) {
  if (value === null) return Buffer.from([0xc0]);
  if (typeof value === "bigint") return number(0xd3, 8, value);
  if (typeof value === "number") {
    if (Number.isSafeInteger(value)) return value >= 0 && value < 128 ? Buffer.from([value]) : number(0xd3, 8, value);
    const bytes = Buffer.alloc(9, 0xcb);
    bytes.writeDoubleBE(value, 1);
    return bytes;
  }
  if (typeof value === "string") {
    const bytes = Buffer.from(value);
    return Buffer.concat([bytes.length < 32 ? Buffer.from([0xa0 | bytes.length]) : number(0xdb, 4, bytes.length), bytes]);
  }
  if (Buffer.isBuffer(value)) {
    // In the shortest form, which a line must have around its body.
    const size = value.length;
    const head = size < 0x100 ? number(0xc4, 1, size) : size < 0x10000 ? number(0xc5, 2, size) : number(0xc6, 4, size);
    return Buffer.concat([head, value]);
  }
  if (Array.isArray(value)) return Buffer.concat([number(0xdc, 2, value.length), ...value.map(pack)]);
  const entries = Object.entries(value);
  return Buffer.concat([number(0xde, 2, entries.length), ...entries.flat().map(pack)]);
}

const TABLE = Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

/** Continue a CRC-32 as zlib does. */
function crc32(crc, bytes) {
  crc = ~crc;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return ~crc >>> 0;
}

function text(file) {
  try {
    return fs.readFileSync(file, "utf8").trim();
  } catch {
    return "";
  }
}

/** What this process writes of a run. */
class Stream {
  constructor(spool, run) {
    const directory = path.join(spool, String(process.geteuid()), run);
    fs.mkdirSync(directory, { recursive: true, mode: 0o770 });
    this.id = crypto.randomBytes(16);
    this.started = BigInt(Date.now()) * 1000000n;
    this.clock = process.hrtime.bigint();
    this.lost = 0;
    this.reason = "";
    const { O_WRONLY, O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW } = fs.constants;
    const file = path.join(directory, `${this.id.toString("hex")}.000000.mpl`);
    this.fd = fs.openSync(file, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW, 0o660);
    const source = text("/etc/machine-id") || `host:${os.hostname()}`;
    const machine = crypto.createHash("sha256").update(`tracker machine\0${source}`).digest("hex").slice(0, 32);
    this.append(HEADER, {
      version: 1,
      stream: this.id,
      segment: 0,
      base: 0,
      machine,
      boot: text("/proc/sys/kernel/random/boot_id"),
      pid: process.pid,
      started: this.started,
      clock: this.clock,
      writer: "example-javascript/1",
      run,
      host: os.hostname(),
    });
  }

  /** Return the wall clock at the start plus what the monotonic clock has counted since. */
  now() {
    return this.started + process.hrtime.bigint() - this.clock;
  }

  /** Append a record, or count it as lost, and say how many were as soon as there is room again. */
  record(kind, ...fields) {
    try {
      if (this.lost) {
        this.append(LOST, [this.now(), this.lost, this.reason]);
        this.lost = 0;
      }
      this.append(kind, [this.now(), ...fields]);
    } catch (error) {
      this.lost++;
      this.reason = error.message;
    }
  }

  /** Write one line by one write(). If that throws nothing of the line remains. */
  append(kind, value) {
    const body = pack(value);
    const place = Buffer.from([0, 0, 0, 0, kind >> 8, kind & 0xff]); // the segment's number, and the kind
    const seed = kind === HEADER ? 0 : crc32(0, Buffer.concat([this.id, place]));
    const line = Buffer.concat([Buffer.from([0x93, kind]), number(0xce, 4, crc32(seed, body)), pack(body)]);
    const written = fs.writeSync(this.fd, line);
    if (written < line.length) {
      fs.ftruncateSync(this.fd, fs.fstatSync(this.fd).size - written);
      throw new Error("no space left on device");
    }
  }

  end(code) {
    this.record(EXIT, code, null);
    fs.closeSync(this.fd);
  }
}

async function main([spool, run, steps = "100", pause = "0"]) {
  if (run === undefined) {
    console.error("usage: node writer.js SPOOL RUN [STEPS [PAUSE_S]]");
    process.exit(2);
  }
  const stream = new Stream(spool, run);
  stream.record(RUN, { project: "writers", name: "written in JavaScript" });
  stream.record(CONFIG, { learning_rate: 0.1, steps: Number(steps) }, []);
  for (let step = 0; step < Number(steps); step++) {
    stream.record(METRICS, step, { loss: 1 / (step + 1), seen: 1000 * step });
    if (Number(pause)) await new Promise((resolve) => setTimeout(resolve, 1000 * Number(pause)));
  }
  stream.end(0);
}

main(process.argv.slice(2));
