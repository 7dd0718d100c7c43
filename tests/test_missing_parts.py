"""A test that cannot run here says why, at the end of the run; where everything is required it fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NEEDY = """
from tests.support import require

def test_one():
    require.program("no-such-program", apt="no-such-package")

def test_two():
    require.program("no-such-program", apt="no-such-package")

def test_three():
    assert require.program("sh")
"""


def run_needy_tests(directory: Path, require_all: str) -> subprocess.CompletedProcess[str]:
    (directory / "test_needy.py").write_text(NEEDY)
    options = ["-c", ROOT / "pyproject.toml", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, directory / "test_needy.py"],
        cwd=ROOT,
        env={**os.environ, "TEST_REQUIRE_ALL": require_all},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_missing_part_is_listed_once_at_the_end_with_how_to_get_it(tmp_path: Path) -> None:
    done = run_needy_tests(tmp_path, require_all="")

    last = done.stdout.splitlines()[-3:]
    assert done.returncode == 0
    assert last[0] == "no-such-program: not on PATH; 2 tests went without"
    assert last[1] == "    get it with: make deps (Debian package no-such-package)"
    assert "1 passed, 2 skipped" in last[2]


def test_missing_part_fails_where_all_is_required(tmp_path: Path) -> None:
    done = run_needy_tests(tmp_path, require_all="1")

    assert done.returncode == 1
    assert "1 passed" in done.stdout.replace("2 failed, ", "")
    assert "no-such-program: not on PATH; 2 tests went without" in done.stdout


@pytest.mark.parametrize("version", ["3.11", "3.0"])
def test_interpreter_is_asked_for_its_version(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support import require

    impostor = tmp_path / f"python{version}"
    impostor.symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    require._find_python.cache_clear()

    found = require._find_python(version)

    require._find_python.cache_clear()
    running = "%d.%d" % sys.version_info[:2]
    assert found == (str(impostor) if version == running else None)
