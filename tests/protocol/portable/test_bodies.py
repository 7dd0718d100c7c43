"""Bodies on every Python: what each kind holds, what is refused, and at what cost."""

import math
import unittest

import msgpack

from tracker.protocol import bodies
from tracker.protocol.bodies import (
    ELEMENTS_MAX,
    Alert,
    Console,
    Exit,
    File,
    Host,
    Lost,
    Metrics,
    Observed,
    Patch,
    Run,
    Sample,
    Value,
)
from tracker.protocol.errors import BodyError

TIME = 1700000000000000000
PAIRS = (
    (Metrics(TIME, 3, {"a": 1, "b": 0.5, "c": True, "d": 2**64 - 1, "e": -(2**63)}), bodies.decode_metrics),
    (Metrics(TIME, None, {}), bodies.decode_metrics),
    (Value(TIME, 1, "n", "text", "hello"), bodies.decode_value),
    (Value(TIME, None, "n", "any", {"big": [2**64 - 1, None, b"raw"]}), bodies.decode_value),
    (Value(TIME, None, "n", "any", 2**64 - 1), bodies.decode_value),
    (Console(TIME, "stdout", ["one", ""]), bodies.decode_console),
    (Patch(TIME, {"a": {"b": [1]}}, ["c"]), bodies.decode_patch),
    (Run(TIME, {"project": "p", "tags": ["x"], "future": 1}), bodies.decode_run),
    (File(TIME, "a/b", bytes(32), 2**40, "end"), bodies.decode_file),
    (Alert(TIME, "t", "x", "info"), bodies.decode_alert),
    (Exit(TIME, 0), bodies.decode_exit),
    (Exit(TIME, -9, {"type": "E", "message": "m", "traceback": "t"}), bodies.decode_exit),
    (Sample(TIME, 10**9, {"cpu": (1.0, 0.0, 2.0, 1.5, 15)}), bodies.decode_sample),
    (Host(TIME, {"cpus": 2}), bodies.decode_host),
    (Observed(TIME, 1000, bytes(16), "gone", {"pid": 1}), bodies.decode_observed),
    (Lost(TIME, 0, "disk full"), bodies.decode_lost),
)


