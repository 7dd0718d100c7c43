"""`tracker run`: any program's console, exit code and signals, as if nobody stood between."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.shim.consoles import (
    Terminal,
    end,
    holders,
    losses,
    parent_of,
    recorded,
    recording_environment,
    wait_until,
)
from tests.shim.scripts import reading
from tracker.protocol import kinds
from tracker.protocol.header import HELPER, SUPERVISOR


def supervising(*command: str, options: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, "-m", "tracker", "run", "--project", "p", *options, "--", *command]


Popen = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def popen() -> Iterator[Popen]:
    """subprocess.Popen, of which nothing is left at the test's end."""
    processes: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: Any, **options: Any) -> "subprocess.Popen[bytes]":
        processes.append(subprocess.Popen(*arguments, **options))
        return processes[-1]

    yield begin
    for process in processes:
        end(process)


def supervise(*command: str, spool: Path, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        supervising(*command),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=recording_environment(spool, **more),
    )
    assert result.returncode == code, result
    return result


def supervisor_of(spool: Path) -> Any:
    """Return the supervisor's stream."""
    (found,) = [stream for stream in reading(spool) if stream.header.role == SUPERVISOR]
    return found


def python(script: str) -> tuple[str, ...]:
    return (sys.executable, "-c", textwrap.dedent(script))


def test_a_programs_console_and_exit_code_are_recorded(tmp_path: Path) -> None:
    result = supervise("sh", "-c", "echo out; echo err >&2; exit 3", spool=tmp_path, code=3)

    assert (result.stdout, result.stderr) == ("out\n", "err\n")
    assert recorded(tmp_path) == {"stdout": ["out"], "stderr": ["err"]}
    supervisor = supervisor_of(tmp_path)
    assert supervisor.of(kinds.RUN)[0].fields["project"] == "p"
    (ended,) = supervisor.of(kinds.EXIT)
    assert (ended.code, ended.facts) == (3, None)
    helper = [stream for stream in reading(tmp_path) if stream.header.role == HELPER]
    assert [stream.exits for stream in helper] == [[0]]
    assert helper[0].header.parent == supervisor.header.stream


def test_a_signal_that_ends_a_program_ends_the_supervisor_and_is_recorded(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGABRT):
        spool = tmp_path / number.name
        supervise("sh", "-c", f"kill -{number} $$", spool=spool, code=-number)

        (ended,) = supervisor_of(spool).of(kinds.EXIT)
        assert ended.code == 128 + number
        assert ended.facts is not None and ended.facts["signal"] == number and ended.facts["pid"] > 1


def test_what_cannot_be_started_ends_as_in_a_shell(tmp_path: Path) -> None:
    missing = supervise("no-such-program", spool=tmp_path / "1", code=127)
    refused = supervise("/etc/passwd", spool=tmp_path / "2", code=126)

    assert "no-such-program" in missing.stderr and "/etc/passwd" in refused.stderr
    assert supervisor_of(tmp_path / "1").exits == [127]


def test_stdin_arguments_and_environment_are_the_programs(tmp_path: Path) -> None:
    script = "import os, sys; print(sys.argv[1:], sys.stdin.read(), os.environ['KEPT'], os.getpgrp())"
    command = [*supervising(*python(script)), "--name", "--", "-x", "a b"]

    result = subprocess.run(
        command,
        input="typed",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=recording_environment(tmp_path, KEPT="kept"),
    )

    assert result.stdout == f"['--name', '--', '-x', 'a b'] typed kept {os.getpgrp()}\n"


