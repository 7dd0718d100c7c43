"""What this machine is: the inventory of its HOST record.

It is read once; collectors add what they alone know and what may change (GPUs).
"""

from __future__ import annotations

import os
import platform
from typing import Any

import psutil

from .own_stream import Identity


def read_inventory(identity: Identity) -> dict[str, Any]:
    """Return facts about the machine that change at most with a reboot or an upgrade."""
    memory = psutil.virtual_memory()
    return {
        "host": identity.host,
        "agent": identity.version,
        "boot": identity.boot,
        "booted": int(psutil.boot_time()) * 1_000_000_000,
        "os": _os_name(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu": {
            "model": _cpu_model(),
            "threads": os.cpu_count(),
            "cores": psutil.cpu_count(logical=False),
        },
        "memory_bytes": memory.total,
    }


def _os_name() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None


def _cpu_model() -> str | None:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() in ("model name", "Model", "cpu model", "Processor"):
                    return value.strip()
    except OSError:
        return None
    return None
