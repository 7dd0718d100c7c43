//! Writes a run that Tracker's agent ships: a record stream (docs/record-format.md) with the standard library alone.
//!
//!     rustc -O -o writer writer.rs
//!     ./writer SPOOL RUN [STEPS [PAUSE_S]]
//!
//! For 64-bit Linux: the locks and clocks that std has not are declared by hand.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Error, Read, Result, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::io::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const HEADER: u8 = 0;
const METRICS: u8 = 1;
const CONFIG: u8 = 4;
const RUN: u8 = 6;
const EXIT: u8 = 9;
const LOST: u8 = 13;

#[repr(C)]
struct Flock {
    kind: i16,
    whence: i16,
    start: i64,
    length: i64,
    pid: i32,
}

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

extern "C" {
    fn fcntl(fd: i32, command: i32, ...) -> i32;
    fn geteuid() -> u32;
    fn clock_gettime(clock: i32, at: *mut Timespec) -> i32;
}

const F_SETLK: i32 = 6;
const F_WRLCK: i16 = 1;
const CLOCK_MONOTONIC: i32 = 1;

/// What a msgpack body is made of.
enum Value<'a> {
    Nil,
    Int(i64),
    Float(f64),
    Text(&'a str),
    Bin(&'a [u8]),
    Array(Vec<Value<'a>>),
    Map(Vec<(&'a str, Value<'a>)>),
}

use Value::{Array, Bin, Float, Int, Map, Nil, Text};

fn pack(to: &mut Vec<u8>, value: &Value) {
    match value {
        Nil => to.push(0xc0),
        Int(v) if (-32..128).contains(v) => to.push(*v as u8),
        Int(v) => {
            to.push(0xd3);
            to.extend(v.to_be_bytes());
        }
        Float(v) => {
            to.push(0xcb);
            to.extend(v.to_bits().to_be_bytes());
        }
        Text(v) => {
            if v.len() < 32 {
                to.push(0xa0 | v.len() as u8);
            } else {
                to.push(0xdb);
                to.extend((v.len() as u32).to_be_bytes());
            }
            to.extend(v.as_bytes());
        }
        // In the shortest form, which a line must have around its body.
        Bin(v) => {
            match v.len() {
                size if size < 0x100 => to.extend([0xc4, size as u8]),
                size if size < 0x10000 => {
                    to.push(0xc5);
                    to.extend((size as u16).to_be_bytes());
                }
                size => {
                    to.push(0xc6);
                    to.extend((size as u32).to_be_bytes());
                }
            }
            to.extend(*v);
        }
        Array(items) => {
            to.push(0xdc);
            to.extend((items.len() as u16).to_be_bytes());
            for item in items {
                pack(to, item);
            }
        }
        Map(items) => {
            to.push(0xde);
            to.extend((items.len() as u16).to_be_bytes());
            for (name, item) in items {
                pack(to, &Text(name));
                pack(to, item);
            }
        }
    }
}

/// Continue a CRC-32 as zlib does.
fn crc32(crc: u32, data: &[u8]) -> u32 {
    let mut crc = !crc;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 };
        }
    }
    !crc
}

fn sha256(data: &[u8]) -> [u8; 32] {
    // The constants are the fractions of the square and cube roots of the first primes.
    let primes: Vec<u32> = (2u32..312).filter(|n| (2..*n).all(|d| n % d != 0)).collect();
    let fraction = |root: &dyn Fn(u128) -> u128| (0..64).map(|i| root(u128::from(primes[i])) as u32).collect::<Vec<u32>>();
    // floor(root * 2^32), found bit by bit; its low 32 bits are the fraction.
    let find = |limit: &dyn Fn(u128) -> bool| (0..36).rev().fold(0u128, |r, bit| if limit(r | 1 << bit) { r | 1 << bit } else { r });
    let k = fraction(&|p| find(&|r| r * r * r <= p << 96));
    let mut h = fraction(&|p| find(&|r| r * r <= p << 64));
    h.truncate(8);
    let mut padded = data.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((8 * data.len() as u64).to_be_bytes());
    for block in padded.chunks(64) {
        let mut w: Vec<u32> = block.chunks(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect();
        for i in 16..64 {
            let s0 = w[i - 15].rotate_right(7) ^ w[i - 15].rotate_right(18) ^ w[i - 15] >> 3;
            let s1 = w[i - 2].rotate_right(17) ^ w[i - 2].rotate_right(19) ^ w[i - 2] >> 10;
            w.push(w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1));
        }
        let mut v = h.clone();
        for i in 0..64 {
            let s1 = v[4].rotate_right(6) ^ v[4].rotate_right(11) ^ v[4].rotate_right(25);
            let choice = v[4] & v[5] ^ !v[4] & v[6];
            let t1 = [s1, choice, k[i], w[i]].iter().fold(v[7], |sum, x| sum.wrapping_add(*x));
            let s0 = v[0].rotate_right(2) ^ v[0].rotate_right(13) ^ v[0].rotate_right(22);
            let majority = v[0] & v[1] ^ v[0] & v[2] ^ v[1] & v[2];
            v.rotate_right(1);
            v[4] = v[4].wrapping_add(t1);
            v[0] = t1.wrapping_add(s0).wrapping_add(majority);
        }
        for i in 0..8 {
            h[i] = h[i].wrapping_add(v[i]);
        }
    }
    let mut digest = [0; 32];
    for (i, word) in h.iter().enumerate() {
        digest[4 * i..4 * i + 4].copy_from_slice(&word.to_be_bytes());
    }
    digest
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{:02x}", byte)).collect()
}

