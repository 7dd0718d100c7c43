"""Which process a stream came from, and what processes do to each other, on every Python."""

import os
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from recording import Recording

from tracker.protocol import kinds

FORKS = unittest.skipUnless(hasattr(os, "fork"), "no fork on this system")
START = """
import os, signal, sys, time, tracker
run = tracker.init(id="run", name="n")
tracker.log({"main": 1})
"""


def by_name(streams):
    """Return the streams by the first metric that each recorded."""
    return {sorted(stream.metrics[0][1])[0]: stream for stream in streams}


class Parents(Recording):
    @FORKS
    def test_forks_and_forks_of_forks_name_the_stream_they_came_from(self):
        self.run_script(
            START
            + """
if not os.fork():
    tracker.log({"child": 1})
    if not os.fork():
        tracker.log({"grandchild": 1})
        os._exit(0)
    os.wait()
    if not os.fork():
        os._exit(0)
    os.wait()
    sys.exit(0)
os.wait()
if not os.fork():
    if not os.fork():
        tracker.log({"other": 1})
        os._exit(0)
    os.wait()
    os._exit(0)
os.wait()
"""
        )

        found = by_name(self.streams())
        parents = {name: stream.header.parent for name, stream in found.items()}
        self.assertEqual(
            parents,
            {
                "main": None,
                "child": found["main"].header.stream,
                "grandchild": found["child"].header.stream,
                "other": found["main"].header.stream,  # what is between them never wrote
            },
        )
        self.assertEqual({stream.header.role for stream in found.values()}, {None})
        self.assertEqual(
            {name: stream.exits for name, stream in found.items()},
            {"main": [0], "child": [0], "grandchild": [], "other": []},
        )

    def test_processes_that_are_given_the_run_name_the_stream_of_the_giver(self):
        script = """
import multiprocessing, tracker

def inner(run):
    run.log({"inner": 1})

def outer(run):
    run.log({"outer": 1})
    process = multiprocessing.Process(target=inner, args=(run,))
    process.start()
    process.join()

if __name__ == "__main__":
    multiprocessing.set_start_method("%s")
    run = tracker.init(id="run")
    run.log({"main": 1})
    process = multiprocessing.Process(target=outer, args=(run,))
    process.start()
    process.join()
"""
        for method in ["spawn"] + (["forkserver"] if hasattr(os, "fork") else []):
            self.setUp()
            self.run_script(script % method)
            found = by_name(self.streams())
            self.assertEqual(found["main"].header.parent, None)
            self.assertEqual(found["outer"].header.parent, found["main"].header.stream, method)
            self.assertEqual(found["inner"].header.parent, found["outer"].header.stream, method)

    @FORKS
    def test_workers_of_a_pool_that_is_terminated_are_children_without_an_exit(self):
        self.run_script(
            """
import multiprocessing, os, time, tracker

def work(number):
    tracker.log({"worker": number})
    return number

def hold(number):
    tracker.log({"worker": number})
    open("held-%d" % number, "w").close()
    time.sleep(600)

if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    run = tracker.init(id="run")
    run.log({"main": 1})
    with multiprocessing.Pool(2) as pool:
        assert pool.map(work, range(4)) == [0, 1, 2, 3]
        pool.map_async(hold, [4, 5])
        deadline = time.time() + 60
        while time.time() < deadline:
            if os.path.exists("held-4") and os.path.exists("held-5"):
                break
            time.sleep(0.01)
"""
        )

        found = self.streams()
        main = [stream for stream in found if stream.header.parent is None]
        self.assertEqual([stream.exits for stream in main], [[0]])
        workers = [stream for stream in found if stream.header.parent is not None]
        self.assertTrue(workers)
        self.assertEqual({stream.header.parent for stream in workers}, {main[0].header.stream})
        self.assertTrue([stream for stream in workers if not stream.exits])

    @FORKS
    def test_what_a_signal_handler_writes_within_a_record_belongs_to_its_process(self):
        self.run_script(
            START
            + """
recorder = run._recorder
with recorder.lock:
    recorder.busy = True  # as if a signal had come in the middle of a write
    tracker.log({"handler": 1})
    recorder.busy = False
"""
        )

        found = by_name(self.streams())
        self.assertEqual(found["handler"].header.parent, found["main"].header.stream)
        self.assertEqual([found[name].exits for name in ("main", "handler")], [[0], [0]])

    def test_a_run_goes_on_in_a_stream_that_says_so_where_its_descriptors_were_closed(self):
        self.run_script(
            START
            + """
os.closerange(3, 4096)
tracker.log({"lost": 1})
tracker.log({"second": 1})
if hasattr(os, "fork") and not os.fork():
    tracker.log({"third": 1})
    os._exit(0)
if hasattr(os, "fork"):
    os.wait()
"""
        )

        found = by_name(self.streams())
        first, second = found["main"], found["second"]
        self.assertEqual((first.header.role, first.header.parent), (None, None))
        self.assertEqual((second.header.role, second.header.parent), ("again", first.header.stream))
        if "third" in found:
            self.assertEqual((found["third"].header.role), None)
            self.assertEqual(found["third"].header.parent, second.header.stream)

    def test_a_run_whose_descriptors_were_closed_before_it_ended_has_an_exit(self):
        self.run_script(START + "os.closerange(3, 4096)\nsys.exit(5)", 5)

        first, second = self.streams()
        self.assertEqual((first.exits, second.exits), ([], [5]))
        self.assertEqual(second.of(kinds.LOST), [])
        self.assertEqual((second.header.role, second.header.parent), ("again", first.header.stream))

    def test_records_never_go_into_files_that_are_opened_under_numbers_of_closed_ones(self):
        self.run_script(
            START
            + """
os.closerange(3, 4096)
files = [open("file-%d" % number, "wb", buffering=0) for number in range(20)]
for step in range(20):
    tracker.log({"step": step})
for file in files:
    file.write(b"mine")
    file.close()
for number in range(20):
    with open("file-%d" % number, "rb") as file:
        assert file.read() == b"mine"
"""
        )

        values = [values for stream in self.streams() for _, values in stream.metrics]
        self.assertEqual(values, [{"main": 1}] + [{"step": step} for step in range(1, 20)])


