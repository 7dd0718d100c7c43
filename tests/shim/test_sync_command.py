"""`tracker sync`: hands runs to the agent's own command."""

import os
import subprocess
import sys
from pathlib import Path

from tests.shim.command import succeeds, tracker_command
from tests.shim.scripts import environment, run_script

ROOT = Path(__file__).resolve().parents[2]


def record(spool: Path, run: str = "run", **more: str) -> Path:
    script = "import sys, tracker; tracker.init(project='p', id=sys.argv[1]).log({'a': 1})"
    run_script(script, run, TRACKER_DIR=str(spool), **more)
    return spool / str(os.geteuid()) / run


def agent_that_tells(directory: Path, more: str = "") -> str:
    """Put a tracker-agent that prints its arguments on a PATH, and return that. more: what else it does."""
    program = directory / "tracker-agent"
    directory.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n' + more + "\nexit 7\n")
    program.chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


def test_the_agents_command_gets_directories_and_options_and_its_status_counts(tmp_path: Path) -> None:
    run = record(tmp_path / "spool")
    path = agent_that_tells(tmp_path / "bin")

    plain = tracker_command("sync", "run", PATH=path, TRACKER_DIR=str(tmp_path / "spool"))
    full = tracker_command(
        *(
            "sync",
            tmp_path / "spool",
            run,
            "--wait",
            "--server",
            "https://s",
            "--key-file",
            "k",
            "--ca-file",
            "c",
        ),
        PATH=path,
    )

    assert (plain.returncode, full.returncode) == (7, 7)
    assert plain.stdout.split() == ["sync", "--", str(run)]
    options = ["--wait", "--server", "https://s", "--key-file", "k", "--ca-file", "c"]
    assert full.stdout.split() == ["sync", *options, "--", str(tmp_path / "spool"), str(run)]


def test_only_the_key_of_the_very_server_is_handed_on_and_never_as_an_argument(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    run = record(spool)
    path = agent_that_tells(tmp_path / "bin", 'echo "key ${TRACKER_API_KEY:-none}"')
    for server, key in (("https://a", "tk_1_a"), ("https://b", "tk_2_b")):
        succeeds(tracker_command("login", "--server", server, stdin=key, TRACKER_DIR=str(spool)))

    def told(*arguments: str, **more: str) -> str:
        result = tracker_command("sync", run, *arguments, PATH=path, TRACKER_DIR=str(spool), **more)
        assert "tk_" not in result.stdout.partition("key ")[0]
        return result.stdout.splitlines()[-1]

    assert told("--server", "https://b/") == "key tk_2_b"
    assert told("--server", "https://c") == "key none"
    assert told() == "key none"
    assert told("--server", "https://b", TRACKER_API_KEY="mine") == "key mine"
    assert told("--server", "https://b", TRACKER_ACCOUNT="team") == "key none"


def test_without_an_agent_it_is_said_what_to_do(tmp_path: Path) -> None:
    run = record(tmp_path / "spool")
    # An interpreter that has the shim and msgpack, but no agent.
    script = "import sys, runpy; sys.modules['tracker_agent'] = None; sys.argv[0] = 'tracker'; "
    script += "sys.executable = '/nonexistent/python'; runpy.run_module('tracker', run_name='__main__')"

    done = subprocess.run(
        [sys.executable, "-c", script, "sync", run],
        capture_output=True,
        text=True,
        env=environment(PATH=str(tmp_path / "nothing")),
        check=False,
        timeout=60,
    )

    assert done.returncode == 1, done.stderr
    assert "the agent, which does the shipping, is not installed here" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_is_not_there_is_said_before_any_agent_is_asked(tmp_path: Path) -> None:
    path = agent_that_tells(tmp_path / "bin")

    result = tracker_command(
        "sync", "nosuch", PATH=path, TRACKER_DIR=str(tmp_path), XDG_STATE_HOME=str(tmp_path)
    )

    assert result.returncode == 1
    assert "no run has the id or name nosuch" in result.stderr


def test_help_of_the_agents_command_has_the_options_that_are_handed_on() -> None:
    theirs = subprocess.run(
        [sys.executable, "-m", "tracker_agent.cli", "sync", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    ours = succeeds(tracker_command("sync", "--help"))

    for option in ("--wait", "--server", "--key-file", "--ca-file"):
        assert option in theirs
        assert option in ours
