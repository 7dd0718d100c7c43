"""Starts the helper process of a run and talks to it: console, code state and copies of files are its work.

Only init() starts one. The helper is no child of the training, so that no wait() of a script meets it; it
has a session of its own, so that no signal to the training's group ends it; and it gets no descriptors but
those meant. Linux and macOS; elsewhere, and where it cannot be started, the run goes on without.
"""

import errno
import os
import select
import signal
import struct
import sys
import threading
import weakref

import msgpack

from ._clock import monotonic_ns
from ._interrupted import holder, let_go
from ._spool import RunPlace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, TypeVar

    _Result = TypeVar("_Result")


try:
    import _socket as socket  # all that is needed of socket, which takes 6 ms to import
except ImportError:
    import socket  # type: ignore[no-redef]
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: A message is a length (4 bytes, big-endian) and so many bytes of msgpack, in both directions.
LENGTH = struct.Struct(">I")
MESSAGE_BYTES_MAX = 128 * 1024
#: Descriptors that travel with one message.
DESCRIPTORS_MAX = 32
#: What the helper has not taken yet; beyond that, messages are refused.
_UNSENT_BYTES_MAX = 1024 * 1024
#: At the end of a run it is given so long to take the rest.
FLUSH_NS = 200 * 10**6
#: The first descriptor that the helper gets: its end of the connection. Then those of its tasks.
_FIRST_FD = 3
#: Descriptors are duplicated up here before they are put in their places, so that none is overwritten.
_ABOVE = 64
_FULL = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS)


_SHELL = "/bin/sh"
#: Ends as soon as it has started the helper, which is then nobody's child.
_DETACH = '"$@" &'

#: What lies beside the program, or in its directory, must not stand in for a module of the standard library.
_PROGRAM = (
    "import sys; sys.path[0:1] = []; sys.path += sys.argv[1:3]; "
    "from tracker._helper_process import main; main(sys.argv[3])"
)

_ARGUMENTS_MAX = 1000
_ARGUMENT_CHARACTERS_MAX = 4096
#: Characters of all arguments, and of all of sys.path.
_LIST_CHARACTERS_MAX = 32 * 1024


def start(
    place: RunPlace,
    settings: "Any",
    spec: "Dict[str, Any]",
    on_problem: "Optional[Callable[[str], None]]" = None,
) -> "Optional[HelperClient]":
    """Start the helper of a run for the tasks in spec; return None where that is not possible.

    spec: by task ("console", "code"), a dict of plain values, or True for a task that needs none. Its
    "descriptors", {name: descriptor of ours}, are handed over: the task has them under the same names.
    """
    command = _command()
    if command is None:
        return None
    tasks = {name: dict(given) if isinstance(given, dict) else {} for name, given in spec.items() if given}
    handed: List[int] = []
    for given in tasks.values():
        indexes = {}
        for name, fd in given.get("descriptors", {}).items():
            handed.append(fd)
            indexes[name] = len(handed)
        given["descriptors"] = indexes
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        _tell(on_problem, error)
        return None
    try:
        theirs.setblocking(True)
        _spawn(command, [theirs.fileno()] + handed)
    except (OSError, ValueError) as error:
        ours.close()
        _tell(on_problem, error)
        return None
    finally:
        theirs.close()
    client = HelperClient(ours.detach())
    client.send("start", _introduction(place, settings, tasks))
    return client


