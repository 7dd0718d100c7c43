"""Lines and segments on every Python: what is written is read, and every fault is noticed."""

import os
import sys
import unittest
import zlib

import msgpack

from tracker.protocol import bodies, kinds
from tracker.protocol.codec import Seeds, encode_line, find_line, line_bytes, read_line, scan_lines
from tracker.protocol.errors import HeaderError, IncompleteError
from tracker.protocol.header import Header, encode_header, read_header

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from sealed_reading import read_sealed

STREAM = b"0123456789abcdef"
SEEDS = Seeds(STREAM, 0)
HEADER = Header(STREAM, "run-1", 0, 0, "machine", "boot", 1, 2, 3, "test/1")


def small_segment():
    """Return the lines of a segment with all forms of kinds and lengths."""
    lines = [(1, bodies.Metrics(i, i, {"loss": i / 3.0}).encode()) for i in range(4)]
    lines += [(127, b""), (128, b"\xc0"), (255, b"a"), (256, b"b" * 255), (65535, b"c" * 256)]
    lines += [(2, b"d" * 300), (9, bodies.Exit(9, 0).encode())]
    return [encode_header(HEADER)] + [encode_line(kind, body, SEEDS[kind]) for kind, body in lines]


class Lines(unittest.TestCase):
    def test_lines_of_every_form_are_read_back(self):
        for kind in (1, 9, 126, 127, 128, 129, 254, 255, 256, 257, 32768, 65535):
            for size in (0, 1, 254, 255, 256, 257, 65534, 65535, 65536, 65537):
                body = bytes(bytearray(i % 251 for i in range(size)))
                line = encode_line(kind, body, SEEDS[kind])

                scanned = scan_lines(line + line, SEEDS)

                self.assertEqual([(k, b) for k, _, b in scanned.lines], [(kind, body)] * 2)
                self.assertEqual((scanned.end, scanned.last, scanned.bad), (2 * len(line), len(line), False))
                self.assertEqual(len(line), line_bytes(kind, size))

    def test_a_line_is_at_most_16_mib_long(self):
        head = line_bytes(1, 2**23) - 2**23
        body = bytes(kinds.LINE_BYTES_MAX - head)

        self.assertEqual(len(encode_line(1, body, 0)), kinds.LINE_BYTES_MAX)
        self.assertRaises(ValueError, encode_line, 1, body + b"x", 0)
        too_long = b"\x93\x01\xce\0\0\0\0\xc6" + (len(body) + 1).to_bytes(4, "big")
        self.assertEqual(read_line(too_long, 0, SEEDS), (None, 0, True))

    def test_a_cut_off_line_is_incomplete_at_every_length(self):
        for kind in (1, 200, 300):
            for size in (3, 300, 70000):
                line = encode_line(kind, b"x" * size, SEEDS[kind])
                for cut in list(range(40)) + [len(line) - 1]:
                    if cut < len(line):
                        self.assertEqual(scan_lines(line[:cut], SEEDS)[:3], ([], 0, False), (kind, size, cut))

    def test_what_msgpack_reads_alike_but_is_not_canonical_is_no_line(self):
        crc = zlib.crc32(b"x", SEEDS[1])
        good = b"\x93\x01\xce" + crc.to_bytes(4, "big") + b"\xc4\x01x"
        self.assertEqual(scan_lines(good, SEEDS).end, len(good))
        crc_bytes = crc.to_bytes(4, "big")
        for line in (
            b"\xdc\x00\x03\x01\xce" + crc_bytes + b"\xc4\x01x",
            b"\x93\xcc\x01\xce" + crc_bytes + b"\xc4\x01x",
            b"\x93\xcd\x00\x01\xce" + crc_bytes + b"\xc4\x01x",
            b"\x93\xc3\xce" + crc_bytes + b"\xc4\x01x",
            b"\x93\x01\xd2" + crc_bytes + b"\xc4\x01x",
            b"\x93\x01\xcf\0\0\0\0" + crc_bytes + b"\xc4\x01x",
            b"\x93\x01\xce" + crc_bytes + b"\xc5\x00\x01x",
            b"\x93\x01\xce" + crc_bytes + b"\xc6\x00\x00\x00\x01x",
            b"\x93\x01\xce" + crc_bytes + b"\xd9\x01x",
            b"\x93\x01\xce" + crc_bytes + b"\xa1x",
            b"\x94\x01\xce" + crc_bytes + b"\xc4\x01x\xc0",
        ):
            scanned = scan_lines(line + good, SEEDS)
            self.assertEqual((scanned.lines, scanned.bad), ([], True), line)
            self.assertEqual(find_line(line + good, 0, SEEDS), len(line))

    def test_a_header_line_is_never_data(self):
        header = encode_header(HEADER)

        self.assertTrue(scan_lines(header, SEEDS).bad)
        self.assertIsNone(find_line(header, 0, SEEDS))
        self.assertRaises(KeyError, lambda: SEEDS[0])

    def test_another_stream_segment_or_kind_gives_another_seed(self):
        seeds = [Seeds(STREAM, 0)[1], Seeds(STREAM, 1)[1], Seeds(STREAM, 0)[2], Seeds(STREAM[::-1], 0)[1]]

        self.assertEqual(len(set(seeds)), 4)


