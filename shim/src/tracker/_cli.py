"""The command `tracker`: looks at run directories. Needs no agent and no server."""

import argparse
import os
import stat
import sys
import time
from typing import Dict, List, NamedTuple, Optional, Sequence, Set

from ._spool import candidate_roots
from ._version import VERSION
from .protocol import bodies, kinds
from .protocol.codec import Seeds, scan_lines
from .protocol.errors import ProtocolError
from .protocol.header import read_header
from .protocol.layout import live_name, parse_segment_name, parse_user_directory, segment_name
from .protocol.lock import path_lock_holder

#: A run's description stands at the front of its streams; so much of each is looked at.
FRONT_BYTES = 256 * 1024


class ListedRun(NamedTuple):
    """One line of `tracker ls`."""

    run: str
    name: str
    project: str
    started: int
    streams: int
    live: int
    size: int
    directory: str


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="tracker", description="Look at the runs recorded on this machine.")
    parser.add_argument("--version", action="version", version="tracker " + VERSION)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    listing = commands.add_parser("ls", help="list the runs in a spool")
    listing.add_argument("directory", nargs="?", help="a spool, a user's directory in it, or a run's")
    commands.add_parser("verify", help="check every record in a directory", add_help=False)
    commands.add_parser("login", help="give this machine's agent a key for your runs", add_help=False)
    options, rest = parser.parse_known_args(argv)
    if options.command == "login":
        from . import _login

        return _login.main(rest)
    if options.command == "verify":
        from .protocol import verify

        return verify.main(rest)
    if rest:
        parser.error("unrecognized arguments: " + " ".join(rest))
    if options.command == "ls":
        return _list(options.directory)
    parser.print_help()
    return 2


def _list(directory: Optional[str]) -> int:
    if directory is not None and not os.path.isdir(directory):
        sys.stderr.write("tracker ls: %s is not a directory\n" % directory)
        return 2
    roots = [directory] if directory is not None else _own_roots()
    runs = [run for root in roots for run in find_runs(root)]
    rows = [("RUN", "NAME", "PROJECT", "STARTED", "STREAMS", "SIZE", "DIRECTORY")]
    for run in sorted(runs, key=lambda run: run.started):
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.started / 1e9))
        streams = "%d (%d live)" % (run.streams, run.live) if run.live else str(run.streams)
        rows.append((run.run, run.name, run.project, started, streams, _size(run.size), run.directory))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        line = _printable("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    return 0


def _own_roots() -> List[str]:
    """Return this user's directories in the spools that init() would use, those that exist."""
    found = []
    for root, _ in candidate_roots(None, os.environ.get("TRACKER_DIR"), os.environ):
        own = os.path.join(root, str(os.geteuid() if hasattr(os, "geteuid") else 0))
        # The system spool may not be listed, but one's own directory in it may.
        found.append(root if os.access(root, os.R_OK) else own)
    return [root for root in found if os.path.isdir(root)]


def find_runs(root: str) -> List[ListedRun]:
    """Return the runs in a spool, a user's directory or a run's own."""
    found = []
    for directory, below, names in os.walk(root):
        streams = {parsed[0] for parsed in map(parse_segment_name, names) if parsed is not None}
        if streams:
            run = _read_run(directory, streams, names)
            if run is not None:
                found.append(run)
            below[:] = []
        elif directory == root:
            users = [name for name in below if parse_user_directory(name) is not None]
            below[:] = users or below
    return found


def _read_run(directory: str, streams: Set[bytes], names: Sequence[str]) -> Optional[ListedRun]:
    started = 0
    run_id = ""
    fields: Dict[str, str] = {}
    for stream in streams:
        try:
            data = _read_front(os.path.join(directory, segment_name(stream, 0)))
            header, size = read_header(data)
        except (OSError, ProtocolError):
            continue
        if header.run is None:
            continue
        run_id = header.run
        started = min(started or header.started, header.started)
        for kind, _, body in scan_lines(data[size:], Seeds(stream, 0)).lines:
            if kind == kinds.RUN:
                try:
                    fields.update(bodies.decode_run(body).fields)
                except ProtocolError:
                    continue
    if not run_id:
        return None
    live = sum(path_lock_holder(os.path.join(directory, live_name(stream))) is not None for stream in streams)
    sizes = [os.lstat(os.path.join(directory, name)).st_size for name in names if parse_segment_name(name)]
    name, project = str(fields.get("name", "")), str(fields.get("project", ""))
    return ListedRun(run_id, name, project, started, len(streams), live, sum(sizes), directory)


def _read_front(path: str) -> bytes:
    """Return the beginning of a segment. A FIFO or a link that somebody put there is no segment."""
    flags = os.O_RDONLY
    for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
        flags |= getattr(os, name, 0)
    with open(os.open(path, flags), "rb") as segment:
        if not stat.S_ISREG(os.fstat(segment.fileno()).st_mode):
            return b""
        return segment.read(FRONT_BYTES)


def _printable(text: str) -> str:
    """Return text with what is not printable escaped: a name must not command the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return "%.3g %s" % (size, unit)
        size /= 1024
    return "%.3g GiB" % size
