"""The packages that `make packages` built, and roots to install them in.

Not part of `make test`: `make packages`, as root, comes first; then `pytest tests/packages/built`.
"""

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import require
from tests.support.booted_root import bootable_root

ROOT = Path(__file__).resolve().parents[3]
#: TEST_PACKAGES: a directory of packages built elsewhere.
BUILT = Path(os.environ.get("TEST_PACKAGES") or ROOT / "dist" / "packages")
NAMES = ("tracker-agent", "tracker-server")
#: Python of each release.
PYTHON = {"bookworm": "3.11", "trixie": "3.13"}
#: The version of this checkout, and the next, as an upgrade: make packages PACKAGE_VERSION="0.1.0 0.1.1"
VERSION = re.search(r'^version = "(.+)"$', (ROOT / "agent/pyproject.toml").read_text(), re.MULTILINE)[1]  # type: ignore[index]

NEXT = re.sub(r"\d+$", lambda last: str(int(last[0]) + 1), VERSION)


def deb(name: str, release: str, version: str = VERSION) -> Path:
    """Return the path of a built .deb."""
    return _built(f"{name}_{version}-1~{release}_*.deb")


def rpm(name: str, version: str = VERSION) -> Path:
    """Return the path of a built .rpm."""
    return _built(f"{name}-{version}-1.el9.*.rpm")


def _built(pattern: str) -> Path:
    found = sorted(BUILT.glob(pattern))
    assert len(found) == 1, (
        f"{BUILT}/{pattern}: {found}; build it with: make packages PACKAGE_VERSION='{VERSION} {NEXT}'"
    )
    return found[0]


class Installed:
    """A root without a running systemd, as in an image build, where packages are installed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, inside: str) -> Path:
        return self.directory / inside.lstrip("/")

    def run(self, *command: str | Path, code: int = 0) -> str:
        """Run a command in the root; return what it says."""
        done = subprocess.run(
            [
                *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--"),
                *("/bin/sh", "-c", 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"', self.directory),
                *("/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"),
                *("DEBIAN_FRONTEND=noninteractive", *command),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, f"{command}: exit {done.returncode}:\n{done.stdout}"
        return done.stdout

    def dpkg(self, *arguments: str | Path, code: int = 0) -> str:
        """Run dpkg in the root; packages from outside are copied in."""
        inside = []
        for argument in arguments:
            if isinstance(argument, Path):
                shutil.copy(argument, self.path("/tmp"))
                argument = f"/tmp/{argument.name}"
            inside.append(argument)
        return self.run("dpkg", *inside, code=code)


@pytest.fixture(scope="session")
def own_mounts() -> None:
    """Give this process mounts of its own, which end with it, however it ends."""
    require.root()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x00020000):  # CLONE_NEWNS
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


@pytest.fixture
def root_of(tmp_path: Path, own_mounts: None) -> Iterator[Callable[[str], Installed]]:
    """Return a function that makes a fresh root of a release: what is written there is in memory only."""
    mounted = []

    def make(release: str) -> Installed:
        above, directory = tmp_path / "above", tmp_path / release
        above.mkdir()
        directory.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", above], check=True)
        mounted.append(above)
        (above / "upper").mkdir()
        (above / "work").mkdir()
        options = f"lowerdir={bootable_root(release)},upperdir={above}/upper,workdir={above}/work"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", directory], check=True)
        mounted.append(directory)
        return Installed(directory)

    yield make

    for place in reversed(mounted):
        subprocess.run(["umount", place], check=True)
