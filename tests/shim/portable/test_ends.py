"""How runs end, on every Python: sys.exit, exceptions, forks, multiprocessing, signals, threads."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from recording import Recording

from tracker.protocol import kinds

START = """
import os, sys, tracker
tracker.init(id="run", name="n")
tracker.log({"a": 1})
"""
FORKS = unittest.skipUnless(hasattr(os, "fork"), "no fork on this system")


class Ends(Recording):
    def end(self, script, code=0):
        """Return the EXIT record of a script that logs once and goes on as given."""
        self.run_script(START + script, code)
        exits = self.stream().of(kinds.EXIT)
        self.assertEqual(len(exits), 1)
        return exits[0]

    def test_the_end_of_the_script_is_exit_0(self):
        self.assertEqual(self.end("")[1:3], (0, None))

    def test_sys_exit_is_recorded_with_its_code(self):
        for code, argument in ((3, "3"), (0, ""), (0, "None"), (1, "'message'"), (255, "-1")):
            self.setUp()
            self.assertEqual(self.end("sys.exit(%s)" % argument, code)[1:3], (code, None))

    def test_other_ways_to_say_it_are_recorded_with_their_code(self):
        ways = [
            ("sys.exit(True)", 1),
            ("sys.exit(256 + 4)", 4),
            ("sys.exit(2 ** 70)", 255),
            ("exit(5)", 5),
            ("quit(code=6)", 6),
            ("exit('the data is missing')", 1),
            ("from sys import argv, exit\nimport tracker\ntracker.init(id='other')\nexit(9)", 9),
            (
                "import threading\nthreading.Thread(target=tracker.log, args=({'b': 1},)).start()\nexit(11)",
                11,
            ),
        ]
        for script, code in ways:
            self.setUp()
            _, err = self.run_script(START + script, code)
            self.assertEqual(self.streams()[-1].exits, [code], script)
            self.assertEqual("the data is missing" in err, "data" in script)

    def test_exit_still_says_what_it_is(self):
        self.end("assert str(exit).startswith('Use exit()') and repr(quit).startswith('Use quit()'), exit")

    def test_sys_exit_that_was_caught_does_not_count(self):
        script = """
def give_up():
    sys.exit(7)
try:
    give_up()
except SystemExit as error:
    tracker.log({"caught": error.code})
"""
        self.assertEqual(self.end(script).code, 0)

    def test_sys_exit_caught_and_raised_again_counts(self):
        script = """
def main():
    try:
        sys.exit(7)
    except SystemExit as error:
        kept = error
        raise
main()
"""
        self.assertEqual(self.end(script, 7).code, 7)

    def test_sys_exit_in_a_thread_ends_only_that(self):
        script = """
import threading
thread = threading.Thread(target=sys.exit, args=(5,))
thread.start()
thread.join()
import _thread, time
started = []
def leave():
    started.append(1)
    sys.exit(6)
_thread.start_new_thread(leave, ())
while not started or _thread._count():
    time.sleep(0.001)
"""
        self.assertEqual(self.end(script).code, 0)

    def test_an_unhandled_exception_is_recorded_with_its_traceback(self):
        script = """