class Loading(Recording):
    """A fork while another thread loads a module of ours for the first time."""

    SCRIPT = """
import os, signal, sys, threading, time, tracker
%(before)s
entered = threading.Event()
class Slow(object):
    def find_spec(self, name, path=None, target=None):
        if name == %(module)r:
            entered.set()
            time.sleep(0.1)
sys.meta_path.insert(0, Slow())
open("file", "w").close()
def call():
    %(call)s
thread = threading.Thread(target=call)
thread.start()
entered.wait()
assert %(module)r not in sys.modules
child = os.fork()
if not child:
    signal.alarm(30)
    call()
    os._exit(0)
print("child", os.waitpid(child, 0)[1], "loaded", %(module)r in sys.modules)
thread.join()
"""

    @FORKS
    @unittest.skipIf(sys.version_info < (3, 7), "no hook of forks in this Python")
    def test_a_child_can_load_what_a_thread_was_loading_at_the_fork(self):
        init = "run = tracker.init(id='run')"
        calls = [
            ("tracker._start", "tracker.init(id='run')", ""),
            ("tracker._files", "assert run.save('file', policy='now')", init),
            ("tracker._rich.table", "tracker.log({'t': [1, 2, 3], 'm': object()})", init),
            ("tracker._define", "assert run.define_metric('a')", init),
            ("tracker._kept", "run.restore('none')", init),
        ]
        for module, call, before in calls:
            self.setUp()
            out, _ = self.run_script(self.SCRIPT % {"module": module, "call": call, "before": before})
            self.assertEqual(out, "child 0 loaded True\n", module)

    @FORKS
    @unittest.skipIf(sys.version_info < (3, 7), "no hook of forks in this Python")
    def test_a_fork_waits_no_longer_than_it_must_and_its_child_does_without(self):
        before = "import tracker._loading\ntracker._loading.WAIT_S = 0.01\nrun = tracker.init(id='run')"
        call = "print('kept', len(run.save('file', policy='now')), flush=True)"
        out, err = self.run_script(
            self.SCRIPT % {"module": "tracker._files", "call": call, "before": before}
            + "if not os.fork(): os._exit(0)\nos.wait()\n"
        )

        self.assertEqual(sorted(out.splitlines()), ["child 0 loaded True", "kept 0", "kept 1"])
        self.assertEqual(err.count("another thread was loading modules"), 1)
        self.assertNotIn("Traceback", err)


