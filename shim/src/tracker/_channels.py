"""Channels: what is put between a program's descriptors 1 and 2 and where they led before.

A terminal gives way to a pseudo-terminal, so that programs still find a terminal there; everything else to a
pipe, so that a slow reader slows the program down as it always did. Linux only: see _console.py.
"""

import errno
import os
import select
import signal
import stat

from .protocol.writer import _out_of_the_way

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

    Identity = Tuple[int, int, int]
else:
    Identity = tuple


try:
    import fcntl
    import termios
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
    termios = None  # type: ignore[assignment]

STREAMS = {1: "stdout", 2: "stderr"}
#: Room in a pipe: what a program may write before the process that reads it has started.
PIPE_BYTES = 256 * 1024
_F_SETPIPE_SZ = 1031
_WINDOW_BYTES = 8
_OUTPUT_FLAGS, _LOCAL_FLAGS = 1, 3


class Channel:
    """One of a program's descriptors, and the three that it takes to stand in its way.

    All of them are closed by exec; -1 once closed here.
    """

    def __init__(self, number: int, original: int, source: int, sink: int, terminal: bool) -> None:
        self.number = number
        #: Where the descriptor led.
        self.original = original
        #: Where what was written is read; never blocks.
        self.source = source
        #: What takes the descriptor's place.
        self.sink = sink
        self.terminal = terminal
        self._identities: Dict[int, Optional[Identity]] = {
            fd: identity(fd) for fd in (original, source, sink)
        }
        self._sink_identity = self._identities[sink]

    @property
    def stream(self) -> str:
        """What records call it."""
        return STREAMS[self.number]

    def install(self) -> None:
        """Put the sink in the place of the descriptor."""
        os.dup2(self.sink, self.number)
        self.close_sink()

    def is_installed(self) -> bool:
        """Return whether the descriptor leads into this channel: others may have replaced it since."""
        return identity(self.number) == self._sink_identity

    def give_back(self) -> bool:
        """Let the descriptor lead where it led; False where it is no longer ours to change."""
        if not self.is_installed() or not self.is_ours(self.original):
            return False
        try:
            os.dup2(self.original, self.number)
        except OSError:  # the limit on descriptors was set below this number
            return False
        return True

    def is_over(self) -> bool:
        """Return whether nobody can write to it any more, and all that was written is read."""
        if not self.is_ours(self.source):
            return True
        poll = select.poll()
        poll.register(self.source, select.POLLIN)
        return any(not event & select.POLLIN for _, event in poll.poll(0))

    def is_ours(self, fd: int) -> bool:
        """Return whether a descriptor is still what it was: a program may close all that it does not know."""
        return fd >= 0 and identity(fd) == self._identities.get(fd)

    def close_sink(self) -> None:
        """Close the spare copy of the sink."""
        self.sink = self._close(self.sink)

    def close_source(self) -> None:
        """Close the reading side in this process."""
        self.source = self._close(self.source)

    def close(self) -> None:
        """Close all three, those that are still ours."""
        self.close_sink()
        self.close_source()
        self.original = self._close(self.original)

    def _close(self, fd: int) -> int:
        if self.is_ours(fd):
            os.close(fd)
        return -1


def identity(fd: int) -> "Optional[Identity]":
    """Return what tells one open file from another, None where nothing is open."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_rdev)


def open_channels() -> "List[Channel]":
    """Return a channel for each of 1 and 2 that is open. Raise OSError when they cannot be made."""
    found: List[Channel] = []
    try:
        for number in filter(identity, STREAMS):
            found.append(_open_channel(number))  # noqa: PERF401 - to close those made
    except OSError:
        for channel in found:
            channel.close()
        raise
    return found


def _open_channel(number: int) -> Channel:
    terminal = os.isatty(number)
    original = _out_of_the_way(os.dup(number))  # closed by exec, as all that Python makes
    try:
        source, sink = map(_out_of_the_way, _open_pty(original) if terminal else _open_pipe())
    except OSError:
        os.close(original)
        raise
    os.set_blocking(source, False)
    return Channel(number, original, source, sink, terminal)


def _open_pipe() -> "Tuple[int, int]":
    source, sink = os.pipe()
    try:
        fcntl.fcntl(sink, _F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:  # this user has much room in pipes already: the usual size will do
        pass
    return source, sink


def _open_pty(original: int) -> "Tuple[int, int]":
    """Return both sides of a pseudo-terminal like the one given."""
    source, sink = os.openpty()
    try:
        attributes: List[Any] = termios.tcgetattr(original)
        # The real terminal does what there is to do with line ends; here bytes pass unchanged.
        attributes[_OUTPUT_FLAGS] &= ~termios.OPOST
        attributes[_LOCAL_FLAGS] &= ~(termios.ECHO | termios.ECHONL)
        termios.tcsetattr(sink, termios.TCSANOW, attributes)
        copy_window_size(original, sink)
    except (OSError, termios.error) as error:
        os.close(source)
        os.close(sink)
        raise OSError(errno.ENOTTY, "the terminal cannot be copied: %s" % error) from error
    return source, sink


def window_size(terminal: int) -> "Optional[bytes]":
    """Return a terminal's rows and columns as the kernel gives them, None where it gives none."""
    try:
        return fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(_WINDOW_BYTES))
    except OSError:
        return None


def copy_window_size(source: int, target: int) -> bool:
    """Give a terminal the size of another one; return whether that was possible."""
    size = window_size(source)
    if size is None:
        return False
    try:
        fcntl.ioctl(target, termios.TIOCSWINSZ, size)
    except OSError:
        return False
    return True


def signal_when_readable(fd: int) -> None:
    """Have SIGURG sent to this process when there is something to read, or the other side is gone."""
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)


class Outlet:
    """Where a channel leads: written to without ever waiting, where the kernel offers a way.

    The flags of the original must stay as they are (a shell shares them), so pipes and terminals are opened
    a second time.
    """

    #: A pipe takes so much whole or not at all, also when others write to it, and without blocking when it
    #: says that it takes anything.
    _PIPE_BYTES = 4096

    def __init__(self, original: int) -> None:
        self.fd = self._original = original
        self._most: Optional[int] = None
        self._socket: Any = None
        mode = os.fstat(original).st_mode
        if stat.S_ISFIFO(mode):
            self._most = self._PIPE_BYTES
        if stat.S_ISSOCK(mode):
            import socket

            self._socket = socket.socket(fileno=os.dup(original))
        elif stat.S_ISFIFO(mode) or os.isatty(original):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            try:
                self.fd = os.open("/proc/self/fd/%d" % original, flags)
            except OSError:  # another user's terminal, or no /proc
                self._most = self._PIPE_BYTES

    def write(self, data: memoryview) -> int:
        """Write what goes now; return how many bytes that was. Raise OSError when it never will again."""
        try:
            if self._socket is not None:
                import socket

                return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)  # type: ignore[no-any-return]
            return os.write(self.fd, data if self._most is None else self._whole_lines(data))
        except BlockingIOError:
            return 0

    def _whole_lines(self, data: memoryview) -> memoryview:
        """Return what goes at once, up to the end of a line: those of other ranks may come in between."""
        if len(data) <= self._PIPE_BYTES:
            return data
        return data[: bytes(data[: self._PIPE_BYTES]).rfind(b"\n") + 1 or self._PIPE_BYTES]

    def close(self) -> None:
        """Close what was opened here."""
        if self._socket is not None:
            self._socket.close()
        if self.fd != self._original:
            os.close(self.fd)
