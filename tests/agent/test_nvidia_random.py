"""Whatever a driver does, in whatever order: no value that cannot be, and none where there is none."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.gpu_scene import GPU_IS_LOST, NOT_SUPPORTED, RESET_REQUIRED, absurdities, gpu_scene, of_gpu

GPUS_MAX = 3
#: Played numbers are never 0 here, so that a 0 is one that somebody made up.
GAUGES = {
    "busy": (1, 100),
    "memory_busy": (1, 100),
    "memory": (1 << 20, 79 << 30),
    "temperature": (20, 95),
    "memory_temperature": (20, 95),
    "milliwatts": (60_000, 700_000),
    "milliwatts_instant": (60_000, 900_000),
    "sm": (210, 1980),
    "limit": (200_000, 700_000),
    "fan": (-1, 100),
}
#: Errors of single calls and fields: not offered, no rights, no data, too old, and one without a name.
ERRORS = st.sampled_from([2, NOT_SUPPORTED, 4, 6, 13, 21, 25, 999])
FUNCTIONS = st.sampled_from(
    [
        "nvmlDeviceGetFieldValues", "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetTemperature", "nvmlDeviceGetClockInfo", "nvmlGpmSampleGet",
        "nvmlGpmMetricsGet", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetEnforcedPowerLimit",
        "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetMigMode", "nvmlDeviceGetUUID",
        "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetCurrPcieLinkWidth", "nvmlEventSetWait_v2",
    ]
)  # fmt: skip
FIELDS = st.sampled_from([82, 83, 185, 186, 197, 198, 138, 139, 74, 269, 3, 6, 91, 94, 144, 161, 165, 230])
WHOLE_DRIVER = st.sampled_from([1, 9, 17, 18, 999])
COUNTERS = ("energy", "pcie_tx", "pcie_rx", "nvlink_tx", "sw_power")
NOT_AVAILABLE = st.sampled_from([0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFFFF0])
#: The values that gauges above become. Where they are 0, somebody took nothing for something.
NEVER_ZERO = {
    "utilization.percent", "memory_controller.percent", "memory.used.bytes", "memory.total.bytes",
    "temperature.celsius", "temperature.memory.celsius", "power.watts", "power.instant.watts",
    "power_limit.watts", "clock.sm.mhz", "clock.memory.mhz", "sm.active.percent", "dram.active.percent",
    "pcie.width.count", "pcie.generation.count",
}  # fmt: skip


def gpu_names() -> st.SearchStrategy[str]:
    return st.integers(0, GPUS_MAX - 1).map(lambda index: f"gpu{index}")


@st.composite
def steps(draw: st.DrawFn) -> dict[str, float]:
    """Return what one moment's driver does, but for its counters."""
    played: dict[str, float] = {"gpus": draw(st.integers(1, GPUS_MAX))}
    for name, (low, high) in GAUGES.items():
        played[f"{name}.{draw(gpu_names())}"] = draw(st.integers(low, high))
    for name in draw(st.lists(st.sampled_from(["temperature", "milliwatts", "sm", "busy"]), max_size=2)):
        played[f"{name}.{draw(gpu_names())}"] = draw(NOT_AVAILABLE)
    for field in draw(st.lists(FIELDS, max_size=4)):
        played[f"field.{field}.{draw(gpu_names())}"] = draw(ERRORS)
    for function in draw(st.lists(FUNCTIONS, max_size=3)):
        played[f"fail.{function}.{draw(gpu_names())}"] = draw(ERRORS)
    for metric in draw(st.lists(st.integers(1, 13), max_size=3)):
        played[f"gpmfail.{metric}"] = draw(ERRORS)
    for metric in draw(st.lists(st.integers(1, 13), max_size=2)):
        played[f"gpm.{metric}"] = draw(st.sampled_from([float("nan"), -1.0, float("inf"), 250.0]))
    if draw(st.booleans()):
        played[f"fail.{draw(gpu_names())}"] = draw(st.sampled_from([GPU_IS_LOST, RESET_REQUIRED]))
    if draw(st.integers(0, 5)) == 0:
        played["fail.nvmlDeviceGetCount_v2"] = draw(WHOLE_DRIVER)
    played["mig.gpu0"] = draw(st.integers(0, 2))
    played["nvlinks"] = draw(st.sampled_from([0, 18]))
    return played


# Each example starts a process: shrinking one would take minutes.
@settings(
    max_examples=15,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(
    moments=st.lists(steps(), min_size=3, max_size=8),
    # A counter that goes forward by itself never jumps forward; it wraps, or starts again.
    bits=st.fixed_dictionaries({name: st.sampled_from([30, 32, 48, 64]) for name in COUNTERS}),
    resets=st.lists(st.tuples(st.sampled_from(COUNTERS), st.floats(0, 1e12)), max_size=8),
)
def test_no_value_is_negative_absurd_or_made_up(
    moments: list[dict[str, float]], bits: dict[str, int], resets: list[tuple[str, float]]
) -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        gpu_scene(Path(directory), deadline_s=10.0, slow_s=0.0) as scene,
    ):
        offsets = dict.fromkeys(COUNTERS, 1e13)
        always: dict[str, Any] = {f"bits.{name}": size for name, size in bits.items()}
        for number, moment in enumerate(moments):
            # What a narrow counter shows after a change of its offset may be more than before.
            if number < len(resets) and bits[resets[number][0]] == 64:
                offsets[resets[number][0]] -= resets[number][1]
            always |= {f"offset.{name}": offset for name, offset in offsets.items()}
            scene.play(**moment, **always)
            for _ in range(2):
                reading = scene.try_sample()
                time.sleep(0.02)
                if reading is None:
                    continue

                assert absurdities(reading.values.items()) == []
                for index in range(GPUS_MAX):
                    zeros = {
                        name for name, value in of_gpu(reading.values.items(), index).items() if not value
                    }
                    assert zeros & NEVER_ZERO == set()
                assert of_gpu(reading.values.items(), GPUS_MAX) == {}
        # However it was treated, it comes back.
        scene.play(gpus=GPUS_MAX, **always)
        back = scene.recovered(lambda reading: bool(of_gpu(reading.values.items(), GPUS_MAX - 1)))
        assert absurdities(back.values.items()) == []
