"""The examples that need nothing but Python: they learn, and their runs hold what they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shim.portable.recording import Stream
from tests.shim.scripts import environment, reading
from tracker.protocol import kinds

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run_example(name: str, directory: Path, *arguments: str) -> tuple[Stream, str]:
    """Run an example; return the stream of its run and what it printed."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=directory,
        env=environment(TRACKER_DIR=str(directory / "spool")),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "tracker: warning" not in done.stderr, done.stderr
    trainings = [stream for stream in reading(directory / "spool") if stream.header.role is None]
    assert len(trainings) == 1
    return trainings[0], done.stdout


def summary_of(stream: Stream) -> dict[str, object]:
    found: dict[str, object] = {}
    for patch in stream.of(kinds.SUMMARY):
        found.update(patch.set)
    return found


def test_plain_example_finds_the_cosine(tmp_path: Path) -> None:
    stream, printed = run_example("train_plain.py", tmp_path)

    errors = [values["mean square"] for _, values in stream.metrics]
    assert len(errors) == 40
    assert errors[-1] < 0.4 < errors[0]
    summary = summary_of(stream)
    assert summary["amplitude"] == pytest.approx(5, abs=0.3)
    assert summary["warmest hour"] == pytest.approx(14, abs=0.3)
    assert re.fullmatch(r"mean 1[45]\.\d, amplitude [45]\.\d\n", printed)
    assert stream.of(kinds.CONFIG)[0].set == {"passes": 40, "rate": 0.2}


def test_script_made_for_wandb_runs_with_its_import_changed(tmp_path: Path) -> None:
    stream, _ = run_example("train_with_wandb_names.py", tmp_path)

    accuracies = [values["accuracy"] for _, values in stream.metrics if "accuracy" in values]
    assert len(accuracies) == 15
    assert accuracies[-1] > 0.95
    assert {value.name for value in stream.of(kinds.VALUE)} == {"weights", "some points"}
    (run,) = (tmp_path / "spool" / str(os.geteuid())).iterdir()
    (saved,) = (run / "files").rglob("perceptron.json")
    assert saved.read_bytes() == (tmp_path / "perceptron.json").read_bytes()
    assert stream.exits == [0]


def test_every_example_is_listed() -> None:
    listed = (EXAMPLES / "README.md").read_text()

    assert [path.name for path in EXAMPLES.glob("*.py") if f"({path.name})" not in listed] == []
    writers = (EXAMPLES / "writers" / "README.md").read_text()
    assert [path.name for path in EXAMPLES.glob("writers/writer*") if f"({path.name})" not in writers] == []
