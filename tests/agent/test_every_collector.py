"""What holds for every collector that reads the kernel's files, on every machine there is a tree of."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from tests.support.fixture_host import MACHINES, FixtureHost
from tracker_agent.collectors.chosen import COLLECTORS
from tracker_agent.collectors.collector import Collector, CollectorError, NothingHere, Reading
from tracker_agent.collectors.kernel import Kernel
from tracker_agent.sample_view import metric_pattern

#: These ask a library or a server.
OTHER_SOURCES = ("nvidia", "amd", "openmetrics")
KINDS = [kind for kind in COLLECTORS.values() if kind.name not in OTHER_SOURCES]
SEEDS = range(12)


def try_sample(collector: Collector) -> Reading | None:
    """Return what a sample brought; None where there is nothing, or it failed as collectors may."""
    try:
        return collector.sample()
    except (NothingHere, CollectorError):
        return None


def check(kind: type[Collector], reading: Reading) -> None:
    patterns = [(metric_pattern(metric), metric) for metric in kind.metrics]
    everything = [reading.values, *reading.runs.values()]
    for name, value in ((name, value) for values in everything for name, value in values.items()):
        metric = next((metric for pattern, metric in patterns if pattern.fullmatch(name)), None)
        assert metric is not None, f"{name} is not in the table of metrics"
        assert math.isfinite(value), name
        assert value >= 0 or metric.unit == "°C", f"{name} is {value}"
        if metric.unit == "%":
            assert value <= 100, f"{name} is {value}"


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_collector_brings_nothing_but_what_its_table_says(
    kind: type[Collector], machine: str, tmp_path: Path
) -> None:
    host = FixtureHost(machine, tmp_path / "host")
    collector = kind(host.context(settings=kind.Settings()))

    for seconds in (0.0, 2.0, 0.0, 60.0):
        host.advance(seconds)
        reading = try_sample(collector)
        if reading is not None:
            check(kind, reading)
    collector.close()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_collector_finds_nothing_on_a_machine_that_has_nothing(kind: type[Collector], tmp_path: Path) -> None:
    host = FixtureHost("empty", tmp_path / "host")
    collector = kind(host.context(settings=kind.Settings()))

    reading = try_sample(collector)

    assert reading is None or not any(
        "/proc" in each.source for each in kind.metrics if each.name in reading.values
    )
    collector.close()


class StrangeKernel(Kernel):
    """A kernel whose files are not always what they should be: cut off, empty, gone, full of other words."""

    def __init__(self, root: str, seed: int) -> None:
        super().__init__(root)
        self.random = random.Random(seed)

    def text(self, name: str) -> str | None:
        text = super().text(name)
        if text is None or self.random.random() < 0.5:
            return text
        words = text.split(" ")
        change = self.random.randrange(6)
        if change == 0:
            return text[: self.random.randrange(len(text) + 1)]
        if change == 1:
            return self.random.choice([None, "", "\n", "max", "N/A", "-1", "18446744073709551615"])
        if change == 2:
            words[self.random.randrange(len(words))] = self.random.choice(["", "x", "-5", "1e999", "9" * 30])
        if change == 3:
            del words[self.random.randrange(len(words))]
        if change == 4:
            lines = text.split("\n")
            self.random.shuffle(lines)
            return "\n".join(lines)
        return " ".join(words)


@pytest.mark.parametrize("machine", [machine for machine in MACHINES if machine != "empty"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_collector_survives_files_it_does_not_know(
    kind: type[Collector], machine: str, tmp_path: Path
) -> None:
    host = FixtureHost(machine, tmp_path / "host")
    for seed in SEEDS:
        kernel = StrangeKernel(str(host.root), seed)
        collector = kind(host.context(settings=kind.Settings(), kernel=kernel))
        for _ in range(4):
            host.advance(2.0)
            try:
                try_sample(collector)
            except Exception as error:
                raise AssertionError(f"{kind.name} on {machine}, seed {seed}") from error
        collector.close()
