"""Writer: puts the entries of one request into the store, inside one transaction.

Decides who may write where, which run a stream belongs to, and what its records change. What the
bytes say is decided in position.py and records.py, what states mean in run_state.py.
"""

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tracker.protocol import bodies, kinds
from tracker.protocol.codec import Line
from tracker.protocol.errors import BodyError
from tracker.protocol.header import Header
from tracker.protocol.kinds import FORMAT_VERSION

from ..principal import Principal
from ..store.console import ConsoleLine
from ..store.engine import AnyRow
from ..store.run_rows import RunRow
from ..store.stream_rows import StreamRow
from ..store.text import clean_text, dump_json, json_value
from ..store.transaction import Transaction
from .machine_records import keep_events, keep_writer_samples
from .position import Position, RefusedError, TooLargeError, fit_gap, fit_lines
from .records import Records, decode_records
from .run_cause import run_cause, tells_more
from .run_state import derive_run_state

UNCATEGORIZED = "uncategorized"
#: Writers of runs whose processes one request has samples of. Each is a set of points of its own, some
#: milliseconds of the database's only writer. An agent with more is told to send less at once.
SAMPLED_WRITERS_MAX = 512
_PROJECT_FORBIDDEN = frozenset("/\\#?%:")
_RUN_COLUMNS = ("name", "notes", "group", "job_type")


