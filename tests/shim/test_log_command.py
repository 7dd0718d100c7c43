"""`tracker log`: shell scripts record values."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shim.command import succeeds, tracker_command
from tests.shim.portable.recording import Stream
from tests.shim.scripts import environment, reading, run_script
from tests.support.faulty_disks import SmallDisk
from tracker.protocol import kinds


def log(spool: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return tracker_command("log", *arguments, TRACKER_DIR=str(spool), **more)


def streams(spool: Path) -> list[Stream]:
    found: list[Stream] = reading(spool)
    return found


def rows(spool: Path) -> list[tuple[int, dict[str, float]]]:
    return [row for stream in streams(spool) for row in stream.metrics]


def test_a_new_run_is_begun_and_its_id_printed(tmp_path: Path) -> None:
    result = log(tmp_path, "--project", "backups", "--name", "nightly", "--config", "host=db3", "bytes=5")

    (stream,) = streams(tmp_path)
    assert succeeds(result) == f"{stream.header.run}\n"
    assert "run nightly" in result.stderr
    fields = stream.of(kinds.RUN)[0].fields
    assert (fields["project"], fields["name"]) == ("backups", "nightly")
    assert stream.of(kinds.CONFIG)[0].set == {"host": "db3"}
    assert stream.metrics == [(0, {"bytes": 5})]
    assert stream.exits == [0]


def test_an_existing_run_is_added_to_and_stays_what_it_was(tmp_path: Path) -> None:
    script = """
        import tracker
        run = tracker.init(project="p", entity="team", name="first", id="run", config={"lr": 1}, tags=["a"])
        for step in range(5):
            run.log({"loss": step})
        run.name = "renamed"
        run.summary["best"] = 1
    """
    run_script(script, TRACKER_DIR=str(tmp_path))

    result = log(
        tmp_path, "--run", "run", "--project", "other", "--name", "other", "score=0.5", TRACKER_PROJECT="x"
    )

    assert (succeeds(result), result.stderr) == ("", "")
    _, added = streams(tmp_path)
    assert added.metrics == [(5, {"score": 0.5})]
    assert added.header.run == "run"
    described: dict[str, object] = {}
    for record in added.of(kinds.RUN):
        described.update(record.fields)
    assert described["project"] == "p"
    assert described["entity"] == "team"
    assert described.get("name", "renamed") == "renamed"
    assert described.get("tags", ["a"]) == ["a"]


def test_steps_go_on_from_call_to_call_and_may_be_given(tmp_path: Path) -> None:
    run = succeeds(log(tmp_path, "a=1")).strip()

    for arguments in (["a=2"], ["--step", "10", "a=3"], ["a=4"]):
        succeeds(log(tmp_path, "--run", run, *arguments))

    assert rows(tmp_path) == [(0, {"a": 1}), (1, {"a": 2}), (10, {"a": 3}), (11, {"a": 4})]


def test_a_step_is_that_of_the_first_line(tmp_path: Path) -> None:
    succeeds(tracker_command("log", "--step", "10", "-", TRACKER_DIR=str(tmp_path), stdin="a=1\na=2\n"))

    assert rows(tmp_path) == [(10, {"a": 1}), (11, {"a": 2})]


def test_values_are_numbers_where_they_look_like_some(tmp_path: Path) -> None:
    succeeds(
        log(tmp_path, "i=-3", "f=1e-3", "inf=-inf", "t=true", "f/x=false", "text=1_000", "path=a=b", "none=")
    )

    (stream,) = streams(tmp_path)
    assert stream.metrics == [(0, {"i": -3, "f": 0.001, "inf": float("-inf"), "t": True, "f/x": False})]
    assert {value.name: value.data for value in stream.of(kinds.VALUE)} == {
        "text": "1_000",
        "path": "a=b",
        "none": "",
    }
    assert {type(value) for value in stream.metrics[0][1].values()} == {int, float, bool}


def test_stdin_is_a_record_a_line_in_one_stream(tmp_path: Path) -> None:
    lines = 'a=1 b=2\n\n{"a": 3, "deep": {"c": 4}}\n  a=5\n'

    run = succeeds(tracker_command("log", "-", "a=0", TRACKER_DIR=str(tmp_path), stdin=lines)).strip()

    (stream,) = streams(tmp_path)
    assert stream.header.run == run
    assert stream.metrics == [(0, {"a": 0}), (1, {"a": 1, "b": 2}), (2, {"a": 3, "deep/c": 4}), (3, {"a": 5})]


def test_lines_that_make_no_sense_are_named_and_the_others_recorded(tmp_path: Path) -> None:
    deep = "[" * 100_000
    lines = f'a=1\nnonsense\n{{"a": \n{{"a": {deep}\na=2\n'

    result = tracker_command("log", "-", TRACKER_DIR=str(tmp_path), stdin=lines)

    assert result.returncode == 1
    assert [f"line {number} of stdin" in result.stderr for number in range(1, 6)] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert rows(tmp_path) == [(0, {"a": 1}), (1, {"a": 2})]


def test_each_line_is_recorded_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tracker", "log", "--run", "run", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(TRACKER_DIR=str(tmp_path), PYTHONUNBUFFERED=""),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "run\n"

    process.stdin.write("a=1\n")
    process.stdin.flush()
    follow = [sys.executable, "-m", "tracker", "cat", "run", "--follow", "--kind", "metrics"]
    with subprocess.Popen(
        follow, stdout=subprocess.PIPE, text=True, env=environment(TRACKER_DIR=str(tmp_path))
    ) as cat:
        assert cat.stdout is not None
        seen = cat.stdout.readline()
        process.kill()
        process.communicate()
        cat.communicate(timeout=60)

    assert seen.endswith("METRICS   step 0  a=1\n")


def test_the_run_of_the_environment_is_joined(tmp_path: Path) -> None:
    succeeds(log(tmp_path, "a=1", TRACKER_RUN_ID="job-17"))
    assert succeeds(log(tmp_path, "a=2", TRACKER_RUN_ID="job-17")) == ""

    assert {stream.header.run for stream in streams(tmp_path)} == {"job-17"}
    assert rows(tmp_path) == [(0, {"a": 1}), (1, {"a": 2})]


def test_config_and_summary_can_be_set_alone(tmp_path: Path) -> None:
    run = succeeds(log(tmp_path)).strip()

    succeeds(log(tmp_path, "--run", run, "--config", "a=1", "--summary", "best=0.5"))

    stream = streams(tmp_path)[1]
    assert stream.of(kinds.CONFIG)[-1].set == {"a": 1}
    assert stream.of(kinds.SUMMARY)[-1].set == {"best": 0.5}
    assert stream.metrics == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a"], "'a' is not NAME=VALUE"),
        (["=1"], "'=1' is not NAME=VALUE"),
        (["--config", "a", "b=1"], "'a' is not NAME=VALUE"),
        (["--run", "../x", "a=1"], "is no run id"),
        (["--run", "x"], "nothing to record"),
        (["--step", "one", "a=1"], "--step"),
    ],
)
def test_a_wrong_call_records_nothing(tmp_path: Path, arguments: list[str], said: str) -> None:
    result = log(tmp_path, *arguments)

    assert result.returncode == 2
    assert said in result.stderr
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_recorded_is_an_exit_code(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    result = log(tmp_path / "file", "a=1", XDG_STATE_HOME=str(tmp_path / "file"))

    assert result.returncode == 1
    assert "nothing can be recorded" in result.stderr


def test_a_full_disk_is_an_exit_code_and_a_sentence(tmp_path: Path) -> None:
    with SmallDisk(tmp_path / "disk", 16 * 1024) as disk:
        result = log(disk.path, "--run", "run", "a=1", "text=" + "x" * 100_000)
        more = log(disk.path, "--run", "run", "a=2")
        found = rows(disk.path)

    assert result.returncode == 1
    assert "No space left" in result.stderr
    assert "Traceback" not in result.stderr
    assert more.returncode == 0
    assert found == [(0, {"a": 1}), (1, {"a": 2})]


def test_what_is_switched_off_is_neither_recorded_nor_an_error(tmp_path: Path) -> None:
    result = log(tmp_path, "a=1", TRACKER_MODE="disabled")

    assert result.returncode == 0
    assert not list(tmp_path.iterdir())


def test_the_run_is_found_in_whichever_spool_it_is(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    succeeds(tracker_command("log", "--run", "run", "a=1", XDG_STATE_HOME=state))

    succeeds(log(tmp_path / "spool", "--run", "run", "a=2", XDG_STATE_HOME=state))

    own = tmp_path / "state" / "tracker" / "spool" / str(os.geteuid()) / "run"
    assert len(list(own.glob("*.mpl"))) == 2
    assert not (tmp_path / "spool").exists()


def test_a_script_under_tracker_run_adds_to_its_run_and_does_not_decide_how_it_ended(tmp_path: Path) -> None:
    log_command = f"{sys.executable} -m tracker log"
    script = f"{log_command} a=1 && {log_command} a=2 --summary best=3; exit 3"

    done = tracker_command("run", "--project", "p", "--", "bash", "-c", script, TRACKER_DIR=str(tmp_path))

    assert done.returncode == 3, done.stderr
    (run,) = (tmp_path / str(os.geteuid())).iterdir()
    assert rows(tmp_path) == [(0, {"a": 1}), (1, {"a": 2})]
    assert {stream.header.run for stream in streams(tmp_path)} == {run.name}
    added = [stream for stream in streams(tmp_path) if stream.metrics]
    assert [(stream.header.role, stream.header.parent, stream.exits) for stream in added] == [
        ("aside", None, [0])
    ] * 2
    assert run.name in succeeds(tracker_command("ls", tmp_path, "--state", "failed"))
