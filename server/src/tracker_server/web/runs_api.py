"""Questions about runs: lists, one run, its console and rich values, and who else may write into it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, field

from tracker_server.lanes import Lane
from tracker_server.principal import ADMIN, INGEST, Principal
from tracker_server.store import runs as stored
from tracker_server.store.accounts import AccountStore
from tracker_server.store.errors import NotFound
from tracker_server.store.stops import StopRequest
from tracker_server.store.store import Store
from tracker_server.store.streams import Stream

from . import answers
from .errors import ApiError, not_found
from .json_values import json_value
from .routes import Access, Call, NoQuery, Route

RUN_PATH = "/api/v1/runs/{entity}/{project}/{run}"
Name = Annotated[str, Meta(max_length=128)]
Position = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class RunsQuery(Struct):
    """Which runs, in which order. q finds text in id, name, tags, notes and group."""

    project: Name | None = None
    state: Literal["running", "finished", "failed", "crashed"] | None = None
    q: Annotated[str, Meta(max_length=200)] | None = None
    sort: Literal["created", "-created", "updated", "-updated", "name", "-name", "state", "-state"] = (
        "-created"
    )
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50
    cursor: Annotated[str, Meta(max_length=1000)] | None = None


class FindQuery(Struct):
    """A run id, in any project or in one."""

    run: Name
    project: Name | None = None


class ConsoleQuery(Struct):
    """Lines after a cursor."""

    after: Position = 0
    limit: Annotated[int, Meta(ge=1, le=100_000)] = 1000


class ValuesQuery(Struct):
    """Values of all names or of one, of all types or of one."""

    name: Annotated[str, Meta(max_length=1000)] | None = None
    type: Annotated[str, Meta(max_length=100)] | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000


class GrantBody(Struct, forbid_unknown_fields=True):
    """Who may write into the run too. uid: only under that uid."""

    principal: Name
    uid: Annotated[int, Meta(ge=0, le=2**32 - 1)] | None = field(default=None)


class RunsApi:
    """Serves everything about runs but their points."""

    def __init__(
        self,
        store: Store,
        accounts: AccountStore,
        reader: Lane,
        writer: Lane,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._reader = reader
        self._writer = writer
        self._now = now

    def routes(self) -> list[Route]:
        """Return what this serves."""
        get, read = "GET", Access.READ
        return [
            Route(get, "/api/v1/projects", read, self.projects, "List projects", answers.ProjectsAnswer),
            Route(get, "/api/v1/runs", read, self.runs, "List runs", answers.RunsAnswer, query=RunsQuery),
            Route(get, "/api/v1/find", read, self.find, "Find a run by id", answers.RunRow, query=FindQuery),
            Route(get, RUN_PATH, read, self.run, "Show one run", answers.RunDetail),
            Route(
                get,
                RUN_PATH + "/console",
                read,
                self.console,
                "Read what a run printed, in order of arrival",
                answers.ConsoleAnswer,
                query=ConsoleQuery,
            ),
            Route(
                get,
                RUN_PATH + "/values",
                read,
                self.values,
                "Read the newest rich values (text, histograms, tables, references to files), oldest first",
                answers.ValuesAnswer,
                query=ValuesQuery,
            ),
            Route(
                "POST",
                RUN_PATH + "/grants",
                Access.SIGNED_IN,
                self.grant,
                "Let another principal write into a run",
                answers.Done,
                body=GrantBody,
                status=201,
            ),
        ]

    async def projects(self, call: Call[NoQuery, None]) -> answers.ProjectsAnswer:
        """List the projects of the caller's entity."""
        projects = await self._reader.run(self._store.runs.projects, call.principal.entity_id)
        return answers.ProjectsAnswer(
            [answers.Project(each.entity, each.project, each.runs, each.updated) for each in projects]
        )

    async def runs(self, call: Call[RunsQuery, None]) -> answers.RunsAnswer:
        """List runs, a page at a time."""
        query = call.query
        try:
            page = await self._reader.run(
                self._store.runs.list,
                call.principal.entity_id,
                project=query.project,
                state=query.state,
                q=query.q,
                sort=query.sort,
                limit=query.limit,
                cursor=query.cursor,
            )
        except ValueError as error:
            raise ApiError(400, "bad_parameter", f"cursor: {error}") from error
        return answers.RunsAnswer([_row(run) for run in page.runs], page.cursor, page.total)

    async def find(self, call: Call[FindQuery, None]) -> answers.RunRow:
        """Find the newest run with an id."""
        return _row(
            await self._reader.run(
                self._store.runs.find, call.principal.entity_id, call.query.run, call.query.project
            )
        )

    async def run(self, call: Call[NoQuery, None]) -> answers.RunDetail:
        """Show one run."""
        return await self._reader.run(self._read_detail, call)

    def _read_detail(self, call: Call[NoQuery, None]) -> answers.RunDetail:
        run = get_run(self._store, call)
        detail = self._store.runs.detail(run)
        try:
            found = self._store.hosts.get(call.principal.entity_id, run.machine)
            host = answers.Host(found.machine, found.host, found.seen, json_value(found.inventory))
        except NotFound:
            host = None
        stop = self._store.stops.of_run(run.id)
        stoppable = detail.run.state == "running" and any(
            each.stop and each.state == "live" for each in detail.streams
        )
        return answers.RunDetail(
            **_run_fields(detail.run),
            machine=run.machine,
            host=host,
            owner=run.principal,
            config=json_value(detail.config),
            summary=json_value(detail.summary),
            fields=json_value(detail.fields),
            console_lines=run.console_lines,
            streams=[_stream(each) for each in detail.streams],
            stop=None if stop is None else stop_state(stop),
            can_stop=stoppable and may_stop(self._store, call.principal, run),
        )

    async def console(self, call: Call[ConsoleQuery, None]) -> answers.ConsoleAnswer:
        """Read console lines after a cursor."""
        return await self._reader.run(self._read_console, call)

    def _read_console(self, call: Call[ConsoleQuery, None]) -> answers.ConsoleAnswer:
        run = get_run(self._store, call)
        page = self._store.console.read(run.id, after=call.query.after, limit=call.query.limit)
        lines = [answers.ConsoleLine(line.time, line.stream, line.text) for line in page.lines]
        return answers.ConsoleAnswer(page.cursor, lines, page.more)

    async def values(self, call: Call[ValuesQuery, None]) -> answers.ValuesAnswer:
        """Read rich values."""
        return await self._reader.run(self._read_values, call)

    def _read_values(self, call: Call[ValuesQuery, None]) -> answers.ValuesAnswer:
        run = get_run(self._store, call)
        query = call.query
        values = self._store.runs.values(run, name=query.name, type_=query.type, limit=query.limit)
        return answers.ValuesAnswer(
            [
                answers.Value(v.time, v.step, v.name, v.type, json_value(v.data), v.ordinal, v.offset)
                for v in values
            ],
            self._store.runs.stream_ids(run),
        )

    async def grant(self, call: Call[NoQuery, GrantBody]) -> answers.Done:
        """Let another principal of the entity write into a run. Only its owner or an admin may."""
        run = await self._reader.run(get_run, self._store, call)
        principal = call.principal
        if not principal.may("admin") and principal.id != run.principal_id:
            # Who may not read does not learn that the run exists.
            raise (
                ApiError(403, "forbidden", "only the run's owner or an admin may do this")
                if principal.may("read")
                else not_found("run")
            )
        other = await self._reader.run(self._accounts.principal, principal.entity, call.body.principal)
        await self._writer.run(
            self._store.runs.grant, run, other.id, call.body.uid, principal.id, self._now()
        )
        return answers.Done()