class Diverged(Exception): pass
def train(): raise Diverged("loss is nan")
train()
"""
        end = self.end(script, 1)
        self.assertEqual(end.code, 1)
        self.assertEqual(end.exception["type"], "__main__.Diverged")
        self.assertEqual(end.exception["message"], "loss is nan")
        self.assertIn("in train", end.exception["traceback"])

    def test_an_exception_in_a_with_block_ends_the_run_and_goes_on(self):
        self.run_script(
            """
            import tracker
            try:
                with tracker.init() as run:
                    run.log({"a": 1})
                    raise ValueError("x")
            except ValueError:
                assert tracker.run is None
            with tracker.init():
                tracker.log({"a": 2})
            try:
                with tracker.init():
                    raise SystemExit(4)
            except SystemExit:
                pass
            try:
                with tracker.init():
                    raise KeyboardInterrupt
            except KeyboardInterrupt:
                pass
            """
        )

        self.assertEqual([stream.exits for stream in self.streams()], [[1], [0], [4], [130]])

    def test_ctrl_c_is_recorded(self):
        self.run_script(START + "raise KeyboardInterrupt", 1 if sys.version_info < (3, 8) else -2)

        self.assertEqual(self.stream().exits, [130])

    def test_os_exit_leaves_no_exit_record_and_loses_nothing(self):
        self.run_script(START + "os._exit(0)")

        self.assertEqual((self.stream().exits, self.stream().metrics), ([], [(0, {"a": 1})]))

    def test_handlers_registered_after_the_import_can_still_log(self):
        self.run_script(
            """
            import atexit, tracker
            atexit.register(lambda: tracker.log({"last": 1}))
            tracker.init()
            """
        )

        self.assertEqual(self.stream().metrics, [(0, {"last": 1})])
        self.assertEqual(self.stream().exits, [0])

    def test_a_second_init_ends_the_former_run(self):
        self.run_script(
            """
            import tracker
            one = tracker.init(id="one")
            two = tracker.init(id="two")
            assert tracker.run is two
            tracker.log({"a": 2})
            one.log({"a": 1})
            """
        )

        streams = self.streams()
        self.assertEqual([stream.header.run for stream in streams], ["one", "two"])
        self.assertEqual([stream.metrics for stream in streams], [[], [(0, {"a": 2})]])
        self.assertEqual([stream.exits for stream in streams], [[0], [0]])


class Processes(Recording):
    @FORKS
    def test_a_forked_child_writes_a_stream_of_its_own(self):
        self.run_script(
            START
            + """
pid = os.fork()
if not pid:
    tracker.log({"a": 10})
    tracker.config.child = 1
    sys.exit(0)
os.waitpid(pid, 0)
tracker.log({"a": 2})
"""
        )

        parent, child = self.streams()
        self.assertNotEqual(parent.header.pid, child.header.pid)
        self.assertEqual(parent.metrics, [(0, {"a": 1}), (1, {"a": 2})])
        self.assertEqual(child.metrics, [(1, {"a": 10})])
        self.assertEqual((parent.exits, child.exits), ([0], [0]))
        self.assertEqual(child.of(kinds.RUN)[0].fields, {"project": "uncategorized"})

    @FORKS
    def test_a_forked_child_that_does_not_log_leaves_no_trace(self):
        self.run_script(
            START
            + """
pid = os.fork()
if not pid:
    sys.exit(3)
assert os.waitpid(pid, 0)[1] == 3 << 8
tracker.log({"parent": 2})
"""
        )

        self.assertEqual(self.stream().exits, [0])

    @FORKS
    def test_fork_while_another_thread_logs_does_not_hang(self):
        self.run_script(
            """
            import os, threading, tracker
            tracker.init()
            stop = threading.Event()
            def log():
                while not stop.is_set():
                    tracker.log({"thread": 1.0})
            threads = [threading.Thread(target=log) for _ in range(3)]
            for thread in threads: thread.start()
            for number in range(30):
                pid = os.fork()
                if not pid:
                    tracker.log({"child": number})
                    tracker.finish(0)
                    os._exit(0)
                assert os.waitpid(pid, 0)[1] == 0
            stop.set()
            for thread in threads: thread.join()
            """
        )

        streams = self.streams()
        self.assertEqual(len(streams), 31)
        children = [
            values["child"] for stream in streams for _, values in stream.metrics if "child" in values
        ]
        self.assertEqual(sorted(children), list(range(30)))
        self.assertEqual([stream.exits for stream in streams], [[0]] * 31)

    def test_multiprocessing_children_log_to_the_run_they_are_given(self):
        script = """
import multiprocessing, sys, tracker

def work(run, number):
    run.log({"child": number})
    tracker.log({"module": number})
    if number == 2:
        sys.exit(9)
    if number == 3:
        raise RuntimeError("child fails")

if __name__ == "__main__":
    multiprocessing.set_start_method("%s")
    run = tracker.init(id="shared", project="p")
    run.log({"parent": 1})
    children = [multiprocessing.Process(target=work, args=(run, n)) for n in range(4)]
    for child in children: child.start()
    for child in children: child.join()
    assert [child.exitcode for child in children] == [0, 0, 9, 1]
