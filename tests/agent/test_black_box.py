"""Why writers are gone: real processes with real ends, seen by a real agent."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import UID, Spool, Start, eventually, make_header
from tests.support import require
from tests.support.fake_tracker_server import FakeTrackerServer
from tests.support.live_writer import LiveWriter
from tests.support.memory_cgroup import memory_cgroup
from tracker_agent.disk import Disk
from tracker_agent.evidence import KILLED_FOR_MEMORY, REBOOT, RUNS_ON, UNKNOWN, Findings
from tracker_agent.exit_status import ExitStatus, pidfds_tell
from tracker_agent.kernel_log import KernelLog
from tracker_agent.pipeline import Pipeline
from tracker_agent.witness_memory import Remembered, WitnessMemory


def writing(spool: Spool, end: str = "", cgroup: Path | None = None) -> LiveWriter:
    """Start a process that writes a stream and comes to an end of its own kind when told to."""
    return LiveWriter(spool.run("run"), end=end, cgroup=cgroup)


async def gone(server: FakeTrackerServer, stream: bytes, timeout_s: float = 30.0) -> dict[str, Any]:
    """Return the facts of the observation that a stream's writer is gone."""
    await eventually(
        lambda: [state for state, _ in server.states(stream)][-1:] == ["gone"], timeout_s, "the end is seen"
    )
    facts: dict[str, Any] = server.states(stream)[-1][1]
    return facts


async def see_live(server: FakeTrackerServer, writer: LiveWriter, pipeline: Pipeline) -> None:
    """Wait until an agent knows that a training lives, and has taken its baseline."""
    await eventually(lambda: server.states(writer.stream))
    cases = pipeline._witness._cases
    await eventually(lambda: all(case.looked for case in cases.values()))


def need_wait_statuses() -> None:
    if not pidfds_tell(os.uname().release):
        require.absent("wait statuses", f"Linux {os.uname().release} has no PIDFD_INFO_EXIT", "Linux 6.15")


def pidfds() -> int:
    """Return how many pidfds this process holds."""
    links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd.isdigit()
             and os.path.islink(f"/proc/self/fd/{fd}")]  # fmt: skip
    return sum("pidfd" in link for link in links)


def kernel_log_is_readable() -> bool:
    return not KernelLog(time.monotonic).problem


