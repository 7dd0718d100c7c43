"""thermal: temperatures from hwmon and thermal zones, and how often the processors slowed down for heat.

A chip with many sensors (a processor with one for each core) is shown by its hottest one. GPUs are left to
their own collectors; disks behind `drivetemp` are left alone: reading those keeps some from going to sleep.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from .collector import Collector, Context, Metric, NothingHere, Reading
from .growth import Growth

_HWMON = "sys/class/hwmon"
_ZONES = "sys/class/thermal"
_CPUS = "sys/devices/system/cpu"
_CPU = re.compile(r"cpu\d+")
_SENSOR = re.compile(r"temp(\d+)_input")
_ZONE = re.compile(r"thermal_zone\d+")
#: Chips that measure processors.
_PROCESSORS = ("coretemp", "k10temp", "k8temp", "zenpower", "x86_pkg_temp", "cpu_thermal", "cpu-thermal")
_LEFT_ALONE = ("drivetemp", "amdgpu", "radeon", "nouveau", "xe", "i915")
#: A zone that shows what coretemp shows too.
_SAME_AS_CORETEMP = "x86_pkg_temp"
#: What a sensor that is not connected reads as lies outside of these, in °C.
_COLDEST, _HOTTEST = -40.0, 126.0
#: Chips shown one by one, processors first; the others count in the maximum only.
CHIPS_MAX = 16
SENSORS_MAX = 16
#: Sensors are looked for this often.
RESCAN_S = 60.0


class Chip(NamedTuple):
    """One chip with sensors: its name in metrics, whether it is a processor's, the files to read."""

    name: str
    processor: bool
    files: tuple[str, ...]


class Throttles(NamedTuple):
    """The directories of the counters, one for each core and one for each package."""

    cores: tuple[str, ...]
    packages: tuple[str, ...]