"""
        methods = ["spawn"] + (["fork", "forkserver"] if hasattr(os, "fork") else [])
        for method in methods:
            self.setUp()
            self.run_script(script % method)
            streams = self.streams()
            self.assertEqual(len(streams), 5, method)
            self.assertEqual({stream.header.run for stream in streams}, {"shared"})
            ends = {}
            for stream in streams:
                for _, values in stream.metrics:
                    ends.update(dict.fromkeys(values.items(), stream.exits))
            self.assertEqual(ends[("parent", 1)], [0])
            for name in ("child", "module"):
                found = [ends[(name, number)] for number in range(4)]
                self.assertEqual(found, [[0], [0], [9], [1]], (method, name))

    def test_threads_lose_and_mix_nothing(self):
        self.run_script(
            """
            import threading, tracker
            tracker.init()
            def work(number):
                for i in range(500):
                    tracker.log({"t%d" % number: i, "x": 1.0}, step=i)
            threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            found = dict(tracker.summary)
            assert found == dict({"t%d" % n: 499 for n in range(8)}, x=1.0), found
            """
        )

        metrics = self.stream().metrics
        self.assertEqual(len(metrics), 4000)
        for number in range(8):
            name = "t%d" % number
            mine = [(step, values[name]) for step, values in metrics if name in values]
            self.assertEqual(mine, [(i, i) for i in range(500)])

    @FORKS
    def test_a_signal_handler_may_log_while_log_is_writing(self):
        self.run_script(
            """
            import signal, time, tracker
            run = tracker.init()
            handled = []
            nested = []
            def handler(signum, frame):
                handled.append(1)
                nested.append(run._recorder.busy)
                tracker.log({"handler": len(handled)})
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + 0.000003 * (len(handled) % 100))
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, 0.0002)
            count = 0
            deadline = time.time() + 60
            while (sum(nested) < 20 or count < 2000) and time.time() < deadline:
                count += 1
                tracker.log({"main": count})
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            assert sum(nested) >= 20, "no handler ever interrupted a write"
            assert run.lost == 0
            print(count, len(handled))
            """
        )

        streams = self.streams()
        self.assertEqual(len(streams), 2)
        values = [(name, v) for s in streams for _, found in s.metrics for name, v in found.items()]
        main = [v for name, v in values if name == "main"]
        handler = sorted(v for name, v in values if name == "handler")
        self.assertEqual(main, list(range(1, len(main) + 1)))
        self.assertEqual(handler, list(range(1, len(handler) + 1)))
        self.assertEqual([stream.exits for stream in streams], [[0], [0]])

    @FORKS
    def test_finish_and_sys_exit_in_a_signal_handler_end_the_run(self):
        self.run_script(
            """
            import signal, sys, tracker
            run = tracker.init()
            def handler(signum, frame):
                tracker.log({"preempted": 1})
                tracker.finish(5)
                sys.exit(5)
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            while True:
                tracker.log({"main": 1.0})
            """,
            5,
        )

        streams = self.streams()
        self.assertEqual({tuple(stream.exits) for stream in streams}, {(5,)})
        self.assertEqual(sum("preempted" in v for stream in streams for _, v in stream.metrics), 1)

    @FORKS
    def test_ctrl_c_in_the_middle_of_log_leaves_a_usable_run(self):
        self.run_script(
            """
            import signal, sys, time, tracker
            run = tracker.init()
            class Interrupt(BaseException): pass
            def handler(signum, frame): raise Interrupt
            signal.signal(signal.SIGALRM, handler)
            count = interrupts = 0
            deadline = time.time() + 60
            while interrupts < 300 and time.time() < deadline:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.0001 + 0.00001 * (interrupts % 50))
                    while True:
                        run.log({"n": count})
                        count += 1
                except Interrupt:
                    interrupts += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            run.log({"last": 1})
            import threading
            thread = threading.Thread(target=run.log, args=({"thread": 1},))
            thread.daemon = True
            thread.start()
            thread.join(30)
            assert not thread.is_alive(), "the lock was left behind"
            print(count)
            """
        )

        # One that was interrupted while a stream was being created may leave a stub of it.
        streams = self.streams(stubs=True)
        logged = {name for stream in streams for _, values in stream.metrics for name in values}
        self.assertEqual(logged, {"n", "last", "thread"})
        numbers = [v["n"] for stream in streams for _, v in stream.metrics if "n" in v]
        # An interrupt after the write leaves log() without returning: that value is logged again.
        self.assertEqual(sorted(set(numbers)), list(range(max(numbers) + 1)))


if __name__ == "__main__":
    unittest.main()
