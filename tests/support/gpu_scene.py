"""The NVIDIA collector on the stand-in for its library: a scenario, a clock that moves, the child process."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pynvml
import pytest

from tests.support.agent_process import wait_until
from tests.support.fake_nvml import FakeNvml
from tracker_agent.collectors.collector import CollectorError, Context, Event, NothingHere, Reading
from tracker_agent.collectors.kernel import Kernel
from tracker_agent.collectors.nvidia import NvidiaCollector

#: However long a fault lasted, this long after its end the values are back.
RECOVERY_S = 60.0
SAMPLE_S = 2.0
_CHILD = "nvidia_child"
#: The real child, that opens the driver anew, looks at what changes seldom and retries without long waits.
_QUICK_CHILD = """
import sys
from tracker_agent.collectors import nvidia_calls, nvidia_child, nvidia_device, nvidia_driver
nvidia_driver.REOPEN_INTERVAL_S = {reopen_s}
nvidia_device.SLOW_INTERVAL_S = {slow_s}
nvidia_calls.REPROBE_S = nvidia_calls.RETRY_S = {retry_s}
sys.exit(nvidia_child.main())
"""


class MovedClock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class GpuScene:
    """One collector, asked each two seconds of a clock that nobody waits for."""

    def __init__(self, library: FakeNvml, collector: NvidiaCollector, clock: MovedClock) -> None:
        self.library = library
        self.collector = collector
        self.clock = clock
        self.events: list[Event] = []

    def play(self, **lines: float) -> None:
        """Replace the scenario."""
        self.library.play(**lines)

    def sample(self) -> Reading:
        """Sample two seconds after the sample before."""
        self.clock.now += SAMPLE_S
        reading = self.collector.sample()
        self.events += reading.events
        return reading

    def try_sample(self) -> Reading | None:
        """Sample; None where the collector could not."""
        try:
            return self.sample()
        except (CollectorError, NothingHere):
            return None

    def recovered(self, good: Callable[[Reading], bool] = lambda reading: not reading.problems) -> Reading:
        """Return the first good reading after a fault. Fail when the clock says it came too late."""
        began = self.clock.now
        reading: Reading | None = None

        def attempt() -> bool:
            nonlocal reading
            reading = self.try_sample()
            late = self.clock.now - began
            assert late <= RECOVERY_S, f"{late:g} s after the fault still no values: {reading}"
            return reading is not None and good(reading)

        wait_until(attempt, what="a good sample")
        assert reading is not None
        return reading


@contextmanager
def gpu_scene(
    directory: Path,
    without: Collection[str] = (),
    deadline_s: float = 1.0,
    first_deadline_s: float = 20.0,
    reopen_s: float = 0.0,
    slow_s: float = 30.0,
    retry_s: float = 0.1,
) -> Iterator[GpuScene]:
    """Yield a scene whose library lies in a directory; the times are those of the child."""
    library = FakeNvml(directory, without)
    program = _QUICK_CHILD.format(reopen_s=reopen_s, slow_s=slow_s, retry_s=retry_s)
    clock = MovedClock()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in library.environment.items():
            environment.setenv(name, value)
        collector = NvidiaCollector(
            # Not the GPUs of the machine that runs the test.
            Context(kernel=Kernel(str(directory / "no-files")), monotonic=clock),
            command=(sys.executable, "-P", "-c", program),
            deadline_s=deadline_s,
            first_deadline_s=first_deadline_s,
            monotonic=clock,
        )
        try:
            yield GpuScene(library, collector, clock)
        finally:
            collector.close()


def children(parent: int | None = None) -> list[psutil.Process]:
    """Return the processes that ask the driver, zombies too, of this process or another."""
    found = []
    for child in psutil.Process(parent or os.getpid()).children():
        try:
            if child.status() == psutil.STATUS_ZOMBIE or _CHILD in " ".join(child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def of_gpu(values: Iterable[tuple[str, float]], index: int) -> dict[str, float]:
    """Return the values of one GPU, by their names below it."""
    prefix = f"host.gpu.{index}."
    return {name.removeprefix(prefix): value for name, value in values if name.startswith(prefix)}


#: The most of anything that a machine of H100s can physically do, by unit at the end of a name.
_MOST = {
    "percent": 100.0,
    "watts": 1000.0,
    "celsius": 130.0,
    "mhz": 5000.0,
    "bytes": 200.0 * 2**30,
    # All links of NVLink 5 in one direction.
    "bytes_per_s": 1.8e12,
    # A GPU at 1 kW since ten years.
    "joules": 1000.0 * 10 * 365 * 86400,
    "count": 2.0**32,
    "code": 10.0,
}


def absurdities(values: Iterable[tuple[str, float]]) -> list[str]:
    """Return the values that cannot be: negative, no number, or ten times what hardware can do."""
    wrong = []
    for name, value in values:
        unit = name.rpartition(".")[2]
        least = -50.0 if unit == "celsius" else 0.0
        if not math.isfinite(value) or value < least or value > 10 * _MOST[unit]:
            wrong.append(f"{name} = {value}")
    return wrong


#: Errors by name, for scenarios.
NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED
DRIVER_NOT_LOADED = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
GPU_IS_LOST = pynvml.NVML_ERROR_GPU_IS_LOST
RESET_REQUIRED = pynvml.NVML_ERROR_RESET_REQUIRED
OPERATING_SYSTEM = pynvml.NVML_ERROR_OPERATING_SYSTEM
