"""Values of GPUs: what each one is, where it comes from, and that what is not to be had is left out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.gpu_scene import NOT_SUPPORTED, GpuScene, absurdities, gpu_scene, of_gpu
from tracker_agent.collectors.nvidia import NvidiaCollector

MakeScene = Callable[..., GpuScene]
GIB = 1 << 30
#: The stand-in's clock and the child's are read at different moments.
CLOSE = 0.05
#: GPM compares samples at least 100 ms apart.
GPM_S = 0.15


@pytest.fixture
def make_scene(tmp_path: Path) -> Iterator[MakeScene]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(gpu_scene(tmp_path / "nvml", **options))


def twice(scene: GpuScene, index: int = 0) -> dict[str, float]:
    """Return the values of a GPU's second sample: rates need two."""
    scene.sample()
    time.sleep(GPM_S)
    return of_gpu(scene.sample().values.items(), index)


def plain(name: str) -> str:
    return ".".join("#" if part.isdigit() else part for part in name.split("."))


def test_eight_gpus_bring_their_values_under_their_index(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.play(gpus=8, busy__gpu7=97, memory__gpu7=40 * GIB, temperature__gpu7=71, milliwatts__gpu7=650_500)
    scene.sample()
    time.sleep(GPM_S)

    reading = scene.sample()

    assert reading.problems == ()
    names = [set(of_gpu(reading.values.items(), index)) for index in range(8)]
    assert all(each == names[0] for each in names)
    assert len(names[0]) > 50
    assert absurdities(reading.values.items()) == []
    seventh = of_gpu(reading.values.items(), 7)
    assert seventh["utilization.percent"] == 97
    assert seventh["memory.used.bytes"] == 40 * GIB
    assert seventh["memory.percent"] == 50
    assert seventh["memory.reserved.bytes"] == 512 << 20
    assert seventh["temperature.celsius"] == 71
    assert seventh["power.watts"] == 650.5
    assert seventh["power_limit.watts"] == 700
    assert seventh["power.percent"] == pytest.approx(100 * 650.5 / 700)
    assert seventh["clock.sm.mhz"] == 1980
    assert seventh["clock.memory.mhz"] == 2619
    assert seventh["temperature.memory.celsius"] == 52
    assert seventh["pcie.width.count"] == 16
    assert seventh["nvlink.links_up.count"] == 18
    assert seventh["recovery_action.code"] == 0


def test_every_value_is_in_the_table_and_the_table_has_no_others(make_scene: MakeScene) -> None:
    scene = make_scene()
    # MIG on one, links of the fifth generation and a fan on another: all there can be, but for these.
    scene.play(gpus=3, mig__gpu1=1, nvlink5__gpu2=1, fan__gpu2=40, value__29=0, value__30=0, value__31=0)
    elsewhere = {
        "c2c.sent.bytes_per_s",  # Grace
        "c2c.received.bytes_per_s",
        "pages_retired.corrected.count",  # Volta
        "pages_retired.uncorrected.count",
        "pages_retired.pending.count",
        "encoder.percent",  # on request
        "decoder.percent",
    }
    scene.sample()
    time.sleep(GPM_S)
    seen = set(scene.sample().values)
    time.sleep(GPM_S)

    seen |= set(scene.sample().values)

    declared = {metric.name for metric in NvidiaCollector.metrics}
    assert {plain(name) for name in seen} <= declared
    assert declared - {plain(name) for name in seen} == {f"host.gpu.#.{name}" for name in elsewhere}


def test_counters_become_rates_of_the_time_between_two_samples(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.play(
        rate__energy=400_000, rate__pcie_tx=2e9, rate__pcie_rx=3e9, rate__nvlink_tx=1e6, rate__nvlink_rx=2e6,
        rate__sw_power=250e6, rate__hw_thermal=1e9, gpm=0,
    )  # fmt: skip
    scene.sample()
    time.sleep(0.3)
    scene.sample()
    time.sleep(0.5)

    values = of_gpu(scene.sample().values.items(), 0)

    assert values["power.mean.watts"] == pytest.approx(400, rel=CLOSE)
    assert values["pcie.sent.bytes_per_s"] == pytest.approx(2e9, rel=CLOSE)
    assert values["pcie.received.bytes_per_s"] == pytest.approx(3e9, rel=CLOSE)
    # Links count KiB. Counters that were read at the same moment are as far off as each other.
    assert values["nvlink.sent.bytes_per_s"] == pytest.approx(1e6 * 1024, rel=CLOSE)
    ratio = values["nvlink.received.bytes_per_s"] / values["pcie.sent.bytes_per_s"]
    assert ratio == pytest.approx(2e6 * 1024 / 2e9, rel=0.002)
    assert values["throttle.power_cap.percent"] == pytest.approx(25, rel=CLOSE)
    assert values["throttle.hardware_thermal.percent"] == pytest.approx(100, rel=CLOSE)
    assert values["throttle.hardware_thermal.percent"] <= 100
    assert values["throttle.software_thermal.percent"] == 0


def test_first_sample_has_no_rates(make_scene: MakeScene) -> None:
    scene = make_scene()

    values = of_gpu(scene.sample().values.items(), 0)

    assert "power.watts" in values
    assert "power.mean.watts" not in values
    assert not [name for name in values if name.endswith("bytes_per_s")]
    assert "throttle.power_cap.percent" not in values


@pytest.mark.parametrize("changed", [{"offset__energy": -1e15}, {"bits__energy": 20}])
def test_counter_that_went_back_gives_no_value_for_that_interval(
    make_scene: MakeScene, changed: dict[str, float]
) -> None:
    scene = make_scene()
    scene.play(offset__energy=1e15)
    twice(scene)
    scene.play(**{"offset__energy": 1e15, **changed})
    if "bits__energy" in changed:
        scene.play(offset__energy=1e15, rate__energy=0, **changed)

    after = of_gpu(scene.sample().values.items(), 0)

    assert "power.mean.watts" not in after
    scene.play(offset__energy=0)
    scene.sample()
    time.sleep(GPM_S)
    assert of_gpu(scene.sample().values.items(), 0)["power.mean.watts"] == pytest.approx(123.456, rel=0.2)


def test_byte_counter_of_32_bits_that_wraps_gives_no_huge_rate(make_scene: MakeScene) -> None:
    scene = make_scene()
    seen: list[float] = []
    # It wraps about each 0.43 s.
    scene.play(bits__pcie_tx=32, rate__pcie_tx=1e10, gpm=0)

    for _ in range(20):
        values = of_gpu(scene.sample().values.items(), 0)
        seen += [values["pcie.sent.bytes_per_s"]] if "pcie.sent.bytes_per_s" in values else []
        time.sleep(0.05)

    assert seen
    assert all(0 <= each < 1.2e10 for each in seen)


def test_pcie_and_links_take_gpm_where_the_gpu_has_no_counters(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.play(field__197=NOT_SUPPORTED, field__198=NOT_SUPPORTED, gpm__20=1000, nvlinks=0)

    values = twice(scene)

    assert values["pcie.sent.bytes_per_s"] == 1000 * 1024 * 1024
    assert values["nvlink.sent.bytes_per_s"] == 90000 * 1024 * 1024


def test_gpm_tells_what_the_parts_of_the_gpu_do(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.play(gpus=2, gpm__2__gpu1=12.5, gpm__5__gpu1=3.25)

    values = twice(scene, 1)

    assert values["sm.active.percent"] == 12.5
    assert values["tensor.active.percent"] == 3.25
    assert values["sm.occupancy.percent"] == 42.25
    assert values["dram.active.percent"] == 55


def test_gpu_older_than_gpm_has_everything_else(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.play(gpm=0)

    values = twice(scene)

    assert "sm.active.percent" not in values
    assert values["utilization.percent"] == 50
    assert "pcie.sent.bytes_per_s" in values


def test_metric_of_gpm_that_fails_is_left_out_alone(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.play(gpmfail__5=NOT_SUPPORTED)

    values = twice(scene)

    assert "tensor.active.percent" not in values
    assert values["tensor.hmma.percent"] == 60


def test_buffers_of_gpm_are_not_leaked_by_reopening(make_scene: MakeScene) -> None:
    scene = make_scene()

    # The stand-in ends the child at 100 buffers.
    for turn in range(150):
        scene.play(gpus=3 + turn % 2)
        scene.sample()

    assert len(set(scene.library.openings())) == 1
    assert len(scene.library.openings()) > 50


FIELDS = {
    82: "temperature.memory.celsius",
    186: "power.instant.watts",
    3: "ecc.corrected.volatile.count",
    6: "ecc.uncorrected.aggregate.count",
    94: "pcie.replays.count",
    144: "rows_remapped.pending.count",
    145: "rows_remapped.failed.count",
    230: "recovery_action.code",
}


@pytest.mark.parametrize(("field", "name"), FIELDS.items())
def test_field_with_an_error_of_its_own_is_left_out_alone(
    make_scene: MakeScene, field: int, name: str
) -> None:
    scene = make_scene()
    scene.play(gpus=2, **{f"field__{field}__gpu1": NOT_SUPPORTED})

    reading = scene.sample()

    assert reading.problems == ()
    first, second = of_gpu(reading.values.items(), 0), of_gpu(reading.values.items(), 1)
    assert name in first
    assert set(first) - set(second) == {name}


@pytest.mark.parametrize(("field", "name"), FIELDS.items())
@pytest.mark.parametrize("kind", [0, 1, 3, 4])
def test_field_is_read_in_whatever_type_it_comes(
    make_scene: MakeScene, field: int, name: str, kind: int
) -> None:
    scene = make_scene()
    played = 55_000 if name.endswith("watts") else 5

    scene.play(**{f"type__{field}": kind, f"value__{field}": played})

    assert of_gpu(scene.sample().values.items(), 0)[name] == (55 if name.endswith("watts") else 5)


@pytest.mark.parametrize(("function", "name"), [
    ("nvmlDeviceGetUtilizationRates", "utilization.percent"),
    ("nvmlDeviceGetTemperature", "temperature.celsius"),
    ("nvmlDeviceGetMarginTemperature", "temperature.margin.celsius"),
    ("nvmlDeviceGetEnforcedPowerLimit", "power_limit.watts"),
    ("nvmlDeviceGetClockInfo", "clock.sm.mhz"),
    ("nvmlDeviceGetCurrPcieLinkWidth", "pcie.width.count"),
    ("nvmlDeviceGetCurrentClocksEventReasons", "utilization"),
    ("nvmlGpmSampleGet", "sm.active.percent"),
    ("nvmlGpmQueryDeviceSupport", "sm.active.percent"),
    ("nvmlDeviceGetComputeRunningProcesses_v3", "processes"),
])  # fmt: skip
def test_call_that_the_gpu_does_not_offer_costs_its_own_value(
    make_scene: MakeScene, function: str, name: str
) -> None:
    scene = make_scene()
    scene.play(gpus=2, **{f"fail__{function}__gpu1": NOT_SUPPORTED})
    scene.sample()
    time.sleep(GPM_S)

    reading = scene.sample()

    assert reading.problems == ()
    missing = set(of_gpu(reading.values.items(), 0)) - set(of_gpu(reading.values.items(), 1))
    assert not [each for each in missing if each == "power.watts"]
    assert name not in of_gpu(reading.values.items(), 1)
    # GPM alone is thirteen, and links have no rate of their own yet.
    assert len(missing) <= 15


def test_numbers_that_mean_not_available_are_no_values(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.play(
        temperature=0xFFFFFFFF, milliwatts=0xFFFFFFFF, busy=0xFFFFFFFF, sm=0xFFFFFFFF,
        value__186=0xFFFFFFFF, value__142=0xFFFFFFFF, gpm__2=-1, gpm__5=float("nan"),
    )  # fmt: skip

    values = twice(scene)

    gone = (
        "temperature.celsius",
        "power.watts",
        "utilization.percent",
        "clock.sm.mhz",
        "power.instant.watts",
    )
    more = ("rows_remapped.corrected.count", "sm.active.percent", "tensor.active.percent")
    assert set(values) & {*gone, *more} == set()
    assert absurdities((f"host.gpu.0.{name}", value) for name, value in values.items()) == []


def test_power_comes_from_the_plain_call_where_the_field_is_missing(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.play(fields_max=185, milliwatts=300_000)

    values = twice(scene)

    assert values["power.watts"] == 300
    assert "power.instant.watts" not in values
    assert values["temperature.celsius"] == 40


def test_energy_comes_from_the_plain_call_where_the_field_is_missing(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.play(field__83=NOT_SUPPORTED, rate__energy=200_000)
    scene.sample()
    time.sleep(0.5)

    assert of_gpu(scene.sample().values.items(), 0)["power.mean.watts"] == pytest.approx(200, rel=CLOSE)


def test_reasons_stand_in_where_there_are_no_counters_of_throttling(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.play(
        reasons=0x4 | 0x40, **{f"field__{number}": NOT_SUPPORTED for number in (74, 76, 269, 270, 271)}
    )

    values = twice(scene)

    assert values["throttle.power_cap.percent"] == 100
    assert values["throttle.hardware_thermal.percent"] == 100
    assert values["throttle.sync_boost.percent"] == 0
    assert values["throttle.reasons.count"] == 2


def test_links_of_the_fifth_generation_count_bytes(make_scene: MakeScene) -> None:
    scene = make_scene(slow_s=0.0)
    scene.play(nvlink5=1, rate__nvlink5_tx=7e10, gpm=0)
    for _ in range(3):
        scene.sample()
    time.sleep(0.5)

    assert of_gpu(scene.sample().values.items(), 0)["nvlink.sent.bytes_per_s"] == pytest.approx(
        7e10, rel=CLOSE
    )


def test_errors_of_links_are_added_up_and_no_zeros_of_old_totals(make_scene: MakeScene) -> None:
    scene = make_scene(slow_s=0.0)
    scene.play(offset__nvlink_crc=36)
    for _ in range(3):
        reading = scene.sample()

    # 36 over all 18 links are 2 on each; the field of the total would say 0.
    assert of_gpu(reading.values.items(), 0)["nvlink.crc_errors.count"] == 36


def test_link_that_is_down_is_counted(make_scene: MakeScene) -> None:
    scene = make_scene(slow_s=0.0)
    scene.play(nvlink_down=11)
    for _ in range(3):
        values = of_gpu(scene.sample().values.items(), 0)

    assert (values["nvlink.links_up.count"], values["nvlink.links_down.count"]) == (17, 1)


def test_gpu_without_links_has_no_values_of_links(make_scene: MakeScene) -> None:
    scene = make_scene(slow_s=0.0)
    scene.play(nvlinks=0, gpmfail__60=NOT_SUPPORTED, gpmfail__61=NOT_SUPPORTED)

    values = twice(scene)

    assert not [name for name in values if name.startswith("nvlink.")]


def test_sample_makes_few_calls_and_none_that_blocks(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.play(gpus=8)
    scene.sample()
    time.sleep(GPM_S)
    scene.sample()
    scene.play(gpus=8, record=1)
    time.sleep(GPM_S)

    scene.sample()

    calls = scene.library.calls()
    assert "nvmlDeviceGetPcieThroughput" not in calls
    assert calls.count("nvmlDeviceGetFieldValues") == 8
    assert len(calls) <= 8 * 16 + 4
