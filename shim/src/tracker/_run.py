"""Run: what a training script holds. Everything it calls returns in microseconds and never raises.

log() is one write() to the process's own stream (see _recorder.py); no thread, no socket, no
import, no other process. What can go wrong is counted and warned about once per call site.
What the run is called and where it records is RunState (_run_state.py), the rest of its calls RunCalls.
"""

import os
from os import getpid

import msgpack

from . import _ending
from ._clock import monotonic_ns
from ._interrupted import holder, let_go
from ._logged import NAMES_MAX, STEP_MAX, record_numbers, record_others, record_texts, sort_out, to_step
from ._run_calls import RunCalls
from ._spool import RunPlace
from ._terminal import Terminal
from ._values import UnsupportedError, is_mapping
from .protocol.kinds import METRICS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Optional, Set


#: Subclasses of int and float that msgpack writes as numbers (numpy.float64), learnt as they come.
PLAIN_TYPES_MAX = 64

#: This process, without a system call at every log(); 0 where no hook tells of forks (Python 3.6).
_pid = 0


def _note_process() -> None:
    global _pid
    _pid = getpid()


if hasattr(os, "register_at_fork"):
    _note_process()
    os.register_at_fork(after_in_child=_note_process)


class Run(RunCalls):
    """One run in this process. Make it with tracker.init()."""

    def __init__(
        self,
        place: RunPlace,
        fields: "Dict[str, Any]",
        terminal: Terminal,
        url: "Optional[str]" = None,
        disabled: bool = False,
        attached: bool = False,
        config: "Any" = None,
        on_end: "Optional[Callable[[Run], None]]" = None,
    ) -> None:
        """attached: the run was begun by another process, which described it."""
        super().__init__(place, fields, terminal, url, disabled, attached, config, on_end)
        self._plain_types: Set[type] = {int, float, bool}
        # Used with the recorder's lock held and never re-entered: has its buffer once and for all.
        # Strict about surrogates, which is faster; bodies.pack knows better.
        self._pack = msgpack.Packer(autoreset=True, use_bin_type=True).pack

    # Logging

    @holder
    def log(
        self,
        data: "Dict[str, Any]",
        step: "Optional[int]" = None,
        commit: "Optional[bool]" = None,
        sync: "Optional[bool]" = None,  # noqa: ARG002 - known from old scripts, without effect
    ) -> None:
        """Record values at a step: the next one by default.

        With commit=False, or with a step and no commit, the step stays open for more. Any order of
        steps will do. Values are numbers, bools, strings, nested dicts, and arrays of one element.

        >>> run.log({"loss": 0.5, "val": {"accuracy": 0.9}})
        >>> run.log({"loss": 0.4}, step=10)
        >>> run.step, dict(run.summary)
        (10, {'loss': 0.4, 'val/accuracy': 0.9})
        """
        try:
            # The names of the call before, and nothing but numbers: nearly every call in a loop.
            # Whatever else comes, _log_with_care sorts out. (Tuned with bench/log_call.py.)
            recorder = self._recorder
            if (
                (_pid or getpid()) == recorder.pid
                and type(data) is dict
                and self._plain_types.issuperset(map(type, data.values()))
                and (step is None or (type(step) is int and -STEP_MAX < step < STEP_MAX))
            ):
                with recorder.lock:
                    if not recorder.busy and ([*data] == self._names or self._recall(data)):
                        at = self._step if step is None else step
                        try:
                            recorder.busy = True
                            recorder.append(
                                METRICS, self._pack((recorder.clock_offset + monotonic_ns(), at, data))
                            )
                        except OSError as error:
                            recorder.lose(METRICS, error)
                        except (ValueError, OverflowError):  # an integer beyond 64 bits, a lone surrogate
                            recorder.busy = False
                            self._log_with_care(data, step, commit)
                            return
                        finally:
                            recorder.busy = False
                        self._newest = data.copy()
                        if step is None:
                            if commit is None or commit:
                                self._step = at + 1
                        elif at >= self._step:
                            self._step = at + 1 if commit else at
                        return
            self._log_with_care(data, step, commit)
        except Exception as error:  # the guard
            try:
                let_go(self._recorder)
                self._guard("log", error)
            except RecursionError:  # no stack left to say so
                self._recorder.lost += 1
            if _ending.RECURSION_MUST_SHOW and isinstance(error, RecursionError):
                raise
        except BaseException:
            let_go(self._recorder)
            raise

    @holder
    def _log_with_care(self, data: "Any", step: "Any", commit: "Optional[bool]") -> None:
        if self._disabled:
            return
        recorder = self._here()
        if self._finished:
            recorder.lost += 1
            self._warn(
                "finished", "log() after finish(): this is not recorded; call tracker.init() for a new run"
            )
            return
        if not is_mapping(data):
            recorder.lost += 1
            self._warn("log", "log() takes a dict of values, not a %s" % type(data).__name__)
            return
        values = sort_out(data)
        for kind in values.number_types:
            self._learn_type(kind)
        if values.odd_names:
            self._warn("log-name", "log() takes strings as names; others are recorded as their str()")
        if values.refused:
            recorder.lost += 1
            self._warn("log-value", "log() left out " + ", ".join(values.refused))
        others = values.others
        with recorder.lock:
            at = self._take_step(step, commit)
            shown = self._with_definitions(values.numbers, values.texts, others)
            # Numbers of a nested log() too go through here: bodies.pack has no state to corrupt.
            record_numbers(recorder, at, values.numbers)
            record_texts(recorder, at, values.texts)
            self._summary.logged(shown)
            self._known.update(self._summary.not_by_hand(values.numbers))
        if others:
            # Pictures take their time: not with the lock held.
            kept, refused = record_others(recorder, self.directory, at, others)
            self._summary.logged(kept)
            if refused:
                recorder.lost += 1
                self._warn("log-value", "log() left out " + ", ".join(refused))

    def _with_definitions(
        self, numbers: "Dict[str, Any]", texts: "Dict[str, str]", others: "Dict[str, Any]"
    ) -> "Dict[str, Any]":
        """Return what the summary is to show of a row; add what the row lacks (see _define.py)."""
        definitions = self.definitions
        if definitions is None:
            return dict(numbers, **texts)
        self._summary.logged({})
        definitions.add_steps(list(numbers) + list(texts) + list(others), numbers)
        definitions.saw(numbers)
        return dict(texts, **definitions.sum_up(numbers))

    def _recall(self, data: "Dict[str, Any]") -> bool:
        """Return whether all names are known, and make them those of the last log()."""
        if not data or len(data) > NAMES_MAX or not self._known.issuperset(data):
            return False
        if self.definitions is not None and not self.definitions.plain(data):
            return False
        self._summary.logged({})
        self._names = [*data]
        return True

    def _learn_type(self, kind: type) -> None:
        if issubclass(kind, (int, float)) and len(self._plain_types) < PLAIN_TYPES_MAX:
            self._plain_types.add(kind)

    def _take_step(self, step: "Any", commit: "Optional[bool]") -> int:
        try:
            at = to_step(step)
        except UnsupportedError as error:
            self._warn("log-step", "%s; the next step is used instead" % error)
            at = None
        if at is None:
            at = self._step
            if commit is None or commit:
                self._step = at + 1
        elif at >= self._step:
            self._step = at + 1 if commit else at
        return at

    # The run itself

    def finish(self, exit_code: "Optional[int]" = None, quiet: "Optional[bool]" = None) -> None:  # noqa: ARG002
        """End the run in this process. Returns at once: the agent ships what is left."""
        try:
            self.end(_ending.End(0 if exit_code is None else _ending.exit_code(exit_code)))
        except Exception as error:  # noqa: BLE001 - the guard
            self._guard("finish", error)

    def end(self, end: _ending.End) -> None:
        """Record how the run ended in this process. May raise; may be called twice."""
        if self._finished:
            return
        self._run_endings(end.code)
        recorder = self._recorders.get(getpid())
        if recorder is not None:
            recorder.end(end.code, _ending.describe(end.error), self._end_facts)
        self._finished = True  # not before: Ctrl-C may have come in between, and the end comes once more
        if self._on_end is not None:
            self._on_end(self)

    def __enter__(self) -> "Run":  # noqa: PYI034 - typing has no Self on old Pythons
        return self

    def __exit__(self, kind: object, error: "Optional[BaseException]", trace: object) -> None:
        try:
            self.end(_ending.end_of(error))
        except Exception as problem:  # noqa: BLE001 - the guard
            self._guard("finish", problem)

    def __reduce__(self) -> "Any":
        """Pickled, for a child process: there it goes on in the same run, in a stream of its own."""
        from ._session import attach

        known = {"config": self._config.as_dict(), "files": self._files_directory is not None}
        place = tuple(self._recorder.place)
        return attach, (place, self._fields, self._url, self._disabled, self._step, known)
