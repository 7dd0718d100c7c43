"""edac: errors of the main memory that ECC corrected or could not correct, from the kernel's EDAC drivers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .collector import Collector, Context, Event, Metric, NothingHere, Reading

_CONTROLLERS = "sys/devices/system/edac/mc"
_CONTROLLER = re.compile(r"mc\d+")
_DIMM = re.compile(r"(?:dimm|rank)\d+")


class EdacCollector(Collector):
    """Errors of the main memory, corrected and uncorrectable, counted since the machine started."""

    name = "edac"
    interval_s = 30.0
    cost = "two files for each memory controller"
    metrics = (
        Metric("host.edac.correctable.count", "errors", "edac/mc/mc*/ce_count", "errors that ECC corrected"),
        Metric(
            "host.edac.uncorrectable.count",
            "errors",
            "edac/mc/mc*/ue_count",
            "errors that ECC could not correct; an event when it grows",
        ),
    )

    def __init__(self, context: Context | None = None) -> None:
        super().__init__(context)
        self._before: Mapping[str, int] = {}

    def sample(self) -> Reading:
        kernel = self.context.kernel
        controllers = [name for name in kernel.names(_CONTROLLERS) if _CONTROLLER.fullmatch(name)]
        corrected = self._counts(controllers, "ce_count")
        uncorrectable = self._counts(controllers, "ue_count")
        if not corrected and not uncorrectable:
            raise NothingHere("no memory controller with an EDAC driver")
        values = {}
        if corrected:
            values["host.edac.correctable.count"] = float(sum(corrected.values()))
        if uncorrectable:
            values["host.edac.uncorrectable.count"] = float(sum(uncorrectable.values()))
        before, self._before = self._before, uncorrectable
        grown = {
            name: count - before[name]
            for name, count in uncorrectable.items()
            if name in before and count > before[name]
        }
        return Reading(values, events=tuple(self._event(name, errors) for name, errors in grown.items()))

    def _counts(self, controllers: list[str], file: str) -> dict[str, int]:
        counts = {}
        for name in controllers:
            count = self.context.kernel.number(f"{_CONTROLLERS}/{name}/{file}")
            if count is not None:
                counts[name] = count
        return counts

    def _event(self, controller: str, errors: int) -> Event:
        dimms = self._bad_dimms(controller)
        where = f" ({', '.join(dimms)})" if dimms else ""
        counted = "an error" if errors == 1 else f"{errors} errors"
        text = f"Memory controller {controller}{where} met {counted} that ECC could not correct."
        facts = {"controller": controller, "errors": errors, "dimms": dimms}
        return Event(self.context.wall_ns(), "Uncorrectable memory error", text, "error", facts)

    def _bad_dimms(self, controller: str) -> list[str]:
        """Return the labels of the modules of a controller that ever had such errors."""
        kernel, directory = self.context.kernel, f"{_CONTROLLERS}/{controller}"
        return [
            kernel.word(f"{directory}/{name}/dimm_label") or name
            for name in kernel.names(directory)
            if _DIMM.fullmatch(name) and kernel.number(f"{directory}/{name}/dimm_ue_count")
        ]
