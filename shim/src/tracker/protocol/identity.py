"""Which machine and which boot this is."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def boot_id() -> str:
    """Return the kernel's random id of this boot, or "" where there is none. Containers share it."""
    return _read("/proc/sys/kernel/random/boot_id")


def machine_id() -> str:
    """Return a stable id of this machine: 32 hex digits derived from /etc/machine-id.

    systemd asks that the id itself not be given to others; a hash of it may be. Where the file
    is missing the host name stands in.
    """
    source = _read("/etc/machine-id") or "host:" + host_name()
    return str(_sha256(b"tracker machine\0" + source.encode("utf-8", "replace")).hexdigest()[:32])


def host_name() -> str:
    """Return what socket.gethostname() does, without loading socket where that is possible: 6 ms."""
    if hasattr(os, "uname"):
        return os.uname().nodename
    import socket

    return socket.gethostname()


def _sha256(data: bytes) -> "Any":
    # hashlib loads OpenSSL for it, 3 ms of every init().
    for name in ("_sha2", "_sha256", "hashlib"):
        try:
            return __import__(name).sha256(data)
        except (ImportError, AttributeError):  # noqa: PERF203 - the next one, where there is another
            continue
    raise ImportError("this Python has no SHA-256")


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        return os.read(fd, 256).decode("ascii", "replace").strip()
    finally:
        os.close(fd)
