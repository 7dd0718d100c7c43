"""The console through the tee: terminals, crashes, children, dead readers, floods, full disks, kills."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.shim.consoles import (
    COLUMNS,
    ROWS,
    Terminal,
    holders,
    losses,
    parent_of,
    recorded,
    recording_environment,
    run,
    started,
    wait_until,
)
from tests.shim.scripts import reading
from tests.support import require
from tracker.protocol.verify import DAMAGED, verify_directory

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start scripts (see consoles.start); nothing of them is left at the test's end."""
    with started() as start:
        yield start


def on_terminal(script: str, spool: Path, **more: str) -> Terminal:
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return Terminal(command, recording_environment(spool, **more))


def test_a_terminal_stays_one_with_its_size_and_every_byte(tmp_path: Path) -> None:
    script = """
        import os, signal, sys, time, tracker
        before = os.get_terminal_size(1)
        tracker.init()
        assert sys.stdout.isatty() and os.isatty(2) and os.get_terminal_size(1) == before
        changed = []
        signal.signal(signal.SIGWINCH, lambda *_: changed.append(tuple(os.get_terminal_size(1))))
        print("size", *before)
        sys.stdout.write("\\x1b[31mred\\x1b[0m\\n10%\\r20%\\rdone\\n")
        print("ready")
        while (100, 50) not in changed:
            time.sleep(0.02)
        print("resized")
        tracker.finish()
        assert os.isatty(1)
        print("afterwards")
    """
    terminal = on_terminal(script, tmp_path)
    try:
        terminal.wait_for(b"ready")
        terminal.resize(50, 100)
        shown = terminal.read_to_end()
        assert terminal.process.wait(60) == 0, shown
    finally:
        terminal.close()

    size = b"size %d %d" % (COLUMNS, ROWS)
    lines = [size, b"\x1b[31mred\x1b[0m", b"10%\r20%\rdone", b"ready", b"resized", b"afterwards", b""]
    assert shown == b"\r\n".join(lines)
    assert recorded(tmp_path)["stdout"] == [size.decode(), "red", "done", "ready", "resized"]


def test_a_question_on_a_terminal_is_asked_before_its_answer_is_read(tmp_path: Path) -> None:
    script = """
        import tracker
        tracker.init()
        answer = input("continue? ")
        print("you said", answer)
    """
    terminal = on_terminal(script, tmp_path)
    try:
        terminal.wait_for(b"continue? ")
        terminal.type(b"yes\n")
        shown = terminal.read_to_end()
        assert terminal.process.wait(60) == 0, shown
    finally:
        terminal.close()

    assert b"you said yes" in shown
    assert recorded(tmp_path)["stdout"][-1].endswith("you said yes")


def test_a_terminal_that_hangs_up_does_not_hold_the_training_up(tmp_path: Path) -> None:
    script = """
        import os, signal, sys, time, tracker
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        tracker.init(id="hung")
        print("ready", flush=True)
        failed = 0
        for n in range(300):
            try:
                print("x" * 1000, flush=True)
            except OSError:
                failed = 1
            time.sleep(0.005)
        sys.stdout = open(os.devnull, "w")
        tracker.log({"failed": failed})
    """
    terminal = on_terminal(script, tmp_path)
    terminal.wait_for(b"ready")
    os.close(terminal.master)

    assert terminal.process.wait(60) == 0
    wait_until(lambda: any(stream.exits for stream in reading(tmp_path) if stream.header.role is None))
    (training,) = [stream for stream in reading(tmp_path) if stream.header.role is None]
    assert training.metrics == [(0, {"failed": 1})]  # as it is without Tracker


