"""Manual pages and completions: as the code is, readable by man, and of use to a real shell."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from docs.generator import completion, manual, programs
from docs.generator.pages import COMMAND, PACKAGING
from tests.support import require
from tracker_agent.settings import settings as agent_settings
from tracker_server import config as server_config

PAGES = manual.pages()
COMPLETIONS = completion.files()


@pytest.mark.parametrize("name", PAGES)
def test_manual_page_is_as_the_code_is(name: str) -> None:
    assert (PACKAGING / "man" / name).read_text() == PAGES[name], f"out of date; run: {COMMAND}"


@pytest.mark.parametrize("name", COMPLETIONS)
def test_completion_is_as_the_code_is(name: str) -> None:
    assert (PACKAGING / "completion" / name).read_text() == COMPLETIONS[name], f"out of date; run: {COMMAND}"


def test_there_is_nothing_that_nobody_makes() -> None:
    assert {each.name for each in (PACKAGING / "man").iterdir()} == set(PAGES)
    assert {each.name for each in (PACKAGING / "completion").iterdir()} == set(COMPLETIONS)


@pytest.mark.parametrize("name", PAGES)
def test_manual_page_is_without_a_warning(name: str) -> None:
    page = str(PACKAGING / "man" / name)

    lint = subprocess.run(
        [require.program("mandoc"), "-T", "lint", page], capture_output=True, text=True, check=False
    )
    man = subprocess.run(
        [require.program("man", "man-db"), "--warnings", "--local-file", page],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANPAGER": "cat", "MANWIDTH": "80"},
        check=True,
    )

    assert [line for line in lint.stdout.splitlines() if "missing date" not in line] == []
    assert man.stderr == ""
    assert len(man.stdout.splitlines()) > 50


def shown(name: str) -> str:
    """Return a page as plain text."""
    done = subprocess.run(
        [require.program("mandoc"), "-T", "ascii", "-O", "width=500", PACKAGING / "man" / name],
        capture_output=True,
        text=True,
        check=True,
    )
    return re.sub(r".\x08", "", done.stdout)


@pytest.mark.parametrize(
    ("name", "parser"),
    [
        ("tracker-agent.1", programs.agent()),
        ("tracker-server.1", programs.server()),
        ("tracker.1", programs.tracker()),
    ],
)
def test_every_command_and_flag_is_in_the_manual(name: str, parser: object) -> None:
    text = shown(name)

    for entry in programs.entries(parser):  # type: ignore[arg-type]
        section = text.partition(f"   {entry.name}\n")[2].partition(f"\n   {entry.name.split()[0]} ")[0]
        assert section, entry.name
        for action in entry.parser._actions:
            for flag in action.option_strings:
                assert flag in section or flag in ("-h", "--help"), (entry.name, flag)


def test_every_setting_is_in_the_manual() -> None:
    agent, server = shown("tracker-agent.toml.5"), shown("tracker-server.toml.5")

    for _, each in agent_settings():
        assert re.search(rf"^ +{each.name} = ", agent, re.MULTILINE), each.name
    for section in server_config.SECTIONS:
        for name in server_config.names_of(section):
            assert re.search(rf"^ +{name} = ", server, re.MULTILINE), name


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("tracker-agent", "che"), ["check-config"]),
        (("tracker-agent", "check-config", "--st"), ["--strict"]),
        (("tracker-agent", "run", "--log-level", "w"), ["warning"]),
        (("tracker-server", "key", ""), ["create", "list", "revoke"]),
        (("tracker-server", "key", "create", "--expires"), ["--expires-days"]),
        (("tracker", "re"), ["restore"]),
        (("tracker-agent", "run", "--config", "agent.t"), ["agent.toml"]),
    ],
)
def test_bash_completes(words: tuple[str, ...], wanted: list[str], tmp_path: Path) -> None:
    (tmp_path / "agent.toml").touch()
    # As readline calls what `complete` was told, with the words and where the cursor is.
    script = """
        source "$1"; shift
        function=$(complete -p "$1" | sed -E 's/.* -F ([^ ]+) .*/\\1/')
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
        "$function" "$1" "${@: -1}" "${@: -2:1}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    file = PACKAGING / "completion" / f"{words[0]}.bash"

    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", file, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert sorted(each.strip() for each in done.stdout.splitlines() if each.strip()) == wanted
    assert done.stderr == ""


@pytest.mark.parametrize(("shell", "check"), [("zsh", "-n"), ("fish", "--no-execute")])
@pytest.mark.parametrize("program", ["tracker-agent", "tracker-server", "tracker"])
def test_other_shells_can_read_theirs(shell: str, check: str, program: str) -> None:
    file = PACKAGING / "completion" / f"{program}.{shell}"

    done = subprocess.run([require.program(shell), check, file], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_fish_completes() -> None:
    file = PACKAGING / "completion" / "tracker-agent.fish"

    done = subprocess.run(
        [
            require.program("fish"),
            "--no-config",
            "-c",
            f"source {file}; complete -C 'tracker-agent check-config --st'",
        ],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split("\t")[0].strip() == "--strict"
