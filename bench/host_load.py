"""A load of known size on the machine: processors, memory, disk, loopback network, short-lived processes.

It leaves something idle on two cores, and each part is steady over a second, so that what measures it at
slightly different moments sees the same.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_MIB = 2**20
#: Every part does its work in slices of this length.
SLICE_S = 0.1
DISK_BYTES = 256 * _MIB
DISK_BYTES_PER_S = 24 * _MIB
NETWORK_BYTES_PER_S = 40 * _MIB
MEMORY_BYTES = 192 * _MIB
PROCESSES_PER_S = 20


@contextmanager
def load(directory: Path) -> Iterator[None]:
    """Load the machine meanwhile. The directory must be on a disk, not in memory."""
    command = (
        "import sys; from pathlib import Path; from bench.host_load import work; work(Path(sys.argv[1]))"
    )
    process = subprocess.Popen([sys.executable, "-c", command, str(directory)], start_new_session=True)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def work(directory: Path) -> None:
    """Run every part in a process of its own, until killed."""
    for part in (_user, _system, _memory, lambda: _disk(directory / "load"), _network, _processes):
        if os.fork() == 0:
            try:
                part()
            finally:
                os._exit(1)
    while True:
        os.wait()


def _slices(do: Callable[[], object]) -> None:
    due = time.monotonic()
    while True:
        do()
        due = max(due + SLICE_S, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


def _spend(share: float, step: Callable[[], object]) -> None:
    """Spend a share of a core."""

    def one_slice() -> None:
        until = time.process_time() + share * SLICE_S
        while time.process_time() < until:
            step()

    _slices(one_slice)


def _user() -> None:
    _spend(0.6, lambda: sum(range(2000)))


def _system() -> None:
    _spend(0.2, lambda: os.getrandom(65536))


def _memory() -> None:
    kept = mmap.mmap(-1, MEMORY_BYTES)
    for at in range(0, MEMORY_BYTES, mmap.PAGESIZE):
        kept[at] = 1

    def faults() -> None:
        with mmap.mmap(-1, 4 * _MIB) as fresh:
            for at in range(0, 4 * _MIB, mmap.PAGESIZE):
                fresh[at] = 1

    _slices(faults)


def _disk(path: Path) -> None:
    """Write through to the disk, and read again what no cache holds any more."""
    piece = os.urandom(int(DISK_BYTES_PER_S * SLICE_S))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    at = 0

    def one_slice() -> None:
        nonlocal at
        os.pwrite(descriptor, piece, at)
        os.fdatasync(descriptor)
        os.posix_fadvise(descriptor, at, len(piece), os.POSIX_FADV_DONTNEED)
        os.pread(descriptor, len(piece) // 2, at)
        at = (at + len(piece)) % DISK_BYTES

    _slices(one_slice)


def _network() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    sender = socket.create_connection(listener.getsockname())
    receiver, _ = listener.accept()
    piece = bytes(int(NETWORK_BYTES_PER_S * SLICE_S))
    threading.Thread(target=lambda: _slices(lambda: sender.sendall(piece)), daemon=True).start()
    while receiver.recv(_MIB):
        pass


def _processes() -> None:
    def one_slice() -> None:
        for _ in range(int(PROCESSES_PER_S * SLICE_S)):
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)

    _slices(one_slice)
