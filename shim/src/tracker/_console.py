"""The console of a training, on its side: what is put in the way of its output, and taken out again.

Descriptors 1 and 2 lead into channels (_channels.py), which processes of their own read (_tee.py). No thread
runs here. Should all of those be killed, a signal that otherwise means nothing (SIGURG) has the main thread
put back what was there before. Where only what Python writes can be had, as in notebooks, see _wrap.py.
"""

import os
import select
import signal
import sys
import threading
import time
import weakref

from . import _channels
from ._channels import Channel, Identity, identity
from .protocol.writer import _out_of_the_way

try:
    import _socket as socket  # all that is needed of socket, which takes 3 ms to import
except ImportError:
    import socket  # type: ignore[no-redef]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

    from ._run import Run

#: The end of a run waits so long at most for its output to be on the screen,
ANSWER_S = 0.25
#: and before that, where a run ends as soon as it began, for what shows it to have started.
START_S = 3.0
#: So many lines of write_logs() go into one record.
_LINES_MAX = 1000
_KILLED = "the processes that record the console were killed"


def prepare(run: "Run", settings: "Any") -> "Optional[Redirect]":
    """Begin to record the console as the settings ask.

    Return what the helper process has to know of it, None where there is nothing for it to do.
    """
    way = choose(settings.console)
    if way == "redirect" and not can_redirect():
        if settings.console == "redirect":
            run.terminal.warn(
                "console",
                "console=redirect needs Linux, init() in the main thread and a free SIGURG: "
                "only what Python writes is recorded",
            )
        way = "wrap"
    if way == "redirect":
        try:
            return Redirect(run)
        except OSError as error:
            run.terminal.warn("console", "only what Python writes is recorded: %s" % error)
            way = "wrap"
    if way == "wrap":
        _wrap(run)
    return None


def choose(asked: str) -> str:
    """Return "redirect", "wrap" or "off" for a setting: "auto" goes by where this runs."""
    if asked != "auto":
        return asked
    # A notebook sends what Python writes elsewhere; at a prompt, line editing needs the real terminal.
    notebook = type(sys.stdout).__module__.split(".")[0] == "ipykernel"
    interactive = hasattr(sys, "ps1") or bool(sys.flags.interactive)
    return "wrap" if notebook or interactive else "redirect"


def can_redirect() -> bool:
    """Return whether channels can be put in the way, and taken out again, in this process."""
    return (
        sys.platform.startswith("linux")
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGURG) in (signal.SIG_DFL, signal.SIG_IGN)
        and any(identity(number) is not None for number in _channels.STREAMS)
    )


def write_logs(run: "Run", text: "Any") -> None:
    """Record text as lines of the run's console, without showing it."""
    from ._console_lines import Lines
    from ._console_log import encoded
    from .protocol.bodies import Console
    from .protocol.kinds import CONSOLE

    lines = Lines()
    found = lines.feed(encoded(text if isinstance(text, (str, bytes)) else str(text)), 0.0) + lines.flush()
    while found:
        part, found = found[:_LINES_MAX], found[_LINES_MAX:]

        def encode(recorder: "Any", part: "List[str]" = part) -> bytes:
            return Console(recorder.time(), "stdout", part).encode()

        run.record(CONSOLE, encode, "write_logs")


def _wrap(run: "Run") -> None:
    from ._wrap import Wrap

    run.at_end(Wrap(run).end)


