"""The example writers: whoever follows docs/record-format.md in any language writes runs like the shim's."""

import json
import os
import re
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.acknowledged import read_points
from tests.examples.writers import LANGUAGES, command_of
from tests.shim.command import succeeds, tracker_command
from tests.shim.portable.recording import Stream
from tests.shim.scripts import reading
from tests.support import require
from tests.support.agent_process import AgentProcess, wait_until
from tests.support.faulty_disks import SmallDisk
from tests.support.server_process import ServerProcess
from tracker.protocol import identity, kinds
from tracker.protocol.layout import live_name
from tracker.protocol.lock import path_lock_holder

STEPS = 150


@pytest.fixture(params=LANGUAGES)
def language(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def writer(language: str) -> list[str]:
    return command_of(language)


def write(writer: list[str], *arguments: object, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*writer, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **more,  # type: ignore[call-overload]
    )


def only_stream(spool: Path) -> Stream:
    (stream,) = reading(spool)
    assert isinstance(stream, Stream)
    return stream


def test_run_is_whole_and_every_value_reads_back(language: str, writer: list[str], tmp_path: Path) -> None:
    before = time.time_ns()
    done = write(writer, tmp_path, "a-run", STEPS)
    after = time.time_ns()

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    report = succeeds(tracker_command("verify", tmp_path))
    assert "  whole  (run a-run, exit 0)" in report
    stream = only_stream(tmp_path)
    assert stream.metrics == [(step, {"loss": 1 / (step + 1), "seen": 1000 * step}) for step in range(STEPS)]
    (run,) = stream.of(kinds.RUN)
    assert stream.records[0] == (kinds.RUN, run)
    assert run.fields["project"] == "writers"
    assert run.fields["name"].startswith("written in ")
    (config,) = stream.of(kinds.CONFIG)
    assert (config.set, config.removed) == ({"learning_rate": 0.1, "steps": STEPS}, [])
    assert stream.exits == [0]
    assert stream.records[-1][0] == kinds.EXIT
    times = [record.time for _, record in stream.records]
    assert times == sorted(times)
    # A shell's clock counts in hundredths of a second.
    assert before - 10**7 <= stream.header.started <= times[0] <= times[-1] <= after + 2 * 10**7


def test_header_says_where_the_run_comes_from(language: str, writer: list[str], tmp_path: Path) -> None:
    clock = time.monotonic_ns()
    done = subprocess.Popen([*writer, str(tmp_path), "a-run", "1"], stdin=subprocess.DEVNULL)
    assert done.wait(60) == 0

    header = only_stream(tmp_path).header
    assert header.machine == identity.machine_id()
    assert header.boot == identity.boot_id()
    assert header.host == socket.gethostname()
    assert header.pid == done.pid
    assert header.run == "a-run"
    assert header.writer == f"example-{language}/1"
    assert (header.version, header.segment, header.base) == (1, 0, 0)
    assert -(10**7) <= header.clock - clock <= 60 * 10**9


def test_files_are_made_as_the_format_says(language: str, writer: list[str], tmp_path: Path) -> None:
    assert write(writer, tmp_path / "new", "a-run", 1).returncode == 0

    run = tmp_path / "new" / str(os.geteuid()) / "a-run"
    stream = only_stream(tmp_path).header.stream
    expected = {f"{stream.hex()}.000000.mpl"} | ({live_name(stream)} if LANGUAGES[language].locks else set())
    assert {path.name for path in run.iterdir()} == expected
    umask = os.umask(0o022)
    os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in run.iterdir()} == {0o660 & ~umask}
    assert run.stat().st_mode & 0o777 == 0o770 & ~umask


def test_two_writers_of_one_run_do_not_meet(writer: list[str], tmp_path: Path) -> None:
    processes = [subprocess.Popen([*writer, str(tmp_path), "a-run", "20"]) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]

    streams = reading(tmp_path)
    assert len({stream.header.stream for stream in streams}) == 2
    assert all(len(stream.metrics) == 20 for stream in streams)


def test_each_record_is_one_write(writer: list[str], tmp_path: Path) -> None:
    strace = require.program("strace")
    trace = tmp_path / "trace"
    command = [strace, "-f", "-qq", "-y", "-e", "trace=write,writev,pwrite64", "-o", str(trace), *writer]

    assert write(command, tmp_path / "spool", "a-run", 10).returncode == 0

    written = [
        int(line.rpartition("= ")[2])
        for line in trace.read_text().splitlines()
        if ".mpl>" in line.partition(",")[0]
    ]
    (segment,) = (tmp_path / "spool").rglob("*.mpl")
    records = succeeds(tracker_command("cat", segment.parent, "--json")).splitlines()
    assert len(written) == len(records) == 14
    assert sum(written) == segment.stat().st_size


