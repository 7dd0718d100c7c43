"""What breaks under a training breaks nothing in it: run with the shim and without, it does the same.

Each script runs twice, once with a stand-in for the shim that does nothing (without/tracker.py). Its stdout
and exit code are compared, and with the shim every record is accounted for: stored, or counted as lost.
"""

import os
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from recording import Recording

HERE = os.path.dirname(os.path.abspath(__file__))
LINUX = sys.platform.startswith("linux")
STEPS = 300
TRAINING = (
    """
import errno, os, shutil, signal, sys, threading, time
try:
    import resource
except ImportError:
    resource = None
import tracker

run = tracker.init(id="run", name="n", config={"lr": 0.5})
real = hasattr(tracker, "__path__")  # the shim itself, not what stands in for it
FAULT

def train():
    total = 0.0
    for step in range(%d):
        if step == 100:
            fault()
        total += (step %% 7) * 0.5
        tracker.log({"total": total}, step=step)
        if step %% 50 == 0:
            print("step", step, total)
    return total

try:
    print("result", train())
finally:
    mend()
tracker.finish()
if real:
    sys.stderr.write("lost=%%d\\n" %% run.lost)
END
"""
    % STEPS
)
MEND = """
def mend():
    pass
"""


class Faults(Recording):
    settings = {}
    ways = (
        "raise ValueError('diverged')",
        "os._exit(9)",
        "os.kill(os.getpid(), signal.SIGTERM)",
        "os.execv(sys.executable, [sys.executable, '-c', 'print(1); raise SystemExit(11)'])",
        "os.kill(os.getpid(), signal.SIGINT); time.sleep(9)",
        "os.abort()",
        "sys.exit('no')",
        "raise SystemExit(7)",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "os.close(1); sys.exit(0)",
    )

    def train(self, fault, end="sys.exit(3)", lost=0, accounted=True):
        """Run the training with and without the shim; return (streams, what it said on stderr).

        lost: how many records may be lost, at least and at most, or the one number of both.
        """
        if "def mend" not in fault:
            fault += MEND
        script = TRAINING.replace("FAULT", fault).replace("END", end)
        theirs = self.run_with(script, without=True)
        mine = self.run_with(script)
        self.assertIn("step 0 0.0\n", theirs[0], theirs[2])
        self.assertEqual(mine[:2], theirs[:2], mine[2])
        own = [line for line in mine[2].splitlines() if not line.startswith(("tracker: ", "lost="))]
        # But for where things stand in the scripts' tracebacks.
        self.assertEqual(own, theirs[2].splitlines())
        self.assertLessEqual(mine[2].count("tracker: warning"), 3, mine[2])
        streams = [stream for stream in self.streams() if stream.header.role != "helper"]
        if accounted:
            counted = [int(line[5:]) for line in mine[2].splitlines() if line.startswith("lost=")]
            stored = [step for stream in streams for step, values in stream.metrics if "total" in values]
            self.assertEqual(len(stored), len(set(stored)))
            self.assertEqual(len(stored) + counted[-1], STEPS, mine[2])
            least, most = lost if isinstance(lost, tuple) else (lost, lost)
            self.assertTrue(least <= counted[-1] <= most, mine[2])
        return streams, mine[2]

    def run_with(self, script, without=False):
        path = os.path.join(self.spool, "script.py")
        with open(path, "w") as file:
            file.write(script)
        environ = self.environ(PYTHONWARNINGS="ignore", PYTHONUNBUFFERED="1", **self.settings)
        if without:
            environ["PYTHONPATH"] = os.pathsep.join(
                [os.path.join(HERE, "without"), environ.get("PYTHONPATH", "")]
            )
        process = subprocess.Popen(
            [sys.executable, path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environ,
            cwd=self.spool,
        )
        try:
            out, err = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            self.fail("the script hangs; it wrote %r and %r" % (out, err))
        self.wait_for_others()
        return out.decode("utf-8"), process.returncode, err.decode("utf-8", "replace")

    def wait_for_others(self):
        """Wait until what works beside the training has ended, too."""
        deadline = time.time() + 60
        while time.time() < deadline and processes_with("TRACKER_DIR=%s/" % self.spool):
            time.sleep(0.02)

    def test_nothing(self):
        streams, err = self.train("def fault(): pass")

        self.assertEqual([stream.exits for stream in streams], [[0]])
        self.assertNotIn("warning", err)

    def test_descriptors_are_closed(self):
        streams, _ = self.train("def fault(): os.closerange(3, 4096)", lost=1)

        self.assertEqual([stream.exits for stream in streams], [[], [0]])

    def test_all_descriptors_are_closed(self):
        fault = """
def fault():
    saved = [5000 + fd for fd in range(3)]
    for fd, kept in enumerate(saved):
        os.dup2(fd, kept)
    os.closerange(0, 4096)
    for step in range(3):
        tracker.log({"x": 1})
    for fd, kept in enumerate(saved):
        os.dup2(kept, fd)
        os.close(kept)
"""
        if resource_limit("RLIMIT_NOFILE") <= 5003:
            fault = fault.replace("5000", "1000").replace("4096", "1000")
        # One of those three is lost, which is none of the training's.
        streams, err = self.train(fault, accounted=False)

        stored = [step for stream in streams for step, values in stream.metrics if "total" in values]
        self.assertEqual(len(stored), STEPS)
        self.assertIn("lost=1\n", err)

    def test_all_descriptors_are_closed_and_few_may_be_opened(self):
        """What was stdout is not what the next record goes to."""
        fault = """
def fault():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    os.closerange(0, 4096)
    tracker.log({"x": 1})
    tracker.log({"x": 2})
    tracker.log({"x": 3})
    try:
        os.write(1, b"this is no record")
        os.write(2, b"this is no record")
    except OSError:
        pass
    os._exit(4)
"""
        streams, _ = self.train(fault, accounted=False)

        self.assertEqual([values["x"] for _, values in streams[-1].metrics], [2, 3])

    def test_no_more_descriptors_may_be_opened(self):
        streams, _ = self.train(
            """
if real:
    run._recorder._writer.segment_bytes = 4000
def fault():
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
""",
        )

        self.assertEqual([stream.exits for stream in streams], [[0]])

    def test_no_descriptor_is_left_for_init(self):
        """Not even the modules of a run can be loaded; with them loaded, nothing can be opened."""
        script = """
import errno, os, sys, traceback
import tracker
before = %r
loaded = %r
if loaded:
    tracker.init(mode="disabled").finish()
held = []
try:
    if before == "limit":
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    while before == "all taken":
        held.append(os.open(os.devnull, os.O_RDONLY))
except OSError as error:
    assert error.errno == errno.EMFILE
run = tracker.init(project="p", name="n", config={"lr": 0.5})
with run:
    run.log({"a": 1})
    tracker.log({"a": 2})
    run.config["b"] = tracker.config.lr * 2
    run.summary["c"] = 3
    run.define_metric("a", summary="min")
    run.alert("title", "text")
    assert tracker.run is run and run.config["b"] == 1.0
    text = "%%s %%s %%s %%s" %% (run.id, run.name, run.url, os.path.join(run.dir, "x"))
    tracker.save("x")
print("done", loaded or run.lost == 2)
sys.exit(4)
"""
        for before in ("limit", "all taken"):
            for loaded in (False, True):
                self.setUp()
                out, err = self.run_script(script % (before, loaded), 4)
                self.assertEqual(out, "done True\n", (before, loaded, err))
                self.assertIn("tracker: warning", err)
                self.assertNotIn("Traceback", err)

    def test_files_may_only_be_so_large(self):
        streams, err = self.train(
            """
if real:
    size = os.fstat(run._recorder._writer._fd).st_size
def fault():
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
""",
            lost=1,
        )

        self.assertEqual([stream.exits for stream in streams], [[0]])
        self.assertEqual(err.count("warning"), 1)

    def test_the_files_are_deleted(self):
        streams, err = self.train(
            """
def fault():
    if real:
        shutil.rmtree(run.dir)
""",
            accounted=False,
        )

        # Nobody looks at every record whether its file is still there; but at the end.
        self.assertIn("lost=%d\n" % (STEPS + 2), err)  # with what described the run, which is written anew
        self.assertIn("were deleted", err)
        self.assertEqual([(stream.header.role, stream.exits) for stream in streams], [("again", [0])])

    def test_the_files_are_deleted_and_something_else_is_recorded(self):
        streams, err = self.train(
            """
def fault():
    if real:
        shutil.rmtree(run.dir)
        tracker.config["noticed"] = 1
""",
            accounted=False,
        )

        (stream,) = streams
        self.assertEqual([step for step, _ in stream.metrics], list(range(100, STEPS)))
        self.assertIn("lost=%d\n" % (100 + 2), err)
        self.assertIn("were deleted", err)
        self.assertEqual(stream.exits, [0])

    def test_the_directory_cannot_be_made_again(self):
        streams, err = self.train(
            """
def fault():
    if real:
        shutil.rmtree(os.environ["TRACKER_DIR"])
        open(os.environ["TRACKER_DIR"], "w").close()
        tracker.config["noticed"] = 1
""",
            accounted=False,
        )

        self.assertEqual(streams, [])
        self.assertEqual(err.count("warning"), 1)

    def test_the_directory_is_moved(self):
        streams, err = self.train(
            """
if real:
    run._recorder._writer.segment_bytes = 4000
def fault():
    if real:
        os.rename(run.dir, run.dir + "-moved")
"""
        )

        self.assertEqual([stream.exits for stream in streams], [[0]])
        self.assertNotIn("warning", err)

    def test_the_working_directory_is_left_and_deleted(self):
        self.train(
            """
import tempfile
def fault():
    there = tempfile.mkdtemp()
    os.chdir(there)
    os.rmdir(there)
    if real:
        os.closerange(3, 4096)
""",
            lost=1,
        )

    def test_writing_fails_in_every_way_and_works_again(self):
        for number in ("ENOSPC", "EDQUOT", "EROFS", "ESTALE"):
            self.setUp()
            streams, err = self.train(
                """
class Refusing(object):
    refused = 0
    def __getattr__(self, name): return getattr(os, name)
    def write(self, fd, data):
        self.refused += 1
        if self.refused > 40:
            return os.write(fd, data)
        if self.refused %% 3 == 0:
            return os.write(fd, data[:7])
        raise OSError(errno.%s, os.strerror(errno.%s))
def fault():
    if real:
        import tracker.protocol.writer
        tracker.protocol.writer.os = Refusing()
"""
                % (number, number),
                lost=40,
            )
            self.assertEqual([stream.exits for stream in streams], [[0]], number)
            self.assertEqual(sum(lost.records for lost in streams[0].of(13)), 40)
            self.assertEqual(err.count("warning"), 1)

    def test_stdout_and_stderr_are_closed_or_broken(self):
        self.train(
            """
class Broken(object):
    def write(self, text): raise ValueError("I/O operation on closed file.")
    def flush(self): raise RuntimeError("no")
def fault():
    global kept
    kept, sys.stderr = sys.stderr, None
    tracker.log({"bad": object()})
    sys.stderr = Broken()
    tracker.log("not a dict")
    tracker.log({"bad": object()})
    os.closerange(3, 4096)
def mend():
    sys.stderr = kept
""",
            accounted=False,
        )

    def test_the_stack_is_full(self):
        self.train(
            """
def deep(depth):
    tracker.log({"depth": depth})
    try:
        return deep(depth + 1)
    except RecursionError:
        return depth
def fault():
    sys.setrecursionlimit(300)
    depth = deep(0)
    # Before 3.10 who swallows a RecursionError and goes deeper is aborted: there log() lets it out.
    print("depth", depth > 270 if sys.version_info < (3, 10) else depth)
    sys.setrecursionlimit(1000)
""",
            accounted=False,
        )

    def test_memory_is_full(self):
        streams, _ = self.train(
            """
class Hungry(object):
    shape = ()
    def item(self): raise MemoryError("no more")
def fault():
    tracker.log({"hungry": Hungry()})
    limit = resource.getrlimit(resource.RLIMIT_AS)
    text = "x" * 2**27
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 2**26, limit[1]))
    tracker.log({"text": text})
    tracker.config["text"] = text
    resource.setrlimit(resource.RLIMIT_AS, limit)
    del text
"""
            if LINUX
            else "def fault(): pass",
            accounted=False,
        )

        stored = [step for stream in streams for step, values in stream.metrics if "total" in values]
        self.assertEqual(stored, list(range(STEPS)))

    def test_a_thread_holds_the_lock_at_a_fork(self):
        streams, _ = self.train(
            """
def fault():
    stop = threading.Event()
    held = threading.Event()
    def hold():
        if real:
            with run._recorder.lock:
                held.set()
                stop.wait()
        else:
            held.set()
            stop.wait()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if not child:
        tracker.log({"child": 1})
        tracker.finish()
        os._exit(9)
    print("child", os.waitpid(child, 0)[1])
    stop.set()
    thread.join()
"""
        )

        self.assertEqual(sorted(stream.exits for stream in streams), [[0], [0]])

    def test_a_thread_is_in_the_middle_of_a_record_at_a_fork(self):
        self.train(
            """
def fault():
    entered, stop = threading.Event(), threading.Event()
    class Slow(object):
        shape = ()
        def item(self):
            entered.set()
            stop.wait()
            return 1.0
    thread = threading.Thread(target=tracker.log, args=({"slow": Slow()},))
    if real:
        thread.start()
        entered.wait()
    child = os.fork()
    if not child:
        for step in range(10):
            tracker.log({"child": step})
        tracker.finish()
        os._exit(0)
    print("child", os.waitpid(child, 0)[1])
    stop.set()
    if real:
        thread.join()
"""
        )

    def test_ways_to_end(self):
        for way in self.ways:
            self.setUp()
            self.train("def fault():\n    sys.stdout.flush()\n    %s" % way, accounted=False)

    def test_ways_to_end_behind_the_end_of_the_run(self):
        for way in self.ways[:3]:
            self.setUp()
            self.train("def fault(): pass", end=way)


class Beside(Faults):
    """The same, with processes beside the training: the console is redirected, code state recorded."""

    settings = {"TRACKER_CONSOLE": "redirect", "TRACKER_DISABLE_CODE": "0"}
    ways = Faults.ways[:6]

    def test_whatever_works_beside_the_training_is_killed(self):
        self.train(
            """
def fault():
    if real:
        mine = ("TRACKER_DIR=%s" % os.environ["TRACKER_DIR"]).encode()
        for _ in range(3):
            for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
                try:
                    with open("/proc/%d/environ" % pid, "rb") as file:
                        if pid != os.getpid() and mine in file.read().split(bytes(1)):
                            os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
            time.sleep(0.01)
    for number in range(20000):
        print("line", number, "x" * 60)
""",
            accounted=False,
        )


#: What has nothing to do with what works beside a training is tried once.
BESIDE = ("descriptors", "large", "are_deleted", "stack", "at_a_fork", "to_end", "beside")


def processes_with(variable):
    """Return the processes that began with a variable in their environment that starts so."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/environ" % pid, "rb") as file:
                if b"\0" + variable.encode() in b"\0" + file.read():
                    found.append(int(pid))
        except OSError:
            continue
    return found


def resource_limit(name):
    """Return the soft limit of this process."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrlimit(getattr(resource, name))[0]


for each in dir(Faults):
    if each.startswith("test") and not any(word in each for word in BESIDE):
        setattr(Beside, each, None)
if not LINUX:
    del Faults, Beside  # the faults are those of Linux
elif sys.version_info[:2] not in ((3, 6), (3, 8), (3, 11), (3, 13)):
    del Beside  # once for each way to start a process, and on the newest

if __name__ == "__main__":
    unittest.main()
