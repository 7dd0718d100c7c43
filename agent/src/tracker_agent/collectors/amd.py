"""amd: AMD GPUs through amdsmi, the library of ROCm, asked in a child process (amd_child.py) with a deadline.

Values have the names of NVIDIA's where they mean the same. Indexes go on behind the NVIDIA GPUs of the
machine, as its PCI bus counts them, so that on a machine with one vendor's GPUs they begin at 0.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from .asked_child import AskedChild
from .collector import Collector, Context, Metric, NothingHere, Reading
from .kernel import Kernel

DEADLINE_S = 5.0
FIRST_DEADLINE_S = 60.0

_COMMAND = (sys.executable, "-P", "-m", "tracker_agent.collectors.amd_child")
_FACTS = ("uuid", "name", "memory_bytes", "pci_bus_id", "vbios")
_NVIDIA = "0x10de"
#: Display controllers in /sys/bus/pci/devices/*/class: VGA, XGA, 3D, others.
_DISPLAY = "0x03"

_METRICS_INFO = "amdsmi_get_gpu_metrics_info"
#: (name below the GPU, unit, source, meaning)
_METRICS = (
    ("utilization.percent", "%", f"{_METRICS_INFO} average_gfx_activity", "time the graphics engine worked"),
    ("memory_controller.percent", "%", f"{_METRICS_INFO} average_umc_activity", "memory controller busy"),
    ("memory.used.bytes", "bytes", "amdsmi_get_gpu_memory_usage", "VRAM in use"),
    ("memory.free.bytes", "bytes", "amdsmi_get_gpu_memory_usage", "VRAM nobody has taken"),
    ("memory.total.bytes", "bytes", "amdsmi_get_gpu_memory_total", "VRAM of the GPU"),
    ("memory.percent", "%", "amdsmi_get_gpu_memory_usage", "used of total"),
    (
        "temperature.celsius",
        "°C",
        f"{_METRICS_INFO} temperature_edge, else temperature_hotspot",
        "temperature of the chip",
    ),
    (
        "temperature.hotspot.celsius",
        "°C",
        f"{_METRICS_INFO} temperature_hotspot",
        "the hottest place of the chip",
    ),
    ("temperature.memory.celsius", "°C", f"{_METRICS_INFO} temperature_mem", "temperature of the memory"),
    (
        "power.watts",
        "W",
        f"{_METRICS_INFO} current_socket_power, else average_socket_power",
        "power of the board or module",
    ),
    (
        "power.mean.watts",
        "W",
        f"{_METRICS_INFO} energy_accumulator",
        "energy since the sample before, by time: exact, whatever happened in between",
    ),
    ("energy.joules", "J", f"{_METRICS_INFO} energy_accumulator", "energy since the driver was loaded"),
    ("power_limit.watts", "W", "amdsmi_get_power_cap_info", "the limit in force; read every 30 s"),
    ("power.percent", "%", "power.watts, power_limit.watts", "power of the limit in force"),
    ("clock.sm.mhz", "MHz", f"{_METRICS_INFO} current_gfxclk", "clock of the compute units, mean of dies"),
    ("clock.memory.mhz", "MHz", f"{_METRICS_INFO} current_uclk", "clock of the memory"),
    ("fan.percent", "%", "amdsmi_get_gpu_fan_speed", "speed of the fan; read every 30 s"),
    (
        "throttle.power_cap.percent",
        "%",
        f"{_METRICS_INFO} ppt_residency_acc",
        "time slowed by the power limit",
    ),
    (
        "throttle.hardware_thermal.percent",
        "%",
        f"{_METRICS_INFO} socket_thm_, vr_thm_, hbm_thm_residency_acc",
        "time slowed because of heat: of chip, regulators or memory, whichever was longest",
    ),
    (
        "throttle.prochot.percent",
        "%",
        f"{_METRICS_INFO} prochot_residency_acc",
        "time slowed by a signal of the board",
    ),
    ("throttle.active.count", "", f"{_METRICS_INFO} throttle_status", "1: slowed down at this moment"),
    ("pcie.generation.count", "", f"{_METRICS_INFO} pcie_link_speed", "generation in use"),
    ("pcie.width.count", "lanes", f"{_METRICS_INFO} pcie_link_width", "lanes in use"),
    ("pcie.replays.count", "", f"{_METRICS_INFO} pcie_replay_count_acc", "packets sent again"),
    ("pcie.naks_sent.count", "", f"{_METRICS_INFO} pcie_nak_sent_count_acc", "packets this side refused"),
    (
        "pcie.naks_received.count",
        "",
        f"{_METRICS_INFO} pcie_nak_rcvd_count_acc",
        "packets the other side refused",
    ),
    (
        "xgmi.read.bytes_per_s",
        "bytes/s",
        f"{_METRICS_INFO} xgmi_read_data_acc",
        "read from other GPUs over all XGMI links",
    ),
    (
        "xgmi.written.bytes_per_s",
        "bytes/s",
        f"{_METRICS_INFO} xgmi_write_data_acc",
        "written to other GPUs over all XGMI links",
    ),
    (
        "ecc.corrected.volatile.count",
        "",
        "amdsmi_get_gpu_total_ecc_count",
        "errors corrected since the driver was loaded; read every 30 s",
    ),
    (
        "ecc.uncorrected.volatile.count",
        "",
        "amdsmi_get_gpu_total_ecc_count",
        "errors not corrected since the driver was loaded; read every 30 s",
    ),
)


class AmdCollector(Collector):
    """Values of each AMD GPU under host.gpu.<index>."""

    name = "amd"
    metrics = tuple(
        Metric(f"host.gpu.#.{name}", unit, source, meaning) for name, unit, source, meaning in _METRICS
    )
    cost = "one process; some milliseconds per GPU"
    deadline_s = FIRST_DEADLINE_S + 10.0
    own_thread = True

    def __init__(
        self,
        context: Context | None = None,
        command: Sequence[str] = _COMMAND,
        deadline_s: float = DEADLINE_S,
        first_deadline_s: float = FIRST_DEADLINE_S,
    ) -> None:
        super().__init__(context)
        self._child = AskedChild(command, deadline_s, first_deadline_s, self.context.monotonic)
        self._first_index: int | None = None
        self.context.gpu_pause.hold(self._child.let_go)

    def sample(self) -> Reading:
        kernel = self.context.kernel
        addresses = [name for name in kernel.names("sys/bus/pci/drivers/amdgpu") if ":" in name]
        if not addresses:
            raise NothingHere("the driver amdgpu has no GPU here")
        reason = self._stand_aside(addresses)
        if reason:
            self._child.let_go()
            raise NothingHere(reason)
        if self._first_index is None:
            # Once: a GPU that falls off the bus must not give others its index.
            self._first_index = _count_nvidia(kernel)
        return _reading(self._child.ask({}), self._first_index)

    def close(self) -> None:
        self.context.gpu_pause.drop(self._child.let_go)
        self._child.close()

    def _stand_aside(self, addresses: Sequence[str]) -> str:
        """Return why the driver is not to be held open now; empty where it may be."""
        pause = self.context.gpu_pause
        if pause.left_s() > 0:
            return f"paused until {pause.until()}"
        if all(_asleep(self.context.kernel, address) for address in addresses):
            return "all GPUs are switched off to save power; nothing here wakes them"
        return ""


def _asleep(kernel: Kernel, address: str) -> bool:
    return kernel.word(f"sys/bus/pci/devices/{address}/power/runtime_status") == "suspended"


def _count_nvidia(kernel: Kernel) -> int:
    devices = [f"sys/bus/pci/devices/{name}" for name in kernel.names("sys/bus/pci/devices")]
    return sum(
        kernel.word(f"{device}/vendor") == _NVIDIA
        and (kernel.word(f"{device}/class") or "").startswith(_DISPLAY)
        for device in devices
    )


def _reading(answer: dict[str, Any], first_index: int) -> Reading:
    values: dict[str, float] = {}
    problems = []
    inventory = []
    for gpu in answer["gpus"]:
        index = first_index + gpu["index"]
        if gpu.get("problem"):
            problems.append(f"GPU {index}: {gpu['problem']}")
        values.update({f"host.gpu.{index}.{name}": float(value) for name, value in gpu["values"].items()})
        facts = {name: gpu[name] for name in _FACTS if gpu.get(name) is not None}
        inventory.append({"index": index, "vendor": "amd", **facts})
    return Reading(values, tuple(problems), {"gpus": inventory, "amdgpu": answer.get("driver")})
