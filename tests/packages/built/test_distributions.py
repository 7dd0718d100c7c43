"""Wheels that `make dist` built, on a system that has Python, pip and no compiler, without a network."""

import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.packages.built.conftest import PYTHON, ROOT, VERSION, Installed

DISTRIBUTIONS = ("tracker_shim", "tracker_wandb", "tracker_agent", "tracker_server")


def wheel(name: str) -> Path:
    path = ROOT / "dist" / f"{name}-{VERSION}-py3-none-any.whl"
    assert path.is_file(), f"{path} is not there; build it with: make dist"
    return path


def libraries(release: str) -> list[Path]:
    """Return the wheels of the pinned requirements, which `make packages` keeps."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "tracker")
    found = {path.name: path for path in cache.glob(f"wheels-{PYTHON[release]}-*/*.whl")}
    assert found, f"no wheels in {cache}; get them with: make packages"
    return list(found.values())


@pytest.mark.parametrize("release", PYTHON)
def test_all_installs_from_a_directory_of_wheels_without_compiler_and_network(
    release: str, root_of: Callable[[str], Installed]
) -> None:
    root = root_of(release)
    wheels = root.path("/wheels")
    wheels.mkdir()
    for path in [*map(wheel, DISTRIBUTIONS), *libraries(release)]:
        shutil.copy(path, wheels)
    assert not root.path("/usr/bin/gcc").exists() and not root.path("/usr/bin/cc").exists()

    root.run("python3", "-m", "venv", "/opt/tried")
    pip = ("/opt/tried/bin/pip", "--disable-pip-version-check")
    names = [name.replace("_", "-") for name in DISTRIBUTIONS]
    root.run(*pip, "install", "--no-compile", "--no-index", "--find-links", "/wheels", *names)

    root.run(*pip, "check")
    for program in ("tracker-agent", "tracker-server", "tracker"):
        assert VERSION in root.run(f"/opt/tried/bin/{program}", "--version")
    root.run("/opt/tried/bin/python", "-c", "import tracker, wandb, tracker_agent.app, tracker_server.app")


def test_source_distributions_carry_their_licence_and_no_built_things() -> None:
    for name in DISTRIBUTIONS:
        path = ROOT / "dist" / f"{name}-{VERSION}.tar.gz"
        with tarfile.open(path) as archive:
            names = archive.getnames()

        assert f"{name}-{VERSION}/LICENSE" in names, name
        assert f"{name}-{VERSION}/pyproject.toml" in names
        assert not [
            each for each in names if "node_modules" in each or each.endswith(".pyc") or "/.venv" in each
        ]
