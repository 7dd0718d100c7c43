"""From whole lines to what they say: columns of points, console lines, patches, and what is kept raw.

Decides nothing about runs and touches no database. METRICS come by the hundred thousand, so they
have a fast way that hands over to the exact one (protocol.bodies) at anything unusual.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import msgpack
import numpy as np
import numpy.typing as npt

from tracker.protocol import bodies, kinds
from tracker.protocol.codec import Line, line_bytes
from tracker.protocol.errors import BodyError

from ..store.host_events import LEVELS, HostEvent
from ..store.points import PointBatch
from ..store.text import clean_text, dump_json, json_value
from ..store.windows import PART_SEPARATOR, PARTS

#: A metric's name; an index entry of any database has room for that many characters.
NAME_MAX = 512
#: Metrics of one window that are kept, of the machine and of one writer's process; the others are counted.
HOST_METRICS_MAX = 5_000
WRITER_METRICS_MAX = 500
#: An event is a line or two for a person, and a few words for programs.
TITLE_MAX = 256
TEXT_MAX = 4_096
FACTS_MAX = 4_096

_NUMBERS = frozenset((int, float, bool))
_RUN_KINDS = frozenset((kinds.METRICS, kinds.VALUE, kinds.CONSOLE, kinds.CONFIG, kinds.SUMMARY, kinds.RUN))
_HOST_KINDS = frozenset((kinds.SAMPLE, kinds.HOST, kinds.OBSERVED))


class UnusualError(Exception):
    """The fast way met something it leaves to the exact one."""


@dataclass
class Problem:
    """How often something was wrong, and where first."""

    count: int
    offset: int


@dataclass
class Records:
    """What the lines of one batch say, in their order."""

    points: PointBatch | None = None
    step_max: int | None = None
    console: list[tuple[int, str, str]] = field(default_factory=list)
    patches: list[tuple[int, dict[str, Any], list[str]]] = field(default_factory=list)
    runs: list[tuple[int, bodies.Run]] = field(default_factory=list)  # with their offsets
    exit: bodies.Exit | None = None
    inventory: dict[str, Any] | None = None
    observed: list[tuple[int, bodies.Observed]] = field(default_factory=list)
    #: What was sampled of single writers, by uid and stream.
    about: dict[tuple[int, bytes], PointBatch] = field(default_factory=dict)
    events: list[tuple[int, HostEvent]] = field(default_factory=list)
    lost: list[tuple[int, bodies.Lost]] = field(default_factory=list)
    raw: list[tuple[int, int, bytes]] = field(default_factory=list)
    problems: dict[str, Problem] = field(default_factory=dict)

    def keep_raw(self, offset: int, kind: int, body: bytes, problem: str | None = None) -> None:
        """Keep a record as it came, and count what is wrong with it."""
        self.raw.append((offset, kind, body))
        if problem is not None:
            self.count(problem, offset)

    def count(self, problem: str, offset: int, times: int = 1) -> None:
        """Count a problem."""
        seen = self.problems.setdefault(clean_text(problem)[:256], Problem(0, offset))
        seen.count += times


def decode_records(
    lines: Sequence[Line], at: int, *, step_max: int | None, about_host: bool, newer: bool
) -> Records:
    """Return what lines say; the first one lies at offset `at` of its stream.

    step_max is the greatest step of the stream so far. about_host: the stream is about the machine and
    belongs to no run. newer: written in a later format version, so that only RUN and EXIT are looked
    into: where a run belongs and that it ended must not wait for a newer server.
    """
    records = Records(step_max=step_max)
    columns = _Columns()
    reader = _Reader(records, columns, about_host)
    for kind, _, body in lines:
        offset = at
        at += 9 + len(body) if kind < 128 and len(body) < 256 else line_bytes(kind, len(body))
        if kind == kinds.METRICS and not about_host and not newer:
            try:
                columns.add(offset, body, records)
            except UnusualError:
                try:
                    columns.add_exactly(offset, bodies.decode_metrics(body), records)
                except BodyError as error:
                    records.keep_raw(offset, kind, body, "METRICS: %s" % error)
            continue
        name = kinds.NAMES.get(kind)
        if newer and kind not in (kinds.RUN, kinds.EXIT):
            records.keep_raw(offset, kind, body, "written in a newer version of the format")
        elif name is None:
            records.keep_raw(offset, kind, body, "unknown kind %d" % kind)
        elif kind in (_RUN_KINDS if about_host else _HOST_KINDS):
            where = "a host" if about_host else "a run"
            records.keep_raw(offset, kind, body, "%s in a stream of %s" % (name, where))
        else:
            try:
                reader.read(_Line(offset, kind, body))
            except (BodyError, ValueError) as error:
                records.keep_raw(offset, kind, body, "%s: %s" % (name, error))
    records.points = columns.batch()
    for key, sampled in reader.about.items():
        batch = sampled.batch()
        if batch is not None:
            records.about[key] = batch
    return records


class _Columns:
    """Points as they are read: records in order, and flat values with a column number per record's shape."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.shapes: dict[tuple[str, ...], npt.NDArray[np.uint32]] = {}
        self.steps: list[int] = []
        self.times: list[int] = []
        self.offsets: list[int] = []
        self.columns: list[npt.NDArray[np.uint32]] = []
        self.values: list[float] = []

    def add(self, offset: int, body: bytes, records: Records) -> None:
        """Add one METRICS record. Raise UnusualError, having added nothing, when it is not plain."""
        try:
            time, step, values = msgpack.unpackb(body)
            numbers = values.values()
            shape = self.shapes.get(tuple(values))
        except (ValueError, TypeError, AttributeError, msgpack.UnpackException, RecursionError) as error:
            raise UnusualError from error
        if shape is None or type(time) is not int or not _NUMBERS.issuperset(map(type, numbers)):
            raise UnusualError
        greatest = records.step_max
        if step is None:
            step = 0 if greatest is None else greatest + 1
        elif type(step) is not int:
            raise UnusualError
        if not (-0x8000000000000000 <= step < 0x8000000000000000 > time >= -0x8000000000000000):
            raise UnusualError
        if greatest is None or step > greatest:
            records.step_max = step
        self.steps.append(step)
        self.times.append(time)
        self.offsets.append(offset)
        self.columns.append(shape)
        self.values.extend(numbers)

    def add_exactly(self, offset: int, metrics: bodies.Metrics, records: Records) -> None:
        """Add one decoded METRICS record. Raise BodyError when it cannot be kept as points."""
        shape = self._shape(tuple(metrics.values))
        greatest = records.step_max
        step = metrics.step
        if step is None:
            step = 0 if greatest is None else greatest + 1
            if step > kinds.INT_MAX:
                raise BodyError("there is no step after the greatest")
        records.step_max = step if greatest is None else max(step, greatest)
        self.steps.append(step)
        self.times.append(metrics.time)
        self.offsets.append(offset)
        self.columns.append(shape)
        self.values.extend(metrics.values.values())

    def _shape(self, names: tuple[str, ...]) -> npt.NDArray[np.uint32]:
        shape = self.shapes.get(names)
        if shape is None:
            cleaned = [clean_text(name) for name in names]
            if any(len(name) > NAME_MAX for name in cleaned):
                raise BodyError("a name is longer than %d characters" % NAME_MAX)
            if len(set(cleaned)) != len(cleaned):
                raise BodyError("two names are the same once invalid characters are replaced")
            numbers = [self.names.setdefault(name, len(self.names)) for name in cleaned]
            shape = self.shapes[names] = np.array(numbers, np.uint32)
        return shape

    def add_sample(self, offset: int, time: int, windows: Iterable[tuple[str, bodies.Window]]) -> None:
        """Add one window: the step is its time."""
        names: list[str] = []
        values: list[float] = []
        for name, (mean, least, most, last, count) in windows:
            name = name.replace(PART_SEPARATOR, " ")
            names += [name, *(name + PART_SEPARATOR + part for part in PARTS)]
            values += [last, mean, least, most, count]
        self.columns.append(self._shape(tuple(names)))
        self.values.extend(values)
        self.steps.append(time)
        self.times.append(time)
        self.offsets.append(offset)

    def batch(self) -> PointBatch | None:
        if not self.steps:
            return None
        sizes = [len(shape) for shape in self.columns]
        return PointBatch(
            names=list(self.names),
            ordinal=0,
            step=np.array(self.steps, np.int64),
            time=np.array(self.times, np.int64),
            offset=np.array(self.offsets, np.int64),
            column=np.concatenate(self.columns),
            record=np.repeat(np.arange(len(sizes), dtype=np.uint32), sizes),
            value=np.array(self.values, np.float64),
        )


