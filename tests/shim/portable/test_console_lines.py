"""From bytes to recorded lines: folding, cutting, cleaning, counting."""

import os
import random
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from tracker import _console_lines
from tracker._console_lines import LINE_BYTES_MAX, PARTIAL_WAIT_S, PROGRESS_INTERVAL_S, Budget, Lines, to_text
from tracker._console_log import ConsoleLog
from tracker.protocol import bodies, kinds


class Folding(unittest.TestCase):
    def lines(self, *parts):
        """Return the lines recorded of what was written at one moment, in these parts."""
        lines = Lines()
        found = []
        for part in parts:
            found += lines.feed(part, 0.0)
        return found + lines.flush()

    def test_lines_end_at_newlines_wherever_they_are_cut(self):
        data = "one\n\ntwo\r\nthrée\n\r10%\r20%\nend".encode("utf-8")
        for cut in range(len(data) + 1):
            self.assertEqual(
                self.lines(data[:cut], data[cut:]), ["one", "", "two", "thrée", "20%", "end"], cut
            )
        bytewise = [data[i : i + 1] for i in range(len(data))]
        self.assertEqual(self.lines(*bytewise), ["one", "", "two", "thrée", "20%", "end"])

    def test_a_progress_bar_leaves_its_last_state(self):
        self.assertEqual(self.lines(*[b"\r%d%%" % n for n in range(101)] + [b"\nnext\n"]), ["100%", "next"])

    def test_a_progress_bar_that_clears_itself_leaves_nothing(self):
        self.assertEqual(self.lines(b"\r50%", b"\r   \r", b"text\n"), ["text"])
        self.assertEqual(self.lines(b"\r50%", b"\r   \r"), [])

    def test_a_long_running_bar_is_recorded_once_per_interval(self):
        lines = Lines()
        found = []
        for second in range(int(3 * PROGRESS_INTERVAL_S)):
            found += lines.feed(b"\r%d s" % second, float(second)) + lines.due(float(second))
        found += lines.feed(b"\n", 30.0)

        self.assertEqual(found, ["10 s", "21 s", "29 s"])

    def test_a_prompt_is_recorded_after_a_while_and_its_rest_after_it(self):
        lines = Lines()

        self.assertEqual(lines.feed(b"continue? ", 0.0), [])
        self.assertEqual(lines.due(PARTIAL_WAIT_S - 0.1), [])
        self.assertEqual(lines.due(PARTIAL_WAIT_S), ["continue? "])
        self.assertEqual(lines.due(PARTIAL_WAIT_S + 100), [])
        self.assertEqual(lines.feed(b"yes\n", 200.0), ["yes"])

    def test_a_state_that_was_recorded_is_not_recorded_again_when_its_line_ends(self):
        lines = Lines()
        lines.feed(b"\r50%", 0.0)

        self.assertEqual(lines.due(PROGRESS_INTERVAL_S), ["50%"])
        self.assertEqual(lines.feed(b"\r50%\n", PROGRESS_INTERVAL_S + 1), [])

    def test_bars_below_each_other_leave_their_last_states_and_one_line_per_interval(self):
        lines = Lines()
        found = lines.feed(b"start\n", 0.0)
        for second in range(25):
            for inner in range(10):
                for written in (b"\router %d" % second, b"\n", b"\rinner %d" % inner, b"\x1b[A"):
                    found += lines.feed(written, second + inner / 10.0)
                found += lines.due(second + inner / 10.0)
        found += lines.feed(b"\n\n", 25.0) + lines.feed(b"end\n", 25.0) + lines.flush()

        self.assertEqual(
            found,
            ["start", "outer 0", "outer 10", "inner 0", "outer 20", "outer 24", "inner 9", "end"],
        )

    def test_after_the_bars_lines_are_recorded_as_they_end_again(self):
        lines = Lines()
        lines.feed(b"\ra\n\rb\x1b[A\rc\n\n", 0.0)

        self.assertEqual(lines.due(PROGRESS_INTERVAL_S), ["c", "b"])
        self.assertEqual(lines.feed(b"next\n", PROGRESS_INTERVAL_S + 1), ["next"])

    def test_what_colours_and_moves_bars_may_come_in_any_pieces(self):
        data = b"\x1b[?25l\x1b[2Kone\n\x1b[32mtwo\x1b[0m\r\x1b[1A\x1b[2Kone 50%\n\x1b[2Ktwo 70%\r\x1b[1A"
        data += b"\x1b[2K\x1b[31mone 100%\x1b[0m\r\n\x1b[2Ktwo 100%\n\x1b[?25hend\n"
        for size in range(1, len(data)):
            found = self.lines(*[data[at : at + size] for at in range(0, len(data), size)])
            self.assertEqual(found[-3:], ["one 100%", "two 100%", "end"], size)

    def test_a_long_listing_below_bars_is_recorded_whole(self):
        listing = [b"line %d" % number for number in range(500)]
        found = self.lines(b"\rbar\x1b[A\r", b"\n".join(listing) + b"\n")

        self.assertEqual(found[:2], ["line 0", "line 1"])
        self.assertEqual(len(found), 500)

    def test_long_lines_are_cut_and_say_how_much_is_missing(self):
        (line,) = self.lines(b"x" * LINE_BYTES_MAX + b"y" * 500 + b"\n")
        self.assertEqual(line, "x" * LINE_BYTES_MAX + "… (500 more bytes)")
        (line,) = self.lines(*[b"x" * 1000] * 1000)
        self.assertEqual(line, "x" * LINE_BYTES_MAX + "… (%d more bytes)" % (1000000 - LINE_BYTES_MAX))

    def test_escape_sequences_and_controls_go_and_text_stays(self):
        for written, text in (
            (b"\x1b[1;31mred\x1b[0m", "red"),
            (b"\x1b]0;title\x07shown\x1b]8;;http://x\x1b\\link", "shownlink"),
            (b"a\x1b[2K\x1b[1Ab\x1b(Bc\x1b", "abc"),
            (b"10\b\b20", "20"),
            (b"\b\bx", "x"),
            (b"tab\there\x00\x07\x7f", "tab\there"),
            (b"\xff\xfe binary \x80", "�� binary �"),
            ("日本 ✓".encode("utf-8"), "日本 ✓"),
        ):
            self.assertEqual(to_text(written), text)

    def test_memory_stays_bounded_whatever_comes(self):
        seed = random.randrange(2**32)
        choose = random.Random(seed)
        lines = Lines()
        for _ in range(300):
            data = choose.choice([b"\r", b"x", b"\x1b[", b"\n", b"\b"]) * choose.randrange(50000)
            lines.feed(data, 0.0)
            self.assertLessEqual(len(lines._rest), LINE_BYTES_MAX, seed)


