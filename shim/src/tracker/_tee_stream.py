"""Stream: one channel as the tee has it: where bytes come from, where they go, and those in between."""

import mmap
import os
import struct
import sys
from typing import Optional

from . import _channels

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: What is read at once, and at most waits to be shown.
BUFFER_BYTES = 128 * 1024
#: At the front of the memory: where those bytes begin and end, and how many are being read behind them.
_SPAN = struct.Struct("III")
_SPAN_BYTES = 64
#: A longer part of a line is not kept back.
_HELD_BYTES_MAX = 32 * 1024
#: Stands at the end of where bytes are being read to: once it is gone, they were read.
_UNREAD = os.urandom(15) + b"\xff"
_FIONREAD = 0x541B


class Stream:
    """Made before the tee's processes part: they share the memory, and so what was read and not yet shown."""

    def __init__(self, number: int, source: int, original: int, terminal: bool) -> None:
        self.number = number
        self.name = _channels.STREAMS[number]
        self.source = source
        self.original = original
        self.terminal = terminal
        self.outlet: Optional[_channels.Outlet] = None
        #: The original could not be written to: what comes is read and not shown.
        self.refused = False
        #: The program has it back.
        self.given_back = False
        #: Bytes at the end that wait for the rest of their line.
        self._held = 0
        self._memory = mmap.mmap(-1, _SPAN_BYTES + BUFFER_BYTES)
        self._view = memoryview(self._memory)[_SPAN_BYTES:]

    @property
    def open(self) -> bool:
        """Whether more may come."""
        return self.source >= 0

    @property
    def waiting(self) -> memoryview:
        """What was read and is to be shown now."""
        start, end, _ = _SPAN.unpack_from(self._memory)
        return self._view[start : end - self._held]

    def open_outlet(self) -> None:
        """Get ready to show what comes, and what a worker had read that was killed."""
        start, end, under_way = _SPAN.unpack_from(self._memory)
        was_read = under_way > 0 and not self._is_unread(end + under_way, under_way)
        _SPAN.pack_into(self._memory, 0, start, end + under_way if was_read else end, 0)
        try:
            self.outlet = None if self.refused else _channels.Outlet(self.original)
        except OSError:
            self.refused = True

    def close_outlet(self) -> None:
        """Undo open_outlet(); the original stays open."""
        outlet, self.outlet = self.outlet, None
        if outlet is not None:
            outlet.close()

    def read(self) -> Optional[memoryview]:
        """Read what there is; None when there is nothing. At the end, close the source."""
        held, self._held = self._held, 0
        if held:
            end = _SPAN.unpack_from(self._memory)[1]
            self._view[:held] = bytes(self._view[end - held : end])
        _SPAN.pack_into(self._memory, 0, 0, held, 0)
        try:
            size = os.readv(self.source, [self._announced(held)])
        except BlockingIOError:
            size = -1
        except OSError:  # EIO: nobody has the pseudo-terminal's other side any more
            size = 0
        _SPAN.pack_into(self._memory, 0, 0, held + max(0, size), 0)
        if size <= 0:
            if not size:
                self.close_source()
            return None
        if held + size == BUFFER_BYTES:
            # Cut by our own limit, most likely within a line: the rest of that comes with the next bytes.
            rest = BUFFER_BYTES - 1 - bytes(self._view).rfind(b"\n")
            self._held = rest if rest <= _HELD_BYTES_MAX else 0
        return self._view[held : held + size]

    def _announced(self, start: int) -> memoryview:
        """Return where to read to, from start on, with a note for whoever comes after this process."""
        size = min(available(self.source), BUFFER_BYTES - start)
        if not size:
            return self._view[start:]
        mark = min(size, len(_UNREAD))
        self._view[start + size - mark : start + size] = _UNREAD[-mark:]
        _SPAN.pack_into(self._memory, 0, 0, start, size)
        return self._view[start : start + size]

    def _is_unread(self, end: int, size: int) -> bool:
        mark = min(size, len(_UNREAD))
        return bytes(self._view[end - mark : end]) == _UNREAD[-mark:]

    def show(self) -> bool:
        """Pass on what waits, as far as it goes now. False: it will not go any more, from this moment on."""
        while True:
            waiting = self.waiting
            if not waiting:
                return True
            if self.outlet is None:
                self._shown(len(waiting))
                return True
            try:
                written = self.outlet.write(waiting)
            except OSError:
                self.refused = True
                self.close_outlet()
                self._shown(len(waiting))
                return False
            if not written:
                return True
            self._shown(written)

    def _shown(self, size: int) -> None:
        start, end, _ = _SPAN.unpack_from(self._memory)
        _SPAN.pack_into(self._memory, 0, start + size, end, 0)

    def close_source(self) -> None:
        """Read no more."""
        source, self.source = self.source, -1
        if source >= 0:
            os.close(source)

    def forget(self) -> None:
        """Leave the rest, what waits too, to another process."""
        self.close_source()
        self._memory = mmap.mmap(-1, _SPAN_BYTES)
        self._view = memoryview(self._memory)[_SPAN_BYTES:]

    def window_changed(self) -> bool:
        """Give the pseudo-terminal the size that the terminal has; return whether that was another one."""
        size = _channels.window_size(self.original)
        if size is None or size == _channels.window_size(self.source):
            return False
        return _channels.copy_window_size(self.original, self.source)


def available(fd: int) -> int:
    """Return how many bytes there are to read; 0 too where the kernel does not tell."""
    try:
        return int.from_bytes(fcntl.ioctl(fd, _FIONREAD, bytes(4)), sys.byteorder)
    except OSError:
        return 0
