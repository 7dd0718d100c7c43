"""The helper process of a run: does for a training what must not cost it time, or must outlive it.

Started by _helper_client as a program of its own, without site. Each task is a module with one entry
function `run(spec, recorder, stop)`. The console has a process to itself, which may fork and shares no lock
with anybody; the other tasks are threads of a second one, which ends when the run is over (the training
said so, or is gone) and all of them have returned.
"""

import importlib
import os
import queue
import select
import signal
import socket
import struct
import threading
import time
from typing import Any, Dict, List, Optional, Tuple

import msgpack

from ._helper_client import DESCRIPTORS_MAX, LENGTH, started_at, unpack_frames
from ._helper_stream import lose
from ._recorder import Recorder, Records
from ._spool import RunPlace
from .protocol.bodies import Run
from .protocol.header import HELPER
from .protocol.kinds import RUN

#: The module of each task.
TASKS = {"console": "_tee", "code": "_code_state", "copies": "_copies"}
#: The training says what there is to do within so long, or there is nothing.
INTRODUCTION_S = 30.0
#: Where the kernel does not tell of the training's end, it is asked for so often.
LOOK_INTERVAL_S = 1.0
#: Tasks that have not returned so long after the run's end are left as they are.
ENDING_S_MAX = 6 * 3600.0
#: No more is taken in while so many messages wait for their task, or so many descriptors with them.
WAITING_MESSAGES_MAX = 1000
WAITING_DESCRIPTORS_MAX = 64
_WAITING_LOOK_S = 0.1
_READ_BYTES = 64 * 1024


class Stop:
    """Tells tasks that the run is over: to do what is left and return."""

    def __init__(self) -> None:
        self._event = threading.Event()
        #: The training went without a word.
        self.vanished = False
        #: The exit code that the training told.
        self.code: Optional[int] = None

    def is_set(self) -> bool:
        """Return whether the run is over."""
        return self._event.is_set()

    def wait(self, timeout_s: Optional[float] = None) -> bool:
        """Wait for the run to be over; return whether it is."""
        return self._event.wait(timeout_s)

    def set(self, vanished: bool = False, code: Optional[int] = None) -> None:
        """Say that the run is over."""
        self.vanished, self.code = vanished, code
        self._event.set()


