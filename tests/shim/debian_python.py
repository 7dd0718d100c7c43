"""Interpreters newer than those of this machine: Debian's newest, unpacked into a directory of their own.

Their C library is newer, too, so the program is made to load what lies beside it. Nothing is installed; it is
fetched once, into ${XDG_CACHE_HOME:-~/.cache}/tracker-tests.
"""

import fcntl
import os
import subprocess
import tempfile
from pathlib import Path

from tests.support import require

VERSIONS = ("3.14", "3.15")
PROGRAMS = tuple("python" + version for version in VERSIONS)
SUITE = "sid"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
LOADER = "ld-linux-x86-64.so.2"


def ensure_python(version: str) -> str:
    """Return the path of an interpreter of one of VERSIONS."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tracker-tests"
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / ("debian-python" + "-".join(VERSIONS))
    with (cache / "debian-python.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            patchelf = require.program("patchelf")
            with tempfile.TemporaryDirectory(dir=cache) as directory:
                try:
                    _unpack(Path(directory), target, patchelf)
                except subprocess.CalledProcessError as error:
                    require.absent(f"python{version}", error.stderr.strip()[-300:], f"Debian's {SUITE}")
    return str(target / "usr" / "bin" / f"python{version}")


def _unpack(directory: Path, target: Path, patchelf: str) -> None:
    root = directory / "root"
    archives = directory / "archives"
    lists = directory / "lists"
    for made in (root, archives / "partial", lists / "partial"):
        made.mkdir(parents=True)
    (directory / "status").touch()  # as if nothing was installed: all that it needs is fetched
    (directory / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {SUITE} main\n")
    settings = {
        "Dir::Etc::sourcelist": directory / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State::lists": lists,
        "Dir::State::status": directory / "status",
        "Dir::Cache": directory,
        "Dir::Cache::archives": archives,
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Debug::NoLocking": "1",
    }
    apt = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in settings.items())]
    _run(*apt, "update")
    _run(*apt, "install", "-y", "--no-install-recommends", "--download-only", *PROGRAMS)
    for package in archives.glob("*.deb"):
        _run("dpkg-deb", "-x", str(package), str(root))
    libraries = target / LIBRARIES
    for program in PROGRAMS:
        loads = ["--set-interpreter", str(libraries / LOADER), "--force-rpath", "--set-rpath", str(libraries)]
        _run(patchelf, *loads, str(root / "usr" / "bin" / program))
    root.rename(target)


def _mirror() -> str:
    """Return where this machine has Debian's packages from."""
    places = _run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").split()
    found = [place for place in places if place.endswith("/debian/")]
    if not found:
        require.absent(
            "Debian's packages", "none of apt's sources is one", "a Debian, or its packages for apt"
        )
    return found[0]


def _run(*command: str) -> str:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=300
    ).stdout
