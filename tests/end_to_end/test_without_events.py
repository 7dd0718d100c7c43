"""No hint ever comes: no watchdog, or a file system that sends no events. Everything arrives all the same."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.acknowledged import check_stored_once_in_order, read_points, read_side_log
from tests.end_to_end.trainings import print_seed, start_training
from tests.support.agent_process import AgentProcess, wait_until
from tests.support.fuse_mount import passthrough
from tests.support.server_process import ServerProcess

RUNS = 2
RECORDS = 400
ENDLESS = 1_000_000  # for the one that is killed
PER_SECOND = 300
KILLS = 2


@contextmanager
def plain(root: Path) -> Iterator[tuple[Path, Path]]:
    yield root, root


@contextmanager
def another_client(root: Path) -> Iterator[tuple[Path, Path]]:
    """Return where trainings write, and where the agent sees that: behind its back."""
    (root / "export").mkdir(parents=True)
    with passthrough(root / "export", root / "mounted"):
        yield root / "export", root / "mounted"


@pytest.mark.parametrize(
    ("place", "watch"), [(plain, False), (another_client, True), (another_client, False)],
    ids=["watchdog off", "FUSE", "FUSE, watchdog off"],
)  # fmt: skip
def test_everything_arrives_once_in_order_without_a_single_event(tmp_path: Path, place, watch: bool) -> None:
    seed = print_seed()
    moments = random.Random(seed)
    with ServerProcess(tmp_path / "server") as server, place(tmp_path / "place") as (written, seen):
        agent = AgentProcess(tmp_path / "agent", server.url, server.ingest_key, watch=watch)
        config = agent.config.read_text()
        agent.config.write_text(config.replace(str(agent.spool), str(seen / "spool")))
        spool = written / "spool"
        with agent:
            trainings = [
                start_training(spool, f"quiet-{n}", tmp_path / f"side-{n}", seed + n, records, PER_SECOND)
                for n, records in enumerate((ENDLESS, RECORDS))
            ]
            for _ in range(KILLS):
                wait_until(agent.status, what="the agent")
                time.sleep(moments.uniform(0, 0.3))
                agent.kill()
                agent.start()
            trainings[0].kill()
            assert [training.wait(60) for training in trainings][1:] == [0] * (RUNS - 1)

            for number in range(RUNS):
                page = f"/api/v1/runs/default/end-to-end/quiet-{number}"
                state = "finished" if number else "crashed"
                wait_until(
                    lambda page=page, state=state: (run := server.try_get(page)) and run["state"] == state,
                    what=f"run {number} {state}",
                )
                noted = read_side_log(tmp_path / f"side-{number}")
                check_stored_once_in_order(noted, read_points(server, f"quiet-{number}"))
