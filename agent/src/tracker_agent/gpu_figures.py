"""NVIDIA GPUs under the names and labels that dcgm-exporter gives them, from the collector's last sample.

The driver is not asked: a scrape does not wait for a GPU that hangs, and such a GPU has no figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from prometheus_client.core import GaugeMetricFamily, Metric, UnknownMetricFamily

from .collectors.collector import Event

#: How long an Xid shows. DCGM shows the last one for ever, which alarms for ever, too.
XID_SHOWN_S = 300.0
LABELS = ("gpu", "UUID", "pci_bus_id", "device", "modelName", "Hostname")

_MIB = 1 / 2**20
_RATIO = 0.01


class Field(NamedTuple):
    """One field of DCGM: our metric below host.gpu.<index>, and what one of it is there."""

    metric: str
    text: str
    unit: float = 1.0
    #: A running total. DCGM's names lack the _total that a counter's must end in here.
    total: bool = False


#: By the name without DCGM_FI_.
_FIELDS = {
    "DEV_GPU_UTIL": Field("utilization.percent", "Time with a kernel running (%)"),
    "DEV_MEM_COPY_UTIL": Field("memory_controller.percent", "Time the memory was read or written (%)"),
    "DEV_FB_USED": Field("memory.used.bytes", "Memory used (MiB)", _MIB),
    "DEV_FB_FREE": Field("memory.free.bytes", "Memory free (MiB)", _MIB),
    "DEV_FB_RESERVED": Field("memory.reserved.bytes", "Memory the driver keeps (MiB)", _MIB),
    "DEV_FB_TOTAL": Field("memory.total.bytes", "Memory of the GPU (MiB)", _MIB),
    "DEV_GPU_TEMP": Field("temperature.celsius", "Temperature of the chip (°C)"),
    "DEV_MEMORY_TEMP": Field("temperature.memory.celsius", "Temperature of the memory (°C)"),
    "DEV_POWER_USAGE": Field("power.watts", "Power (W)"),
    "DEV_ENFORCED_POWER_LIMIT": Field("power_limit.watts", "Limit of power in force (W)"),
    "DEV_TOTAL_ENERGY_CONSUMPTION": Field(
        "energy.joules", "Energy since the driver was loaded (mJ)", 1000, total=True
    ),
    "DEV_SM_CLOCK": Field("clock.sm.mhz", "Clock of the multiprocessors (MHz)"),
    "DEV_MEM_CLOCK": Field("clock.memory.mhz", "Clock of the memory (MHz)"),
    "DEV_FAN_SPEED": Field("fan.percent", "Speed of the fan (%)"),
    "DEV_ENC_UTIL": Field("encoder.percent", "Video encoder busy (%)"),
    "DEV_DEC_UTIL": Field("decoder.percent", "Video decoder busy (%)"),
    "DEV_PCIE_REPLAY_COUNTER": Field("pcie.replays.count", "Packets sent again over PCIe", total=True),
    "DEV_PCIE_LINK_GEN": Field("pcie.generation.count", "Generation of PCIe in use"),
    "DEV_PCIE_LINK_WIDTH": Field("pcie.width.count", "Lanes of PCIe in use"),
    "DEV_ECC_SBE_VOL_TOTAL": Field(
        "ecc.corrected.volatile.count", "Bits corrected since the driver was loaded", total=True
    ),
    "DEV_ECC_DBE_VOL_TOTAL": Field(
        "ecc.uncorrected.volatile.count", "Words lost since the driver was loaded", total=True
    ),
    "DEV_ECC_SBE_AGG_TOTAL": Field("ecc.corrected.aggregate.count", "Bits corrected in its life", total=True),
    "DEV_ECC_DBE_AGG_TOTAL": Field("ecc.uncorrected.aggregate.count", "Words lost in its life", total=True),
    "DEV_CORRECTABLE_REMAPPED_ROWS": Field(
        "rows_remapped.corrected.count", "Rows replaced after corrected errors", total=True
    ),
    "DEV_UNCORRECTABLE_REMAPPED_ROWS": Field(
        "rows_remapped.uncorrected.count", "Rows replaced after uncorrected errors", total=True
    ),
    "DEV_ROW_REMAP_FAILURE": Field("rows_remapped.failed.count", "1: a row could not be replaced"),
    "DEV_ROW_REMAP_PENDING": Field("rows_remapped.pending.count", "1: a row is replaced at the next reset"),
    "DEV_RETIRED_SBE": Field(
        "pages_retired.corrected.count", "Pages given up after corrected errors", total=True
    ),
    "DEV_RETIRED_DBE": Field(
        "pages_retired.uncorrected.count", "Pages given up after lost words", total=True
    ),
    "PROF_GR_ENGINE_ACTIVE": Field("graphics.active.percent", "Time any engine worked (0 to 1)", _RATIO),
    "PROF_SM_ACTIVE": Field("sm.active.percent", "Time the multiprocessors had a warp (0 to 1)", _RATIO),
    "PROF_SM_OCCUPANCY": Field("sm.occupancy.percent", "Warps of those there could be (0 to 1)", _RATIO),
    "PROF_PIPE_TENSOR_ACTIVE": Field("tensor.active.percent", "Time a tensor pipe worked (0 to 1)", _RATIO),
    "PROF_DRAM_ACTIVE": Field("dram.active.percent", "Memory traffic of what is possible (0 to 1)", _RATIO),
    "PROF_PIPE_FP64_ACTIVE": Field("fp64.active.percent", "Time the FP64 pipe worked (0 to 1)", _RATIO),
    "PROF_PIPE_FP32_ACTIVE": Field("fp32.active.percent", "Time the FP32 pipe worked (0 to 1)", _RATIO),
    "PROF_PIPE_FP16_ACTIVE": Field("fp16.active.percent", "Time the FP16 pipe worked (0 to 1)", _RATIO),
    "PROF_PCIE_TX_BYTES": Field("pcie.sent.bytes_per_s", "Sent over PCIe (bytes/s)"),
    "PROF_PCIE_RX_BYTES": Field("pcie.received.bytes_per_s", "Received over PCIe (bytes/s)"),
    "PROF_NVLINK_TX_BYTES": Field("nvlink.sent.bytes_per_s", "Sent over NVLink (bytes/s)"),
    "PROF_NVLINK_RX_BYTES": Field("nvlink.received.bytes_per_s", "Received over NVLink (bytes/s)"),
}


def gpu_figures(
    values: Mapping[str, float],
    gpus: Iterable[Mapping[str, Any]],
    host: str,
    events: Iterable[Event] = (),
    now_ns: int = 0,
) -> Iterable[Metric]:
    """Yield DCGM's figures of the last sample; gpus: the collector's facts about each."""
    labels = {gpu["index"]: _labels(gpu, host) for gpu in gpus}
    for name, field in _FIELDS.items():
        kind = UnknownMetricFamily if field.total else GaugeMetricFamily
        family = kind(f"DCGM_FI_{name}", field.text, labels=LABELS)
        for index, each in labels.items():
            value = values.get(f"host.gpu.{index}.{field.metric}")
            if value is not None:
                family.add_metric(each, value * field.unit)
        if family.samples:
            yield family
    xids = GaugeMetricFamily(
        "DCGM_FI_DEV_XID_ERRORS",
        f"The last Xid of the last {XID_SHOWN_S:.0f} s, 0 without any",
        labels=LABELS,
    )
    last = _xids(events, now_ns - int(XID_SHOWN_S * 1e9))
    for index, each in labels.items():
        # A GPU without values hangs or is lost; its Xid is what is wanted then.
        if each[1] in last or any(name.startswith(f"host.gpu.{index}.") for name in values):
            xids.add_metric(each, last.get(each[1], 0))
    if xids.samples:
        yield xids


def _labels(gpu: Mapping[str, Any], host: str) -> tuple[str, ...]:
    index = gpu["index"]
    return (
        str(index),
        str(gpu.get("uuid") or ""),
        str(gpu.get("pci_bus_id") or ""),
        f"nvidia{index}",
        str(gpu.get("name") or ""),
        host,
    )


def _xids(events: Iterable[Event], since_ns: int) -> dict[str, int]:
    """Return the last Xid of each GPU by its UUID."""
    return {
        str(event.facts.get("gpu")): event.facts["xid"]
        for event in sorted(events, key=lambda each: each.time)
        if event.time >= since_ns and isinstance(event.facts.get("xid"), int)
    }