class Bodies(unittest.TestCase):
    def test_every_body_is_read_back(self):
        for value, decode in PAIRS:
            self.assertEqual(decode(value.encode()), value)

    def test_elements_that_later_versions_append_are_ignored(self):
        for value, decode in PAIRS:
            longer = msgpack.unpackb(value.encode(), raw=False) + ["later", {"x": 1}]
            self.assertEqual(decode(msgpack.packb(longer, use_bin_type=True)), value)

    def test_an_exit_tells_facts_and_is_as_short_as_ever_without(self):
        facts = {"signal": 9, "pid": 4242}

        read = bodies.decode_exit(Exit(TIME, 137, None, facts).encode())

        self.assertEqual(read, Exit(TIME, 137, None, facts))
        self.assertEqual(msgpack.unpackb(Exit(TIME, 0).encode()), [TIME, 0, None])
        self.assertEqual(Exit(TIME, 0, None, {}).encode(), Exit(TIME, 0).encode())

    def test_facts_of_an_exit_that_are_no_map_do_not_cost_its_code(self):
        for wrong in (None, 5, "text", [1], {1: 2}):
            body = msgpack.packb([TIME, 3, None, wrong], use_bin_type=True)
            try:
                read = bodies.decode_exit(body)
            except BodyError:  # keys that are no strings are malformed anywhere
                self.assertEqual(wrong, {1: 2})
                continue
            self.assertEqual(read, Exit(TIME, 3))

    def test_a_window_names_the_stream_it_is_about_and_is_as_short_as_ever_without(self):
        values = {"cpu": (1.0, 0.0, 2.0, 1.5, 15)}
        about = (1000, bytes(range(16)))

        read = bodies.decode_sample(Sample(TIME, 10**9, values, about).encode())

        self.assertEqual(read, Sample(TIME, 10**9, values, about))
        plain = [TIME, 10**9, {"cpu": [1.0, 0.0, 2.0, 1.5, 15]}]
        self.assertEqual(msgpack.unpackb(Sample(TIME, 10**9, values).encode(), raw=False), plain)

    def test_a_window_about_what_is_no_uid_and_stream_is_about_the_machine(self):
        stream = bytes(16)
        wrongs = (
            *(
                None,
                5,
                "text",
                [],
                [1000],
                stream,
                {"uid": 1, "stream": stream},
                [True, stream],
                [1.0, stream],
            ),
            *(
                [1, bytes(15)],
                [1, bytes(17)],
                [1, "0" * 16],
                [2**63, stream],
                [2**64 - 1, stream],
                [None, stream],
            ),
        )
        for wrong in wrongs:
            body = msgpack.packb([TIME, 1, {"cpu": [1, 1, 1, 1, 1]}, wrong], use_bin_type=True)
            self.assertEqual(bodies.decode_sample(body), Sample(TIME, 1, {"cpu": (1, 1, 1, 1, 1)}), wrong)

        later = msgpack.packb([TIME, 1, {}, [7, stream, "later"], "later"], use_bin_type=True)
        self.assertEqual(bodies.decode_sample(later), Sample(TIME, 1, {}, (7, stream)))

    def test_an_alert_tells_facts_and_is_as_short_as_ever_without(self):
        facts = {"xid": 79, "gpu": "GPU-0", "lost": True, "busy": 0.5, "none": None}
        alert = Alert(TIME, "t", "x", "error", facts)

        self.assertEqual(bodies.decode_alert(alert.encode()), alert)
        self.assertEqual(
            msgpack.unpackb(Alert(TIME, "t", "x", "info").encode(), raw=False), [TIME, "t", "x", "info"]
        )
        self.assertEqual(Alert(TIME, "t", "x", "info", {}).encode(), Alert(TIME, "t", "x", "info").encode())

    def test_facts_of_an_alert_that_are_no_map_do_not_cost_its_text(self):
        for wrong in (None, 5, "text", [1], {b"bytes": 2}):
            body = msgpack.packb([TIME, "t", "x", "warn", wrong], use_bin_type=True)
            self.assertEqual(bodies.decode_alert(body), Alert(TIME, "t", "x", "warn"), wrong)

    def test_a_missing_element_is_a_body_error(self):
        for value, decode in PAIRS:
            fields = msgpack.unpackb(value.encode(), raw=False)
            for index in range(len(fields)):
                self.assertRaises(BodyError, decode, msgpack.packb(fields[:index], use_bin_type=True))

    def test_an_element_of_another_type_is_a_body_error(self):
        for value, decode in PAIRS:
            fields = msgpack.unpackb(value.encode(), raw=False)
            for index, field in enumerate(fields):
                if isinstance(value, Value) and index == 4:
                    continue
                for wrong in (b"x", 1.5, [[]], {"x": [b"y"]}):
                    takes_maps = isinstance(field, dict)
                    takes_any_map = takes_maps and isinstance(value, (Run, Host, Observed, Patch))
                    if takes_any_map and isinstance(wrong, dict):
                        continue
                    changed = fields[:index] + [wrong] + fields[index + 1 :]
                    with self.assertRaises(BodyError, msg=(value, index, wrong)):
                        decode(msgpack.packb(changed, use_bin_type=True))

    def test_a_boolean_is_no_time_and_a_huge_integer_is_none(self):
        for wrong in (True, 2**63, 2**64 - 1, 1.0, "1", None):
            self.assertRaises(BodyError, bodies.decode_metrics, bodies.pack([wrong, 0, {}]))
        self.assertRaises(BodyError, bodies.decode_lost, bodies.pack([1, -1, "x"]))

    def test_nan_infinities_and_minus_zero_survive(self):
        values = {"nan": float("nan"), "up": float("inf"), "down": float("-inf"), "zero": -0.0}

        read = bodies.decode_metrics(Metrics(1, None, values).encode()).values

        self.assertTrue(math.isnan(read["nan"]))
        self.assertEqual((read["up"], read["down"]), (float("inf"), float("-inf")))
        self.assertEqual(math.copysign(1, read["zero"]), -1)
        self.assertEqual(
            bodies.decode_metrics(b"\x93\x01\x00\x81\xa1x\xca\x3f\x00\x00\x00").values, {"x": 0.5}
        )

    def test_integers_beyond_64_bits_are_refused_as_ours(self):
        for number in (2**64, -(2**63) - 1, 10**400):
            self.assertRaises(BodyError, Metrics(1, 0, {"x": number}).encode)

    def test_what_msgpack_cannot_hold_is_refused_as_ours(self):
        endless = []
        endless.append(endless)
        for value in (object(), {1, 2}, 1j, endless):
            self.assertRaises(BodyError, Value(1, 0, "n", "t", value).encode)

    def test_lone_surrogates_are_written_and_read_as_replacement_characters(self):
        body = Console(1, "stdout", ["caf\udce9", "\ud83d", "\U0001f600"]).encode()

        lines = bodies.decode_console(body).lines

        self.assertEqual(lines, ["caf\ufffd\ufffd\ufffd", "\ufffd\ufffd\ufffd", "\U0001f600"])
        for line in lines:
            line.encode("utf-8")

    def test_bytes_that_are_no_utf8_are_read_as_replacement_characters(self):
        self.assertEqual(bodies.decode_metrics(b"\x93\x01\x00\x81\xa2\xff!\x01").values, {"\ufffd!": 1})

    def test_keys_of_maps_become_strings_at_any_depth(self):
        body = Patch(1, {"layers": {0: {"units": 8}, 1.5: None, None: [{True: 1}]}}).encode()

        self.assertEqual(
            bodies.decode_patch(body).set,
            {"layers": {"0": {"units": 8}, "1.5": None, "None": [{"True": 1}]}},
        )
        self.assertRaises(BodyError, bodies.decode_patch, b"\x93\x01\x81\x01\x02\x90")
        self.assertRaises(BodyError, bodies.decode_patch, b"\x93\x01\x81\xc4\x01a\x02\x90")

    def test_extension_types_are_refused_and_timestamps_come_as_floats(self):
        self.assertRaises(BodyError, bodies.unpack, b"\xd4\x05x")
        self.assertEqual(bodies.unpack(b"\xd6\xff\x00\x00\x00\x02"), 2.0)

    def test_what_is_too_long_to_be_read_is_refused_when_it_is_written(self):
        fits = Value(1, 0, "n", "t", [0] * ELEMENTS_MAX)
        self.assertEqual(bodies.decode_value(fits.encode()), fits)
        for data in ([0] * (ELEMENTS_MAX + 1), {"x": dict.fromkeys(map(str, range(ELEMENTS_MAX + 1)), 0)}):
            self.assertRaises(BodyError, Value(1, 0, "n", "t", data).encode)

    def test_nesting_to_500_is_read_and_more_never_hurts(self):
        for depth in (1, 100, 500):
            self.assertIsNotNone(bodies.unpack(b"\x91" * depth + b"\xc0"))
        for depth in (600, 1024, 5000, 10**6):
            for head in (
                b"\x91",
                b"\x81\xa1a",
                b"\x81",
                b"\xdd\x00\x02\x00\x00",
                b"\xdf\x00\x02\x00\x00\xa1a",
            ):
                for tail in (b"", b"\xc0", b"\x00" * 100):
                    try:
                        bodies.unpack(head * depth + tail)
                    except BodyError:
                        pass

    def test_bombs_of_huge_declared_lengths_are_body_errors(self):
        huge = b"\xff\xff\xff\xff"
        for head in (b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"):
            for body in (
                head + huge,
                head + huge + bytes(1000),
                b"\x93" * 3 + head + huge,
                (head + huge) * 500,
            ):
                self.assertRaises(BodyError, bodies.unpack, body)


if __name__ == "__main__":
    unittest.main()
