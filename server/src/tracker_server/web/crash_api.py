"""The black box of a run: why it ended and the evidence for that, the last lines it printed, and what its
host went through before.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from tracker_server.ingest.run_cause import first_bad, run_cause, writer_cause
from tracker_server.lanes import Lane
from tracker_server.store import runs as stored
from tracker_server.store.endings import Ending
from tracker_server.store.errors import NotFound
from tracker_server.store.store import Store
from tracker_server.store.streams import Stream

from . import answers
from .json_values import json_value
from .points_api import series_answer
from .routes import Access, Call, NoQuery, Route
from .runs_api import RUN_PATH, get_run

#: Lines shown, and how far back the writer's own are looked for.
CONSOLE_LINES = 50
CONSOLE_SEARCHED = 5_000
#: The time before and after the end in which the host's samples are shown.
BEFORE_NS = 300 * 10**9
AFTER_NS = 60 * 10**9
HOST_METRICS_MAX = 200
HOST_BUCKETS = 60
#: Writers listed: those that ended badly come first.
WRITERS_MAX = 1_000


class WriterEnd(Struct, kw_only=True):
    """How one writer ended. cause is null where it is live or ended well."""

    stream: str
    ordinal: int
    rank: int | None
    parent: str | None
    role: str | None
    host: str
    pid: int | None
    state: str
    time: int
    exit_code: int | None
    cause: str | None
    evidence: dict[str, Any]


class CrashAnswer(Struct, kw_only=True):
    """Why a run ended. cause is null where it runs or ended well; first is the stream that went first.

    console holds the last lines of that writer, of the whole run where it printed none. samples are those of
    its host around `time`, in buckets as series have them.
    """

    state: str
    cause: str | None
    time: int | None
    first: str | None
    writers: list[WriterEnd]
    writers_left_out: int
    console: list[answers.ConsoleLine]
    host: str | None
    samples: dict[str, answers.Series]


class CrashApi:
    """GET …/crash."""

    def __init__(self, store: Store, reader: Lane) -> None:
        self._store = store
        self._reader = reader

    def routes(self) -> list[Route]:
        """Return what this serves."""
        path, what = RUN_PATH + "/crash", "Say why a run ended, and what is known of its last minutes"
        return [Route("GET", path, Access.READ, self.crash, what, CrashAnswer)]

    async def crash(self, call: Call[NoQuery, None]) -> CrashAnswer:
        """Show the black box of a run."""
        return await self._reader.run(self._read, call)

    def _read(self, call: Call[NoQuery, None]) -> CrashAnswer:
        run = get_run(self._store, call)
        detail = self._store.runs.detail(run)
        endings = self._store.runs.endings(run)
        first = first_bad(endings)
        by_ordinal = {stream.ordinal: stream for stream in detail.streams}
        writers = sorted(endings, key=lambda ending: (not ending.is_bad, ending.time, ending.ordinal))
        stream = None if first is None else by_ordinal.get(first.ordinal)
        machine = run.machine if stream is None else stream.machine
        host, samples = self._samples(call.principal.entity_id, machine, first)
        return CrashAnswer(
            state=detail.run.state,
            cause=run_cause(endings),
            time=None if first is None else first.time,
            first=None if stream is None else stream.stream,
            writers=[
                _writer(by_ordinal[ending.ordinal], ending, endings)
                for ending in writers[:WRITERS_MAX]
                if ending.ordinal in by_ordinal
            ],
            writers_left_out=max(0, len(writers) - WRITERS_MAX),
            console=self._console(detail.run, first),
            host=host,
            samples=samples,
        )

    def _console(self, run: stored.Run, first: Ending | None) -> list[answers.ConsoleLine]:
        after = max(0, run.console_lines - CONSOLE_SEARCHED)
        lines = self._store.console.read(run.id, after=after, limit=CONSOLE_SEARCHED).lines
        own = [line for line in lines if first is not None and line.ordinal == first.ordinal]
        return [
            answers.ConsoleLine(line.time, line.stream, line.text) for line in (own or lines)[-CONSOLE_LINES:]
        ]

    def _samples(
        self, entity_id: int, machine: str, first: Ending | None
    ) -> tuple[str | None, dict[str, answers.Series]]:
        try:
            host = self._store.hosts.get(entity_id, machine)
        except NotFound:
            return None, {}
        if first is None:
            return host.host, {}
        names = [metric.name for metric in self._store.hosts.metrics(host)][:HOST_METRICS_MAX]
        _, found = self._store.hosts.series(
            host, names, start=first.time - BEFORE_NS, end=first.time + AFTER_NS, buckets=HOST_BUCKETS
        )
        return host.host, {name: series_answer(each) for name, each in found.items() if len(each.x)}


def _writer(stream: Stream, ending: Ending, endings: list[Ending]) -> WriterEnd:
    seen = ending.observed or {}
    evidence = dict(seen.get("evidence") or {}) if isinstance(seen.get("evidence"), dict) else {}
    told = ending.told or {}
    if told:
        evidence["exit"] = told
    for other in endings:
        if other.supervises and other.place == ending.place and (other.told or {})["pid"] == ending.pid:
            evidence["supervisor"] = {"code": other.exit_code, **(other.told or {})}
    return WriterEnd(
        stream=stream.stream,
        ordinal=ending.ordinal,
        rank=stream.rank,
        parent=stream.parent,
        role=stream.role,
        host=stream.host,
        pid=stream.pid,
        state=ending.state,
        time=ending.time,
        exit_code=ending.exit_code,
        cause=writer_cause(ending, endings),
        evidence=json_value(evidence),
    )