class Signals(Recording):
    """A training gets signals; what it would do without Tracker is what it does."""

    def start(self, script):
        """Start a script; return the process once it has written `ready` to its stdout."""
        path = os.path.join(self.spool, "script.py")
        with open(path, "w") as file:
            file.write(START + script)
        process = subprocess.Popen(
            [sys.executable, "-u", path],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environ(),
            cwd=self.spool,
        )
        self.addCleanup(self.end, process)
        self.assertEqual(process.stdout.readline().strip(), b"ready")
        return process

    def end(self, process):
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()
        process.stderr.close()

    def finish(self, process):
        """Return the exit code and stderr of a process that ends."""
        _, err = process.communicate(timeout=60)
        return process.returncode, err.decode()

    @FORKS
    def test_ctrl_c_once_and_twice(self):
        waits = """
try:
    tracker.log({"step": 1})
    print("ready")
    while True:
        tracker.log({"step": 1})
        time.sleep(0.001)
except KeyboardInterrupt:
    print("once")
    tracker.log({"interrupted": 1})
%s
"""
        once = self.start(waits % "    raise")
        once.send_signal(signal.SIGINT)
        code, err = self.finish(once)
        self.assertEqual(code, 1 if sys.version_info < (3, 8) else -signal.SIGINT)
        self.assertEqual(err.count("Traceback"), 1, err)
        first = self.stream()
        self.assertEqual((first.exits, first.metrics[-1][1]), ([130], {"interrupted": 1}))

        self.setUp()
        twice = self.start(waits % "    time.sleep(600)")
        twice.send_signal(signal.SIGINT)
        self.assertEqual(twice.stdout.readline().strip(), b"once")
        time.sleep(0.05)
        twice.send_signal(signal.SIGINT)
        code, err = self.finish(twice)
        self.assertEqual(code, 1 if sys.version_info < (3, 8) else -signal.SIGINT)
        self.assertEqual(self.stream().exits, [130])
        self.assertEqual(self.stream().of(kinds.EXIT)[0].exception["type"], "KeyboardInterrupt")

    @FORKS
    def test_sigterm_kills_at_once_and_loses_nothing(self):
        process = self.start(
            """
for step in range(1000):
    tracker.log({"step": step})
print("ready")
time.sleep(600)
"""
        )
        process.terminate()

        self.assertEqual(self.finish(process)[0], -signal.SIGTERM)
        stream = self.stream()
        self.assertEqual((stream.exits, len(stream.metrics)), ([], 1001))

    @FORKS
    def test_a_job_that_is_preempted_keeps_what_it_logged_in_its_grace_time(self):
        """SIGCONT, SIGTERM, a while, SIGKILL: what Slurm sends."""
        script = """
stopping = []
signal.signal(signal.SIGCONT, lambda *args: tracker.log({"continued": 1}))
signal.signal(signal.SIGTERM, lambda *args: stopping.append(1))
step = 0
while not stopping:
    tracker.log({"step": step})
    if not step:
        print("ready")
    step += 1
    time.sleep(0.001)
tracker.log({"checkpoint": step})
%s
"""
        graceful = self.start(script % 'tracker.summary["preempted"] = True\nsys.exit(143)')
        graceful.send_signal(signal.SIGCONT)
        graceful.send_signal(signal.SIGTERM)
        self.assertEqual(self.finish(graceful)[0], 143)
        exits = [stream.exits for stream in self.streams()]
        self.assertEqual(exits, [[143]] * len(exits))
        self.assertEqual(self.names(), {"main", "step", "continued", "checkpoint"})

        self.setUp()
        stubborn = self.start(script % 'print("saving")\ntime.sleep(600)')
        stubborn.send_signal(signal.SIGCONT)
        stubborn.send_signal(signal.SIGTERM)
        self.assertEqual(stubborn.stdout.readline().strip(), b"saving")
        stubborn.kill()
        self.assertEqual(self.finish(stubborn)[0], -signal.SIGKILL)
        self.assertEqual(self.names(), {"main", "step", "continued", "checkpoint"})

    def names(self):
        return {name for stream in self.streams() for _, values in stream.metrics for name in values}

    @FORKS
    def test_exec_of_another_program_ends_the_stream_and_disturbs_nobody(self):
        out, _ = self.run_script(
            START
            + """
sys.stdout.flush()
count = "import os, sys; print(len(os.listdir('/dev/fd'))); sys.exit(7)"
os.execv(sys.executable, [sys.executable, "-c", count])
""",
            7,
        )

        self.assertEqual(self.stream().metrics, [(0, {"main": 1})])
        self.assertEqual(self.stream().exits, [])
        inherited, _ = self.run_script("import os; print(len(os.listdir('/dev/fd')))")
        self.assertEqual(out, inherited)


