"""What retention does to the simulated disk, one file at a time, so that a death may come between two.

Also the judge of it: what the server never had may go only where a limit was set.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Mapping

from tracker.protocol.layout import parse_live_name, parse_segment_name, segment_name
from tracker_agent.opening import Place, Refused
from tracker_agent.removal import Budget, Left, Measured, Remover

from .host import Host
from .process_disk import ProcessDisk
from .sim_disk import Node, error
from .world import SimulationError


class SimRemover(Remover):
    """Keeps the promises of Remover: never what is new, has grown, or has a writer."""

    def __init__(self, disk: ProcessDisk, host: Host) -> None:
        super().__init__(disk)
        self._process_disk = disk
        self._host = host

    def measure(self, place: Place) -> Measured:
        measured = Measured()
        for name, node in self._entries(place).items():
            measured.disk_bytes += len(node.data)
            parsed = parse_segment_name(name)
            if parsed is not None:
                measured.segments.setdefault(parsed[0], {})[parsed[1]] = (len(node.data), node.mtime_ns / 1e9)
        return measured

    def remove_run(
        self,
        place: Place,
        newest: Mapping[bytes, tuple[int, int]],
        before_s: float,
        budget: Budget,
        strangers_before_s: float,
        refused: Collection[bytes] = (),
    ) -> None:
        entries = self._entries(place)
        for name, node in entries.items():
            parsed = parse_segment_name(name)
            if parsed is None:
                continue
            known = newest.get(parsed[0])
            if known is None:
                judged = parsed[0] in refused or not node.data
                if not judged or node.changed_ns / 1e9 >= strangers_before_s:
                    raise Left(f"{name} is new")
            elif parsed[1] > known[0] or (parsed[1] == known[0] and len(node.data) != known[1]):
                raise Left(f"{name} has grown")
        for stream in filter(None, map(parse_live_name, entries)):
            if self._process_disk.lock_holder(place, stream) is not None:
                raise Left("a stream has a writer")
        for name in sorted(entries, key=lambda name: (parse_segment_name(name) is not None, name)):
            budget.spend()
            self._remove(place, name)
        self._process_disk.step_write()
        if self._entries(place):
            raise Left("something new appeared in it")
        self._host.disk.remove_tree(place.path)

    def remove_segment(self, place: Place, stream: bytes, number: int) -> None:
        self._remove(place, segment_name(stream, number))

    def empty_segment(self, place: Place, stream: bytes, number: int, start: int) -> None:
        self._process_disk.step_write()
        node = self._entries(place).get(segment_name(stream, number))
        if node is None:
            raise error(errno.ENOENT)
        node.data[start:] = bytes(max(0, len(node.data) - start))

    def remove_if_empty(self, place: Place, before_s: float) -> bool:
        if self._entries(place):
            return False
        node = self._host.disk.find(place.path)
        if max(node.mtime_ns, node.changed_ns) / 1e9 >= before_s:
            return False
        self._process_disk.step_write()
        self._host.disk.remove_tree(place.path)
        return True

    def disk_problem(self, path: str) -> str | None:
        return "its disk is full" if self._host.disk.full else None

    def _entries(self, place: Place) -> dict[str, Node]:
        self._process_disk.step_write()
        node = self._host.disk.find(place.path)
        if node.entries is None or node.uid != place.uid:
            raise Refused("not the user's")
        return node.entries

    def _remove(self, place: Place, name: str) -> None:
        self._process_disk.step_write()
        path = f"{place.path}/{name}"
        parsed = parse_segment_name(name)
        node = self._host.disk.find(path)
        if parsed is not None:
            self._host.judge_removal(parsed[0], node)
        elif node.holder is not None and name.endswith(".live"):
            raise SimulationError(f"the lock file of a live writer was removed: {name}")
        self._host.world.note(f"agent removes {path}")
        self._host.disk.unlink(path)
