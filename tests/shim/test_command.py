"""The command `tracker` as a whole, `ls` and `verify`."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.shim.command import succeeds, tracker_command
from tests.shim.scripts import environment, run_script, start_script
from tracker import _cli
from tracker.protocol import kinds
from tracker.protocol.codec import Seeds, encode_line

#: Behind RECORD: the run stays open until the process is killed.
UP = "; print('up', flush=True); import signal; signal.pause()"
RECORD = (
    "import sys, tracker; tracker.init(project=sys.argv[2], name=sys.argv[1], id=sys.argv[1]).log({'a': 1})"
)


def record_two_runs(spool: Path) -> None:
    for name in ("first", "second"):
        run_script(RECORD, name, "p", TRACKER_DIR=str(spool))


def listed(*arguments: object, **more: str) -> list[str]:
    """Return the ids of the runs that `ls` prints."""
    return [line.split()[0] for line in succeeds(tracker_command("ls", *arguments, **more)).splitlines()[1:]]


# ls


def test_ls_lists_runs_of_a_spool_a_user_or_one_run(tmp_path: Path) -> None:
    record_two_runs(tmp_path)
    own = tmp_path / str(os.geteuid())

    listings = [
        tracker_command("ls", TRACKER_DIR=str(tmp_path), XDG_STATE_HOME=str(tmp_path / "none")).stdout,
        tracker_command("ls", tmp_path).stdout,
        tracker_command("ls", own).stdout,
    ]

    for listing in listings:
        lines = listing.splitlines()
        assert [line.split()[0] for line in lines] == ["RUN", "first", "second"], listing
        assert lines[1].endswith(str(own / "first"))
    assert tracker_command("ls", own / "first").stdout.splitlines()[1].split()[:4] == [
        "first",
        "first",
        "p",
        "finished",
    ]


def test_ls_passes_over_what_is_no_run(tmp_path: Path) -> None:
    record_two_runs(tmp_path)
    own = tmp_path / str(os.geteuid())
    (own / "strange").mkdir()
    (own / "strange" / ("0" * 32 + ".000000.mpl")).write_bytes(b"not a segment")

    assert listed(tmp_path) == ["first", "second"]


def test_ls_tells_what_became_of_runs(tmp_path: Path) -> None:
    spool = str(tmp_path)
    run_script(RECORD + "; sys.exit(3)", "failed", "p", code=3, TRACKER_DIR=spool)
    run_script(RECORD + "; import os; os._exit(0)", "crashed", "p", TRACKER_DIR=spool)
    run_script(RECORD + "; tracker.finish(0)", "finished", "p", TRACKER_DIR=spool)
    running = start_script(RECORD + UP, "running", "p", TRACKER_DIR=spool)
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == "up\n"

        states = {
            state: listed(tmp_path, "--state", state)
            for state in ("failed", "crashed", "finished", "running")
        }
    finally:
        running.kill()
        running.communicate()

    assert states == {state: [state] for state in states}
    assert listed(tmp_path, "--state", "crashed") == ["crashed", "running"]


def test_ls_filters_and_prints_json(tmp_path: Path) -> None:
    record_two_runs(tmp_path)
    run_script(RECORD, "third", "other", TRACKER_DIR=str(tmp_path))

    found = json.loads(succeeds(tracker_command("ls", tmp_path, "--json", "--project", "o*")))

    assert listed(tmp_path, "--project", "p") == ["first", "second"]
    assert listed(tmp_path, "--name", "*ir*") == ["first", "third"]
    assert listed(tmp_path, "--last", "2") == ["second", "third"]
    assert listed(tmp_path, "--last", "0") == []
    (run,) = found
    directory = tmp_path / str(os.geteuid()) / "third"
    assert (run["run"], run["project"], run["state"], run["streams"]) == ("third", "other", "finished", 1)
    assert run["directory"] == str(directory)
    assert run["size"] == sum(path.stat().st_size for path in directory.glob("*.mpl"))
    assert abs(run["started"] / 1e9 - time.time()) < 600


def test_children_and_passers_by_do_not_make_a_run_crashed_or_finished(tmp_path: Path) -> None:
    # The fork leaves with EXIT, or as pools end their workers; a shell script adds a number afterwards.
    script = (
        RECORD
        + """
import os
if os.fork() == 0:
    tracker.log({"b": 1})
    if sys.argv[1] == "crashed":
        tracker.finish()
    os._exit(0)
os.wait()
if sys.argv[1] == "crashed":
    os._exit(0)
