"""The table of NVIDIA metrics: names below host.gpu.<index>, units, and the call, field or GPM id of each."""

from __future__ import annotations

from .collector import Metric

_FIELD = "nvmlDeviceGetFieldValues"
_GPM = "nvmlGpmMetricsGet"

#: (name below the GPU, unit, source, meaning)
_CORE = (
    ("utilization.percent", "%", "nvmlDeviceGetUtilizationRates", "time with a kernel running; not on MIG"),
    (
        "memory_controller.percent",
        "%",
        "nvmlDeviceGetUtilizationRates",
        "time the memory was read or written",
    ),
    ("memory.used.bytes", "bytes", "nvmlDeviceGetMemoryInfo_v2", "memory in use by programs"),
    ("memory.free.bytes", "bytes", "nvmlDeviceGetMemoryInfo_v2", "memory nobody has taken"),
    ("memory.reserved.bytes", "bytes", "nvmlDeviceGetMemoryInfo_v2", "memory the driver keeps for itself"),
    ("memory.total.bytes", "bytes", "nvmlDeviceGetMemoryInfo_v2", "memory of the GPU"),
    ("memory.percent", "%", "nvmlDeviceGetMemoryInfo_v2", "used of total"),
    ("temperature.celsius", "°C", "nvmlDeviceGetTemperature", "temperature of the chip"),
    ("temperature.memory.celsius", "°C", f"{_FIELD} 82", "temperature of the memory"),
    (
        "temperature.margin.celsius",
        "°C",
        "nvmlDeviceGetMarginTemperature",
        "degrees left until it slows down",
    ),
    (
        "power.watts",
        "W",
        f"{_FIELD} 185, else nvmlDeviceGetPowerUsage",
        "board power; mean of 1 s on Ampere and later, GA100 aside",
    ),
    ("power.instant.watts", "W", f"{_FIELD} 186", "board power at this moment"),
    (
        "power.mean.watts",
        "W",
        f"{_FIELD} 83, else nvmlDeviceGetTotalEnergyConsumption",
        "energy since the sample before, by time: exact, whatever happened in between",
    ),
    ("energy.joules", "J", f"{_FIELD} 83", "energy since the driver was loaded"),
    ("power_limit.watts", "W", "nvmlDeviceGetEnforcedPowerLimit", "the limit in force; read every 30 s"),
    ("power.percent", "%", "power.watts, power_limit.watts", "power of the limit in force"),
    ("clock.sm.mhz", "MHz", "nvmlDeviceGetClockInfo", "clock of the multiprocessors"),
    ("clock.memory.mhz", "MHz", "nvmlDeviceGetClockInfo", "clock of the memory"),
    ("clock.graphics.mhz", "MHz", "nvmlDeviceGetClockInfo", "clock of the graphics engine"),
    ("fan.percent", "%", "nvmlDeviceGetFanSpeed", "speed of the fan; none where the server cools"),
    ("processes.count", "", "nvmlDeviceGetComputeRunningProcesses_v3", "processes that compute here"),
    ("encoder.percent", "%", "nvmlDeviceGetEncoderUtilization", "video encoder busy; on request (codecs)"),
    ("decoder.percent", "%", "nvmlDeviceGetDecoderUtilization", "video decoder busy; on request (codecs)"),
)
_REASONS = "nvmlDeviceGetCurrentClocksEventReasons"
_THROTTLE = (
    ("throttle.reasons.count", "", _REASONS, "reasons that slow the clocks down at this moment"),
    (
        "throttle.power_cap.percent",
        "%",
        f"{_FIELD} 74, else {_REASONS} 0x4",
        "time slowed by the power limit",
    ),
    ("throttle.sync_boost.percent", "%", f"{_FIELD} 76, else {_REASONS} 0x10", "time slowed to match others"),
    (
        "throttle.software_thermal.percent",
        "%",
        f"{_FIELD} 269, else {_REASONS} 0x20",
        "time slowed by the driver because of heat",
    ),
    (
        "throttle.hardware_thermal.percent",
        "%",
        f"{_FIELD} 270, else {_REASONS} 0x40",
        "time slowed by the hardware because of heat",
    ),
    (
        "throttle.power_brake.percent",
        "%",
        f"{_FIELD} 271, else {_REASONS} 0x80",
        "time slowed by the power supply's brake",
    ),
    (
        "throttle.hardware.percent",
        "%",
        f"{_REASONS} 0x8",
        "samples slowed by the hardware, whatever the cause",
    ),
    ("throttle.clocks_set.percent", "%", f"{_REASONS} 0x2", "samples held by clocks somebody set"),
    ("throttle.idle.percent", "%", f"{_REASONS} 0x1", "samples with low clocks because nothing runs"),
)
_PCIE = (
    ("pcie.sent.bytes_per_s", "bytes/s", f"{_GPM} 20, else {_FIELD} 197", "sent by the GPU over PCIe"),
    (
        "pcie.received.bytes_per_s",
        "bytes/s",
        f"{_GPM} 21, else {_FIELD} 198",
        "received by the GPU over PCIe",
    ),
    (
        "pcie.generation.count",
        "",
        "nvmlDeviceGetCurrPcieLinkGeneration",
        "generation in use; lower when idle is normal",
    ),
    ("pcie.generation_max.count", "", "nvmlDeviceGetMaxPcieLinkGeneration", "generation it could use here"),
    ("pcie.width.count", "lanes", "nvmlDeviceGetCurrPcieLinkWidth", "lanes in use"),
    (
        "pcie.width_max.count",
        "lanes",
        "nvmlDeviceGetMaxPcieLinkWidth",
        "lanes it could use here; fewer in use are a fault",
    ),
    ("pcie.replays.count", "", f"{_FIELD} 94", "packets sent again, since the driver was loaded"),
    ("pcie.correctable_errors.count", "", f"{_FIELD} 173", "errors the link corrected"),
    ("pcie.naks_received.count", "", f"{_FIELD} 174", "packets the other side refused"),
    ("pcie.receiver_errors.count", "", f"{_FIELD} 175", "errors of the receiver"),
    ("pcie.bad_tlps.count", "", f"{_FIELD} 176", "bad packets of transactions"),
    ("pcie.naks_sent.count", "", f"{_FIELD} 177", "packets this side refused"),
    ("pcie.bad_dllps.count", "", f"{_FIELD} 178", "bad packets of the link layer"),
    ("pcie.non_fatal_errors.count", "", f"{_FIELD} 179", "errors not corrected, link still good"),
    ("pcie.fatal_errors.count", "", f"{_FIELD} 180", "errors that broke the link"),
    ("pcie.unsupported_requests.count", "", f"{_FIELD} 181", "requests nobody understood"),
    ("pcie.lcrc_errors.count", "", f"{_FIELD} 182", "packets with a bad checksum"),
    ("pcie.lane_errors.count", "", f"{_FIELD} 183", "errors of single lanes"),
)
_NVLINK = (
    (
        "nvlink.sent.bytes_per_s",
        "bytes/s",
        f"{_FIELD} 138 or 202, else {_GPM} 61",
        "sent over all NVLinks",
    ),
    (
        "nvlink.received.bytes_per_s",
        "bytes/s",
        f"{_FIELD} 139 or 204, else {_GPM} 60",
        "received over all NVLinks",
    ),
    ("nvlink.links_up.count", "", f"{_FIELD} 165, else nvmlDeviceGetNvLinkState", "NVLinks that work"),
    ("nvlink.links_down.count", "", f"{_FIELD} 165, else nvmlDeviceGetNvLinkState", "NVLinks that do not"),
    ("nvlink.replays.count", "", f"{_FIELD} 161", "packets sent again, all links"),
    ("nvlink.recoveries.count", "", f"{_FIELD} 162, else 215", "links that had to find each other again"),
    ("nvlink.crc_errors.count", "", f"{_FIELD} 163", "packets with a bad checksum, all links"),
    ("nvlink.malformed_packets.count", "", f"{_FIELD} 206", "packets that made no sense (NVLink 5)"),
    ("nvlink.buffer_overruns.count", "", f"{_FIELD} 207", "packets there was no room for (NVLink 5)"),
    ("nvlink.receive_errors.count", "", f"{_FIELD} 208", "errors of receivers (NVLink 5)"),
    ("nvlink.integrity_errors.count", "", f"{_FIELD} 211", "links below their quality (NVLink 5)"),
    ("nvlink.discards.count", "", f"{_FIELD} 212", "packets thrown away before sending (NVLink 5)"),
    ("nvlink.failed_recoveries.count", "", f"{_FIELD} 214", "links that stayed down (NVLink 5)"),
    ("nvlink.effective_errors.count", "", f"{_FIELD} 219", "errors after correction (NVLink 5)"),
    ("nvlink.symbol_errors.count", "", f"{_FIELD} 221", "symbols that came wrong (NVLink 5)"),
    (
        "nvlink.fabric_state.code",
        "",
        "nvmlDeviceGetGpuFabricInfoV",
        "the fabric of NVSwitches: 1 its manager does not run, 2 joining, 3 joined or failed",
    ),
    (
        "nvlink.fabric_status.code",
        "",
        "nvmlDeviceGetGpuFabricInfoV",
        "how joining the fabric ended: 0 well, else an error of NVML",
    ),
    ("c2c.sent.bytes_per_s", "bytes/s", f"{_GPM} 100", "sent to the processor over C2C (Grace)"),
    ("c2c.received.bytes_per_s", "bytes/s", f"{_GPM} 101", "received from the processor over C2C (Grace)"),
)
_HEALTH = (
    ("ecc.corrected.volatile.count", "", f"{_FIELD} 3", "bits corrected since the driver was loaded"),
    ("ecc.uncorrected.volatile.count", "", f"{_FIELD} 4", "words lost since the driver was loaded"),
    ("ecc.corrected.aggregate.count", "", f"{_FIELD} 5", "bits corrected in the GPU's life"),
    ("ecc.uncorrected.aggregate.count", "", f"{_FIELD} 6", "words lost in the GPU's life"),
    ("rows_remapped.corrected.count", "", f"{_FIELD} 142", "rows replaced after corrected errors"),
    ("rows_remapped.uncorrected.count", "", f"{_FIELD} 143", "rows replaced after uncorrected errors"),
    ("rows_remapped.pending.count", "", f"{_FIELD} 144", "1: a row is replaced at the next reset"),
    ("rows_remapped.failed.count", "", f"{_FIELD} 145", "1: a row could not be replaced"),
    ("pages_retired.corrected.count", "", f"{_FIELD} 29", "pages given up after corrected errors (Volta)"),
    ("pages_retired.uncorrected.count", "", f"{_FIELD} 30", "pages given up after lost words (Volta)"),
    ("pages_retired.pending.count", "", f"{_FIELD} 31", "1: a page is given up at the next reset (Volta)"),
    (
        "recovery_action.code",
        "",
        f"{_FIELD} 230",
        "what the driver asks for: 0 nothing, 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset, 5 IMEX",
    ),
)
_GPM_METRICS = (
    ("graphics.active.percent", "%", f"{_GPM} 1", "time any compute or graphics engine worked"),
    ("sm.active.percent", "%", f"{_GPM} 2", "time the multiprocessors had a warp, mean of all"),
    ("sm.occupancy.percent", "%", f"{_GPM} 3", "warps there were of those there could be"),
    ("integer.active.percent", "%", f"{_GPM} 4", "time the integer pipe worked"),
    ("tensor.active.percent", "%", f"{_GPM} 5", "time any tensor pipe worked"),
    ("tensor.dfma.percent", "%", f"{_GPM} 6", "time tensor pipes did FP64 (DFMA)"),
    ("tensor.hmma.percent", "%", f"{_GPM} 7", "time tensor pipes did FP16, BF16, FP8 (HMMA)"),
    ("tensor.dmma.percent", "%", f"{_GPM} 8", "time tensor pipes did FP64 (DMMA)"),
    ("tensor.imma.percent", "%", f"{_GPM} 9", "time tensor pipes did integers (IMMA)"),
    ("dram.active.percent", "%", f"{_GPM} 10", "memory traffic of what is possible"),
    ("fp64.active.percent", "%", f"{_GPM} 11", "time the FP64 pipe worked"),
    ("fp32.active.percent", "%", f"{_GPM} 12", "time the FP32 pipe worked"),
    ("fp16.active.percent", "%", f"{_GPM} 13", "time the FP16 pipe worked"),
)
#: What a MIG device has, below host.gpu.<index>.mig.<number>.
_MIG = (
    ("memory.used.bytes", "bytes", "nvmlDeviceGetMemoryInfo_v2", "memory in use by programs"),
    ("memory.free.bytes", "bytes", "nvmlDeviceGetMemoryInfo_v2", "memory nobody has taken"),
    ("memory.reserved.bytes", "bytes", "nvmlDeviceGetMemoryInfo_v2", "memory the driver keeps for itself"),
    ("memory.total.bytes", "bytes", "nvmlDeviceGetMemoryInfo_v2", "memory of the MIG device"),
    ("memory.percent", "%", "nvmlDeviceGetMemoryInfo_v2", "used of total"),
    ("processes.count", "", "nvmlDeviceGetComputeRunningProcesses_v3", "processes that compute here"),
)

METRICS = tuple(
    Metric(f"host.gpu.#.{name}", unit, source, meaning)
    for name, unit, source, meaning in (
        *_CORE,
        *_THROTTLE,
        *_GPM_METRICS,
        *_PCIE,
        *_NVLINK,
        *_HEALTH,
    )
) + tuple(
    Metric(f"host.gpu.#.mig.#.{name}", unit, source, meaning)
    for name, unit, source, meaning in (*_MIG, *_GPM_METRICS)
)
