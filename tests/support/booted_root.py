"""Roots of bootable Debian releases, made by mmdebstrap once and kept outside the checkout."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import zlib
from pathlib import Path

from tests.support import require

#: Debian 12 (systemd 252, Python 3.11) and 13 (systemd 257, Python 3.13).
RELEASES = ("bookworm", "trixie")
#: What a machine has before Tracker is installed: that which our packages depend on, among other things.
PACKAGES = [
    "systemd",
    "systemd-sysv",
    "dbus",
    "dbus-user-session",
    "libpam-systemd",
    "procps",
    "iproute2",
    "acl",
    "libsystemd0",
    "python3",
    "python3-venv",
    "python3-msgpack",
    "python3-systemd",
]
USERS = {"alice": 1001, "bob": 1002}
#: They wait for a console, or do work of their own while tests measure.
MASKED = [
    "console-getty.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "systemd-networkd-wait-online.service",
]
_COMMAND = [
    *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}"),
    '--aptopt=Acquire::Languages "none"',
    *(f"--dpkgopt=path-exclude=/usr/share/{left_out}/*" for left_out in ("locale", "info")),
    *(
        f'--customize-hook=chroot "$1" useradd --uid {uid} --create-home --shell /bin/bash {name}'
        for name, uid in USERS.items()
    ),
    f'--customize-hook=systemctl --root="$1" mask {" ".join(MASKED)}',
]


def bootable_root(release: str) -> Path:
    """Return the directory of a release, made where it is not there yet. Nothing may be written into it."""
    require.root()
    require.program("mmdebstrap")
    require.program("systemd-nspawn", "systemd-container")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "tracker")
    cache.mkdir(parents=True, exist_ok=True)
    wanted = cache / f"booted-{release}-{zlib.crc32(repr(_COMMAND).encode()):08x}"
    with open(cache / f"booted-{release}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if wanted.is_dir():
            return wanted
        for old in cache.glob(f"booted-{release}-*"):
            shutil.rmtree(old)
        unfinished = cache / f"booted-{release}-unfinished"
        done = subprocess.run(
            [*_COMMAND, release, str(unfinished)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"mmdebstrap could not make {release}:\n{done.stderr[-3000:]}")
        unfinished.rename(wanted)
        return wanted