async def test_a_training_killed_for_memory_in_its_cgroup_is_said_to_be(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    eat = "x = []\nwhile True: x.append(bytearray(1 << 20))"
    with memory_cgroup(96 * 2**20) as cgroup, writing(spool, eat, cgroup) as writer:
        async with start() as pipeline:
            await see_live(server, writer, pipeline)
            writer.go_on()
            await asyncio.to_thread(writer.process.wait)
            assert writer.process.returncode == -signal.SIGKILL

            facts = await gone(server, writer.stream)

    assert facts["cause"] == KILLED_FOR_MEMORY
    assert cgroup.name in facts["evidence"]["cgroup"]
    assert str(96 * 2**20) in facts["evidence"]["cgroup"]
    assert abs(facts["died"] - time.time_ns()) < 60 * 10**9
    if kernel_log_is_readable():
        assert f"rocess {writer.process.pid} " in facts["evidence"]["kernel"] or (
            f"pid={writer.process.pid}," in facts["evidence"]["kernel"]
        )


@pytest.mark.parametrize(
    ("end", "cause", "number"),
    [
        ("ctypes.string_at(0)", "killed by SIGSEGV", {"signal": 11}),
        ("os.abort()", "killed by SIGABRT", {"signal": 6}),
        ("os._exit(3)", "ended with code 3 and without a word", {"code": 3}),
        ("os.kill(os.getpid(), 9)", "killed by SIGKILL", {"signal": 9}),
    ],
)
async def test_an_end_without_exit_is_told_by_the_wait_status(
    spool: Spool, server: FakeTrackerServer, start: Start, end: str, cause: str, number: dict[str, int]
) -> None:
    need_wait_statuses()
    with writing(
        spool, f"import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); {end}"
    ) as writer:
        async with start() as pipeline:
            await see_live(server, writer, pipeline)
            writer.go_on()
            await asyncio.to_thread(writer.process.wait)

            facts = await gone(server, writer.stream)

    assert facts["cause"] == cause
    assert {**facts, **number} == facts
    assert "pidfd" in facts["evidence"]["wait"] or "zombie" in facts["evidence"]["wait"]
    if "SIGSEGV" in cause and kernel_log_is_readable():
        assert f"[{writer.process.pid}]: segfault at 0" in facts["evidence"]["kernel"]


async def test_a_process_that_becomes_another_program_runs_on_without_its_stream(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    with writing(spool, "os.execv('/bin/sleep', ['sleep', '60'])") as writer:
        async with start(pidfds_max=0) as pipeline:
            await see_live(server, writer, pipeline)
            writer.go_on()

            facts = await gone(server, writer.stream)
        assert writer.process.poll() is None

    assert facts["cause"] == RUNS_ON


async def test_an_end_that_no_agent_saw_has_no_cause(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    with writing(spool) as writer:
        async with start():
            await eventually(lambda: server.states(writer.stream))
        writer.kill()
        async with start():
            facts = await gone(server, writer.stream)

    assert facts["cause"] == UNKNOWN
    assert "no agent ran" in facts["evidence"]["missing"]


async def test_what_was_seen_before_a_restart_of_the_agent_is_told_after_it(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    need_wait_statuses()
    with writing(spool) as writer:
        async with start() as pipeline:
            await see_live(server, writer, pipeline)
            await asyncio.to_thread(server.stop)
            writer.kill()
            cases = pipeline._witness._cases
            await eventually(lambda: all(case.testimony for case in cases.values()))
        await asyncio.to_thread(server.start)
        async with start():
            facts = await gone(server, writer.stream)

    assert facts["cause"] == "killed by SIGKILL"
    assert facts["died"] < time.time_ns()


async def test_a_kill_for_memory_while_no_agent_ran_is_found_where_two_facts_agree(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    if not kernel_log_is_readable():
        require.absent("the kernel's log", "/dev/kmsg cannot be read", "run the tests as root")
    eat = "x = []\nwhile True: x.append(bytearray(1 << 20))"
    with memory_cgroup(96 * 2**20) as cgroup, writing(spool, eat, cgroup) as writer:
        async with start() as pipeline:
            await see_live(server, writer, pipeline)
        writer.go_on()
        await asyncio.to_thread(writer.process.wait)
        async with start():
            facts = await gone(server, writer.stream)

    assert facts["cause"] == KILLED_FOR_MEMORY
    assert "no agent ran" in facts["evidence"]["missing"]


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"version": 1}', '{"version": 1, "boot": "b", "writers": {"x": {}}}']
)
async def test_a_damaged_memory_costs_only_what_it_held(
    spool: Spool, server: FakeTrackerServer, start: Start, tmp_path: Path, content: str
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "evidence.json").write_text(content)
    stream = spool.write(exit_code=None)

    async with start():
        facts = await gone(server, stream)

    assert facts["cause"] == UNKNOWN


async def test_an_end_seen_while_the_server_was_away_is_told_with_its_cause_later(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    need_wait_statuses()
    with writing(spool) as writer:
        async with start() as pipeline:
            await see_live(server, writer, pipeline)
            await asyncio.to_thread(server.stop)
            writer.kill()
            cases = pipeline._witness._cases
            await eventually(lambda: all(case.testimony for case in cases.values()))
            assert [state for state, _ in server.states(writer.stream)] == ["live"]
            await asyncio.to_thread(server.start)

            facts = await gone(server, writer.stream)

    assert facts["cause"] == "killed by SIGKILL"


async def test_a_writer_that_says_how_it_ends_is_believed(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    end = "writer.write(kinds.EXIT, bodies.Exit(time.time_ns(), 1).encode()); writer.close()"
    with writing(spool, end) as writer:
        async with start() as pipeline:
            await see_live(server, writer, pipeline)
            writer.go_on()
            await asyncio.to_thread(writer.process.wait)

            facts = await gone(server, writer.stream)

    assert facts["cause"] == "exit"


async def test_a_machine_that_does_not_answer_costs_the_evidence_and_nothing_else(
    spool: Spool, server: FakeTrackerServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr("tracker_agent.witness.SCENE_WAIT_S", 0.05)
    monkeypatch.setattr("tracker_agent.scene.Scene.arrive", lambda *_: release.wait(30))
    with writing(spool) as writer:
        async with start() as pipeline:
            await eventually(lambda: server.states(writer.stream))
            writer.kill()

            facts = await gone(server, writer.stream)
            assert pipeline.status()["evidence"]["timeouts"] >= 1
            release.set()

    assert facts["cause"] == UNKNOWN
    assert server.content(writer.stream) == spool.content(writer.stream)


async def test_a_reboot_is_known_by_the_boot_id(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    stream = spool.write(exit_code=None, header=make_header("run", boot="an earlier boot"))

    async with start():
        facts = await gone(server, stream)

    assert facts["cause"] == REBOOT
    assert "an earlier boot" in facts["evidence"]["boot"]


async def test_a_death_that_was_seen_is_not_put_down_to_a_later_reboot(
    spool: Spool, server: FakeTrackerServer, start: Start, tmp_path: Path
) -> None:
    stream = spool.write(exit_code=None, header=make_header("run", boot="an earlier boot"))
    seen = Remembered(5, Findings(ExitStatus(None, 9, False, "pidfd")), None)
    WitnessMemory(str(tmp_path / "state"), "an earlier boot", Disk()).write({(UID, stream): seen})

    async with start():
        facts = await gone(server, stream)

    assert (facts["cause"], facts["died"]) == ("killed by SIGKILL", 5)


async def test_evidence_is_bounded_and_descriptors_go_back(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    async with start() as pipeline:
        for _ in range(3):
            with writing(spool) as writer:
                await see_live(server, writer, pipeline)
                writer.kill()
                facts = await gone(server, writer.stream)
                assert len(repr(facts["evidence"])) < 8000
        await eventually(lambda: pidfds() == 0)
        assert pipeline.status()["evidence"]["writers"] == 0