class HelperClient:
    """The training's end of the connection. Nothing here raises, or waits but for FLUSH_NS; thread-safe."""

    def __init__(self, fd: int) -> None:
        self._pid = os.getpid()
        self._fd = fd
        self._identity = _identity(fd)
        self.lock = threading.RLock()
        #: A call is under way. With the lock held, this means: in a frame that we interrupted.
        self.busy = False
        self._unsent = b""
        self._received = b""
        if hasattr(os, "register_at_fork"):
            # A child that kept the connection open would hide that this process closed it.
            found = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _forget(found()))

    def alive(self) -> bool:
        """Return whether the helper is there, this the process that it works for, and no call under way."""
        return self._alone(self._look, False)

    def send(self, task: str, message: "Any", descriptors: "Sequence[int]" = ()) -> bool:
        """Send a task a message of plain values. False: there is no helper, or it takes no more."""
        if len(descriptors) > DESCRIPTORS_MAX:
            return False
        try:
            frame, bare = (_frame([task, message, number]) for number in (len(descriptors), 0))
        except (ValueError, TypeError, OverflowError, RecursionError):
            return False
        if len(frame) > MESSAGE_BYTES_MAX:
            return False
        return self._alone(lambda: self._send(frame, bare, descriptors), False)

    def problems(self) -> "List[str]":
        """Return what is wrong since this was last asked: files that could not be kept, work not taken."""
        nothing: List[str] = []
        return self._alone(self._problems, nothing)

    def close(self, code: "Optional[int]" = None) -> None:
        """Tell the helper that the run is over in this process. It does what is left and ends."""
        self.send("close", {"code": code})
        self.forget()

    def forget(self) -> None:
        """Close the connection without a word, as in a forked child."""
        fd, self._fd = self._fd, -1
        if fd >= 0 and _identity(fd) == self._identity:
            os.close(fd)

    @holder
    def _alone(self, call: "Callable[[], _Result]", otherwise: "_Result") -> "_Result":
        """Do something with the lock held; not in a fork, nor in a signal handler that interrupted this."""
        # The pid first: in a fork the lock may be held by a thread that is not there.
        if self._pid != os.getpid():
            return otherwise
        try:
            with self.lock:
                if self.busy or not self._is_ours():
                    return otherwise
                try:
                    self.busy = True
                    return call()
                finally:
                    self.busy = False
        except BaseException:
            let_go(self)
            raise

    def _look(self) -> bool:
        self._receive()
        return self._is_ours()

    def _send(self, frame: bytes, bare: bytes, descriptors: "Sequence[int]") -> bool:
        self._unsent = self._unsent[self._try_send(self._unsent) :]
        sent = 0
        if not self._unsent:
            sent = self._try_send(frame, descriptors)
        if self._fd < 0:
            return False
        if sent:
            self._unsent = frame[sent:]
            return True
        if len(self._unsent) + len(bare) > _UNSENT_BYTES_MAX:
            return False
        self._unsent += bare  # goes with the next message; descriptors cannot wait
        return True

    def _problems(self) -> "List[str]":
        self._receive()
        found, self._received = unpack_frames(self._received)
        if self._is_ours() and not self._flush():
            found.append("the helper process does not take its work: files may be missing")
        return [str(each) for each in found]

    def _is_ours(self) -> bool:
        # Somebody may have closed all descriptors, and this number may be a connection of his now.
        return self._fd >= 0 and _identity(self._fd) == self._identity

    def _flush(self) -> bool:
        """Send what is left, and wait a little for the helper to take it."""
        deadline = monotonic_ns() + FLUSH_NS
        while self._unsent and self._fd >= 0:
            self._unsent = self._unsent[self._try_send(self._unsent) :]
            if monotonic_ns() > deadline:
                break
            if self._unsent:
                select.select([], [self._fd], [], FLUSH_NS / 1e9)
        return not self._unsent

    def _try_send(self, data: bytes, descriptors: "Sequence[int]" = ()) -> int:
        """Return how many bytes went, 0 where the helper takes none now or is gone."""
        if not data:
            return 0
        flags = getattr(socket, "MSG_NOSIGNAL", 0)
        rights = struct.pack("%di" % len(descriptors), *descriptors)
        with_it = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
        connection = self._connection()
        try:
            return connection.sendmsg([data], with_it, flags)
        except OSError as error:
            full = error.errno in _FULL or (descriptors and error.errno == errno.ETOOMANYREFS)
        finally:
            connection.detach()
        if not full:
            self.forget()
        return 0

    def _receive(self) -> None:
        """Take in what the helper sent; notice its end."""
        connection = self._connection()
        try:
            while len(self._received) < _UNSENT_BYTES_MAX:
                data = connection.recv(64 * 1024)
                self._received += data
                if not data:
                    gone = True
                    break
            else:
                gone = False
        except OSError as error:
            gone = error.errno not in _FULL
        finally:
            connection.detach()
        if gone:
            self.forget()

    def _connection(self) -> socket.socket:
        # Made for each use and let go of: a socket object would be closed, with a warning, when it is freed.
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=self._fd)
        connection.setblocking(False)  # socket.setdefaulttimeout() may have said something else
        return connection


def unpack_frames(data: bytes) -> "Tuple[List[Any], bytes]":
    """Return the messages that are whole, and the bytes behind them."""
    found = []
    at = 0
    while len(data) - at >= LENGTH.size:
        end = at + LENGTH.size + LENGTH.unpack_from(data, at)[0]
        if end > len(data):
            break
        found.append(msgpack.unpackb(data[at + LENGTH.size : end], raw=False, unicode_errors="surrogatepass"))
        at = end
    return found, data[at:]


