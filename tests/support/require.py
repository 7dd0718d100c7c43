"""Parts of the machine that a test needs: a program, an old Python, a browser, a privilege.

A missing part skips the test and is listed at the end of the run, with how to get it. With
TEST_REQUIRE_ALL=1, as in CI, it fails the test instead.
"""

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest

DEPS = "make deps"


class Missing(NamedTuple):
    """One thing this machine does not have."""

    part: str
    reason: str
    remedy: str


#: What this run asked for in vain, each once, with the number of tests that went without it.
MISSING: dict[Missing, int] = {}


def absent(part: str, reason: str, remedy: str = DEPS) -> NoReturn:
    """Skip the test (or the module, or its fixture) for want of `part`; fail it where all is required."""
    missing = Missing(part, reason, remedy)
    MISSING[missing] = MISSING.get(missing, 0) + 1
    message = f"needs {part}: {reason} (get it with: {remedy})"
    if os.environ.get("TEST_REQUIRE_ALL") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message, allow_module_level=True)


def program(name: str, apt: str | None = None) -> str:
    """Return the path of a program on PATH; `apt` names its Debian package where that differs."""
    found = shutil.which(name)
    if found is None:
        package = apt or name
        absent(name, "not on PATH", f"{DEPS} (Debian package {package})")
    return found


def chromium() -> str:
    """Return the path of a Chromium that Playwright can drive."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found is not None:
            return found
    absent("chromium", "no chromium, chromium-browser or google-chrome on PATH")


def python(version: str) -> str:
    """Return the path of a working interpreter of that minor version, as in python("3.6")."""
    found = _find_python(version)
    if found is None:
        absent(
            f"python{version}",
            "neither on PATH nor in $PYENV_ROOT/versions nor ~/.pyenv/versions",
            f"pyenv install {version}",
        )
    return found


def root() -> None:
    """Go on only as root (mounts, other users' files, network namespaces)."""
    if os.geteuid() != 0:
        absent("root", f"running as uid {os.geteuid()}", "run the tests as root")


@functools.cache
def _find_python(version: str) -> str | None:
    for candidate in _candidates(version):
        if _runs_as(candidate, version):
            return str(candidate)
    return None


def _candidates(version: str) -> Iterator[Path]:
    for directory in os.environ.get("PATH", "").split(os.pathsep):
        yield Path(directory) / f"python{version}"
    for base in (os.environ.get("PYENV_ROOT"), Path.home() / ".pyenv"):
        if base:
            yield from sorted(Path(base, "versions").glob(f"{version}.*/bin/python{version}"), reverse=True)


def _runs_as(interpreter: Path, version: str) -> bool:
    """Ask it, since pyenv's shims exist for versions that are not installed."""
    if not os.access(interpreter, os.X_OK):
        return False
    answer = subprocess.run(
        [interpreter, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return answer.returncode == 0 and answer.stdout.strip() == version
