"""The golden files: today's code makes and reads exactly what version 1 means."""

import importlib.util
import os
import struct
import sys
import unittest
import zlib

import msgpack

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(os.path.dirname(HERE))
V1 = os.path.join(TESTS, "golden", "v1")


def load(name, path):
    """Import a file that belongs to no package."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load("golden_generate", os.path.join(TESTS, "golden", "generate.py"))
independent = load("independent_writer", os.path.join(HERE, "independent_writer.py"))


def read(*path):
    with open(os.path.join(V1, *path), "rb") as file:
        return file.read()


HEADER = {
    "version": 1,
    "run": "golden-1",
    "machine": "0123456789abcdef0123456789abcdef",
    "boot": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "pid": 4242,
    "started": 1700000000000000000,
    "clock": 5000000000,
    "writer": "golden/1",
    "host": "node01",
    "rank": 0,
    "offline": False,
}
STREAM = bytes(range(16))
NAME = "000102030405060708090a0b0c0d0e0f.%06d.mpl"


class Golden(unittest.TestCase):
    def test_todays_code_makes_exactly_the_committed_bytes(self):
        made = generate.generate()

        committed = {}
        for directory, _, names in os.walk(V1):
            for name in names:
                path = os.path.relpath(os.path.join(directory, name), V1).replace(os.sep, "/")
                committed[path] = read(path)
        self.assertEqual(sorted(made), sorted(committed))
        for path in made:
            self.assertEqual(made[path], committed[path], path)

    def test_a_plain_msgpack_reader_reads_every_line_in_three_lines(self):
        with open(os.path.join(V1, "every_kind", NAME % 0), "rb") as file:
            lines = [(kind, crc, body) for kind, crc, body in msgpack.Unpacker(file, max_buffer_size=2**24)]
            metrics = [msgpack.unpackb(body) for kind, crc, body in lines if kind == 1]

        self.assertEqual(len(lines), 24)
        self.assertEqual(metrics[0], [1700000000000000002, 0, {"loss": 2.5, "epoch": 1, "ok": True}])

    def test_a_writer_made_from_the_prose_gives_the_same_segments(self):
        t = 1700000000000000000
        metrics = [(1, [t + step, step, {"loss": 1 / (step + 1)}]) for step in range(10)]
        first = independent.segment(STREAM, 0, 0, HEADER, metrics[:5])
        second = independent.segment(STREAM, 1, len(first), HEADER, metrics[5:] + [(9, [t + 99, 0, None])])

        self.assertEqual(first, read("two_segments", NAME % 0))
        self.assertEqual(second, read("two_segments", NAME % 1))

    def test_a_writer_made_from_the_prose_gives_the_same_lines_of_every_kind(self):
        data = read("every_kind", NAME % 0)
        again = b""
        position = 0
        for kind, _, body in feed(data):
            line = independent.line(STREAM, 0, kind, body)
            self.assertEqual(data[position : position + len(line)], line)
            again += line
            position += len(line)

        self.assertEqual(again, data)

    def test_a_writer_made_from_the_prose_gives_the_same_bodies(self):
        t = 1700000000000000000
        bodies = [
            (6, [t, {"project": "digits", "name": "first", "tags": ["a", "b"]}]),
            (4, [t + 1, {"lr": 0.5, "model": {"depth": 3}}, ["old"]]),
            (1, [t + 2, 0, {"loss": 2.5, "epoch": 1, "ok": True}]),
            (1, [t + 3, None, {"loss": float("nan"), "up": float("inf")}]),
            (1, [t + 4, -1, {"low": -(2**63), "high": 2**64 - 1, "": -0.0}]),
            (2, [t + 5, 7, "note", "text", "gr\u00fc\u00df \U0001f600"]),
            (2, [t + 6, None, "h", "histogram", {"edges": [0, 1, 2], "counts": [3, 4]}]),
            (3, [t + 7, "stderr", ["first line", "", "\u001b[1mthird\u001b[0m"]]),
            (5, [t + 8, {"best": 0.25}, []]),
            (7, [t + 9, "out/model.bin", bytes(range(32)), 2**40, "end"]),
            (8, [t + 10, "slow", "loader is slow", "warn"]),
            (10, [t + 11, 30 * 10**9, {"cpu.percent": [1.5, 0.0, 3.0, 2.0, 15]}]),
            (11, [t + 12, {"cpus": 2, "memory_bytes": 2**34}]),
            (12, [t + 13, 1000, bytes(range(16, 32)), "gone", {"pid": 77}]),
            (13, [t + 14, 3, "disk full"]),
        ]

        data = independent.segment(STREAM, 0, 0, HEADER, bodies)
        self.assertEqual(read("every_kind", NAME % 0)[: len(data)], data)

    def test_a_writer_made_from_the_prose_gives_the_same_optional_elements(self):
        t = 1700000000000000000
        other = bytes(range(16, 32))
        window = {"gpu.memory.used.bytes": [2.0**33, 0.0, 2.0**34, 2.0**34, 15]}
        facts = {"xid": 79, "gpu": "GPU-0", "lost": True}
        fallen = "the GPU has fallen off the bus"
        bodies = [
            (10, [t + 1, 30 * 10**9, window, [1000, other]]),
            (10, [t + 2, 30 * 10**9, window]),
            (10, [t + 3, 30 * 10**9, window, [1000, other, "later"], "later"]),
            (10, [t + 4, 30 * 10**9, window, {"uid": 1000}]),
            (8, [t + 5, "Xid 79", fallen, "error", facts]),
            (8, [t + 6, "Xid 79", fallen, "error"]),
            (8, [t + 7, "slow", "loader is slow", "warn", "not a map"]),
            (9, [t + 8, 137, None, {"signal": 9, "pid": 4242}]),
        ]

        data = independent.segment(STREAM, 0, 0, HEADER, bodies)
        self.assertEqual(read("optional_elements", NAME % 0), data)


def feed(data):
    """Yield the msgpack values in data."""
    unpacker = msgpack.Unpacker(max_buffer_size=2**24)
    unpacker.feed(data)
    return unpacker


class WorkedExample(unittest.TestCase):
    """The numbers in docs/record-format.md."""

    def test_seed_and_checksum_of_the_example_line(self):
        with open(os.path.join(os.path.dirname(TESTS), "docs", "record-format.md"), "rb") as file:
            text = file.read().decode("utf-8")
        seeded = STREAM + struct.pack(">IH", 0, 1)
        seed = zlib.crc32(seeded)
        body = bytes.fromhex("93cf17979cfe362a000207 81a46c6f7373cb3fe0000000000000".replace(" ", ""))
        line = independent.line(STREAM, 0, 1, body)

        self.assertEqual(msgpack.unpackb(body, raw=False), [1700000000000000002, 7, {"loss": 0.5}])
        for number in (seeded.hex(), "%08x" % seed, body.hex(), "%08x" % zlib.crc32(body, seed), line.hex()):
            self.assertIn(number, text.replace(" ", ""), number)

        from tracker.protocol.codec import Seeds, encode_line

        self.assertEqual(Seeds(STREAM, 0)[1], seed)
        self.assertEqual(encode_line(1, body, seed), line)


if __name__ == "__main__":
    sys.exit(unittest.main())