C_PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(void) {
    printf("NCCL INFO buffered\\n");
    fprintf(stderr, "NCCL WARN unbuffered\\n");
    fflush(stdout);
    printf("lost with the crash, as always\\n");
    abort();
}
"""


def test_what_c_code_writes_is_recorded_and_its_crash_too(tmp_path: Path) -> None:
    compiler = require.program("gcc")
    source, program = tmp_path / "crash.c", tmp_path / "crash"
    source.write_text(C_PROGRAM)
    subprocess.run([compiler, "-o", str(program), str(source)], check=True)
    script = """
        import ctypes, os, subprocess, sys, tracker
        tracker.init()
        ctypes.CDLL(None).puts(b"from C, in this process")
        assert subprocess.call([sys.argv[1]]) == -6
    """

    out, err = run(script, tmp_path / "spool", str(program))

    # What C holds back in this process may be written after Python has ended.
    assert sorted(out.splitlines()) == [b"NCCL INFO buffered", b"from C, in this process"]
    lines = recorded(tmp_path / "spool")
    assert lines["stdout"] == out.decode().splitlines()
    assert lines["stderr"] == err.decode().splitlines() == ["NCCL WARN unbuffered"]


def test_a_traceback_is_recorded_and_comes_after_what_was_printed(tmp_path: Path) -> None:
    script = """
        import tracker
        tracker.init()
        print("epoch 1", flush=True)
        raise ValueError("loss is nan")
    """

    _, err = run(script, tmp_path, code=1)

    lines = recorded(tmp_path)
    assert lines["stdout"] == ["epoch 1"]
    assert lines["stderr"] == err.decode().splitlines()
    assert lines["stderr"][-1] == "ValueError: loss is nan"


def test_a_killed_training_leaves_its_last_line(tmp_path: Path) -> None:
    script = """
        import os, signal, sys, tracker
        tracker.init()
        sys.stdout.write("last line, without an end")
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    """

    out, _ = run(script, tmp_path, code=-9)

    assert out == b"last line, without an end"
    assert recorded(tmp_path)["stdout"] == [out.decode()]


def test_a_program_learns_that_its_reader_is_gone_as_it_does_without(start: Start, tmp_path: Path) -> None:
    script = """
        import sys, time, tracker
        tracker.init()
        try:
            for number in range(100000):
                print("line", number, flush=True)
                time.sleep(0.001)
        except BrokenPipeError:
            sys.stderr.write("broken pipe\\n")
            sys.stderr.flush()
            import os
            os._exit(7)
    """
    process = start(script, tmp_path)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == b"line 0\n"
    process.stdout.close()

    err = process.stderr.read()
    assert (process.wait(60), err) == (7, b"broken pipe\n")
    lines = recorded(tmp_path)
    assert lines["stdout"][0] == "line 0" and lines["stderr"] == ["broken pipe"]


def test_a_child_learns_that_its_reader_is_gone_as_it_does_without(start: Start, tmp_path: Path) -> None:
    script = """
        import signal, subprocess, sys, tracker
        tracker.init()
        child = subprocess.Popen(["yes"], preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_DFL))
        sys.stderr.write("%d" % child.wait())
    """
    process = start(script, tmp_path)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.read(4) == b"y\ny\n"
    process.stdout.close()

    assert process.stderr.read() == b"-13"
    assert process.wait(60) == 0


def test_a_slow_reader_slows_the_program_down_and_loses_nothing(start: Start, tmp_path: Path) -> None:
    script = """
        import sys, tracker
        tracker.init()
        for number in range(200000):
            print(number)
        sys.stderr.write("done")
    """
    process = start(script, tmp_path)
    assert process.stdout is not None and process.stderr is not None
    time.sleep(0.5)
    held_up = process.poll() is None

    shown = process.stdout.read()

    assert process.wait(60) == 0 and held_up
    assert shown == b"".join(b"%d\n" % number for number in range(200000))
    assert recorded(tmp_path)["stdout"] == [str(number) for number in range(200000)]


def test_a_blocked_reader_of_one_stream_does_not_hold_up_the_other(start: Start, tmp_path: Path) -> None:
    script = """
        import os, threading, tracker
        tracker.init()
        threading.Thread(target=lambda: os.write(1, b"x" * 2000000)).start()
        for number in range(1000):
            os.write(2, b"%d\\n" % number)
    """
    process = start(script, tmp_path)
    assert process.stdout is not None and process.stderr is not None

    lines = [process.stderr.readline() for _ in range(1000)]

    assert lines[-1] == b"999\n"
    assert len(process.stdout.read()) == 2000000
    assert process.wait(60) == 0


def test_a_socket_takes_output_as_a_pipe_does(start: Start, tmp_path: Path) -> None:
    script = """
        import tracker
        tracker.init()
        for number in range(100000):
            print(number)
    """
    ours, theirs = socket.socketpair()
    shown = b""
    with ours, theirs:
        process = start(script, tmp_path, stdout=theirs.fileno(), stderr=subprocess.DEVNULL)
        theirs.close()
        while data := ours.recv(65536):
            shown += data
        assert process.wait(60) == 0

    assert shown == b"".join(b"%d\n" % number for number in range(100000))


def test_lines_of_several_ranks_stay_whole_in_one_pipe(tmp_path: Path) -> None:
    script = """
        import os, tracker
        if not os.fork():
            os.environ["RANK"] = "1"
        tracker.init()
        for number in range(3000):
            os.write(1, (os.environ.get("RANK", "0") * (number % 300 + 1) + "\\n").encode())
        tracker.finish()
    """

    out, _ = run(script, tmp_path)

    lengths = [number % 300 + 1 for number in range(3000)]
    for rank in (b"0", b"1"):
        lines = [line for line in out.splitlines() if line.startswith(rank)]
        assert lines == [rank * length for length in lengths]


def test_a_flood_is_shown_whole_and_recorded_within_limits(tmp_path: Path) -> None:
    script = """
        import os, resource, time, tracker
        tracker.init()
        block = (b"%0127d\\n" % 7) * 8192
        for _ in range(100):
            os.write(1, block)
    """
    target = tmp_path / "out.log"
    spool = tmp_path / "spool"

    with target.open("wb") as file:
        run(script, spool, stdout=file)

    block = (b"%0127d\n" % 7) * 8192
    wait_until(lambda: not holders(str(target)))
    assert target.stat().st_size == 100 * len(block)
    assert target.read_bytes() == block * 100
    (lost,) = losses(spool).values()
    kept = len(recorded(spool)["stdout"])
    assert kept + lost == 100 * 8192
    assert 16 * 2**20 < kept * 143 < 18 * 2**20
    size = sum(path.stat().st_size for path in spool.rglob("*.mpl"))
    assert size < 20 * 2**20


def test_a_daemon_that_keeps_the_output_does_not_keep_the_recording(start: Start, tmp_path: Path) -> None:
    script = """
        import os, sys, time, tracker
        tracker.init()
        if not os.fork():
            os.setsid()
            for number in range(65):
                os.write(1, b"daemon %d\\n" % number)
                time.sleep(0.1)
            os._exit(0)
        print("training ends")
    """
    process = start(script, tmp_path)
    assert process.stdout is not None

    assert process.wait(60) == 0
    began = time.monotonic()
    wait_until(lambda: [stream.exits for stream in reading(tmp_path)] == [[0], [0]])
    assert time.monotonic() - began < 20
    shown = process.stdout.read()

    # It still writes when nothing is recorded any more, and where it wrote.
    assert shown.splitlines()[-1] == b"daemon 64"
    lines = recorded(tmp_path)["stdout"]
    assert "daemon 0" in lines and "training ends" in lines and "daemon 64" not in lines


def test_what_children_write_after_the_runs_end_is_shown_and_not_recorded(tmp_path: Path) -> None:
    script = """
        import subprocess, time, tracker
        tracker.init()
        child = subprocess.Popen(["sh", "-c", "echo before; read line; echo after"], stdin=subprocess.PIPE)
        print("printed", flush=True)
        time.sleep(0.3)
        tracker.finish()
        child.communicate(b"go on\\n")
        print("end")
    """

    out, _ = run(script, tmp_path)

    assert sorted(out.splitlines()) == [b"after", b"before", b"end", b"printed"]
    assert sorted(recorded(tmp_path)["stdout"]) == ["before", "printed"]


def test_a_program_that_takes_this_ones_place_goes_on_writing(tmp_path: Path) -> None:
    script = """
        import os, tracker
        tracker.init()
        print("before", flush=True)
        os.execvp("sh", ["sh", "-c", "echo after; sleep 0.2; echo end >&2; exit 3"])
    """

    out, err = run(script, tmp_path, code=3)

    assert (out, err) == (b"before\nafter\n", b"end\n")
    assert recorded(tmp_path) == {"stdout": ["before", "after"], "stderr": ["end"]}


def test_closed_descriptors_are_left_alone(tmp_path: Path) -> None:
    script = """
        import os, sys, tracker
        os.close(1)
        tracker.init()
        os.write(2, b"only this\\n")
        os.closerange(3, 1000)
        # These numbers are somebody else's now.
        others = [os.open("/dev/null", os.O_RDWR) for _ in range(30)]
        before = [os.fstat(fd)[:3] for fd in others]
        os.write(2, b"goes on\\n")
        tracker.finish()
        assert [os.fstat(fd)[:3] for fd in others] == before
        os.write(2, b"and on\\n")
    """

    _, err = run(script, tmp_path)

    assert err.splitlines()[-3:] == [b"only this", b"goes on", b"and on"]
    assert recorded(tmp_path)["stderr"][:2] == ["only this", "goes on"]


def test_replaced_descriptors_stay_replaced(tmp_path: Path) -> None:
    script = """
        import os, sys, time, tracker
        tracker.init()
        print("one", flush=True)
        os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), 1)
        os.dup2(1, 2)
        print("two", flush=True)
        time.sleep(0.5)
        tracker.finish()
        print("three", flush=True)
    """
    target = tmp_path / "elsewhere"

    out, _ = run(script, tmp_path / "spool", str(target))

    assert (out, target.read_bytes()) == (b"one\n", b"two\nthree\n")
    assert recorded(tmp_path / "spool")["stdout"] == ["one"]
    assert not losses(tmp_path / "spool")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    require.root()
    mount = require.program("mount")
    directory = tmp_path / "disk"
    directory.mkdir()
    command = [mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(directory)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        require.absent("mount", made.stderr.strip(), "run the tests where tmpfs may be mounted")
    yield directory
    wait_until(lambda: subprocess.run(["umount", str(directory)], check=False).returncode == 0)


def test_a_full_disk_under_the_output_is_the_programs_own_error(small_disk: Path, tmp_path: Path) -> None:
    script = """
        import errno, os, sys, time, tracker
        tracker.init()
        try:
            for _ in range(2000):
                os.write(1, b"x" * 999 + b"\\n")
                time.sleep(0.0005)
        except OSError as error:
            sys.stderr.write(errno.errorcode[error.errno])
            sys.stderr.flush()
    """
    with (small_disk / "out.log").open("wb") as file:
        _, err = run(script, tmp_path / "spool", stdout=file)

    assert err == b"ENOSPC"


def test_a_full_spool_costs_records_and_no_output(small_disk: Path) -> None:
    script = """
        import tracker
        tracker.init()
        for number in range(5000):
            print("line", number, "x" * 200)
    """

    out, _ = run(script, small_disk, more={"XDG_STATE_HOME": str(small_disk)})

    assert out.splitlines()[-1].startswith(b"line 4999 ")
    assert len(out.splitlines()) == 5000


def test_workers_killed_at_any_moment_lose_no_output(start: Start, tmp_path: Path) -> None:
    script = """
        import os, sys, time, tracker
        tracker.init()
        os.write(2, os.readlink("/proc/self/fd/1").encode() + b"\\n")
        sys.stdin.readline()
        for number in range(60000):
            os.write(1, b"%08d\\n" % number)
    """
    process = start(script, tmp_path, stdin=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None and process.stdin is not None
    channel = process.stderr.readline().decode().strip()

    def pair() -> list[int]:
        """Guard and worker: a child of the guard that leads a session."""
        found = [pid for pid in holders(channel) if pid != process.pid]
        with contextlib.suppress(ProcessLookupError):
            workers = [pid for pid in found if os.getsid(pid) == pid and parent_of(pid) in found]
            return [parent_of(workers[0]), workers[0]] if len(found) == 2 and workers else []
        return []

    wait_until(pair)
    process.stdin.write(b"\n")
    process.stdin.flush()
    shown = b""
    kills = 0
    while data := os.read(process.stdout.fileno(), 30000):
        shown += data
        if kills < 12 and len(shown) > kills * 40000 and (found := pair()):
            with contextlib.suppress(ProcessLookupError):  # killed by the one before
                os.kill(found[1], signal.SIGKILL)
                kills += 1

    assert process.wait(60) == 0 and kills >= 6
    # What was being shown at the moment of a kill may be shown twice; nothing is left out, or out of order.
    lines = shown.split(b"\n")
    missing = {b"%08d" % number for number in range(60000)} - set(lines)
    assert not missing, sorted(missing)[:10]
    report = verify_directory(str(tmp_path))
    assert report.state != DAMAGED  # a kill may tear the last line of a stream
    assert sum(stream.lost for stream in report.streams) > 0


def test_without_a_helper_what_python_writes_is_recorded(tmp_path: Path) -> None:
    script = """
        import os, tracker, tracker._helper_client as client
        client._command = lambda: None
        before = os.fstat(1)[:3]
        tracker.init()
        assert os.fstat(1)[:3] == before
        print("printed")
    """

    run(script, tmp_path)

    assert recorded(tmp_path)["stdout"] == ["printed"]


def test_a_helper_that_dies_at_its_start_changes_nothing(tmp_path: Path) -> None:
    script = """
        import os, sys, time, tracker, tracker._helper_client as client
        client._command = lambda: [sys.executable, "-c", "import os; os._exit(1)"]
        before = os.readlink("/proc/self/fd/1")
        tracker.init()
        print("printed", flush=True)
        deadline = time.time() + 30
        while os.readlink("/proc/self/fd/1") != before and time.time() < deadline:
            time.sleep(0.01)
        assert os.readlink("/proc/self/fd/1") == before
        print("the end")
    """

    out, _ = run(script, tmp_path)

    assert out == b"printed\nthe end\n"
    assert list(losses(tmp_path).values()) == [1]


def test_a_thread_that_begins_a_run_has_only_python_recorded(tmp_path: Path) -> None:
    script = """
        import threading, tracker
        thread = threading.Thread(target=tracker.init, kwargs={"settings": {"console": "auto"}})
        thread.start()
        thread.join()
        print("printed")
    """

    run(script, tmp_path)

    assert recorded(tmp_path)["stdout"] == ["printed"]


def test_the_end_of_a_program_does_not_wait_for_a_reader_that_does_not_read(
    start: Start, tmp_path: Path
) -> None:
    script = """
        import os, tracker
        tracker.init()
        os.write(1, b"x" * 300000)
    """
    process = start(script, tmp_path)
    assert process.stdout is not None

    assert process.wait(60) == 0  # though nobody has read a byte

    assert len(process.stdout.read()) == 300000