"""
    )
    for run in ("crashed", "finished"):
        run_script(script, run, "p", TRACKER_DIR=str(tmp_path))
        succeeds(tracker_command("log", "--run", run, "c=1", TRACKER_DIR=str(tmp_path)))

    for run in ("crashed", "finished"):
        assert listed(tmp_path, "--state", run) == [run]


def test_where_no_run_was_found_is_said(tmp_path: Path) -> None:
    nowhere = {"TRACKER_DIR": str(tmp_path / "a"), "XDG_STATE_HOME": str(tmp_path / "b")}

    results = [
        tracker_command("ls", **nowhere),
        tracker_command("ls", tmp_path),
        tracker_command("ls", "--json", **nowhere),
    ]

    assert [result.returncode for result in results] == [0, 0, 0]
    assert f"no such run in {tmp_path / 'a'}, " in results[0].stderr
    assert f"{tmp_path / 'b'}/tracker/spool" in results[0].stderr
    assert results[1].stderr == f"tracker ls: no such run in {tmp_path}\n"
    assert json.loads(results[2].stdout) == []


def test_a_working_directory_that_is_gone_is_in_nobodys_way(tmp_path: Path) -> None:
    record_two_runs(tmp_path)
    command = f"mkdir gone && cd gone && rmdir ../gone && exec {sys.executable} -m tracker ls"

    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env=environment(TRACKER_DIR=str(tmp_path)),
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["RUN", "first", "second"]


def test_a_wrong_directory_is_named(tmp_path: Path) -> None:
    result = tracker_command("ls", tmp_path / "none")

    assert result.returncode == 2
    assert "none is not a directory" in result.stderr


def test_names_cannot_command_the_terminal_and_what_is_no_file_holds_nothing_up(tmp_path: Path) -> None:
    script = "import tracker; tracker.init(project='p', name='a\\x1b[31m\\nb\\u202e', id='odd').log({'a': 1})"
    run_script(script, TRACKER_DIR=str(tmp_path))
    own = tmp_path / str(os.geteuid())
    (own / "fifo").mkdir()
    os.mkfifo(str(own / "fifo" / ("0" * 32 + ".000000.mpl")))
    os.mkfifo(str(own / "odd" / ("1" * 32 + ".000000.mpl")))
    os.symlink("nowhere", str(own / "odd" / ("2" * 32 + ".000000.mpl")))

    result = tracker_command("ls", tmp_path, PYTHONIOENCODING="utf-8")

    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 2
    assert r"a\x1b[31m\nb\u202e" in result.stdout


# verify


def test_verify_tells_whole_runs_from_damaged_ones(tmp_path: Path) -> None:
    record_two_runs(tmp_path)
    (segment,) = (tmp_path / str(os.geteuid()) / "second").glob("*.mpl")

    whole = tracker_command("verify", tmp_path)
    data = bytearray(segment.read_bytes())
    data[-20] ^= 1
    segment.write_bytes(data)
    damaged = tracker_command("verify", tmp_path)

    assert whole.returncode == 0, whole.stdout
    assert damaged.returncode == 1, damaged.stdout


# The command itself


def test_version_is_told() -> None:
    assert tracker_command("--version").stdout.startswith("tracker 0.")


def test_every_command_is_listed_and_explains_itself() -> None:
    overview = succeeds(tracker_command("--help"))

    assert overview == succeeds(tracker_command("help"))
    for name, command in _cli.COMMANDS.items():
        assert f"  {name} " in overview
        assert command.summary in overview
        text = succeeds(tracker_command(name, "--help", COLUMNS="80"))
        assert text == succeeds(tracker_command("help", name, COLUMNS="80"))
        assert text.startswith(f"usage: tracker {name}")
        assert not [line for line in text.splitlines() if len(line) > 90], name


def test_no_command_is_a_wrong_call_that_shows_what_there_is() -> None:
    result = tracker_command()

    assert result.returncode == 2
    assert result.stdout == succeeds(tracker_command("--help"))


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("lst", "did you mean `tracker ls`?"),
        ("quux", "`tracker --help` lists them"),
        ("a\x1b[2J", r"'a\x1b[2J'"),
    ],
)
def test_an_unknown_command_is_answered_with_a_near_one(given: str, hint: str) -> None:
    result = tracker_command(given)

    assert result.returncode == 2
    assert hint in result.stderr
    assert len(result.stderr.splitlines()) == 1


def large_run(directory: Path) -> Path:
    """Write a run of some megabytes."""
    run_script(RECORD, "large", "p", TRACKER_DIR=str(directory))
    run = directory / str(os.geteuid()) / "large"
    (segment,) = run.glob("*.mpl")
    seeds = Seeds(bytes.fromhex(segment.name[:32]), 0)
    from tracker.protocol.bodies import Metrics

    line = encode_line(kinds.METRICS, Metrics(1, 1, {"value": 0.5}).encode(), seeds[kinds.METRICS])
    with segment.open("ab") as file:
        file.write(line * 50_000)
    return run


def start_command(*arguments: str, stdout: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tracker", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    process = start_command("cat", str(large_run(tmp_path)), stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None

    process.stdout.readline()
    process.stdout.close()

    assert process.wait(60) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


def test_output_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    run_script(RECORD, "run", "p", TRACKER_DIR=str(tmp_path))
    with open("/dev/full", "w") as full:
        process = start_command("ls", str(tmp_path), stdout=full.fileno())
        _, err = process.communicate(timeout=60)

    assert process.returncode == 1
    assert err == "tracker ls: No space left on device\n"


def test_ctrl_c_is_quiet(tmp_path: Path) -> None:
    running = start_script(RECORD + UP, "run", "p", TRACKER_DIR=str(tmp_path))
    assert running.stdout is not None
    running.stdout.readline()
    run = tmp_path / str(os.geteuid()) / "run"
    process = start_command("cat", "--follow", str(run), stdout=subprocess.PIPE)
    assert process.stdout is not None

    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    running.kill()
    running.communicate()

    assert process.returncode == 130
    assert err == ""
