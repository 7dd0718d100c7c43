"""The console on every Python: what is written is shown unchanged and recorded, and its end is clean."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from recording import Recording

from tracker.protocol import kinds

LINUX = unittest.skipUnless(sys.platform.startswith("linux"), "descriptors are taken over on Linux only")

TEES = """
import os, sys, time, signal, tracker
def tees():
    # Whoever has the other end of what we write to.
    here = os.readlink("/proc/self/fd/1")
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            links = [os.readlink("/proc/%s/fd/%s" % (pid, fd)) for fd in os.listdir("/proc/%s/fd" % pid)]
        except OSError:
            continue
        if here in links and int(pid) != os.getpid():
            found.append(int(pid))
    return found
def pair():
    # Guard and worker: a child of the guard that leads a session. (Others have the pipe only at the start.)
    found = tees()
    for pid in found:
        try:
            with open("/proc/%d/stat" % pid) as file:
                parent, _, session = map(int, file.read().rpartition(")")[2].split()[1:4])
        except OSError:
            return None
        if len(found) == 2 and session == pid and parent in found:
            return [parent, pid]
def wait_for(condition):
    deadline = time.time() + 30
    while time.time() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError("it never came")
"""


class Console(Recording):
    def record(self, script, code=0, **environment):
        environment.setdefault("TRACKER_CONSOLE", "redirect")
        environment.setdefault("TRACKER_SILENT", "1")
        return self.run_script(script, code, **environment)

    def console(self, run=None):
        """Return the recorded lines: of stdout, of stderr."""
        lines = {"stdout": [], "stderr": []}
        for stream in self.streams():
            if run in (None, stream.header.run):
                for record in stream.of(kinds.CONSOLE):
                    lines[record.stream] += record.lines
        return lines["stdout"], lines["stderr"]

    @LINUX
    def test_all_that_is_written_to_the_descriptors_is_shown_and_recorded(self):
        out, err = self.record(
            """
import atexit, os, subprocess, sys, tracker
print("before")
tracker.init()
atexit.register(print, "at exit")
print("printed")
sys.stderr.write("warned\\n")
sys.stderr.flush()
sys.stdout.flush()
os.write(1, b"raw \\x1b[31mred\\x1b[0m\\r\\n")
subprocess.check_call(["sh", "-c", "echo child; echo child err >&2"])
pid = os.fork()
if not pid:
    os.write(1, b"forked\\n")
    os._exit(0)
os.waitpid(pid, 0)
print("no end ", end="")
"""
        )

        self.assertEqual(out, "before\nprinted\nraw \x1b[31mred\x1b[0m\r\nchild\nforked\nno end at exit\n")
        self.assertEqual(err, "warned\nchild err\n")
        recorded = self.console()
        self.assertEqual(recorded[0], ["printed", "raw red", "child", "forked", "no end at exit"])
        self.assertEqual(recorded[1], ["warned", "child err"])
        self.assertEqual([stream.exits for stream in self.streams()], [[0], [0]])
        roles = [(stream.header.role, stream.header.parent) for stream in self.streams()]
        self.assertEqual(roles, [(None, None), ("helper", self.streams()[0].header.stream)])

    @LINUX
    def test_after_finish_all_is_as_before_and_a_second_run_has_its_own_lines(self):
        out, _ = self.record(
            """
import os, signal, sys, tracker
def state():
    numbers = [int(fd) for fd in os.listdir("/proc/self/fd")]
    return os.fstat(1)[:3], os.fstat(2)[:3], len(numbers), signal.getsignal(signal.SIGURG)
tracker.init(id="warm").finish()  # modules that keep something open are loaded
before = state()
for name in ("one", "two"):
    tracker.init(id=name)
    print("in", name)
    assert state() != before
    tracker.finish()
    assert state() == before, (before, state())
    print("after", name)
"""
        )

        self.assertEqual(out, "in one\nafter one\nin two\nafter two\n")
        self.assertEqual(self.console("one"), (["in one"], []))
        self.assertEqual(self.console("two"), (["in two"], []))

    @LINUX
    def test_a_killed_tee_is_replaced_and_no_output_is_missing(self):
        out, _ = self.record(
            TEES
            + """
tracker.init()
for number in range(2):
    first = wait_for(pair)[number % 2]
    os.kill(first, signal.SIGKILL)
    print("after kill", number, flush=True)
    wait_for(lambda: first not in tees())
