"""The UI's own unit tests (ui/test, vitest), run with the Node that the build uses."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_vitest_passes() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "server" / "hatch_build.py"), "test"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
