"""processes, on real ones: what it tells is what the kernel says in the end."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import require
from tests.support.agent_process import wait_until
from tests.support.watched_processes import STEP_S, Watched
from tracker_agent.collectors.kernel import Kernel
from tracker_agent.collectors.process_stat import TICKS_PER_S, read_process

#: What scripts burn with: processor time by their own clock, so that a busy machine changes nothing.
BURN = """
import os, sys, threading, time

def burn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass

def say(word):
    print(word, flush=True)
    return sys.stdin.readline()
"""

Script = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    """script(text): starts it; it goes on to its next say() for each line it is sent."""
    started = []

    def start(text: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", BURN + textwrap.dedent(text)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_processor_time_of_a_tree_is_what_the_kernel_charges_in_the_end(script: Script) -> None:
    writer = script("""
        say("begun")
        children = []
        for seconds in (0.05, 0.1, 0.3):
            child = os.fork()
            if not child:
                burn(seconds)
                grandchild = os.fork()
                if not grandchild:
                    burn(0.1)
                    os._exit(0)
                os.waitpid(grandchild, 0)
                os._exit(0)
            children.append(child)
        burn(0.2)
        for child in children:
            os.waitpid(child, 0)
        say("ended")
    """)
    assert heard(writer) == "begun"
    watched = Watched("/", writer.pid)
    watched.sample()
    before = read_process(Kernel(), writer.pid)
    assert before is not None
    go_on(writer)
    told = 0.0

    def sampled_until_the_end() -> bool:
        nonlocal told
        stat = Path(f"/proc/{writer.pid}/stat").read_text().rpartition(")")[2].split()
        told += watched.used()[writer.pid]
        return (
            stat[0] == "S"
            and int(stat[13]) > 0
            and not Path(f"/proc/{writer.pid}/task/{writer.pid}/children").read_text()
        )

    wait_until(sampled_until_the_end, what="the end of all children")
    assert heard(writer) == "ended"
    told += watched.used()[writer.pid]
    writer.kill()
    _, _, charged = os.wait4(writer.pid, 0)
    writer.returncode = 0

    expected = (charged.ru_utime + charged.ru_stime) * TICKS_PER_S - before.cpu - before.waited_cpu
    assert expected > 0.9 * TICKS_PER_S
    # Each of seven processes was counted in whole ticks while it lived.
    assert told == pytest.approx(expected, abs=0.01 * expected + 4)


def test_io_of_children_counts_once(script: Script) -> None:
    writer = script("""
        def write(name):
            with open(name, "wb") as file:
                for _ in range(64):
                    file.write(bytes(65536))
                    file.flush()
                os.fsync(file.fileno())
        say("begun")
        child = os.fork()
        if not child:
            write("first")
            say("written")
            write("second")
            os._exit(0)
        os.waitpid(child, 0)
        write("third")
        say("ended")
    """)

    def written() -> int:
        lines = Path(f"/proc/{writer.pid}/io").read_text().splitlines()
        return int(dict(line.split(": ") for line in lines)["write_bytes"])

    assert heard(writer) == "begun"
    watched = Watched("/", writer.pid)
    watched.sample()
    before = written()
    go_on(writer)
    assert heard(writer) == "written"
    told = watched.sample()[writer.pid]["process.written.bytes_per_s"] * STEP_S
    assert written() == before  # the parent has not waited yet: it is the child's
    go_on(writer)
    assert heard(writer) == "ended"
    told += watched.sample()[writer.pid]["process.written.bytes_per_s"] * STEP_S

    assert told == pytest.approx(written() - before)


@pytest.mark.parametrize("kernel_tells", [None, False])
def test_threads_processes_and_open_files_are_those_of_the_tree(
    script: Script, kernel_tells: bool | None
) -> None:
    writer = script("""
        files = [open("/dev/null") for _ in range(50)]
        for _ in range(3):
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        if not os.fork():
            threading.Thread(target=threading.Event().wait, daemon=True).start()
            files += [open("/dev/null") for _ in range(20)]
            say("child")
            os._exit(0)
        threading.Event().wait()
    """)
    assert heard(writer) == "child"
    watched = Watched("/", writer.pid)
    watched.collector._files._told = kernel_tells

    values = watched.sample()[writer.pid]

    assert values["process.count"] == 2
    assert values["process.threads.count"] == 4 + 2
    assert values["process.open_files.count"] == (3 + 50) + (3 + 70)
    assert values["process.rss.bytes"] > 2 * 1024 * 1024


def test_another_users_processes_show_what_is_for_all_to_see() -> None:
    require.root()
    script = f"""
        import os
        from tracker_agent.collectors.collector import Context, LiveRun
        from tracker_agent.collectors.processes import ProcessesCollector
        os.setgroups([])
        os.setgid(4321)
        os.setuid(4321)
        now, runs = [0.0], [LiveRun((0, b"x" * 16), "r", {os.getpid()})]
        collector = ProcessesCollector(Context(monotonic=lambda: now[0], live_runs=lambda: runs))
        collector.sample()
        now[0] += {STEP_S}
        print(*collector.sample().runs[0, b"x" * 16])
    """

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )

    shown = set(done.stdout.split()) - {"process.open_files.count"}  # as the kernel's version has it
    assert shown == {
        "process.rss.bytes",
        "process.threads.count",
        "process.count",
        "process.cpu.percent",
        "process.page_faults.major.per_s",
    }