wait_for(pair)
time.sleep(0.3)
print("last")
sys.exit(5)
""",
            code=5,
        )

        self.assertEqual(out.splitlines(), ["after kill %d" % n for n in range(2)] + ["last"])
        self.assertEqual(self.console()[0][-1], "last")
        lost = [record.reason for stream in self.streams() for record in stream.of(kinds.LOST)]
        self.assertTrue(lost and all("was killed" in reason for reason in lost), lost)

    @LINUX
    def test_all_of_them_killed_at_once_leave_the_training_as_it_would_be_without(self):
        out, err = self.record(
            TEES
            + """
run = tracker.init()
found = wait_for(pair)
here = os.readlink("/proc/self/fd/1")
sys.stdout.write("x" * 1000 + "\\n")
sys.stdout.flush()
time.sleep(0.3)
for pid in found: os.kill(pid, signal.SIGSTOP)
sys.stdout.write("in the channel\\n")
sys.stdout.flush()
child = os.fork()
if not child:
    time.sleep(1)
    for _ in range(40):
        os.write(1, b"c" * 9999 + b"\\n")  # more than any pipe holds
    os._exit(0)
for pid in found: os.kill(pid, signal.SIGKILL)
wait_for(lambda: os.readlink("/proc/self/fd/1") != here)
print("after", flush=True)
assert os.waitpid(child, 0) == (child, 0)
print("the end")
""",
            TRACKER_SILENT="",
        )

        lines = out.splitlines()
        self.assertEqual(lines[:3], ["x" * 1000, "in the channel", "after"])
        self.assertEqual(lines[3:], ["c" * 9999] * 40 + ["the end"])
        self.assertIn("the processes that record the console were killed", err)
        lost = [record.reason for stream in self.streams() for record in stream.of(kinds.LOST)]
        self.assertEqual(lost, ["the processes that record the console were killed"])

    @LINUX
    def test_the_last_words_of_a_crash_are_recorded(self):
        out, err = self.record(
            """
import faulthandler, tracker
tracker.init()
faulthandler.enable()
print("about to crash", flush=True)
faulthandler._sigsegv()
""",
            code=-11,
        )

        self.assertEqual(out, "about to crash\n")
        self.assertIn("Segmentation fault", err)
        recorded = self.console()
        self.assertEqual(recorded[0], ["about to crash"])
        self.assertEqual(recorded[1], err.splitlines())

    def test_wrap_records_what_python_writes(self):
        self.record(
            """
import contextlib, io, os, sys, tracker
first = tracker.init(id="one")
print("printed", 1)
sys.stderr.write("warned\\n")
with contextlib.redirect_stdout(io.StringIO()):
    print("elsewhere")
print("\\r1%\\r100%")
sys.stdout.writelines(["a\\n", "b\\n"])
print("no end", end="")
tracker.finish()
print(" after")
assert "write" not in vars(sys.stdout)
run = tracker.init(id="below")
below = sys.stdout.write
sys.stdout.write = lambda text: below(text)
print("in")
tracker.finish()
print("out")
assert run.lost == 0
del sys.stdout.write
tracker.init(id="two")
kept, sys.stdout = sys.stdout, None
print("to nobody")
sys.stdout = kept
sys.stdout.close()
try:
    print("to a closed file")
except ValueError:
    pass
""",
            TRACKER_CONSOLE="wrap",
        )

        self.assertEqual(self.console("one"), (["printed 1", "100%", "a", "b", "no end"], ["warned"]))
        self.assertEqual(self.console("below"), (["in"], []))
        self.assertEqual(self.console("two"), ([], []))
        self.assertEqual(len(self.streams()), 3)

    def test_wrap_and_log_from_many_threads_neither_hang_nor_mix_lines(self):
        self.record(
            """
import threading, tracker
run = tracker.init()
def work(number):
    for i in range(200):
        print("%d-%d" % (number, i) + "-" * 50 + "\\n", end="")
        run.log({"x": i})
threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
""",
            TRACKER_CONSOLE="wrap",
            # Else CPython before 3.13 mixes foreign memory into what threads print at once (gh-119506).
            PYTHONUNBUFFERED="1",
        )

        wanted = {"%d-%d" % (n, i) + "-" * 50 for n in range(6) for i in range(200)}
        self.assertEqual(sorted(self.console()[0]), sorted(wanted))
        (stream,) = self.streams()
        self.assertEqual(len(stream.metrics), 1200)

    def test_write_logs_records_lines_that_nobody_sees(self):
        out, _ = self.record(
            """
import tracker
run = tracker.init()
run.write_logs("one\\ntwo")
tracker.run.write_logs("\\x1b[31mthree\\x1b[0m\\n")
run.write_logs("n\\n" * 2500)
""",
            TRACKER_CONSOLE="off",
        )

        self.assertEqual(out, "")
        self.assertEqual(self.console()[0], ["one", "two", "three"] + ["n"] * 2500)


if __name__ == "__main__":
    unittest.main()
