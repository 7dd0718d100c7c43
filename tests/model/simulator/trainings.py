"""Simulated training processes: they log, roll segments, fork, exit, and are killed anywhere."""

from __future__ import annotations

from tracker.protocol import bodies, kinds
from tracker.protocol.header import Header

from .agent_loop import ProcessDiedError
from .files_of_writers import SimWriter, WriterFiles
from .host import Host, Process
from .sim_disk import START_NS

SPOOL = "/simulated/spool"
#: Segments are this small, so that every simulation rolls many.
SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX = 500, 4000
MACHINE = "machine-1"


class Training:
    """One process of a run. `uid`: its user."""

    def __init__(
        self,
        host: Host,
        files: WriterFiles,
        uid: int,
        run: str,
        server: str | None,
        records: int,
        pause_s: float,
    ) -> None:
        self.host = host
        self.files = files
        self.uid = uid
        self.run = run
        self.server = server
        self.done = False
        self.process: Process = host.start(f"training {run}")
        self.process.at_death.append(self._ended)
        self._left = records
        self._pause_s = pause_s
        self._number = 0
        self._writer: SimWriter | None = None
        self._at_once = False
        self._asleep_until = 0.0
        files.trainings.append(self)
        host.world.after(host.world.random.uniform(0, pause_s), self._act)

    @property
    def directory(self) -> str:
        """Its run directory."""
        return f"{SPOOL}/{self.uid}/{self.run}"

    @property
    def stream(self) -> bytes | None:
        """The stream it writes, once it does."""
        return None if self._writer is None else self._writer.header.stream

    def hurry(self) -> None:
        """Write what is left, and exit."""
        self._at_once = True
        self._left = min(self._left, 3)
        self.host.world.after(0.0, self._act)

    def sleep(self, pause_s: float) -> None:
        """Do nothing for a while, as on a suspended host."""
        self._asleep_until = self.host.world.now + pause_s

    def _ended(self) -> None:
        self.done = True

    def _act(self) -> None:
        if self.done:
            return
        if self.host.world.now < self._asleep_until and not self._at_once:
            self.host.world.after(self._asleep_until - self.host.world.now, self._act)
            return
        world, faults, fired = self.host.world, self.host.faults, self.host.fired
        try:
            if self._writer is None:
                self._open()
            elif self._left <= 0:
                self._exit()
                return
            elif world.chance(faults.writer_killed):
                fired("writer_killed")
                self._die("killed")
                return
            else:
                self._log()
        except OSError as problem:
            # log() warns once and goes on.
            world.note(f"log {self.run} refused: {problem.strerror}")
            self._left -= 1
        except ProcessDiedError:
            self._die("killed within a write")
            return
        if not self.done:
            pause = 0.01 if self._at_once else world.random.expovariate(1.0 / self._pause_s)
            world.after(pause, self._act)

    def _open(self) -> None:
        draw = self.host.world.random
        disk = self.host.disk
        if disk.full:
            raise OSError(28, "No space left on device")
        if not disk.exists(self.directory):
            disk.make_directories(self.directory, self.uid)
        header = Header(
            stream=draw.randbytes(16),
            run=self.run,
            segment=0,
            base=0,
            machine=MACHINE,
            boot=self.host.boot,
            pid=self.process.pid,
            started=START_NS + int(self.host.world.now * 1e9),
            clock=int(self.host.world.now * 1e9),
            writer="simulated/1",
            server=self.server,
        )
        self.host.note_server(header.stream, self.server)
        size = draw.randint(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
        self._writer = SimWriter(self.files, self.process, self.uid, self.directory, header, size)
        self.host.world.note(f"open {self.run} {header.stream.hex()[:8]}")

    def _log(self) -> None:
        assert self._writer is not None
        world, faults, files = self.host.world, self.host.faults, self.files
        if world.chance(faults.writer_forked):
            self.host.fired("writer_forked")
            records = world.random.randint(1, 20)
            Training(self.host, files, self.uid, self.run, self.server, records, self._pause_s)
        for _ in range(world.random.choice((1, 1, 1, 2, 5))):
            files.torn = world.chance(faults.write_torn)
            files.short = not files.torn and world.chance(faults.write_short)
            files.no_truncate = files.short and world.chance(faults.truncate_failed)
            for name in ("torn", "short"):
                if getattr(files, name):
                    self.host.fired(f"write_{name}")
            if files.no_truncate:
                self.host.fired("truncate_failed")
            self._number += 1
            self._left -= 1
            try:
                if world.random.random() < 0.2:
                    size = world.random.choice((10, 100, 300, 1000))
                    lines = bodies.Console(self._number, "stdout", ["x" * size])
                    self._writer.write(kinds.CONSOLE, lines.encode())
                else:
                    metrics = bodies.Metrics(self._number, self._number, {"loss": world.random.random()})
                    self._writer.write(kinds.METRICS, metrics.encode())
            finally:
                files.torn = files.short = files.no_truncate = False
            world.note(f"log {self.run} {self._writer.position}")

    def _exit(self) -> None:
        assert self._writer is not None
        try:
            self._writer.write(kinds.EXIT, bodies.Exit(self._number, 0).encode())
        finally:
            self._writer.close()
            self._die("exits")

    def _die(self, how: str) -> None:
        self.host.world.note(f"process {self.process.pid} of {self.run} {how}")
        self.process.die()
