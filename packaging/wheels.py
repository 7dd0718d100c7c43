"""Wheels: our own, built from this checkout, and those of pinned requirements for one release's Python."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement
from release_root import Release, cache_directory

ROOT = Path(__file__).resolve().parents[1]
#: The newest glibc that a wheel may ask for: that of Red Hat 8 and Debian 10, so every system that is served.
_GLIBC_MINOR_MAX = 28


def build(part: str, into: Path, *formats: str) -> None:
    """Build one directory (shim, agent, ...): "wheel", "sdist", or else the sdist and from it the wheel."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "build", "--no-isolation", "--skip-dependency-check", "--outdir", into),
            *(f"--{each}" for each in formats),
            ROOT / part,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"packages: building {part} failed:\n{done.stdout}")


def requirements_for(universal: str, release: Release) -> str:
    """Return the lines of a universal requirements file that count for a release's Python, without markers.

    pip judges markers by the Python that runs it, also where it gets wheels for another one.
    """
    environment = {
        "python_version": release.python,
        "python_full_version": release.python_full,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    kept = []
    for entry in universal.replace("\\\n", " ").splitlines():
        name, dash, hashes = entry.partition(" --hash")
        if not dash:
            continue
        requirement = Requirement(name)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            kept.append(f"{requirement.name}{requirement.specifier}{dash}{hashes}")
    return "\n".join(kept) + "\n"


def download(requirements: str, release: Release) -> Path:
    """Return a directory with the wheels of pinned requirements, from the cache or with pip."""
    machine = platform.machine()
    key = hashlib.sha256(f"{release.python} {machine} {_GLIBC_MINOR_MAX}\n{requirements}".encode())
    directory = cache_directory() / f"wheels-{release.python}-{key.hexdigest()[:16]}"
    if directory.is_dir():
        return directory
    print(f"packages: getting the wheels of the requirements for Python {release.python}, once", flush=True)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix="wheels-new-") as scratch:
        listed, fresh = Path(scratch, "requirements.txt"), Path(scratch, "wheels")
        listed.write_text(requirements)
        try:
            subprocess.run(
                [
                    *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download"),
                    *("-qq", "--require-hashes", "--no-deps", "--only-binary", ":all:"),
                    *("--implementation", "cp", "--python-version", release.python),
                    *_platform_arguments(machine),
                    *("--dest", fresh, "--requirement", listed),
                ],
                stdin=subprocess.DEVNULL,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            raise SystemExit("packages: pip could not get all wheels; its output is above") from error
        try:
            fresh.rename(directory)
        except OSError:  # another build was faster
            if not directory.is_dir():
                raise
    return directory


def bring_pip(into: Path) -> None:
    """Copy this environment's pip, which is pinned, to a directory: it runs under any Python from there."""
    import pip

    shutil.copytree(
        Path(pip.__file__).parent,
        into / "pip",
        ignore=shutil.ignore_patterns("__pycache__"),
        dirs_exist_ok=True,
    )


def copy_wheels(source: Path, into: Path) -> None:
    """Put the wheels of a directory into another one; as links where that is possible."""
    into.mkdir(parents=True)
    for wheel in source.glob("*.whl"):
        try:
            os.link(wheel, into / wheel.name)
        except OSError:
            shutil.copyfile(wheel, into / wheel.name)


def _platform_arguments(machine: str) -> list[str]:
    names = [f"manylinux_2_{minor}_{machine}" for minor in range(_GLIBC_MINOR_MAX, 4, -1)]
    names += [f"manylinux{year}_{machine}" for year in ("2014", "2010", "1")]
    return [argument for name in names for argument in ("--platform", name)]
