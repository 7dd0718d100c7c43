"""The agent's own figures for Prometheus, made of the status, and those of the machine (host_figures.py).

prometheus_client is imported here and in the *_figures.py, which nobody imports who serves no metrics.
Labels are states, kinds, codes, spools, devices: never a run, a user or a file, whose number nobody bounds.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from .host_figures import HostFigures, Sampled
from .losses import LossReason, reason_of

PREFIX = "tracker_agent_"
#: Different kinds of failure that are told apart; the rest counts as "other".
KINDS_MAX = 50
LANE_STATES = ("connecting", "shipping", "retrying", "parked")
HEALTH_STATES = ("starting", "idle", "shipping", "stalled", "refused", "stuck")
_STREAM_STATES = ("live", "shipped", "parked", "kept", "foreign")


#: How long a scrape waits for the kernel's files. Prometheus gives a scrape ten seconds.
HOST_WAIT_S = 3.0


class Telemetry:
    """Renders status() and the machine's figures in the text format that the caller asks for."""

    def __init__(
        self,
        status: Callable[[], Mapping[str, Any]],
        host: HostFigures | None = None,
        host_wait_s: float = HOST_WAIT_S,
    ) -> None:
        self._status = status
        self._host = host
        self._host_wait_s = host_wait_s
        self._turn = asyncio.Lock()
        self._work: Future[tuple[bytes, str]] | None = None

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the agent's own figures and their content type."""
        return _encode(accept, _Own(self._status()))

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """Return all figures and their content type.

        The machine's are read and written down in a thread: /proc of a container may be a file system of
        some daemon that hangs. They are left out then, and no second thread is sent after the first.
        """
        if self._host is not None:
            try:
                async with asyncio.timeout(self._host_wait_s), self._turn:
                    return await asyncio.shield(asyncio.wrap_future(self._start(self._host, accept)))
            except (TimeoutError, OSError):
                pass
        own = _Own(self._status(), host_read=None if self._host is None else False)
        return _encode(accept, own)

    def _start(self, host: HostFigures, accept: str) -> Future[tuple[bytes, str]]:
        """Start a thread that fills in what is returned. Raise TimeoutError while an earlier one hangs."""
        if self._work is not None and not self._work.done():
            raise TimeoutError
        work = self._work = Future[tuple[bytes, str]]()
        # What belongs to the event loop is taken here.
        own, machine = _Own(self._status(), host_read=True), _Machine(host, host.sampled())

        def fill() -> None:
            try:
                work.set_result(_encode(accept, own, machine))
            except Exception as error:  # noqa: BLE001 (raised again where the result is awaited)
                work.set_exception(error)

        # A daemon: a thread stuck in the kernel must not keep the process from ending.
        threading.Thread(target=fill, name="scrape", daemon=True).start()
        return work


class _Machine(Collector):
    """The machine at one moment."""

    def __init__(self, host: HostFigures, sampled: Sampled) -> None:
        self._host = host
        self._sampled = sampled

    def collect(self) -> Iterable[Metric]:
        """Yield every figure."""
        return self._host.read(self._sampled)


class _Own(Collector):
    """The agent itself at one moment."""

    def __init__(self, status: Mapping[str, Any], host_read: bool | None = None) -> None:
        self._status = status
        self._host_read = host_read

    def collect(self) -> Iterable[Metric]:
        """Yield every figure."""
        status = self._status
        yield from _agent(status)
        yield from _shipping(status.get("shipping") or {})
        yield from _losses(status.get("shipping") or {}, status.get("sampler") or {})
        yield from _spools(status.get("shipping") or {})
        yield from _servers(status.get("shipping") or {})
        yield from _files(status.get("shipping") or {})
        yield from _removed(status.get("shipping") or {})
        yield from _sampler(status.get("sampler") or {})
        if self._host_read is not None:
            text = "0: the kernel did not answer in time, figures of the machine are missing"
            yield _gauge("host_read", text, float(self._host_read))


def _encode(accept: str, *collectors: Collector) -> tuple[bytes, str]:
    # One that describes nothing ahead: the figures depend on the configuration.
    registry = CollectorRegistry(auto_describe=False)
    for each in collectors:
        registry.register(each)
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _gauge(
    name: str, text: str, values: Mapping[str, float] | float, label: str = "state", unit: str = ""
) -> Metric:
    labels = [label] if isinstance(values, Mapping) else None
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels, unit=unit)
    _fill(family, values)
    return family


def _counter(name: str, text: str, values: Mapping[str, float] | float, label: str = "kind") -> Metric:
    labels = [label] if isinstance(values, Mapping) else None
    family = CounterMetricFamily(PREFIX + name, text, labels=labels)
    _fill(family, values)
    return family


def _fill(family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[str, float] | float) -> None:
    if isinstance(values, Mapping):
        for value, count in values.items():
            family.add_metric([value], count)
    else:
        family.add_metric([], values)


def _agent(status: Mapping[str, Any]) -> Iterable[Metric]:
    agent = status["agent"]
    info = InfoMetricFamily(PREFIX.rstrip("_"), "What runs here")
    info.add_metric([], {"version": str(agent["version"])})
    yield info
    yield _gauge("uptime_seconds", "Time since the agent started", agent["uptime_s"])
    health = status.get("health") or {}
    yield _gauge(
        "ready", "1: ships what there is, or there is nothing to ship", float(bool(health.get("ready")))
    )
    states = {state: float(state == health.get("state")) for state in HEALTH_STATES}
    yield _gauge("health", "1 for the state the agent is in", states)
    crashes = {name: task["crashes"] for name, task in status.get("tasks", {}).items() if "lane" not in name}
    yield _counter("task_crashes", "Parts of the agent that crashed and were started again", crashes, "task")
    yield _counter("log_lines_dropped", "Lines of the log that nobody took", agent["log_lines_dropped"])
    suppressed = agent.get("log_lines_left_out", 0)
    yield _counter("log_lines_left_out", "Lines of the log left out because they repeat others", suppressed)


