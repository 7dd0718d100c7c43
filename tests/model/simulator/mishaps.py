"""What befalls the host, its files, the network and the servers as time passes. Rates: faults.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .agent_process import STATE
from .network import Network
from .sim_disk import Node
from .trainings import SPOOL

if TYPE_CHECKING:
    from .simulation import Simulation

_RATES = (
    "agent_killed", "agent_stopped", "agent_frozen", "host_suspended", "power_lost", "clock_jumped",
    "state_deleted", "checkpoint_damaged", "run_deleted", "run_moved", "segment_deleted", "bytes_damaged",
    "disk_full", "disk_hung", "partitioned", "server_restarted", "server_restored", "key_rotated",
    "key_revoked", "stream_forbidden",
)  # fmt: skip
WRITE_BACK_S = 6.0


class Mishaps:
    """Each fault that has a rate is a method of its name. False: there was nothing to strike."""

    def __init__(self, simulation: Simulation) -> None:
        self._sim = simulation
        self._world = simulation.world
        self._disk = simulation.disk
        self._draw = simulation.world.random
        self._snapshots = {url: [network.server.snapshot()] for url, network in simulation.networks.items()}
        self._epochs = 1

    def begin(self) -> None:
        """Let things go wrong from now on."""
        for name in _RATES:
            self._schedule(name)
        self._world.after(self._draw.uniform(0, WRITE_BACK_S), self._write_back)

    def _schedule(self, name: str) -> None:
        rate = getattr(self._sim.faults, name)
        if rate > 0:
            self._world.after(self._draw.expovariate(rate), self._strike, name)

    def _strike(self, name: str) -> None:
        if self._sim.storm:
            strike: Callable[[], bool | None] = getattr(self, name)
            if strike() is not False:
                self._sim.fired(name)
            self._schedule(name)

    def _write_back(self) -> None:
        self._disk.write_back()
        self._world.after(self._draw.uniform(0, 2 * WRITE_BACK_S), self._write_back)

    def _network(self) -> Network:
        return self._draw.choice(list(self._sim.networks.values()))

    # The agent and its host.

    def agent_killed(self) -> bool | None:
        agent = self._sim.agent
        if agent is None or agent.loop.fuse > 0:
            return False
        agent.process.at_death.append(self._sim.start_agent_soon)
        agent.loop.fuse = self._draw.randint(1, 400)
        return None

    def agent_stopped(self) -> bool | None:
        agent = self._sim.agent
        if agent is None or agent.loop.frozen or self._sim.stopping:
            return False
        self._sim.stopping = True
        agent.process.at_death.append(self._sim.start_agent_soon)
        agent.stop()
        return None

    def agent_frozen(self) -> bool | None:
        agent = self._sim.agent
        if agent is None:
            return False
        agent.loop.frozen = True
        self._world.after(self._draw.choice((0.5, 3.0, 15.0)), agent.loop.thaw)
        return None

    def host_suspended(self) -> None:
        self.agent_frozen()
        pause = self._draw.choice((1.0, 20.0))
        for training in self._sim.files.trainings:
            training.sleep(pause)
        self._disk.wall_offset_ns += self._draw.randint(1, 1000) * 1_000_000_000

    def power_lost(self) -> None:
        if self._sim.agent is not None:
            self._sim.agent.loop.kill()
        self._sim.host.boot_again()
        self._sim.start_agent_soon()

    def clock_jumped(self) -> None:
        self._disk.wall_offset_ns += self._draw.choice((-1, 1)) * self._draw.randint(1, 10**13)

    def state_deleted(self) -> None:
        if self._sim.agent is not None:
            self._sim.agent.loop.kill()
        if self._disk.exists(f"{STATE}/streams"):
            self._disk.remove_tree(STATE)
            self._disk.make_directories(STATE, 0)
        self._sim.start_agent_soon()

    def checkpoint_damaged(self) -> bool | None:
        path = f"{STATE}/checkpoint.json"
        if not self._disk.exists(path):
            return False
        node = self._disk.find(path)
        node.data[len(node.data) // 2 :] = self._draw.choice((b"", b"\0" * 50, b"}}"))
        return None

    # Files.

    def _run_directories(self) -> list[str]:
        found = []
        for user in self._sim.keys.users:
            path = f"{SPOOL}/{user.uid}"
            entries = self._disk.find(path).entries or {}
            found += [f"{path}/{name}" for name, node in entries.items() if node.entries is not None]
        return found

    def _segments(self) -> list[tuple[str, Node]]:
        return [(path, node) for path, node in self._disk.files_below(SPOOL) if path.endswith(".mpl")]

    def run_deleted(self) -> bool | None:
        chosen = self._run_directories()
        if not chosen:
            return False
        self._disk.remove_tree(self._draw.choice(chosen))
        return None

    def run_moved(self) -> bool | None:
        chosen = self._run_directories()
        if not chosen:
            return False
        path = self._draw.choice(chosen)
        away = f"/simulated/away-{self._world.events}"
        self._disk.rename(path, away)
        self._world.after(self._draw.choice((0.1, 2.0, 8.0)), self._move_back, away, path)
        return None

    def _move_back(self, away: str, path: str) -> None:
        if not self._disk.exists(path):
            self._disk.rename(away, path)

    def segment_deleted(self) -> bool | None:
        chosen = self._segments()
        if not chosen:
            return False
        self._disk.unlink(self._draw.choice(chosen)[0])
        return None

    def bytes_damaged(self) -> bool | None:
        chosen = [node for _, node in self._segments() if node.data]
        if not chosen:
            return False
        node = self._draw.choice(chosen)
        at = self._draw.randrange(len(node.data))
        node.data[at] ^= self._draw.randint(1, 255)
        return None

    def disk_full(self) -> None:
        self._disk.full = True
        self._world.after(self._draw.choice((0.5, 5.0)), setattr, self._disk, "full", False)

    def disk_hung(self) -> None:
        self._disk.hung = True
        self._world.after(self._draw.choice((1.0, 12.0)), setattr, self._disk, "hung", False)

    # Network and servers.

    def partitioned(self) -> None:
        network = self._network()
        network.partitioned = True
        self._world.after(self._draw.choice((1.0, 5.0, 20.0)), setattr, network, "partitioned", False)

    def server_restarted(self) -> None:
        network = self._network()
        network.down_until = self._world.now + self._draw.choice((0.2, 2.0, 10.0))
        self._snapshots[network.url].append(network.server.snapshot())

    def server_restored(self) -> None:
        self._epochs += 1
        network = self._network()
        snapshots = self._snapshots[network.url]
        chosen = self._draw.randrange(len(snapshots))
        network.server.restore(snapshots[chosen], f"epoch-{self._epochs}")
        # Newer backups are of a history that is no more.
        del snapshots[chosen + 1 :]

    def key_rotated(self) -> bool | None:
        chosen = [user for user in self._sim.keys.users if user.keys]
        if not chosen or self._disk.full:
            return False
        servers = {url: network.server for url, network in self._sim.networks.items()}
        old = self._sim.keys.give(self._draw.choice(chosen), servers)
        for url, key in old:
            self._world.after(self._draw.choice((0.0, 10.0)), servers[url].keys.pop, key, None)
        return None

    def key_revoked(self) -> bool | None:
        network = self._network()
        if not network.server.keys:
            return False
        key = self._draw.choice(sorted(network.server.keys))
        del network.server.keys[key]
        self._world.after(self._draw.choice((1.0, 15.0)), self._give_back, network, key)
        return None

    def _give_back(self, network: Network, key: str) -> None:
        if key in self._sim.keys.in_force(network.url):
            network.server.keys[key] = "entity"

    def stream_forbidden(self) -> bool | None:
        if not self._sim.files.ledger:
            return False
        stream = self._draw.choice(sorted(self._sim.files.ledger))
        forbidden = self._network().server.forbidden
        forbidden.add(stream)
        self._world.after(self._draw.choice((1.0, 15.0)), forbidden.discard, stream)
        return None
