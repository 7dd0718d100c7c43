"""The users' directories of a spool: whose they are, the run directories in each, and the owners' keys.

Everyone may make directories in the spool, so what many names or many changes cost has a bound: long listings
are made seldom, few new names are looked at each time, and nobody has more than so many directories.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from tracker.protocol.layout import CREDENTIALS_FILE, parse_user_directory

from .credentials import UserKeys, read_user_keys
from .disk import Disk
from .opening import Refused, failure
from .setting_values import UidMap

#: Two changes within this time may leave the same time stamp.
SETTLED_NS = 2_000_000_000
#: A directory whose time stamp stays the same is listed anew this often: its clock may be another machine's.
RELIST_S = 60.0
#: Names read per second, on average, in a directory that changes all the time.
NAMES_PER_S = 20_000
#: Users looked at in one scan besides those in whose directories something just happened.
USERS_PER_SCAN = 64
#: A user in whose directory something happened is looked at in every scan for this long.
ACTIVE_S = 10.0
#: New names in the spool looked at in one scan: anyone may put any number of them there.
NEW_NAMES_PER_SCAN = 500
#: Directories "<uid>-<random>" of one user that count.
DIRECTORIES_PER_USER_MAX = 64
#: Run directories of one user that count; more than a week's runs.
RUNS_PER_USER_MAX = 50_000


@dataclass(eq=False, slots=True)
class UserDirectory:
    """<root>/<uid>[-random], or the root itself ("") where it is the agent's own."""

    name: str
    uid: int
    user: str  #: name of the owner
    path: str
    runs: set[str] = field(default_factory=set)
    stamp: tuple[int, int] = (0, 0)  # mtime and inode when last listed
    settled: bool = False
    relist_at: float = 0.0
    not_before: float = 0.0
    active_at: float = 0.0
    credentials: tuple[int, int, int] | None = None


@dataclass(slots=True)
class Changes:
    """What changed since the last call."""

    appeared: list[tuple[UserDirectory, str]] = field(default_factory=list)  #: run directories
    gone: list[tuple[UserDirectory, str]] = field(default_factory=list)
    keys: list[tuple[int, UserKeys]] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)  #: new users' directories: more may appear there soon


