"""The figures of one control group, from the files of version 1 or 2.

Version 2: the kernel's admin-guide/cgroup-v2.rst. Version 1: admin-guide/cgroup-v1/{memory,cpuacct,
blkio-controller,pids}.rst and scheduler/sched-bwc.rst.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .cgroup_places import UNIFIED, Membership, Place
from .kernel import Kernel

#: A limit that is none: near the greatest page counter of version 1, in bytes.
NO_LIMIT_BYTES = 1 << 62
_PRESSURES = (("cpu", "some"), ("io", "some"), ("io", "full"), ("memory", "some"), ("memory", "full"))

#: Of all requests (kernel 5.0 and later), or of those that CFQ scheduled.
_SERVICE_BYTES = ("blkio.throttle.io_service_bytes_recursive", "blkio.io_service_bytes_recursive")


class Figures(NamedTuple):
    """What the files say. Counters have the names of metrics, and grow by the metric's value in a second."""

    values: dict[str, float]
    counters: dict[str, float]
    #: (periods, periods in which it was throttled) since the group was made
    periods: tuple[int, int] | None
    #: Processes killed for memory, by directory.
    kills: dict[str, int]


def read_figures(kernel: Kernel, group: Membership, leaves: Iterable[Place] = ()) -> Figures:
    """Return what changes from sample to sample. leaves: where the processes of runs are, for version 1."""
    found = Figures({}, {}, None, {})
    memory = group.place("memory")
    if memory is not None:
        (_memory2 if memory.version == 2 else _memory1)(kernel, memory, found)
        found.kills.update(_kills(kernel, {memory, *leaves}))
        if found.kills:
            found.values["cgroup.memory.oom_kills.count"] = float(sum(found.kills.values()))
    _pids(kernel, group.place("pids"), found)
    _io(kernel, group.place("blkio"), found)
    if UNIFIED in group.places:
        _pressure(kernel, group.places[UNIFIED], found)
    return found._replace(periods=_cpu(kernel, group, found))


def read_limits(kernel: Kernel, group: Membership) -> dict[str, float]:
    """Return what changes seldom. A group may be closer limited by one above it than by itself."""
    values: dict[str, float] = {}
    memory, cpu, pids = group.place("memory"), group.place("cpu"), group.place("pids")
    if memory is not None:
        own, limits = _memory_limits(kernel, memory)
        _put(values, "cgroup.memory.max.bytes", own)
        _put(values, "cgroup.memory.limit.bytes", min(limits, default=None))
    if cpu is not None:
        quotas = [quota for each in cpu.upward() if (quota := _quota(kernel, cpu.version, each)) is not None]
        _put(values, "cgroup.cpu.limit.percent", min(quotas, default=None))
    if pids is not None:
        numbers = [kernel.number(f"{each}/pids.max") for each in pids.upward()]
        _put(
            values,
            "cgroup.pids.limit.count",
            min((each for each in numbers if each is not None), default=None),
        )
    _put(values, "cgroup.cpu.cores.count", _cores(kernel, group.place("cpuset")))
    return values


def _put(values: dict[str, float], name: str, value: float | None) -> None:
    if value is not None:
        values[name] = float(value)


def _memory2(kernel: Kernel, place: Place, found: Figures) -> None:
    at = place.directory
    current = kernel.number(f"{at}/memory.current")
    _put(found.values, "cgroup.memory.current.bytes", current)
    _put(found.values, "cgroup.memory.peak.bytes", kernel.number(f"{at}/memory.peak"))
    _put(found.values, "cgroup.swap.current.bytes", kernel.number(f"{at}/memory.swap.current"))
    _working_set(found, current, kernel.table(f"{at}/memory.stat").get("inactive_file"))
    events = kernel.table(f"{at}/memory.events")
    _put(found.counters, "cgroup.memory.limit_hits.per_s", events.get("max"))
    _put(found.counters, "cgroup.memory.throttled.per_s", events.get("high"))


def _memory1(kernel: Kernel, place: Place, found: Figures) -> None:
    at = place.directory
    current = kernel.number(f"{at}/memory.usage_in_bytes")
    _put(found.values, "cgroup.memory.current.bytes", current)
    _put(found.values, "cgroup.memory.peak.bytes", kernel.number(f"{at}/memory.max_usage_in_bytes"))
    with_swap = kernel.number(f"{at}/memory.memsw.usage_in_bytes")
    if with_swap is not None and current is not None:
        found.values["cgroup.swap.current.bytes"] = float(max(0, with_swap - current))
    _working_set(found, current, kernel.table(f"{at}/memory.stat").get("total_inactive_file"))
    _put(found.counters, "cgroup.memory.limit_hits.per_s", kernel.number(f"{at}/memory.failcnt"))


def _working_set(found: Figures, current: int | None, inactive_file: int | None) -> None:
    if current is not None and inactive_file is not None:
        found.values["cgroup.memory.working_set.bytes"] = float(max(0, current - inactive_file))


def _kills(kernel: Kernel, places: Iterable[Place]) -> dict[str, int]:
    """Return the kills for memory: version 2 counts those of groups below too, version 1 where they were."""
    found = {}
    for place in places:
        directories = (place.directory,) if place.version == 2 else tuple(place.down_to_leaf())
        for directory in directories:
            if directory in found:
                continue
            name = "memory.events" if place.version == 2 else "memory.oom_control"
            count = kernel.table(f"{directory}/{name}").get("oom_kill")
            if count is not None:
                found[directory] = count
    return found


