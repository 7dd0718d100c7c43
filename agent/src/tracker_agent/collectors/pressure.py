"""pressure: how much of the time work stood still for want of processors, disks or memory.

From /proc/pressure (PSI, kernel 4.20 and later; some distributions switch it on with psi=1 only). The totals
are used, not the averages: they are exact over the time between two samples.
"""

from __future__ import annotations

from .collector import Collector, Context, Metric, NothingHere, Reading
from .growth import Growth

#: Which lines of which file mean something. "full" of cpu does not for a whole machine: it is always 0.
_LINES = (
    ("cpu", "some"),
    ("io", "some"),
    ("io", "full"),
    ("memory", "some"),
    ("memory", "full"),
    ("irq", "full"),
)
_MICROSECONDS = 1_000_000
_FILES = tuple(dict.fromkeys(file for file, _ in _LINES))


class PressureCollector(Collector):
    """Percent of the time in which some task, or every task, waited for processors, disks or memory."""

    name = "pressure"
    cost = "four files; 0.1 ms"
    metrics = (
        Metric(
            "host.pressure.cpu.some.percent", "%", "/proc/pressure/cpu", "some task waited for a processor"
        ),
        Metric("host.pressure.io.some.percent", "%", "/proc/pressure/io", "some task waited for a disk"),
        Metric("host.pressure.io.full.percent", "%", "/proc/pressure/io", "every task waited for a disk"),
        Metric(
            "host.pressure.memory.some.percent", "%", "/proc/pressure/memory", "some task waited for memory"
        ),
        Metric(
            "host.pressure.memory.full.percent", "%", "/proc/pressure/memory", "every task waited for memory"
        ),
        Metric(
            "host.pressure.irq.full.percent",
            "%",
            "/proc/pressure/irq",
            "interrupts took the processor from tasks; kernel 6.1 and later",
        ),
    )

    def __init__(self, context: Context | None = None) -> None:
        super().__init__(context)
        self._growth = Growth()

    def sample(self) -> Reading:
        totals = {}
        for file in _FILES:
            for line in self.context.kernel.lines(f"proc/pressure/{file}"):
                kind, _, figures = line.partition(" ")
                total = figures.rpartition("total=")[2]
                if (file, kind) in _LINES and total.isdecimal():
                    totals[f"host.pressure.{file}.{kind}.percent"] = int(total)
        now = self.context.monotonic()
        if not totals:
            raise NothingHere("the kernel does not tell pressure (/proc/pressure)")
        rates = self._growth.per_second(totals, now)
        # The kernel's clock and ours are read at slightly different moments.
        return Reading({name: min(100.0, 100.0 * rate / _MICROSECONDS) for name, rate in rates.items()})
