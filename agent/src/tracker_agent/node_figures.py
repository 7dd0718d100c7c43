"""The machine's counters under the names and labels that prometheus-node-exporter gives them.

Dashboards and alarms made for node_exporter then work with the agent. The kernel's own running totals are
handed on, never our rates, so that rate() is right whatever the interval of scrapes. Values are read anew
at each scrape from files of /proc that are answered from memory.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    UnknownMetricFamily,
)

from .collectors.kernel import Kernel

#: Disks and network interfaces named at most; the others of the file are left out.
DEVICES_MAX = 64
SECTOR_BYTES = 512
#: A core whose idle time went back by more than this was taken away and came back; less is jitter of the
#: kernel's accounting, which Prometheus would take for a counter that began again.
CORE_CAME_BACK_S = 3.0

_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_GUEST_MODES = ("user", "nice")
_IDLE = _MODES.index("idle")
#: What node_exporter leaves out: memory, loops, and partitions, whose traffic is that of their disk.
_NO_DISK = re.compile(r"(z?ram|loop|fd|(h|s|v|xv)d[a-z]+|nvme\d+n\d+p)\d+")
#: The host's ends of containers and virtual machines: as many as those, and each for a short time.
_NO_NETWORK = re.compile(r"(veth|cali|lxc|vnet|tap).*")
_VMSTAT = re.compile(r"oom_kill|pgpg.*|pswp.*|pg.*fault")
_NETSTAT = re.compile(
    r".*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)"
    r"|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)"
    r"|Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)"
    r"|Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors)"
)


class Column(NamedTuple):
    """One number of a device's line: its name here, what it is, and what one of it is worth."""

    name: str
    text: str
    unit: float = 1.0
    gauge: bool = False


#: What follows a disk's name in /proc/diskstats. Old kernels have the first eleven, discards came with
#: 4.18, flushes with 5.5.
_DISK_COLUMNS = (
    Column("reads_completed", "Reads completed"),
    Column("reads_merged", "Reads merged into others"),
    Column("read_bytes", "Bytes read", SECTOR_BYTES),
    Column("read_time_seconds", "Time that reads took, all together", 0.001),
    Column("writes_completed", "Writes completed"),
    Column("writes_merged", "Writes merged into others"),
    Column("written_bytes", "Bytes written", SECTOR_BYTES),
    Column("write_time_seconds", "Time that writes took, all together", 0.001),
    Column("io_now", "Requests under way", gauge=True),
    Column("io_time_seconds", "Time with requests under way", 0.001),
    Column("io_time_weighted_seconds", "Time with requests under way times their number", 0.001),
    Column("discards_completed", "Discards completed"),
    Column("discards_merged", "Discards merged into others"),
    Column("discarded_sectors", "Sectors discarded"),
    Column("discard_time_seconds", "Time that discards took, all together", 0.001),
    Column("flush_requests", "Flushes completed"),
    Column("flush_requests_time_seconds", "Time that flushes took, all together", 0.001),
)
#: What follows an interface's name in /proc/net/dev.
_NETWORK_COLUMNS = tuple(
    Column(f"{way}_{what}", f"{what} of /proc/net/dev, {way}")
    for way, columns in (
        ("receive", ("bytes", "packets", "errs", "drop", "fifo", "frame", "compressed", "multicast")),
        ("transmit", ("bytes", "packets", "errs", "drop", "fifo", "colls", "carrier", "compressed")),
    )
    for what in columns
)
#: Lines of /proc/stat of one number.
_STAT = {
    "intr": Column("node_intr", "Interrupts served"),
    "ctxt": Column("node_context_switches", "Context switches"),
    "processes": Column("node_forks", "Processes and threads started"),
    "btime": Column("node_boot_time_seconds", "When the machine started, since 1970", gauge=True),
    "procs_running": Column("node_procs_running", "Threads that run or could", gauge=True),
    "procs_blocked": Column("node_procs_blocked", "Threads that wait for a disk or a driver", gauge=True),
}


