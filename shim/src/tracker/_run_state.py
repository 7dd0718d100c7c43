"""RunState: what a run is called, its config and summary, and the streams of the processes it lives in.

The base of Run (see _run.py). Everything here is recorded as it changes, and nothing raises.
"""

import os
from os import getpid

from . import _ending, _loading
from ._clock import time_ns
from ._config import Config
from ._interrupted import let_go
from ._recorder import Recorder, Records
from ._spool import RunPlace
from ._summary import Summary
from ._terminal import Terminal
from ._values import to_plain
from .protocol.bodies import Patch
from .protocol.bodies import Run as RunBody
from .protocol.kinds import CONFIG, RUN, SUMMARY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Set, Tuple

    from ._run import Run


class RunState:
    """A run without log(): its place, its description, its recorders."""

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
        self._place = place
        self._fields = dict(fields)
        self._terminal = terminal
        self._url = url
        self._disabled = disabled
        self._finished = False
        self._step = self._starting_step = 0
        self._resumed = False
        self._settings: Any = None
        self._files_directory: Optional[str] = None
        self._start_time_ns = time_ns()
        #: Names that were looked at: strings, not set by hand in the summary.
        self._known: Set[str] = set()
        #: The names of the last log(), all of them known, and its values while summary lacks them.
        #: The next log() of the same names replaces both: nothing is merged at every step.
        self._names: List[Any] = [None]
        self._newest: Dict[str, Any] = {}
        #: The process beside this one, where one was started (see _helper_client.py).
        self.helper: Any = None
        self._on_end = on_end
        self._endings: List[Tuple[int, Callable[[int], None]]] = []
        #: What define_metric() said (see _define.py); None: nothing.
        self.definitions: Any = None
        if "metrics" in self._fields:
            with _loading.lock:
                from ._define import Definitions

            self.definitions = Definitions(self._fields["metrics"])
        #: When alerts were sent, by title (see _alert.py).
        self.alerts: Dict[str, int] = {}
        self._end_facts: Optional[Dict[str, Any]] = None  # what EXIT tells besides code and exception
        self._config = Config(terminal, self._record_config, config)
        self._summary = Summary(
            terminal, self._record_summary, self._take_newest, self._look_again, self._to_stored
        )
        self._recorders: Dict[int, Recorder] = {}
        self._recorder = self._new_recorder(described=attached)
        if disabled:
            self._recorder.pid = 0

    def open(self) -> None:
        """Create this process's stream. Raise OSError where that fails; log() will then try again."""
        self._recorder.open()

    def streams(self) -> "List[bytes]":
        """Return the ids of the streams that this run has in this process."""
        return [each.place.parent for each in self._recorders.values() if each.place.parent is not None]

    def go_on_at(self, step: int) -> None:
        """Go on at a step, in a process that the run was handed to."""
        self._step = self._starting_step = step

    def resume(self, step: int, summary: "Dict[str, Any]") -> None:
        """Go on where a former process stopped, with its last values."""
        self.go_on_at(step)
        self._resumed = True
        self._summary.logged(summary)

    def said_to_be_lost(self) -> None:
        """Note that the user knows that records are being lost."""
        self._recorder.warned = True

    @property
    def place(self) -> RunPlace:
        """Where this run's streams go."""
        return self._recorder.place

    @property
    def terminal(self) -> Terminal:
        """Where warnings about this run go."""
        return self._terminal

    # What it is called

    @property
    def id(self) -> str:
        """The run's id: the name of its directory."""
        return self._place.run

    @property
    def directory(self) -> str:
        """The run's directory."""
        place = self._recorder.place
        return place.directory or os.path.join(place.root, place.run)

    @property
    def url(self) -> "Optional[str]":
        """Where to watch the run; None while no agent has told."""
        return self._url

    def get_url(self) -> "Optional[str]":
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
    def entity(self) -> "Optional[str]":
        """The entity, where one was named."""
        return self._fields.get("entity")

    @property
    def group(self) -> "Optional[str]":
        """The group, where one was named."""
        return self._fields.get("group")

    @property
    def job_type(self) -> "Optional[str]":
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
    def finished(self) -> bool:
        """Whether the run has ended in this process."""
        return self._finished

    @property
    def lost(self) -> int:
        """Records that this process could not record so far."""
        return sum(recorder.lost for recorder in self._recorders.values())

    @property
    def name(self) -> str:
        """The name shown to people; may be set.

        >>> run.name = "baseline"
        >>> run.name
        'baseline'
        """
        return str(self._fields.get("name", ""))

    @name.setter
    def name(self, name: str) -> None:
        self._set_field("name", name)

    @property
    def notes(self) -> "Optional[str]":
        """Free text about the run; may be set."""
        return self._fields.get("notes")

    @notes.setter
    def notes(self, notes: "Optional[str]") -> None:
        self._set_field("notes", "" if notes is None else notes)

    @property
    def tags(self) -> "Tuple[str, ...]":
        """Tags; may be set."""
        return tuple(self._fields.get("tags", ()))

    @tags.setter
    def tags(self, tags: "Any") -> None:
        given = to_plain(tags)
        if not isinstance(given, list):
            given = [] if given is None else [given]
        self.record_fields({"tags": [str(tag) for tag in given]})

    @property
    def config(self) -> Config:
        """The run's settings."""
        return self._config

    @config.setter
    def config(self, source: "Any") -> None:
        self._config.update(source, allow_val_change=True)

    @property
    def summary(self) -> Summary:
        """The last value of each metric, and what is set here by hand."""
        return self._summary

    def __repr__(self) -> str:
        return "<tracker run %s (%s)>" % (self.name, self.id)

    # State records

    def record_fields(self, fields: "Dict[str, Any]") -> None:
        """Add to what the run's RUN records say; values are plain data."""
        self._fields.update(fields)
        self.record(RUN, lambda recorder: RunBody(recorder.time(), fields).encode(), "run")

    def _set_field(self, name: str, value: "Any") -> None:
        self.record_fields({name: str(to_plain(value))})

    def _record_config(self, values: "Dict[str, Any]", removed: "List[str]") -> None:
        self.record(CONFIG, lambda recorder: Patch(recorder.time(), values, removed).encode(), "config")

    def _record_summary(self, values: "Dict[str, Any]", removed: "List[str]") -> None:
        self.record(SUMMARY, lambda recorder: Patch(recorder.time(), values, removed).encode(), "summary")

    def record(self, kind: int, encode: "Callable[[Recorder], bytes]", what: str) -> bool:
        """Append one record to this process's stream. Never raises; return whether it is kept.

        encode is given the recorder, for the time; `what` names it in warnings.
        """
        if self._disabled:
            return False
        try:
            recorder = self._here()
            if self._finished:
                recorder.lost += 1
                self._warn("finished", "%s changed after finish(): this is not recorded" % what)
                return False
            return recorder.write(kind, encode(recorder))
        except Exception as error:  # noqa: BLE001 - the guard
            self._guard(what, error)
            return False

    def _describe(self) -> "Records":
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

    def _join(self) -> "Records":
        # Not earlier: multiprocessing forgets what was registered before its child had begun.
        from ._session import at_exit

        _ending.at_child_exit(lambda: at_exit(self))  # type: ignore[arg-type]  # a RunState is a Run's
        return self._belong()

    def _belong(self) -> "Records":
        """Return the record that says whose run a stream belongs to, where another one describes it."""
        fields: Dict[str, Any] = {
            name: self._fields[name] for name in ("project", "entity") if name in self._fields
        }
        return [(RUN, RunBody(self._recorder.time(), fields).encode())]

    # The summary and log()

    def _to_stored(self, name: str, value: "Any") -> "Any":
        """Return what the summary keeps of a value set by hand; a picture or table becomes a file."""
        shown = None
        try:
            simple = value is None or isinstance(value, (int, float, str, dict, list, tuple))
            if not simple and not self._disabled and not hasattr(value, "item"):
                with _loading.lock:
                    from . import _rich

                shown = _rich.to_summary(value, self.directory, name)
        except Exception as error:  # noqa: BLE001 - pictures are foreign code
            self._warn("summary", "summary[%r] is kept as text: %s" % (name, error))
        return to_plain(value) if shown is None else shown

    def _take_newest(self) -> "Dict[str, Any]":
        recorder = self._here()
        try:
            with recorder.lock:
                newest, self._newest = self._newest, {}
                if self.definitions is not None:
                    self.definitions.saw(newest)
            return newest
        except BaseException:
            let_go(recorder)
            raise

    def use_definitions(self, definitions: "Any") -> None:
        """Go by these definitions from the next log() on."""
        recorder = self._here()
        try:
            with recorder.lock:
                self.definitions = definitions
                self._look_again()
        except BaseException:
            let_go(recorder)
            raise

    def _look_again(self) -> None:
        self._names = [None]
        self._known.clear()

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

    # The end

    def at_end(self, function: "Callable[[int], None]") -> None:
        """Have function called with the exit code when the run ends in this process, the last one first.

        Not in a fork, and before the last record is written.

        >>> run.at_end(lambda code: print("ended with", code))
        >>> run.finish(exit_code=3)
        ended with 3
        """
        self._endings.append((getpid(), function))

    def _run_endings(self, code: int) -> None:
        endings, self._endings = self._endings, []
        for pid, function in reversed(endings):
            if pid != getpid():
                continue
            try:
                function(code)
            except Exception as error:  # noqa: BLE001 - the guard
                self._guard("finish", error)

    # Trouble

    def _warn(self, topic: str, text: str) -> None:
        if not self._disabled:
            self._terminal.warn(topic, text)

    def _warn_of_loss(self, reason: str) -> None:
        self._terminal.say(
            "warning: %s cannot be written to: %s. Training goes on; what is lost is counted and reported "
            "when writing works again. Free some space, or set TRACKER_DIR to another directory."
            % (self.directory, reason)
        )

    def _guard(self, what: str, error: Exception) -> None:
        try:
            recorder = self._recorders.get(os.getpid(), self._recorder)
            recorder.lost += 1
            self._warn(what, "%s failed: %s: %s" % (what, type(error).__name__, error))
        except Exception:  # noqa: BLE001, S110 - out of memory or stack: nothing may leave here
            pass
