"""Lines under another stream id: each as long as it was, whole, and turned back into what they were."""

import os
import unittest

import msgpack

from tracker.protocol.codec import Seeds, encode_line, scan_lines
from tracker.protocol.errors import HeaderError
from tracker.protocol.header import read_header
from tracker.protocol.kinds import HEADER
from tracker.protocol.renaming import rename_lines, renamed_id

HERE = os.path.dirname(os.path.abspath(__file__))
V1 = os.path.join(os.path.dirname(os.path.dirname(HERE)), "golden", "v1")
NEW = bytes(range(200, 216))


def segments(case):
    """Return (number, bytes) of the segments of a golden stream."""
    found = []
    for name in sorted(os.listdir(os.path.join(V1, case))):
        if name.endswith(".mpl"):
            with open(os.path.join(V1, case, name), "rb") as file:
                found.append((int(name.split(".")[1]), file.read()))
    return found


class RenamedLines(unittest.TestCase):
    def test_every_kind_of_line_is_whole_under_the_new_id_and_keeps_its_place(self):
        for case in ("every_kind", "two_segments", "newer_version", "malformed_bodies", "stream_as_data"):
            for number, data in segments(case):
                header, start = read_header(data)
                before = scan_lines(data[start:], Seeds(header.stream, number))
                whole = data[: start + before.end]

                renamed = rename_lines(whole, header.stream, number, NEW)

                again, begin = read_header(renamed)
                after = scan_lines(renamed[begin:], Seeds(NEW, number))
                self.assertEqual((len(renamed), begin, after.end), (len(whole), start, before.end))
                self.assertEqual(again, header._replace(stream=NEW))
                self.assertEqual(
                    [(kind, body) for kind, _, body in after.lines],
                    [(kind, body) for kind, _, body in before.lines],
                )
                self.assertEqual(rename_lines(renamed, NEW, number, header.stream), whole)

    def test_lines_from_the_middle_of_a_segment_are_renamed_too(self):
        number, data = segments("every_kind")[0]
        header, start = read_header(data)
        rest = data[start:]

        self.assertEqual(
            rename_lines(rest, header.stream, number, NEW),
            rename_lines(data, header.stream, number, NEW)[start:],
        )
        self.assertEqual(rename_lines(b"", header.stream, number, NEW), b"")

    def test_what_a_header_says_beyond_todays_keys_stays(self):
        number, data = segments("every_kind")[0]
        header, _ = read_header(data)
        fields = dict(header._asdict(), colour={"deep": [1, b"\x00"]}, run="r")
        fields = {name: value for name, value in fields.items() if value is not None}
        line = encode_line(HEADER, msgpack.packb(fields, use_bin_type=True), 0)

        renamed = rename_lines(line, header.stream, number, NEW)

        self.assertEqual(len(renamed), len(line))
        start = len(line) - len(msgpack.packb(fields, use_bin_type=True))
        self.assertEqual(msgpack.unpackb(renamed[start:], raw=False), dict(fields, stream=NEW))

    def test_what_is_no_whole_line_of_that_segment_is_refused(self):
        number, data = segments("every_kind")[0]
        header, _ = read_header(data)
        for wrong in (data[:-1], data + b"\x93", data[:-1] + bytes([data[-1] ^ 1])):
            with self.assertRaises(ValueError):
                rename_lines(wrong, header.stream, number, NEW)
        with self.assertRaises(ValueError):
            rename_lines(data, header.stream, number + 1, NEW)
        with self.assertRaises(HeaderError):
            rename_lines(data, NEW, number, header.stream)

    def test_new_id_is_always_the_same_and_differs_by_machine_and_by_time(self):
        ids = [
            renamed_id(NEW, "a"), renamed_id(NEW, "b"), renamed_id(NEW, "a", 2), renamed_id(bytes(16), "a"),
            renamed_id(NEW, "\udc80"),
        ]  # fmt: skip

        self.assertEqual(renamed_id(NEW, "a"), ids[0])
        self.assertEqual(len(set(ids)), len(ids))
        self.assertEqual({len(each) for each in ids}, {16})
        self.assertEqual(renamed_id(bytes(16), "a").hex(), "8f5b455f685ee9b7f3833e2757cc60a1")


if __name__ == "__main__":
    unittest.main()
