"""Runs scripts that use the shim in processes of their own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from tests.support.alone import ALONE


def environment(**more: str) -> dict[str, str]:
    """Return the environment without TRACKER_ variables from outside."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TRACKER_")}
    environ.update({"PYTHONIOENCODING": "utf-8", **ALONE, **more})
    return environ


def start_script(
    script: str, *arguments: str, prefix: tuple[str, ...] = (), **more: str
) -> subprocess.Popen[str]:
    """Start a script; `prefix` is a command to run it under, `more` the environment beyond ours."""
    command = [*prefix, sys.executable, "-c", textwrap.dedent(script), *arguments]
    pipe: Any = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment(**more))


def run_script(
    script: str, *arguments: str, code: int = 0, prefix: tuple[str, ...] = (), **more: str
) -> tuple[str, str]:
    """Run a script to its end; return its stdout and stderr."""
    process = start_script(script, *arguments, prefix=prefix, **more)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    return out, err


def reading(directory: Path) -> Any:
    """Return every stream below a directory (see portable/recording.py)."""
    from tests.shim.portable.recording import read_streams

    return read_streams(directory)
