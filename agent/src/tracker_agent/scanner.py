"""The authority on what is in a spool: users, runs, streams, and which of them changed.

Nothing depends on events. What is quiet is looked at less and less often, by the time stamps of directories
first; a hint (watcher.py) only makes a directory due at once. All methods run in the spool's thread.
"""

from __future__ import annotations

import heapq
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice

from tracker.protocol.layout import CREDENTIALS_FILE, parse_segment_name, parse_user_directory

from .credentials import UserKeys, read_user_keys
from .directories import Directory, User
from .disk import Disk
from .entries import Entry, Findings, remove_stream
from .open_files import OpenFiles
from .opening import Place, Refused
from .pieces import Diverged
from .tailer import Tail

#: Directories looked at in one call, so that reading gets its turn between calls.
DIRECTORIES_PER_SCAN = 200
#: Looks per second at quiet directories, however many there are: bounds what they cost.
QUIET_CHECKS_PER_S = 250.0
#: Two changes within this time may leave the same time stamp.
SETTLED_NS = 2_000_000_000
#: A directory that changed within this time when it was found is one to watch.
FRESH_NS = 60_000_000_000
#: A directory whose time stamp stays the same is listed anew this often: its clock may be another machine's.
RELIST_S = 60.0
FOREIGN_MAX = 1000
#: Directories looked at in one call of empty_directories().
EMPTY_PER_LOOK = 500


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
    ) -> None:
        self.root = root
        self.problem: str | None = None  #: why the root cannot be scanned
        self.disk_problem: str | None = None  #: set by the caretaker
        self.foreign: dict[
            str, str
        ] = {}  #: path → why it is left alone; replaced whole, read by other threads
        self.directories = 0
        self._disk = disk
        self._files = files
        self._interval_s = interval_s
        self._wall_ns = wall_ns
        self._own_live = own_live
        self._own_uid = own_uid
        self._users: dict[str, User] = {}
        self._user_foreign: dict[str, str] = {}
        self._root_stamp = (0, 0)
        self._root_settled = False
        self._root_relist_at = 0.0
        self._by_path: dict[str, Directory] = {}
        self._heap: list[tuple[float, int, Directory]] = []
        self._sequence = 0
        self._foreign_changed = False
        self._round: deque[Directory] = deque()
        if own_uid is not None:
            self._users[""] = User("", own_uid, disk.user_name(own_uid))
        self._scans_root = own_uid is None and runs is None
        for place in runs or ():
            self._add(place, disk.user_name(place.uid), 0.0)

    def scan(self, now: float, hints: Iterable[str] = ()) -> Findings:
        """Look at whatever is due. Raises nothing: problems are findings of their own."""
        findings = Findings()
        if self._scans_root:
            self._scan_root(now, findings)
        for user in list(self._users.values()):
            path = os.path.join(self.root, user.name) if user.name else self.root
            try:
                self._scan_user(user, path, now, findings)
            except Exception as error:  # noqa: BLE001 - what one user wrote must not stop the others
                self._note(self._user_foreign, path, f"cannot be scanned: {error!r}")
        for path in hints:
            directory = self._by_path.get(path)
            if directory is not None:
                self._schedule(directory, now)
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

    def entries(self) -> list[Entry]:
        """Return every stream that was found."""
        return [entry for directory in self._by_path.values() for entry in directory.entries.values()]

    def places(self) -> list[Place]:
        """Return all run directories."""
        return [directory.place for directory in self._by_path.values()]

    def empty_directories(self) -> list[Place]:
        """Return some run directories in which no stream was found, others each time."""
        some = list(islice(self._next_directories(), EMPTY_PER_LOOK))
        return [directory.place for directory in some if directory.relist_at and not directory.entries]

    def _next_directories(self) -> Iterator[Directory]:
        """Yield run directories for ever-repeating rounds, going on where the last call stopped."""
        while self._by_path:
            if not self._round:
                self._round = deque(self._by_path.values())
            directory = self._round.popleft()
            if not directory.gone:
                yield directory
            if not self._round:
                return

    def _scan_root(self, now: float, findings: Findings) -> None:
        try:
            status = self._disk.status(self.root, follow=True)
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp == self._root_stamp and self._root_settled and now < self._root_relist_at:
                return
            names = set(self._disk.names(self.root))
        except FileNotFoundError:
            self.problem, names, stamp, status = None, set(), (0, 0), None
        except OSError as error:
            self.problem = f"cannot be scanned: {error}"
            return
        else:
            self.problem = None
        self._root_stamp = stamp
        self._root_settled = status is not None and self._wall_ns() - status.st_mtime_ns > SETTLED_NS
        self._root_relist_at = now + RELIST_S
        for gone in sorted(set(self._users) - names):
            path = os.path.join(self.root, gone, CREDENTIALS_FILE)
            findings.keys.append((self._users[gone].uid, UserKeys(path)))
            for directory in self._users.pop(gone).directories.values():
                self._remove(directory, findings)
        for name in sorted(names - set(self._users)):
            uid = parse_user_directory(name)
            if uid is None:
                continue
            path = os.path.join(self.root, name)
            try:
                self._disk.check_user_directory(self.root, name, uid)
                self._users[name] = User(name, uid, self._disk.user_name(uid))
                findings.fresh.append(path)
                reason = None
            except Refused as error:
                reason = str(error)
            except OSError as error:
                reason = f"cannot be opened: {error.strerror}"
            self._note(self._user_foreign, path, reason)
        self._forget_foreign(names)

    def _scan_user(self, user: User, path: str, now: float, findings: Findings) -> None:
        try:
            status = self._disk.status(path)
            if user.name:
                self._scan_credentials(user, path, findings)
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp == user.stamp and user.settled and now < user.relist_at:
                return
            names = set(self._disk.directories(self.root, user.name, user.uid))
        except FileNotFoundError:
            names, stamp, status = set(), (0, 0), None
        except (OSError, Refused) as error:
            self._note(self._user_foreign, path, f"cannot be scanned: {error}")
            return
        self._note(self._user_foreign, path, None)
        user.stamp = stamp
        user.settled = status is not None and self._wall_ns() - status.st_mtime_ns > SETTLED_NS
        user.relist_at = now + RELIST_S
        for gone in sorted(set(user.directories) - names):
            self._remove(user.directories.pop(gone), findings)
        for name in sorted(names - set(user.directories)):
            place = Place(self.root, user.name, name, user.uid)
            user.directories[name] = self._add(place, user.user, now)

    def _add(self, place: Place, user: str, now: float) -> Directory:
        directory = Directory(place, user, active_at=now)
        self._by_path[place.path] = directory
        self._schedule(directory, now)
        self.directories += 1
        return directory

    def _scan_credentials(self, user: User, path: str, findings: Findings) -> None:
        file = os.path.join(path, CREDENTIALS_FILE)
        try:
            status = self._disk.status(file)
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        except FileNotFoundError:
            stamp = None
        except OSError:
            stamp = (-1, -1, -1)  # reading it says why, and that no file is missing
        if stamp == user.credentials:
            return
        user.credentials = stamp
        reason = None
        try:
            keys = read_user_keys(self._disk, self.root, user.name, user.uid)
        except Refused as error:
            reason = str(error)
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
            user.credentials = (-1, -1, -1)  # look again
        if reason is not None:
            keys = UserKeys(file, problem=reason)
        self._note(self._user_foreign, file, reason)
        findings.keys.append((user.uid, keys))

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
            active = now - directory.active_at < 10.0
            pause = self._interval_s if active else quiet if unfinished else max(quiet, 10.0)
            self._schedule(directory, now + pause)
        while self._heap and (self._heap[0][2].gone or self._heap[0][0] != self._heap[0][2].due):
            heapq.heappop(self._heap)
        findings.more = bool(self._heap) and self._heap[0][0] <= now
        findings.next_due = self._heap[0][0] if self._heap else now + self._interval_s

    def _schedule(self, directory: Directory, due: float) -> None:
        directory.due = due
        self._sequence += 1
        heapq.heappush(self._heap, (due, self._sequence, directory))

    def _scan_directory(self, directory: Directory, now: float, findings: Findings) -> None:
        place = directory.place
        try:
            status = self._disk.status(place.path)
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != directory.stamp or not directory.settled or now >= directory.relist_at:
                self._list(directory, now, findings)
            self._note(directory.foreign, place.path, None)
        except FileNotFoundError:
            pass  # its parent's listing will say so
        except Refused as error:
            self._note(directory.foreign, place.path, str(error))
        except OSError as error:
            self._note(directory.foreign, place.path, f"cannot be listed: {error.strerror}")
        for entry in directory.entries.values():
            if not entry.finished:
                self._scan_entry(directory, entry, now, findings)

    def _list(self, directory: Directory, now: float, findings: Findings) -> None:
        status, names = self._disk.list_directory(directory.place)
        if directory.relist_at == 0.0 and self._wall_ns() - status.st_mtime_ns < FRESH_NS:
            findings.fresh.append(directory.place.path)
        directory.stamp = (status.st_mtime_ns, status.st_ino)
        directory.settled = self._wall_ns() - status.st_mtime_ns > SETTLED_NS
        directory.relist_at = now + RELIST_S
        segments, odd = self._segments(directory, names)
        for path in odd:
            self._note(directory.foreign, path, "not named like a segment")
        for stream in sorted(set(directory.entries) - set(segments)):
            findings.gone.append(directory.entries.pop(stream))
        for stream, numbers in segments.items():
            entry = directory.entries.get(stream)
            if entry is None:
                tail = Tail(directory.place, stream, self._files, own=self._own_uid is not None)
                entry = directory.entries[stream] = Entry(directory.place, directory.user, stream, tail)
                directory.active_at = now
            elif numbers != set(entry.tail.segments.numbers):
                entry.size = -1
                if numbers - set(entry.tail.segments.numbers):
                    entry.finished = False
            entry.tail.segments.set_numbers(numbers)
            if entry.finished and entry.announced and self._has_grown(entry):
                entry.finished = False  # whoever writes it holds no lock: the lock file was removed
        for path in set(directory.foreign) - odd:
            self._note(directory.foreign, path, None)

    def _segments(self, directory: Directory, names: Iterable[str]) -> tuple[dict[bytes, set[int]], set[str]]:
        """Return which segments of which streams there are, and paths that are none but look like it."""
        segments: dict[bytes, set[int]] = {}
        odd = set()
        for name in names:
            parsed = parse_segment_name(name)
            if parsed is not None:
                segments.setdefault(parsed[0], set()).add(parsed[1])
            elif name.endswith(".mpl"):
                odd.add(os.path.join(directory.place.path, name))
        for stream, entry in directory.entries.items():
            # Some file systems list what was there a while ago: what is known is looked for by its name.
            for number in sorted(set(entry.tail.segments.numbers) - segments.get(stream, set())):
                if self._is_there(directory.place, entry.tail.segments.name(number)):
                    segments.setdefault(stream, set()).add(number)
        return segments, odd

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

    def _scan_entry(self, directory: Directory, entry: Entry, now: float, findings: Findings) -> None:
        newest = entry.tail.segments.newest
        if newest is None:
            return
        path = os.path.join(entry.place.path, entry.tail.segments.name(newest))
        try:
            status = self._disk.status(path)
        except OSError:
            return
        # The writer is asked about before the file is read: see next_piece.
        if entry.ask_lock and not entry.finished:
            holder = entry.holder
            if not self._ask(entry) and not entry.announced:
                # A stream without a writer would be read to its end and left alone for good.
                self._note(directory.foreign, path, "it cannot be found out whether its writer lives")
                return
            if entry.holder != holder and entry.announced:
                findings.writers.append(entry)
        if (status.st_size, status.st_ino) == (entry.size, entry.inode):
            return
        if entry.inode not in (-1, status.st_ino):
            entry.tail.segments.distrust()
        entry.size, entry.inode = status.st_size, status.st_ino
        directory.active_at = now
        if entry.announced:
            entry.tail.grown(entry.size)
            findings.grown.append(entry)
        else:
            self._announce(directory, entry, path, findings)

    def _announce(self, directory: Directory, entry: Entry, path: str, findings: Findings) -> None:
        """Report a stream as soon as it has a HEADER."""
        reason = None
        try:
            entry.header = entry.tail.header()
        except (Refused, Diverged) as error:
            reason = str(error)
        except OSError as error:
            reason = f"cannot be opened: {error.strerror}"
        if entry.header is not None:
            entry.announced = True
            entry.tail.grown(entry.size)
            findings.found.append(entry)
        else:
            if reason is None and entry.size > 0 and entry.holder is None:
                reason = "not a record stream: it has no valid HEADER"
            entry.size = -1  # look again
        self._note(directory.foreign, path, reason)

    def _ask(self, entry: Entry) -> bool:
        """Find out who writes a stream. False: no answer, which is no evidence."""
        if entry.stream in self._own_live():
            entry.holder = os.getpid()
            return True
        try:
            entry.holder = self._disk.lock_holder(entry.place, entry.stream)
        except OSError:
            return False
        return True

    def _remove(self, directory: Directory, findings: Findings) -> None:
        directory.gone = True
        findings.gone.extend(directory.entries.values())
        self._by_path.pop(directory.place.path, None)
        self._foreign_changed = True
        self.directories -= 1

    def _forget_foreign(self, names: set[str]) -> None:
        """Drop what was noted about users' directories that are no longer there."""
        for path in list(self._user_foreign):
            if os.path.relpath(path, self.root).partition("/")[0] not in names:
                self._note(self._user_foreign, path, None)

    def _note(self, foreign: dict[str, str], path: str, reason: str | None) -> None:
        """Take down why something is left alone, or (None) that it no longer is."""
        if reason is None:
            if foreign.pop(path, None) is not None:
                self._foreign_changed = True
        elif foreign.get(path) != reason:
            foreign[path] = reason
            self._foreign_changed = True

    def _publish_foreign(self) -> None:
        collected: dict[str, str] = dict(self._user_foreign)
        for directory in self._by_path.values():
            collected.update(directory.foreign)
            if len(collected) > FOREIGN_MAX:
                break
        self.foreign = dict(list(collected.items())[:FOREIGN_MAX])
        self._foreign_changed = False


__all__ = ["Entry", "Findings", "Scanner", "remove_stream"]
