"""What this machine is: the inventory of its HOST record, read from the kernel's files.

Read at the start and every five minutes (collectors/inventory.py); collectors add what they alone know, such
as GPUs and file systems. What is not to be had is left out. Serial numbers and MAC addresses stay here.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from typing import Any

from .collectors.kernel import Kernel
from .inventory_devices import read_disks, read_infiniband, read_nics
from .machine_site import read_cloud, read_container, read_kubernetes, read_slurm, read_virtualization
from .own_stream import Identity

#: Models of ARM's server cores, whose /proc/cpuinfo has numbers only: (implementer, part).
_ARM_CORES = {
    ("0x41", "0xd0c"): "ARM Neoverse N1",
    ("0x41", "0xd40"): "ARM Neoverse V1",
    ("0x41", "0xd49"): "ARM Neoverse N2",
    ("0x41", "0xd4f"): "ARM Neoverse V2",
    ("0xc0", "0xac3"): "Ampere-1",
    ("0xc0", "0xac4"): "Ampere-1a",
}
_LIMITS = {"Max open files": "open_files", "Max locked memory": "locked_memory_bytes"}


def read_inventory(
    identity: Identity, kernel: Kernel | None = None, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return facts about the machine that change with a plug, a reboot or an upgrade."""
    kernel, environment = kernel or Kernel(), environment or {}
    memory = kernel.table("proc/meminfo")
    processor = _first_processor(kernel)
    facts = {
        "host": identity.host,
        "agent": identity.version,
        "boot": identity.boot,
        "booted": _booted(kernel),
        "os": _os_name(kernel),
        "kernel": kernel.word("proc/sys/kernel/osrelease") or platform.release(),
        "architecture": kernel.word("proc/sys/kernel/arch") or platform.machine(),
        "cpu": _processors(kernel, processor),
        "memory_bytes": _bytes(memory.get("MemTotal")),
        "swap_bytes": _bytes(memory.get("SwapTotal")),
        "nics": read_nics(kernel),
        "infiniband": read_infiniband(kernel),
        "disks": read_disks(kernel),
        "virtualization": read_virtualization(kernel, processor.get("flags", "")),
        "container": read_container(kernel, environment),
        "cloud": read_cloud(kernel),
        "slurm": read_slurm(kernel, identity.host),
        "kubernetes": read_kubernetes(kernel, identity.host, environment),
        "limits": _limits(kernel),
    }
    return {name: value for name, value in facts.items() if value not in (None, {}, [])}


def _booted(kernel: Kernel) -> int | None:
    """Return when the machine started, in ns since 1970."""
    seconds = kernel.table("proc/stat").get("btime")
    return None if seconds is None else seconds * 1_000_000_000


def _bytes(kib: int | None) -> int | None:
    return None if kib is None else kib * 1024


def _os_name(kernel: Kernel) -> str | None:
    for file in ("etc/os-release", "usr/lib/os-release"):
        for line in kernel.lines(file):
            name, _, value = line.partition("=")
            if name.strip() == "PRETTY_NAME":
                return value.strip().strip("\"'") or None
    return None


def _processors(kernel: Kernel, first: Mapping[str, str]) -> dict[str, Any]:
    """Return model, sockets, cores and threads."""
    base = "sys/devices/system/cpu"
    online = [name for name in kernel.names(base) if re.fullmatch(r"cpu\d+", name)]
    # A core that is off has no topology.
    siblings = [
        kernel.word(f"{base}/{name}/topology/core_cpus_list")
        or kernel.word(f"{base}/{name}/topology/thread_siblings_list")
        for name in online
    ]
    packages = {kernel.number(f"{base}/{name}/topology/physical_package_id") for name in online}
    threads = sum(each is not None for each in siblings) or sum(
        line.startswith("cpu") and line[3:4].isdigit() for line in kernel.lines("proc/stat")
    )
    facts = {
        "model": _model(first),
        # Virtual machines on ARM say -1.
        "sockets": len({each for each in packages if each is not None and each >= 0}) or None,
        "cores": len({each for each in siblings if each is not None}) or None,
        "threads": threads or None,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _first_processor(kernel: Kernel) -> dict[str, str]:
    """Return what /proc/cpuinfo says of the first one: on a large machine all of it takes the kernel long."""
    facts: dict[str, str] = {}
    try:
        with open(kernel.path("proc/cpuinfo"), encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if not name.strip() and facts:
                    break
                facts[name.strip()] = value.strip()
    except OSError:
        return {}
    return facts


def _model(first: Mapping[str, str]) -> str | None:
    for name in ("model name", "Model", "cpu model", "Processor"):
        if first.get(name):
            return first[name]
    return _ARM_CORES.get((first.get("CPU implementer", ""), first.get("CPU part", "")))


def _limits(kernel: Kernel) -> dict[str, Any]:
    """Return what bounds trainings: settings of the kernel, and the limits the agent itself was given."""
    huge = re.search(r"\[(\w+)\]", kernel.text("sys/kernel/mm/transparent_hugepage/enabled") or "")
    facts: dict[str, Any] = {
        "transparent_hugepages": huge and huge[1],
        "cpufreq_governor": kernel.word("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "inotify_watches": kernel.number("proc/sys/fs/inotify/max_user_watches"),
        "pids": kernel.number("proc/sys/kernel/pid_max"),
    }
    for line in kernel.lines("proc/self/limits"):
        for title, name in _LIMITS.items():
            if line.startswith(title):
                soft = line.removeprefix(title).split()[0]
                facts[f"agent_{name}"] = int(soft) if soft.isdigit() else soft
    return {name: value for name, value in facts.items() if value is not None}
