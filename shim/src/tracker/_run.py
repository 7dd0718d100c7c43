"""Run: what a training script holds. Everything it calls returns in microseconds and never raises.

log() is one write() to the process's own stream (see _recorder.py); no thread, no socket, no
import, no other process. What can go wrong is counted and warned about once per call site.
"""

import os
from os import getpid
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

import msgpack

from . import _ending
from ._clock import monotonic_ns
from ._config import Config
from ._logged import NAMES_MAX, STEP_MAX, record_numbers, record_texts, sort_out, to_step
from ._recorder import Recorder, Records
from ._spool import RunPlace
from ._summary import Summary
from ._terminal import Terminal
from ._values import UnsupportedError, is_mapping, to_plain
from .protocol.bodies import Patch
from .protocol.bodies import Run as RunBody
from .protocol.kinds import CONFIG, METRICS, RUN, SUMMARY

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


class Run:
    """One run in this process. Make it with tracker.init()."""

    def __init__(
        self,
        place: RunPlace,
        fields: Dict[str, Any],
        terminal: Terminal,
        url: Optional[str] = None,
        disabled: bool = False,
        attached: bool = False,
        config: Any = None,
        on_end: Optional[Callable[["Run"], None]] = None,
    ) -> None:
        """attached: the run was begun by another process, which described it."""
        self._place = place
        self._fields = dict(fields)
        self._terminal = terminal
        self._url = url
        self._disabled = disabled
        self._finished = False
        self._step = 0
        #: Names that were looked at: strings, not set by hand in the summary.
        self._known: Set[str] = set()
        #: The names of the last log(), all of them known, and its values while summary lacks them.
        #: The next log() of the same names replaces both: nothing is merged at every step.
        self._names: List[Any] = [None]
        self._newest: Dict[str, Any] = {}
        self._plain_types: Set[type] = {int, float, bool}
        self._on_end = on_end
        self._end_facts: Optional[Dict[str, Any]] = None  # what EXIT tells besides code and exception
        self._config = Config(terminal, self._record_config, config)
        self._summary = Summary(terminal, self._record_summary, self._take_newest, self._look_again)
        # Used with the recorder's lock held and never re-entered: has its buffer once and for all.
        # Strict about surrogates, which is faster; bodies.pack knows better.
        self._pack = msgpack.Packer(autoreset=True, use_bin_type=True).pack
        self._recorders: Dict[int, Recorder] = {}
        self._recorder = self._new_recorder(described=attached)
        if disabled:
            self._recorder.pid = 0

    def open(self) -> None:
        """Create this process's stream. Raise OSError where that fails; log() will then try again."""
        self._recorder.open()

    def resume_at(self, step: int) -> None:
        """Go on at a step, in a process that the run was handed to."""
        self._step = step

    def said_to_be_lost(self) -> None:
        """Note that the user knows that records are being lost."""
        self._recorder.warned = True

    # Logging

    def log(self, data: Dict[str, Any], step: Optional[int] = None, commit: Optional[bool] = None) -> None:
        """Record values at a step: the next one by default.

        With commit=False, or with a step and no commit, the step stays open for more. Any order of
        steps will do. Values are numbers, bools, strings, nested dicts, and arrays of one element.
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
        except Exception as error:  # noqa: BLE001 - the guard
            self._guard("log", error)

    def _log_with_care(self, data: Any, step: Any, commit: Optional[bool]) -> None:
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
        with recorder.lock:
            at = self._take_step(step, commit)
            # Numbers of a nested log() too go through here: bodies.pack has no state to corrupt.
            record_numbers(recorder, at, values.numbers)
            record_texts(recorder, at, values.texts)
            self._summary.logged(values.numbers)
            self._summary.logged(values.texts)
            self._known.update(self._summary.not_by_hand(values.numbers))

    def _recall(self, data: Dict[str, Any]) -> bool:
        """Return whether all names are known, and make them those of the last log()."""
        if not data or len(data) > NAMES_MAX or not self._known.issuperset(data):
            return False
        self._summary.logged({})
        self._names = [*data]
        return True

    def _take_newest(self) -> Dict[str, Any]:
        with self._recorder.lock:
            newest, self._newest = self._newest, {}
        return newest

    def _look_again(self) -> None:
        self._names = [None]
        self._known.clear()

    def _learn_type(self, kind: type) -> None:
        if issubclass(kind, (int, float)) and len(self._plain_types) < PLAIN_TYPES_MAX:
            self._plain_types.add(kind)

    def _take_step(self, step: Any, commit: Optional[bool]) -> int:
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

    def finish(self, exit_code: Optional[int] = None, quiet: Optional[bool] = None) -> None:  # noqa: ARG002
        """End the run in this process. Returns at once: the agent ships what is left."""
        try:
            self.end(_ending.End(0 if exit_code is None else _ending.exit_code(exit_code)))
        except Exception as error:  # noqa: BLE001 - the guard
            self._guard("finish", error)

    def end(self, end: _ending.End) -> None:
        """Record how the run ended in this process. May raise; may be called twice."""
        if self._finished:
            return
        self._finished = True
        recorder = self._recorders.get(getpid())
        if recorder is not None:
            recorder.end(end.code, _ending.describe(end.error), self._end_facts)
        if self._on_end is not None:
            self._on_end(self)

    def __enter__(self) -> "Run":  # noqa: PYI034 - typing has no Self on old Pythons
        return self

    def __exit__(self, kind: object, error: Optional[BaseException], trace: object) -> None:
        try:
            self.end(_ending.end_of(error))
        except Exception as problem:  # noqa: BLE001 - the guard
            self._guard("finish", problem)

    @property
    def id(self) -> str:
        """The run's id: the name of its directory."""
        return self._place.run

    @property
    def dir(self) -> str:
        """The run's directory."""
        place = self._recorder.place
        return place.directory or os.path.join(place.root, place.run)

    @property
    def url(self) -> Optional[str]:
        """Where to watch the run; None while no agent has told."""
        return self._url

    def get_url(self) -> Optional[str]:
        """Return url."""
        return self._url

    @property
    def step(self) -> int:
        """The step that a log() without one would write to."""
        return self._step

    @property
    def project(self) -> str:
        """The project."""
        return str(self._fields["project"])

    @property
    def entity(self) -> Optional[str]:
        """The entity, where one was named."""
        return self._fields.get("entity")

    @property
    def group(self) -> Optional[str]:
        """The group, where one was named."""
        return self._fields.get("group")

    @property
    def job_type(self) -> Optional[str]:
        """The job type, where one was named."""
        return self._fields.get("job_type")

    @property
    def offline(self) -> bool:
        """Whether the agent leaves this run alone."""
        return self._place.offline

    @property
    def disabled(self) -> bool:
        """Whether this run does nothing at all."""
        return self._disabled

    @property
    def lost(self) -> int:
        """Records that this process could not record so far."""
        return sum(recorder.lost for recorder in self._recorders.values())

    @property
    def name(self) -> str:
        """The name shown to people; may be set."""
        return str(self._fields.get("name", ""))

    @name.setter
    def name(self, name: str) -> None:
        self._set_field("name", name)

    @property
    def notes(self) -> Optional[str]:
        """Free text about the run; may be set."""
        return self._fields.get("notes")

    @notes.setter
    def notes(self, notes: Optional[str]) -> None:
        self._set_field("notes", "" if notes is None else notes)

    @property
    def tags(self) -> Tuple[str, ...]:
        """Tags; may be set."""
        return tuple(self._fields.get("tags", ()))

    @tags.setter
    def tags(self, tags: Any) -> None:
        given = to_plain(tags)
        if not isinstance(given, list):
            given = [] if given is None else [given]
        self._set_field("tags", [str(tag) for tag in given])

    @property
    def config(self) -> Config:
        """The run's settings."""
        return self._config

    @config.setter
    def config(self, source: Any) -> None:
        self._config.update(source, allow_val_change=True)

    @property
    def summary(self) -> Summary:
        """The last value of each metric, and what is set here by hand."""
        return self._summary

    def __repr__(self) -> str:
        return "<tracker run %s (%s)>" % (self.name, self.id)

    # State records

    def _set_field(self, name: str, value: Any) -> None:
        value = self._fields[name] = value if isinstance(value, list) else str(to_plain(value))
        self._record(RUN, lambda recorder: RunBody(recorder.time(), {name: value}).encode(), "run")

    def _record_config(self, values: Dict[str, Any], removed: List[str]) -> None:
        self._record(CONFIG, lambda recorder: Patch(recorder.time(), values, removed).encode(), "config")

    def _record_summary(self, values: Dict[str, Any], removed: List[str]) -> None:
        self._record(SUMMARY, lambda recorder: Patch(recorder.time(), values, removed).encode(), "summary")

    def _record(self, kind: int, encode: Any, what: str) -> None:
        if self._disabled:
            return
        try:
            recorder = self._here()
            if self._finished:
                recorder.lost += 1
                self._warn("finished", "%s changed after finish(): this is not recorded" % what)
                return
            recorder.write(kind, encode(recorder))
        except Exception as error:  # noqa: BLE001 - the guard
            self._guard(what, error)

    def _describe(self) -> Records:
        """Return the records that describe the run as it is now."""
        time = self._recorder.time()
        records = [(RUN, RunBody(time, self._fields).encode())]
        config = self._config.as_dict()
        if config:
            records.append((CONFIG, Patch(time, config).encode()))
        by_hand = self._summary.by_hand()
        if by_hand:
            records.append((SUMMARY, Patch(time, by_hand).encode()))
        return records

    def _join(self) -> Records:
        # Not earlier: multiprocessing forgets what was registered before its child had begun.
        from ._session import at_exit

        _ending.at_child_exit(lambda: at_exit(self))
        return self._belong()

    def _belong(self) -> Records:
        """Return the record that says whose run a stream belongs to, where another one describes it."""
        fields: Dict[str, Any] = {
            name: self._fields[name] for name in ("project", "entity") if name in self._fields
        }
        return [(RUN, RunBody(self._recorder.time(), fields).encode())]

    # Processes

    def _new_recorder(self, described: bool) -> Recorder:
        opening = self._join if described else self._describe
        recorder = Recorder(self._place, opening, self._belong, self._describe, self._warn_of_loss)
        return self._recorders.setdefault(recorder.pid, recorder)

    def _here(self) -> Recorder:
        """Return this process's recorder; after a fork, a new one with a stream of its own."""
        recorder = self._recorders.get(getpid())
        if recorder is None:
            # The directory that was found once: in the system spool it could not be found again.
            self._place = self._recorder.place
            recorder = self._new_recorder(described=True)
            for pid in list(self._recorders):
                former = self._recorders.pop(pid, None) if pid != recorder.pid else None
                if former is not None:
                    former.forget()
            self._recorder = recorder
        return recorder

    def __reduce__(self) -> Any:
        """Pickled, for a child process: there it goes on in the same run, in a stream of its own."""
        from ._session import attach

        return attach, (tuple(self._recorder.place), self._fields, self._url, self._disabled, self._step)

    # Trouble

    def _warn(self, topic: str, text: str) -> None:
        if not self._disabled:
            self._terminal.warn(topic, text)

    def _warn_of_loss(self, reason: str) -> None:
        self._terminal.say(
            "warning: %s cannot be written to: %s. Training goes on; what is lost is counted and reported "
            "when writing works again. Free some space, or set TRACKER_DIR to another directory."
            % (self.dir, reason)
        )

    def _guard(self, what: str, error: Exception) -> None:
        try:
            recorder = self._recorders.get(os.getpid(), self._recorder)
            recorder.lost += 1
            self._warn(what, "%s failed: %s: %s" % (what, type(error).__name__, error))
        except Exception:  # noqa: BLE001, S110 - out of memory or stack: nothing may leave here
            pass
