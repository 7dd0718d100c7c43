"""Streams written faster than any training would: the load of the soak and of the backlog.

Lines are real ones, with their streams' own checksums. For bodies of one length, crc32(body, seed) is
crc32(body, 0) XOR a constant of the seed, so that a block of lines encoded once becomes any stream's by
changing four bytes of each.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from pathlib import Path

import numpy as np

from tracker.protocol import bodies, kinds
from tracker.protocol.codec import Seeds
from tracker.protocol.header import Header
from tracker.protocol.identity import boot_id, machine_id
from tracker.protocol.writer import StreamWriter

PROJECT = "bench"
_LINE = struct.Struct(">BBBIBB")
#: [time, step, {"loss": value}]
_BODY = struct.Struct(">BBQBIB5sBd")
_CRC_AT = 3


def open_stream(spool: Path, run: str, rank: int | None = None) -> StreamWriter:
    """Begin a stream of this process, alive as long as the writer is open."""
    directory = spool / str(os.getuid()) / run
    directory.mkdir(parents=True, exist_ok=True)
    now = time.time_ns()
    header = Header(
        stream=os.urandom(16), run=run, segment=0, base=0, machine=machine_id(), boot=boot_id(),
        pid=os.getpid(), started=now, clock=time.monotonic_ns(), writer="bench", rank=rank,
    )  # fmt: skip
    writer = StreamWriter(str(directory), header)
    writer.write(kinds.RUN, bodies.Run(now, {"project": PROJECT}).encode())
    return writer


def end_stream(writer: StreamWriter) -> None:
    """End a stream as a training does that finished."""
    writer.write(kinds.EXIT, bodies.Exit(time.time_ns(), 0).encode())
    writer.close()


class QuickStream:
    """Appends records of one number to an open stream, several with one write."""

    def __init__(self, writer: StreamWriter) -> None:
        self.writer = writer
        self.step = 0
        self._fd = writer._fd
        self._seed = Seeds(writer.header.stream, 0)[kinds.METRICS]

    def append(self, records: int, now_ns: int) -> int:
        """Write that many records; return the bytes."""
        parts = []
        for _ in range(records):
            body = _BODY.pack(
                0x93, 0xCF, now_ns, 0xCE, self.step, 0x81, b"\xa4loss", 0xCB, 1 / (self.step + 1)
            )
            crc = zlib.crc32(body, self._seed)
            parts.append(_LINE.pack(0x93, kinds.METRICS, 0xCE, crc, 0xC4, len(body)))
            parts.append(body)
            self.step += 1
        data = b"".join(parts)
        if os.write(self._fd, data) != len(data):
            raise OSError(28, "the disk is full")
        return len(data)


class Block:
    """Many records of ten numbers, encoded once, for any stream at its start."""

    RECORD_METRICS = 10

    def __init__(self, records: int, seed: int = 1) -> None:
        values = np.random.default_rng(seed).normal(size=(records, self.RECORD_METRICS))
        names = [b"\xa7train/" + bytes([97 + index]) for index in range(self.RECORD_METRICS)]
        layout = struct.Struct(">BBQBIB" + "8sBd" * self.RECORD_METRICS)
        now = time.time_ns()
        lines = []
        for step in range(records):
            pairs = [
                part for name, value in zip(names, values[step], strict=True) for part in (name, 0xCB, value)
            ]
            body = layout.pack(0x93, 0xCF, now + step, 0xCE, step, 0x80 + self.RECORD_METRICS, *pairs)
            lines.append(_LINE.pack(0x93, kinds.METRICS, 0xCE, zlib.crc32(body), 0xC4, len(body)) + body)
        self.records = records
        self.line_bytes = len(lines[0])
        self.bytes = records * self.line_bytes
        self._body_bytes = len(body)
        self._lines = np.frombuffer(b"".join(lines), np.uint8).reshape(records, self.line_bytes)

    def write_to(self, writer: StreamWriter) -> None:
        """Append all of it to an open stream."""
        seed = Seeds(writer.header.stream, 0)[kinds.METRICS]
        zeros = bytes(self._body_bytes)
        change = (zlib.crc32(zeros, seed) ^ zlib.crc32(zeros)).to_bytes(4, "big")
        lines = self._lines.copy()
        lines[:, _CRC_AT : _CRC_AT + 4] ^= np.frombuffer(change, np.uint8)
        data = memoryview(lines.tobytes())
        while data:
            data = data[os.write(writer._fd, data) :]
        writer._size += self.bytes