def test_init_in_the_program_joins_the_run_without_a_second_tee(tmp_path: Path) -> None:
    script = """
        import os, tracker
        before = os.fstat(1)[:3]
        run = tracker.init(project="another", config={"lr": 1})
        assert os.fstat(1)[:3] == before
        print(run.id, run.project)
        run.log({"a": 1})
    """

    result = supervise(*python(script), spool=tmp_path, TRACKER_SILENT="1")

    streams = reading(tmp_path)
    assert {stream.header.run for stream in streams} == {result.stdout.split()[0]}
    assert result.stdout.split()[1] == "p"
    projects = {record.fields.get("project") for stream in streams for record in stream.of(kinds.RUN)}
    assert projects == {"p"}
    assert recorded(tmp_path)["stdout"] == [result.stdout.strip()]
    (training,) = [stream for stream in streams if stream.header.role is None]
    assert training.metrics == [(0, {"a": 1})]
    assert training.header.parent is None


COUNTING = """
import os, signal, sys, time
def note(number, frame):
    os.write(1, b"got %d\\n" % number)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, note)
os.write(1, b"ready\\n")
deadline = time.time() + 60
while not os.path.exists(sys.argv[1]) and time.time() < deadline:
    time.sleep(0.02)
"""


def start_counting(popen: Popen, tmp_path: Path, **options: Any) -> subprocess.Popen[bytes]:
    process = popen(
        supervising(sys.executable, "-c", COUNTING, str(tmp_path / "stop")),
        stdout=subprocess.PIPE,
        env=recording_environment(tmp_path / "spool"),
        **options,
    )
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    return process


def test_signals_to_the_supervisor_reach_the_program_once(popen: Popen, tmp_path: Path) -> None:
    process = start_counting(popen, tmp_path)
    assert process.stdout is not None

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
        process.send_signal(number)
        assert process.stdout.readline() == b"got %d\n" % number
    (tmp_path / "stop").touch()

    assert process.stdout.read() == b"" and process.wait(60) == 0


def test_signals_to_the_whole_group_reach_the_program_once(popen: Popen, tmp_path: Path) -> None:
    process = start_counting(popen, tmp_path, start_new_session=True)
    assert process.stdout is not None

    for number in (signal.SIGTERM, signal.SIGINT) * 6:  # one that is pending twice comes once: so try often
        os.killpg(process.pid, number)
        assert process.stdout.readline() == b"got %d\n" % number
    process.send_signal(signal.SIGUSR1)  # comes after whatever the others were handed on as
    assert process.stdout.readline() == b"got %d\n" % signal.SIGUSR1
    (tmp_path / "stop").touch()

    assert process.stdout.read() == b"" and process.wait(60) == 0


@pytest.mark.parametrize("console", ["redirect", "off"])
def test_ctrl_c_on_a_terminal_reaches_the_program_once_and_ends_as_without(
    console: str, tmp_path: Path
) -> None:
    script = """
        import sys, time
        assert sys.stdout.isatty() and sys.stdin.isatty()
        try:
            print("ready", flush=True)
            for _ in range(1200):  # one long sleep may begin just behind the signal
                time.sleep(0.05)
        except KeyboardInterrupt:
            time.sleep(0.3)
            print("interrupted once")
            raise
    """
    environ = recording_environment(tmp_path, TRACKER_CONSOLE=console)
    terminal = Terminal(supervising(*python(script)), environ)
    try:
        terminal.wait_for(b"ready\r\n")
        terminal.type(b"\x03")
        shown = terminal.read_to_end()
        assert terminal.process.wait(60) == -signal.SIGINT, shown
    finally:
        terminal.close()

    assert b"interrupted once" in shown and shown.count(b"Traceback") == 1
    (ended,) = supervisor_of(tmp_path).of(kinds.EXIT)
    assert ended.facts == {"signal": signal.SIGINT, "pid": ended.facts["pid"]}
    assert ("interrupted once" in recorded(tmp_path)["stdout"]) == (console == "redirect")


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_ctrl_z_stops_and_continues_all_of_it(tmp_path: Path) -> None:
    shell = 'set -m; "$@"; echo "shell goes on"; fg; echo "status $?"'
    script = """
        import os, time
        print("pid", os.getpid(), flush=True)
        time.sleep(1.5)
        print("end", flush=True)
    """
    command = ["bash", "-c", shell, "bash", *supervising(*python(script))]
    terminal = Terminal(command, recording_environment(tmp_path))
    try:
        terminal.wait_for(b"pid ")
        terminal.wait_for(b"\n")
        pid = int(terminal.shown.split(b"pid ")[1].split()[0])
        terminal.type(b"\x1a")
        terminal.wait_for(b"shell goes on")
        shown = terminal.read_to_end()
    finally:
        terminal.close()

    assert b"end" in shown and b"status 0" in shown
    assert pid and supervisor_of(tmp_path).exits == [0]


