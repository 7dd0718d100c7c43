"""One simulation: draws a world from a seed, lets it go wrong for a while, then well, and judges."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tracker_agent.settings import FileSettings, LimitSettings, RetentionSettings, ServerSettings
from tracker_agent.shipping_settings import PipelineSettings

from .agent_process import STATE, AgentLog, AgentProcess
from .faults import CALM, Faults, Fired, draw_faults
from .files_of_writers import WriterFiles
from .host import Host
from .keys import Keys
from .mishaps import Mishaps
from .model_server import ModelServer
from .network import Network
from .oracle import Oracle
from .sim_disk import SimDisk
from .trainings import SPOOL, Training
from .verdicts import Verdicts
from .world import SimulationError, World

#: So long things go wrong,
STORM_S = (15.0, 50.0)
#: and until so much has happened.
EVENTS_MIN = 200
#: Then everything is shipped within this time.
CALM_MAX_S = 400.0
CALLBACKS_MAX = 200_000
#: The operator's default server, and one that users may choose.
URL, OTHER_URL = "https://server", "https://other"


@dataclass
class Outcome:
    """What became of a seed."""

    seed: int
    events: int
    digest: int
    fired: dict[str, int]
    problem: str | None = None
    log: list[str] | None = None


class Simulation:
    """Everything that one seed decides."""

    def __init__(self, seed: int, keep_log: bool = False, faults: Faults | None = None) -> None:
        self.seed = seed
        self.world = World(seed, keep_log)
        draw = self.world.random
        self.faults = draw_faults(draw) if faults is None else faults
        self.fired = Fired(self.world.note)
        self.disk = SimDisk(self.world)
        self.host = Host(self.world, self.disk, self.faults, self.fired)
        self.files = WriterFiles(self.host)
        self.verdicts = Verdicts(self.world, self.faults, self.fired, self.files)
        self.storm = True
        self.stopping = False  #: the agent was asked to stop
        self.agents: list[AgentProcess] = []
        urls = (URL, OTHER_URL) if draw.random() < 0.3 else (URL,)
        self.keys = Keys(self.disk, urls, draw.choice((1, 1, 2, 3)), lambda: self.agents)
        self.networks = {url: self._network(url) for url in urls}
        self.settings = self._draw_settings(urls)
        self.log = AgentLog(self.world)
        self.oracle = Oracle(self)
        self.mishaps = Mishaps(self)
        self.host.judge_removal = self.oracle.judge_removal
        self.host.note_server = self.keys.note_server

    def _network(self, url: str) -> Network:
        server = ModelServer()
        server.refused = lambda entries: self.verdicts.found_in(entries, "400")
        server.too_large = lambda entries: self.verdicts.found_in(entries, "413")
        server.unstorable = lambda stream, position: self.verdicts.of(stream, position) == "bad_lines"
        server.keys[self.keys.operators[url]] = "entity"
        return Network(url, self.world, server, self.faults, self.fired, self.keys.may_carry)

    def _draw_settings(self, urls: tuple[str, ...]) -> PipelineSettings:
        draw = self.world.random
        sections = ("server", "servers.other")
        return PipelineSettings(
            state_dir=STATE,
            spools=(SPOOL,),
            servers=tuple(
                ServerSettings(url=url, key=self.keys.operators[url], section=section)
                for url, section in zip(urls, sections, strict=False)
            ),
            watch=draw.choice((True, False)),
            scan_interval_s=draw.choice((0.5, 1.0, 3.0)),
            flush_interval_s=0.2,
            batch_bytes=draw.choice((300, 2000, 100_000)),
            probe_interval_s=10.0,
            retry_first_s=0.5,
            retry_max_s=8.0,
            request_timeout_s=6.0,
            pidfds_max=draw.choice((0, 1, 64)),
            own_keep_s=draw.choice((5.0, 3600.0)),
            limits=LimitSettings(
                memory_bytes=draw.choice((12_000, 4_000_000)),
                open_files=draw.choice((2, 4, 16)),
                state_bytes=draw.choice((3000, 10_000_000, 10_000_000)),
                spool_bytes_per_user=draw.choice((0, 0, 8000)),
                spool_bytes=draw.choice((0, 0, 20_000)),
            ),
            retention=RetentionSettings(shipped_s=draw.choice((0.0, 20.0, 604800.0))),
            files=FileSettings(enabled=False),
        )

    @property
    def agent(self) -> AgentProcess | None:
        """The agent that runs, if one does."""
        agent = self.agents[-1] if self.agents else None
        return agent if agent is not None and not agent.loop.dead else None

    # The run.

    def run(self) -> Outcome:
        """Run it all. A problem is part of the outcome."""
        outcome = Outcome(self.seed, 0, 0, self.fired.counts)
        try:
            self._set_up()
            self.world.run(self.world.random.uniform(*STORM_S), CALLBACKS_MAX)
            while self.world.events < EVENTS_MIN:
                self._train(self.keys.users[0].uid, "run-5")
                self.world.run(self.world.now + 5.0, CALLBACKS_MAX)
            self._calm()
            end = self.world.now + CALM_MAX_S
            left = ["everything"]
            while left and self.world.now < end:
                self.world.run(self.world.now + 2.0, CALLBACKS_MAX)
                left = self.oracle.undelivered()
            if left:
                left.append(self._what_the_agent_says())
                raise SimulationError(
                    f"not delivered {CALM_MAX_S:.0f} s after the last fault: " + "; ".join(left)
                )
            self.oracle.check()
        except SimulationError as problem:
            outcome.problem = str(problem)
        finally:
            for agent in self.agents:
                agent.loop.kill()
            self.files.close_all()
        outcome.events, outcome.digest, outcome.log = self.world.events, self.world.digest, self.world.log
        return outcome

    def _set_up(self) -> None:
        draw, faults = self.world.random, self.faults
        if self.world.chance(faults.stamps_coarse):
            self.fired("stamps_coarse")
            self.disk.coarse_stamps = True
        if self.world.chance(faults.stamps_elsewhere):
            self.fired("stamps_elsewhere")
            self.disk.stamp_offset_ns = draw.choice((-1, 1)) * draw.randint(1, 3600) * 1_000_000_000
        self.disk.make_directories(SPOOL, 0)
        self.disk.make_directories(STATE, 0)
        for user in self.keys.users:
            self.disk.make_directories(f"{SPOOL}/{user.uid}", user.uid)
            if draw.random() < 0.4:
                self.keys.give(user, {url: network.server for url, network in self.networks.items()})
        for _ in range(draw.randint(1, 6)):
            user = draw.choice(self.keys.users)
            run = f"run-{draw.randint(1, 4)}"
            self.world.after(draw.uniform(0, 20), self._train, user.uid, run)
        self.start_agent()
        self.mishaps.begin()

    def _train(self, uid: int, run: str) -> None:
        if self.storm:
            draw = self.world.random
            records, pause = draw.choice((3, 30, 100)), draw.choice((0.05, 0.2, 1.0))
            server = OTHER_URL if OTHER_URL in self.networks and draw.random() < 0.5 else None
            Training(self.host, self.files, uid, run, server, records, pause)

    def _calm(self) -> None:
        """Stop all faults, and let everything come to its end."""
        self.world.note("calm")
        self.storm = False
        for name, value in vars(CALM).items():
            setattr(self.faults, name, value)
        self.disk.full = self.disk.hung = False
        for network in self.networks.values():
            network.partitioned = False
            network.down_until = 0.0
            network.server.forbidden.clear()
            self.keys.give_back_all(network.url, network.server)
        if self.agent is not None:
            self.agent.loop.fuse = -1
            self.agent.loop.thaw()
        elif not self.stopping:
            self.start_agent()
        for training in self.files.trainings:
            training.hurry()

    def start_agent(self) -> None:
        """Start an agent, unless one runs."""
        if self.agent is None:
            self.stopping = False
            self.world.note("agent starts")
            self.agents.append(AgentProcess(self.host, self.files, self.networks, self.settings, self.log))

    def start_agent_soon(self) -> None:
        """Start an agent after a while."""
        pause = self.world.random.choice((0.05, 1.0, 5.0)) if self.storm else 0.0
        self.world.after(pause, self.start_agent)

    def _what_the_agent_says(self) -> str:
        if self.agent is None:
            return "no agent runs"
        status = self.agent.pipeline.status()
        names = ("lanes", "parked", "foreign", "kept")
        return f"the agent says: { {name: status[name] for name in names if status.get(name)} }"


def simulate(seed: int, keep_log: bool = False, faults: Faults | None = None) -> Outcome:
    """Run one seed."""
    with _burying_the_dead():
        return Simulation(seed, keep_log, faults).run()


@contextmanager
def _burying_the_dead() -> Iterator[None]:
    """Collect what killed processes leave behind: coroutines that will never be awaited to their end.

    They cannot do any harm, but Python complains of each.
    """
    enabled = gc.isenabled()
    gc.disable()
    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
            gc.collect()
    finally:
        sys.unraisablehook = hook
        if enabled:
            gc.enable()
