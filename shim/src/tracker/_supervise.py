"""`tracker run -- CMD`: starts any program as a run, records its console and its exit code or last signal.

The supervisor waits for the program, hands signals on and ends as it ends. The console goes through a tee in
processes of its own (_tee.py): the program goes on, and its output, when the supervisor is killed.
"""

import argparse
import os
import select
import signal
import socket
import struct
import sys
import time
from typing import Any, Dict, List, NoReturn, Optional, Sequence, Set, Tuple

from . import _channels, _session
from ._channels import Channel
from ._commands import printing
from ._helper_client import started_at
from ._tee import CLOSE, DRAIN, GIVEN_BACK, Tee
from .protocol.header import HELPER, SUPERVISOR
from .protocol.writer import _out_of_the_way

#: What is sent to the supervisor alone is handed on to the program.
HANDED_ON = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM", "TSTP", "CONT", "WINCH")
#: What is sent to a whole group or job comes to the guard, too, within so long.
SAME_S = 0.05
_SAME_S_MAX = 0.5
#: What the guard says of a signal: its number, and when it came.
_NOTED = struct.Struct("=Bd")
#: Output that is still on its way when the program has ended is waited for so long.
DRAIN_S = 10.0
_MORE = """\
examples:
  tracker run --project digits -- ./train --lr 0.1
  tracker run --name nightly -- bash -c 'make data && make train'

exit status: the program's; a signal that ended it ends this, too.
126: it cannot be started, 127: it is not there.
"""
_OPTIONS = (
    ("project", "project of the run"),
    ("name", "name of the run; a random one by default"),
    ("id", "id of the run, to add to one that exists"),
    ("entity", "user or team that the run belongs to"),
    ("group", "group of runs that it is one of"),
    ("job-type", "what it does in the group, such as train or eval"),
    ("notes", "a text about the run"),
    ("tags", "tags, separated by commas"),
    ("dir", "spool to record in"),
    ("mode", "online, offline, or disabled: run the program and nothing else"),
)
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_FROM_KERNEL = 0x80  # si_code of what a terminal sends


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    parser = printing.parser(
        "run",
        "Run a program; record its console and how it ends. tracker.init() in it joins the run.",
        _MORE,
        "tracker run [options] [--] COMMAND [ARGUMENT ...]",
    )
    for name, text in _OPTIONS:
        parser.add_argument("--" + name, help=text)
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = vars(parser.parse_args(argv))
    command = options.pop("command")
    command = command[1:] if command[:1] == ["--"] else command
    if not command:
        parser.error("which command? tracker run [options] -- COMMAND")
    tags = options.pop("tags")
    arguments = dict(options, tags=tags.split(",") if tags else None)
    if os.name != "posix" or not hasattr(signal, "sigwaitinfo"):
        parser.error("this needs Linux")
    wanted = os.environ.get("TRACKER_CONSOLE", "auto") != "off"
    run = _session.init(settings={"console": "off", "role": SUPERVISOR}, **arguments)
    if run.disabled:
        _execute(command, dict(os.environ))
    return Supervisor(run, command, wanted).run()