class _Line(NamedTuple):
    """One line and where it lies in its stream."""

    offset: int
    kind: int
    body: bytes


class _Reader:
    """Reads lines of every kind but METRICS. Each method raises BodyError or ValueError on a bad body."""

    def __init__(self, records: Records, columns: _Columns, about_host: bool) -> None:
        self.about: dict[tuple[int, bytes], _Columns] = {}
        self._records = records
        self._columns = columns
        self._about_host = about_host
        self._methods: dict[int, Callable[[_Line], None]] = {
            kinds.VALUE: self._value,
            kinds.CONSOLE: self._console,
            kinds.CONFIG: self._patch,
            kinds.SUMMARY: self._patch,
            kinds.RUN: self._run,
            kinds.FILE: self._file,
            kinds.ALERT: self._alert,
            kinds.EXIT: self._exit,
            kinds.SAMPLE: self._sample,
            kinds.HOST: self._host,
            kinds.OBSERVED: self._observed,
            kinds.LOST: self._lost,
        }

    def read(self, line: _Line) -> None:
        """Take a line of a known kind into the records."""
        self._methods[line.kind](line)

    def _console(self, line: _Line) -> None:
        time, stream, lines = bodies.decode_console(line.body)
        self._records.console.extend((time, stream, clean_text(text)) for text in lines)

    def _patch(self, line: _Line) -> None:
        patch = bodies.decode_patch(line.body)
        removed = [clean_text(name) for name in patch.removed]
        self._records.patches.append((line.kind, json_value(patch.set), removed))

    def _run(self, line: _Line) -> None:
        run = bodies.decode_run(line.body)
        self._records.runs.append((line.offset, bodies.Run(run.time, json_value(run.fields))))

    def _exit(self, line: _Line) -> None:
        self._records.exit = bodies.decode_exit(line.body)

    def _sample(self, line: _Line) -> None:
        sample = bodies.decode_sample(line.body)
        about = sample.about
        columns = self._columns if about is None else self.about.setdefault(about, _Columns())
        metrics_max = HOST_METRICS_MAX if about is None else WRITER_METRICS_MAX
        columns.add_sample(line.offset, sample.time, islice(sample.values.items(), metrics_max))
        surplus = len(sample.values) - metrics_max
        if surplus > 0:
            whose = "a host" if about is None else "a process"
            problem = "SAMPLE: metrics beyond the first %d of %s" % (metrics_max, whose)
            self._records.count(problem, line.offset, surplus)

    def _host(self, line: _Line) -> None:
        self._records.inventory = json_value(bodies.decode_host(line.body).inventory)

    def _observed(self, line: _Line) -> None:
        seen = bodies.decode_observed(line.body)
        self._records.observed.append((line.offset, seen._replace(facts=json_value(seen.facts))))

    def _lost(self, line: _Line) -> None:
        self._records.lost.append((line.offset, bodies.decode_lost(line.body)))

    def _value(self, line: _Line) -> None:
        bodies.decode_value(line.body)
        self._records.keep_raw(*line)

    def _file(self, line: _Line) -> None:
        bodies.decode_file(line.body)
        self._records.keep_raw(*line)

    def _alert(self, line: _Line) -> None:
        alert = bodies.decode_alert(line.body)
        if not self._about_host:
            self._records.keep_raw(*line)
            return
        facts = json_value(alert.facts or {})
        if len(dump_json(facts)) > FACTS_MAX:
            facts = {}
            self._records.count("ALERT: facts of more than %d characters, left out" % FACTS_MAX, line.offset)
        event = HostEvent(
            time=alert.time,
            level=alert.level if alert.level in LEVELS else "info",
            title=clean_text(alert.title)[:TITLE_MAX],
            text=clean_text(alert.text)[:TEXT_MAX],
            facts=facts,
        )
        self._records.events.append((line.offset, event))
