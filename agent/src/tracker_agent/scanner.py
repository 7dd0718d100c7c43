"""The authority on what is in a spool: runs, streams, and which of them changed.

Nothing depends on events. What is quiet is looked at less and less often, by the time stamps of directories
first; a hint (watcher.py) only makes a directory due at once. All methods run in the spool's thread.
"""

from __future__ import annotations

import heapq
import os
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from tracker.protocol.layout import live_name

from .disk import Disk
from .entries import Entry, Findings, sort_names
from .open_files import OpenFiles
from .opening import Place, Refused, failure
from .pieces import Diverged
from .setting_values import NO_UID_MAP, UidMap
from .spool_users import NAMES_PER_S, RELIST_S, SETTLED_NS, SpoolUsers, UserDirectory
from .tailer import Tail

#: Directories looked at in one call, so that reading gets its turn between calls.
DIRECTORIES_PER_SCAN = 200
#: Looks per second at quiet directories, however many there are: bounds what they cost.
QUIET_CHECKS_PER_S = 250.0
#: Of these, at directories where all is finished.
FINISHED_CHECKS_PER_S = 50.0
#: However many there are, a finished run is looked at so often: it may be resumed in its directory.
FINISHED_LOOK_S = 300.0
#: A directory that changed within this time when it was found is one to watch.
FRESH_NS = 60_000_000_000
FOREIGN_MAX = 1000
#: Names in one directory that look like segments and are noted.
ODD_MAX = 20
#: Streams of one user that count, in all his run directories.
STREAMS_PER_USER_MAX = 30_000
#: Directories looked at in one call of empty_directories().
EMPTY_PER_LOOK = 500


@dataclass(eq=False, slots=True)
class _Directory:
    place: Place
    owner: UserDirectory
    stamp: tuple[int, int] = (0, 0)  # mtime and inode when last listed
    settled: bool = False
    relist_at: float = 0.0
    not_before: float = 0.0
    active_at: float = 0.0
    entries: dict[bytes, Entry] = field(default_factory=dict)
    foreign: dict[str, str] = field(default_factory=dict)
    gone: bool = False
    deleted: bool = False  #: only descriptors are left of it
    due: float = 0.0


