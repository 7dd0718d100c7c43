"""make gpu-check: its comparison, on the stand-ins for NVIDIA's library and for nvidia-smi."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench import gpu_check
from bench.gpu_values import Comparison, Shared, Verdict
from bench.nvidia_smi import NoGpu, NvidiaSmi, parse_dmon, parse_number, parse_table
from tests.support.fake_nvidia_smi import FakeNvidiaSmi
from tests.support.fake_nvml import FakeNvml

#: What nvidia-smi would say of the stand-in's GPU.
AGREEING = {
    "name": "Played GPU",
    "driver_version": "999.10.2",
    "utilization.gpu": "50",
    "utilization.memory": "20",
    "memory.used": "1024",
    "memory.total": "81920",
    "memory.reserved": "512",
    "temperature.gpu": "40",
    "temperature.memory": "52",
    "power.draw.average": "123.46",
    "enforced.power.limit": "700.00",
    "clocks.current.sm": "1980",
    "clocks.current.memory": "2619",
    "fan.speed": "[N/A]",
    "pcie.link.gen.gpucurrent": "5",
    "pcie.link.width.current": "16",
    "ecc.errors.corrected.volatile.total": "0",
}


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    built = FakeNvml(tmp_path / "nvml")
    for name, value in built.environment.items():
        monkeypatch.setenv(name, value)
    built.play(gpus=2)
    return built


@pytest.fixture
def smi(tmp_path: Path) -> FakeNvidiaSmi:
    return FakeNvidiaSmi(tmp_path / "smi")


def two_gpus(**changed: str) -> dict[str, dict[str, str]]:
    second = {**AGREEING, **{name.replace("__", "."): text for name, text in changed.items()}}
    return {"GPU-played-0": AGREEING, "GPU-played-1": second}


def check(smi: FakeNvidiaSmi, results: Path, *more: str) -> tuple[int, dict[str, Any]]:
    status = gpu_check.main(
        ["--seconds", "0.5", "--interval", "0.15", "--no-load", "--nvidia-smi", str(smi.path)]
        + ["--results", str(results), *more]
    )
    file = results / "gpu_check.json"
    return status, json.loads(file.read_text())["figures"] if file.exists() else {}


@pytest.mark.usefixtures("library")
def test_gpus_that_agree_pass_and_the_figures_are_kept(smi: FakeNvidiaSmi, tmp_path: Path) -> None:
    smi.play(two_gpus(), unknown=["temperature.gpu.tlimit"], gpm={"2": 88, "5": 61, "7": 60})

    status, figures = check(smi, tmp_path / "results")

    assert figures["disagree"] == []
    assert figures["only_nvidia_smi"] == []
    assert status == 0
    verdict = figures["verdicts"]["host.gpu.1.memory.used.bytes"]
    assert verdict["agrees"]
    assert verdict["worst_distance"] == 0
    assert figures["unknown_to_this_nvidia_smi"] == ["temperature.gpu.tlimit"]
    assert "host.gpu.#.fan.percent" in figures["not_offered_by_this_card"]
    assert "host.gpu.#.power.watts" not in figures["not_offered_by_this_card"]
    assert figures["verdicts"]["host.gpu.0.tensor.active.percent"]["agrees"]
    assert figures["verdicts"]["host.gpu.0.power.mean.watts"]["agrees"]
    assert figures["cost"]["children"] == 1
    assert figures["cost"]["sample_ms_p50"] > 0
    assert figures["cost"]["child_rss_mib"] > 1


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("field", "text", "name"),
    [
        ("utilization__gpu", "80", "utilization.percent"),
        ("memory__used", "1100", "memory.used.bytes"),
        ("temperature__gpu", "43", "temperature.celsius"),
        ("power__draw__average", "200.0", "power.watts"),
        ("pcie__link__width__current", "8", "pcie.width.count"),
    ],
)
def test_value_that_differs_is_named_and_fails(
    smi: FakeNvidiaSmi, tmp_path: Path, field: str, text: str, name: str
) -> None:
    smi.play(two_gpus(**{field: text}))

    status, figures = check(smi, tmp_path / "results")

    assert status == 1
    assert f"host.gpu.1.{name}" in figures["disagree"]
    assert not [each for each in figures["disagree"] if each.startswith("host.gpu.0.")]


def test_value_that_only_nvidia_smi_has_fails(smi: FakeNvidiaSmi, library: FakeNvml, tmp_path: Path) -> None:
    not_supported = 3
    library.play(gpus=2, fail__nvmlDeviceGetTemperature=not_supported)
    smi.play(two_gpus())

    status, figures = check(smi, tmp_path / "results")

    assert status == 1
    assert figures["only_nvidia_smi"] == ["host.gpu.0.temperature.celsius", "host.gpu.1.temperature.celsius"]


def test_machine_without_nvidia_smi_is_told_so_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = gpu_check.main(["--nvidia-smi", str(tmp_path / "none"), "--results", str(tmp_path)])

    assert status == 2
    assert "needs a machine with an NVIDIA GPU" in capsys.readouterr().out
    assert not (tmp_path / "gpu_check.json").exists()


def test_nvidia_smi_without_a_driver_is_told_so_with_status_2(
    smi: FakeNvidiaSmi, capsys: pytest.CaptureFixture[str]
) -> None:
    smi.play({}, fails="NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")

    status = gpu_check.main(["--nvidia-smi", str(smi.path)])

    assert status == 2
    assert "couldn't communicate with the NVIDIA driver" in capsys.readouterr().out


def test_driver_that_only_our_side_lacks_ends_with_status_2(
    smi: FakeNvidiaSmi, library: FakeNvml, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library.play(fail__nvmlInit=9)
    smi.play(two_gpus())

    status, _ = check(smi, tmp_path / "results")

    assert status == 2
    assert "DriverNotLoaded" in capsys.readouterr().out


def test_load_without_a_gpu_says_why_it_is_idle() -> None:
    with gpu_check.load("python3", off=False) as name:
        assert name.startswith("idle: torch: ")


def test_field_an_old_nvidia_smi_lacks_costs_that_field_alone(smi: FakeNvidiaSmi) -> None:
    smi.play(two_gpus(), unknown=["memory.reserved", "fan.speed"])
    asked = NvidiaSmi((str(smi.path),))

    table = asked.query(["memory.reserved", "index", "fan.speed", "memory.used"])

    assert table["GPU-played-1"] == {"index": 1.0, "memory.used": 1024.0}
    assert asked.unknown == ["memory.reserved", "fan.speed"]


def test_other_failures_of_nvidia_smi_are_no_unknown_fields(smi: FakeNvidiaSmi) -> None:
    smi.play({}, fails="Unable to determine the device handle for GPU0: Unknown Error")

    with pytest.raises(NoGpu, match="Unknown Error"):
        NvidiaSmi((str(smi.path),)).query(["index"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" 12.50 ", 12.5),
        ("0x0000000000000004", 4.0),
        ("[N/A]", None),
        ("N/A", None),
        ("[Not Supported]", None),
        ("[GPU requires reset]", None),
        ("[Unknown Error]", None),
        ("-", None),
        ("", None),
        ("Enabled", "Enabled"),
        ("-5", -5.0),
    ],
)
def test_what_nvidia_smi_writes_is_read(text: str, value: float | str | None) -> None:
    assert parse_number(text) == value


def test_line_that_is_no_row_is_left_out() -> None:
    text = "GPU-1, 5, NVIDIA H100 80GB HBM3\nUnable to determine the device handle\nGPU-2, [N/A], x\n"

    assert parse_table(text, ["a", "b"]) == {
        "GPU-1": {"a": 5.0, "b": "NVIDIA H100 80GB HBM3"},
        "GPU-2": {"a": None, "b": "x"},
    }


def test_columns_of_dmon_are_means_by_gpu() -> None:
    text = "# gpu pwr smAct tensor\n# Idx W % %\n 0 300 80 -\n 1 300 10 3\n 0 310 90 -\n 1 310 20 5\n"

    assert parse_dmon(text, [2, 5]) == {0: {2: 85.0}, 1: {2: 15.0, 5: 4.0}}


def row(**values: float | str | None) -> Mapping[str, dict[str, float | str | None]]:
    return {"GPU-1": {"index": 3.0, **{name.replace("__", "."): value for name, value in values.items()}}}


def test_value_between_the_two_answers_agrees() -> None:
    comparison = Comparison()

    comparison.compare(
        {"host.gpu.3.clock.sm.mhz": 1000.0},
        dict(row(clocks__current__sm=345.0)),
        dict(row(clocks__current__sm=1980.0)),
    )

    verdict = comparison.verdicts["host.gpu.3.clock.sm.mhz"]
    assert (verdict.compared, verdict.agreed, verdict.worst) == (1, 1, 0.0)


def test_one_sample_in_ten_may_lie_outside_and_two_may_not() -> None:
    verdict = Verdict()
    for ours in [100.0] * 9 + [200.0]:
        verdict.add(ours, 99.0, 101.0, 5.0)
    assert verdict.good
    assert verdict.worst == 99.0

    verdict.add(200.0, 99.0, 101.0, 5.0)

    assert not verdict.good


def test_nothing_compared_is_not_agreement() -> None:
    assert not Verdict().good


def test_value_that_nvidia_smi_does_not_offer_is_only_ours() -> None:
    comparison = Comparison()

    comparison.compare(
        {"host.gpu.3.fan.percent": 30.0}, dict(row(fan__speed=None)), dict(row(fan__speed=None))
    )

    assert comparison.only_ours == {"host.gpu.3.fan.percent"}
    assert comparison.verdicts == {}


def test_value_that_came_later_is_not_missing() -> None:
    comparison = Comparison()
    answer = dict(row(temperature__gpu=40.0))
    comparison.compare({}, answer, answer)

    comparison.compare({"host.gpu.3.temperature.celsius": 40.0}, answer, answer)

    assert comparison.missing_of_ours == []


def test_every_shared_value_is_in_the_collectors_table() -> None:
    from bench.gpu_values import GPM, SHARED, THROTTLE
    from tracker_agent.collectors.nvidia import NvidiaCollector

    known = {metric.name for metric in NvidiaCollector.metrics}
    shared: list[str] = [each.name for each in SHARED if isinstance(each, Shared)]

    assert {f"host.gpu.#.{name}" for name in (*shared, *THROTTLE, *GPM.values())} <= known
