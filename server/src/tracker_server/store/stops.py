"""StopStore: who asked which run to stop, and what became of it. Survives restarts; agents fetch it.

A request is for the writers a run had when it was asked: one that joins later, after a resume, is none of
its business. It is done when none of them is live any more.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, insert, select, update

from ..principal import Principal
from . import schema
from .engine import AnyRow, Database, inserted_id
from .errors import NotFound, StoreError
from .host_rows import stored_machine
from .stream_rows import read_header_row
from .text import clean_text, dump_json, load_json

#: Requests that one answer to an agent holds; further ones come with the next.
REQUESTS_MAX = 200
#: Results an agent may report: the file is there, or why it is not.
WRITTEN = "written"
FAILED = "failed"


class NotStoppable(StoreError):
    """The run cannot be stopped from here; the message says why. code: not_running or not_allowed."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class Delivery:
    """What one host's agent did about a request."""

    machine: str
    time: int
    result: str
    reason: str


@dataclass(frozen=True)
class StopRequest:
    """One request. done: since when none of the writers it is for has been live."""

    id: int
    by: str
    asked: int
    done: int | None
    deliveries: list[Delivery]


@dataclass(frozen=True)
class HostRequest:
    """A request as one agent gets it: which of its streams it is for."""

    id: int
    project: str
    run: str
    by: str
    asked: int
    streams: list[tuple[int, bytes]]


class StopRows:
    """The statements commit() makes about requests, in its transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def settle(self, run_id: int, now: int) -> None:
        """Close the requests of a run whose writers are all gone."""
        stops, streams = schema.stop_requests.c, schema.streams.c
        is_open = and_(stops.run_id == run_id, stops.done.is_(None))
        for row in self._connection.execute(select(stops.id, stops.streams).where(is_open)).all():
            live = select(streams.id).where(
                streams.run_id == run_id, streams.state == "live", streams.ordinal < row.streams
            )
            if self._connection.execute(live.limit(1)).first() is None:
                self._connection.execute(
                    update(schema.stop_requests).where(stops.id == row.id).values(done=now)
                )


class StopStore:
    """Questions and answers about requests to stop."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, run_id: int, principal: Principal, now: int) -> tuple[StopRequest, list[str]]:
        """Ask a run to stop; return the request and the machines it runs on. Raise NotStoppable.

        Asked again while the first request is open, that one is returned; hosts that failed try again.
        """
        stops, runs = schema.stop_requests.c, schema.runs.c
        with self._database.write() as transaction:
            run = transaction.execute(select(runs.state, runs.streams).where(runs.id == run_id)).one()
            if run.state != "running":
                raise NotStoppable("not_running", "the run is not running any more")
            machines = _stoppable_machines(transaction, run_id)
            if not machines:
                raise NotStoppable(
                    "not_allowed",
                    "no live process of this run looks for requests to stop: start it with"
                    " tracker.init(allow_stop=True) or TRACKER_ALLOW_STOP=1",
                )
            former = transaction.execute(
                select(stops.id, stops.deliveries)
                .where(stops.run_id == run_id, stops.done.is_(None), stops.streams == run.streams)
                .limit(1)
            ).first()
            if former is None:
                made = transaction.execute(
                    insert(schema.stop_requests),
                    {
                        "run_id": run_id,
                        "principal_id": principal.id,
                        "asked": now,
                        "streams": run.streams,
                        "deliveries": "{}",
                    },
                )
                request_id = inserted_id(made)
            else:
                request_id = int(former.id)
                kept = {
                    who: what
                    for who, what in load_json(former.deliveries).items()
                    if what["result"] != FAILED
                }
                transaction.execute(
                    update(schema.stop_requests)
                    .where(stops.id == request_id)
                    .values(deliveries=dump_json(kept))
                )
            row = transaction.execute(_REQUESTS.where(stops.id == request_id)).one()
        return _request(row), machines

    def of_run(self, run_id: int) -> StopRequest | None:
        """Return the newest request of a run."""
        query = _REQUESTS.where(schema.stop_requests.c.run_id == run_id)
        with self._database.read() as connection:
            row = connection.execute(query.order_by(schema.stop_requests.c.id.desc()).limit(1)).first()
        return None if row is None else _request(row)

    def pending(self, principal: Principal, machine: str) -> list[HostRequest]:
        """Return what the agent of a machine has to do about streams that came with this principal's keys."""
        machine = stored_machine(machine)
        found: dict[int, HostRequest] = {}
        with self._database.read() as connection:
            for row in connection.execute(
                _PENDING.where(
                    schema.projects.c.entity_id == principal.entity_id,
                    schema.streams.c.principal_id == principal.id,
                )
            ):
                if _machine_if_stoppable(row.header) != machine:
                    continue
                if _deliverer(principal, machine) in load_json(row.deliveries):
                    continue
                if row.id not in found and len(found) >= REQUESTS_MAX:
                    break
                request = found.setdefault(
                    row.id, HostRequest(row.id, row.project, row.run, row.by, row.asked, [])
                )
                request.streams.append((row.uid, row.stream))
        return list(found.values())

    def delivered(
        self, principal: Principal, machine: str, request_id: int, result: str, reason: str, now: int
    ) -> None:
        """Note what an agent did. Raise NotFound where the request is none of its business."""
        machine = stored_machine(machine)
        stops, streams = schema.stop_requests.c, schema.streams.c
        with self._database.write() as transaction:
            row = transaction.execute(
                select(stops.run_id, stops.streams, stops.deliveries)
                .join(schema.runs, schema.runs.c.id == stops.run_id)
                .join(schema.projects, schema.projects.c.id == schema.runs.c.project_id)
                .where(stops.id == request_id, schema.projects.c.entity_id == principal.entity_id)
            ).one_or_none()
            mine = select(streams.header).where(
                streams.run_id == (-1 if row is None else row.run_id),
                streams.principal_id == principal.id,
                streams.ordinal < (0 if row is None else row.streams),
            )
            headers = transaction.execute(mine).scalars()
            if row is None or all(_machine_if_stoppable(header) != machine for header in headers):
                raise NotFound("there is no request %d for this host" % request_id)
            deliveries = load_json(row.deliveries)
            deliveries[_deliverer(principal, machine)] = {
                "machine": machine,
                "time": now,
                "result": result,
                "reason": clean_text(reason)[:500],
            }
            transaction.execute(
                update(schema.stop_requests)
                .where(stops.id == request_id)
                .values(deliveries=dump_json(deliveries))
            )


