"""Finds runs in spools, and tells of each what its first and last records say.

Nothing here waits: a FIFO or a link that somebody put where a segment should be is passed over.
"""

import os
import stat
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .._settings_file import read_settings
from .._spool import candidate_roots, own_directories
from ..protocol import bodies, kinds
from ..protocol.codec import Seeds, find_line, scan_lines
from ..protocol.errors import ProtocolError
from ..protocol.header import Header, read_header, valid_run_id
from ..protocol.layout import live_name, parse_segment_name, parse_user_directory, segment_name
from ..protocol.lock import path_lock_holder
from ..protocol.run_state import Writer, deciding, state_of

#: A run's description stands at the front of its streams, how it ended at the end: so much is looked at.
FRONT_BYTES = 256 * 1024
BACK_BYTES = 256 * 1024


class NotFound(Exception):
    """There is no such run, or more than one. str() says what to do."""


class FoundRun(NamedTuple):
    """What is known of a run without reading all of it."""

    run: str
    name: str
    project: str
    entity: str
    state: str  #: running, finished, failed or crashed: what its streams on this machine say
    started: int  #: ns since 1970
    streams: int
    live: int  #: streams that somebody writes
    size: int  #: bytes of its segments
    directory: str


class _Stream(NamedTuple):
    header: Header
    fields: Dict[str, Any]
    writer: Writer


def roots(environ: Mapping[str, str], directory: Optional[str] = None) -> List[str]:
    """Return the spools that init() would use here, in that order, whether they exist or not."""
    variable = environ.get("TRACKER_DIR") or read_settings(environ, working_directory()).get("dir")
    return [root for root, _ in candidate_roots(directory, variable, environ)]


def working_directory() -> str:
    """Return where settings are looked for: the root where the working directory is gone."""
    try:
        return os.getcwd()
    except OSError:
        return os.sep


def runs_of_user(environ: Mapping[str, str]) -> Iterator[FoundRun]:
    """Yield the runs in all spools that init() would use."""
    seen = set()
    for root in roots(environ):
        # The system spool may not be listed, but one's own directories in it may.
        for place in [root] if os.access(root, os.R_OK) else own_directories(root):
            real = os.path.realpath(place)
            if os.path.isdir(place) and real not in seen:
                seen.add(real)
                for run in find_runs(place):
                    yield run


def find_runs(root: str) -> Iterator[FoundRun]:
    """Yield the runs in a spool, a user's directory or a run's own."""
    for directory, below, names in os.walk(root):
        segments = _segments(names)
        if segments:
            run = read_run(directory, segments)
            if run is not None:
                yield run
            below[:] = []
        elif directory == root:
            users = [name for name in below if parse_user_directory(name) is not None]
            below[:] = sorted(users or below)
        else:
            below.sort()


def find_run(text: str, environ: Mapping[str, str]) -> str:
    """Return the directory of a run that is meant by its directory, its id or its name. Raise NotFound."""
    if os.path.isdir(text):
        if not _segments(os.listdir(text)):
            raise NotFound("%s is a directory, but no run's: there are no segments (*.mpl) in it" % text)
        return os.path.abspath(text)
    if os.sep in text:
        raise NotFound("there is no directory %s" % text)
    searched = roots(environ)
    places = [place for root in searched for place in directories_of_run(root, text)]
    if not places:
        places = [run.directory for run in runs_of_user(environ) if run.name == text]
    if len(places) == 1:
        return places[0]
    if places:
        raise NotFound("several runs are called %s; name a directory: %s" % (text, ", ".join(places)))
    raise NotFound(
        "no run has the id or name %s in %s; `tracker ls` lists the runs" % (text, ", ".join(searched))
    )


def directories_of_run(root: str, run: str) -> List[str]:
    """Return the directories in a spool that hold a run of this id: one's own, else those of others."""
    if not valid_run_id(run):
        return []
    own = [os.path.join(user, run) for user in own_directories(root)]
    found = [path for path in own if _holds_segments(path)]
    if found:
        return found
    try:
        users = sorted(name for name in os.listdir(root) if parse_user_directory(name) is not None)
    except OSError:  # the system spool may not be listed
        return []
    return [path for path in (os.path.join(root, user, run) for user in users) if _holds_segments(path)]


