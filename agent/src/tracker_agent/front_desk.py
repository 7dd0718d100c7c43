"""Where operators ask: the commands of the control socket, the metrics endpoint, and how well the agent is.

Knows the parts of the agent only through the functions it is handed, so that a reload may replace them.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from structlog.typing import FilteringBoundLogger

from .busiest import Busiest
from .clock import Clock
from .collectors.collector import Event
from .collectors.kernel import Kernel
from .control import Arguments, ControlError, ControlServer
from .health import Health, Verdict
from .log_output import LogOutput
from .redaction import Redactor, config_without_secrets, secrets_of
from .sampler import LastReading
from .settings import Config, MetricsSettings
from .streams import Stream
from .supervisor import Supervisor
from .tap import Tap

if TYPE_CHECKING:
    from .metrics_endpoint import MetricsEndpoint

#: How often `top` may be told something new.
WATCH_INTERVAL_MIN_S = 0.2
WATCH_INTERVAL_MAX_S = 60.0
#: Tasks and frames of each that a support bundle shows.
TASKS_MAX = 500
FRAMES_MAX = 8
_METRICS_TASK = "metrics"


@dataclass(frozen=True)
class Sources:
    """What the desk asks when it is asked."""

    status: Callable[[], dict[str, Any]]
    config: Callable[[], Config]
    streams: Callable[[], Collection[Stream]]
    host: Callable[[], dict[str, float]]  #: last values of the machine's metrics
    readings: Callable[[], Mapping[str, LastReading]] = dict  #: the same by collector, of those that work
    events: Callable[[], Sequence[Event]] = tuple  #: what happened to the machine lately
    kernel: Kernel = field(default_factory=Kernel)


class FrontDesk:
    """Answers while the agent runs. start() after the event loop does."""

    def __init__(
        self,
        sources: Sources,
        control: ControlServer,
        supervisor: Supervisor,
        log_output: LogOutput,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self.tap = Tap(clock.monotonic)
        self._sources = sources
        self._supervisor = supervisor
        self._log_output = log_output
        self._clock = clock
        self._log = log
        self._health = Health()
        self._metrics: MetricsEndpoint | None = None
        control.answer("status", self._answer_status)
        control.answer("support", self._answer_support)
        control.stream("tap", self._stream_tap)
        control.stream("watch", self._stream_watch)

    def look(self, lanes: Sequence[dict[str, Any]], stuck: Sequence[str]) -> Verdict:
        """See by the status of the lanes how well the agent is; to be called every few seconds."""
        return self._health.observe(lanes, stuck, self._clock.monotonic())

    async def serve_metrics(self, settings: MetricsSettings) -> None:
        """Serve metrics at an address from now on, or nowhere."""
        await self._supervisor.cancel(_METRICS_TASK)
        self._metrics = None
        if settings.listen:
            # Here, since the libraries take time and memory that nobody spends who asks for no metrics.
            from .host_figures import HostFigures, Sampled
            from .metrics_endpoint import MetricsEndpoint
            from .node_figures import NodeFigures
            from .telemetry import Telemetry

            host = None
            if settings.host == "on":
                host = HostFigures(
                    NodeFigures(self._sources.kernel, settings.per_core),
                    lambda: Sampled(self._sources.readings(), tuple(self._sources.events())),
                    self._sources.status()["agent"]["host"],
                    self._clock.wall_ns,
                )
            telemetry = Telemetry(self._sources.status, host)
            self._metrics = MetricsEndpoint(
                settings.listen, telemetry, lambda: self._health.verdict, self._log
            )
            self._supervisor.start(_METRICS_TASK, self._metrics.run)

    def status(self) -> dict[str, Any]:
        """Return plain JSON values: what status shows of the desk itself."""
        return {
            "health": self._health.verdict.to_json(),
            "metrics": self._metrics.status() if self._metrics else None,
            "tap_listeners": self.tap.listeners,
        }

    async def _answer_status(self, _: Arguments) -> dict[str, Any]:
        return self._sources.status()

    async def _answer_support(self, _: Arguments) -> dict[str, Any]:
        """Return what only the running agent knows, without the secrets it knows."""
        from .telemetry import Telemetry

        config = self._sources.config()
        figures = Telemetry(self._sources.status).render("")[0]
        answer: dict[str, Any] = Redactor(secrets_of(config)).value(
            {
                "status": self._sources.status(),
                "config": config_without_secrets(config),
                "log": list(self._log_output.recent),
                "tasks": _tasks(),
                "threads": _threads(),
                "metrics": figures.decode(),
            }
        )
        return answer

    async def _stream_tap(self, arguments: Arguments) -> AsyncGenerator[dict[str, Any]]:
        run = arguments.get("run")
        if run is not None and not isinstance(run, str):
            raise ControlError("run must be the id of a run")
        async for message in self.tap.listen(run):
            yield message

    async def _stream_watch(self, arguments: Arguments) -> AsyncGenerator[dict[str, Any]]:
        """Yield status, busiest streams and the machine's metrics every few seconds."""
        interval_s = arguments.get("interval_s", 1.0)
        if not isinstance(interval_s, int | float) or not interval_s > 0:
            raise ControlError("interval_s must be a number of seconds")
        busiest = Busiest()
        while True:
            yield {
                "status": self._sources.status(),
                "streams": busiest.look(self._sources.streams(), self._clock.monotonic()),
                "host": self._sources.host(),
            }
            await asyncio.sleep(min(max(interval_s, WATCH_INTERVAL_MIN_S), WATCH_INTERVAL_MAX_S))


def _tasks() -> dict[str, list[str]]:
    """Return where each task of the event loop waits. Source lines only: no values, so no secrets."""
    return {task.get_name(): _waits_at(task) for task in list(asyncio.all_tasks())[:TASKS_MAX]}


def _waits_at(task: asyncio.Task[Any]) -> list[str]:
    """Return the lines from a task's outermost coroutine to the innermost one."""
    places: list[str] = []
    waiting: Any = task.get_coro()
    while waiting is not None and len(places) < FRAMES_MAX:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "ag_frame", None)
        if frame is not None:
            places.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "ag_await", None)
    return places


def _threads() -> dict[str, list[str]]:
    """Return where each thread is."""
    return {
        str(number): [
            f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_stack(top)[-FRAMES_MAX:]
        ]
        for number, top in sys._current_frames().items()  # noqa: SLF001 - the documented way
    }
