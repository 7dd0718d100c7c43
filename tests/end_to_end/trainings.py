"""Training processes of the end-to-end tests, and the seed that everything random in them comes from."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

from tests.support.agent_process import training_environment

TRAINING = Path(__file__).with_name("training.py")


def print_seed() -> int:
    """Return $TRACKER_TEST_SEED, or a new seed, and print it."""
    seed = int(os.environ.get("TRACKER_TEST_SEED", str(random.SystemRandom().randrange(2**32))))
    print(f"TRACKER_TEST_SEED={seed}")
    return seed


def start_training(
    spool: Path, run: str, side_log: Path, seed: int, records: int, per_second: int
) -> subprocess.Popen[bytes]:
    """Start training.py."""
    return subprocess.Popen(
        [sys.executable, str(TRAINING), run, str(side_log), str(seed), str(records), str(per_second)],
        env=training_environment(spool),
        stdin=subprocess.DEVNULL,
    )
