"""GPM: what the parts of a GPU do, measured by the hardware itself. Hopper and newer.

Each measurement compares two samples of the hardware's counters, taken at least 100 ms apart; the one from
the sample before is the first of them. It takes no lock that a profiler of the user needs. Calls for
different GPUs at the same time are known to crash the library; this process makes one at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from .nvidia_calls import SUCCESS, Calls, NvmlError, call, structure

INTERVAL_MIN_S = 0.1
#: A second sample this old measures a time nobody asked for.
INTERVAL_MAX_S = 120.0
#: So many samples of nothing at all from a busy GPU, and the buffers are made anew: known after Xid 31.
IDLE_SAMPLES_MAX = 5

_REQUEST_VERSION = 1
_MIB = 1024.0 * 1024.0
_PERCENT: Mapping[int, str] = {
    1: "graphics.active.percent",
    2: "sm.active.percent",
    3: "sm.occupancy.percent",
    4: "integer.active.percent",
    5: "tensor.active.percent",
    6: "tensor.dfma.percent",
    7: "tensor.hmma.percent",
    8: "tensor.dmma.percent",
    9: "tensor.imma.percent",
    10: "dram.active.percent",
    11: "fp64.active.percent",
    12: "fp32.active.percent",
    13: "fp16.active.percent",
}
#: In MiB/s, and of whole GPUs only.
_RATES: Mapping[int, str] = {
    20: "pcie.sent.bytes_per_s",
    21: "pcie.received.bytes_per_s",
    60: "nvlink.received.bytes_per_s",
    61: "nvlink.sent.bytes_per_s",
    100: "c2c.sent.bytes_per_s",
    101: "c2c.received.bytes_per_s",
}


class Gpm:
    """The one structure that answers come in: it has room for every metric there may be, 20 KB."""

    def __init__(self) -> None:
        self._request: Any = None
        #: What the request asks for now: writing it anew each time costs more than the answer.
        self._asked: list[int] = []

    def measure(self, calls: Calls, first: Any, second: Any, rates: bool) -> dict[str, float]:
        """Return values by name. Raise Lost or Fatal."""
        if self._request is None:
            self._request = structure("c_nvmlGpmMetricsGet_t")()
        request = self._request
        wanted = {**_PERCENT, **_RATES} if rates else _PERCENT
        ids = [number for number in wanted if not calls.refuses(("gpm", number))]
        if ids != self._asked:
            self._asked = ids
            request.version = _REQUEST_VERSION
            request.numMetrics = len(ids)
            for position, number in enumerate(ids):
                request.metrics[position].metricId = number
        request.sample1, request.sample2 = first, second
        if not ids or calls.ask_as("gpm", "nvmlGpmMetricsGet", request) is None:
            return {}
        values = {}
        for position, number in enumerate(ids):
            metric = request.metrics[position]
            if metric.nvmlReturn != SUCCESS:
                calls.judge(("gpm", number), metric.nvmlReturn, f"GPM metric {number}")
            elif math.isfinite(metric.value) and metric.value >= 0:
                name = wanted[number]
                values[name] = metric.value * _MIB if number in _RATES else min(100.0, metric.value)
        return values


class GpmSamples:
    """Two samples of one GPU, or of one GPU instance on MIG."""

    def __init__(self, gpm: Gpm, calls: Calls, monotonic: Callable[[], float]) -> None:
        self._gpm = gpm
        self._calls = calls
        self._monotonic = monotonic
        self._before: Any = None
        self._before_at = 0.0
        self._spare: Any = None
        self._idle = 0

    def values(self, device: Any, instance: int | None = None, busy: bool = False) -> dict[str, float]:
        """Return values since the sample before; none at first and where there is no GPM.

        instance: of the GPU, on MIG. busy: the GPU says it works, so that nothing at all cannot be true.
        """
        now = self._monotonic()
        if self._before is not None and now - self._before_at < INTERVAL_MIN_S:
            return {}
        if not self._supported(device, instance):
            return {}
        if self._idle >= IDLE_SAMPLES_MAX:
            self.free()
        sample = self._spare or self._calls.ask("nvmlGpmSampleAlloc")
        self._spare = sample
        if sample is None or not self._fill(device, instance, sample):
            return {}
        # Only now are the buffers swapped: a sample that failed leaves the one before as it is.
        before, before_at = self._before, self._before_at
        self._before, self._before_at, self._spare = sample, now, before
        if before is None or now - before_at > INTERVAL_MAX_S:
            return {}
        values = self._gpm.measure(self._calls, before, sample, rates=instance is None)
        nothing = bool(values) and busy and not any(values.values())
        self._idle = self._idle + 1 if nothing else 0
        return values

    def free(self) -> None:
        """Give the buffers back. A driver that refuses keeps them until this process ends."""
        for sample in (self._before, self._spare):
            if sample is not None:
                try:
                    call("nvmlGpmSampleFree", sample)
                except NvmlError:
                    pass
        self._before = self._spare = None
        self._idle = 0

    def _supported(self, device: Any, instance: int | None) -> bool:
        question = "gpm support"
        if self._calls.refuses(question) or self._calls.refuses(("gpm sample", instance)):
            return False
        if self._before is not None:
            return True
        support = self._calls.ask_as(question, "nvmlGpmQueryDeviceSupport", device)
        if support is None or not support.isSupportedDevice:
            self._calls.refuse(question)
            return False
        return True

    def _fill(self, device: Any, instance: int | None, sample: Any) -> bool:
        question = ("gpm sample", instance)
        if instance is None:
            done = self._calls.ask_as(question, "nvmlGpmSampleGet", device, sample)
        else:
            done = self._calls.ask_as(question, "nvmlGpmMigSampleGet", device, instance, sample)
        return done is not None
