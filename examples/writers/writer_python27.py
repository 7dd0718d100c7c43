# -*- coding: utf-8 -*-
"""Writes a run that Tracker's agent ships: a record stream (docs/record-format.md) with Python 2.7 alone.

    python2.7 writer_python27.py SPOOL RUN [STEPS [PAUSE_S]]

On Python 3.6 and later there is `import tracker`.
"""

import ctypes
import errno
import fcntl
import hashlib
import os
import socket
import struct
import sys
import time
import zlib

HEADER, METRICS, CONFIG, RUN, EXIT, LOST = 0, 1, 4, 6, 9, 13
CLOCK_MONOTONIC = 1
O_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)


class Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


_libc = ctypes.CDLL(None, use_errno=True)


def monotonic_ns():
    """Return what Python 2 has no function for."""
    at = Timespec()
    _libc.clock_gettime(CLOCK_MONOTONIC, ctypes.byref(at))
    return at.seconds * 10**9 + at.nanoseconds


def pack(value):
    """Return a value as msgpack: str and unicode as strings, bytearray as bin, lists of pairs as maps."""
    if value is None:
        return b"\xc0"
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
    if isinstance(value, (int, type(2**64))):
        return struct.pack(">b", value) if -32 <= value < 128 else struct.pack(">Bq", 0xD3, value)
    if isinstance(value, bytearray):
        # In the shortest form, which a line must have around its body.
        size = len(value)
        tag, form = (0xC4, "B") if size < 0x100 else (0xC5, "H") if size < 0x10000 else (0xC6, "I")
        return struct.pack(">B" + form, tag, size) + bytes(value)
    if isinstance(value, (list, tuple)):
        return struct.pack(">BH", 0xDC, len(value)) + b"".join(map(pack, value))
    if isinstance(value, dict):
        items = b"".join(pack(name) + pack(item) for name, item in sorted(value.items()))
        return struct.pack(">BH", 0xDE, len(value)) + items
    text = value if isinstance(value, bytes) else value.encode("utf-8")
    head = struct.pack(">B", 0xA0 | len(text)) if len(text) < 32 else struct.pack(">BI", 0xDB, len(text))
    return head + text


class Stream(object):
    """What this process writes of a run."""

    def __init__(self, spool, run):
        directory = os.path.join(spool, str(os.geteuid()), run)
        try:
            os.makedirs(directory, 0o770)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
        self.id = os.urandom(16)
        self.started = int(time.time() * 1e6) * 1000
        self.clock = monotonic_ns()
        self.lost = 0
        self.reason = ""
        name = os.path.join(directory, "".join("%02x" % byte for byte in bytearray(self.id)))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | O_NOFOLLOW
        # Never opened again: closing any descriptor of the file would drop the lock.
        self.lock = os.open(name + ".live", flags, 0o660)
        fcntl.lockf(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.fd = os.open(name + ".000000.mpl", flags | os.O_APPEND, 0o660)
        host = socket.gethostname()
        source = text_of("/etc/machine-id") or "host:" + host
        header = {
            "version": 1,
            "stream": bytearray(self.id),
            "segment": 0,
            "base": 0,
            "machine": hashlib.sha256(b"tracker machine\0" + source.encode("utf-8")).hexdigest()[:32],
            "boot": text_of("/proc/sys/kernel/random/boot_id"),
            "pid": os.getpid(),
            "started": self.started,
            "clock": self.clock,
            "writer": "example-python27/1",
            "run": run,
            "host": host,
        }
        self.append(HEADER, header)

    def now(self):
        """Return the wall clock at the start plus what the monotonic clock has counted since."""
        return self.started + monotonic_ns() - self.clock

    def record(self, kind, *fields):
        """Append a record, or count it as lost, and say how many were as soon as there is room again."""
        try:
            if self.lost:
                self.append(LOST, [self.now(), self.lost, self.reason])
                self.lost = 0
            self.append(kind, [self.now()] + list(fields))
        except OSError as error:
            self.lost += 1
            self.reason = error.strerror

    def append(self, kind, value):
        """Write one line by one write(). If that raises nothing of the line remains."""
        body = pack(value)
        seed = zlib.crc32(self.id + struct.pack(">IH", 0, kind)) if kind else 0
        crc = zlib.crc32(body, seed) & 0xFFFFFFFF
        line = struct.pack(">BBBI", 0x93, kind, 0xCE, crc) + pack(bytearray(body))
        written = os.write(self.fd, line)
        if written < len(line):
            os.ftruncate(self.fd, os.fstat(self.fd).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def end(self, code):
        self.record(EXIT, code, None)
        os.close(self.fd)
        os.close(self.lock)


def text_of(path):
    try:
        with open(path) as file:
            return file.read().strip()
    except IOError:
        return ""


def main(arguments):
    if len(arguments) < 2:
        sys.stderr.write("usage: writer_python27.py SPOOL RUN [STEPS [PAUSE_S]]\n")
        return 2
    steps = int(arguments[2]) if len(arguments) > 2 else 100
    pause_s = float(arguments[3]) if len(arguments) > 3 else 0.0
    stream = Stream(arguments[0], arguments[1])
    stream.record(RUN, {"project": "writers", "name": "written in Python 2.7"})
    stream.record(CONFIG, {"learning_rate": 0.1, "steps": steps}, [])
    for step in range(steps):
        stream.record(METRICS, step, {"loss": 1.0 / (step + 1), "seen": 1000 * step})
        time.sleep(pause_s)
    stream.end(0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
