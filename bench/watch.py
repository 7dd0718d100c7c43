"""What watch() costs a training step on the CPU: real PyTorch, with log_freq 100 and 1000, against none.

    .venv-integrations/bin/python bench/watch.py [--steps 2000] [--rounds 5]     (make integrations)

Two models: a small one of many layers, whose steps are short, so that whatever runs in each of them
shows; and a larger one, whose reports have much to count. All are trained for the same steps in turn;
ratios are those of the whole time, the reports included, as medians over the rounds. Also: the median
step, which has no report in it, and what one report costs, in steps.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch import nn

import tracker
from bench.recording import record

WAYS: dict[str, int | None] = {"none": None, "every 1000": 1000, "every 100": 100}
WARM_UP_STEPS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="of a round; a multiple of 1000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-record", action="store_true", help="print the figures, keep none")
    options = parser.parse_args()
    figures: dict[str, Any] = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "rounds": options.rounds,
        "steps": options.steps,
    }
    with tempfile.TemporaryDirectory(prefix="tracker-bench-", ignore_cleanup_errors=True) as directory:
        os.environ.update(
            TRACKER_DIR=directory, TRACKER_SILENT="1", TRACKER_CONSOLE="off", TRACKER_DISABLE_CODE="1"
        )
        for name, make in MODELS.items():
            figures[name] = compare(make, options.rounds, options.steps)
    if options.no_record:
        print(json.dumps(figures, indent=2))
    else:
        record("watch", figures)


def many_layers() -> tuple[nn.Module, torch.Tensor]:
    """Return 100 layers of 32, 105,600 parameters in 200 tensors."""
    layers = [layer for _ in range(100) for layer in (nn.Linear(32, 32), nn.Tanh())]
    return nn.Sequential(*layers), torch.randn(16, 32)


def wide() -> tuple[nn.Module, torch.Tensor]:
    """Return three layers of 3.2 million parameters together."""
    return nn.Sequential(
        nn.Linear(784, 1536), nn.ReLU(), nn.Linear(1536, 1280), nn.ReLU(), nn.Linear(1280, 10)
    ), torch.randn(64, 784)


MODELS: dict[str, Callable[[], tuple[nn.Module, torch.Tensor]]] = {"many layers": many_layers, "wide": wide}


def compare(make: Callable[[], tuple[nn.Module, torch.Tensor]], rounds: int, steps: int) -> dict[str, Any]:
    """Return ratios of the ways to watch, over rounds that alternate."""
    totals: dict[str, list[float]] = {name: [] for name in WAYS}
    medians: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(rounds):
        for name in list(WAYS)[:: 1 if number % 2 == 0 else -1]:
            times = time_training(make, steps, WAYS[name])
            totals[name].append(sum(times))
            medians[name].append(statistics.median(times))
    step_ns = statistics.median(medians["none"])
    model, _ = make()
    figures: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "step ms": round(step_ns / 1e6, 3),
    }
    for name in list(WAYS)[1:]:
        ratios = [one / other for one, other in zip(totals[name], totals["none"], strict=True)]
        between = [one / other for one, other in zip(medians[name], medians["none"], strict=True)]
        figures[f"{name} ratio"] = round(statistics.median(ratios), 4)
        figures[f"{name} ratio spread"] = f"{min(ratios):.4f} to {max(ratios):.4f}"
        figures[f"{name} median step ratio"] = round(statistics.median(between), 4)
    reports = steps / 100
    extra = [one - other for one, other in zip(totals["every 100"], totals["none"], strict=True)]
    figures["one report in steps"] = round(statistics.median(extra) / reports / step_ns, 2)
    return figures


def time_training(
    make: Callable[[], tuple[nn.Module, torch.Tensor]], steps: int, every: int | None
) -> list[int]:
    """Return how long each step took, ns, with gradients and parameters watched."""
    torch.manual_seed(0)
    model, batch = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    run = tracker.init(project="bench")
    if every is not None:
        watched = run.watch(model, log="all", log_freq=every)

    def step() -> None:
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()

    for _ in range(WARM_UP_STEPS):
        step()
    times = [0] * steps
    for number in range(steps):
        began = perf_counter_ns()
        step()
        times[number] = perf_counter_ns() - began
    if every is not None:
        assert watched[0].reports == (steps + WARM_UP_STEPS) // every
    assert run.lost == 0
    tracker.finish()
    return times


if __name__ == "__main__":
    main()