class Interrupts(Recording):
    """An exception from a signal handler, such as Ctrl-C, at every bytecode of what a training calls."""

    @unittest.skipIf(sys.version_info < (3, 7), "no tracing of bytecodes in this Python")
    def test_no_interrupt_leaves_anything_behind(self):
        out, _ = self.run_script(
            """
import opcode, os, sys, threading, tracker
nothing = {opcode.opmap.get("NOP"), opcode.opmap.get("NOT_TAKEN")}
shim = os.path.dirname(tracker.__file__)
run = tracker.init(id="run")

class Interrupt(BaseException):
    pass

def interrupted(call, number):
    # Return whether `call` had so many bytecodes; the last of them raised.
    left = [number]
    def trace(frame, event, argument):
        if not frame.f_code.co_filename.startswith(shim):
            return None
        frame.f_trace_opcodes = True
        # No signal is looked for where nothing is done, and what is raised there is beside the tables of
        # `try` and `with`.
        if event == "opcode" and bytearray(frame.f_code.co_code)[frame.f_lasti] not in nothing:
            left[0] -= 1
            if not left[0]:
                raise Interrupt
        return trace
    sys.settrace(trace)
    try:
        call()
    except Interrupt:
        pass
    finally:
        sys.settrace(None)
    return left[0] <= 0

def check(what, number):
    assert not run._recorder.busy, (what, number)
    thread = threading.Thread(target=run.log, args=({"thread": number}, number))
    thread.daemon = True
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), ("the lock was left behind", what, number)

def read_summary():
    run.log({"n": 1}, number)
    run.summary["n"]

calls = {
    "numbers": lambda: run.log({"n": number}, number),
    "text": lambda: run.log({"n": number, "text": "t"}, number),
    "too large": lambda: run.log({"n": 2**70}, number),
    "config": lambda: run.config.update({"n": number}, allow_val_change=True),
    "summary": read_summary,
}
for name in sorted(calls):
    calls_before = calls[name]
    number = 0
    calls_before()
    interrupted(calls_before, 10**9)  # Python 3.12 traces bytecodes from the second time on
    while True:
        number += 1
        reached = interrupted(calls[name], number)
        check(name, number)
        if not reached:
            break
    print(name, number > 50)
tracker.finish()
number = 0
reached = True
while reached:
    number += 11  # each takes an init()
    other = tracker.init(id="ended-%d" % number)
    reached = interrupted(other.finish, number)
    other.finish()
print("finish", number > 200)
"""
        )

        names = ("config", "numbers", "summary", "text", "too large", "finish")
        self.assertEqual(out.splitlines(), [name + " True" for name in names])
        streams = self.streams(stubs=True)
        ended = [stream.exits for stream in streams if stream.header.run != "run"]
        self.assertLessEqual({tuple(each) for each in ended}, {(0,), ()})
        # Only between the decision to write it and the write itself can an EXIT be missed.
        self.assertLess(ended.count([]), len(ended) / 2)
        self.assertEqual([stream.exits for stream in streams if stream.header.run == "run"], [[0]])