class Writer:
    """One request's way into the store. Remembers which runs and hosts it changed."""

    def __init__(self, transaction: Transaction, principal: Principal, now: int) -> None:
        self._transaction = transaction
        self._principal = principal
        self._now = now
        self._runs: dict[int, bool] = {}  # changed runs; True where a stream's state changed
        self._hosts: set[str] = set()
        self._hosts_with_events: set[str] = set()
        self._sampled_writers = 0

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what the block did when it raises, also in what this object remembers."""
        runs, hosts, with_events = dict(self._runs), set(self._hosts), set(self._hosts_with_events)
        try:
            with self._transaction.savepoint():
                yield
        except BaseException:
            self._runs, self._hosts, self._hosts_with_events = runs, hosts, with_events
            self._transaction.runs.forget()
            raise

    def next_of(self, uid: int, stream: bytes) -> int:
        """Return where a stream goes on; 0 for one that is not known."""
        row = self._transaction.streams.find(self._principal.entity_id, uid, stream)
        return 0 if row is None else row.next

    def run_of(self, uid: int, stream: bytes) -> tuple[RunRow, Header] | None:
        """Return the run that a stream writes, None while there is none. Raise RefusedError."""
        row = self._find(uid, stream)
        if row is None or row.run_id is None or row.header is None:
            return None
        return self._transaction.runs.get(row.run_id), row.header

    def touch_run(self, run_id: int) -> None:
        """Note that a run has changed."""
        self._runs.setdefault(run_id, False)

    def changed_runs(self) -> list[AnyRow]:
        """Settle the state of the runs that changed and return their news."""
        news = []
        for run_id, state_changed in self._runs.items():
            values: dict[str, Any] = {"updated": self._now}
            if state_changed:
                endings = self._transaction.runs.endings(run_id)
                derived = derive_run_state(endings)
                values |= {
                    "state": derived.state,
                    "exit_code": derived.exit_code,
                    "finished": derived.finished,
                    "cause": None if derived.state == "running" else run_cause(endings),
                }
                self._transaction.stops.settle(run_id, self._now)
            self._transaction.runs.update(run_id, values)
            news.append(self._transaction.runs.news(run_id))
        return news

    def changed_hosts(self) -> list[str]:
        """Return the machine ids of hosts that have new samples or another inventory."""
        return sorted(self._hosts)

    def hosts_with_events(self) -> list[str]:
        """Return the machine ids of hosts to which something happened."""
        return sorted(self._hosts_with_events)

    # --- entries -------------------------------------------------------------------------------------

    def add_lines(self, uid: int, stream: bytes, user: str, offset: int, data: bytes) -> int:
        """Store what is new in some lines; return where the stream goes on.

        Raise RefusedError, and TooLargeError where the whole request takes too long to store.
        """
        row = self._find(uid, stream)
        position = _position(row)
        fitted = fit_lines(position, stream, offset, data)
        if fitted is None:
            return position.next
        header = fitted.position.header
        assert header is not None
        if row is None:
            row = self._insert(uid, stream, user)
        _move(row, fitted.position)
        if row.header is None:
            row.header = header
            if header.run is None:
                self._join_host(row, header)
            self._transaction.streams.set_header(row)
        about_host = header.run is None
        if header.run is not None and row.run_id is None and fitted.lines:
            self._join_run(row, header, uid, user, fitted.lines[0])
            self._see_observed(row, uid, stream)
        records = decode_records(
            fitted.lines,
            fitted.at,
            step_max=row.step_max,
            about_host=about_host,
            newer=header.version > FORMAT_VERSION,
        )
        row.step_max = records.step_max
        self._transaction.streams.set_position(row)
        if about_host:
            self._apply_to_host(row, header, records)
        else:
            self._apply_to_run(row, records)
        self._apply_to_stream(row, records)
        return row.next

    def add_gap(self, uid: int, stream: bytes, user: str, offset: int, size: int, reason: str) -> int:
        """Record that bytes will never come; return where the stream goes on. Raise RefusedError."""
        row = self._find(uid, stream)
        before = _position(row)
        position = fit_gap(before, offset, size)
        if position is None:
            return before.next
        if row is None:
            row = self._insert(uid, stream, user)
        _move(row, position)
        self._transaction.streams.set_position(row)
        self._transaction.streams.add_gap(row.id, offset, size, reason, self._now)
        if row.run_id is not None:
            self._runs.setdefault(row.run_id, False)
        return row.next

    def _find(self, uid: int, stream: bytes) -> StreamRow | None:
        """Return a stream the principal may write. Raise RefusedError when it may not."""
        row = self._transaction.streams.find(self._principal.entity_id, uid, stream)
        if row is None:
            return None
        if row.run_id is not None:
            self._check_owner(self._transaction.runs.get(row.run_id), uid)
        elif row.principal_id != self._principal.id:
            raise RefusedError("forbidden", "this stream belongs to another principal", show_next=False)
        return row

    def _insert(self, uid: int, stream: bytes, user: str) -> StreamRow:
        principal = self._principal
        return self._transaction.streams.insert(
            principal.entity_id, uid, stream, principal.id, user, self._now
        )

    def _check_owner(self, run: RunRow, uid: int) -> None:
        if (run.principal_id, run.uid) == (self._principal.id, uid):
            return
        if not self._transaction.runs.is_granted(run.id, self._principal.id, uid):
            raise RefusedError(
                "forbidden",
                "run %s of project %s belongs to someone else: use another run id, or have its owner grant"
                " you the run" % (run.run, run.project),
                show_next=False,
            )

    # --- runs ----------------------------------------------------------------------------------------

    def _join_run(self, row: StreamRow, header: Header, uid: int, user: str, first: Line) -> None:
        """Attach a stream to its run, making the run when this is its first writer."""
        project, entity, problem = _placement(first)
        if entity is not None and entity != self._principal.entity:
            raise RefusedError(
                "forbidden",
                "the run asks for entity %s, the key is of entity %s"
                % (clean_text(entity), self._principal.entity),
                show_next=False,
            )
        project_id = self._transaction.runs.ensure_project(self._principal.entity_id, project, self._now)
        assert header.run is not None
        run = self._transaction.runs.find(project_id, header.run)
        if run is not None:
            self._check_owner(run, uid)
            row.run_id = run.id
        else:
            row.run_id = self._transaction.runs.insert(
                project_id, header, self._principal.id, uid, user, self._now
            )
        row.ordinal = self._transaction.runs.next_ordinal(row.run_id)
        self._transaction.streams.set_header(row)
        self._runs[row.run_id] = True
        if problem is not None:
            self._transaction.streams.count_problem(row.id, problem, 1, row.base)

    def _see_observed(self, row: StreamRow, uid: int, stream: bytes) -> None:
        """Apply what an agent saw of a stream before its first records arrived."""
        principal = self._principal
        seen = self._transaction.observed.take(principal.entity_id, row.principal_id, uid, stream)
        if seen is not None:
            row.state = seen.state
            self._transaction.streams.set_state(row.id, seen.state, seen.time, observed=seen.facts)

    def _apply_to_run(self, row: StreamRow, records: Records) -> None:
        if row.run_id is None:
            return
        run_id = row.run_id
        self._runs.setdefault(run_id, False)
        if records.points is not None:
            run = self._transaction.runs.get(run_id)
            records.points.ordinal = row.ordinal
            self._transaction.append_points(run.points_id, records.points)
        if records.console:
            lines = [ConsoleLine(time, stream, text, row.ordinal) for time, stream, text in records.console]
            self._transaction.append_console(run_id, lines)
        if records.runs or records.patches:
            self._apply_documents(run_id, records)

    def _apply_documents(self, run_id: int, records: Records) -> None:
        documents = self._transaction.runs.read_documents(run_id)
        values: dict[str, Any] = {}
        for offset, run in records.runs:
            self._check_placement(run_id, offset, run, records)
            for name, value in run.fields.items():
                if name in _RUN_COLUMNS:
                    values[name] = value
                elif name == "tags":
                    values["tags"] = value
                elif name not in ("project", "entity"):
                    documents["fields"][name] = value
                    values["fields"] = documents["fields"]
        for kind, changed, removed in records.patches:
            name = "config" if kind == kinds.CONFIG else "summary"
            document = documents[name]
            document.update(changed)
            for key in removed:
                document.pop(key, None)
            if kind == kinds.SUMMARY:
                hidden = [key for key in documents["hidden"] if key not in changed and key not in removed]
                documents["hidden"] = values["hidden"] = [*hidden, *dict.fromkeys(removed)]
            values[name] = document
        if values:
            self._transaction.runs.update(run_id, values)

    def _check_placement(self, run_id: int, offset: int, run: bodies.Run, records: Records) -> None:
        entity = run.fields.get("entity")
        if entity is not None and entity != self._principal.entity:
            records.count("RUN: a run cannot move to another entity", offset)
        project = run.fields.get("project")
        if project is not None and valid_project(project):
            current = self._transaction.runs.get(run_id).project
            if project != current:
                records.count("RUN: a run cannot move to another project", offset)

    # --- hosts ---------------------------------------------------------------------------------------

    def touch_host(self, machine: str, host: str, agent: str | None) -> AnyRow:
        """Note that an agent of a machine has spoken, if the principal may say so."""
        principal = self._principal
        row = self._transaction.hosts.touch(principal.entity_id, machine, host, agent, self._now)
        if agent is not None and (row.principal_id in (None, principal.id) or principal.trusted):
            self._transaction.hosts.update(
                row.id, seen=self._now, host=clean_text(host), agent=clean_text(agent)
            )
        return row

    def _join_host(self, row: StreamRow, header: Header) -> None:
        host = self.touch_host(header.machine, header.host, None)
        row.host_id = host.id
        row.ordinal = self._transaction.streams.count_of_host(host.id)

    def _apply_to_host(self, row: StreamRow, header: Header, records: Records) -> None:
        assert row.host_id is not None
        host = self.touch_host(header.machine, header.host, None)
        for offset, seen in records.observed:
            self._apply_observed(seen, offset, records)
        self._sampled_writers += len(records.about)
        if self._sampled_writers > SAMPLED_WRITERS_MAX:
            raise TooLargeError(f"it has samples of more than {SAMPLED_WRITERS_MAX} writers' processes")
        if keep_writer_samples(self._transaction, self._principal, row.ordinal, records):
            self._hosts.add(host.machine)
        if records.points is None and records.inventory is None and not records.events:
            return
        principal = self._principal
        if host.principal_id is None or (host.principal_id != principal.id and principal.trusted):
            # An agent's service account takes a machine back from whoever claimed it first.
            self._transaction.hosts.update(host.id, principal_id=principal.id)
        elif host.principal_id != principal.id:
            records.count("samples of a host that another principal reports on", row.base)
            return
        if records.points is not None:
            records.points.ordinal = row.ordinal
            self._transaction.append_points(host.points_id, records.points)
        if records.inventory is not None:
            inventory = dump_json(records.inventory)
            self._transaction.hosts.update(host.id, inventory=inventory)
        if records.points is not None or records.inventory is not None:
            self._hosts.add(host.machine)
        if records.events:
            keep_events(self._transaction, host.id, records, self._now)
            self._hosts_with_events.add(host.machine)

    def _apply_observed(self, seen: bodies.Observed, offset: int, records: Records) -> None:
        """Believe an agent about its own principal's streams, and a trusted one about all of the entity."""
        principal = self._principal
        target = self._transaction.streams.find(principal.entity_id, seen.uid, seen.stream)
        if target is None or (target.run_id is None and target.host_id is None):
            forgotten = self._transaction.observed.remember(
                principal.entity_id,
                principal.id,
                principal.trusted,
                seen.uid,
                seen.stream,
                seen.time,
                seen.state,
                seen.facts,
            )
            if forgotten:
                records.count("OBSERVED of streams that never arrived, forgotten", offset, forgotten)
        elif target.principal_id != principal.id and not principal.trusted:
            records.count("OBSERVED about a stream of another principal", offset)
        else:
            state = target.state if target.state == "ended" else seen.state
            former = self._transaction.streams.observed(target.id)
            if not tells_more(seen.state, seen.facts, target.state, former):
                return
            more: dict[str, Any] = {"observed": dump_json(seen.facts)}
            if state == "ended":
                self._transaction.streams.update(target.id, **more)
            else:
                self._transaction.streams.set_state(target.id, state, seen.time, **more)
            if target.run_id is not None:
                self._runs[target.run_id] = True

    # --- streams -------------------------------------------------------------------------------------

    def _apply_to_stream(self, row: StreamRow, records: Records) -> None:
        if records.exit is not None:
            exception = records.exit.exception
            self._transaction.streams.set_state(
                row.id,
                "ended",
                records.exit.time,
                exit_code=records.exit.code,
                exception=None if exception is None else dump_json(json_value(exception)),
                ending=dump_json(json_value(records.exit.facts)) if records.exit.facts else None,
            )
            if row.run_id is not None:
                self._runs[row.run_id] = True
        if records.lost:
            self._transaction.streams.add_lost(
                row.id,
                ((offset, lost.records, lost.reason, lost.time) for offset, lost in records.lost),
            )
        if records.raw:
            self._transaction.streams.add_raw(row.id, records.raw)
        for reason, problem in records.problems.items():
            self._transaction.streams.count_problem(row.id, reason, problem.count, problem.offset)


