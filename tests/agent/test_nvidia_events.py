"""Xids and other events of drivers: each is told once, and no storm of them costs anything else."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.gpu_scene import GpuScene, children, gpu_scene, of_gpu
from tracker_agent.collectors.collector import Event, Reading

MakeScene = Callable[..., GpuScene]


@pytest.fixture
def make_scene(tmp_path: Path) -> Iterator[MakeScene]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(gpu_scene(tmp_path / "nvml", **options))
    assert children() == [], "neither a process nor a zombie is left"


def names_of(reading: Reading, index: int) -> set[str]:
    return set(of_gpu(reading.values.items(), index))


def test_xid_that_came_with_the_hang_is_not_lost(make_scene: MakeScene) -> None:
    scene = make_scene(deadline_s=0.5)
    scene.play(gpus=2)
    scene.sample()
    scene.play(gpus=2, events=1, event_data=119, sleep__nvmlDeviceGetTemperature=30_000)

    reading = scene.sample()

    assert reading.values == {}
    assert "did not answer" in reading.problems[0]
    scene.play(gpus=2, events=1, event_data=119)
    scene.recovered()
    assert [event.facts["xid"] for event in scene.events] == [119]


def test_xid_is_told_once_with_its_time_gpu_and_number(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.play(gpus=2)
    scene.sample()
    before = time.time_ns()
    scene.play(gpus=2, events=1, event_data=79, event_gpu=1)

    for _ in range(3):
        scene.sample()

    (event,) = scene.events
    assert before - 5e9 <= event.time <= time.time_ns()
    assert event.facts["xid"] == 79
    assert event.facts["gpu"] == "GPU-played-1"
    assert event.level == "error"
    assert "79" in event.title


@pytest.mark.parametrize("xid", [13, 31, 43, 45])
def test_xid_of_the_users_own_making_is_no_error_of_the_machine(make_scene: MakeScene, xid: int) -> None:
    scene = make_scene()
    scene.sample()
    scene.play(events=1, event_data=xid)

    scene.sample()

    (event,) = scene.events
    assert event.facts["xid"] == xid
    assert event.level != "error"


def test_different_xids_of_all_gpus_arrive_once_each(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.play(gpus=4)
    scene.sample()
    scene.play(gpus=4, events=8, event_data=100, event_data_step=1, event_gpu_step=1)

    for _ in range(3):
        scene.sample()

    told = Counter((event.facts["xid"], event.facts["gpu"]) for event in scene.events)
    assert told == {(100 + number, f"GPU-played-{number % 4}"): 1 for number in range(8)}


def test_storm_of_xids_is_summed_up_and_costs_no_values(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.play(gpus=2)
    whole = names_of(scene.sample(), 1)
    scene.play(gpus=2, events=5000, event_data=63)

    readings = [scene.sample() for _ in range(100)]

    assert all(whole <= names_of(reading, 1) for reading in readings)
    assert max(len(reading.events) for reading in readings) <= 20
    # Told at once when it begins, then how many more: few records, and none of the 5000 is uncounted.
    assert readings[0].events
    assert len(scene.events) <= 10
    assert sum(counted(event) for event in scene.events) == 5000
    assert readings[-1].events == ()


def counted(event: Event) -> int:
    """Return how many events of the driver one of ours stands for."""
    return (
        int(event.facts.get("count", 1)) if "more" not in event.facts else sum(event.facts["more"].values())
    )


def test_driver_without_events_still_has_values(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.play(event_types=0, events=0)
    scene.sample()

    scene.play(event_types=0, events=3)

    assert scene.sample().problems == ()
    assert scene.events == []


def test_events_are_told_although_the_gpu_does_not_know_all_kinds(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.play(event_types=8)
    scene.sample()

    scene.play(event_types=8, events=1)
    scene.sample()

    assert len(scene.events) == 1
