"""Which machine and which boot this is."""

import hashlib
import os
import socket


def boot_id() -> str:
    """Return the kernel's random id of this boot, or "" where there is none. Containers share it."""
    return _read("/proc/sys/kernel/random/boot_id")


def machine_id() -> str:
    """Return a stable id of this machine: 32 hex digits derived from /etc/machine-id.

    systemd asks that the id itself not be given to others; a hash of it may be. Where the file
    is missing the host name stands in.
    """
    source = _read("/etc/machine-id") or "host:" + socket.gethostname()
    return hashlib.sha256(b"tracker machine\0" + source.encode("utf-8", "replace")).hexdigest()[:32]


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        return os.read(fd, 256).decode("ascii", "replace").strip()
    finally:
        os.close(fd)
