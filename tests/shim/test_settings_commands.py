"""`tracker init`, `tracker on` and `tracker off`, and whose settings count."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shim.command import succeeds, tracker_command
from tests.shim.scripts import environment, reading
from tests.support import require
from tracker._settings_file import read_settings
from tracker.protocol import kinds


@pytest.fixture
def work(tmp_path: Path) -> Path:
    directory = tmp_path / "work"
    directory.mkdir()
    return directory


def settings(directory: Path) -> str:
    return (directory / ".tracker" / "settings").read_text()


def project_of_a_training(directory: Path, **more: str) -> str | None:
    """Return the project of a run made in a directory, None where none was recorded."""
    spool = directory.parent / "spool"
    subprocess.run(
        [sys.executable, "-c", "import tracker; tracker.init().log({'a': 1})"],
        cwd=directory,
        env=environment(TRACKER_DIR=str(spool), XDG_CONFIG_HOME=str(directory.parent / "config"), **more),
        check=True,
        capture_output=True,
        timeout=60,
    )
    streams = reading(spool)
    return str(streams[-1].of(kinds.RUN)[0].fields["project"]) if streams else None


def test_init_writes_what_scripts_then_go_by(work: Path) -> None:
    arguments = [
        "init",
        "--project",
        "digits",
        "--entity",
        "team",
        "--server",
        "https://tracker.example.org/",
    ]

    said = succeeds(tracker_command(*arguments, cwd=work))

    assert said == f"written: {work / '.tracker' / 'settings'}\n"
    assert settings(work) == "project = digits\nentity = team\nbase_url = https://tracker.example.org/\n"
    assert project_of_a_training(work) == "digits"


def test_init_changes_what_is_given_and_keeps_the_rest(work: Path) -> None:
    (work / ".tracker").mkdir()
    (work / ".tracker" / "settings").write_text("# ours\nproject = old\n\ntags = a, b\nproject = older\n")

    succeeds(tracker_command("init", "--project", "new", "--entity", "", cwd=work))

    assert settings(work) == "# ours\nproject = new\n\ntags = a, b\n"


def test_init_asks_on_a_terminal(work: Path) -> None:
    succeeds(tracker_command("init", "--project", "old", "--entity", "team", cwd=work))
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tracker", "init", "--server", "http://here:8600"],
        cwd=work,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(),
    )
    os.close(slave)

    os.write(master, b"new\n\n")
    assert process.wait(60) == 0

    shown = os.read(master, 10_000).decode()
    os.close(master)
    assert "Project [old]: " in shown
    assert "[team]: " in shown
    assert "Server" not in shown  # it was given
    assert settings(work) == "project = new\nentity = team\nbase_url = http://here:8600\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nobody to ask"),
        (["--project", "a/b"], "'a-b'"),
        (["--server", "tracker.example.org"], "is no address"),
    ],
)
def test_init_refuses_what_cannot_be_used(work: Path, arguments: list[str], said: str) -> None:
    result = tracker_command("init", *arguments, cwd=work)

    assert result.returncode == 2
    assert said in result.stderr
    assert not list(work.iterdir())


def test_what_cannot_be_written_is_one_sentence(work: Path) -> None:
    (work / ".tracker").write_text("a file")

    result = tracker_command("init", "--project", "p", cwd=work)

    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert ".tracker" in result.stderr


def test_off_and_on_hold_for_the_directory_and_below(work: Path) -> None:
    below = work / "scripts"
    below.mkdir()
    succeeds(tracker_command("init", "--project", "p", cwd=work))

    off = succeeds(tracker_command("off", cwd=below))
    while_off = project_of_a_training(below)
    while_asked_for = project_of_a_training(work, TRACKER_MODE="offline")
    on = succeeds(tracker_command("on", cwd=below))
    while_on = project_of_a_training(below)

    assert off.startswith(f"off: nothing that runs in {work} is recorded")
    assert on.startswith(f"on: what runs in {work} is recorded")
    assert (while_off, while_asked_for, while_on) == (None, "p", "p")
    assert settings(work) == "project = p\ndisabled = false\n"


def test_on_stands_before_the_users_own_off(work: Path) -> None:
    config = work.parent / "config" / "tracker"
    config.mkdir(parents=True)
    (config / "settings").write_text("disabled = yes\nproject = mine\n")
    before = project_of_a_training(work)

    succeeds(tracker_command("on", cwd=work, XDG_CONFIG_HOME=str(config.parent)))

    assert before is None
    assert project_of_a_training(work) == "mine"


def test_on_where_nothing_is_off_writes_nothing(work: Path) -> None:
    assert (
        succeeds(tracker_command("on", cwd=work, XDG_CONFIG_HOME=str(work)))
        == "on: nothing is switched off here\n"
    )
    assert not list(work.iterdir())


def test_a_linked_file_is_changed_where_it_lies(work: Path) -> None:
    (work / ".tracker").mkdir()
    (work / "kept").write_text("project = p\n")
    (work / ".tracker" / "settings").symlink_to(work / "kept")

    succeeds(tracker_command("off", cwd=work))

    assert (work / "kept").read_text() == "project = p\ndisabled = true\n"
    assert (work / ".tracker" / "settings").is_symlink()


def test_in_a_file_of_somebody_else_only_harmless_settings_count(work: Path) -> None:
    require.root()
    (work / ".tracker").mkdir()
    path = work / ".tracker" / "settings"
    path.write_text("project = theirs\nbase_url = http://elsewhere\ndisabled = true\ndir = /tmp/x\n")
    os.chown(path, 4711, 4711)
    problems: list[str] = []

    found = read_settings({"XDG_CONFIG_HOME": str(work)}, str(work), problems)

    assert found == {"project": "theirs"}
    assert [each.split(": ", 1)[1].split()[0] for each in problems] == ["base_url", "disabled", "dir"]
    assert "uid 4711" in problems[0]


def test_login_keeps_a_key_for_the_server_of_the_directory(work: Path) -> None:
    spool = work / "spool"
    succeeds(tracker_command("init", "--server", "https://tracker.example.org", cwd=work))

    said = succeeds(tracker_command("login", cwd=work, stdin="tk_1_x\n", TRACKER_DIR=str(spool)))

    assert "for https://tracker.example.org" in said
    credentials = (spool / str(os.geteuid()) / "credentials").read_text()
    assert '"server": "https://tracker.example.org"' in credentials


def test_login_takes_no_key_that_everybody_can_see(work: Path) -> None:
    result = tracker_command(
        "login", "tk_1_hush", cwd=work, stdin="tk_2_x\n", TRACKER_DIR=str(work / "spool")
    )

    assert result.returncode == 2
    assert "hush" not in result.stderr
    assert not list(work.iterdir())