class Segments(unittest.TestCase):
    def test_every_prefix_reads_back_exactly_its_whole_records(self):
        lines = small_segment()
        data = b"".join(lines)
        all_records, _ = read_sealed(data, STREAM)
        ends, end = [], 0
        for line in lines:
            end += len(line)
            ends.append(end)
        self.assertEqual(len(all_records), len(lines))

        for cut in range(len(data) + 1):
            records, gaps = read_sealed(data[:cut], STREAM)

            whole = [end for end in ends if end <= cut]
            self.assertEqual(records, all_records[: len(whole)], cut)
            rest = cut - (whole[-1] if whole else 0)
            position = whole[-1] if whole else 0
            self.assertEqual(gaps, [(position, rest, "torn_tail")] if rest else [], cut)

    def test_every_single_changed_byte_is_noticed_and_costs_one_record(self):
        lines = small_segment()
        data = bytearray(b"".join(lines))
        all_records, _ = read_sealed(bytes(data), STREAM)
        hit_of = [n for n, line in enumerate(lines) for _ in line]

        for at in range(len(data)):
            before = data[at]
            for value in {before ^ bit for bit in (1, 2, 4, 8, 16, 32, 64, 128, 255)} | {
                0x00,
                0x93,
                0xC3,
                0xD2,
            }:
                if value == before:
                    continue
                data[at] = value
                records, gaps = read_sealed(bytes(data), STREAM)

                untouched = all_records[: hit_of[at]] + all_records[hit_of[at] + 1 :]
                self.assertEqual(records, untouched, (at, value))
                self.assertEqual(len(gaps), 1, (at, value))
                self.assertEqual(
                    gaps[0][:2], (all_records[hit_of[at]][0], len(lines[hit_of[at]])), (at, value)
                )
            data[at] = before

    def test_chunks_of_any_size_read_the_same(self):
        lines = small_segment()
        broken = b"".join(lines[:3]) + b"?" * 50 + b"".join(lines[3:8]) + lines[8][:-3] + b"".join(lines[9:])
        expected = read_sealed(broken, STREAM)
        self.assertEqual(len(expected[1]), 2)

        for chunk in list(range(1, 80)) + [300, 700]:
            self.assertEqual(read_sealed(broken, STREAM, chunk=chunk), expected, chunk)

    def test_a_stream_logged_as_data_never_leaks_into_the_one_that_holds_it(self):
        inner_seeds = Seeds(b"another stream!!", 0)
        inner = b"".join(encode_line(1, b"leak%d" % i, inner_seeds[1]) for i in range(20))
        same_stream_next_segment = b"".join(encode_line(1, b"leak", Seeds(STREAM, 1)[1]) for i in range(20))
        for data in (inner, encode_header(HEADER) + inner, same_stream_next_segment):
            outer = encode_line(2, data, SEEDS[2])
            after = encode_line(1, b"after", SEEDS[1])
            for at in range(len(outer)):
                damaged = outer[:at] + bytes(bytearray([outer[at] ^ 0x10])) + outer[at + 1 :]

                records, _ = read_sealed(encode_header(HEADER) + damaged + after, STREAM)

                self.assertEqual([body for _, kind, body in records if kind == 1], [b"after"], at)
            for cut in range(len(outer)):
                records, _ = read_sealed(encode_header(HEADER) + outer[:cut], STREAM)
                self.assertEqual(len(records), 1)