def test_lock_is_held_while_it_writes_and_what_was_written_outlives_a_kill(
    language: str, writer: list[str], tmp_path: Path
) -> None:
    process = subprocess.Popen([*writer, str(tmp_path), "a-run", "100000", "0.01"], stdin=subprocess.DEVNULL)
    run = tmp_path / str(os.geteuid()) / "a-run"

    def lines() -> int:
        shown = tracker_command("cat", run, "--kind", "metrics")
        return len(shown.stdout.splitlines()) if shown.returncode == 0 else 0

    try:
        wait_until(lambda: lines() >= 3, what="three records")
        (segment,) = run.glob("*.mpl")
        lock = run / live_name(bytes.fromhex(segment.name[:32]))
        holder = path_lock_holder(str(lock))
    finally:
        process.kill()
        process.wait()

    assert holder == (process.pid if LANGUAGES[language].locks else None)
    assert path_lock_holder(str(lock)) is None
    wait_until(lambda: is_whole(run), what="a whole stream")  # bash's dd may still be at work
    assert "(run a-run, no EXIT)" in tracker_command("verify", run).stdout
    steps = [step for step, _ in only_stream(tmp_path).metrics]
    assert steps == list(range(len(steps)))


def test_what_a_full_disk_refuses_is_counted_and_told_when_there_is_room(
    writer: list[str], tmp_path: Path
) -> None:
    with SmallDisk(tmp_path / "disk", 64 * 1024) as disk:
        run = disk.path / str(os.geteuid()) / "a-run"
        disk.fill(leave_bytes=20 * 1024)
        process = subprocess.Popen(
            [*writer, str(disk.path), "a-run", "100000", "0.002"], stdin=subprocess.DEVNULL
        )
        try:
            wait_until(refused(process, run), what="a full disk")
            disk.free()
            wait_until(lambda: lost_records(run), what="a record of what was lost")
        finally:
            process.kill()
            process.wait()
        wait_until(lambda: is_whole(run), what="a whole stream")  # bash's dd may still be at work
        stream = only_stream(disk.path)
        lost = lost_records(run)

    steps = [step for step, _ in stream.metrics]
    assert steps == sorted(set(steps))
    assert len(steps) + lost == steps[-1] + 1


def is_whole(run: Path) -> bool:
    return "  whole  " in tracker_command("verify", run).stdout


def refused(process: subprocess.Popen[bytes], run: Path) -> Callable[[], bool]:
    """Return a function that tells whether the writer goes on writing in vain: its segment grows no more."""
    seen: list[int] = []

    def is_refused() -> bool:
        sizes = [segment.stat().st_size for segment in run.glob("*.mpl")]
        # Of its own and of the children that it waited for.
        writes = int(re.findall(r"syscw: (\d+)", Path(f"/proc/{process.pid}/io").read_text())[0])
        if not sizes:
            return False
        if seen[:1] != sizes:
            seen[:] = [*sizes, writes]
        return writes > seen[1] + 30

    return is_refused


def lost_records(run: Path) -> int:
    """Return how many the writer says it dropped. A line that it is about to take back does not disturb."""
    shown = succeeds(tracker_command("cat", run, "--kind", "lost", "--json"))
    return sum(json.loads(line)["records"] for line in shown.splitlines())


def test_a_spool_that_cannot_be_written_is_an_exit_code(writer: list[str], tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")

    done = write(writer, tmp_path / "spool", "a-run", 1)

    assert done.returncode not in (0, 2)
    assert done.stderr


def test_a_wrong_call_is_answered_with_the_usage(writer: list[str]) -> None:
    done = write(writer)

    assert done.returncode == 2
    assert "SPOOL RUN [STEPS [PAUSE_S]]" in done.stderr


@pytest.mark.parametrize(
    "number", ["0", "-0.1", "1e-310", "5e-324", "1.7976931348623157e308", "123456.789", "inf", "nan"]
)
def test_floats_of_the_shell_are_exact(number: str) -> None:
    source = command_of("bash")[1]
    script = f"source <(sed -n '/^float()/,/^}}/p' {source}); export LC_ALL=C; float {number}; echo $REPLY"

    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "cb" + struct.pack(">d", float(number)).hex()


# Shipped


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server")) as process:
        yield process


def finished_run(server: ServerProcess, run: str) -> Any:
    found = server.try_get(f"/api/v1/runs/default/writers/{run}")
    return found if found and found["state"] == "finished" else None


def test_agent_ships_what_they_write(server: ServerProcess, tmp_path: Path) -> None:
    writers = {name: command_of(name) for name in LANGUAGES}
    with AgentProcess(tmp_path, server.url, server.ingest_key) as agent:
        processes = [
            subprocess.Popen(
                [*command, str(agent.spool), f"in-{name}", "50", "0.01"], stdin=subprocess.DEVNULL
            )
            for name, command in writers.items()
        ]
        assert [process.wait(120) for process in processes] == [0] * len(writers)

        for name in writers:
            run = wait_until(
                lambda name=name: finished_run(server, f"in-{name}"), what=f"a finished run in {name}"
            )
            points = read_points(server, f"in-{name}", "loss", "writers")
            assert points == [(step, 1 / (step + 1)) for step in range(50)]
            assert run["name"].startswith("written in")
            assert run["config"]["learning_rate"] == 0.1


def test_sync_ships_what_no_agent_took(server: ServerProcess, tmp_path: Path) -> None:
    assert write(command_of("bash"), tmp_path, "by-sync", 20).returncode == 0
    environ = {"TRACKER_DIR": str(tmp_path)}
    succeeds(tracker_command("login", "--server", server.url, stdin=server.ingest_key, **environ))

    said = succeeds(tracker_command("sync", "by-sync", "--server", server.url + "/", **environ))

    assert "done: 1 of 1 streams of 1 runs" in said
    assert len(read_points(server, "by-sync", "loss", "writers")) == 20
