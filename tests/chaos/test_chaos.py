"""The chaos run in its short form; `make chaos` is the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.trainings import print_seed
from tests.support import require

ROOT = Path(__file__).resolve().parents[2]
FAULTS = 40


@pytest.mark.timeout(300)
def test_no_fault_loses_or_doubles_a_record(tmp_path: Path) -> None:
    require.program("nft", "nftables")
    require.program("mkfs.ext4", "e2fsprogs")
    require.program("strace")
    require.program("gcc")

    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.chaos", f"--faults={FAULTS}", f"--seed={print_seed()}"),
            *("--writers=12", f"--keep={tmp_path}"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    print(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    # Unprivileged, only half of the faults are to be had: say so, after having tried them.
    require.root()
