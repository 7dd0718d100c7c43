"""Digests of files that have not changed since they were read: a cache, bounded, safe to delete.

A digest is remembered only for a file that had been quiet for a while when it was read, since two changes
within one tick of the clock leave the same time stamps.
"""

from __future__ import annotations

from collections import OrderedDict

import msgpack

from .disk import Disk
from .file_tree import Signature

DIGESTS_MAX = 50_000
#: A file that changed later than this before it was read may have changed once more unseen.
SETTLED_NS = 2_000_000_000
VERSION = 1


class FileDigests:
    """SHA-256 by signature, the least recently used forgotten first."""

    def __init__(self, path: str, disk: Disk, digests_max: int = DIGESTS_MAX) -> None:
        self._path = path
        self._disk = disk
        self._digests_max = digests_max
        self._digests: OrderedDict[Signature, str] = OrderedDict()
        self._changed = False

    def load(self) -> None:
        """Read what an earlier agent remembered. Whatever is wrong with it: nothing was."""
        try:
            version, rows = msgpack.unpackb(self._disk.read_file(self._path))
            if version == VERSION:
                for *numbers, digest in rows[-self._digests_max :]:
                    self._digests[Signature(*(int(number) for number in numbers))] = bytes(digest).hex()
        except (OSError, ValueError, TypeError, msgpack.UnpackException):
            self._digests.clear()

    def save(self) -> None:
        """Write down what is remembered, if there is anything new. Raise OSError."""
        if not self._changed:
            return
        rows = [
            [each.device, each.inode, each.size, each.mtime_ns, each.ctime_ns, bytes.fromhex(digest)]
            for each, digest in self._digests.items()
        ]
        self._disk.replace_file(self._path, msgpack.packb([VERSION, rows]))
        self._changed = False

    def get(self, signature: Signature) -> str | None:
        """Return the digest of a version, if it is remembered."""
        digest = self._digests.get(signature)
        if digest is not None:
            self._digests.move_to_end(signature)
        return digest

    def add(self, signature: Signature, digest: str, wall_ns: int) -> None:
        """Remember the digest of a version that was read at that time, unless it was too fresh."""
        newest = max(signature.mtime_ns, signature.ctime_ns)
        if not 0 <= newest <= wall_ns - SETTLED_NS:
            return
        self._digests[signature] = digest
        self._digests.move_to_end(signature)
        while len(self._digests) > self._digests_max:
            self._digests.popitem(last=False)
        self._changed = True

    def __len__(self) -> int:
        return len(self._digests)
