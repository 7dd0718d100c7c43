"""Whether our figures of the machine agree with those of others over the same time, under load.

    python bench/host_accuracy.py [--seconds 300] [--window 30]

Our collectors sample each 2 s into windows, as in the agent. mpstat, iostat and sadc (sysstat) measure the
same windows, prometheus-node-exporter is asked at their ends, and its counters are compared by their growth.
Loopback is not a card; for this comparison it is made to look like one, so that there is traffic to compare.
Target: the median difference of each figure is at most 2 % or 1 point, whichever is larger.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.host_load import load
from bench.host_peers import NODE_EXPORTER, SYSSTAT, NodeExporter, Scrape, Sysstat, need
from bench.recording import record
from tracker_agent.collectors.chosen import COLLECTORS
from tracker_agent.collectors.collector import Collector, Context
from tracker_agent.collectors.kernel import Kernel
from tracker_agent.windows import WindowBuilder

SUBJECTS = ("cpu", "memory", "vmstat", "pressure", "disk", "network")
INTERVAL_S = 2
TOLERANCE_PERCENT = 2.0
TOLERANCE_POINTS = 1.0
#: Rates below this are noise on an idle machine, such as one fork in a window: by unit.
FLOORS = {"per_s": 1.0, "bytes_per_s": 2048.0, "bytes": 2.0**20, "percent": TOLERANCE_POINTS, "": 0.02}
SETTLE_S = 5.0

Peers = Callable[["Window"], "float | None"]


@dataclass(frozen=True)
class Window:
    """What all sides say of one window."""

    ours: Mapping[str, tuple[float, float, float, float, int]]  #: mean, min, max, last, count
    mpstat: Mapping[str, Any]
    iostat: Mapping[str, Any]
    sar: Mapping[str, Any]
    before: Scrape
    after: Scrape

    def grown(self, name: str, **labels: str) -> float | None:
        """Return the growth per second of the exporter's counter."""
        old, new = self.before.sum(name, **labels), self.after.sum(name, **labels)
        return None if old is None or new is None else (new - old) / (self.after.at - self.before.at)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--window", type=int, default=30, help="seconds, a multiple of 2")
    options = parser.parse_args()
    if options.window % INTERVAL_S or options.seconds < 2 * options.window:
        parser.error("--window must be a multiple of 2, and --seconds two windows at least")
    need(*SYSSTAT, NODE_EXPORTER)
    # Not below /tmp, which may be memory.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory, load(Path(directory)):
        time.sleep(SETTLE_S)
        windows = measure(Path(directory), options.window, options.seconds // options.window)
    figures, idle = compared(windows)
    differing = sorted(name for name, each in figures.items() if not each["within"])
    record(
        "host_accuracy",
        {
            "seconds": options.seconds,
            "window_s": options.window,
            "windows": len(windows),
            "figures_compared": len(figures),
            "idle": idle,
            "differing": differing,
            "target_met": not differing,
            "compared": figures,
        },
    )


def measure(directory: Path, window_s: int, count: int) -> list[Window]:
    """Let everybody measure the same windows."""
    context = Context(kernel=Kernel(str(_root(directory / "root"))))
    collectors = [COLLECTORS[name](context) for name in SUBJECTS]
    exporter = NodeExporter(arguments=("--collector.netdev.device-exclude=^$",))
    builder = WindowBuilder()
    ours, scrapes = [], []
    sysstat = Sysstat(directory, window_s, count)
    try:
        # They read for the first time as soon as they have started.
        began = time.monotonic() + 0.03
        for tick in range(count * window_s // INTERVAL_S + 1):
            time.sleep(max(0.0, began + tick * INTERVAL_S - time.monotonic()))
            _sample(collectors, builder)
            if tick * INTERVAL_S % window_s == 0:
                ours.append(builder.take())
                scrapes.append(exporter.scrape())
        theirs = sysstat.results()
    finally:
        sysstat.close()
        exporter.close()
    return [
        Window(*each)
        for each in zip(
            ours[1:],
            theirs["mpstat"],
            theirs["iostat"],
            theirs["sar"],
            scrapes[:-1],
            scrapes[1:],
            strict=True,
        )
    ]


def _sample(collectors: Sequence[Collector], builder: WindowBuilder) -> None:
    for collector in collectors:
        builder.add(collector.sample().values)


def _root(root: Path) -> Path:
    """Make a root whose files are this machine's, except that loopback is a network card."""
    cards = root / "sys/class/net"
    (cards / "lo/device").mkdir(parents=True)
    (cards / "lo/type").write_text("1\n")
    for card in Path("/sys/class/net").iterdir():
        if card.name != "lo":
            (cards / card.name).symlink_to(card.resolve())
    for name in ("proc", "dev", "sys/block", "sys/devices"):
        (root / name).symlink_to(Path("/") / name)
    return root


def compared(windows: Sequence[Window]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return how far each figure is from each peer's, by "figure peer"; and those that were always 0."""
    found, idle = {}, []
    for name, which, peers in rows():
        for peer, theirs in peers.items():
            pairs = [
                (window.ours[name][which], value)
                for window in windows
                if name in window.ours and (value := theirs(window)) is not None
            ]
            if not any(map(any, pairs)):
                idle.append(f"{name} {peer}")
            elif pairs:
                found[f"{name} {peer}"] = _difference(name, pairs)
    return found, idle


def _difference(name: str, pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    away = statistics.median(abs(ours - theirs) for ours, theirs in pairs)
    relative = statistics.median(
        100 * abs(ours - theirs) / abs(theirs) if theirs else (0.0 if ours == theirs else 100.0)
        for ours, theirs in pairs
    )
    floor = FLOORS.get(
        next((unit for unit in ("bytes_per_s", "per_s", "bytes", "percent") if name.endswith(unit)), ""), 0
    )
    return {
        "ours": round(statistics.median(ours for ours, _ in pairs), 3),
        "theirs": round(statistics.median(theirs for _, theirs in pairs), 3),
        "median_difference": round(away, 4),
        "median_difference_percent": round(relative, 3),
        "within": relative <= TOLERANCE_PERCENT or away <= floor,
    }


_MEAN, _LAST = 0, 3
KIB = 1024


def rows() -> list[tuple[str, int, dict[str, Peers]]]:
    """Return what is compared: our figure, its mean or last value in a window, the peers' words for it."""
    return [*_cpu(), *_memory(), *_vmstat(), *_pressure(), *_disk(), *_network()]


def _cpu() -> list[tuple[str, int, dict[str, Peers]]]:
    def sysstat(*kinds: str) -> dict[str, Peers]:
        def mpstat(window: Window) -> float | None:
            (every,) = [each for each in window.mpstat["cpu-load"] if each["cpu"] == "all"]
            return sum(float(every[kind]) for kind in kinds)

        return {"mpstat": mpstat}

    def exporter(*modes: str) -> dict[str, Peers]:
        def share(window: Window) -> float | None:
            seconds = [window.grown("node_cpu_seconds_total", mode=mode) or 0.0 for mode in modes]
            total = window.grown("node_cpu_seconds_total")
            return 100 * sum(seconds) / total if total else None

        return {"node_exporter": share}

    def core_max(window: Window) -> float | None:
        cores = [each for each in window.mpstat["cpu-load"] if each["cpu"] != "all"]
        return max(100.0 - float(each["idle"]) - float(each["iowait"]) for each in cores)

    def switches(word: str) -> Peers:
        return lambda window: window.sar["process-and-context-switch"][word]

    busy = ("usr", "nice", "sys", "irq", "soft", "steal", "guest", "gnice")
    modes = ("user", "nice", "system", "irq", "softirq", "steal")
    return [
        ("host.cpu.percent", _MEAN, sysstat(*busy) | exporter(*modes)),
        ("host.cpu.user.percent", _MEAN, sysstat("usr", "nice", "guest", "gnice") | exporter("user", "nice")),
        (
            "host.cpu.system.percent",
            _MEAN,
            sysstat("sys", "irq", "soft") | exporter("system", "irq", "softirq"),
        ),
        ("host.cpu.irq.percent", _MEAN, sysstat("irq", "soft") | exporter("irq", "softirq")),
        ("host.cpu.iowait.percent", _MEAN, sysstat("iowait") | exporter("iowait")),
        ("host.cpu.steal.percent", _MEAN, sysstat("steal") | exporter("steal")),
        ("host.cpu.core_max.percent", _MEAN, {"mpstat": core_max}),
        (
            "host.cpu.context_switches_per_s",
            _MEAN,
            {"sar": switches("cswch"), "node_exporter": lambda w: w.grown("node_context_switches_total")},
        ),
        (
            "host.cpu.forks_per_s",
            _MEAN,
            {"sar": switches("proc"), "node_exporter": lambda w: w.grown("node_forks_total")},
        ),
        ("host.cpu.interrupts_per_s", _MEAN, {"node_exporter": lambda w: w.grown("node_intr_total")}),
        ("host.cpu.load1", _LAST, {"node_exporter": lambda w: w.after.sum("node_load1")}),
    ]


def _memory() -> list[tuple[str, int, dict[str, Peers]]]:
    def both(sar: str, exporter: str) -> dict[str, Peers]:
        return {
            "sar": lambda window: window.sar["memory"][sar] * KIB,
            "node_exporter": lambda window: window.after.sum(f"node_memory_{exporter}_bytes"),
        }

    pairs = {
        "available": ("avail", "MemAvailable"),
        "free": ("memfree", "MemFree"),
        "buffers": ("buffers", "Buffers"),
        "cached": ("cached", "Cached"),
        "dirty": ("dirty", "Dirty"),
        "anonymous": ("anonpg", "AnonPages"),
        "slab": ("slab", "Slab"),
        "page_tables": ("pgtbl", "PageTables"),
        "committed": ("commit", "Committed_AS"),
    }
    return [(f"host.memory.{ours}.bytes", _LAST, both(*theirs)) for ours, theirs in pairs.items()]


def _vmstat() -> list[tuple[str, int, dict[str, Peers]]]:
    def both(sar: str, exporter: str) -> dict[str, Peers]:
        return {
            "sar": lambda window: window.sar["paging"][sar],
            "node_exporter": lambda window: window.grown(f"node_vmstat_{exporter}"),
        }

    return [
        ("host.vmstat.faults_per_s", _MEAN, both("fault", "pgfault")),
        ("host.vmstat.major_faults_per_s", _MEAN, both("majflt", "pgmajfault")),
    ]


def _pressure() -> list[tuple[str, int, dict[str, Peers]]]:
    def seconds(name: str) -> dict[str, Peers]:
        def share(window: Window) -> float | None:
            grown = window.grown(f"node_pressure_{name}_seconds_total")
            return None if grown is None else 100 * grown

        return {"node_exporter": share}

    return [
        ("host.pressure.cpu.some.percent", _MEAN, seconds("cpu_waiting")),
        ("host.pressure.io.some.percent", _MEAN, seconds("io_waiting")),
        ("host.pressure.io.full.percent", _MEAN, seconds("io_stalled")),
        ("host.pressure.memory.some.percent", _MEAN, seconds("memory_waiting")),
    ]


def _disk() -> list[tuple[str, int, dict[str, Peers]]]:
    def iostat(word: str, unit: int = 1) -> Peers:
        def total(window: Window) -> float | None:
            disks = [each for each in window.iostat["disk"] if not each["disk_device"].startswith(_NO_DISKS)]
            return sum(float(each[word]) for each in disks) * unit

        return total

    def exporter(name: str) -> Peers:
        def total(window: Window) -> float | None:
            devices = {
                dict(labels)["device"]
                for (each, labels) in window.after.values
                if each == f"node_disk_{name}"
            }
            rates = [
                window.grown(f"node_disk_{name}", device=device)
                for device in devices
                if not device.startswith(_NO_DISKS)
            ]
            return sum(rate for rate in rates if rate is not None) if rates else None

        return total

    return [
        (
            "host.disk.read.bytes_per_s",
            _MEAN,
            {"iostat": iostat("kB_read/s", KIB), "node_exporter": exporter("read_bytes_total")},
        ),
        (
            "host.disk.written.bytes_per_s",
            _MEAN,
            {"iostat": iostat("kB_wrtn/s", KIB), "node_exporter": exporter("written_bytes_total")},
        ),
        ("host.disk.reads_per_s", _MEAN, {"node_exporter": exporter("reads_completed_total")}),
        ("host.disk.writes_per_s", _MEAN, {"node_exporter": exporter("writes_completed_total")}),
    ]


_NO_DISKS = ("loop", "ram", "zram", "dm-", "md", "sr", "fd")


def _network() -> list[tuple[str, int, dict[str, Peers]]]:
    def both(device: str, sar: str, exporter: str, unit: int) -> dict[str, Peers]:
        def by_sar(window: Window) -> float | None:
            found = [each for each in window.sar["network"]["net-dev"] if each["iface"] == device]
            return found[0][sar] * unit if found else None

        return {
            "sar": by_sar,
            "node_exporter": lambda window: window.grown(f"node_network_{exporter}_total", device=device),
        }

    return [
        (f"host.network.{device}.{name}", _MEAN, both(device, sar, exporter, unit))
        for device in ("lo", "eth0")
        for name, (sar, exporter, unit) in {
            "received.bytes_per_s": ("rxkB", "receive_bytes", KIB),
            "sent.bytes_per_s": ("txkB", "transmit_bytes", KIB),
            "received.packets_per_s": ("rxpck", "receive_packets", 1),
            "sent.packets_per_s": ("txpck", "transmit_packets", 1),
        }.items()
    ]


if __name__ == "__main__":
    main()
