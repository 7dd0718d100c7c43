"""The command `tracker`."""

import os
import subprocess
import sys
from pathlib import Path

from tests.shim.scripts import environment, run_script


def tracker_command(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tracker", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment(**more),
    )


def record_two_runs(spool: Path) -> None:
    script = "import sys, tracker; tracker.init(project='p', name=sys.argv[1], id=sys.argv[1]).log({'a': 1})"
    for name in ("first", "second"):
        run_script(script, name, TRACKER_DIR=str(spool))


def test_ls_lists_runs_of_a_spool_a_user_or_one_run(tmp_path: Path) -> None:
    record_two_runs(tmp_path)
    own = tmp_path / str(os.geteuid())

    listings = [
        tracker_command("ls", TRACKER_DIR=str(tmp_path), XDG_STATE_HOME=str(tmp_path / "none")).stdout,
        tracker_command("ls", str(tmp_path)).stdout,
        tracker_command("ls", str(own)).stdout,
    ]

    for listing in listings:
        lines = listing.splitlines()
        assert [line.split()[0] for line in lines] == ["RUN", "first", "second"], listing
        assert lines[1].endswith(str(own / "first"))
    assert tracker_command("ls", str(own / "first")).stdout.splitlines()[1].split()[:3] == [
        "first",
        "first",
        "p",
    ]


def test_ls_passes_over_what_is_no_run(tmp_path: Path) -> None:
    record_two_runs(tmp_path)
    own = tmp_path / str(os.geteuid())
    (own / "strange").mkdir()
    (own / "strange" / ("0" * 32 + ".000000.mpl")).write_bytes(b"not a segment")

    result = tracker_command("ls", str(tmp_path))

    assert result.returncode == 0 and len(result.stdout.splitlines()) == 3


def test_verify_tells_whole_runs_from_damaged_ones(tmp_path: Path) -> None:
    record_two_runs(tmp_path)
    (segment,) = (tmp_path / str(os.geteuid()) / "second").glob("*.mpl")

    whole = tracker_command("verify", str(tmp_path))
    data = bytearray(segment.read_bytes())
    data[-20] ^= 1
    segment.write_bytes(data)
    damaged = tracker_command("verify", str(tmp_path))

    assert whole.returncode == 0, whole.stdout
    assert damaged.returncode == 1, damaged.stdout


def test_a_wrong_directory_is_named(tmp_path: Path) -> None:
    result = tracker_command("ls", str(tmp_path / "none"))

    assert result.returncode == 2 and "none is not a directory" in result.stderr


def test_version_is_told() -> None:
    assert tracker_command("--version").stdout.startswith("tracker 0.")


def test_names_cannot_command_the_terminal_and_what_is_no_file_holds_nothing_up(tmp_path: Path) -> None:
    script = "import tracker; tracker.init(project='p', name='a\\x1b[31m\\nb\\u202e', id='odd').log({'a': 1})"
    run_script(script, TRACKER_DIR=str(tmp_path))
    own = tmp_path / str(os.geteuid())
    (own / "fifo").mkdir()
    os.mkfifo(str(own / "fifo" / ("0" * 32 + ".000000.mpl")))
    os.mkfifo(str(own / "odd" / ("1" * 32 + ".000000.mpl")))
    os.symlink("nowhere", str(own / "odd" / ("2" * 32 + ".000000.mpl")))

    result = tracker_command("ls", str(tmp_path), PYTHONIOENCODING="utf-8")

    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 2 and r"a\x1b[31m\nb\u202e" in result.stdout