def started_at(pid: int) -> str:
    """Return when a process started, as the kernel counts; "" where it is gone or nobody tells."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            fields = file.read(4096).rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if len(fields) < 20 or fields[0] in (b"Z", b"X") else fields[19].decode("ascii", "replace")


def _frame(message: "Any") -> bytes:
    body: bytes = msgpack.packb(message, use_bin_type=True, unicode_errors="surrogatepass")
    return LENGTH.pack(len(body)) + body


def _forget(client: "Optional[HelperClient]") -> None:
    if client is not None:
        client.forget()


def _identity(fd: int) -> "Optional[Tuple[int, int]]":
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


def _tell(on_problem: "Optional[Callable[[str], None]]", error: Exception) -> None:
    if on_problem is not None:
        on_problem("the helper process cannot be started: %s" % (getattr(error, "strerror", None) or error))


def _command() -> "Optional[List[str]]":
    """Return the command that is the helper, None where there can be none."""
    executable = sys.executable or ""
    # In an application that has Python inside, sys.executable is that application.
    known = os.path.basename(executable).lower().startswith(("python", "pypy"))
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_helper_process.py")
    packer = os.path.abspath(getattr(msgpack, "__file__", None) or "")
    if (
        fcntl is None
        or not known
        or getattr(sys, "frozen", False)
        or not os.path.isabs(executable)
        or not hasattr(socket, "AF_UNIX")
        or not os.path.isfile(script)  # in a zip file there is none
    ):
        return None
    # Without site: no .pth files, no sitecustomize; of the training's packages msgpack alone.
    here, packages = os.path.dirname(os.path.dirname(script)), os.path.dirname(os.path.dirname(packer))
    return [executable, "-S", "-s", "-c", _PROGRAM, here, packages]


def _spawn(command: "List[str]", handed: "List[int]") -> None:
    """Start a command that has the descriptors handed and no others of ours. Raise OSError.

    It gets their numbers, separated by commas, as its last argument.
    """
    argv = [_SHELL, "-c", _DETACH, "sh"] + command
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") or name == "PYTHONHOME"
    }
    high: List[int] = []
    try:
        for fd in handed:
            high.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE))  # noqa: PERF401 - to close those made
        pid = (_posix_spawn if hasattr(os, "posix_spawn") else _fork_exec)(argv, environ, high)
    finally:
        for fd in high:
            os.close(fd)
    try:
        os.waitpid(pid, 0)
    except OSError:  # a handler for SIGCHLD was faster
        pass


def _posix_spawn(argv: "List[str]", environ: "Dict[str, str]", high: "List[int]") -> int:
    low = range(_FIRST_FD, _FIRST_FD + len(high))
    argv = argv + [",".join(map(str, low))]
    actions: List[Any] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
        (os.POSIX_SPAWN_DUP2, 0, 1),
        (os.POSIX_SPAWN_DUP2, 0, 2),
    ]
    actions += [(os.POSIX_SPAWN_DUP2, source, target) for source, target in zip(high, low)]
    options: Dict[str, Any] = {
        "file_actions": actions,
        # They wait until the helper has said which signals it ignores.
        "setsigmask": [signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
        "setsigdef": [signal.SIGCHLD, signal.SIGPIPE],
    }
    try:
        return os.posix_spawn(argv[0], argv, environ, setsid=True, **options)
    except NotImplementedError:  # the C library is too old for that
        return os.posix_spawn(argv[0], argv, environ, setpgroup=0, **options)


def _fork_exec(argv: "List[str]", environ: "Dict[str, str]", high: "List[int]") -> int:
    """Do the same on Python 3.6 and 3.7."""
    import subprocess

    process = subprocess.Popen(
        argv + [",".join(map(str, high))],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=True,
        pass_fds=high,
        start_new_session=True,
    )
    process.returncode = 0  # waited for by its pid
    return process.pid


def _introduction(place: RunPlace, settings: "Any", tasks: "Dict[str, Any]") -> "Dict[str, Any]":
    """Return the first message: whose helper it is, and what it is to do."""
    fields = {name: getattr(settings, name, None) for name in ("project", "entity")}
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    return {
        "place": list(place),
        "fields": {name: value for name, value in fields.items() if value},
        "tasks": tasks,
        "disable_git": bool(getattr(settings, "disable_git", False)),
        "ignore_globs": [str(each) for each in getattr(settings, "ignore_globs", None) or ()],
        "process": {
            "pid": os.getpid(),
            "started": started_at(os.getpid()),
            "arguments": _bounded(getattr(sys, "argv", None) or []),
            "program": os.path.abspath(main) if isinstance(main, str) else "",
            "directory": _working_directory(),
            "executable": sys.executable or "",
            "python": "%d.%d.%d" % sys.version_info[:3],
            "implementation": sys.implementation.name,
            "path": _bounded(sys.path),
        },
    }


def _bounded(given: "Sequence[Any]") -> "List[str]":
    found: List[str] = []
    left = _LIST_CHARACTERS_MAX
    for each in given:
        text = str(each)[:_ARGUMENT_CHARACTERS_MAX]
        left -= len(text) + 8
        if left < 0 or len(found) >= _ARGUMENTS_MAX:
            return found + ["…"]
        found.append(text)
    return found


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""
