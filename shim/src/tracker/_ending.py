"""How the process ends, as far as Python tells: sys.exit codes, unhandled exceptions, plain ends.

Nobody tells an atexit handler the exit code, so sys.exit and site's exit and quit are wrapped once a run has
begun. An unhandled exception is found in sys.last_value, where the interpreter leaves it.
"""

import atexit
import builtins
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` would cost `import tracker` 5 ms
    from typing import Any, Callable, Dict, Optional

TEXT_CHARACTERS_MAX = 64 * 1024
#: Before Python 3.10 a program that goes deeper after somebody swallowed its RecursionError is aborted.
#: Worked out here: where the stack is full, not even a comparison is possible.
RECURSION_MUST_SHOW = sys.version_info < (3, 10)
#: What a shell reports of a process ended by Ctrl-C.
INTERRUPTED = 130


class End:
    """The exit code and the exception that led to it, if one did."""

    def __init__(self, code: int, error: "Optional[BaseException]" = None) -> None:
        self.code = code
        self.error = error


def end_of(error: "Optional[BaseException]") -> End:
    """Return how a process ends that nobody saves from this exception."""
    if error is None:
        return End(0)
    if isinstance(error, SystemExit):
        return End(exit_code(error.code))
    return End(INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1, error)


def exit_code(code: "Any") -> int:
    """Return the process's exit status for an argument of sys.exit."""
    if code is None:
        return 0
    if not isinstance(code, int):
        return 1
    return code & 0xFF if -(2**63) <= code < 2**63 else 0xFF


def describe(error: "Optional[BaseException]") -> "Optional[Dict[str, str]]":
    """Return what an EXIT record says of an exception: type, message, traceback."""
    if error is None:
        return None
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ == "builtins" else "%s.%s" % (kind.__module__, kind.__qualname__)
    )
    try:
        message = str(error)[:TEXT_CHARACTERS_MAX]
    except Exception:  # noqa: BLE001 - str() of a foreign exception
        message = ""
    return {"type": name, "message": message, "traceback": _traceback(error)}


def _traceback(error: BaseException) -> str:
    # A first import while Ctrl-C ends the interpreter would make it forget that (any eval() does, and
    # namedtuple uses that): status 1 instead of death by SIGINT.
    if isinstance(error, KeyboardInterrupt) and "traceback" not in sys.modules:
        return _frames(error)
    try:
        import traceback  # 5 ms, so not at init()
    except Exception:  # noqa: BLE001 - no descriptor to read it by
        return _frames(error)
    try:
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        return "".join(lines)[-TEXT_CHARACTERS_MAX:]
    except Exception:  # noqa: BLE001 - sources may be gone, __cause__ may be broken
        return ""


def _frames(error: BaseException) -> str:
    """Return a traceback without the lines of the sources."""
    lines = ["Traceback (most recent call last):"]
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        lines.append('  File "%s", line %d, in %s' % (code.co_filename, step.tb_lineno, code.co_name))
        step = step.tb_next
    lines.append(type(error).__name__)
    return "\n".join(lines)[-TEXT_CHARACTERS_MAX:] + "\n"


class _Trace:
    """Rides on a SystemExit, to learn where it ends: nobody else can see who caught it."""

    def __init__(self, watch: "ExitWatch") -> None:
        self._watch = watch

    def __del__(self) -> None:
        # Freed by the interpreter's own end there is no Python frame below this one. Freed below
        # a frame of the program: that frame caught the SystemExit, and the process goes on.
        below = sys._getframe().f_back  # noqa: SLF001 - the only way to ask
        if self._watch.trace == id(self) and below is not None:
            self._watch.code = None


class ExitWatch:
    """Notes the code of the exit() that ends the process."""

    def __init__(self) -> None:
        self.code: "Optional[int]" = None
        self.trace = 0
        self._installed = False

    def install(self) -> None:
        """Wrap what raises SystemExit for others. May be called twice."""
        if self._installed:
            return
        self._installed = True
        original = sys.exit
        sys.exit = self._wrapped(original)
        names = getattr(sys.modules.get("__main__"), "__dict__", {})
        for name in [name for name, value in list(names.items()) if value is original]:
            names[name] = sys.exit  # from sys import exit
        quitter = type(getattr(builtins, "exit", None))
        if quitter.__module__ == "_sitebuiltins":  # the one class of exit and quit; elsewhere a shell's own
            quitter.__call__ = self._wrapped(quitter.__call__)  # type: ignore[method-assign]

    def _wrapped(self, leave: "Callable[..., Any]") -> "Callable[..., Any]":
        def exit(*args: "Any", **more: "Any") -> "Any":  # noqa: A001 - it is called sys.exit
            try:
                leave(*args, **more)
            except SystemExit as error:
                self._note(error)
                raise

        exit.__doc__ = leave.__doc__
        return exit

    def _note(self, error: SystemExit) -> None:
        import threading  # the recorder has loaded it

        if threading.current_thread() is not threading.main_thread():
            return  # ends only that thread
        trace = _Trace(self)
        error.__dict__["_tracker_trace"] = trace
        self.trace = id(trace)
        self.code = exit_code(error.code)

    def end(self) -> End:
        """Return how the process is ending; to be asked by what runs at exit."""
        error = sys.exc_info()[1]  # a multiprocessing child's last functions run while it flies
        if error is not None:
            return end_of(error)
        code = _child_code() if self.code is None else self.code
        if code is not None:
            return End(code)
        interactive = hasattr(sys, "ps1") or bool(sys.flags.interactive)
        # From a prompt or a notebook one goes on after an exception.
        return End(0) if interactive else end_of(getattr(sys, "last_value", None))


def _child_code() -> "Optional[int]":
    """Return the exit code of a multiprocessing child that runs its atexit functions (3.13 and later).

    There the exception is over and its message gone; only the function that forked still has the code.
    """
    frame = sys._getframe()  # noqa: SLF001
    while frame is not None and frame.f_code.co_name != "_bootstrap":
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith("multiprocessing.") and frame.f_code.co_name in ("_launch", "main"):
            code = frame.f_locals.get("code")
            return code if isinstance(code, int) else None
        if frame.f_back is None:
            break
        frame = frame.f_back
    return None


def at_child_exit(function: "Callable[[], None]") -> None:
    """Have function called at the end of a child made by multiprocessing, which skips atexit (< 3.13)."""
    process = sys.modules.get("multiprocessing.process")
    util = sys.modules.get("multiprocessing.util")
    if process is None or util is None:
        return
    if getattr(process.current_process(), "_parent_pid", None) is None:
        return
    util.Finalize(None, function, exitpriority=-100)
    atexit.register(function)
