"""READ FIRST: builds every object of the agent and holds them together from start to stop.

    config → state lock → own streams → announcement in each spool → pipeline, sampler, front desk

The pipeline (READ SECOND: pipeline.py) ships files. The sampler measures the machine and writes what it
finds into files, which the pipeline ships. The front desk answers operators. Everything else here starts,
watches, reloads and ends them.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping, MutableMapping
from importlib.metadata import version
from typing import Any

import psutil

from tracker.protocol.identity import boot_id, machine_id

from .agent_file import AgentFile, ensure_spools
from .clock import Clock
from .collectors.chosen import build_collectors
from .collectors.collector import Collector, Context
from .collectors.gpu_pause import GpuPause
from .collectors.inventory import InventoryCollector
from .control import ControlServer
from .counters import Counters
from .front_desk import FrontDesk, Sources
from .gpu_desk import GpuDesk
from .host_records import RunStream
from .inventory import read_inventory
from .log import Log
from .own_stream import Identity, OwnStreams
from .pipeline import Pipeline
from .places_check import Viewer, place_problems
from .redaction import public_part
from .report import summary
from .sampler import Sampler
from .settings import Config, ConfigError, restart_needed
from .shipping_desk import ShippingDesk
from .shipping_settings import PipelineSettings
from .state_lock import StateError, StateLock
from .streams import StreamKey
from .supervisor import Supervisor
from .systemd import Systemd

#: From SIGTERM to the end at the latest; what is not finished then is as safe as after SIGKILL.
STOP_S = 9.0
PIPELINE_STOP_S = 6.0
#: After everything was written and closed, what still runs gets this long to end by itself.
END_S = 1.0
#: A second signal to stop, this long after the first, ends the agent at once.
SECOND_SIGNAL_S = 0.5
#: How often loops are looked at and the status line is renewed where no watchdog asks for more.
PULSE_S = 5.0
#: Parts of the configuration that the pipeline is built from.
_PIPELINE_PARTS = ("servers", "limits", "retention", "files", "crash")

#: New objects that make the garbage collector look.
YOUNG_OBJECTS = 50_000


def run_agent(load: Callable[[], Config], environment: MutableMapping[str, str]) -> int:
    """Run until SIGTERM or SIGINT; return the exit status. Raise ConfigError or StateError at the start."""
    config = load()
    log = Log(config.agent.log_format, config.agent.log_level, environment)
    lock = StateLock.take(config.state_dir)
    # What is known of old runs lives long and has no cycles: looking through it again and again for garbage
    # would be the larger part of what an idle host costs.
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
    try:
        agent = Agent(config, load, log, Systemd(environment), dict(environment))
        return asyncio.run(agent.run())
    finally:
        lock.close()
        log.close()


class Agent:
    """One agent process. The state lock is held by the caller."""

    def __init__(
        self,
        config: Config,
        load: Callable[[], Config],
        log: Log,
        systemd: Systemd,
        environment: Mapping[str, str],
    ) -> None:
        self._config = config
        self._load = load
        self._log_output = log
        self._log = log.logger
        self._systemd = systemd
        self._environment = environment
        self._clock = Clock()
        self._began = self._clock.monotonic()
        self._identity = Identity(
            machine=machine_id(), boot=boot_id(), host=socket.gethostname(), version=version("tracker-agent")
        )
        ensure_spools(config)
        self._own = OwnStreams(str(config.state_dir), self._identity, self._clock)
        self._announcements = [AgentFile(spool) for spool in config.spools]
        self._supervisor = Supervisor(self._clock, self._log)
        self._pipeline: Pipeline | None = None
        self._sampler: Sampler | None = None
        self._control = ControlServer(config.state_dir)
        sources = Sources(
            status=self.status,
            config=lambda: self._config,
            streams=lambda: self._pipeline.streams if self._pipeline else (),
            host=lambda: self._sampler.latest() if self._sampler else {},
            readings=lambda: self._sampler.last_readings() if self._sampler else {},
            events=lambda: self._sampler.recent_events if self._sampler else (),
        )
        self._desk = FrontDesk(sources, self._control, self._supervisor, log.output, self._clock, self._log)
        ShippingDesk(self._control, lambda: self._pipeline)
        self._gpu_pause = GpuPause()
        GpuDesk(self._control, self._gpu_pause, self._log)
        self._counters = Counters(tap=self._desk.tap.passed)
        self._stop = asyncio.Event()
        self._hangup = asyncio.Event()
        self._stop_asked = 0.0
        self._reload_problem = ""
        self._said_stuck: list[str] = []

    async def run(self) -> int:
        """Start everything, serve signals, stop everything."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._hangup.set)
        try:
            await self._control.start()
        except OSError as error:
            raise StateError(
                f"cannot listen on the control socket in {self._config.state_dir}: {error.strerror or error}"
            ) from error
        self._log.info(
            "agent started",
            version=self._identity.version,
            pid=os.getpid(),
            server=self._config.server.url,
            spools=[str(spool) for spool in self._config.spools],
            state_dir=str(self._config.state_dir),
        )
        for warning in [*self._config.warnings, *place_problems(self._config, Viewer.current())]:
            self._log.warning(warning)
        self._announce()
        self._supervisor.start("pipeline", self._run_pipeline)
        self._start_sampler()
        await self._desk.serve_metrics(self._config.metrics)
        self._supervisor.start("pulse", self._beat)
        self._systemd.ready()
        while not self._stop.is_set():
            await self._wait_for_signal()
            if self._hangup.is_set():
                self._hangup.clear()
                await self._reload()
        await self._shut_down()
        return 0

    def status(self) -> dict[str, Any]:
        """Return plain JSON values: what `tracker-agent status --json` prints."""
        return {
            "agent": {
                "version": self._identity.version,
                "pid": os.getpid(),
                "uptime_s": round(self._clock.monotonic() - self._began, 1),
                "host": self._identity.host,
                "machine": self._identity.machine,
                "state_dir": str(self._config.state_dir),
                "config": str(self._config.file) if self._config.file else None,
                "warnings": list(self._config.warnings),
                "reload_problem": self._reload_problem,
                "stuck": self._stuck(),
                "log_lines_dropped": self._log_output.output.dropped,
                "log_lines_left_out": self._log_output.flood.suppressed,
                "rss_bytes": _rss_bytes(),
            },
            "spools": [{"path": str(each.spool), "problem": each.problem} for each in self._announcements],
            "server": {"url": self._config.server.url, "key": public_part(self._config.server.key)},
            "shipping": self._pipeline.status() if self._pipeline else {},
            "sampler": self._sampler.status() if self._sampler else None,
            "gpu_paused_until": self._gpu_pause.until() if self._gpu_pause.left_s() else None,
            "tasks": self._supervisor.status(),
            **self._desk.status(),
        }

    async def _run_pipeline(self) -> None:
        """Ship until stopped; after a crash the supervisor comes back here, to a new pipeline."""
        if self._pipeline is not None:
            await self._pipeline.stop(0)
        settings = pipeline_settings(self._config)
        self._pipeline = Pipeline(
            settings, self._identity, self._own, self._clock, self._log, counters=self._counters
        )
        await self._pipeline.run()

    async def _stop_pipeline(self, grace_s: float) -> None:
        if self._pipeline is None:
            return
        try:
            async with asyncio.timeout(grace_s + 1):
                await self._pipeline.stop(grace_s)
        except TimeoutError:
            self._log.warning("the pipeline did not stop in time; it goes on from its files", grace_s=grace_s)
        await self._supervisor.wait("pipeline", 0.5)
        await self._supervisor.cancel("pipeline")
        self._pipeline = None

    def _start_sampler(self) -> None:
        settings = self._config.sampler
        if not settings.enabled:
            return
        self._sampler = Sampler(
            self._collectors(),
            {"host": self._identity.host, "agent": self._identity.version, "boot": self._identity.boot},
            # Asked for with each record: a stream that could not be opened is tried again.
            lambda kind, body: self._own.stream().write(kind, body),
            self._clock,
            self._log,
            settings.interval_s,
            settings.window_s,
            self._run_stream,
        )
        self._supervisor.start("sampler", self._sampler.run)

    def _collectors(self) -> list[Collector]:
        context = Context(
            live_runs=lambda: self._pipeline.live_runs() if self._pipeline else (),
            monotonic=self._clock.monotonic,
            wall_ns=self._clock.wall_ns,
            gpu_pause=self._gpu_pause,
        )
        inventory = InventoryCollector(
            lambda: read_inventory(self._identity, context.kernel, self._environment), context
        )
        return [inventory, *build_collectors(self._config.sampler, self._config.collectors, context)]

    def _run_stream(self, key: StreamKey) -> RunStream | None:
        """Return where windows about a writer of a run go: to the server that has the run."""
        way = self._pipeline.way_of(key) if self._pipeline is not None else None
        if way is None:
            return None
        credential, about = way
        return RunStream(about, lambda kind, body: self._own.stream(credential).write(kind, body))

    async def _stop_sampler(self) -> None:
        if self._sampler is not None:
            await self._sampler.stop()
            await self._supervisor.cancel("sampler")
            self._sampler = None

    def _announce(self) -> None:
        for each in self._announcements:
            each.announce(
                {
                    "version": 1,
                    "server": self._config.server.url,
                    "url": self._config.public_url,
                    "servers": {
                        each.url: each.public_url or each.url for each in self._config.servers.values()
                    },
                    "machine": self._identity.machine,
                    "boot": self._identity.boot,
                    "agent": self._identity.version,
                    "pid": os.getpid(),
                }
            )
            if each.problem:
                self._log.warning(each.problem)

    async def _beat(self) -> None:
        """Feed the watchdog while every loop turns, and renew the status line.

        That this runs shows that the event loop turns; whether the others do, they are asked. An absent
        server or a hung disk is no reason to restart the agent, a loop that got stuck is.
        """
        interval_s = min(self._systemd.watchdog_interval_s or PULSE_S, PULSE_S)
        while True:
            stuck = self._stuck()
            shipping = self._pipeline.status() if self._pipeline is not None else {}
            self._desk.look(shipping.get("lanes", ()), stuck)
            if stuck != self._said_stuck:
                self._said_stuck = stuck
                if stuck:
                    self._log.error("parts of the agent are stuck", stuck=stuck)
            if not stuck:
                self._systemd.feed_watchdog()
            self._systemd.status(_status_line(shipping, stuck))
            await asyncio.sleep(interval_s)

    def _stuck(self) -> list[str]:
        """Return the loops that should have come round and have not."""
        pipeline = self._pipeline.stuck() if self._pipeline is not None else []
        sampler = self._sampler.stuck() if self._sampler is not None else []
        return pipeline + sampler

    async def _reload(self) -> None:
        """Put a changed configuration into force. One that cannot be used changes nothing."""
        self._systemd.reloading()
        old = self._config
        try:
            new = await asyncio.to_thread(self._load)
        except ConfigError as error:
            self._reload_problem = str(error)
            self._log.error("reload refused, the old configuration stays in force", reason=str(error))
            self._systemd.ready()
            return
        self._reload_problem = ""
        late = restart_needed(old, new)
        if late:
            self._log.warning("some changes need a restart of the agent", settings=late)
            new = new.with_agent(old.agent, log_level=new.agent.log_level)
        self._config = new
        self._log_output.set_level(new.agent.log_level)
        for warning in new.warnings:
            self._log.warning(warning)
        if any(getattr(new, part) != getattr(old, part) for part in _PIPELINE_PARTS):
            self._announce()
            await self._stop_pipeline(PIPELINE_STOP_S)
            self._supervisor.start("pipeline", self._run_pipeline)
        if new.metrics != old.metrics:
            await self._desk.serve_metrics(new.metrics)
        if (new.sampler, new.collectors) != (old.sampler, old.collectors):
            await self._stop_sampler()
            self._start_sampler()
        self._log.info("configuration reloaded", server=new.server.url, needs_restart=late)
        self._systemd.ready()

    async def _wait_for_signal(self) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (self._stop, self._hangup)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def _on_stop_signal(self, number: int) -> None:
        if self._stop.is_set():
            # `timeout` and shells signal the process and its group: the same request twice. Asked again
            # later, someone is in a hurry, and nothing can be lost.
            if self._clock.monotonic() - self._stop_asked > SECOND_SIGNAL_S:
                os._exit(128 + number)
            return
        self._stop_asked = self._clock.monotonic()
        self._log.info("stopping", signal=signal.Signals(number).name)
        self._systemd.stopping()
        self._stop.set()
        _end_within(STOP_S)

    async def _shut_down(self) -> None:
        """Stop the sampler first, so that its last window may still be shipped."""
        await self._stop_sampler()
        await self._stop_pipeline(PIPELINE_STOP_S)
        await self._supervisor.cancel_all()
        await self._control.close()
        self._own.close()
        for each in self._announcements:
            each.close()
        self._log.info("agent stopped")
        _end_within(END_S)


def _status_line(shipping: dict[str, Any], stuck: list[str]) -> str:
    if stuck:
        return f"stuck: {', '.join(stuck)}"
    return summary(shipping) if shipping else "reloading"


def pipeline_settings(config: Config) -> PipelineSettings:
    """Return what the pipeline needs to know."""
    return PipelineSettings(
        state_dir=str(config.state_dir),
        spools=config.agent.spools,
        servers=tuple(config.servers.values()),
        watch={"auto": None, "on": True, "off": False}[config.agent.watch],
        scan_interval_s=config.agent.scan_interval_s,
        retry_max_s=config.agent.retry_max_s,
        limits=config.limits,
        retention=config.retention,
        files=config.files,
        crash=config.crash,
        allow_stop=config.agent.allow_stop,
        uid_map=config.uid_map,
    )


def _end_within(time_s: float) -> None:
    """End the process by then: threads that wait for a disk or a name server keep the interpreter from it."""
    last_resort = threading.Timer(time_s, os._exit, (0,))
    last_resort.daemon = True
    last_resort.start()


def _rss_bytes() -> int:
    return int(psutil.Process().memory_info().rss)
