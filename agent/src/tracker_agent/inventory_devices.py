"""Network cards, InfiniBand adapters and disks of the inventory: names, models, speeds, sizes, no serials."""

from __future__ import annotations

import re
from typing import Any

from .collectors.kernel import Kernel

#: A host may have hundreds of virtual functions and multipath disks; these many are listed.
DEVICES_MAX = 64
SECTOR_BYTES = 512


def read_nics(kernel: Kernel) -> list[dict[str, Any]]:
    """Return the cards that are devices, not bridges, tunnels and ends of containers."""
    found = []
    for name in sorted(kernel.names("sys/class/net"), key=_natural):
        base = f"sys/class/net/{name}"
        if kernel.link(f"{base}/device") is None and not kernel.names(f"{base}/device"):
            continue
        found.append(
            _known(
                name=name,
                driver=_target(kernel, f"{base}/device/driver"),
                # Not to be had, or -1, while there is no cable.
                mbit_per_s=_positive(_speed(kernel, f"{base}/speed")),
                mtu=kernel.number(f"{base}/mtu"),
            )
        )
    return found[:DEVICES_MAX]


def read_infiniband(kernel: Kernel) -> list[dict[str, Any]]:
    """Return the adapters and the rates of their ports."""
    found = []
    for name in sorted(kernel.names("sys/class/infiniband"), key=_natural):
        base = f"sys/class/infiniband/{name}"
        ports = sorted(kernel.names(f"{base}/ports"), key=_natural)
        found.append(
            _known(
                name=name,
                model=kernel.word(f"{base}/hca_type"),
                firmware=kernel.word(f"{base}/fw_ver"),
                board=kernel.word(f"{base}/board_id"),
                link_layer=kernel.word(f"{base}/ports/{ports[0]}/link_layer") if ports else None,
                rate=kernel.word(f"{base}/ports/{ports[0]}/rate") if ports else None,
                ports=len(ports) or None,
            )
        )
    return found[:DEVICES_MAX]


def read_disks(kernel: Kernel) -> list[dict[str, Any]]:
    """Return whole disks with something in them."""
    found = []
    for name in sorted(kernel.names("sys/block"), key=_natural):
        base = f"sys/block/{name}"
        sectors = kernel.number(f"{base}/size")
        if not sectors or (kernel.link(f"{base}/device") is None and not kernel.names(f"{base}/device")):
            continue
        rotational = kernel.number(f"{base}/queue/rotational")
        found.append(
            _known(
                name=name,
                model=kernel.word(f"{base}/device/model"),
                bytes=sectors * SECTOR_BYTES,
                rotational=None if rotational is None else bool(rotational),
            )
        )
    return found[:DEVICES_MAX]


def _known(**facts: Any) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}


def _speed(kernel: Kernel, name: str) -> int | None:
    try:
        return kernel.number(name)
    except OSError:
        # Drivers refuse it in ways of their own.
        return None


def _positive(number: int | None) -> int | None:
    return number if number and number > 0 else None


def _target(kernel: Kernel, name: str) -> str | None:
    target = kernel.link(name)
    return target.rpartition("/")[2] or None if target else None


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort eth2 before eth10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name) if part]
