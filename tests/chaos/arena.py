"""The arena: a server, two hosts with an agent each, disks, cables and a proxy, as real as they come.

    host A   agent ─▶ cable ─▶ proxy ─▶ server        20 trainings on A's disk (ext4 on a loop device)
    host B   agent ─▶ cable ─▶ proxy ─▶               ranks of runs that A has ranks of, too

Host B is another machine to our software: other machine id, boot id and network. Unprivileged there are no
disks, no cables and no host B.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.chaos.fleet import Fleet
from tests.support.agent_process import AgentProcess, wait_until
from tests.support.fault_proxy import FaultProxy
from tests.support.faulty_disks import LoopDisk
from tests.support.network import Network
from tests.support.server_process import ServerProcess
from tests.support.shifted_clock import ShiftedClock

DISK_BYTES = 160 << 20
#: So that minutes of faults are not followed by minutes of waiting.
RETRY_MAX_S = "2"


class Host:
    """One machine with an agent."""

    def __init__(self, arena: Arena, name: str, root: Path, network: Network | None) -> None:
        self.name = name
        self.network = network
        address = network.outside if network is not None else "127.0.0.1"
        self.proxy = arena.stack.enter_context(FaultProxy(arena.server.port, address))
        self.agent = AgentProcess(root, f"http://{address}:{self.proxy.port}", arena.server.ingest_key)
        self.agent.log_path = arena.directory / f"agent-{name}.log"
        own = str(self.agent.spool)
        config = self.agent.config.read_text()
        spools = ", ".join(f'"{each}"' for each in (own, arena.shared_spool, arena.other_spool))
        self.agent.config.write_text(config.replace(f'"{own}"', spools))
        self.agent.environment = {"TRACKER_AGENT_AGENT_RETRY_MAX_S": RETRY_MAX_S, **arena.clock_environment}
        self.prefix: tuple[str, ...] = ()
        if network is not None:
            self.prefix = network.prefix
        self.agent.prefix = self.prefix
        self.lock = threading.RLock()  #: held by whoever stops, kills or restarts the agent
        self.ended_by_itself = 0

    def be_another_machine(self, directory: Path, server_disk: Path) -> None:
        """Give all that is started with `prefix` another machine id and boot id."""
        identity = directory / "machine-id"
        identity.write_text("b" * 32 + "\n")
        boot = directory / "boot-id"
        boot.write_text("bbbbbbbb-0000-4000-8000-000000000000\n")
        # What this machine's mounts hold on to would outlive a power failure of the server's.
        script = (
            f"umount -l {server_disk} 2>/dev/null; mount --bind {identity} /etc/machine-id && "
            f'mount --bind {boot} /proc/sys/kernel/random/boot_id && exec "$@"'
        )
        self.prefix = (*self.prefix, "unshare", "-m", "sh", "-c", script, "sh")
        self.agent.prefix = self.prefix

    def keep_up(self) -> None:
        """Start the agent again if it ended, as systemd does."""
        if not self.lock.acquire(blocking=False):
            return
        try:
            assert self.agent.process is not None
            if self.agent.process.poll() is not None:
                self.ended_by_itself += 1
                self.agent.start()
        finally:
            self.lock.release()

    def restart(self) -> None:
        """SIGKILL the agent and start it again."""
        with self.lock:
            self.agent.kill()
            self.agent.start()


class Arena:
    """Everything the faults act upon. Use as a context manager."""

    def __init__(self, directory: Path, writers: int, numbers: random.Random) -> None:
        self.directory = directory
        self.privileged = os.geteuid() == 0
        self.stack = ExitStack()
        self.clock: ShiftedClock | None = None
        self.clock_environment: dict[str, str] = {}
        self.spool_disk: LoopDisk | None = None
        self.server_disk: LoopDisk | None = None
        self.hosts: list[Host] = []
        self.fleet = Fleet(writers, directory / "side", numbers)
        self.disk_lock = threading.RLock()  #: held by whoever does something to the spool's disk

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def keep_up(self) -> None:
        """Start agents again that could not go on."""
        for host in self.hosts:
            host.keep_up()

    def _build(self) -> None:
        if shutil.which("gcc"):
            self.clock = ShiftedClock(self.directory)
            self.clock_environment = self.clock.environment
        home, data = self.directory / "hosts", self.directory / "server"
        self.shared_spool = home / "shared"
        #: Where trainings go that begin while the spool cannot be written.
        self.other_spool = self.directory / "state" / "tracker" / "spool"
        if self.privileged:
            self.spool_disk = self.stack.enter_context(LoopDisk(home, DISK_BYTES))
            self.server_disk = self.stack.enter_context(LoopDisk(data, DISK_BYTES))
        self.server = ServerProcess(data)
        self.server.log_path = self.directory / "server.log"
        self.server.environment = self.clock_environment
        self.stack.enter_context(self.server)
        self.hosts = [self._host("A", home)]
        if self.privileged:
            other = self._host("B", home)
            other.be_another_machine(self.directory, data)
            self.hosts.append(other)
        for host in self.hosts:
            self.stack.enter_context(host.agent)
        for host in self.hosts:
            wait_until(host.agent.status, what=f"agent {host.name}")
        self.fleet.environment = self.clock_environment | {"XDG_STATE_HOME": str(self.directory / "state")}
        self.fleet.spool = self.hosts[0].agent.spool
        self.stack.callback(self.fleet.close)
        self.fleet.open()

    def _host(self, name: str, home: Path) -> Host:
        network = self.stack.enter_context(Network()) if self.privileged else None
        return Host(self, name, home / name, network)
