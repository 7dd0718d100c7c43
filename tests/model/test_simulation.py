"""A thousand simulations, each with its own mix of faults; and that the simulator itself can be trusted.

`python -m tests.model.simulate --seeds 10000` runs more of them; docs/testing.md says how to read a failure.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys

import pytest

from tests.model.simulate import run_in_parallel
from tests.model.simulator.faults import CALM, Faults
from tests.model.simulator.process_disk import ProcessDisk
from tests.model.simulator.sim_remover import SimRemover
from tests.model.simulator.simulation import EVENTS_MIN, simulate
from tracker_agent.disk import Disk
from tracker_agent.removal import Remover

SEEDS = int(os.environ.get("TEST_SIMULATION_SEEDS", "700"))
#: Seeds that are run again, here and in other processes.
REPLAYED = 2


def test_every_acknowledged_record_is_stored_once_or_its_loss_accounted_for() -> None:
    total = run_in_parallel(first=0, seeds=SEEDS, jobs=2, progress=False)

    assert [f"seed {outcome.seed}: {outcome.problem}" for outcome in total.failed] == []
    assert total.events_least >= EVENTS_MIN
    assert total.never_fired() == []


def test_simulation_without_faults_loses_nothing() -> None:
    outcome = simulate(1, faults=Faults(**vars(CALM)))

    assert outcome.problem is None


@pytest.mark.parametrize("seed", range(REPLAYED))
def test_seed_replays_exactly_in_this_and_in_another_process(seed: int) -> None:
    here = simulate(seed)
    code = f"from tests.model.simulator.simulation import simulate; print(simulate({seed}).digest)"

    again = simulate(seed)
    elsewhere = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]

    assert again.digest == here.digest
    assert elsewhere == [f"{here.digest}\n"] * 2


@pytest.mark.parametrize(("real", "simulated"), [(Disk, ProcessDisk), (Remover, SimRemover)])
def test_nothing_of_the_simulated_machine_reaches_the_real_one(real: type, simulated: type) -> None:
    calls = {name for name, _ in inspect.getmembers(real, callable) if not name.startswith("_")}

    assert {name for name in calls if name not in vars(simulated)} == set()