def get_run(store: Store, call: Call[Any, Any]) -> stored.Run:
    """Return the run a path names, within the caller's own entity. Raise NotFound."""
    return store.runs.get(call.principal.entity_id, call.path("project"), call.path("run"))


def may_stop(store: Store, principal: Principal, run: stored.Run) -> bool:
    """Return whether a principal may stop a run: an admin, or whoever may write it, with a key to write."""
    if principal.may(ADMIN):
        return True
    if not principal.may(INGEST):
        return False
    return principal.id == run.principal_id or store.runs.is_granted(run, principal.id)


def stop_state(request: StopRequest) -> answers.StopState:
    """Return a request as the API shows it."""
    return answers.StopState(
        id=request.id,
        by=request.by,
        asked=request.asked,
        done=request.done,
        deliveries=[
            answers.StopDelivery(each.machine, each.time, each.result, each.reason)
            for each in request.deliveries
        ],
    )


def _run_fields(run: stored.Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in answers.Run.__struct_fields__}


def _row(run: stored.Run) -> answers.RunRow:
    summary = run.summary
    return answers.RunRow(
        **_run_fields(run), host=run.host, summary=UNSET if summary is None else json_value(summary)
    )


def _stream(stream: Stream) -> answers.StreamState:
    return answers.StreamState(
        stream=stream.stream,
        uid=stream.uid,
        user=stream.user,
        host=stream.host,
        pid=stream.pid,
        rank=stream.rank,
        parent=stream.parent,
        role=stream.role,
        writer=stream.writer,
        state=stream.state,  # type: ignore[arg-type]  # the store knows no other states
        exit_code=stream.exit_code,
        exception=stream.exception,
        observed=json_value(stream.observed),
        ending=json_value(stream.ending),
        machine=stream.machine,
        stop=stream.stop,
        next=stream.next,
        gaps=[answers.Gap(each.offset, each.bytes, each.reason) for each in stream.gaps],
        lost=[answers.Lost(each.records, each.reason, each.time) for each in stream.lost],
        problems=[answers.Problem(each.reason, each.count, each.offset) for each in stream.problems],
    )
