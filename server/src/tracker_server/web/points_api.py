"""Metrics of runs and hosts: summaries, series cut into buckets, and points by cursor."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from tracker_server.lanes import Lane
from tracker_server.store import points as stored
from tracker_server.store.store import Store

from . import answers
from .json_values import finite_or_none, number, numbers
from .routes import Access, Call, NoQuery, Route
from .runs_api import RUN_PATH, get_run

HOST_PATH = "/api/v1/hosts/{machine}"
METRICS_MAX = 200
Names = Annotated[list[Annotated[str, Meta(max_length=1000)]], Meta(min_length=1, max_length=METRICS_MAX)]
Bound = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Buckets = Annotated[int, Meta(ge=1, le=10_000)]


class SeriesQuery(Struct):
    """Points with from <= x <= to, x in steps or ns, cut into equal buckets."""

    metric: Names
    x: Literal["step", "time"] = "step"
    start: Bound | None = field(default=None, name="from")
    end: Bound | None = field(default=None, name="to")
    buckets: Buckets = 500


class PointsQuery(Struct):
    """Points of records after a cursor; `limit` ends the answer after about so many points."""

    metric: Names
    after: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    limit: Annotated[int, Meta(ge=1, le=100_000)] = 10_000


class HostSeriesQuery(Struct):
    """Samples with from <= time <= to (ns), cut into equal buckets."""

    metric: Names
    start: Bound | None = field(default=None, name="from")
    end: Bound | None = field(default=None, name="to")
    buckets: Buckets = 500


class PointsApi:
    """Serves metrics of runs and hosts."""

    def __init__(self, store: Store, reader: Lane) -> None:
        self._store = store
        self._reader = reader

    def routes(self) -> list[Route]:
        """Return what this serves."""
        get, read = "GET", Access.READ
        return [
            Route(
                get, RUN_PATH + "/metrics", read, self.metrics, "List a run's metrics", answers.MetricsAnswer
            ),
            Route(
                get,
                RUN_PATH + "/series",
                read,
                self.series,
                "Read metrics as buckets, for charts",
                answers.SeriesAnswer,
                query=SeriesQuery,
            ),
            Route(
                get,
                RUN_PATH + "/points",
                read,
                self.points,
                "Read points in order of arrival, after a cursor",
                answers.PointsAnswer,
                query=PointsQuery,
            ),
            Route(get, "/api/v1/hosts", read, self.hosts, "List hosts", answers.HostsAnswer),
            Route(
                get,
                HOST_PATH + "/metrics",
                read,
                self.host_metrics,
                "List a host's metrics",
                answers.MetricsAnswer,
            ),
            Route(
                get,
                HOST_PATH + "/series",
                read,
                self.host_series,
                "Read a host's samples as buckets",
                answers.SeriesAnswer,
                query=HostSeriesQuery,
            ),
        ]

    async def metrics(self, call: Call[NoQuery, None]) -> answers.MetricsAnswer:
        """List the metrics of a run."""

        def read() -> answers.MetricsAnswer:
            return metrics_answer(self._store.points.metrics(get_run(self._store, call).points_id))

        return await self._reader.run(read)

    async def series(self, call: Call[SeriesQuery, None]) -> answers.SeriesAnswer:
        """Read metrics of a run as buckets."""
        query = call.query

        def read() -> answers.SeriesAnswer:
            cursor, found = self._store.points.series(
                get_run(self._store, call).points_id,
                unique(query.metric),
                x=query.x,
                start=query.start,
                end=query.end,
                buckets=query.buckets,
            )
            return answers.SeriesAnswer(cursor, {name: series_answer(each) for name, each in found.items()})

        return await self._reader.run(read)

    async def points(self, call: Call[PointsQuery, None]) -> answers.PointsAnswer:
        """Read points of a run after a cursor."""
        query = call.query

        def read() -> answers.PointsAnswer:
            run = get_run(self._store, call)
            page = self._store.points.points(
                run.points_id, unique(query.metric), after=query.after, limit=query.limit
            )
            found = {name: _points(each) for name, each in page.points.items()}
            return answers.PointsAnswer(page.cursor, found, self._store.runs.stream_ids(run), page.more)

        return await self._reader.run(read)

    async def hosts(self, call: Call[NoQuery, None]) -> answers.HostsAnswer:
        """List the hosts of the caller's entity."""
        hosts = await self._reader.run(self._store.hosts.list, call.principal.entity_id)
        return answers.HostsAnswer(
            [answers.Host(each.machine, each.host, each.seen, each.inventory) for each in hosts]
        )

    async def host_metrics(self, call: Call[NoQuery, None]) -> answers.MetricsAnswer:
        """List the metrics of a host."""

        def read() -> answers.MetricsAnswer:
            host = self._store.hosts.get(call.principal.entity_id, call.path("machine"))
            return metrics_answer(self._store.hosts.metrics(host))

        return await self._reader.run(read)

    async def host_series(self, call: Call[HostSeriesQuery, None]) -> answers.SeriesAnswer:
        """Read metrics of a host as buckets of time."""
        query = call.query

        def read() -> answers.SeriesAnswer:
            host = self._store.hosts.get(call.principal.entity_id, call.path("machine"))
            cursor, found = self._store.hosts.series(
                host, unique(query.metric), start=query.start, end=query.end, buckets=query.buckets
            )
            return answers.SeriesAnswer(cursor, {name: series_answer(each) for name, each in found.items()})

        return await self._reader.run(read)


def unique(names: list[str]) -> list[str]:
    """Return names without repetitions, in their order."""
    return list(dict.fromkeys(names))


def metrics_answer(metrics: list[stored.MetricSummary]) -> answers.MetricsAnswer:
    """Return metrics as the API shows them."""
    return answers.MetricsAnswer(
        [
            answers.Metric(m.name, m.count, m.special, number(m.last), m.last_step, m.min, m.max)
            for m in metrics
        ]
    )


def series_answer(series: stored.Series) -> answers.Series:
    """Return a series as the API shows it."""
    return answers.Series(
        x=series.x.tolist(),
        step=series.step.tolist(),
        time=series.time.tolist(),
        last=numbers(series.last),
        min=finite_or_none(series.min),
        max=finite_or_none(series.max),
        mean=finite_or_none(series.mean),
        count=series.count.tolist(),
        special=series.special.tolist(),
    )


def _points(points: stored.Points) -> answers.Points:
    return answers.Points(
        step=points.step.tolist(),
        time=points.time.tolist(),
        value=numbers(points.value),
        stream=points.ordinal.tolist(),
        offset=points.offset.tolist(),
    )