class ThermalCollector(Collector):
    """Temperatures of processors and other chips, and processors slowed down for heat."""

    name = "thermal"
    interval_s = 10.0
    cost = "a file for each chip and one for each core; each NVMe disk is asked"
    metrics = (
        Metric("host.thermal.cpu.celsius", "°C", "hwmon temp*_input", "the hottest processor"),
        Metric("host.thermal.max.celsius", "°C", "hwmon, thermal zones", "the hottest chip of all"),
        Metric(
            "host.thermal.#.celsius",
            "°C",
            "hwmon temp*_input, thermal_zone*/temp",
            "one chip, by its hottest sensor, such as coretemp-0",
        ),
        Metric(
            "host.thermal.core_throttles_per_s",
            "1/s",
            "thermal_throttle/core_throttle_count",
            "times a core slowed down for heat, all cores",
        ),
        Metric(
            "host.thermal.package_throttles_per_s",
            "1/s",
            "thermal_throttle/package_throttle_count",
            "times a whole processor slowed down for heat",
        ),
        Metric(
            "host.thermal.throttled.percent",
            "%",
            "thermal_throttle/package_throttle_total_time_ms",
            "time slowed down for heat, of the processor that was most",
        ),
    )

    def __init__(self, context: Context | None = None) -> None:
        super().__init__(context)
        self._growth = Growth()
        self._chips: tuple[Chip, ...] = ()
        self._throttles = Throttles((), ())
        self._scanned_at: float | None = None

    def sample(self) -> Reading:
        now = self.context.monotonic()
        if self._scanned_at is None or now - self._scanned_at >= RESCAN_S:
            self._chips, self._throttles = self._find_chips(), self._find_throttles()
            self._scanned_at = now
        problems: list[str] = []
        degrees = {}
        for chip in self._chips:
            measured = [each for file in chip.files if (each := self._degrees(file, problems)) is not None]
            if measured:
                degrees[chip] = max(measured)
        counters = self._counters()
        if not degrees and not counters and not problems:
            raise NothingHere("no temperatures (hwmon, thermal zones)")
        return Reading(_temperatures(degrees) | self._rates(counters, now), tuple(problems))

    def _degrees(self, file: str, problems: list[str]) -> float | None:
        try:
            thousandths = self.context.kernel.number(file)
        except OSError as error:
            problems.append(f"{file}: {error.strerror}")
            return None
        if thousandths is None or not _COLDEST < thousandths / 1000 < _HOTTEST:
            return None
        return thousandths / 1000

    def _counters(self) -> dict[str, float]:
        kernel = self.context.kernel
        counters: dict[str, float] = {}
        for kind, directories in (("core", self._throttles.cores), ("package", self._throttles.packages)):
            for directory in directories:
                count = kernel.number(f"{directory}/{kind}_throttle_count")
                if count is not None:
                    counters[f"{kind} {directory}"] = count
        for directory in self._throttles.packages:
            # Kernel 5.6 and later.
            milliseconds = kernel.number(f"{directory}/package_throttle_total_time_ms")
            if milliseconds is not None:
                counters[f"time {directory}"] = milliseconds
        return counters

    def _rates(self, counters: dict[str, float], now: float) -> dict[str, float]:
        rates = self._growth.per_second(counters, now)
        values = {}
        for kind in ("core", "package"):
            each = [rate for name, rate in rates.items() if name.startswith(f"{kind} ")]
            if each:
                values[f"host.thermal.{kind}_throttles_per_s"] = sum(each)
        shares = [rate for name, rate in rates.items() if name.startswith("time ")]
        if shares:
            values["host.thermal.throttled.percent"] = min(100.0, 100.0 * max(shares) / 1000)
        return values

    def _find_chips(self) -> tuple[Chip, ...]:
        kernel = self.context.kernel
        found: list[tuple[str, tuple[str, ...]]] = []
        # In the order of their numbers, so that names stay the same.
        for directory in sorted(kernel.names(_HWMON), key=_number):
            kind = kernel.word(f"{_HWMON}/{directory}/name") or directory
            files = tuple(self._sensors(f"{_HWMON}/{directory}"))
            if files and kind not in _LEFT_ALONE:
                found.append((kind, files))
        seen = {kind for kind, _ in found}
        for zone in sorted(filter(_ZONE.fullmatch, kernel.names(_ZONES)), key=_number):
            kind = kernel.word(f"{_ZONES}/{zone}/type") or zone
            # The kernel shows many zones as hwmon too.
            doubled = kind in seen or (kind == _SAME_AS_CORETEMP and "coretemp" in seen)
            if not doubled and kind not in _LEFT_ALONE:
                found.append((kind, (f"{_ZONES}/{zone}/temp",)))
        return tuple(_named(found))

    def _sensors(self, directory: str) -> Iterator[str]:
        kernel = self.context.kernel
        numbers = sorted(
            int(match[1]) for name in kernel.names(directory) if (match := _SENSOR.fullmatch(name))
        )
        labels = {number: kernel.word(f"{directory}/temp{number}_label") or "" for number in numbers}
        # A package's sensor is its hottest core's, and asking each core would wake it up.
        packages = [number for number in numbers if labels[number].startswith("Package id")]
        for number in (packages or numbers)[:SENSORS_MAX]:
            yield f"{directory}/temp{number}_input"

    def _find_throttles(self) -> Throttles:
        kernel = self.context.kernel
        cores: dict[tuple[int | None, int | None], str] = {}
        packages: dict[int | None, str] = {}
        for cpu in sorted(filter(_CPU.fullmatch, kernel.names(_CPUS)), key=_number):
            directory = f"{_CPUS}/{cpu}/thermal_throttle"
            if kernel.number(f"{directory}/core_throttle_count") is None:
                # Either all cores have the counters or none has; AMD's have none.
                break
            package = kernel.number(f"{_CPUS}/{cpu}/topology/physical_package_id")
            # Both threads of a core count the same.
            cores.setdefault((package, kernel.number(f"{_CPUS}/{cpu}/topology/core_id")), directory)
            packages.setdefault(package, directory)
        return Throttles(tuple(cores.values()), tuple(packages.values()))


def _number(name: str) -> tuple[int, str]:
    """Sort "hwmon10" behind "hwmon9"."""
    digits = re.search(r"\d+$", name)
    return (int(digits[0]) if digits else 0, name)


def _named(found: list[tuple[str, tuple[str, ...]]]) -> Iterator[Chip]:
    """Number the chips of each kind, and bring the kinds into a form that fits into names of metrics."""
    counts: dict[str, int] = {}
    for kind, files in found:
        word = re.sub(r"[^a-z0-9_]+", "_", kind.lower()).strip("_")
        index = counts[word] = counts.get(word, -1) + 1
        yield Chip(f"{word}-{index}", kind in _PROCESSORS, files)


def _temperatures(degrees: dict[Chip, float]) -> dict[str, float]:
    if not degrees:
        return {}
    values = {"host.thermal.max.celsius": max(degrees.values())}
    processors = [each for chip, each in degrees.items() if chip.processor]
    if processors:
        values["host.thermal.cpu.celsius"] = max(processors)
    shown = sorted(degrees, key=lambda chip: not chip.processor)[:CHIPS_MAX]
    return values | {f"host.thermal.{chip.name}.celsius": degrees[chip] for chip in shown}