class Connection:
    """The helper's end of the connection to the training."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=fd)
        self._socket.setblocking(False)
        self._data = b""
        #: Descriptors that came, a list for each message that brings any.
        self._descriptors: List[List[int]] = []
        self.open = True
        #: There was nothing to read at the last look.
        self.idle = False

    def fileno(self) -> int:
        """Return the descriptor, for poll()."""
        return self._socket.fileno()

    def receive(self) -> List[Tuple[str, Any, List[int]]]:
        """Return (task, message, descriptors) of some of what has arrived. Does not wait."""
        self.idle = False
        try:
            data, more, flags, _ = self._socket.recvmsg(
                _READ_BYTES, socket.CMSG_SPACE(struct.calcsize("i") * DESCRIPTORS_MAX)
            )
        except (BlockingIOError, InterruptedError):
            self.idle = True
            return []
        except OSError:
            data, more, flags = b"", [], 0
        self._take(more, bool(flags & socket.MSG_CTRUNC))
        self._data += data
        self.open = bool(data)
        frames, self._data = unpack_frames(self._data)
        found = []
        for task, message, number in frames:
            came = self._descriptors.pop(0) if number and self._descriptors else []
            if len(came) != number:  # the kernel gave not all: none can be told from the others
                _close(came)
                came = []
            found.append((task, message, came))
        return found

    def _take(self, more: List[Any], cut: bool) -> None:
        # What comes with one read belongs to the message that begins there: the kernel never joins two.
        came: List[int] = []
        for level, kind, rights in more:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                number = len(rights) // struct.calcsize("i")
                came += struct.unpack("%di" % number, rights[: number * struct.calcsize("i")])
        if cut:
            _close(came)
            came = []
        if came or cut:
            self._descriptors.append(came)

    def report(self, text: str) -> None:
        """Tell the training of a problem, where it still listens."""
        body = msgpack.packb(text, use_bin_type=True, unicode_errors="surrogatepass")
        try:
            self._socket.send(LENGTH.pack(len(body)) + body, getattr(socket, "MSG_NOSIGNAL", 0))
        except OSError:  # the record of it is what counts
            pass

    def close(self) -> None:
        """Close it, and what came by it for messages that are not whole yet."""
        self._socket.close()
        for came in self._descriptors:
            _close(came)


class Training:
    """The process that the helper works for, told from others that get its pid later."""

    def __init__(self, pid: int, started: str) -> None:
        """started: what started_at() said of it; "" where nobody tells."""
        self._pid = pid
        self._started = started
        self._pidfd = -1
        if hasattr(os, "pidfd_open"):
            try:
                self._pidfd = os.pidfd_open(pid)
            except OSError:  # gone, or the kernel has no such thing
                pass
        self._was_gone = bool(started) and started_at(pid) != started

    def fileno(self) -> int:
        """Return a descriptor that is readable once the process is gone, -1 where there is none."""
        return self._pidfd

    def is_gone(self) -> bool:
        """Return whether it has ended."""
        if self._was_gone:
            return True
        if self._pidfd >= 0:
            return bool(select.select([self._pidfd], [], [], 0)[0])
        if self._started:
            return started_at(self._pid) != self._started
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass
        return False


def main(numbers: str) -> None:
    """Work for the training at the other end of the first descriptor, until all is done."""
    descriptors = [int(number) for number in numbers.split(",")]
    _stand_apart(descriptors)
    connection = Connection(descriptors[0])
    waiting = _await_introduction(connection)
    if not waiting or waiting[0][0] != "start":
        return
    given = waiting.pop(0)[1]
    tasks = {name: _spec(spec, given, descriptors) for name, spec in given["tasks"].items() if name in TASKS}
    tasks.setdefault("copies", _spec({}, given, descriptors))
    console = tasks.pop("console", None)
    if console is not None and not _is_the_second_process():
        connection.close()
        for _, _, received in waiting:
            _close(received)
        _do("console", console, _recorder(given), Stop(), None)
        return
    for fd in descriptors[1:]:  # the console's: whoever holds them keeps their other ends from seeing an end
        os.close(fd)
    _serve(connection, given, tasks, waiting)


def _serve(connection: Connection, given: Dict[str, Any], tasks: Dict[str, Any], waiting: List[Any]) -> None:
    training = Training(given["process"]["pid"], given["process"]["started"])
    recorder = _recorder(given)
    stop = Stop()
    inboxes = _Inboxes()
    threads = []
    for name, spec in tasks.items():
        spec["inbox"] = inboxes.add(name)
        spec["report"] = connection.report
        thread = threading.Thread(
            target=_do, args=(name, spec, recorder, stop, connection), name=name, daemon=True
        )
        thread.start()
        threads.append(thread)
    _pass_on(connection, training, waiting, inboxes, stop)
    inboxes.end()
    deadline = time.monotonic() + ENDING_S_MAX
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    recorder.end(0)


def _do(
    name: str, spec: Dict[str, Any], recorder: Recorder, stop: Stop, connection: Optional[Connection]
) -> None:
    try:
        importlib.import_module("tracker." + TASKS[name]).run(spec, recorder, stop)
    except Exception as error:  # noqa: BLE001 - one task's failure is no other's; it stands in the run
        text = "%s: %s: %s" % (name, type(error).__name__, error)
        lose(recorder, text)
        if connection is not None:
            connection.report(text)


class _Inboxes:
    """Messages on their way to the tasks."""

    def __init__(self) -> None:
        self._queues: Dict[str, Any] = {}
        self._descriptors: List[int] = []

    def add(self, name: str) -> Any:
        """Return the queue of a task."""
        self._queues[name] = queue.Queue()
        return self._queues[name]

    def put(self, name: str, message: Any, descriptors: List[int]) -> None:
        """Hand a message to a task, which closes the descriptors."""
        if name not in self._queues:
            _close(descriptors)
            return
        self._queues[name].put((message, descriptors))
        self._descriptors.append(len(descriptors))

    def end(self) -> None:
        """Say that nothing comes any more."""
        for each in self._queues.values():
            each.put(None)

    @property
    def full(self) -> bool:
        """Whether more has to wait."""
        waiting = sum(each.qsize() for each in self._queues.values())
        # Messages are taken in order: those that wait are the last ones put.
        del self._descriptors[: len(self._descriptors) - waiting]
        return waiting >= WAITING_MESSAGES_MAX or sum(self._descriptors) >= WAITING_DESCRIPTORS_MAX


def _pass_on(
    connection: Connection, training: Training, waiting: List[Any], inboxes: _Inboxes, stop: Stop
) -> None:
    """Hand messages to the tasks until the run is over."""
    while True:
        # Looked at before its messages are: then its last one has arrived.
        gone = training.is_gone()
        full = inboxes.full
        if connection.open and not full:
            waiting += connection.receive()
        for task, message, received in waiting:
            if task == "close":
                stop.set(code=message.get("code"))
            else:
                inboxes.put(task, message, received)
        if stop.is_set():
            return
        if gone and (connection.idle or not connection.open):
            stop.set(vanished=True)
            return
        if full or connection.idle or not connection.open:
            _sleep(connection, training, gone, full)
        del waiting[:]


def _sleep(connection: Connection, training: Training, gone: bool, full: bool) -> None:
    """Wait for something to happen."""
    poll = select.poll()
    # A training that closed its end without a word, as programs do that close all descriptors, still lives.
    if connection.open and not full:
        poll.register(connection.fileno(), select.POLLIN)
    watched = training.fileno() >= 0 and not gone
    if watched:
        poll.register(training.fileno(), select.POLLIN)
    wait_s = _WAITING_LOOK_S if full else None if watched else LOOK_INTERVAL_S
    poll.poll(None if wait_s is None else wait_s * 1000)


def _close(descriptors: List[int]) -> None:
    for fd in descriptors:
        os.close(fd)


def _await_introduction(connection: Connection) -> List[Any]:
    deadline = time.monotonic() + INTRODUCTION_S
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    while connection.open and time.monotonic() < deadline:
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        found = connection.receive()
        if found:
            return found
    return []


def _spec(spec: Dict[str, Any], given: Dict[str, Any], descriptors: List[int]) -> Dict[str, Any]:
    """Return what a task is told: its own values, and what all may want to know."""
    shared = {name: given[name] for name in ("process", "disable_git", "ignore_globs")}
    handed = {name: descriptors[index] for name, index in spec.get("descriptors", {}).items()}
    return dict(shared, pid=given["process"]["pid"], **dict(spec, descriptors=handed))


def _recorder(given: Dict[str, Any]) -> Recorder:
    """Return what writes a stream of the run; it begins with the first record."""
    place = RunPlace(*given["place"])._replace(role=HELPER)
    found: List[Recorder] = []

    def opening() -> Records:
        return [(RUN, Run(found[0].time(), given["fields"]).encode())]

    found.append(Recorder(place, opening, opening, opening, lambda reason: None))
    return found[0]


def _is_the_second_process() -> bool:
    """Fork a process that is nobody's child; return whether this is it."""
    between = os.fork()
    if between:
        os.waitpid(between, 0)
        return False
    if os.fork():
        os._exit(0)
    return True


def _stand_apart(descriptors: List[int]) -> None:
    """Let go of all that came with the start: session, signals, descriptors, directory."""
    try:
        os.setsid()
    except OSError:  # already the first of a session of its own
        pass
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for fd in _open_descriptors():
        if fd > 2 and fd not in descriptors:
            try:
                os.close(fd)
            except OSError:
                pass
    for fd in descriptors:
        os.set_inheritable(fd, False)
    os.chdir("/")


def _open_descriptors() -> List[int]:
    for directory in ("/proc/self/fd", "/dev/fd"):
        try:
            return [int(name) for name in os.listdir(directory)]
        except (OSError, ValueError):  # noqa: PERF203 - one system or the other
            continue
    return list(range(3, 1024))
