"""The example that users copy: it learns, and its gradients are right."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "train_digits.py"


@pytest.fixture(scope="module")
def train_digits() -> ModuleType:
    import importlib.util

    spec = importlib.util.spec_from_file_location("train_digits", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_gradients_match_finite_differences(train_digits: ModuleType) -> None:
    rng = np.random.default_rng(3)
    network = train_digits.Network([5, 4, 4, 10], rng)
    for biases in network.biases:  # away from the kink of a unit that gets nothing but zeros
        biases += rng.normal(0, 0.1, biases.shape)
    images, labels = rng.random((7, 5)), rng.integers(0, 10, 7)
    gradients = network.gradients(*network.forward(images), labels)

    for parameter, gradient in zip(network.parameters, gradients, strict=True):
        for index in np.ndindex(parameter.shape):
            kept, losses = parameter[index], []
            for shift in (1e-6, -1e-6):
                parameter[index] = kept + shift
                losses.append(train_digits.loss_and_accuracy(network.forward(images)[1], labels)[0])
            parameter[index] = kept
            assert gradient[index] == pytest.approx((losses[0] - losses[1]) / 2e-6, abs=1e-6)


def test_script_reaches_95_percent_on_digits_it_has_not_seen(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--epochs", "15"],
        env={**os.environ, "TRACKER_DIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )

    last_line = done.stdout.splitlines()[-1]
    accuracy = float(last_line.rpartition("accuracy")[2].strip(" %"))
    assert accuracy > 95
    assert list(tmp_path.glob("*/*/*.mpl"))
