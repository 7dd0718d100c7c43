"""Runs the command `tracker` in a process of its own."""

import subprocess
import sys
from pathlib import Path

from tests.shim.scripts import environment


def tracker_command(
    *arguments: object, cwd: Path | None = None, stdin: str | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run it to its end; `more` is the environment beyond ours."""
    given: dict[str, object] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "tracker", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=cwd,
        env=environment(**more),
        **given,
    )


def succeeds(result: subprocess.CompletedProcess[str]) -> str:
    """Return what a command printed; fail the test where it did not end with 0."""
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
