"""What the agent sees of writers: real processes, killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.agent.conftest import Spool, Start, eventually, make_header
from tests.support.fake_tracker_server import FakeTrackerServer
from tracker_agent.exit_status import pidfds_tell

WRITER = """
import os, sys, time
from tests.agent.conftest import make_header
from tracker.protocol import bodies, kinds
from tracker.protocol.writer import StreamWriter
def write():
    header = make_header("run", pid=os.getpid())
    writer = StreamWriter(sys.argv[1], header)
    writer.write(kinds.RUN, bodies.Run(time.time_ns(), {"project": "p"}).encode())
    writer.write(kinds.METRICS, bodies.Metrics(time.time_ns(), 1, {"a": 1.0}).encode())
    return header, writer
header, writer = write()
if "fork" in sys.argv and os.fork() == 0:
    writer.forget()
    header, writer = write()
os.write(1, b"%s %d\\n" % (header.stream.hex().encode(), os.getpid()))
if "finish" in sys.argv:
    sys.stdin.read()
    writer.write(kinds.EXIT, bodies.Exit(time.time_ns(), 0).encode())
    writer.close()
time.sleep(600)
"""


def start_writer(spool: Spool, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(spool.run("run")), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )


def said(process: subprocess.Popen[str]) -> tuple[bytes, int]:
    assert process.stdout is not None
    stream, pid = process.stdout.readline().split()
    return bytes.fromhex(stream), int(pid)


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


@pytest.mark.parametrize("pidfds_max", [100, 0], ids=["pidfd", "polled"])
async def test_killed_writer_is_observed_live_then_gone_with_its_pid(
    spool: Spool, server: FakeTrackerServer, start: Start, pidfds_max: int
) -> None:
    writer = start_writer(spool)
    stream, pid = said(writer)

    async with start(pidfds_max=pidfds_max) as pipeline:
        await eventually(lambda: server.states(stream) == [("live", {"pid": pid})])
        assert pipeline.status()["streams"]["live"] >= 1
        assert pipeline.status()["pidfds"] == min(1, pidfds_max)
        end(writer)

        await eventually(lambda: len(server.states(stream)) == 2, timeout_s=5)
        state, facts = server.states(stream)[1]
        assert state == "gone"
        if pidfds_tell(os.uname().release):
            assert (facts["cause"], facts["signal"]) == ("killed by SIGKILL", 9)
        else:  # a zombie tells those who may know
            assert facts["cause"] in ("killed by SIGKILL", "vanished, cause unknown")
    assert server.content(stream) == spool.content(stream)


async def test_writer_that_finishes_and_lives_on_is_gone_with_its_exit(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    writer = start_writer(spool, "finish")
    stream, _ = said(writer)

    async with start():
        await eventually(lambda: server.states(stream))
        assert writer.stdin is not None
        writer.stdin.close()

        await eventually(lambda: len(server.states(stream)) == 2, timeout_s=5)
        assert server.states(stream)[1][1]["cause"] == "exit"
        assert writer.poll() is None
    end(writer)


async def test_fork_child_is_a_writer_of_its_own(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    writer = start_writer(spool, "fork")
    first, second = said(writer), said(writer)

    async with start():
        await eventually(lambda: server.states(first[0]) and server.states(second[0]))
        parent, child = (first, second) if first[1] == writer.pid else (second, first)
        os.kill(child[1], 9)

        await eventually(lambda: len(server.states(child[0])) == 2, timeout_s=5)
        assert [state for state, _ in server.states(parent[0])] == ["live"]
    end(writer)


async def test_streams_of_an_earlier_boot_are_gone_because_of_the_reboot(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    stream = spool.write(exit_code=None, header=make_header("run", boot="an earlier boot"))

    async with start():
        states = await eventually(lambda: server.states(stream))

    assert [(state, facts["cause"]) for state, facts in states] == [("gone", "reboot")]


async def test_restart_repeats_no_observation_and_a_lost_state_repeats_it_alike(
    spool: Spool, server: FakeTrackerServer, start: Start, tmp_path: Path
) -> None:
    stream = spool.write()
    async with start() as pipeline:
        await eventually(lambda: server.states(stream))
        await eventually(lambda: pipeline.status()["streams"]["shipped"] == 1)
    async with start() as pipeline:
        await eventually(lambda: pipeline.status()["streams"]["shipped"] >= 1)
    assert len(server.states(stream)) == 1
    (tmp_path / "state" / "checkpoint.json").write_text("{damaged")

    async with start():
        await eventually(lambda: len(server.states(stream)) == 2)

    assert server.states(stream)[0] == server.states(stream)[1]
    assert (tmp_path / "state" / "checkpoint.json.corrupt").read_text() == "{damaged"


async def test_killed_writer_shows_within_five_seconds_at_default_settings(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    writer = start_writer(spool)
    stream, _ = said(writer)

    async with start(scan_interval_s=0.5, flush_interval_s=0.2, retry_first_s=1.0):
        await eventually(lambda: server.states(stream))
        killed = time.monotonic()
        end(writer)

        await eventually(lambda: len(server.states(stream)) == 2, timeout_s=5)
    print(f"gone after {time.monotonic() - killed:.3f} s")