class SpoolUsers:
    """Knows the users of one root. own_uid set: the root is the agent's own, the runs lie directly in it.

    scans_root: users are looked for in the root.
    """

    def __init__(
        self,
        root: str,
        disk: Disk,
        wall_ns: Callable[[], int],
        own_uid: int | None,
        scans_root: bool,
        uid_map: UidMap,
    ) -> None:
        self.problem: str | None = None  #: why the root cannot be scanned
        self.foreign: dict[str, str] = {}  #: path → why it is left alone
        self._root = root
        self._disk = disk
        self._wall_ns = wall_ns
        self._scans_root = scans_root
        self._uid_map = uid_map
        self._users: dict[str, UserDirectory] = {}
        self._turns: list[UserDirectory] = []
        self._looked_at: dict[str, float] = {}  # names that are no user's directory, and when that was found
        self._listing = UserDirectory("", -1, "", root)
        if own_uid is not None:
            self._users[""] = UserDirectory("", own_uid, disk.user_name(own_uid), root)

    def scan(self, now: float, hinted: Collection[str]) -> Changes:
        """Look at whatever is due. Raises nothing."""
        changes = Changes()
        if self._scans_root:
            self._scan_root(now, changes)
        for user in self._due(now, hinted):
            try:
                self._scan_user(user, now, changes)
            except Exception as error:  # noqa: BLE001 - what one user wrote must not stop the others
                self.foreign[user.path] = f"cannot be scanned: {error!r}"
        return changes

    def _due(self, now: float, hinted: Collection[str]) -> list[UserDirectory]:
        """Return the users to be looked at: all of them where they are few, else some more each time."""
        if not self._turns:
            self._turns = list(reversed(self._users.values()))
        chosen = dict.fromkeys(self._turns[-USERS_PER_SCAN:])
        del self._turns[-USERS_PER_SCAN:]
        if len(chosen) < len(self._users):
            chosen |= dict.fromkeys(
                user
                for user in self._users.values()
                if now - user.active_at < ACTIVE_S or user.path in hinted
            )
        return [user for user in chosen if self._users.get(user.name) is user]

    def _scan_root(self, now: float, changes: Changes) -> None:
        listing = self._listing
        try:
            status = self._disk.status(self._root, follow=True)
            if self._unchanged(listing, status.st_mtime_ns, status.st_ino, now):
                return
            names = set(self._disk.names(self._root))
        except FileNotFoundError:
            self.problem, names, status = None, set(), None
        except OSError as error:
            self.problem = f"cannot be scanned: {error}"
            return
        else:
            self.problem = None
        self._note_listing(listing, status, len(names), now)
        for name in sorted(set(self._users) - names):
            user = self._users.pop(name)
            changes.keys.append((user.uid, UserKeys(os.path.join(user.path, CREDENTIALS_FILE))))
            changes.gone += [(user, run) for run in sorted(user.runs)]
        self._meet(names - set(self._users), now, changes)
        for path in [path for path in self.foreign if not self._is_below(path, names)]:
            del self.foreign[path]
        self._looked_at = {name: at for name, at in self._looked_at.items() if name in names}

    def _meet(self, names: Collection[str], now: float, changes: Changes) -> None:
        """Look at some names that are no known user's directory, those never looked at first."""
        uids = {name: uid for name in names if (uid := parse_user_directory(name)) is not None}
        due = [name for name in uids if now - self._looked_at.get(name, -RELIST_S) >= RELIST_S]
        chosen = sorted(due, key=lambda name: (self._looked_at.get(name, -1.0), name))[:NEW_NAMES_PER_SCAN]
        if len(due) > len(chosen):
            self._listing.settled = False  # the rest comes with the next scan
        counts = Counter(user.uid for user in self._users.values())
        for name in chosen:
            path = os.path.join(self._root, name)
            uid = self._owner(path, uids[name])
            self._looked_at[name] = now
            reason = f"uid {uid} has {DIRECTORIES_PER_USER_MAX} directories already"
            if counts[uid] < DIRECTORIES_PER_USER_MAX:
                reason = self._refusal(name, uid)
            if reason:
                self.foreign[path] = reason
                continue
            self.foreign.pop(path, None)
            del self._looked_at[name]
            counts[uid] += 1
            self._users[name] = UserDirectory(name, uid, self._user_name(uid), path, active_at=now)
            changes.fresh.append(path)

    def _owner(self, path: str, uid: int) -> int:
        """Return whose directory it is to be: that of a container's uid the operator lists, else as named."""
        try:
            owner = self._disk.status(path).st_uid if self._uid_map else uid
        except OSError:
            return uid
        return owner if owner in self._uid_map else uid

    def _user_name(self, uid: int) -> str:
        return self._disk.user_name(self._uid_map.user(uid))

    def _refusal(self, name: str, uid: int) -> str:
        try:
            self._disk.check_user_directory(self._root, name, uid)
            return ""
        except Refused as error:
            return str(error)
        except OSError as error:
            return f"cannot be opened: {failure(error)}"

    def _scan_user(self, user: UserDirectory, now: float, changes: Changes) -> None:
        user.user = self._user_name(user.uid)
        try:
            status = self._disk.status(user.path)
            if user.name:
                self._scan_credentials(user, changes)
            if self._unchanged(user, status.st_mtime_ns, status.st_ino, now):
                return
            names = set(self._disk.directories(self._root, user.name, user.uid))
        except FileNotFoundError:
            names, status = set(), None
        except (OSError, Refused) as error:
            self.foreign[user.path] = f"cannot be scanned: {error}"
            return
        self.foreign.pop(user.path, None)
        if user.stamp[0] and names != user.runs:
            user.active_at = now
        self._note_listing(user, status, len(names), now)
        for gone in sorted(user.runs - names):
            user.runs.remove(gone)
            changes.gone.append((user, gone))
        new = sorted(names - user.runs)
        room = RUNS_PER_USER_MAX - len(user.runs)
        if len(new) > room:
            self.foreign[user.path] = (
                f"holds more than {RUNS_PER_USER_MAX} run directories: {len(new) - room} are left alone "
                "until others are gone"
            )
        for name in new[:room]:
            user.runs.add(name)
            changes.appeared.append((user, name))

    def _unchanged(self, listing: UserDirectory, mtime_ns: int, inode: int, now: float) -> bool:
        """Return whether a directory need not be listed now."""
        if now < listing.not_before:
            return True
        return (mtime_ns, inode) == listing.stamp and listing.settled and now < listing.relist_at

    def _note_listing(
        self, listing: UserDirectory, status: os.stat_result | None, names: int, now: float
    ) -> None:
        listing.stamp = (0, 0) if status is None else (status.st_mtime_ns, status.st_ino)
        listing.settled = status is not None and self._wall_ns() - status.st_mtime_ns > SETTLED_NS
        listing.relist_at = now + RELIST_S
        listing.not_before = now + (names / NAMES_PER_S if names > 1000 else 0.0)

    def _scan_credentials(self, user: UserDirectory, changes: Changes) -> None:
        file = os.path.join(user.path, CREDENTIALS_FILE)
        try:
            status = self._disk.status(file)
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        except FileNotFoundError:
            stamp = None
        except OSError:
            # To be read all the same: that says why it cannot be, and is no file missing.
            stamp = (-1, -1, -1)
        if stamp == user.credentials:
            return
        self.foreign.pop(file, None)
        try:
            keys = read_user_keys(self._disk, self._root, user.name, user.uid)
        except (OSError, Refused) as error:
            reason = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
            if isinstance(error, OSError):
                stamp = (-1, -1, -1)  # look again
            keys = UserKeys(file, problem=reason)
            self.foreign[file] = reason
        user.credentials = stamp
        changes.keys.append((user.uid, keys))

    def _is_below(self, path: str, names: Collection[str]) -> bool:
        return os.path.relpath(path, self._root).partition("/")[0] in names
