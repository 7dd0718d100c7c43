"""Runs Python code in a process of another Unix user. What he may do, the kernel decides.

The interpreter and the checkout may lie where others cannot read them: the process imports the shim as
root, then becomes the other user and runs the code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import require
from tests.support.alone import ALONE

#: Everything that a training imports while it runs.
_PRELUDE = """
import argparse, errno, fcntl, getpass, gettext, hashlib, io, json, locale, os, pickle, random, shutil, socket
import sys, time, traceback, encodings.idna
import tracker, tracker._credentials, tracker._commands.login, tracker._start, tracker.protocol.writer
os.setgroups([int(group) for group in sys.argv.pop(1).split(",") if group])
os.setgid(int(sys.argv.pop(1)))
os.setuid(int(sys.argv.pop(1)))
os.environ["HOME"] = "/nonexistent"
"""


def start_as_user(
    uid: int, script: str, *arguments: str, gid: int | None = None, groups: tuple[int, ...] = (), **more: str
) -> subprocess.Popen[str]:
    """Start a script as uid; gid is the same number unless given. `more` is its environment beyond ours."""
    require.root()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRACKER_")}
    identity = [",".join(map(str, groups)), str(uid if gid is None else gid), str(uid)]
    return subprocess.Popen(
        [sys.executable, "-c", _PRELUDE + textwrap.dedent(script), *identity, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**environment, **ALONE, **more},
        text=True,
    )


def run_as_user(
    uid: int, script: str, *arguments: str, gid: int | None = None, groups: tuple[int, ...] = (), **more: str
) -> str:
    """Run a script as uid to its end; return its stdout and stderr."""
    process = start_as_user(uid, script, *arguments, gid=gid, groups=groups, **more)
    return process.communicate(timeout=120)[0]


@contextmanager
def open_directory() -> Iterator[Path]:
    """Lend a directory that everybody may enter: those of pytest are closed to other users."""
    directory = Path(tempfile.mkdtemp(prefix="tracker-test-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def make_system_spool(spool: Path, agent_group: int) -> None:
    """Make a spool as packaging/tmpfiles.d does: for all users, readable to the agent's group."""
    setfacl = require.program("setfacl", "acl")
    spool.mkdir()
    acl = f"d:u::rwx,d:g::---,d:g:{agent_group}:rwx,d:m::rwx,d:o::---"
    done = subprocess.run([setfacl, "-m", acl, str(spool)], capture_output=True, text=True, check=False)
    if done.returncode:
        require.absent("ACLs", done.stderr.strip(), "a TMPDIR on ext4, xfs, btrfs or tmpfs")
    spool.chmod(0o1733)
