"""Stream: one channel as the tee has it: where bytes come from, where they go, and those in between."""

import mmap
import os
import struct
from typing import Optional

from . import _channels

#: What is read at once, and at most waits to be shown.
BUFFER_BYTES = 128 * 1024
#: At the front of the memory: where those bytes begin and end.
_SPAN = struct.Struct("II")
_SPAN_BYTES = 64


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
        self._memory = mmap.mmap(-1, _SPAN_BYTES + BUFFER_BYTES)
        self._view = memoryview(self._memory)[_SPAN_BYTES:]

    @property
    def open(self) -> bool:
        """Whether more may come."""
        return self.source >= 0

    @property
    def waiting(self) -> memoryview:
        """What was read and not shown yet."""
        start, end = _SPAN.unpack_from(self._memory)
        return self._view[start:end]

    def open_outlet(self) -> None:
        """Get ready to show what comes."""
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
        try:
            size = os.readv(self.source, [self._view])
        except BlockingIOError:
            return None
        except OSError:  # EIO: nobody has the pseudo-terminal's other side any more
            size = 0
        if not size:
            self.close_source()
            return None
        _SPAN.pack_into(self._memory, 0, 0, size)
        return self._view[:size]

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
        start, end = _SPAN.unpack_from(self._memory)
        _SPAN.pack_into(self._memory, 0, start + size, end)

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
