"""Trains with a real library in a process of its own; reads back what a real agent and server have of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integrations.stored import StoredRun
from tests.integrations.training import Ended, Launch, Services, Train, Trained
from tests.support import require
from tests.support.agent_process import AgentProcess, training_environment
from tests.support.server_process import ServerProcess

TRAININGS = Path(__file__).parent / "trainings"
TRAINING_S = 240

#: Nothing may be fetched, no GPU asked for, and two trainings at once have two cores.
OF_ALL_TRAININGS = {
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "KERAS_BACKEND": "torch",
    "OMP_NUM_THREADS": "1",
    "PYTHONWARNINGS": "ignore",
    "TOKENIZERS_PARALLELISM": "false",
}


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """One server and one agent for all trainings of this process."""
    if "TEST_SERVICES_PYTHON" not in os.environ:
        require.absent(
            "agent and server", "TEST_SERVICES_PYTHON names no Python with them", "make integrations"
        )
    root = tmp_path_factory.mktemp("services")
    with (
        ServerProcess(root / "server") as server,
        AgentProcess(root, server.url, server.ingest_key) as agent,
    ):
        yield server, agent


@pytest.fixture
def launch(services: Services, tmp_path: Path) -> Launch:
    """Return a function that runs one of trainings/ in tmp_path, with arguments and variables, to its end."""
    _, agent = services

    def run(training: str, *arguments: str, **variables: str) -> Ended:
        report = tmp_path / "report.json"
        environment = training_environment(agent.spool)
        environment = {name: value for name, value in environment.items() if not name.startswith("WANDB_")}
        environment |= OF_ALL_TRAININGS | {"HOME": str(tmp_path), "REPORT": str(report)} | variables
        done = subprocess.run(
            [sys.executable, TRAININGS / f"{training}.py", *arguments],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TRAINING_S,
            check=False,
        )
        assert done.returncode == 0, f"{training} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return Ended(json.loads(report.read_text()), done.stderr)

    return run


@pytest.fixture
def train(services: Services, launch: Launch) -> Train:
    """Return a function that runs a training as launch() does, and waits until its run is stored."""

    def run(training: str, *arguments: str, **variables: str) -> Trained:
        report, stderr = launch(training, *arguments, **variables)
        stored = StoredRun(*services, report["project"], report["run"])
        stored.wait()
        return Trained(report, stored, stderr)

    return run
