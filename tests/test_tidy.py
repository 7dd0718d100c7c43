"""Keeps out of the repository what does not belong there: long files, names that say nothing, other machines'
paths, addresses of package registries."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.support import require
from tests.support.imports import SOURCES

ROOT = Path(__file__).resolve().parents[1]
LINES_MAX = 450
#: Modules there have the names that libraries import.
THEIR_NAMES = ("shim-wandb", "src", "wandb")
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
# Put together here, so that this file does not find itself.
MACHINE_PATHS = re.compile("|".join([r"(?<![\w.])/wo" + "rk/", "/ro" + r"ot/\.", r"/home/(?!user\b)[a-z]+/"]))
REGISTRY = re.compile(
    "|".join(["files.python" + "hosted", "pypi." + "org", "registry.npm" + "js", "registry.yarn" + "pkg"])
)
URL_IN_LOCK = re.compile(r"https?://|--(extra-)?index-url|--find-links|\"resolved\"")
NOT_TEXT = {".png", ".mpl", ".db", ".sqlite", ".woff2", ".ico", ".zst", ".bin"}


@pytest.fixture(scope="module")
def tracked_files() -> list[Path]:
    """All files in git, and those that will be."""
    git = require.program("git")
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = [git, "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def texts(files: list[Path]) -> dict[Path, str]:
    return {file: file.read_text(errors="replace") for file in files if file.suffix not in NOT_TEXT}


def found_in(files: list[Path], pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{file.relative_to(ROOT)}:{number}: {match.group()}"
        for file, text in texts(files).items()
        for number, line in enumerate(text.splitlines(), 1)
        if (match := pattern.search(line))
    ]


def test_source_files_can_be_read_in_one_sitting() -> None:
    lengths = {
        file: len(file.read_text().splitlines()) for each in SOURCES for file in (ROOT / each).rglob("*.py")
    }

    long = [
        f"{file.relative_to(ROOT)}: {lines} lines" for file, lines in lengths.items() if lines > LINES_MAX
    ]

    assert not long, f"look for the second noun inside: {long}"


def test_files_are_named_after_what_they_are_about(tracked_files: list[Path]) -> None:
    meaningless = [
        str(path.relative_to(ROOT))
        for path in tracked_files
        if path.relative_to(ROOT).parts[:3] != THEIR_NAMES
        and NAMES_THAT_SAY_NOTHING
        & {part.partition(".")[0].strip("_").lower() for part in path.relative_to(ROOT).parts}
    ]

    assert not meaningless


def test_no_path_of_one_machine(tracked_files: list[Path]) -> None:
    assert not found_in(tracked_files, MACHINE_PATHS)


def test_no_address_of_a_package_registry(tracked_files: list[Path]) -> None:
    assert not found_in(tracked_files, REGISTRY)


def test_lock_files_leave_the_registry_to_whoever_installs(tracked_files: list[Path]) -> None:
    locks = [*(ROOT / "requirements").iterdir(), ROOT / "ui" / ".npmrc"]
    package_locks = [file for file in tracked_files if file.name == "package-lock.json"]

    assert not found_in([file for file in locks if file.exists()], URL_IN_LOCK)
    assert not found_in(package_locks, re.compile(r"\"resolved\""))
    assert not [file for file in tracked_files if file.name == "uv.lock"]


def test_built_and_private_files_are_not_tracked(tracked_files: list[Path]) -> None:
    unwanted = re.compile(r"(^|/)(node_modules|dist|static|\.venv|\.demo|__pycache__)/|\.pyc$|admin-key$")

    assert not [name for file in tracked_files if unwanted.search(name := str(file.relative_to(ROOT)))]


def test_version_is_the_same_everywhere() -> None:
    places = [
        "pyproject.toml",
        *(f"{part}/pyproject.toml" for part in ("shim", "shim-wandb", "agent", "server")),
    ]
    versions = {
        place: re.search(r'^version = "(.+)"$', (ROOT / place).read_text(), re.MULTILINE) for place in places
    }

    assert len({match.group(1) for match in versions.values() if match}) == 1
    assert all(versions.values())
