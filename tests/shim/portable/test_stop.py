"""A request to stop, on every Python: the file `stop` ends a run that allows it, and no other."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from recording import Recording

from tracker.protocol import kinds

START = """
import json, os, signal, sys, threading, time, tracker
run = tracker.init(id="run", name="n", allow_stop=True)
stop = os.path.join(run.dir, "stop")
def ask(by="ada"):
    with open(stop + ".new", "w") as file:
        json.dump({"request": 7, "by": by, "asked": 1}, file)
    os.rename(stop + ".new", stop)
def soon():
    run._look_at = 0  # a second is over
tracker.log({"a": 1})
"""
POSIX = unittest.skipUnless(hasattr(os, "fork"), "signals and forks of POSIX")


class Stop(Recording):
    def end(self, script, code=0, start=START, **environment):
        """Return the EXIT of a script that allows to be stopped and goes on as given."""
        self.run_script(start + script, code, **environment)
        exits = [each for stream in self.streams() for each in stream.of(kinds.EXIT)]
        self.assertEqual(len(exits), 1)
        return exits[0]

    def test_log_raises_keyboard_interrupt_once_and_the_exit_says_who_asked(self):
        script = """
ask()
soon()
try:
    tracker.log({"a": 2})
    sys.exit(5)
except KeyboardInterrupt as error:
    assert "ada" in str(error), error
ask("bob")
assert run._look_at > 2**62
tracker.log({"a": 3})
"""
        end = self.end(script)

        self.assertEqual((end.code, end.facts), (0, {"stopped_by": "ada", "request": 7}))
        self.assertEqual(self.stream().metrics, [(0, {"a": 1}), (1, {"a": 2}), (2, {"a": 3})])
        self.assertIs(self.stream().header.stop, True)

    def test_a_script_that_catches_nothing_ends_as_by_ctrl_c(self):
        # Older Pythons do not die by the signal themselves.
        code = -2 if os.name != "nt" and sys.version_info >= (3, 8) else 1
        end = self.end('ask()\nsoon()\ntracker.log({"a": 2})', code)

        self.assertEqual((end.code, end.exception["type"]), (130, "KeyboardInterrupt"))
        self.assertEqual(end.facts["stopped_by"], "ada")

    def test_an_empty_file_is_a_request_and_so_is_one_that_is_no_json(self):
        for content in ("", "\\x00" * 9):
            self.setUp()
            script = """
open(stop, "w").write(%r)
soon()
try:
    tracker.log({"a": 2})
    sys.exit(5)
except KeyboardInterrupt:
    pass
"""
            self.assertIn("stopped_by", self.end(script % content).facts)

    def test_the_file_is_looked_for_at_most_once_a_second(self):
        script = """
looks = []
run._mark = lambda: looks.append(1)
soon()
began = time.time()
for step in range(2000):
    tracker.log({"a": step})
assert len(looks) <= 1 + int(time.time() - began), len(looks)
"""
        self.assertIsNone(self.end(script).facts)

    def test_a_run_that_does_not_allow_it_takes_no_notice(self):
        script = """
import os, tracker
run = tracker.init(id="run", name="n")
open(os.path.join(run.dir, "stop"), "w").close()
assert type(run).__name__ == "Run" and "log" not in vars(run)
for step in range(3):
    tracker.log({"a": step})
"""
        self.assertIsNone(self.end(script, start="").facts)
        self.assertIsNone(self.stream().header.stop)

    def test_the_variable_allows_it_too_and_the_argument_stands_before_it(self):
        script = """
import tracker
print(type(tracker.init(name="n")).__name__)
tracker.finish()
print(type(tracker.init(name="n", allow_stop=False)).__name__)
"""
        out, _ = self.run_script(script, TRACKER_ALLOW_STOP="1")
        self.assertEqual(out.split(), ["StoppableRun", "Run"])

    def test_a_file_from_before_a_resume_is_ignored_until_another_takes_its_place(self):
        before = """
import os, tracker
run = tracker.init(id="run", name="n", allow_stop=True)
open(os.path.join(run.dir, "stop"), "w").close()
"""
        self.run_script(before)
        script = """
soon()
tracker.log({"a": 2})
ask()
soon()
try:
    tracker.log({"a": 3})
    sys.exit(5)
except KeyboardInterrupt:
    pass
"""
        self.run_script(START + script)

        second = self.streams()[1]
        self.assertEqual(second.of(kinds.EXIT)[0].facts["stopped_by"], "ada")
        self.assertEqual([step for step, _ in second.metrics], [0, 1, 2])

    def test_a_directory_a_link_or_a_pipe_named_stop_is_no_request(self):
        script = """
for make in (os.mkdir, lambda path: os.symlink("/etc/passwd", path), os.mkfifo):
    make(stop)
    soon()
    tracker.log({"a": 2})
    (os.rmdir if os.path.isdir(stop) else os.unlink)(stop)
"""
        if hasattr(os, "mkfifo"):
            self.assertIsNone(self.end(script).facts)

    @POSIX
    def test_log_in_another_thread_interrupts_the_main_thread_where_it_waits(self):
        script = """
def train():
    ask()
    soon()
    tracker.log({"a": 2})
thread = threading.Thread(target=train)
try:
    thread.start()
    time.sleep(60)
    sys.exit(5)
except KeyboardInterrupt:
    thread.join()
"""
        self.assertEqual(self.end(script).facts["stopped_by"], "ada")

    @POSIX
    def test_it_comes_through_where_sigint_is_ignored_as_in_a_background_job(self):
        script = """
signal.signal(signal.SIGINT, signal.SIG_IGN)
ask()
soon()
def train():
    tracker.log({"a": 2})
try:
    if "thread" in sys.argv:
        threading.Thread(target=train).start()
        while True:
            time.sleep(0.001)
    train()
    sys.exit(5)
except KeyboardInterrupt:
    pass
"""
        self.assertEqual(self.end(script).facts["stopped_by"], "ada")
        self.setUp()
        self.assertEqual(self.end("sys.argv.append('thread')\n" + script).facts["stopped_by"], "ada")

    @POSIX
    def test_a_handler_of_the_script_ends_it_in_its_own_way(self):
        script = """
ended = []
signal.signal(signal.SIGINT, lambda *_: ended.append(1))
ask()
soon()
tracker.log({"a": 2})
while not ended:
    time.sleep(0.001)
"""
        end = self.end(script)

        self.assertEqual((end.code, end.facts["stopped_by"]), (0, "ada"))

    @POSIX
    def test_a_fork_is_not_what_was_asked_to_stop(self):
        script = """
ask()
soon()
if os.fork() == 0:
    tracker.log({"b": 1})
    os._exit(0)
assert os.wait()[1] == 0
os.unlink(stop)
"""
        self.assertIsNone(self.end(script).facts)
        self.assertEqual([stream.header.stop for stream in self.streams()], [True, None])


if __name__ == "__main__":
    unittest.main()