def test_a_killed_supervisor_leaves_the_program_and_its_recording_alone(popen: Popen, tmp_path: Path) -> None:
    script = """
        import os, sys, time
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(100):
            print("line", number, flush=True)
            sys.stderr.write("x")
            time.sleep(0.02)
        open(sys.argv[1], "w").close()
    """
    process = popen(
        supervising(*python(script), str(tmp_path / "ended")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=recording_environment(tmp_path / "spool"),
    )
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.wait(60)
    process.stdin.write(b"\n")
    process.stdin.close()

    shown = process.stdout.read()

    assert (tmp_path / "ended").exists()
    assert shown == b"".join(b"line %d\n" % number for number in range(100))
    assert recorded(tmp_path / "spool")["stdout"] == ["ready", *(f"line {n}" for n in range(100))]


def tees_below(supervisor: int, channel: str) -> list[int]:
    """Return guard and worker: a child of the supervisor, and its child."""
    found = holders(channel)
    pairs = [[parent_of(pid), pid] for pid in found if parent_of(parent_of(pid)) == supervisor]
    return pairs[0] if pairs else []


def test_a_killed_tee_is_replaced_even_all_of_it(popen: Popen, tmp_path: Path) -> None:
    script = """
        import os, sys
        os.write(2, os.readlink("/proc/self/fd/1").encode() + b"\\n")
        sys.stdin.readline()
        for number in range(30000):
            os.write(1, b"%08d\\n" % number)
        sys.exit(4)
    """
    process = popen(
        supervising(*python(script)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=recording_environment(tmp_path),
    )
    assert process.stdout is not None and process.stderr is not None and process.stdin is not None
    channel = process.stderr.readline().decode().strip()
    # Supervisor and program hold it, too: the tee is the guard and its child.
    tees = wait_until(lambda: tees_below(process.pid, channel))

    for pid in tees:
        os.kill(pid, signal.SIGKILL)
    process.stdin.write(b"\n")
    process.stdin.close()
    shown = process.stdout.read()

    assert tees and process.wait(60) == 4
    missing = {b"%08d" % number for number in range(30000)} - set(shown.split(b"\n"))
    assert not missing
    assert "00029999" in recorded(tmp_path)["stdout"]
    assert not losses(tmp_path)  # nothing was under way


def test_a_program_may_close_its_output_and_go_on(tmp_path: Path) -> None:
    result = supervise("sh", "-c", "echo out; exec >&- 2>&-; sleep 0.5; exit 6", spool=tmp_path, code=6)

    assert result.stdout == "out\n"
    assert recorded(tmp_path)["stdout"] == ["out"] and not losses(tmp_path)
    assert len(reading(tmp_path)) == 2


def test_a_program_whose_reader_is_gone_gets_sigpipe(popen: Popen, tmp_path: Path) -> None:
    process = popen(supervising("yes"), stdout=subprocess.PIPE, env=recording_environment(tmp_path))
    assert process.stdout is not None
    process.stdout.read(4)
    process.stdout.close()

    assert process.wait(60) == -signal.SIGPIPE


def test_disabled_runs_the_program_and_nothing_else(tmp_path: Path) -> None:
    result = supervise("sh", "-c", "echo $PPID; exit 5", spool=tmp_path, code=5, TRACKER_MODE="disabled")

    assert result.stdout == f"{os.getpid()}\n"
    assert not list(tmp_path.iterdir())


def test_a_command_is_asked_for() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tracker", "run", "--project", "p"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert result.returncode == 2 and "COMMAND" in result.stderr