def _memory_limits(kernel: Kernel, place: Place) -> tuple[int | None, list[int]]:
    """Return the limit of the group itself, and those of it and all above it."""
    name = "memory.max" if place.version == 2 else "memory.limit_in_bytes"
    limits = [_limit(kernel.number(f"{directory}/{name}")) for directory in place.upward()]
    own = limits[0]
    if place.version == 1:
        # Also where the groups above are not to be seen from here.
        limits.append(_limit(kernel.table(f"{place.directory}/memory.stat").get("hierarchical_memory_limit")))
    return own, [limit for limit in limits if limit is not None]


def _limit(number: int | None) -> int | None:
    return number if number is not None and number < NO_LIMIT_BYTES else None


def _cpu(kernel: Kernel, group: Membership, found: Figures) -> tuple[int, int] | None:
    """Take in processor time; return periods and throttled periods where there is a quota."""
    used, cpu = group.place("cpuacct"), group.place("cpu")
    if used is not None and used.version == 1:
        nanoseconds = kernel.number(f"{used.directory}/cpuacct.usage")
        if nanoseconds is not None:
            found.counters["cgroup.cpu.percent"] = nanoseconds / 1e7
    if cpu is None:
        return None
    stat = kernel.table(f"{cpu.directory}/cpu.stat")
    if "usage_usec" in stat:
        found.counters["cgroup.cpu.percent"] = stat["usage_usec"] / 1e4
    if "throttled_usec" in stat:
        found.counters["cgroup.cpu.throttled.percent"] = stat["throttled_usec"] / 1e4
    elif "throttled_time" in stat:
        found.counters["cgroup.cpu.throttled.percent"] = stat["throttled_time"] / 1e7
    if "nr_periods" in stat and "nr_throttled" in stat:
        return stat["nr_periods"], stat["nr_throttled"]
    return None


def _quota(kernel: Kernel, version: int, directory: str) -> float | None:
    """Return how much processor time a group may take, as percent of one core."""
    if version == 2:
        quota, _, period = (kernel.word(f"{directory}/cpu.max") or "").partition(" ")
        numbers = [quota, period]
    else:
        files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        numbers = [kernel.word(f"{directory}/{file}") or "" for file in files]
    if not all(number.isdecimal() and int(number) > 0 for number in numbers):
        return None  # "max", or -1
    return 100.0 * int(numbers[0]) / int(numbers[1])


def _cores(kernel: Kernel, place: Place | None) -> int | None:
    if place is None:
        return None
    names = ("cpuset.cpus.effective",) if place.version == 2 else ("cpuset.effective_cpus", "cpuset.cpus")
    for name in names:
        text = kernel.word(f"{place.directory}/{name}")
        if text:
            return count_list(text)
    return None


def count_list(text: str) -> int | None:
    """Return how many numbers a list such as "0-3,8" names. None where it is no such list."""
    count = 0
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            return None
        count += int(last or first) - int(first) + 1
    return count


def _pids(kernel: Kernel, place: Place | None, found: Figures) -> None:
    if place is not None:
        _put(found.values, "cgroup.pids.count", kernel.number(f"{place.directory}/pids.current"))


def _io(kernel: Kernel, place: Place | None, found: Figures) -> None:
    """Take in bytes of all devices, except those that stand on others, which count the same bytes again."""
    if place is None:
        return
    version2 = place.version == 2
    # Of version 1 only what counts groups below too: the processes are in steps and tasks.
    names = ("io.stat",) if version2 else _SERVICE_BYTES
    texts = [kernel.text(f"{place.directory}/{name}") for name in names]
    text = next((each for each in texts if each is not None), None)
    if text is None:
        return
    read = written = 0
    for device, figures in (parse_io_stat(text) if version2 else parse_io_service_bytes(text)).items():
        if not kernel.names(f"sys/dev/block/{device}/slaves"):
            read += figures[0]
            written += figures[1]
    found.counters["cgroup.io.read.bytes_per_s"] = read
    found.counters["cgroup.io.written.bytes_per_s"] = written


def parse_io_stat(text: str) -> dict[str, tuple[int, int]]:
    """Return bytes read and written by device: "8:0 rbytes=1 wbytes=2 rios=…"."""
    found = {}
    for line in text.splitlines():
        device, _, rest = line.partition(" ")
        figures = dict(pair.split("=", 1) for pair in rest.split() if "=" in pair)
        numbers = [figures.get(name, "") for name in ("rbytes", "wbytes")]
        if all(number.isdecimal() for number in numbers):
            found[device] = (int(numbers[0]), int(numbers[1]))
    return found


def parse_io_service_bytes(text: str) -> dict[str, tuple[int, int]]:
    """Return bytes read and written by device: "8:0 Read 1", "8:0 Write 2", …, "Total 3"."""
    found: dict[str, tuple[int, int]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) != 3 or not words[2].isdecimal():
            continue
        read, written = found.get(words[0], (0, 0))
        if words[1] == "Read":
            found[words[0]] = (int(words[2]), written)
        elif words[1] == "Write":
            found[words[0]] = (read, int(words[2]))
    return found


def _pressure(kernel: Kernel, place: Place, found: Figures) -> None:
    for file in dict.fromkeys(file for file, _ in _PRESSURES):
        for line in kernel.lines(f"{place.directory}/{file}.pressure"):
            kind, _, figures = line.partition(" ")
            microseconds = figures.rpartition("total=")[2]
            if (file, kind) in _PRESSURES and microseconds.isdecimal():
                found.counters[f"cgroup.pressure.{file}.{kind}.percent"] = int(microseconds) / 1e4