/// What this process writes of a run.
struct Stream {
    id: [u8; 16],
    file: File,
    /// Kept open, and never opened again: with the descriptor the lock would go.
    _lock: File,
    started_ns: i64,
    clock: Instant,
    lost: i64,
    reason: String,
}

impl Stream {
    /// Take the lock first, then make segment 0 with its HEADER.
    fn begin(spool: &Path, run: &str) -> Result<Stream> {
        let directory = spool.join(unsafe { geteuid() }.to_string()).join(run);
        DirBuilder::new().recursive(true).mode(0o770).create(&directory)?;
        let clock = Instant::now();
        let monotonic = monotonic_ns();
        let started_ns = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as i64;
        let mut id = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut id)?;
        let lock = new_file(&directory.join(format!("{}.live", hex(&id))))?;
        let whole = Flock { kind: F_WRLCK, whence: 0, start: 0, length: 0, pid: 0 };
        if unsafe { fcntl(lock.as_raw_fd(), F_SETLK, &whole as *const Flock) } != 0 {
            return Err(Error::last_os_error());
        }
        let file = new_file(&directory.join(format!("{}.000000.mpl", hex(&id))))?;
        let mut stream = Stream { id, file, _lock: lock, started_ns, clock, lost: 0, reason: String::new() };
        let host = text("/proc/sys/kernel/hostname");
        let header = Map(vec![
            ("version", Int(1)),
            ("stream", Bin(&id)),
            ("segment", Int(0)),
            ("base", Int(0)),
            ("machine", Text(&machine_id(&host))),
            ("boot", Text(&text("/proc/sys/kernel/random/boot_id"))),
            ("pid", Int(i64::from(std::process::id()))),
            ("started", Int(started_ns)),
            ("clock", Int(monotonic)),
            ("writer", Text("example-rust/1")),
            ("run", Text(run)),
            ("host", Text(&host)),
        ])
        .packed();
        stream.append(HEADER, &header)?;
        Ok(stream)
    }

    /// Append a record, or count it as lost, and say how many were as soon as there is room again.
    fn record(&mut self, kind: u8, fields: Vec<Value>) {
        if self.lost > 0 {
            let lost = Array(vec![Int(self.now()), Int(self.lost), Text(&self.reason)]).packed();
            if self.append(LOST, &lost).is_ok() {
                self.lost = 0;
            }
        }
        let mut all = vec![Int(self.now())];
        all.extend(fields);
        if let Err(error) = self.append(kind, &Array(all).packed()) {
            self.lost += 1;
            self.reason = error.to_string();
        }
    }

    /// Write one line by one write(). If that fails nothing of the line remains.
    fn append(&mut self, kind: u8, body: &[u8]) -> Result<()> {
        let mut seeded = self.id.to_vec();
        seeded.extend([0, 0, 0, 0, 0, kind]);
        let seed = if kind == HEADER { 0 } else { crc32(0, &seeded) };
        let mut line = vec![0x93, kind, 0xce];
        line.extend(crc32(seed, body).to_be_bytes());
        pack(&mut line, &Bin(body));
        let written = self.file.write(&line)?;
        if written < line.len() {
            let whole = self.file.metadata()?.len() - written as u64;
            self.file.set_len(whole)?;
            return Err(Error::from_raw_os_error(28)); // ENOSPC
        }
        Ok(())
    }

    /// The wall clock at the start plus what the monotonic clock has counted since.
    fn now(&self) -> i64 {
        self.started_ns + self.clock.elapsed().as_nanos() as i64
    }
}

impl Value<'_> {
    fn packed(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        pack(&mut bytes, self);
        bytes
    }
}

fn new_file(path: &Path) -> Result<File> {
    // create_new is O_EXCL, which follows no links.
    OpenOptions::new().append(true).create_new(true).mode(0o660).open(path)
}

fn monotonic_ns() -> i64 {
    let mut at = Timespec { seconds: 0, nanoseconds: 0 };
    unsafe { clock_gettime(CLOCK_MONOTONIC, &mut at) };
    at.seconds * 1_000_000_000 + at.nanoseconds
}

fn machine_id(host: &str) -> String {
    let found = text("/etc/machine-id");
    let source = if found.is_empty() { format!("host:{}", host) } else { found };
    hex(&sha256(format!("tracker machine\0{}", source).as_bytes())[..16])
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_string()
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.len() < 3 {
        eprintln!("usage: writer SPOOL RUN [STEPS [PAUSE_S]]");
        std::process::exit(2);
    }
    let steps: i64 = arguments.get(3).map_or(100, |text| text.parse().expect("STEPS"));
    let pause_s: f64 = arguments.get(4).map_or(0.0, |text| text.parse().expect("PAUSE_S"));
    let mut stream = match Stream::begin(&PathBuf::from(&arguments[1]), &arguments[2]) {
        Ok(stream) => stream,
        Err(error) => {
            eprintln!("{}", error);
            std::process::exit(1);
        }
    };
    stream.record(RUN, vec![Map(vec![("project", Text("writers")), ("name", Text("written in Rust"))])]);
    let config = Map(vec![("learning_rate", Float(0.1)), ("steps", Int(steps))]);
    stream.record(CONFIG, vec![config, Array(vec![])]);
    for step in 0..steps {
        let values = Map(vec![("loss", Float(1.0 / (step + 1) as f64)), ("seen", Int(1000 * step))]);
        stream.record(METRICS, vec![Int(step), values]);
        std::thread::sleep(Duration::from_secs_f64(pause_s));
    }
    stream.record(EXIT, vec![Int(0), Nil]);
}