class Shutdown(Recording):
    """Logging while the interpreter is on its way out."""

    def test_exit_handlers_log_whether_they_were_registered_before_or_after_the_import(self):
        _, err = self.run_script(
            """
            import atexit
            atexit.register(lambda: tracker.log({"registered before": 1}))
            import tracker
            atexit.register(lambda: tracker.log({"registered after the import": 1}))
            run = tracker.init(id="run")
            atexit.register(lambda: tracker.log({"registered after init": 1}))
            tracker.log({"main": 1})
            """
        )

        names = [name for _, values in self.stream().metrics for name in values]
        # What runs after the run's end cannot be in it; that is said and harms nobody.
        self.assertEqual(names, ["main", "registered after init", "registered after the import"])
        self.assertEqual(self.stream().exits, [0])
        self.assertEqual(err.count("log() after finish()"), 1, err)
        self.assertNotIn("Traceback", err)

    def test_finalizers_and_weak_references_log_at_the_end(self):
        _, err = self.run_script(
            """
            import gc, weakref, tracker
            run = tracker.init(id="run")
            class Thing(object):
                def __init__(self, name): self.name = name
                def __del__(self): tracker.log({self.name: 1})
            Thing("freed at once")
            kept = Thing("freed at the end")
            ring = Thing("in a ring")
            ring.itself = ring
            other = Thing("with a finalizer")
            weakref.finalize(other, tracker.log, {"finalizer": 1})
            seen = weakref.ref(kept, lambda ref: tracker.log({"reference": 1}))
            del ring
            gc.collect()
            tracker.log({"last": 1})
            """
        )

        stream = self.stream()
        names = [name for _, values in stream.metrics for name in values]
        self.assertEqual(names[:3], ["freed at once", "in a ring", "last"])
        self.assertIn("finalizer", names)
        self.assertEqual(stream.exits, [0])
        self.assertNotIn("Traceback", err)
        self.assertNotIn("Exception ignored", err)

    def test_threads_that_log_on_during_the_end_are_harmless(self):
        for _ in range(2):
            self.setUp()
            out, err = self.run_script(
                """
                import threading, time, tracker
                tracker.init(id="run")
                def work():
                    while True:
                        tracker.log({"thread": 1.0})
                threads = [threading.Thread(target=work) for _ in range(4)]
                for thread in threads:
                    thread.daemon = True
                    thread.start()
                time.sleep(0.05)
                print("done")
                """
            )
            stream = self.stream()
            self.assertEqual((out.strip(), stream.exits), ("done", [0]))
            self.assertEqual(stream.records[-1][0], kinds.EXIT)
            self.assertNotIn("Traceback", err)
            self.assertNotIn("Fatal", err)

    def test_threads_that_are_no_daemons_log_until_they_end(self):
        self.run_script(
            """
            import threading, time, tracker
            tracker.init(id="run")
            def work():
                time.sleep(0.1)
                tracker.log({"thread": 1})
            threading.Thread(target=work).start()
            """
        )

        self.assertEqual((self.stream().metrics, self.stream().exits), ([(0, {"thread": 1})], [0]))


class Reentrance(Recording):
    """Objects that log while they are logged."""

    def test_values_that_log_while_they_are_looked_at(self):
        out, err = self.run_script(
            """
            import gc, tracker
            run = tracker.init(id="run")
            class Odd(object):
                shape = ()
                def item(self):
                    tracker.log({"within item": 1})
                    return 2.5
                def __float__(self):
                    tracker.log({"within float": 1})
                    return 2.5
                def __repr__(self):
                    tracker.log({"within repr": 1})
                    return "odd"
                __str__ = __repr__
            class Text(str):
                def __hash__(self):
                    if armed:
                        armed.pop()
                        tracker.log({"within hash": 1})
                    return str.__hash__(self)
            armed = []
            odd, name = Odd(), Text("name")
            armed.append(1)
            tracker.log({"odd": odd, name: 1})
            tracker.log({odd: 1})
            tracker.config.odd = odd
            tracker.summary["odd"] = odd
            def collected(phase, info):
                if len(seen) < 50:
                    seen.append(1)
                    tracker.log({"within gc": 1})
            seen = []
            gc.callbacks.append(collected)
            gc.set_threshold(1)
            for step in range(100):
                tracker.log({"step": step, "nested": {"a": [step][0]}, "text": "t"})
            gc.set_threshold(700)
            gc.callbacks.remove(collected)
            class Dying(object):
                def __del__(self): tracker.log({"within del": 1})
            for step in range(20):
                ring = Dying()
                ring.itself = ring
                del ring
                tracker.log({"late": step})
            print("lost", run.lost)
            """
        )

        names = {name for stream in self.streams() for _, values in stream.metrics for name in values}
        self.assertLessEqual({"odd", "name", "step", "late", "within gc", "within item"}, names)
        steps = [v["step"] for s in self.streams() for _, v in s.metrics if "step" in v]
        self.assertEqual(sorted(steps), list(range(100)))
        self.assertEqual(out, "lost 0\n")
        self.assertNotIn("Traceback", err)

    def test_values_that_log_themselves_for_ever_cost_a_warning(self):
        out, err = self.run_script(
            """
            import tracker
            run = tracker.init(id="run")
            class Endless(object):
                shape = ()
                def item(self):
                    tracker.log({"endless": self})
                    return 1.0
            tracker.log({"endless": Endless()})
            tracker.log({"after": 1})
            print(run.lost > 0)
            """
        )

        values = [values for stream in self.streams() for _, values in stream.metrics]
        self.assertEqual(values[-1], {"after": 1})
        self.assertEqual(out, "True\n")
        self.assertNotIn("Traceback", err)


if __name__ == "__main__":
    unittest.main()
