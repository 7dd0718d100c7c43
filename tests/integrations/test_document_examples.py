"""The code in docs, and the examples, that need libraries which `make integrations` brings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.document_examples import Program, programs, run

HEAVY = [program for program in programs() if program.heavy]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("program", HEAVY, ids=lambda program: program.name)
def test_code_in_documents_runs(program: Program, tmp_path: Path) -> None:
    run(program, tmp_path)


def test_documents_have_such_code() -> None:
    assert "watch.md" in {program.name for program in HEAVY}


def test_pytorch_example_learns_and_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    from tests.shim.scripts import environment, reading

    command = [sys.executable, str(EXAMPLES / "train_pytorch.py")]
    environ = environment(TRACKER_DIR=str(tmp_path / "spool"), TRACKER_RUN_ID="spirals", OMP_NUM_THREADS="1")

    first = subprocess.run(
        [*command, "--epochs", "20"], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True
    )
    again = subprocess.run(
        [*command, "--epochs", "40"], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True
    )

    assert "tracker: warning" not in first.stderr + again.stderr
    assert "goes on after epoch 20" in again.stdout
    trainings = [stream for stream in reading(tmp_path / "spool") if stream.header.role is None]
    assert len(trainings) == 2
    accuracies = [
        values["validation/accuracy"]
        for stream in trainings
        for _, values in stream.metrics
        if "validation/accuracy" in values
    ]
    assert len(accuracies) == 40
    assert accuracies[-1] > 0.9 > accuracies[0]
    directory = tmp_path / "spool" / str(os.geteuid()) / "spirals"
    assert list((directory / "files").rglob("checkpoint.pt"))
