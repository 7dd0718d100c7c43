"""What agents saw of machines beside their samples: samples of a run's own processes, and events of hosts."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from tracker_server.lanes import Lane
from tracker_server.run_gpus import run_gpus, seen_gpus
from tracker_server.store.store import Store
from tracker_server.store.streams import Stream

from . import answers
from .json_values import json_value
from .points_api import (
    HOST_PATH,
    Bound,
    HostSeriesQuery,
    metrics_answer,
    series_answer,
    unique,
)
from .routes import Access, Call, NoQuery, Route
from .runs_api import RUN_PATH, get_run


class HostEventsQuery(Struct):
    """Events with from <= time <= to (ns), of a level and of those that matter more."""

    start: Bound | None = field(default=None, name="from")
    end: Bound | None = field(default=None, name="to")
    level: Literal["info", "warn", "error"] | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000


class MachineApi:
    """Serves samples of the processes of runs, and events of hosts."""

    def __init__(self, store: Store, reader: Lane) -> None:
        self._store = store
        self._reader = reader

    def routes(self) -> list[Route]:
        """Return what this serves."""
        get, read = "GET", Access.READ
        return [
            Route(
                get,
                RUN_PATH + "/system",
                read,
                self.run_hosts,
                "List the machines of a run, and its GPUs on each",
                answers.RunHostsAnswer,
            ),
            Route(
                get,
                RUN_PATH + "/system/metrics",
                read,
                self.run_metrics,
                "List what was sampled of a run's processes, as system.<index of the stream>.<metric>",
                answers.MetricsAnswer,
            ),
            Route(
                get,
                RUN_PATH + "/system/series",
                read,
                self.run_series,
                "Read samples of a run's processes as buckets",
                answers.SeriesAnswer,
                query=HostSeriesQuery,
            ),
            Route(
                get,
                HOST_PATH + "/events",
                read,
                self.host_events,
                "Read what happened to a host, newest first",
                answers.HostEventsAnswer,
                query=HostEventsQuery,
            ),
        ]

    async def run_hosts(self, call: Call[NoQuery, None]) -> answers.RunHostsAnswer:
        """List the machines of a run."""
        return await self._reader.run(self._read_hosts, call)

    def _read_hosts(self, call: Call[NoQuery, None]) -> answers.RunHostsAnswer:
        run = get_run(self._store, call)
        by_machine: dict[str, list[Stream]] = {}
        for stream in self._store.runs.streams(run):
            if stream.machine:
                by_machine.setdefault(stream.machine, []).append(stream)
        known = self._store.hosts.find(call.principal.entity_id, list(by_machine))
        seen = seen_gpus(metric.name for metric in self._store.writer_samples.metrics(run.id))
        hosts = []
        for machine, streams in by_machine.items():
            host = known.get(machine)
            gpus = run_gpus(streams, seen, {} if host is None else host.inventory)
            hosts.append(
                answers.RunHost(
                    machine=machine,
                    host=streams[0].host if host is None else host.host,
                    known=host is not None,
                    streams=[stream.ordinal for stream in streams],
                    gpus=None if gpus is None else [answers.RunGpu(**vars(gpu)) for gpu in gpus],
                )
            )
        return answers.RunHostsAnswer(hosts)

    async def run_metrics(self, call: Call[NoQuery, None]) -> answers.MetricsAnswer:
        """List the metrics of a run's processes."""

        def read() -> answers.MetricsAnswer:
            return metrics_answer(self._store.writer_samples.metrics(get_run(self._store, call).id))

        return await self._reader.run(read)

    async def run_series(self, call: Call[HostSeriesQuery, None]) -> answers.SeriesAnswer:
        """Read metrics of a run's processes as buckets of time."""
        query = call.query

        def read() -> answers.SeriesAnswer:
            cursor, found = self._store.writer_samples.series(
                get_run(self._store, call).id,
                unique(query.metric),
                start=query.start,
                end=query.end,
                buckets=query.buckets,
            )
            return answers.SeriesAnswer(cursor, {name: series_answer(each) for name, each in found.items()})

        return await self._reader.run(read)

    async def host_events(self, call: Call[HostEventsQuery, None]) -> answers.HostEventsAnswer:
        """Read the newest events of a host."""
        query = call.query

        def read() -> answers.HostEventsAnswer:
            host = self._store.hosts.get(call.principal.entity_id, call.path("machine"))
            events, more = self._store.host_events.list(
                host.id, start=query.start, end=query.end, level=query.level, limit=query.limit
            )
            return answers.HostEventsAnswer(
                [
                    answers.HostEvent(
                        each.time,
                        each.level,  # type: ignore[arg-type]  # the store knows no other levels
                        each.title,
                        each.text,
                        json_value(each.facts),
                    )
                    for each in events
                ],
                more,
            )

        return await self._reader.run(read)
