"""Finds the place for a run's records: a directory of this user's own below a spool root.

The system spool is writable to all and readable to none (mode 1733), so nobody can list it, and
a name in it may have been taken by somebody else: a directory counts only with the right owner.
"""

import os
import stat

from ._clock import monotonic_ns, time_ns
from ._names import random_id
from .protocol.header import Header
from .protocol.layout import SYSTEM_SPOOL
from .protocol.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Mapping, Optional, Tuple


_DIRECTORY_MODE = 0o770
#: Names <uid>-0, <uid>-1, … tried where somebody else took <uid>; then a random one.
_NAMES_TRIED = 10


class RunPlace(NamedTuple):
    """Where one run's streams go, and what their headers say about where they come from."""

    root: str
    directory: str  #: "" as long as it could not be made
    run: str
    machine: str
    boot: str
    host: str
    writer: str
    rank: "Optional[int]" = None
    offline: bool = False
    server: "Optional[str]" = None
    account: "Optional[str]" = None
    stop_pid: int = 0  #: the process that looks for requests to stop; 0: none
    gpus: "Optional[Dict[str, str]]" = None  #: what the environment said about GPUs
    parent: "Optional[bytes]" = (
        None  #: the stream of whoever hands this place on: a fork, a pickle, the helper
    )
    role: "Optional[str]" = None  #: what the next stream here is, as its HEADER says

    def made(self) -> "RunPlace":
        """Return this place with its directory made. Raise OSError when that is not possible."""
        return self._replace(directory=ensure_run_directory(self.root, self.run))

    def new_header(self) -> Header:
        """Return the first header of a new stream of this process."""
        return Header(
            stream=os.urandom(16),
            run=self.run,
            segment=0,
            base=0,
            machine=self.machine,
            boot=self.boot,
            pid=os.getpid(),
            started=time_ns(),
            clock=monotonic_ns(),
            writer=self.writer,
            host=self.host,
            rank=self.rank,
            offline=self.offline,
            stop=True if self.stop_pid == os.getpid() else None,
            server=self.server,
            account=self.account,
            gpus=self.gpus,
            parent=self.parent,
            role=self.role,
        )


def candidate_roots(
    given: "Optional[str]",
    variable: "Optional[str]",
    environ: "Mapping[str, str]",
    system: str = SYSTEM_SPOOL,
) -> "List[Tuple[str, str]]":
    """Return (root, why) in the order to try them: the user's wish, the system's, the user's own."""
    roots: List[Tuple[str, str]] = []
    if given:
        roots.append((os.path.abspath(os.path.expanduser(given)), "the argument dir"))
    if variable:
        roots.append((os.path.abspath(os.path.expanduser(variable)), "TRACKER_DIR"))
    if os.path.isdir(system) and os.access(system, os.W_OK | os.X_OK):
        roots.append((system, "the system's spool"))
    state = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # the XDG specification: a relative path is to be ignored
        state = os.path.join(os.path.expanduser("~"), ".local", "state")
    roots.append((os.path.join(state, "tracker", "spool"), "your state directory"))
    return roots


def ensure_user_directory(root: str) -> str:
    """Return <root>/<uid>, or <root>/<uid>-<random> where somebody else took the name."""
    os.makedirs(root, exist_ok=True)
    name = str(_user_id())
    path = os.path.join(root, name)
    if _ensure_own_directory(path):
        return path
    for other in _listed(root):
        if other.startswith(name + "-") and _is_own_directory(os.path.join(root, other)):
            return os.path.join(root, other)
    # The system's spool cannot be listed: the same few names are tried each time, so that they are found.
    for number in range(_NAMES_TRIED):
        path = os.path.join(root, "%s-%d" % (name, number))
        if _ensure_own_directory(path):
            return path
    path = os.path.join(root, "%s-%s" % (name, random_id()))
    os.mkdir(path, _DIRECTORY_MODE)
    return path


def own_directories(root: str) -> "List[str]":
    """Return this user's directories in a spool, those that exist: also in one that cannot be listed."""
    name = str(_user_id())
    listed = [other for other in _listed(root) if other.startswith(name + "-")]
    tried = ["%s-%d" % (name, number) for number in range(_NAMES_TRIED)]
    paths = [os.path.join(root, each) for each in [name] + sorted(set(listed + tried))]
    return [path for path in paths if _is_own_directory(path)]


def ensure_run_directory(root: str, run: str) -> str:
    """Return the run's directory, made where it does not exist yet. Raise OSError when unusable."""
    path = os.path.join(ensure_user_directory(root), run)
    if not _ensure_own_directory(path):
        raise PermissionError(13, "it belongs to somebody else", path)
    return path


def _ensure_own_directory(path: str) -> bool:
    try:
        os.mkdir(path, _DIRECTORY_MODE)
    except FileExistsError:
        return _is_own_directory(path)
    return True


def _is_own_directory(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and (os.name == "nt" or found.st_uid == _user_id())


def _user_id() -> int:
    geteuid = getattr(os, "geteuid", None)
    return geteuid() if geteuid is not None else 0  # Windows has no such thing


def _listed(root: str) -> "List[str]":
    try:
        return sorted(os.listdir(root))
    except OSError:  # the system spool may not be listed
        return []


#: File systems whose servers may be away, by the names that Linux gives them; with "fuse." before some.
_NETWORK = frozenset(
    (
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "davfs",
        "fhgfs",
        "gcsfuse",
        "glusterfs",
        "gpfs",
        "juicefs",
        "lustre",
        "mfs",
        "moosefs",
        "ncpfs",
        "nfs",
        "nfs4",
        "orangefs",
        "panfs",
        "pvfs2",
        "rclone",
        "s3fs",
        "smb2",
        "smb3",
        "smbfs",
        "sshfs",
        "wekafs",
    )
)


def network_filesystem(directory: str, mounts: str = "/proc/self/mountinfo") -> "Optional[str]":
    """Return the type of the network file system that a directory is on, None where it is on none.

    None too where that cannot be told, as on systems other than Linux.
    """
    try:
        device = os.stat(directory).st_dev
        if os.major(device):  # a disk of this machine: nearly everybody, without reading all mounts
            return None
        wanted = ("%d:%d" % (os.major(device), os.minor(device))).encode("ascii")
        with open(mounts, "rb") as file:
            for line in file:
                fields = line.split()
                if fields[2] == wanted:
                    kind = fields[fields.index(b"-") + 1].decode("utf-8", "replace")
                    return kind if _is_network(kind) else None
    except (OSError, AttributeError, IndexError, ValueError):
        pass
    return None


def _is_network(kind: str) -> bool:
    return kind in _NETWORK or (kind.startswith("fuse.") and kind[5:] in _NETWORK)
