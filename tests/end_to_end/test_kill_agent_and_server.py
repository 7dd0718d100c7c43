"""Promise 3 on real processes: agent and server die again and again, nothing is lost or doubled."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from tests.end_to_end.acknowledged import check_stored_once_in_order, read_points, read_side_log
from tests.end_to_end.trainings import print_seed, start_training
from tests.support.agent_process import AgentProcess, wait_until
from tests.support.server_process import ServerProcess

KILLS = 20
RUNS = 3
RECORDS = 12_000
PER_SECOND = 400


@pytest.mark.timeout(420)
def test_records_are_stored_once_in_order_while_agent_and_server_are_killed(tmp_path: Path) -> None:
    seed = print_seed()
    moments = random.Random(seed)

    with (
        ServerProcess(tmp_path / "server") as server,
        AgentProcess(tmp_path, server.url, server.ingest_key) as agent,
    ):
        trainings = [
            start_training(
                agent.spool,
                f"chaos-{number}",
                tmp_path / f"side-{number}",
                seed + number,
                RECORDS,
                PER_SECOND,
            )
            for number in range(RUNS)
        ]
        over = threading.Event()
        server_killer = threading.Thread(
            target=kill_again_and_again, args=(server, random.Random(seed + 1), over)
        )
        server_killer.start()
        for kill in range(KILLS):
            over.wait(moments.uniform(0.1, 2.0))
            agent.kill()
            if kill in (KILLS // 3, 2 * KILLS // 3):
                agent.delete_state()
            agent.start()
        server_killer.join(300)
        assert (agent.kills, server.kills) == (KILLS, KILLS)
        for training in trainings:
            assert training.wait(120) == 0

        for number in range(RUNS):
            noted = read_side_log(tmp_path / f"side-{number}")
            assert len(noted) == RECORDS
            wait_until(
                lambda n=number: len(read_points(server, f"chaos-{n}")) >= RECORDS,
                timeout_s=60,
                what=f"{RECORDS} records of run {number} on the server",
            )
            check_stored_once_in_order(noted, read_points(server, f"chaos-{number}"))
            wait_until(
                lambda n=number: (
                    server.get(f"/api/v1/runs/default/end-to-end/chaos-{n}")["state"] == "finished"
                ),
                timeout_s=30,
                what="state finished",
            )


def kill_again_and_again(server: ServerProcess, moments: random.Random, over: threading.Event) -> None:
    for _ in range(KILLS):
        over.wait(moments.uniform(0.1, 2.0))
        server.kill()
        server.start()