def _holds_segments(directory: str) -> bool:
    try:
        return bool(_segments(os.listdir(directory)))
    except OSError:
        return False


def _segments(names: Sequence[str]) -> Dict[bytes, List[int]]:
    """Return the numbers of the segments of each stream."""
    segments: Dict[bytes, List[int]] = {}
    for name in names:
        parsed = parse_segment_name(name)
        if parsed is not None:
            segments.setdefault(parsed[0], []).append(parsed[1])
    return segments


def read_run(directory: str, segments: Optional[Dict[bytes, List[int]]] = None) -> Optional[FoundRun]:
    """Return what a run's directory tells, None where nothing in it can be understood."""
    if segments is None:
        segments = _segments(os.listdir(directory))
    found = [_read_stream(directory, stream, max(segments[stream])) for stream in sorted(segments)]
    streams = sorted((each for each in found if each is not None), key=lambda each: each.header.started)
    if not streams:
        return None
    fields: Dict[str, Any] = {}
    for each in streams:
        fields.update(each.fields)
    return FoundRun(
        run=str(streams[0].header.run),
        name=str(fields.get("name", "")),
        project=str(fields.get("project", "")),
        entity=str(fields.get("entity", "")),
        state=state_of(deciding([each.writer for each in streams])),
        started=streams[0].header.started,
        streams=len(segments),
        live=sum(each.writer.live for each in streams),
        size=sum(_size(directory, stream, number) for stream in segments for number in segments[stream]),
        directory=directory,
    )


def _read_stream(directory: str, stream: bytes, last: int) -> Optional[_Stream]:
    # Asked before the end is read: a writer that ends in between has left its EXIT by then.
    live = path_lock_holder(os.path.join(directory, live_name(stream))) is not None
    try:
        front, _ = _read_part(os.path.join(directory, segment_name(stream, 0)), 0, FRONT_BYTES)
        header, size = read_header(front)
    except (OSError, ProtocolError):
        return None
    if header.run is None or header.stream != stream:
        return None
    fields: Dict[str, Any] = {}
    for kind, _, body in scan_lines(front[size:], Seeds(stream, 0)).lines:
        if kind == kinds.RUN:
            try:
                fields.update(bodies.decode_run(body).fields)
            except ProtocolError:
                continue
    ended, code = (float("inf"), None) if live else _end(directory, stream, last)
    writer = Writer(stream, header.parent, header.role, header.rank, header.started, ended, code)
    return _Stream(header, fields, writer)


def _end(directory: str, stream: bytes, last: int) -> Tuple[float, Optional[int]]:
    """Return when a stream was last written, and the code where its last record is an EXIT."""
    path = os.path.join(directory, segment_name(stream, last))
    try:
        back, changed = _read_part(path, -BACK_BYTES, BACK_BYTES)
        seeds = Seeds(stream, last)
        start = find_line(back, 0, seeds)
        lines = scan_lines(back[start:], seeds).lines if start is not None else []
        if lines and lines[-1][0] == kinds.EXIT:
            exit_record = bodies.decode_exit(lines[-1][2])
            return exit_record.time, exit_record.code
        return changed, None
    except (OSError, ProtocolError):
        return 0, None


def _read_part(path: str, offset: int, size: int) -> Tuple[bytes, int]:
    """Return part of a segment and when it was last changed (ns). A negative offset counts from its end."""
    flags = os.O_RDONLY
    for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
        flags |= getattr(os, name, 0)
    with open(os.open(path, flags), "rb") as segment:
        status = os.fstat(segment.fileno())
        if not stat.S_ISREG(status.st_mode):
            return b"", 0
        segment.seek(offset if offset >= 0 else max(0, status.st_size + offset))
        return segment.read(size), status.st_mtime_ns


def _size(directory: str, stream: bytes, number: int) -> int:
    try:
        return os.lstat(os.path.join(directory, segment_name(stream, number))).st_size
    except OSError:  # the agent took it away meanwhile
        return 0