class NodeFigures:
    """Reads the figures; remembers processor times, which must not go back."""

    def __init__(self, kernel: Kernel, per_core: bool = True) -> None:
        """per_core: one series for each core and mode; else one for all cores, labelled cpu="all"."""
        self._kernel = kernel
        self._per_core = per_core
        self._hz = os.sysconf("SC_CLK_TCK")
        self._cores: dict[str, list[int]] = {}
        self._parts: dict[str, Callable[[], Iterable[Metric]]] = {
            "stat": self._stat,
            "memory": self._memory,
            "load": self._load,
            "disk": self._disks,
            "network": self._network,
            "pressure": self._pressure,
            "vmstat": self._vmstat,
            "netstat": self._netstat,
            "sockets": self._sockets,
            "files": self._files,
            "system": self._system,
        }

    def read(self) -> tuple[list[Metric], dict[str, bool]]:
        """Return the figures there are, and of each part whether it could be read.

        A part whose file is absent is well and has no figures.
        """
        figures: list[Metric] = []
        well = {}
        for name, part in self._parts.items():
            try:
                figures += part()
                well[name] = True
            except (OSError, ValueError, LookupError):
                # A file that the kernel does not give, or of a form nobody has seen: the others count on.
                well[name] = False
        return [figure for figure in figures if figure.samples], well

    def _stat(self) -> Iterable[Metric]:
        lines = [line.split() for line in self._kernel.lines("proc/stat")]
        cores = {
            words[0].removeprefix("cpu") or "all": [int(each) for each in words[1:]]
            for words in lines
            if words and words[0].startswith("cpu") and (words[0] != "cpu") == self._per_core
        }
        yield from self._processors(cores)
        for words in lines:
            column = _STAT.get(words[0]) if words else None
            if column is not None:
                yield _single(column, int(words[1]))

    def _processors(self, cores: dict[str, list[int]]) -> Iterable[Metric]:
        before, self._cores = self._cores, {}
        spent = CounterMetricFamily(
            "node_cpu_seconds", "Time that each core spent in each mode", labels=("cpu", "mode")
        )
        guests = CounterMetricFamily(
            "node_cpu_guest_seconds",
            "Time that each core spent in virtual machines; part of user and nice",
            labels=("cpu", "mode"),
        )
        for core, times in cores.items():
            times = self._cores[core] = self._grown(before.get(core, times), times)
            for mode, ticks in zip(_MODES, times, strict=False):
                spent.add_metric((core, mode), ticks / self._hz)
            for mode, ticks in zip(_GUEST_MODES, times[len(_MODES) :], strict=False):
                guests.add_metric((core, mode), ticks / self._hz)
        yield spent
        yield guests

    def _grown(self, old: Sequence[int], new: list[int]) -> list[int]:
        if len(old) != len(new) or old[_IDLE] - new[_IDLE] > CORE_CAME_BACK_S * self._hz:
            return new
        return [max(pair) for pair in zip(old, new, strict=True)]

    def _memory(self) -> Iterable[Metric]:
        for line in self._kernel.lines("proc/meminfo"):
            words = line.split()
            name = re.sub(r"\((.*)\)", r"_\1", words[0].rstrip(":"))
            text = f"{words[0].rstrip(':')} of /proc/meminfo"
            if len(words) > 2:
                yield _single(Column(f"node_memory_{name}_bytes", text, 1024, gauge=True), int(words[1]))
            else:
                yield _single(Column(f"node_memory_{name}", text, gauge=True), int(words[1]))

    def _load(self) -> Iterable[Metric]:
        loads = (self._kernel.text("proc/loadavg") or "").split()[:3]
        for minutes, load in zip((1, 5, 15), loads, strict=False):
            text = f"Threads that run, could or wait for disks, mean of {minutes} min"
            yield GaugeMetricFamily(f"node_load{minutes}", text, float(load))

    def _disks(self) -> Iterable[Metric]:
        rows = [line.split()[2:] for line in self._kernel.lines("proc/diskstats")]
        rows = [row for row in rows if row and not _NO_DISK.fullmatch(row[0])]
        yield from _by_device("node_disk_", _DISK_COLUMNS, rows)

    def _network(self) -> Iterable[Metric]:
        rows = []
        up = GaugeMetricFamily("node_network_up", "1: the interface works", labels=("device",))
        for line in self._kernel.lines("proc/net/dev")[2:]:
            name, _, numbers = line.partition(":")
            name = name.strip()
            if not _NO_NETWORK.fullmatch(name):
                rows.append([name, *numbers.split()])
        for name, *_ in rows[:DEVICES_MAX]:
            state = self._kernel.word(f"sys/class/net/{name}/operstate")
            if state is not None:
                up.add_metric((name,), float(state == "up"))
        yield from _by_device("node_network_", _NETWORK_COLUMNS, rows)
        yield up

    def _pressure(self) -> Iterable[Metric]:
        for resource in ("cpu", "io", "memory", "irq"):
            try:
                lines = self._kernel.lines(f"proc/pressure/{resource}")
            except OSError:
                # Some kernels have the files and refuse to read them (psi=0).
                continue
            for line in lines:
                kind, *pairs = line.split()
                total = dict(pair.split("=", 1) for pair in pairs)["total"]
                waiting = kind == "some"
                if resource == "cpu" and not waiting:
                    # Always 0: the machine as a whole has some thread that runs.
                    continue
                name = f"node_pressure_{resource}_{'waiting' if waiting else 'stalled'}_seconds"
                who = "some threads" if waiting else "all threads"
                yield CounterMetricFamily(name, f"Time that {who} waited for {resource}", int(total) / 1e6)

    def _vmstat(self) -> Iterable[Metric]:
        for name, value in self._kernel.table("proc/vmstat").items():
            if _VMSTAT.fullmatch(name):
                yield UnknownMetricFamily(f"node_vmstat_{name}", f"{name} of /proc/vmstat", value)

    def _netstat(self) -> Iterable[Metric]:
        found: dict[str, str] = {}
        for file in ("proc/net/netstat", "proc/net/snmp"):
            lines = self._kernel.lines(file)
            for names, values in zip(lines[::2], lines[1::2], strict=False):
                protocol, _, titles = names.partition(":")
                numbers = values.partition(":")[2].split()
                found |= dict(zip((f"{protocol}_{title}" for title in titles.split()), numbers, strict=True))
        for name, value in self._kernel.table("proc/net/snmp6").items():
            protocol, six, title = name.partition("6")
            found[f"{protocol}{six}_{title}"] = str(value)
        for name, number in found.items():
            if _NETSTAT.fullmatch(name):
                text = f"{name.replace('_', ' ')} of /proc/net/snmp, snmp6 or netstat"
                yield UnknownMetricFamily(f"node_netstat_{name}", text, int(number))

    def _sockets(self) -> Iterable[Metric]:
        for file in ("sockstat", "sockstat6"):
            for line in self._kernel.lines(f"proc/net/{file}"):
                protocol, _, rest = line.partition(":")
                words = rest.split()
                for name, number in zip(words[::2], words[1::2], strict=True):
                    text = f"{protocol} {name} of /proc/net/{file}"
                    yield GaugeMetricFamily(f"node_sockstat_{protocol}_{name}", text, int(number))

    def _files(self) -> Iterable[Metric]:
        numbers = (self._kernel.text("proc/sys/fs/file-nr") or "").split()
        if numbers:
            yield GaugeMetricFamily("node_filefd_allocated", "Open files of the machine", int(numbers[0]))
            yield GaugeMetricFamily("node_filefd_maximum", "How many there may be", int(numbers[2]))

    def _system(self) -> Iterable[Metric]:
        names = {
            "sysname": "ostype",
            "release": "osrelease",
            "version": "version",
            "nodename": "hostname",
            "domainname": "domainname",
        }
        labels = {label: self._kernel.word(f"proc/sys/kernel/{file}") for label, file in names.items()}
        if labels["release"] is not None:
            machine = self._kernel.word("proc/sys/kernel/arch") or platform.machine()
            info = InfoMetricFamily("node_uname", "What the kernel says of itself")
            info.add_metric(
                (), {label: each for label, each in labels.items() if each} | {"machine": machine}
            )
            yield info


def _single(column: Column, number: int) -> Metric:
    kind = GaugeMetricFamily if column.gauge else CounterMetricFamily
    return kind(column.name, column.text, number * column.unit)


def _by_device(prefix: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Iterable[Metric]:
    """Yield a metric for each column of lines that begin with a device's name; a short line has fewer."""
    for index, column in enumerate(columns, start=1):
        kind = GaugeMetricFamily if column.gauge else CounterMetricFamily
        metric = kind(prefix + column.name, column.text, labels=("device",))
        for row in rows[:DEVICES_MAX]:
            if index < len(row):
                metric.add_metric((row[0],), int(row[index]) * column.unit)
        yield metric
