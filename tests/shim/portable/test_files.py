"""save() and the helper process, on every Python: what is kept, what is refused, and what nobody notices."""

import os
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from leftovers import helpers_with, wait_until_gone
from recording import Recording

from tracker.protocol import kinds

START = """
import os, signal, sys, time, tracker
run = tracker.init(project="p", id="run")
FILES = os.path.join(run.dir, "files")
def write(path, text):
    directory = os.path.dirname(path)
    if directory and not os.path.isdir(directory):
        os.makedirs(directory)
    with open(path, "w") as file:
        file.write(text)
def wait_for(path, text):
    deadline = time.time() + 60
    while time.time() < deadline:
        try:
            with open(path) as file:
                if file.read() == text:
                    return
        except OSError:
            pass
        time.sleep(0.01)
    raise SystemExit("%s does not come to hold %r" % (path, text))
"""
#: With code state on there is a helper process.
HELPED = {"TRACKER_DISABLE_CODE": "0"}


@unittest.skipUnless(os.path.isdir("/proc/self"), "this looks for processes as Linux shows them")
class Files(Recording):
    def kept(self):
        """Return the contents of the run's files by name, once nobody works for the run any more."""
        wait_until_gone("TRACKER_DIR=" + self.environ()["TRACKER_DIR"])
        directory = self.run_directory()
        found = {}
        top = os.path.join(directory, "files")
        for above, _, names in os.walk(top):
            for name in names:
                path = os.path.join(above, name)
                self.assertEqual(os.stat(path).st_nlink, 1)
                with open(path) as file:
                    found[os.path.relpath(path, top)] = file.read()
        self.assertFalse([name for name in found if ".tracker-" in name])
        return {name: text for name, text in found.items() if not name.startswith(("code/", "requirements"))}

    def run_directory(self):
        user = str(os.geteuid())
        return os.path.join(self.spool, "spool", user, "run")

    def helper(self):
        (found,) = [stream for stream in self.streams() if stream.header.role == "helper"]
        return found

    def start(self, script, **environment):
        path = os.path.join(self.spool, "script.py")
        with open(path, "w") as file:
            file.write(START + script)
        return subprocess.Popen(
            [sys.executable, path],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.PIPE,
            env=self.environ(**environment),
            cwd=self.spool,
            start_new_session=True,
        )

    def test_an_original_may_be_deleted_at_once(self):
        for block, environment in (("False", HELPED), ("True", HELPED), ("False", {}), ("True", {})):
            self.setUp()
            self.run_script(
                START
                + """
write("model.bin", "weights")
write("deep/er/log.txt", "line")
kept = tracker.save("model.bin", policy="now", block=%s)
assert kept == [os.path.join(FILES, "model.bin")], kept
os.unlink("model.bin")
tracker.save("deep", policy="now", block=%s)
os.unlink("deep/er/log.txt")
assert run.lost == 0
"""
                % (block, block),
                **environment,
            )
            self.assertEqual(self.kept(), {"model.bin": "weights", "deep/er/log.txt": "line"})

    def test_block_has_it_there_when_it_returns(self):
        self.run_script(
            START
            + """
write("a", "1")
tracker.save("a", block=True)
assert open(os.path.join(FILES, "a")).read() == "1"
""",
            **HELPED,
        )

    def test_live_and_end_keep_what_matches_later(self):
        self.run_script(
            START
            + """
tracker.save("out/*.txt", policy="end")
tracker.save("report.html", policy="live")
write("out/a.txt", "a")
write("report.html", "r")
tracker.save("never.txt", policy="end")
""",
            **HELPED,
        )
        self.assertEqual(self.kept(), {"out/a.txt": "a", "report.html": "r"})
        (lost,) = self.helper().of(kinds.LOST)
        self.assertIn("never.txt", lost.reason)

    def test_end_is_kept_though_the_whole_group_is_killed(self):
        process = self.start(
            """
write("state", "early")
write("live", "early")
tracker.save("state", policy="end")
tracker.save("live")
wait_for(os.path.join(FILES, "live"), "early")
assert not os.path.exists(os.path.join(FILES, "state"))
write("state", "late")
write("live", "late")
print("ready")
sys.stdout.flush()
time.sleep(100)
""",
            **HELPED,
        )
        line = process.stdout.readline()
        os.killpg(process.pid, signal.SIGKILL)
        _, err = process.communicate()
        self.assertEqual(line.strip(), b"ready", err)
        self.assertEqual(self.kept(), {"state": "late", "live": "late"})
        self.assertEqual(self.helper().exits, [0])

    def test_without_a_helper_files_are_kept_as_they_are_now(self):
        _, err = self.run_script(
            START
            + """
write("a", "1")
tracker.save("a", policy="end")
write("a", "2")
"""
        )
        self.assertEqual(self.kept(), {"a": "1"})
        self.assertIn("no helper process", err)

    def test_a_copy_is_no_link(self):
        self.run_script(
            START
            + """
write("a", "1")
tracker.save("a", policy="now", block=True)
with open("a", "r+") as file:
    file.write("2")
"""
        )
        self.assertEqual(self.kept(), {"a": "1"})

    def test_base_path_and_absolute_paths_name_what_is_kept(self):
        self.run_script(
            START
            + """
write("data/x/a.txt", "a")
write("data/x/b.txt", "b")
write("data/y/c.txt", "c")
here = os.getcwd()
tracker.save("data/y/c.txt", base_path="data", policy="now")
tracker.save(os.path.join(here, "data", "x", "b.txt"), policy="now")
tracker.save(os.path.join(here, "data", "*", "b.txt"), policy="now")
tracker.save("x/a.txt", base_path=os.path.join(here, "data", "x", "..", "."), policy="now")
"""
        )
        self.assertEqual(self.kept(), {"x/a.txt": "a", "b.txt": "b", "x/b.txt": "b", "y/c.txt": "c"})

    def test_no_path_leads_out(self):
        _, err = self.run_script(
            START
            + """
write("../%s-secret" % run.id, "s")
secret = os.path.abspath("../%s-secret" % run.id)
try:
    write("base/in.txt", "in")
    os.symlink(secret, "base/link.txt")
    os.symlink(os.path.dirname(secret), "base/elsewhere")
    assert tracker.save("../*-secret") == []
    assert tracker.save(secret, base_path="base") == []
    assert tracker.save("base/../../%s-secret" % run.id) == []
    assert tracker.save("base", policy="now") == [os.path.join(FILES, "base/in.txt")]
    assert tracker.save("base/*.txt", policy="now") == [os.path.join(FILES, "base/in.txt")]
    assert tracker.save("base/*/%s-secret" % run.id, policy="now") == []
    os.mkdir("target")
    os.symlink(os.path.abspath("target"), os.path.join(FILES, "out"))
    write("out/a", "1")
    tracker.save("out/a", policy="now")
    assert os.listdir("target") == [] and run.lost == 0
finally:
    os.unlink(secret)
"""
        )
        self.assertEqual(self.kept(), {"base/in.txt": "in"})
        self.assertEqual(err.count("give a base_path that holds it"), 3, err)
        self.assertEqual(err.count("is a link that leads out of"), 3, err)
        self.assertIn("a link or file stands in its path", err)
        (stream,) = self.streams()
        self.assertEqual([lost.records for lost in stream.of(kinds.LOST)], [1])

    def test_a_link_that_is_named_means_what_it_leads_to(self):
        self.run_script(
            START
            + """
write("step-3", "weights")
os.symlink(os.path.abspath("step-3"), "latest")
tracker.save("latest", policy="now")
"""
        )
        self.assertEqual(self.kept(), {"latest": "weights"})

    def test_what_is_no_file_hangs_nobody(self):
        _, err = self.run_script(
            START
            + """
os.mkfifo("pipe")
assert tracker.save("pipe") == []
assert tracker.save("missing", policy="now") == []
assert tracker.save("*.none", policy="now") == []
assert tracker.save(None) == []
assert tracker.save("s3://bucket/x") == []
write("a", "1")
tracker.save("a", policy="sometimes")
""",
            **HELPED,
        )
        self.assertEqual(self.kept(), {"a": "1"})
        for text in ("not a regular file", "No such file", "no file matches", "s3://", "'sometimes'"):
            self.assertIn(text, err)

    def test_a_file_in_the_runs_own_directory_stays_where_it_is(self):
        self.run_script(
            START
            + """
write(os.path.join(FILES, "own.txt"), "o")
before = os.stat(os.path.join(FILES, "own.txt")).st_ino
tracker.save(os.path.join(FILES, "own.txt"))
tracker.save(os.path.join(FILES, "*"), base_path=FILES, policy="now", block=True)
assert os.stat(os.path.join(FILES, "own.txt")).st_ino == before
"""
        )
        self.assertEqual(self.kept(), {"own.txt": "o"})

    def test_ignored_names_are_not_kept(self):
        self.run_script(
            START
            + """
write("a.ckpt", "1")
write("sub/b.txt", "2")
write("c.txt", "3")
tracker.save("*", policy="now")
""",
            TRACKER_IGNORE_GLOBS="*.ckpt,sub,script.py,spool",
        )
        self.assertEqual(self.kept(), {"c.txt": "3"})

    def test_the_helper_is_nobodys_child(self):
        self.run_script(
            START
            + """
try:
    os.wait()
except ChildProcessError:
    print("none")
children = [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) != os.getpid()] if os.path.isdir(
    "/proc") else []
for pid in children:
    try:
        with open("/proc/%s/stat" % pid) as file:
            assert file.read().rpartition(")")[2].split()[1] != str(os.getpid()), "a child"
    except OSError:
        pass
""",
            **HELPED,
        )

    def test_the_helper_holds_no_descriptor_of_the_training(self):
        self.run_script(
            """
import os, tracker
r, w = os.pipe()
os.set_inheritable(w, True)
tracker.init(id="run")
os.close(w)
assert os.read(r, 1) == b""
""",
            **HELPED,
        )

    def test_a_killed_helper_changes_nothing_for_the_training(self):
        self.run_script(
            START
            + """
deadline = time.time() + 60
from tracker.protocol.header import read_header
pid = None
while pid is None and time.time() < deadline:
    for name in os.listdir(run.dir):
        if name.endswith(".mpl"):
            with open(os.path.join(run.dir, name), "rb") as file:
                data = file.read()
            try:
                header = read_header(data)[0]
            except Exception:
                continue
            if header.role == "helper":
                pid = header.pid
    time.sleep(0.01)
os.kill(pid, signal.SIGKILL)
while run.helper.alive():
    time.sleep(0.01)
write("a", "1")
tracker.save("a", policy="live")
assert open(os.path.join(FILES, "a")).read() == "1"
for step in range(100):
    tracker.log({"n": step})
assert run.lost == 0
""",
            **HELPED,
        )
        first = [stream for stream in self.streams() if stream.header.role is None]
        self.assertEqual([stream.exits for stream in first], [[0]])

    def test_closed_descriptors_end_no_promise(self):
        self.run_script(
            START
            + """
import socket
write("end", "early")
tracker.save("end", policy="end")
os.closerange(3, 200)
time.sleep(0.5)  # long enough for a helper to take that for the end
# Whatever gets the numbers now must not be written to.
pairs = [socket.socketpair() for _ in range(20)]
write("a", "1")
tracker.save("a", policy="now")
assert open(os.path.join(FILES, "a")).read() == "1"
for ours, theirs in pairs:
    for end in (ours, theirs):
        end.setblocking(False)
        try:
            raise SystemExit("got %r" % end.recv(100))
        except BlockingIOError:
            pass
write("end", "late")
""",
            **HELPED,
        )
        self.assertEqual(self.kept(), {"end": "late", "a": "1"})

    def test_a_child_that_lives_on_does_not_keep_the_helper(self):
        _, _ = self.run_script(
            START
            + """
write("a", "early")
tracker.save("a", policy="end")
r, w = os.pipe()
if os.fork() == 0:
    for fd in (0, 1, 2):
        os.close(fd)
    time.sleep(100)
    os._exit(0)
write("a", "late")
os._exit(0)
""",
            **HELPED,
        )
        self.assertEqual(self.kept(), {"a": "late"})

    def test_a_fork_keeps_files_by_itself(self):
        self.run_script(
            START
            + """
write("a", "1")
child = os.fork()
if child == 0:
    tracker.save("a", policy="now")
    os._exit(0 if os.path.exists(os.path.join(FILES, "a")) else 1)
assert os.waitpid(child, 0)[1] == 0
write("b", "2")
assert run.helper.alive()
tracker.save("b", policy="now")
""",
            **HELPED,
        )
        self.assertEqual(self.kept(), {"a": "1", "b": "2"})

    def test_forks_of_a_busy_process_do_not_hang(self):
        self.run_script(
            START
            + """
import threading
write("a", "1")
tracker.save("a", policy="now")
done = []
def save():
    while not done:
        tracker.save("a", policy="now")
threads = [threading.Thread(target=save) for _ in range(2)]
for thread in threads:
    thread.start()
for _ in range(30):
    child = os.fork()
    if child == 0:
        tracker.save("a", policy="now")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
done.append(True)
for thread in threads:
    thread.join()
""",
            **HELPED,
        )
        self.assertEqual(self.kept(), {"a": "1"})

    def test_a_signal_handler_that_saves_does_not_hang(self):
        self.run_script(
            START
            + """
write("a", "1")
caught = []
def handle(number, frame):
    caught.append(number)
    tracker.save("a", policy="now")
    if len(caught) < 50:  # not while this one is at work: they would fill the stack on a slow machine
        signal.setitimer(signal.ITIMER_REAL, 0.001)
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.001)
deadline = time.time() + 60
while len(caught) < 50 and time.time() < deadline:
    tracker.save("a", policy="now")
assert len(caught) >= 50
""",
            **HELPED,
        )
        self.assertEqual(self.kept(), {"a": "1"})

    def test_more_files_than_descriptors_are_kept_each_under_its_name(self):
        self.run_script(
            """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
"""
            + START
            + """
sys.path.insert(0, %r)
from leftovers import helpers_with
helpers = []
while len(helpers) != 1:
    helpers = helpers_with("TRACKER_DIR=" + os.environ["TRACKER_DIR"])
(helper,) = helpers
os.kill(helper, signal.SIGSTOP)
for number in range(600):
    write("f%%d" %% number, str(number))
    tracker.save("f%%d" %% number, policy="now")
os.kill(helper, signal.SIGCONT)
write("g/x", "x")
for number in range(40):
    write("g/%%d" %% number, str(number))
tracker.save("g/*", policy="now")
assert run.lost == 0
"""
            % os.path.dirname(os.path.abspath(__file__)),
            **HELPED,
        )
        expected = {"f%d" % number: str(number) for number in range(600)}
        expected.update({"g/%d" % number: str(number) for number in range(40)}, **{"g/x": "x"})
        self.assertEqual(self.kept(), expected)
        self.assertEqual(self.helper().of(kinds.LOST), [])

    def test_signals_to_the_helper_wait_for_its_work(self):
        process = self.start(
            """
write("a", "early")
tracker.save("a", policy="end")
write("b", "1")
tracker.save("b")
wait_for(os.path.join(FILES, "b"), "1")
print("ready")
sys.stdout.flush()
sys.stdin.readline()
write("a", "late")
""",
            **HELPED,
        )
        self.assertEqual(process.stdout.readline().strip(), b"ready")
        helpers = []
        while len(helpers) != 1:  # between fork and exec its children look like it
            helpers = helpers_with("TRACKER_DIR=" + self.environ()["TRACKER_DIR"])
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(helpers[0], number)
        process.communicate(b"\n")
        self.assertEqual(process.returncode, 0)
        self.assertEqual(self.kept(), {"a": "late", "b": "1"})

    def test_code_state_tells_packages_and_command(self):
        path = os.path.join(self.spool, "script.py")
        with open(path, "w") as file:
            file.write("import tracker\ntracker.init(id='run')\n")
        done = subprocess.run(
            [
                sys.executable,
                path,
                "--lr",
                "0.1",
                "--api-key",
                "hush",
                "--wandb-token=hush",
                "db.password=hush",
            ],
            env=self.environ(SLURM_JOB_ID="77", MY_SECRET="hush", **HELPED),
            cwd=self.spool,
        )
        self.assertEqual(done.returncode, 0)
        self.kept()
        fields = {}
        for record in self.helper().of(kinds.RUN):
            fields.update(record.fields)
        origin = fields["origin"]
        self.assertEqual(
            origin["command"][1:],
            ["--lr", "0.1", "--api-key", "[removed]", "--wandb-token=[removed]", "db.password=[removed]"],
        )
        self.assertEqual(origin["python"], "%d.%d.%d" % sys.version_info[:3])
        self.assertEqual(origin["launcher"]["SLURM_JOB_ID"], "77")
        self.assertEqual(os.path.realpath(origin["program"]), os.path.realpath(path))
        for above, _, names in os.walk(os.path.join(self.spool, "spool")):
            for name in names:
                with open(os.path.join(above, name), "rb") as file:
                    self.assertNotIn(b"hush", file.read())
        directory = self.run_directory()
        with open(os.path.join(directory, "files", "requirements.txt")) as file:
            self.assertIn("msgpack==", file.read())
        self.assertTrue(os.path.exists(os.path.join(directory, "files", "code", "script.py")))


if __name__ == "__main__":
    unittest.main()
