"""GPUs divided by MIG, and what the inventory tells of GPUs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.gpu_scene import GpuScene, gpu_scene, of_gpu

MakeScene = Callable[..., GpuScene]
GIB = 1 << 30
#: GPM compares samples at least 100 ms apart.
GPM_S = 0.15


@pytest.fixture
def make_scene(tmp_path: Path) -> Iterator[MakeScene]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(gpu_scene(tmp_path / "nvml", **options))


def twice(scene: GpuScene, index: int) -> dict[str, float]:
    """Return the values of a GPU's second sample: GPM needs two."""
    scene.sample()
    time.sleep(GPM_S)
    return of_gpu(scene.sample().values.items(), index)


def test_mig_devices_have_memory_processes_and_gpm_and_the_gpu_no_utilisation(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.play(
        gpus=2, mig__gpu1=2, memory__gpu1__mig1=5 * GIB, gpm__2__gpu1__mig1=33, processes__gpu1__mig1=2
    )

    values = twice(scene, 1)
    other = of_gpu(scene.sample().values.items(), 0)

    assert values["mig.1.memory.used.bytes"] == 5 * GIB
    assert values["mig.1.memory.total.bytes"] == 10 * GIB
    assert values["mig.1.sm.active.percent"] == 33
    assert values["mig.0.sm.active.percent"] == 88.5
    assert values["mig.1.processes.count"] == 2
    assert "utilization.percent" not in values
    assert values["power.watts"] == 123.456
    assert other["utilization.percent"] == 50


def test_mig_that_is_set_up_and_taken_away_again_is_followed(make_scene: MakeScene) -> None:
    scene = make_scene(slow_s=0.0)
    scene.play(mig__gpu0=2)
    assert "host.gpu.0.mig.1.memory.used.bytes" in scene.sample().values

    scene.play(mig__gpu0=1)
    scene.sample()
    names = set(scene.sample().values)

    assert "host.gpu.0.mig.0.memory.used.bytes" in names
    assert "host.gpu.0.mig.1.memory.used.bytes" not in names
    scene.play()
    scene.sample()
    names = set(scene.sample().values)
    assert not [name for name in names if ".mig." in name]


def test_inventory_tells_what_the_gpus_are(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.play(gpus=2, mig__gpu1=1)

    inventory = scene.sample().inventory

    assert inventory is not None
    assert inventory["gpu_driver"] == "999.10.2"
    assert inventory["cuda"] == "12.4"
    first, second = inventory["gpus"]
    assert first["index"] == 0
    assert first["uuid"] == "GPU-played-0"
    assert first["name"] == "Played GPU"
    assert first["memory_bytes"] == 80 * GIB
    assert first["vbios"] == "96.00.99.00.00"
    assert first["pci_bus_id"] == "00000000:10:00.0"
    assert first["persistence_mode"] == "on"
    assert second["mig_mode"] == "on"
    assert "MIG-played-1-0" in str(second)