class Supervisor:
    """One program, and what is done around it."""

    def __init__(self, run: Any, command: List[str], console: bool) -> None:
        self._run = run
        self._command = command
        self._mask = {getattr(signal, "SIG" + name) for name in HANDED_ON}
        self._channels: List[Channel] = []
        if console:
            try:
                self._channels = _channels.open_channels()
            except OSError as error:
                run.terminal.warn("console", "the console is not recorded: %s" % error)
        self._tee: Optional[Tee] = None
        self._control = -1
        self._their_control = -1
        self._notice = -1
        #: Signals that the guard got as well.
        self._shared, self._their_shared = map(_out_of_the_way, os.pipe())
        self._seen: List[Tuple[int, float]] = []

    def run(self) -> int:
        """Start the program, wait for it and end as it ended."""
        awaited = self._mask | {signal.SIGCHLD, signal.SIGURG}
        # From here on they are taken one by one. (A signal that is ignored, as under nohup, stays so.)
        former = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
        pid = os.fork()
        if not pid:
            self._become_the_program(former)
        if self._channels:
            self._begin_tee(pid)
        for channel in self._channels:
            channel.close_sink()
        status = self._wait(pid, awaited)
        self._drain()
        code, number = _told(status)
        if number:
            self._run._end_facts = {"signal": number, "pid": pid}  # noqa: SLF001 - as runs do that were stopped
        self._run.finish(code)
        if number:
            _die_of(number)
        return code

    def _become_the_program(self, mask: Any) -> NoReturn:
        try:
            for channel in self._channels:
                os.dup2(channel.sink, channel.number)
            # Python's own doing, which a program does not expect.
            for name in ("SIGPIPE", "SIGXFSZ"):
                signal.signal(getattr(signal, name), signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            _execute(self._command, self._environment())
        finally:
            os._exit(_NOT_EXECUTABLE)

    def _environment(self) -> Dict[str, str]:
        """Return what makes tracker.init() in the program join this run, without a tee of its own."""
        run = self._run
        found = {
            "TRACKER_SUPERVISED": run.id,
            "TRACKER_RUN_ID": run.id,
            "TRACKER_DIR": run.place.root,
            "TRACKER_PROJECT": run.project,
            "TRACKER_ENTITY": run.entity or "",
            "TRACKER_NAME": run.name,
            "TRACKER_CONSOLE": "off",
        }
        if run.offline:
            found["TRACKER_MODE"] = "offline"
        return dict(os.environ, **found)

    # The tee

    def _begin_tee(self, pid: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._control, self._their_control = map(_out_of_the_way, (ours.detach(), theirs.detach()))
        os.set_blocking(self._control, False)
        os.set_blocking(self._their_control, False)
        self._start_tee(pid)

    def _start_tee(self, pid: int) -> None:
        """Start the tee; a second time where all of its processes were killed."""
        if self._notice >= 0:
            os.close(self._notice)
        self._notice, notice = map(_out_of_the_way, os.pipe())
        os.set_blocking(self._notice, False)
        _channels.signal_when_readable(self._notice)
        if self._tee is None:
            descriptors = {"control": self._their_control, "notice": notice}
            for channel in self._channels:
                descriptors["source%d" % channel.number] = channel.source
                descriptors["original%d" % channel.number] = channel.original
            fields = {"project": self._run.project}
            if self._run.entity:
                fields["entity"] = self._run.entity
            spec = {
                "descriptors": descriptors,
                "streams": [[channel.number, channel.terminal] for channel in self._channels],
                "fields": fields,
                "pid": pid,
                "started": started_at(pid),
            }
            # Made here, so that its memory is that of all its processes.
            self._tee = Tee(spec, self._run.place._replace(role=HELPER))
        self._tee.notice = notice
        if os.fork():
            os.close(notice)
            return
        try:
            self._be_the_guard(self._tee)
        finally:
            os._exit(0)

    def _be_the_guard(self, tee: Tee) -> None:
        """Guard the tee, in the group of the supervisor: what the group is sent, comes here, too."""
        for fd in [self._control, self._notice, self._shared]:
            os.close(fd)
        for channel in self._channels:
            channel.close_sink()
        self._run._recorder.forget()  # noqa: SLF001 - the supervisor's stream is not this one's
        shared = self._their_shared
        os.set_blocking(shared, False)

        def note(number: int, frame: Any) -> None:  # noqa: ARG001 - what signal handlers get
            try:
                os.write(shared, _NOTED.pack(number, time.monotonic()))
            except OSError:
                pass

        for number in self._mask:
            signal.signal(number, note)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        tee.guard()

    def _look(self, pid: int) -> None:
        """See what the tee has to say, or that it is gone."""
        try:
            told = os.read(self._notice, 64)
        except OSError:
            return
        if not told and not all(channel.is_over() for channel in self._channels):
            self._start_tee(pid)
        for channel in self._channels:
            if GIVEN_BACK[channel.number] in told and self._tee is not None:
                # Nobody reads what the program writes there: it is to learn that.
                self._tee.goes_on(CLOSE | channel.number)
                self._ask(GIVEN_BACK[channel.number])

    def _ask(self, request: bytes) -> None:
        control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=self._control)
        try:
            control.send(request, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            pass
        finally:
            control.detach()

    def _drain(self) -> None:
        """Wait until all that the program wrote is shown: a prompt must not come before its last line."""
        if self._control < 0:
            return
        self._ask(DRAIN)
        deadline = time.monotonic() + DRAIN_S
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._notice, select.POLLIN)
        while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            # Without another word it is gone, since nobody can write to the channels any more.
            if DRAIN in _read(self._control, DRAIN) or not _read(self._notice, b""):
                return

    # The program

    def _wait(self, pid: int, awaited: Set[Any]) -> int:
        """Return the wait status of the program."""
        while True:
            # Looked at first: a signal that was pending twice is delivered once.
            status = self._reap(pid)
            if status is not None:
                return status
            told = signal.sigwaitinfo(awaited)
            number = told.si_signo
            if number == signal.SIGURG:
                self._look(pid)
            elif number != signal.SIGCHLD:
                from_terminal = told.si_code == _FROM_KERNEL
                if not (self._guard_got(number) or from_terminal):
                    self._send(pid, number)
                if number == signal.SIGTSTP:
                    os.kill(os.getpid(), signal.SIGSTOP)

    def _reap(self, pid: int) -> Optional[int]:
        found = None
        while True:
            try:
                ended, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:  # there are no more
                ended = 0
            if not ended:
                return found
            if ended == pid:
                found = status

    def _send(self, pid: int, number: int) -> None:
        try:
            os.kill(pid, number)
        except OSError:  # it has just ended
            pass

    def _guard_got(self, number: int) -> bool:
        """Return whether a signal was sent to all of the group or job: then the program has it already."""
        if self._tee is None:
            return False
        now = time.monotonic()
        poll = select.poll()
        poll.register(self._shared, select.POLLIN)
        while True:
            # Only of late: an older one belongs to a signal that was dealt with.
            self._seen = [(seen, at) for seen, at in self._seen if at > now - _SAME_S_MAX]
            for noted in self._seen:
                if noted[0] == number:
                    self._seen.remove(noted)
                    return True
            if not poll.poll(max(0.0, now + SAME_S - time.monotonic()) * 1000):
                return False
            data = os.read(self._shared, _NOTED.size * 64)
            if not data:  # the guard is gone
                return False
            self._seen += _NOTED.iter_unpack(data[: len(data) // _NOTED.size * _NOTED.size])


def _read(fd: int, otherwise: bytes) -> bytes:
    """Return what there is to read, or that there is nothing yet; `otherwise` where there never will be."""
    try:
        return os.read(fd, 64) or otherwise
    except BlockingIOError:
        return b"-"
    except OSError:
        return otherwise


def _told(status: int) -> Tuple[int, int]:
    """Return the exit code as shells tell it, and the signal that ended a program, 0 where none did."""
    if os.WIFSIGNALED(status):
        return 128 + os.WTERMSIG(status), os.WTERMSIG(status)
    return os.WEXITSTATUS(status), 0


def _execute(command: List[str], environ: Dict[str, str]) -> NoReturn:
    """Become a program; end as a shell does where that cannot be."""
    try:
        os.execvpe(command[0], command, environ)  # noqa: S606 - what the user asked for
    except OSError as error:
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        text = "tracker run: %s: %s\n" % (command[0], error.strerror)
        os.write(2, text.encode("utf-8", "surrogateescape"))
        os._exit(_NOT_FOUND if missing else _NOT_EXECUTABLE)


def _die_of(number: int) -> NoReturn:
    """End by a signal, so that whoever waits sees the same as without a supervisor."""
    import resource

    sys.stdout.flush()
    try:
        # The program left its core, if it was to.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        signal.signal(number, signal.SIG_DFL)
    except (OSError, ValueError):  # SIGKILL has no handler
        pass
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    os._exit(128 + number)