def _deliverer(principal: Principal, machine: str) -> str:
    """Name whose part of a request it is: users of one machine may ship with keys of their own."""
    return "%d@%s" % (principal.id, machine)


def _stoppable_machines(connection: Connection, run_id: int) -> list[str]:
    streams = schema.streams.c
    query = select(streams.header).where(streams.run_id == run_id, streams.state == "live")
    machines = (_machine_if_stoppable(header) for header in connection.execute(query).scalars())
    return sorted({machine for machine in machines if machine is not None})


def _machine_if_stoppable(data: bytes | None) -> str | None:
    header = read_header_row(data)
    return stored_machine(header.machine) if header is not None and header.stop else None


def _request(row: AnyRow) -> StopRequest:
    deliveries: Iterable[dict[str, Any]] = load_json(row.deliveries).values()
    return StopRequest(row.id, row.by, row.asked, row.done, [Delivery(**each) for each in deliveries])


_REQUESTS = select(
    schema.stop_requests.c.id,
    schema.stop_requests.c.asked,
    schema.stop_requests.c.done,
    schema.stop_requests.c.deliveries,
    schema.principals.c.name.label("by"),
).join(schema.principals, schema.principals.c.id == schema.stop_requests.c.principal_id)
_PENDING = (
    select(
        schema.stop_requests.c.id,
        schema.stop_requests.c.asked,
        schema.stop_requests.c.deliveries,
        schema.principals.c.name.label("by"),
        schema.projects.c.name.label("project"),
        schema.runs.c.run,
        schema.streams.c.uid,
        schema.streams.c.stream,
        schema.streams.c.header,
    )
    .join(schema.principals, schema.principals.c.id == schema.stop_requests.c.principal_id)
    .join(schema.runs, schema.runs.c.id == schema.stop_requests.c.run_id)
    .join(schema.projects, schema.projects.c.id == schema.runs.c.project_id)
    .join(
        schema.streams,
        and_(
            schema.streams.c.run_id == schema.runs.c.id,
            schema.streams.c.state == "live",
            schema.streams.c.ordinal < schema.stop_requests.c.streams,
        ),
    )
    .where(schema.stop_requests.c.done.is_(None))
    .order_by(schema.stop_requests.c.id)
)