class Scanner:
    """Scans one root. own_uid set: the root is the agent's own, its run directories lie directly in it.

    runs given: these run directories and no others, whatever lies beside them.
    """

    def __init__(
        self,
        root: str,
        disk: Disk,
        files: OpenFiles,
        interval_s: float,
        wall_ns: Callable[[], int],
        own_uid: int | None = None,
        own_live: Callable[[], Collection[bytes]] = frozenset,
        runs: Collection[Place] | None = None,
        uid_map: UidMap = NO_UID_MAP,
    ) -> None:
        self.root = root
        self.disk_problem: str | None = None  #: set by the caretaker
        #: path → why it is left alone; replaced whole, read by other threads
        self.foreign: dict[str, str] = {}
        self._disk = disk
        self._files = files
        self._interval_s = interval_s
        self._wall_ns = wall_ns
        self._own_live = own_live
        self._own = own_uid is not None
        self._users = SpoolUsers(root, disk, wall_ns, own_uid, own_uid is None and runs is None, uid_map)
        self._users_foreign: dict[str, str] = {}
        self._streams_of: Counter[int] = Counter()
        self._by_path: dict[str, _Directory] = {}
        self._heap: list[tuple[float, int, _Directory]] = []
        self._sequence = 0
        self._foreign_changed = False
        self._round: deque[_Directory] = deque()
        for place in runs or ():
            self._add(place, UserDirectory(place.user, place.uid, disk.user_name(place.uid), root), 0.0)

    def scan(self, now: float, hints: Iterable[str] = ()) -> Findings:
        """Look at whatever is due. Raises nothing: problems are findings of their own."""
        hinted = set(hints)
        findings = Findings()
        changes = self._users.scan(now, hinted)
        findings.keys, findings.fresh = changes.keys, changes.fresh
        for user, name in changes.gone:
            self._remove(os.path.join(user.path, name), findings)
        for user, name in changes.appeared:
            self._add(Place(self.root, user.name, name, user.uid), user, now)
        for path in hinted:
            known = self._by_path.get(path)
            if known is not None:
                self._schedule(known, now)
        if self._users.foreign != self._users_foreign:
            self._users_foreign = dict(islice(self._users.foreign.items(), FOREIGN_MAX))
            self._foreign_changed = True
        self._scan_due(now, findings)
        if self._foreign_changed:
            self._publish_foreign()
        return findings

    def look(self, entries: Iterable[Entry]) -> list[Entry]:
        """Ask for the writers of some streams at once; return the entries, their `holder` up to date."""
        asked = list(entries)
        for entry in asked:
            self._ask(entry)
        return asked

    @property
    def problem(self) -> str | None:
        """Why the root cannot be scanned."""
        return self._users.problem

    @property
    def directories(self) -> int:
        """Number of run directories."""
        return len(self._by_path)

    def entries(self) -> list[Entry]:
        """Return every stream that was found."""
        return [entry for directory in self._by_path.values() for entry in directory.entries.values()]

    def places(self) -> list[Place]:
        """Return all run directories."""
        return [directory.place for directory in self._by_path.values()]

    def refused(self, place: Place) -> set[bytes]:
        """Return the streams of a run directory that were looked at and are none."""
        directory = self._by_path.get(place.path)
        entries = {} if directory is None else directory.entries
        return {stream for stream, entry in entries.items() if entry.refusal is not None}

    def empty_directories(self) -> list[Place]:
        """Return some run directories in which no stream was found, others each time."""
        some = list(islice(self._next_directories(), EMPTY_PER_LOOK))
        return [directory.place for directory in some if directory.relist_at and not directory.entries]

    def _next_directories(self) -> Iterator[_Directory]:
        """Yield run directories for ever-repeating rounds, going on where the last call stopped."""
        while self._by_path:
            if not self._round:
                self._round = deque(self._by_path.values())
            directory = self._round.popleft()
            if not directory.gone:
                yield directory
            if not self._round:
                return

    def _add(self, place: Place, owner: UserDirectory, now: float) -> None:
        directory = self._by_path[place.path] = _Directory(place, owner, active_at=now)
        self._schedule(directory, now)

    def _scan_due(self, now: float, findings: Findings) -> None:
        quiet = max(len(self._by_path) / QUIET_CHECKS_PER_S, 4 * self._interval_s)
        for _ in range(DIRECTORIES_PER_SCAN):
            if not self._heap or self._heap[0][0] > now:
                break
            due, _, directory = heapq.heappop(self._heap)
            if directory.gone or due != directory.due:
                continue
            try:
                self._scan_directory(directory, now, findings)
            except Exception as error:  # noqa: BLE001 - as in scan()
                self._note(directory.foreign, directory.place.path, f"cannot be scanned: {error!r}")
            unfinished = any(not entry.finished for entry in directory.entries.values())
            age_s = now - directory.active_at
            if age_s < 10.0 or directory.deleted:
                pause = self._interval_s
            elif unfinished:
                pause = quiet
            else:
                # The older a finished run, the less likely it goes on. A hint, if any, comes at once.
                rest = max(10.0, age_s / 10, len(self._by_path) / FINISHED_CHECKS_PER_S)
                pause = max(quiet, min(rest, FINISHED_LOOK_S))
            self._schedule(directory, now + pause)
        while self._heap and (self._heap[0][2].gone or self._heap[0][0] != self._heap[0][2].due):
            heapq.heappop(self._heap)
        findings.more = bool(self._heap) and self._heap[0][0] <= now
        findings.next_due = self._heap[0][0] if self._heap else now + self._interval_s

    def _schedule(self, directory: _Directory, due: float) -> None:
        directory.due = due
        self._sequence += 1
        heapq.heappush(self._heap, (due, self._sequence, directory))

    def _scan_directory(self, directory: _Directory, now: float, findings: Findings) -> None:
        place = directory.place
        if directory.deleted:
            self._scan_deleted(directory, now, findings)
            return
        first = directory.relist_at == 0.0
        try:
            status = self._disk.status(place.path)
            changed = (status.st_mtime_ns, status.st_ino) != directory.stamp or not directory.settled
            if (changed or now >= directory.relist_at) and now >= directory.not_before:
                self._list(directory, now, findings)
        except FileNotFoundError:
            pass  # its parent's listing will say so
        except Refused as error:
            self._note(directory.foreign, place.path, str(error))
        except OSError as error:
            self._note(directory.foreign, place.path, f"cannot be listed: {failure(error)}")
        unfinished = False
        for entry in directory.entries.values():
            if not entry.finished:
                unfinished = True
                self._scan_entry(directory, entry, now, findings)
        if not unfinished:
            for entry in directory.entries.values():
                entry.tail.rest()
        dead = all(entry.announced and entry.holder is None for entry in directory.entries.values())
        if first and dead and directory.entries:
            # Found just now, but of old: nothing is expected of it any more.
            directory.active_at = now - max(0.0, (self._wall_ns() - directory.stamp[0]) / 1e9)

    def _list(self, directory: _Directory, now: float, findings: Findings) -> None:
        status, names = self._disk.list_directory(directory.place)
        if directory.relist_at == 0.0 and self._wall_ns() - status.st_mtime_ns < FRESH_NS:
            findings.fresh.append(directory.place.path)
        directory.stamp = (status.st_mtime_ns, status.st_ino)
        directory.settled = self._wall_ns() - status.st_mtime_ns > SETTLED_NS
        directory.relist_at = now + RELIST_S
        directory.not_before = now + (len(names) / NAMES_PER_S if len(names) > 1000 else 0.0)
        segments, odd = sort_names(names)
        self._add_unlisted(directory, segments)
        where = directory.place.path
        notes = {os.path.join(where, name): "not named like a segment" for name in sorted(odd)[:ODD_MAX]}
        self._lose(directory, set(directory.entries) - set(segments), findings)
        for stream, numbers in segments.items():
            entry = directory.entries.get(stream)
            if entry is None:
                if self._streams_of[directory.place.uid] >= STREAMS_PER_USER_MAX:
                    notes[where] = f"its owner has {STREAMS_PER_USER_MAX} streams already"
                    continue
                entry = directory.entries[stream] = self._meet(directory, stream)
                directory.active_at = now
            elif numbers != set(entry.tail.segments.numbers):
                entry.size = -1
                if numbers - set(entry.tail.segments.numbers):
                    entry.finished = False
            entry.tail.segments.set_numbers(numbers)
            if entry.finished and entry.announced and self._has_grown(entry):
                entry.finished = False  # whoever writes it holds no lock: the lock file was removed
            if entry.refusal is not None:
                notes[os.path.join(where, entry.tail.segments.name(max(numbers)))] = entry.refusal
        for path in set(directory.foreign) - set(notes):
            self._note(directory.foreign, path, None)
        for path, reason in notes.items():
            self._note(directory.foreign, path, reason)

    def _add_unlisted(self, directory: _Directory, segments: dict[bytes, set[int]]) -> None:
        """Look for what is known by its name: some file systems list what was there a while ago."""
        for stream, entry in directory.entries.items():
            for number in sorted(set(entry.tail.segments.numbers) - segments.get(stream, set())):
                if self._is_there(directory.place, entry.tail.segments.name(number)):
                    segments.setdefault(stream, set()).add(number)

    def _has_grown(self, entry: Entry) -> bool:
        try:
            newest = entry.tail.segments.name(entry.tail.segments.numbers[-1])
            return self._disk.status(os.path.join(entry.place.path, newest)).st_size != entry.size
        except OSError:
            return False

    def _is_there(self, place: Place, name: str) -> bool:
        try:
            self._disk.status(os.path.join(place.path, name))
        except FileNotFoundError:
            return False
        except OSError:
            pass  # no evidence that it is gone
        return True

    def _drains(self, entry: Entry) -> bool:
        """Let a stream whose files were deleted be read to its end. False: nothing can be read any more."""
        entry.tail.segments.set_numbers(())
        return entry.announced and not entry.finished and bool(entry.tail.segments.numbers)

    def _lose(self, directory: _Directory, streams: Collection[bytes], findings: Findings) -> None:
        """Let go of streams whose files were deleted, but for what can still be read."""
        for stream in sorted(streams):
            if not self._drains(directory.entries[stream]):
                findings.gone.append(self._forget(directory.entries.pop(stream)))

    def _scan_deleted(self, directory: _Directory, now: float, findings: Findings) -> None:
        self._lose(directory, set(directory.entries), findings)
        for entry in directory.entries.values():
            self._scan_entry(directory, entry, now, findings)
        directory.gone = not directory.entries

    def _meet(self, directory: _Directory, stream: bytes) -> Entry:
        self._streams_of[directory.place.uid] += 1
        tail = Tail(directory.place, stream, self._files, own=self._own)
        return Entry(directory.place, directory.owner.user, stream, tail)

    def _forget(self, entry: Entry) -> Entry:
        self._streams_of[entry.place.uid] -= 1
        entry.tail.segments.close()
        return entry

    def _scan_entry(self, directory: _Directory, entry: Entry, now: float, findings: Findings) -> None:
        newest = entry.tail.segments.newest
        if newest is None:
            return
        path = os.path.join(entry.place.path, entry.tail.segments.name(newest))
        held = entry.tail.segments.is_held(newest)
        try:
            status = None if held else self._disk.status(path)
            size = entry.tail.segments.bytes_in(newest) if status is None else status.st_size
        except OSError:
            return
        inode = entry.inode if status is None else status.st_ino
        # The writer is asked about before the file is read: see next_piece.
        if entry.ask_lock and not entry.finished:
            holder = entry.holder
            if not self._ask(entry) and not entry.announced:
                # A stream without a writer would be read to its end and left alone for good.
                self._note(directory.foreign, path, "it cannot be found out whether its writer lives")
                return
            if entry.holder != holder and entry.announced:
                findings.writers.append(entry)
        if not entry.announced and status is not None:
            self._announce(directory, entry, path, status, now, findings)
            return
        if (size, inode) == (entry.size, entry.inode):
            return
        if entry.inode not in (-1, inode):
            entry.tail.segments.distrust()
        entry.size, entry.inode = size, inode
        directory.active_at = now
        entry.tail.grown(entry.size)
        findings.grown.append(entry)

    def _announce(
        self,
        directory: _Directory,
        entry: Entry,
        path: str,
        status: os.stat_result,
        now: float,
        findings: Findings,
    ) -> None:
        """Report a stream as soon as it has a HEADER. What was refused is looked at again once it changed."""
        held = entry.holder is not None
        state = (status.st_size, status.st_ino, status.st_ctime_ns, status.st_nlink, held)
        if state == entry.refused and self._wall_ns() - status.st_ctime_ns > SETTLED_NS:
            return
        reason = None
        passing = False
        entry.tail.segments.distrust()
        try:
            entry.header = entry.tail.header()
        except (Refused, Diverged) as error:
            reason = str(error)
        except OSError as error:
            reason = f"cannot be opened: {failure(error)}"
            # Rights change with the file; descriptors and disks come back without a trace on it.
            passing = not isinstance(error, PermissionError)
        entry.refused = None if passing else state
        if entry.header is not None:
            entry.announced, entry.refused = True, None
            entry.size, entry.inode = status.st_size, status.st_ino
            entry.tail.grown(entry.size)
            entry.user = directory.owner.user
            directory.active_at = now
            findings.found.append(entry)
        elif reason is None and status.st_size > 0 and entry.holder is None:
            reason = "not a record stream: it has no valid HEADER"
        entry.refusal = reason
        self._note(directory.foreign, path, reason)

    def _ask(self, entry: Entry) -> bool:
        """Find out who writes a stream. False: no answer, which is no evidence."""
        if entry.stream in self._own_live():
            entry.holder = os.getpid()
            return True
        try:
            holder = self._disk.lock_holder(entry.place, entry.stream)
        except OSError:
            return False
        if holder is None and entry.holder and self._lost_lock(entry) and self._disk.is_running(entry.holder):
            # A writer leaves its lock file behind. Somebody is deleting or renaming what it writes.
            holder = entry.holder
        entry.holder = holder
        return True

    def _lost_lock(self, entry: Entry) -> bool:
        return not self._is_there(entry.place, live_name(entry.stream))

    def _remove(self, path: str, findings: Findings) -> None:
        directory = self._by_path.pop(path, None)
        if directory is None:
            return
        self._lose(directory, set(directory.entries), findings)
        directory.deleted, directory.gone = True, not directory.entries
        self._foreign_changed = True

    def _note(self, foreign: dict[str, str], path: str, reason: str | None) -> None:
        """Take down why something is left alone, or (None) that it no longer is."""
        if reason is None:
            if foreign.pop(path, None) is not None:
                self._foreign_changed = True
        elif foreign.get(path) != reason:
            foreign[path] = reason
            self._foreign_changed = True

    def _publish_foreign(self) -> None:
        collected: dict[str, str] = dict(self._users_foreign)
        for directory in self._by_path.values():
            collected.update(directory.foreign)
            if len(collected) > FOREIGN_MAX:
                break
        self.foreign = dict(islice(collected.items(), FOREIGN_MAX))
        self._foreign_changed = False


__all__ = ["RELIST_S", "SETTLED_NS", "Entry", "Findings", "Scanner"]
