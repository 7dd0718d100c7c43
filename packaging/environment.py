"""The environment in a package: a venv at /opt/<package>, made in a release's root, that starts fast where nobody
may write."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import wheels
from package import Package
from release_root import ReleaseRoot

#: Programs kept in bin/ beside the package's own: what the environment needs, and `tracker login`.
_KEPT = {"python", "python3", "tracker"}
_BUILD = "/build"


def make_environment(
    root: ReleaseRoot, package: Package, requirements: str, sources: Sequence[Path], epoch: int
) -> None:
    """Make the environment of a package in a root from directories of wheels, without any network."""
    release = root.release
    work = root.path(_BUILD)
    wheels.copy_wheels(sources, work / "wheels")
    wheels.bring_pip(work)
    (work / "requirements.txt").write_text(requirements)
    python = f"{package.home}/bin/python"
    root.run(f"/usr/bin/python{release.python}", "-m", "venv", "--without-pip", package.home)

    def pip(command: str, *arguments: str) -> None:
        root.run(
            *(python, "-m", "pip", "--no-input", command, *arguments),
            environment={"PYTHONPATH": _BUILD, "PYTHONDONTWRITEBYTECODE": "1", "PIP_NO_INDEX": "1"}
            | {"PIP_FIND_LINKS": f"{_BUILD}/wheels", "PIP_ROOT_USER_ACTION": "ignore"},
        )

    quiet = ("--quiet", "--no-compile", "--no-deps", "--no-warn-script-location")
    pip("install", *quiet, "--require-hashes", "--requirement", f"{_BUILD}/requirements.txt")
    pip("install", *quiet, *(part for part in package.distributions))
    pip("check")
    _tidy(root.path(package.home), package)
    # Not by the time of the source, which image builders and ostree change: then each start would compile anew.
    root.run(
        *(python, "-m", "compileall", "-q", "-j", str(os.cpu_count() or 1)),
        *("--invalidation-mode", "unchecked-hash", f"{package.home}/lib"),
    )
    _settle(root.path(package.home), epoch)
    # A start as it will be, by somebody who may write nowhere.
    root.run(
        *(
            "/usr/sbin/chroot",
            "--userspec=65534:65534",
            "/",
            f"{package.home}/bin/{package.name}",
            "--version",
        )
    )


def _tidy(home: Path, package: Package) -> None:
    """Remove what nobody starts; let the program be started in isolation from its user's Python settings."""
    program = home / "bin" / package.name
    for path in (home / "bin").iterdir():
        if path != program and path.name not in _KEPT and not path.name.startswith("python3."):
            path.unlink()
    for unused in ("include", "share"):
        shutil.rmtree(home / unused, ignore_errors=True)
    shebang, _, rest = program.read_text().partition("\n")
    assert shebang.startswith(f"#!{package.home}/bin/python"), shebang
    program.write_text(f"#!{package.home}/bin/python -I\n{rest}")


def _settle(home: Path, epoch: int) -> None:
    """Give all files the modes and the one time that they have once installed."""
    for directory, names, files in os.walk(home):
        for name in names + files:
            path = Path(directory, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            os.utime(path, (epoch, epoch), follow_symlinks=False)
    os.utime(home, (epoch, epoch))