class Redirect:
    """The channels of one run, in the process that called init()."""

    def __init__(self, run: "Run") -> None:
        """Make the channels. Raise OSError where that fails; nothing is in anybody's way yet."""
        self._run = run
        self._pid = os.getpid()
        #: The tee has said that it reads.
        self._begun = False
        #: No tee is left.
        self._alone = False
        self._looking = False
        self._due = False
        self._handler: Any = None
        self._former_handler: Any = signal.SIG_DFL
        self._channels = _channels.open_channels()
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            notice, their_notice = os.pipe()
        except OSError:
            for channel in self._channels:
                channel.close()
            raise
        #: Asked of the tee, answered by it.
        self._control = _out_of_the_way(ours.detach())
        self._their_control = _out_of_the_way(theirs.detach())
        #: Readable when the tee gives a stream back, or is gone.
        self._notice = _out_of_the_way(notice)
        self._their_notice = _out_of_the_way(their_notice)
        self._identities: Dict[int, Optional[Identity]] = {
            fd: identity(fd) for fd in (self._control, self._notice)
        }
        for fd in (self._control, self._their_control, self._notice):
            os.set_blocking(fd, False)

    @property
    def spec(self) -> "Dict[str, Any]":
        """What the tee has to know (see Tee)."""
        descriptors = {"control": self._their_control, "notice": self._their_notice}
        for channel in self._channels:
            descriptors["source%d" % channel.number] = channel.source
            descriptors["original%d" % channel.number] = channel.original
        fields = {"project": self._run.project}
        if self._run.entity:
            fields["entity"] = self._run.entity
        return {
            "descriptors": descriptors,
            "streams": [[channel.number, channel.terminal] for channel in self._channels],
            "fields": fields,
        }

    def begin(self, client: "Any") -> None:
        """Put the channels in place, once there is a helper that reads them; without one, undo all."""
        os.close(self._their_control)
        os.close(self._their_notice)
        if client is None:
            self._close()
            _wrap(self._run)
            return
        _flush()
        self._handler = self._on_signal  # kept: a method is a new object at each look
        self._former_handler = signal.signal(signal.SIGURG, self._handler)
        _channels.signal_when_readable(self._notice)
        for channel in self._channels:
            channel.install()
        self._run.at_end(self._end)
        if hasattr(os, "register_at_fork"):
            found = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _forget(found()))
        self._look()  # it may have died before anybody was told

    def _on_signal(self, number: int, frame: "Any") -> None:  # noqa: ARG002 - what signal handlers get
        try:
            if os.getpid() == self._pid:
                self._look()
        except Exception:  # noqa: BLE001, S110 - nothing may leave here: it interrupts any code
            pass

    def _look(self) -> None:
        """See what the tee has to say, or that it is gone. The signal may interrupt this, too."""
        self._due = True
        if self._looking:
            return
        self._looking = True
        try:
            while self._due:
                self._due = False
                self._listen()
        finally:
            self._looking = False

    def _listen(self) -> None:
        while not self._alone:
            try:
                told = os.read(self._notice, 64) if self._is_ours(self._notice) else None
            except BlockingIOError:
                return
            if told is None:
                return
            for channel in self._channels:
                if b"%d" % channel.number in told:
                    # Its reader is gone: the program is to meet that itself, as without us.
                    channel.give_back()
                    channel.close_source()
                    self._ask(b"%d" % channel.number)
            if not told:
                self._alone = True
                # Where a program has put something else in the place of both, there is nothing left to do.
                if not all(channel.is_over() for channel in self._channels):
                    self._say_that_it_is_gone()
        for channel in self._channels:
            self._take_over(channel)

    def _take_over(self, channel: Channel) -> None:
        """Let a descriptor lead where it led, and pass on what lies in its channel, now and as it comes."""
        channel.give_back()
        if not channel.is_ours(channel.source):
            return
        try:
            _channels.signal_when_readable(channel.source)  # children may still write to it
            while True:
                data = os.read(channel.source, 64 * 1024)
                if not data:
                    break
                while data and channel.is_ours(channel.original):
                    data = data[os.write(channel.original, data) :]
        except BlockingIOError:
            return
        except OSError:
            pass
        channel.close_source()

    def _say_that_it_is_gone(self) -> None:
        from .protocol.bodies import Lost
        from .protocol.kinds import LOST

        self._run.record(LOST, lambda recorder: Lost(recorder.time(), 1, _KILLED).encode(), "console")
        self._run.terminal.warn("console", _KILLED + "; from here on it is shown and not recorded")

    def _end(self, code: int) -> None:  # noqa: ARG002 - what at_end() hands over
        """Take the channels out; at the process's end leave them: what comes after Python is recorded."""
        _flush()
        self._look()
        # The last thing the interpreter does before atexit functions is to end the main thread.
        exiting = not threading.main_thread().is_alive()
        if exiting:
            self._ask(b"d")
            self._wait_for_answer()
            return
        for channel in self._channels:
            channel.give_back()
        self._ask(b"f")
        self._wait_for_answer()
        self._close()

    def _ask(self, request: bytes) -> None:
        if self._alone or not self._is_ours(self._control):
            return
        control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=self._control)
        try:
            control.send(request, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:  # it is gone, which a signal says
            pass
        finally:
            control.detach()

    def _wait_for_answer(self) -> None:
        """Wait until what was written is shown: what is written next goes there directly."""
        deadline = time.monotonic() + (ANSWER_S if self._begun else START_S)
        while not self._alone and self._is_ours(self._control):
            poll = select.poll()
            poll.register(self._control, select.POLLIN)
            try:
                if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                    return
                answer = os.read(self._control, 64)
            except BlockingIOError:
                continue
            except OSError:  # poll() too, where the limit on descriptors was set to none
                return
            if b"d" in answer or not answer:  # it is done: nobody could write to the channels any more
                return
            if not self._begun:
                self._begun = True
                deadline = time.monotonic() + ANSWER_S

    def _is_ours(self, fd: int) -> bool:
        return fd >= 0 and identity(fd) == self._identities.get(fd)

    def _close(self) -> None:
        """Let go of everything."""
        for channel in self._channels:
            channel.close()
        for fd in (self._control, self._notice):
            if self._is_ours(fd):
                os.close(fd)
        self._control = self._notice = -1
        if self._handler is not None and threading.current_thread() is threading.main_thread():
            if signal.getsignal(signal.SIGURG) == self._handler:
                signal.signal(signal.SIGURG, self._former_handler)

    def forget(self) -> None:
        """Close in a forked child what would keep others from seeing this process's parent end."""
        if os.getpid() != self._pid:
            self._handler = None
            self._close()


def _forget(redirect: "Optional[Redirect]") -> None:
    if redirect is not None:
        redirect.forget()


def _flush() -> None:
    """Have what Python holds back written, so that it comes before or after, but not between."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001, S110, PERF203 - it may be closed, or anything
            pass
