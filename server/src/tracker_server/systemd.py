"""The one door to systemd: readiness, status line, watchdog, and entries with fields for journald.

Uses systemd-python where it is installed (the extra `systemd`, or the distribution's package), else sends the
same datagram itself; outside systemd nothing happens.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Mapping, Sequence

#: Part of the watchdog's time after which it is fed; systemd recommends half or less.
_WATCHDOG_PART = 1 / 3
_JOURNAL = "/run/systemd/journal/socket"
_LOOK_AGAIN_MS = 1000


class Systemd:
    """What the service manager is told. Every method returns at once and never raises."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._send = _library_send(self._address) or self._send_datagram
        #: How often the watchdog wants to be fed; None where there is none.
        self.watchdog_interval_s = _watchdog_interval_s(environment)

    def ready(self, status: str) -> None:
        """Say that requests are served; `status` is shown in `systemctl status`."""
        self._notify(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """Say that the server is on its way out."""
        self._notify("STOPPING=1\nSTATUS=finishing the requests in flight")

    def feed_watchdog(self) -> None:
        """Say that everything still turns."""
        self._notify("WATCHDOG=1")

    def _notify(self, message: str) -> None:
        if self._address:
            try:
                self._send(message)
            except OSError:
                # The service manager restarts or is gone. It learns of us again with the next message.
                pass

    def _send_datagram(self, message: str) -> None:
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto(message.encode(), address)


def journal_reads(fd: int, environment: Mapping[str, str]) -> bool:
    """Return whether a descriptor leads to journald."""
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def journal_send() -> Callable[[Sequence[bytes]], None] | None:
    """Return what hands journald an entry, b"NAME=value" for each field; None without systemd-python.

    It waits as long as journald does not read. Raises OSError.
    """
    try:
        from systemd import journal  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None

    def send(fields: Sequence[bytes]) -> None:
        while not _has_room(_JOURNAL, _LOOK_AGAIN_MS):
            pass  # it may have been started anew
        journal.sendv(*fields)

    return send


def _has_room(address: str, wait_ms: int) -> bool:
    """Return whether a socket takes a message, after a while at the latest. Raise OSError where none is.

    The library would wait, too, but with the interpreter's lock held: nothing in the process would move.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        probe.connect("\0" + address[1:] if address.startswith("@") else address)
        room = select.poll()
        room.register(probe, select.POLLOUT)
        return bool(room.poll(wait_ms))


def _library_send(address: str) -> Callable[[str], None] | None:
    try:
        from systemd import daemon  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None

    def send(message: str) -> None:
        if _has_room(address, 0):
            daemon.notify(message)

    return send


def _watchdog_interval_s(environment: Mapping[str, str]) -> float | None:
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        whole_us = int(environment.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return whole_us / 1e6 * _WATCHDOG_PART if whole_us > 0 else None