class Limits(unittest.TestCase):
    def test_beyond_the_budget_lines_are_counted_and_recording_goes_on_later(self):
        records = []
        budget = Budget(10000, 1000)
        log = ConsoleLog(lambda kind, body: records.append((kind, body)), lambda: 7, budget=budget)
        written = 0
        for second in range(100):
            for _ in range(20):
                log.feed("stdout", b"%06d %s\n" % (written, b"x" * 200), float(second))
                written += 1
            log.tick(float(second))
        log.end(100.0)

        lines, lost = [], 0
        for kind, body in records:
            if kind == kinds.CONSOLE:
                lines += [int(line[:6]) for line in bodies.decode_console(body).lines]
            else:
                self.assertIn("bytes/s", bodies.decode_lost(body).reason)
                lost += bodies.decode_lost(body).records
        self.assertEqual(len(lines) + lost, written)
        self.assertEqual(lines, sorted(lines))
        self.assertGreater(lost, written // 3)
        self.assertGreater(len(lines), 100000 // 250)
        self.assertGreater(max(lines), written * 0.9)

    def test_records_keep_the_order_of_both_streams(self):
        records = []
        log = ConsoleLog(lambda kind, body: records.append(bodies.decode_console(body)), lambda: 7)
        for stream, data in (("stdout", b"a\nb\n"), ("stderr", b"c\n"), ("stdout", b"d\n")):
            log.feed(stream, data, 0.0)
        log.end(0.0)

        self.assertEqual(
            [(record.stream, record.lines) for record in records],
            [("stdout", ["a", "b"]), ("stderr", ["c"]), ("stdout", ["d"])],
        )

    def test_lines_wait_for_each_other_and_not_for_long(self):
        records = []
        log = ConsoleLog(lambda kind, body: records.append(bodies.decode_console(body).lines), lambda: 7)
        log.feed("stdout", b"a\n", 0.0)
        log.feed("stdout", b"b\n", 0.05)
        log.tick(0.05)
        self.assertEqual(records, [])
        self.assertEqual(log.next_tick(), 0.1)
        log.tick(0.11)

        self.assertEqual(records, [["a", "b"]])

    def test_no_record_grows_without_bound(self):
        records = []
        log = ConsoleLog(lambda kind, body: records.append(body), lambda: 7)
        log.feed("stdout", b"\n" * 200000 + (b"x" * 1000 + b"\n") * 5000, 0.0)
        log.end(0.0)

        self.assertLess(max(map(len, records)), 128 * 1024)
        self.assertEqual(sum(len(bodies.decode_console(body).lines) for body in records), 205000)

    def test_the_limits_are_what_the_documentation_says(self):
        self.assertEqual(_console_lines.BYTES_PER_S, 64 * 1024)
        self.assertEqual(_console_lines.BURST_BYTES, 16 * 1024 * 1024)


if __name__ == "__main__":
    unittest.main()
