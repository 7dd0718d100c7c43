"""What must be true: every acknowledged record is stored once, in order, or its loss is accounted for.

The ledger of the writers says what was acknowledged, the simulated disk what of it is still there, the model
servers what is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracker.protocol.bodies import decode_observed
from tracker.protocol.codec import parse_start
from tracker.protocol.kinds import EXIT, OBSERVED

from .files_of_writers import Line, WriterFiles
from .model_server import Stored
from .sim_disk import Node, SimDisk
from .world import SimulationError

if TYPE_CHECKING:
    from .simulation import Simulation


#: What the agent wrote itself within this time need not have arrived.
FRESH_S = 10.0


@dataclass
class OnDisk:
    """What the disk holds of a stream: where it ends (0: no HEADER is left), and which lines can be read."""

    end: int
    intact: set[int]
    linked: list[Node]


def on_disk(files: WriterFiles, disk: SimDisk, stream: bytes) -> OnDisk:
    """Look at what the disk holds of a stream."""
    ledger = files.ledger[stream]
    found = OnDisk(0, set(), [])
    for path, node in sorted(files.segments[stream], key=lambda item: item[1].base):
        if node in found.linked or not disk.exists(path) or disk.find(path) is not node:
            continue
        found.linked.append(node)
        lines = readable(node, ledger)
        if lines:
            found.end = node.base + len(node.data)
            found.intact |= lines
        elif found.end:
            found.end += len(node.data)
    return found


def readable(node: Node, ledger: dict[int, Line]) -> set[int]:
    """Return where a segment still holds lines as they were written; without its HEADER it holds none."""
    if node.base not in ledger or not node.data.startswith(ledger[node.base].data):
        return set()
    end = node.base + len(node.data)
    return {
        position
        for position in ledger
        if node.base <= position < end and node.data.startswith(ledger[position].data, position - node.base)
    }


def stored_positions(stream: bytes, stored: Stored, ledger: dict[int, Line]) -> set[int]:
    """Make sure that what is stored is what was written, once and in order. Return where the lines are."""
    name = stream.hex()[:8]
    at = 0
    found: set[int] = set()
    for piece in stored.pieces:
        if piece[0] != at:
            raise SimulationError(f"stream {name}: a piece at {piece[0]} follows one that ends at {at}")
        if len(piece) == 3:
            at += piece[1]
            continue
        data, start = piece[1], 0
        while start < len(data):
            line = ledger.get(at + start)
            if line is None or not data.startswith(line.data, start):
                raise SimulationError(f"stream {name}: what is stored at {at + start} was never written")
            found.add(at + start)
            start += len(line.data)
        at += len(data)
    if at != stored.next:
        raise SimulationError(f"stream {name}: next is {stored.next}, the pieces end at {at}")
    return found


def is_diverged(stored: Stored, found: set[int], disk: OnDisk) -> bool:
    """Return whether the server has what the files no longer hold, so that the stream is set aside."""
    begin = min((node.base for node in disk.linked), default=0)
    return stored.next > disk.end or any(p not in disk.intact for p in found if p >= begin)


class Oracle:
    """Looks at a simulation."""

    def __init__(self, simulation: Simulation) -> None:
        self._sim = simulation
        self._files = simulation.files
        self._disk = simulation.disk

    def undelivered(self) -> list[str]:
        """Say what the servers should have by now and have not."""
        if any(not training.done for training in self._files.trainings):
            return ["trainings still run"]
        left = []
        for stream, segments in self._files.segments.items():
            disk = on_disk(self._files, self._disk, stream)
            stored = self._stored(stream)
            if stored.next < min(disk.end, self._older_than_now(stream)):
                found = stored_positions(stream, stored, self._files.ledger[stream])
                if not is_diverged(stored, found, disk):
                    left.append(f"{segments[0][0]}: {stored.next} of {disk.end}")
        return left or self._untold()

    def _older_than_now(self, stream: bytes) -> int:
        """Return where a stream ended some seconds ago: the agent goes on measuring."""
        now = self._sim.world.now
        ends = [
            at + len(line.data) for at, line in self._files.ledger[stream].items() if now - line.at > FRESH_S
        ]
        alive = self._sim.agent is not None and stream in self._sim.agent.own_streams
        return max(ends, default=0) if alive else 2**62

    def _untold(self) -> list[str]:
        """Name the trainings that died without a word and whose end no server has heard of."""
        if self._sim.settings.limits.state_bytes < 1_000_000:
            return []  # what was observed may have been given up
        told: set[bytes] = set()
        silent = []
        for stream, ledger in self._files.ledger.items():
            stored = self._stored(stream)
            disk = on_disk(self._files, self._disk, stream)
            if stored.header is None:
                continue
            found = stored_positions(stream, stored, ledger)
            if not disk.end and stored.header.run is not None:
                continue  # its files are gone
            if stored.header.run is None:
                refused = {p for p in ledger if self._is_refused(stream, p)}
                told |= {gone for p in found | refused if (gone := _gone(ledger[p].data)) is not None}
            elif found and ledger[max(found)].data[1] != EXIT and not is_diverged(stored, found, disk):
                silent.append(stream)
        return [
            f"the end of stream {stream.hex()[:8]} was not told" for stream in silent if stream not in told
        ]

    def _stored(self, stream: bytes) -> Stored:
        for network in self._sim.networks.values():
            for (_, _, each), stored in network.server.streams.items():
                if each == stream:
                    return stored
        return Stored()

    def check(self) -> None:
        """Compare what was acknowledged with what is stored."""
        for stream, ledger in self._files.ledger.items():
            stored = self._stored(stream)
            found = stored_positions(stream, stored, ledger)
            disk = on_disk(self._files, self._disk, stream)
            if disk.end and not is_diverged(stored, found, disk):
                older = self._older_than_now(stream)
                self._check_missing(stream, stored, {p for p in disk.intact - found if p < older})
        for agent in self._sim.agents:
            if agent.disk.most_open > self._sim.settings.limits.open_files + 2:
                raise SimulationError(f"{agent.disk.most_open} files were open at once")
        most = max(network.most_in_flight for network in self._sim.networks.values())
        if most > self._sim.settings.limits.memory_bytes:
            raise SimulationError(f"{most} bytes of records were in flight at once")
        if self._sim.log.crashes:
            raise SimulationError("a task of the agent crashed: " + self._sim.log.crashes[0])

    def _check_missing(self, stream: bytes, stored: Stored, missing: set[int]) -> None:
        """Make sure that what is readable and not stored was refused, and is in a gap that says so."""
        ledger = self._files.ledger[stream]
        gaps = [(piece[0], piece[0] + piece[1], piece[2]) for piece in stored.pieces if len(piece) == 3]
        for position in missing:
            if not ledger[position].acknowledged:
                continue
            reason = next((why for start, end, why in gaps if start <= position < end), None)
            if reason is None or not self._is_refused(stream, position):
                raise SimulationError(
                    f"stream {stream.hex()[:8]}: the record at {position} was acknowledged, can be read, "
                    f"and is not stored; gap: {reason}"
                )

    def _is_refused(self, stream: bytes, position: int) -> bool:
        """Return whether a server refused a line for itself: then the agent may give it up."""
        rejected = any((stream, position) in network.rejected for network in self._sim.networks.values())
        return rejected or self._sim.verdicts.is_refused(stream, position)

    def judge_removal(self, stream: bytes, node: Node) -> None:
        """Make sure that the agent removes what the server has, or what a limit makes it give up."""
        limits = self._sim.settings.limits
        if limits.spool_bytes or limits.spool_bytes_per_user or limits.state_bytes < 1_000_000:
            return
        had = max(network.server.furthest.get(stream, 0) for network in self._sim.networks.values())
        ledger = self._files.ledger.get(stream, {})
        lost = [
            position
            for position in readable(node, ledger)
            if position >= had and ledger[position].acknowledged
        ]
        if lost:
            raise SimulationError(
                f"stream {stream.hex()[:8]}: the agent removed {len(lost)} records that the server never had"
            )


def _gone(line: bytes) -> bytes | None:
    """Return the stream that an OBSERVED says is gone."""
    if line[1] != OBSERVED:
        return None
    observed = decode_observed(line[len(line) - parse_start(line, 0)[2] :])
    return observed.stream if observed.state == "gone" else None