def valid_project(name: str) -> bool:
    """Return whether a project may have that name."""
    return (
        0 < len(name) <= 128
        and name not in (".", "..")
        and not any(char in _PROJECT_FORBIDDEN or unicodedata.category(char) in ("Cc", "Cs") for char in name)
    )


def _placement(first: Line) -> tuple[str, str | None, str | None]:
    """Return (project, entity asked for, problem) from the first record of a run's stream."""
    kind, _, body = first
    if kind != kinds.RUN:
        return UNCATEGORIZED, None, "the stream does not begin with RUN"
    try:
        fields = bodies.decode_run(body).fields
    except BodyError:
        return UNCATEGORIZED, None, None  # counted where the record is decoded
    project = fields.get("project", UNCATEGORIZED)
    entity = fields.get("entity")
    if not valid_project(project):
        return UNCATEGORIZED, entity, "RUN: %s cannot be the name of a project" % ascii(project[:128])
    return project, entity, None


def _position(row: StreamRow | None) -> Position:
    if row is None:
        return Position()
    return Position(row.next, row.crc, row.last, row.segment, row.base, row.header)


def _move(row: StreamRow, position: Position) -> None:
    row.next, row.crc, row.last = position.next, position.crc, position.last
    row.segment, row.base = position.segment, position.base
