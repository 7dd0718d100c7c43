"""A bare Debian of one release, in which its packages' environments are made with its own Python.

The bare root is kept as a tar file in ${XDG_CACHE_HOME:-~/.cache}/tracker and made anew when it is absent.
Each build unpacks it into a directory of its own; nothing is mounted, so nothing stays mounted.
"""

import os
import shutil
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path

#: What the packages depend on, besides systemd itself.
PACKAGES = ("python3", "python3-systemd", "libgcc-s1", "libstdc++6")
_NO_DOCUMENTS = ("man", "doc", "locale")


@dataclass(frozen=True)
class Release:
    """A release of Debian and its Python."""

    name: str
    python: str  #: minor version, as in the name of its program
    python_full: str  #: the version that the release came with

    @property
    def next_python(self) -> str:
        """The minor version behind it, with which a package of this release does not work."""
        major, minor = self.python.split(".")
        return f"{major}.{int(minor) + 1}"


RELEASES = {
    release.name: release
    for release in (Release("bookworm", "3.11", "3.11.2"), Release("trixie", "3.13", "3.13.5"))
}


def cache_directory() -> Path:
    """Return where roots and wheels are kept between builds."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tracker"


def bare_root(release: Release) -> Path:
    """Return the tar file of the release's bare root; make it where it is absent."""
    key = zlib.crc32(" ".join(PACKAGES).encode())
    archive = cache_directory() / f"package-root-{release.name}-{key}.tar"
    if archive.is_file():
        return archive
    if shutil.which("mmdebstrap") is None:
        raise SystemExit("packages: mmdebstrap is missing (make deps, or: apt-get install mmdebstrap)")
    print(f"packages: making a bare {release.name} root, once (half a minute)", flush=True)
    archive.parent.mkdir(parents=True, exist_ok=True)
    fresh = archive.with_name(f"{archive.name}.{os.getpid()}")
    without = [f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in _NO_DOCUMENTS]
    try:
        subprocess.run(
            [
                *("mmdebstrap", "--quiet", "--variant=essential", "--format=tar"),
                *("--include=" + ",".join(PACKAGES), '--aptopt=Acquire::Languages "none"'),
                *without,
                release.name,
                str(fresh),
            ],
            stdin=subprocess.DEVNULL,
            check=True,
        )
        for old in archive.parent.glob(f"package-root-{release.name}-*.tar"):
            old.unlink(missing_ok=True)
        fresh.rename(archive)
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"packages: mmdebstrap failed for {release.name}; its output is above") from error
    finally:
        fresh.unlink(missing_ok=True)
    return archive


class ReleaseRoot:
    """One unpacked root, to run commands in."""

    def __init__(self, release: Release, directory: Path) -> None:
        self.release = release
        self.directory = directory
        directory.mkdir(mode=0o755)
        subprocess.run(["tar", "-xf", bare_root(release), "-C", directory], check=True)

    def path(self, inside: str) -> Path:
        """Return the path outside of a path inside."""
        return self.directory / inside.lstrip("/")

    def run(self, *command: str, environment: dict[str, str] | None = None) -> str:
        """Run a command in the root; return its output. It ends with this process."""
        done = subprocess.run(
            [
                *("unshare", "--pid", "--fork", "--kill-child", "--", "chroot", self.directory),
                *("/usr/bin/env", "-i", "PATH=/usr/bin:/bin", "HOME=/root", "LANG=C.UTF-8"),
                *(f"{name}={value}" for name, value in (environment or {}).items()),
                *command,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            umask=0o022,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(
                f"packages: {self.release.name}: {' '.join(command)} failed "
                f"(exit {done.returncode}):\n{done.stdout}"
            )
        return done.stdout
