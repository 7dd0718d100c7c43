"""Which network interfaces there are, and which of them carry what leaves the machine: by what sysfs says.

A packet passes several interfaces (container, bridge, VLAN, bond, card); it counts where it leaves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from .kernel import Kernel

_LOOPBACK = 772  # ARPHRD_LOOPBACK
INFINIBAND = 32  # ARPHRD_INFINIBAND


class Interfaces(NamedTuple):
    """Names of interfaces. Those in neither are loopback, or lead to containers and virtual machines."""

    #: They count in the totals.
    counted: tuple[str, ...]
    #: What they carry counts in those below them: bonds, VLANs, bridges to the outside.
    stacked: tuple[str, ...]


def find_interfaces(kernel: Kernel, names: Collection[str]) -> Interfaces:
    """Sort out the interfaces of those names."""
    entries = {name: frozenset(kernel.names(f"sys/class/net/{name}")) for name in names}
    if not any(entries.values()):
        # No sysfs, as in some sandboxes: these have no bridges either.
        return Interfaces(tuple(sorted(set(names) - {"lo"})), ())
    there = {name: each for name, each in entries.items() if each and not _is_loopback(kernel, name, each)}
    counted = _counted(kernel, there)
    return Interfaces(tuple(sorted(counted)), tuple(sorted(_stacked(there, counted))))


def _counted(kernel: Kernel, entries: Mapping[str, Collection[str]]) -> set[str]:
    """Return the cards; where there are none, as in a container, what leads out of it."""
    cards = {name for name, each in entries.items() if "device" in each}
    if cards:
        # The card of a virtual machine on Azure is two: hv_netvsc counts for the VF below it, its master.
        return {name for name in cards if _master(kernel, name) not in cards}
    single = {
        name
        for name, each in entries.items()
        if "master" not in each and not any(entry.startswith("lower_") for entry in each)
    }
    linked = {name for name in single if _other_end(kernel, name)}
    # veth and macvlan; else the user's own network of a container without root (slirp4netns, pasta).
    return linked or {name for name in single if "tun_flags" in entries[name]}


def _is_loopback(kernel: Kernel, name: str, entries: Collection[str]) -> bool:
    return "device" not in entries and kernel.number(f"sys/class/net/{name}/type") == _LOOPBACK


def _master(kernel: Kernel, name: str) -> str:
    return (kernel.link(f"sys/class/net/{name}/master") or "").rpartition("/")[2]


def _other_end(kernel: Kernel, name: str) -> bool:
    """Return whether the interface is one end of a pair, or stands on one of another namespace."""
    link, index = (kernel.number(f"sys/class/net/{name}/{which}") for which in ("iflink", "ifindex"))
    return link is not None and link != index


def _stacked(entries: Mapping[str, Collection[str]], counted: Collection[str]) -> set[str]:
    """Return what stands on the counted ones, at whatever height."""
    found: set[str] = set()
    while True:
        below = {f"lower_{name}" for name in (*counted, *found)}
        more = {name for name, each in entries.items() if not below.isdisjoint(each)} - found - set(counted)
        if not more:
            return found
        found |= more
