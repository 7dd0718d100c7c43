"""A network namespace joined to this one by a cable (veth) that can be cut, slowed down or made lossy.

Nothing outside of that namespace is configured, but for the other end of the cable. Needs root, ip, nft, tc.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from typing import Self

from tests.support import require

_numbers = itertools.count(1)


class Network:
    """Programs started with `prefix` live inside, at `inside`; they reach us at `outside`."""

    def __init__(self) -> None:
        require.root()
        require.program("ip", "iproute2")
        require.program("nft", "nftables")
        number = next(_numbers)
        token = os.urandom(4).hex()
        self.name = f"tracker-{token}"
        self.outside = f"10.{200 + os.getpid() % 50}.{number}.1"
        self.inside = f"10.{200 + os.getpid() % 50}.{number}.2"
        self._outer, self._inner = f"to-{token}", f"ti-{token}"

    @property
    def prefix(self) -> tuple[str, ...]:
        """What to put before a command that is to run inside."""
        return ("nsenter", f"--net=/run/netns/{self.name}")

    def __enter__(self) -> Self:
        try:
            _run("ip", "netns", "add", self.name)
            _run("ip", "link", "add", self._outer, "type", "veth", "peer", self._inner, "netns", self.name)
            _run("ip", "addr", "add", f"{self.outside}/24", "dev", self._outer)
            _run("ip", "link", "set", self._outer, "up")
            self._inside("ip", "addr", "add", f"{self.inside}/24", "dev", self._inner)
            self._inside("ip", "link", "set", self._inner, "up")
            self._inside("ip", "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            self.__exit__()
            require.absent("network namespaces", error.stderr.decode().strip(), "a machine that has them")
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self._outer], capture_output=True, check=False)

    def cut(self) -> None:
        """Drop every packet, both ways: a partition."""
        self._rule("drop")

    def lose(self, percent: int) -> None:
        """Drop that share of the packets, both ways."""
        self._rule(f"numgen random mod 100 < {percent} drop")

    def reject(self) -> None:
        """Answer every TCP packet with a reset."""
        self._rule("meta l4proto tcp reject with tcp reset")

    def unplug(self) -> None:
        """Take the link down."""
        self._inside("ip", "link", "set", self._inner, "down")

    def slow_down(self, bits_per_s: int) -> None:
        """Let no more than that out."""
        self._inside(
            *("tc", "qdisc", "replace", "dev", self._inner, "root", "tbf"),
            *("rate", f"{bits_per_s}bit", "burst", "16kb", "latency", "400ms"),
        )

    def mend(self) -> None:
        """Undo whatever was done to the cable."""
        self._inside("ip", "link", "set", self._inner, "up")
        for undo in ("nft delete table inet faults", f"tc qdisc del dev {self._inner} root"):
            # Fails where it was not done.
            subprocess.run([*self.prefix, *undo.split()], capture_output=True, check=False)

    def _rule(self, rule: str) -> None:
        script = "table inet faults {}\ndelete table inet faults\ntable inet faults {\n"
        for hook in ("input", "output"):
            script += f"  chain {hook} {{ type filter hook {hook} priority 0; {rule}; }}\n"
        script += "}\n"
        _run(*self.prefix, "nft", "-f", "-", text=script)

    def _inside(self, *command: str) -> None:
        _run(*self.prefix, *command)


def _run(*command: str, text: str = "") -> None:
    subprocess.run(command, input=text.encode(), capture_output=True, check=True, timeout=30)