def _shipping(shipping: Mapping[str, Any]) -> Iterable[Metric]:
    yield _counter(
        "shipped_bytes", "Bytes of records that servers have taken", shipping.get("bytes_shipped", 0)
    )
    yield _counter("sent_bytes", "Bytes of requests with records, compressed", shipping.get("bytes_sent", 0))
    yield _counter("requests", "Requests with records", shipping.get("requests", 0))
    yield _counter(
        "failures", "Answers and errors that were no success", _kinds(shipping.get("failures", {}))
    )
    streams = shipping.get("streams", {})
    yield _gauge("streams", "Record streams", {state: streams.get(state, 0) for state in _STREAM_STATES})
    lanes = Counter(lane["state"] for lane in shipping.get("lanes", []))
    yield _gauge("lanes", "Keys that are shipped with", {state: lanes[state] for state in LANE_STATES})
    behind = shipping.get("behind", {})
    yield _gauge("behind_bytes", "Bytes written and not on a server", behind.get("bytes", 0))
    yield _gauge("behind_streams", "Streams with bytes that are not on a server", behind.get("streams", 0))
    yield _gauge(
        "lag_seconds",
        "Time since the stream that waits longest has moved",
        shipping.get("oldest_wait_s") or 0.0,
    )


def _losses(shipping: Mapping[str, Any], sampler: Mapping[str, Any]) -> Iterable[Metric]:
    lost_bytes = {reason.code: 0.0 for reason in LossReason}
    gaps = dict(lost_bytes)
    for text, loss in shipping.get("losses", {}).items():
        code = reason_of(text).code
        lost_bytes[code] += loss["bytes"]
        gaps[code] += loss["gaps"]
    gaps[LossReason.NOT_WRITTEN.code] += sampler.get("records_lost", 0)
    yield _counter("lost_bytes", "Bytes that can never be shipped", lost_bytes, "reason")
    yield _counter("losses", "Gaps, files and records that can never be shipped", gaps, "reason")


def _spools(shipping: Mapping[str, Any]) -> Iterable[Metric]:
    spools = {each["path"]: each for each in shipping.get("spools", [])}
    runs = {path: each["runs"] for path, each in spools.items()}
    yield _gauge("spool_runs", "Run directories", runs, "spool")
    files = {path: each["open_files"] for path, each in spools.items()}
    yield _gauge("spool_open_files", "Segments held open", files, "spool")
    scans = {path: each["scan_s"] for path, each in spools.items() if each.get("scan_s") is not None}
    yield _gauge("scan_duration_seconds", "Time the last scan took", scans, "spool")
    ill = {path: float(bool(each.get("problem"))) for path, each in spools.items()}
    yield _gauge("spool_problem", "1: something is wrong with the spool, see status", ill, "spool")


def _servers(shipping: Mapping[str, Any]) -> Iterable[Metric]:
    servers = shipping.get("servers", [])
    well = {each["url"]: float(each["state"] == "well") for each in servers}
    yield _gauge("server_well", "1: the server answered properly when it was last asked", well, "server")
    flight = shipping.get("in_flight", {})
    yield _gauge("in_flight_bytes", "Memory that records in flight take", flight.get("bytes", 0))
    yield _gauge("in_flight_bytes_max", "Memory that they may take", flight.get("bytes_max", 0))


def _files(shipping: Mapping[str, Any]) -> Iterable[Metric]:
    files = shipping.get("files") or {}
    stored, pending = files.get("stored", {}), files.get("pending", {})
    yield _counter("files_stored", "Files of runs that servers have", stored.get("files", 0))
    yield _counter("files_sent_bytes", "Bytes of files that were sent", files.get("sent_bytes", 0))
    yield _gauge("files_pending", "Files that wait", pending.get("files", 0))
    yield _gauge("files_pending_bytes", "Bytes of files that wait", pending.get("bytes", 0))
    yield _gauge("files_refused", "Files that are not sent, see status", len(files.get("refused", [])))


def _removed(shipping: Mapping[str, Any]) -> Iterable[Metric]:
    removed = (shipping.get("retention") or {}).get("removed", {})
    yield _counter("removed_runs", "Run directories removed from spools", removed.get("runs", 0))
    yield _counter("removed_bytes", "Bytes removed from spools", removed.get("bytes", 0))
    unshipped = removed.get("unshipped_bytes", 0)
    yield _counter("removed_unshipped_bytes", "Bytes removed that no server had", unshipped)
    stops = shipping.get("stop_requests") or {}
    yield _counter("runs_stopped", "Runs asked to stop for a server", stops.get("stopped", 0))


def _sampler(sampler: Mapping[str, Any]) -> Iterable[Metric]:
    collectors = sampler.get("collectors", {})
    well = {name: float(each["state"] not in ("failing", "stuck")) for name, each in collectors.items()}
    yield _gauge("collector_well", "0: a collector fails or is stuck", well, "collector")


def _kinds(failures: Mapping[str, int]) -> dict[str, float]:
    """Return failures by kind; the names of lanes, which hold those of users, are left out."""
    kinds: Counter[str] = Counter()
    for name, count in failures.items():
        kind = "task" if name.startswith("task ") else name
        kinds[kind if kind in kinds or len(kinds) < KINDS_MAX else "other"] += count
    return {kind: float(count) for kind, count in kinds.items()}
