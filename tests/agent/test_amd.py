"""The amd collector: the real child process asks a stand-in for ROCm's Python package."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tracker_agent.collectors.amd import AmdCollector
from tracker_agent.collectors.amd_child import REOPEN_INTERVAL_S
from tracker_agent.collectors.asked_child import ABSENT_RECHECK_S, RESTART_FIRST_S, RETURN_RECHECK_S
from tracker_agent.collectors.collector import CollectorError, Context, NothingHere, Reading
from tracker_agent.collectors.gpu_pause import GpuPause
from tracker_agent.collectors.kernel import Kernel

TESTS = Path(__file__).resolve().parent.parent
FIXTURES = TESTS / "fixtures" / "amd"
FAKE = TESTS / "support" / "fake_amdsmi"


class Rig:
    """A machine with AMD GPUs, the collector, and the clock of both it and its child."""

    def __init__(self, root: Path, *gpus: str, deadline_s: float = 5.0) -> None:
        self.root, self.now = root, 100.0
        self.scene_file, self.log = root / "scene.json", root / "calls"
        self.log.touch()
        self.pause = GpuPause()
        self.play({"gpus": [json.loads((FIXTURES / f"{gpu}.json").read_text())["gpus"][0] for gpu in gpus]})
        for number in range(max(1, len(gpus))):
            self.device(f"0000:0{number}:00.0", "0x1002", "0x038000", driver="amdgpu")
        (root / "clock").write_text("100.0")
        self.collector = AmdCollector(
            Context(kernel=Kernel(str(root)), monotonic=lambda: self.now, gpu_pause=self.pause),
            command=self._command(),
            deadline_s=deadline_s,
            first_deadline_s=20.0,
        )

    def _command(self) -> tuple[str, ...]:
        code = (
            f"import os, sys, time; sys.path.insert(0, {str(FAKE)!r});"
            f"os.environ['FAKE_AMDSMI'] = {str(self.scene_file)!r};"
            f"os.environ['FAKE_AMDSMI_LOG'] = {str(self.log)!r};"
            f"time.monotonic = lambda: float(open({str(self.root / 'clock')!r}).read());"
            "from tracker_agent.collectors.amd_child import main; sys.exit(main())"
        )
        return (sys.executable, "-c", code)

    def play(self, scene: dict[str, Any]) -> None:
        """Let the library answer this from now on."""
        self.scene = scene
        temporary = self.scene_file.with_suffix(".new")
        temporary.write_text(json.dumps(scene))
        temporary.rename(self.scene_file)

    def change(self, gpu: int, function: str, answer: Any) -> None:
        """Let one function answer something else; keys of a dictionary are replaced one by one."""
        old = self.scene["gpus"][gpu].get(function)
        merged = old | answer if isinstance(old, dict) and isinstance(answer, dict) else answer
        self.scene["gpus"][gpu][function] = answer if set(answer) & {"hang", "error"} else merged
        self.play(self.scene)

    def device(self, address: str, vendor: str, kind: str, driver: str = "") -> None:
        """Plug in a PCI device."""
        place = self.root / "sys/bus/pci/devices" / address
        place.mkdir(parents=True, exist_ok=True)
        (place / "vendor").write_text(vendor + "\n")
        (place / "class").write_text(kind + "\n")
        if driver:
            (self.root / "sys/bus/pci/drivers" / driver / address).mkdir(parents=True)

    def sleep_state(self, state: str) -> None:
        """Set what the kernel says of the power of every GPU."""
        for place in (self.root / "sys/bus/pci/devices").iterdir():
            (place / "power").mkdir(exist_ok=True)
            (place / "power/runtime_status").write_text(state + "\n")

    def sample(self, after_s: float = 0.0) -> Reading:
        self.now += after_s
        (self.root / "clock").write_text(str(self.now))
        return self.collector.sample()

    def pids(self) -> list[int]:
        """Return the processes that opened the library, in order."""
        return [int(line.split()[0]) for line in self.log.read_text().splitlines() if "init" in line]


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[Any]:
    made: list[Rig] = []

    def make(*gpus: str, **more: Any) -> Rig:
        root = tmp_path / str(len(made))
        root.mkdir()
        made.append(Rig(root, *gpus, **more))
        return made[-1]

    yield make
    for rig in made:
        rig.collector.close()


def of(reading: Reading, index: int) -> dict[str, float]:
    prefix = f"host.gpu.{index}."
    return {
        name.removeprefix(prefix): value for name, value in reading.values.items() if name.startswith(prefix)
    }


def test_mi300x_has_the_names_of_nvidia_gpus(rigs: Any) -> None:
    rig = rigs("mi300x")

    reading = rig.sample()

    assert of(reading, 0) == {
        "utilization.percent": 88,
        "memory_controller.percent": 41,
        "memory.used.bytes": 103070826496,
        "memory.free.bytes": 103070826496,
        "memory.total.bytes": 206141652992,
        "memory.percent": 50.0,
        "temperature.celsius": 67,
        "temperature.hotspot.celsius": 67,
        "temperature.memory.celsius": 58,
        "power.watts": 600,
        "power_limit.watts": 750,
        "power.percent": 80,
        "energy.joules": pytest.approx(15.259, rel=1e-4),
        "clock.sm.mhz": 2050,
        "clock.memory.mhz": 1300,
        "pcie.generation.count": 5,
        "pcie.width.count": 16,
        "pcie.replays.count": 2,
        "pcie.naks_sent.count": 1,
        "pcie.naks_received.count": 0,
        "ecc.corrected.volatile.count": 3,
        "ecc.uncorrected.volatile.count": 0,
    }
    assert reading.problems == ()
    assert reading.inventory == {
        "gpus": [
            {
                "index": 0,
                "vendor": "amd",
                "uuid": "fcff74a1-0000-1000-80e9-3f5a1d2c7b68",
                "name": "AMD Instinct MI300X",
                "memory_bytes": 206141652992,
                "pci_bus_id": "0000:05:00.0",
                "vbios": "022.040.003.041.000001",
            }
        ],
        "amdgpu": "6.8.5",
    }


def test_no_serial_number_leaves_the_machine(rigs: Any) -> None:
    reading = rigs("mi300x", "mi210").sample()

    assert "0123456789ABCDEF" not in repr(reading)


def test_counters_become_shares_of_time_and_rates(rigs: Any) -> None:
    rig = rigs("mi300x")
    rig.sample()
    rig.change(
        0,
        "amdsmi_get_gpu_metrics_info",
        {
            "energy_accumulator": 1000000 + 10_000_000,
            "accumulation_counter": 1000000 + 2000,
            "ppt_residency_acc": 5000 + 500,
            "socket_thm_residency_acc": 100 + 20,
            "hbm_thm_residency_acc": 200,
            "xgmi_read_data_acc": [0, 3000, 1000, 1000, 1000, 1000, 1000, 1000],
        },
    )

    values = of(rig.sample(after_s=2), 0)

    assert values["power.mean.watts"] == pytest.approx(10_000_000 * 15.259e-6 / 2, rel=1e-4)
    assert values["throttle.power_cap.percent"] == 25.0
    assert values["throttle.hardware_thermal.percent"] == 10.0
    assert values["throttle.prochot.percent"] == 0.0
    assert values["xgmi.read.bytes_per_s"] == 1024 * 1000
    assert values["xgmi.written.bytes_per_s"] == 0


def test_counters_that_went_back_tell_nothing(rigs: Any) -> None:
    rig = rigs("mi300x")
    rig.sample()
    rig.change(0, "amdsmi_get_gpu_metrics_info", {"energy_accumulator": 5, "accumulation_counter": 7})

    values = of(rig.sample(after_s=2), 0)

    assert "power.mean.watts" not in values
    assert not [name for name in values if name.startswith("throttle.") and name.endswith("percent")]
    assert values["energy.joules"] == pytest.approx(5 * 15.259e-6, rel=1e-4)


def test_what_a_card_does_not_offer_is_left_out(rigs: Any) -> None:
    reading = rigs("radeon").sample()

    assert of(reading, 0) == {
        "utilization.percent": 7,
        "memory_controller.percent": 3,
        "memory.used.bytes": 1287651328,
        "memory.free.bytes": 25753026560 - 1287651328,
        "memory.total.bytes": 25753026560,
        "memory.percent": 5.0,
        "temperature.celsius": 45,
        "temperature.hotspot.celsius": 52,
        "temperature.memory.celsius": 60,
        "power.watts": 71,
        "power_limit.watts": 355,
        "power.percent": 20,
        "clock.sm.mhz": 500,
        "clock.memory.mhz": 96,
        "fan.percent": 20,
        "pcie.width.count": 8,
        "throttle.active.count": 1,
    }
    assert reading.problems == ()


def test_every_value_stands_in_the_table(rigs: Any) -> None:
    rig = rigs("mi300x", "mi210", "radeon")
    rig.sample()
    rig.change(0, "amdsmi_get_gpu_metrics_info", {"accumulation_counter": 1000000 + 2000})
    names = {metric.name for metric in AmdCollector.metrics}

    found = {
        ".".join("#" if word.isdigit() else word for word in name.split("."))
        for name in rig.sample(after_s=2).values
    }

    assert found == names


def test_indexes_go_on_behind_those_of_nvidia(rigs: Any) -> None:
    rig = rigs("mi210")
    rig.device("0000:81:00.0", "0x10de", "0x030200")
    rig.device("0000:82:00.0", "0x10de", "0x030000")
    rig.device("0000:82:00.1", "0x10de", "0x040300")  # its sound

    first = rig.sample()
    (rig.root / "sys/bus/pci/devices/0000:81:00.0/vendor").unlink()
    after = rig.sample(after_s=2)

    assert {name.split(".")[2] for name in first.values} == {"2"}
    assert {name.split(".")[2] for name in after.values} == {"2"}
    assert first.inventory["gpus"][0]["index"] == 2


def test_gpu_that_fails_is_said_and_the_others_go_on_until_the_library_is_opened_anew(rigs: Any) -> None:
    rig = rigs("mi300x", "mi210")
    rig.sample()
    whole = dict(rig.scene["gpus"][0])
    rig.scene["gpus"][0] = {name: {"error": 12} for name in whole}
    rig.play(rig.scene)

    ill = rig.sample(after_s=2)
    rig.sample(after_s=40)
    rig.scene["gpus"][0] = whole
    rig.play(rig.scene)
    well = rig.sample(after_s=2)

    assert ill.problems == ("GPU 0: amdsmi_get_gpu_metrics_info: AMDSMI_STATUS_12",)
    assert of(ill, 1)["utilization.percent"] == 0
    assert len(rig.pids()) == 2  # opened anew once, by the same process
    assert len(set(rig.pids())) == 1
    assert well.problems == ()
    assert of(well, 0)["utilization.percent"] == 88


def test_driver_that_hangs_costs_its_process_and_is_tried_again_later(rigs: Any) -> None:
    rig = rigs("mi210", deadline_s=0.3)
    rig.sample()
    rig.change(0, "amdsmi_get_gpu_metrics_info", {"hang": 60})

    with pytest.raises(CollectorError, match=r"did not answer within 0.3 s"):
        rig.sample(after_s=2)
    rig.play({"gpus": [json.loads((FIXTURES / "mi210.json").read_text())["gpus"][0]]})
    with pytest.raises(CollectorError, match="did not answer"):
        rig.sample()
    reading = rig.sample(after_s=RESTART_FIRST_S)

    assert of(reading, 0)["temperature.celsius"] == 38
    assert len(set(rig.pids())) == 2
    assert not os.path.exists(f"/proc/{rig.pids()[0]}")  # and no zombie


@pytest.mark.parametrize(
    ("scene", "reason"),
    [
        ({"gpus": [], "import_error": True}, "amdsmi cannot be used: KeyError: .*libamd_smi.so"),
        ({"gpus": [], "amdsmi_init": {"error": 34}}, "amdsmi_init: AMDSMI_STATUS_34"),
        ({"gpus": []}, "amdsmi lists no GPU"),
    ],
)
def test_library_that_finds_nothing_is_asked_again_much_later(
    rigs: Any, scene: dict[str, Any], reason: str
) -> None:
    rig = rigs("mi210")
    good = rig.scene
    rig.play(scene)

    with pytest.raises(NothingHere, match=reason):
        rig.sample()
    rig.play(good)
    with pytest.raises(NothingHere, match=reason):
        rig.sample(after_s=ABSENT_RECHECK_S / 2)
    found = rig.sample(after_s=ABSENT_RECHECK_S)

    assert of(found, 0)["power.watts"] == 41


def test_driver_that_is_replaced_is_found_within_a_minute(rigs: Any) -> None:
    rig = rigs("mi210")
    rig.sample()
    good = rig.scene
    # What a change of the driver looks like: an error of all calls, then nothing when it is opened again.
    rig.play({"gpus": [{name: {"error": 34} for name in good["gpus"][0]}], "amdsmi_init": {"error": 34}})

    assert rig.sample(after_s=2).problems
    with pytest.raises(NothingHere, match="amdsmi_init"):
        rig.sample(after_s=REOPEN_INTERVAL_S)
    rig.play(good)
    reading = rig.sample(after_s=RETURN_RECHECK_S)

    assert of(reading, 0)["power.watts"] == 41


def test_without_the_python_package_there_is_nothing_here(rigs: Any) -> None:
    rig = rigs("mi210")
    command = (sys.executable, "-P", "-m", "tracker_agent.collectors.amd_child")
    collector = AmdCollector(rig.collector.context, command=command)

    with pytest.raises(NothingHere, match="amdsmi"):
        collector.sample()
    collector.close()


def test_machine_without_the_driver_starts_no_process(tmp_path: Path) -> None:
    collector = AmdCollector(Context(kernel=Kernel(str(tmp_path))), command=("/does/not/exist",))

    with pytest.raises(NothingHere, match="has no GPU here"):
        collector.sample()


def test_gpus_that_sleep_are_not_woken_and_the_driver_is_let_go(rigs: Any) -> None:
    rig = rigs("mi210")
    rig.sample()
    rig.sleep_state("suspended")

    with pytest.raises(NothingHere, match="switched off to save power"):
        rig.sample(after_s=2)
    gone = not os.path.exists(f"/proc/{rig.pids()[0]}")
    rig.sleep_state("active")

    assert gone
    assert of(rig.sample(after_s=2), 0)["power.watts"] == 41


def test_pause_lets_go_of_the_driver_and_ends(rigs: Any) -> None:
    rig = rigs("mi210")
    rig.sample()

    problems = rig.pause.begin(60.0)
    gone = not os.path.exists(f"/proc/{rig.pids()[0]}")
    with pytest.raises(NothingHere, match="paused until"):
        rig.sample(after_s=2)
    rig.pause.end()

    assert problems == []
    assert gone
    assert of(rig.sample(after_s=2), 0)["power.watts"] == 41
