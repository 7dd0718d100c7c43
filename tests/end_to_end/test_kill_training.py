"""Promise 2 on real processes: SIGKILL of the training process loses nothing log() returned from."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.end_to_end.acknowledged import check_stored_once_in_order, read_points, read_side_log
from tests.end_to_end.trainings import print_seed, start_training
from tests.support.agent_process import AgentProcess, wait_until
from tests.support.server_process import ServerProcess

KILLS = 50
AT_ONCE = 2
CRASHED_WITHIN_S = 5.0


@pytest.mark.timeout(300)
def test_killed_training_loses_nothing_and_shows_as_crashed_within_five_seconds(tmp_path: Path) -> None:
    seed = print_seed()
    moments = random.Random(seed)

    with (
        ServerProcess(tmp_path / "server") as server,
        AgentProcess(tmp_path, server.url, server.ingest_key) as agent,
    ):
        for first in range(0, KILLS, AT_ONCE):
            numbers = range(first, first + AT_ONCE)
            trainings = {
                n: start_training(
                    agent.spool, f"killed-{n}", side_log(tmp_path, n), seed + n, 1_000_000, 2_000
                )
                for n in numbers
            }
            for number in numbers:
                wait_until(lambda n=number: read_side_log(side_log(tmp_path, n)), what="the first record")
            time.sleep(moments.uniform(0.0, 0.5))
            for training in trainings.values():
                training.kill()
                training.wait(30)
            for number in numbers:
                wait_until(
                    lambda n=number: state(server, n) == "crashed",
                    timeout_s=CRASHED_WITHIN_S,
                    what=f"state crashed of run {number} (it is {state(server, number)})",
                )
                noted = read_side_log(side_log(tmp_path, number))
                check_stored_once_in_order(noted, read_points(server, f"killed-{number}"))


def side_log(root: Path, number: int) -> Path:
    return root / f"side-{number}"


def state(server: ServerProcess, number: int) -> str | None:
    run = server.try_get(f"/api/v1/runs/default/end-to-end/killed-{number}")
    return run["state"] if run else None