class Headers(unittest.TestCase):
    def test_a_header_is_read_back(self):
        for header in (
            HEADER,
            HEADER._replace(run=None),
            HEADER._replace(rank=3, host="n\u00f6", offline=True),
            HEADER._replace(stop=True),
        ):
            line = encode_header(header)
            self.assertEqual(read_header(line + b"more"), (header, len(line)))

    def test_a_host_name_that_is_no_text_does_not_stop_a_writer(self):
        line = encode_header(HEADER._replace(host="n\udcff"))

        self.assertEqual(read_header(line)[0].host, "n\ufffd\ufffd\ufffd")

    def test_every_cut_off_header_is_incomplete(self):
        line = encode_header(HEADER)
        for cut in range(len(line)):
            self.assertRaises(IncompleteError, read_header, line[:cut])

    def test_every_changed_byte_of_a_header_is_noticed(self):
        line = encode_header(HEADER)
        for at in range(len(line)):
            for bit in range(8):
                changed = line[:at] + bytes(bytearray([line[at] ^ 1 << bit])) + line[at + 1 :]
                self.assertRaises(HeaderError, read_header, changed)

    def test_headers_that_cannot_be_are_refused(self):
        for fields in (
            {"stream": b"short"},
            {"segment": -1},
            {"segment": 1000000},
            {"base": -1},
            {"base": 2**63},
            {"pid": True},
            {"run": ""},
            {"run": ".hidden"},
            {"run": "a/b"},
            {"run": "x" * 65},
            {"rank": "0"},
            {"rank": -1},
            {"host": 5},
            {"offline": 1},
            {"stop": 1},
            {"version": "1"},
            {"machine": None},
            {"server": ""},
            {"server": 5},
            {"server": "h" * 2049},
            {"account": ""},
            {"account": "a" * 65},
            {"account": "../other"},
            {"account": ["a"]},
        ):
            line = encode_header(HEADER._replace(**fields))
            self.assertRaises(HeaderError, read_header, line)

    def test_server_and_account_are_kept_and_absent_ones_change_no_byte(self):
        both = HEADER._replace(server="https://tracker.example.org", account="4f8a1c22")

        self.assertEqual(read_header(encode_header(both))[0], both)
        self.assertNotIn(b"server", encode_header(HEADER))
        self.assertNotIn(b"account", encode_header(HEADER))

    def test_what_the_environment_said_about_gpus_is_kept(self):
        given = HEADER._replace(gpus={"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "all"})

        self.assertEqual(read_header(encode_header(given))[0], given)
        self.assertNotIn(b"gpus", encode_header(HEADER))

    def test_gpus_of_another_form_cost_the_stream_nothing(self):
        for gpus in (
            "0,1",
            ["0"],
            {},
            {"CUDA_VISIBLE_DEVICES": 0},
            {"CUDA_VISIBLE_DEVICES": "0" * 1025},
            {"v" * 1025: "0"},
            {"v%d" % index: "0" for index in range(9)},
        ):
            line = encode_header(HEADER._replace(gpus=gpus))
            self.assertEqual(read_header(line)[0], HEADER)

    def test_parent_and_role_are_kept_and_absent_ones_change_no_byte(self):
        for given in (
            HEADER._replace(parent=b"p" * 16),
            HEADER._replace(parent=b"p" * 16, role="helper"),
            HEADER._replace(role="of a later version"),
        ):
            self.assertEqual(read_header(encode_header(given))[0], given)
        self.assertNotIn(b"parent", encode_header(HEADER))
        self.assertNotIn(b"role", encode_header(HEADER))

    def test_a_parent_or_role_of_another_form_costs_the_stream_nothing(self):
        for fields in (
            {"parent": b""},
            {"parent": b"p" * 15},
            {"parent": b"p" * 17},
            {"parent": "p" * 16},
            {"parent": 5},
            {"parent": HEADER.stream},
            {"role": ""},
            {"role": "r" * 33},
            {"role": b"helper"},
            {"role": ["helper"]},
        ):
            line = encode_header(HEADER._replace(**fields))
            self.assertEqual(read_header(line)[0], HEADER)

    def test_a_newer_version_and_unknown_keys_are_read(self):
        fields = {k: v for k, v in HEADER._asdict().items() if v is not None}
        fields.update(version=9, colour="red")
        line = encode_line(0, msgpack.packb(fields, use_bin_type=True), 0)

        self.assertEqual(read_header(line)[0], HEADER._replace(version=9))


if __name__ == "__main__":
    unittest.main()
