"""What agents saw of machines beside their samples: samples of a run's own processes, and events of hosts."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from tracker_server.lanes import Lane
from tracker_server.store.store import Store

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
