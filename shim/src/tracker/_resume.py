"""Resuming: what a run's own files say about where its former processes stopped.

Only files are asked, no server: a run whose directory is on another machine begins at step 0 again. Of each
stream the beginning and the end are read, whatever its size. Streams that are still written to are other
processes of the same life (ranks), not a former one.
"""

import os
import stat
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from . import _session
from .protocol import bodies
from .protocol.codec import Line, Seeds, find_line, scan_lines
from .protocol.errors import ProtocolError
from .protocol.header import HEADER_BYTES_MAX, HELPER, SUPERVISOR, Header, read_header
from .protocol.kinds import CONFIG, INT_MAX, LINE_BYTES_MAX, METRICS, RUN, SUMMARY
from .protocol.layout import live_name, parse_segment_name, segment_name
from .protocol.lock import path_lock_holder

FRONT_BYTES = 256 * 1024
TAIL_BYTES = 256 * 1024
#: The newest so many streams are looked at.
STREAMS_MAX = 64
#: Where resume="auto" keeps the id of a run that has not ended well, in the working directory.
AUTO_FILE = os.path.join(".tracker", "resume")

_NONE = type(None)


class FormerLife(NamedTuple):
    """What is known of a run's former processes."""

    step: int  #: the step to go on at
    fields: Dict[str, Any]
    config: Dict[str, Any]
    summary: Dict[str, Any]


class _Stream(NamedTuple):
    header: Header
    segments: List[int]
    written: int  #: when last, ns


def find_former_life(root: str, run_id: str, resume: str) -> Tuple[Optional[FormerLife], str]:
    """Return the former life of a run in this spool, and what is wrong with what resume asks."""
    directory = find_run_directory(root, run_id)
    life = read_former_life(directory) if directory is not None else None
    if resume == "never" and life is not None:
        return life, "resume='never', and the run %s is there already: this run gets a new id" % run_id
    if resume == "must" and life is None:
        return None, "resume='must', but there is no run %s in %s: it begins at step 0" % (run_id, root)
    return life, ""


def find_run_directory(root: str, run_id: str) -> Optional[str]:
    """Return the run's directory in a spool, below one of this user's names; None where there is none."""
    user = str(os.geteuid() if hasattr(os, "geteuid") else 0)
    try:
        listed = [name for name in os.listdir(root) if name.startswith(user + "-")]
    except OSError:  # the system's spool may not be listed; its names may be tried
        listed = ["%s-%d" % (user, number) for number in range(10)]
    for name in [user] + sorted(listed):
        path = os.path.join(root, name, run_id)
        try:
            found = os.lstat(path)
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode) and (os.name == "nt" or found.st_uid == int(user)):
            return path
    return None


def read_former_life(directory: str) -> Optional[FormerLife]:
    """Return what the ended streams in a run's directory tell; None where there are none."""
    fields: Dict[str, Any] = {}
    config: Dict[str, Any] = {}
    summary: Dict[str, Any] = {}
    step = -1
    found = False
    for each in _ended(directory):
        lines = _read_lines(directory, each.header.stream, each.segments)
        found = found or bool(lines)
        for kind, _, body in lines:
            try:
                if kind == METRICS:
                    _, at, values = bodies.unpack_fields(body, (int,), (int, _NONE), (dict,))
                    step = max(step, -1 if at is None else at)
                    summary.update(values)
                elif kind == RUN:
                    fields.update(bodies.decode_run(body).fields)
                elif kind in (CONFIG, SUMMARY):
                    patch = bodies.decode_patch(body)
                    target = config if kind == CONFIG else summary
                    target.update(patch.set)
                    for name in patch.removed:
                        target.pop(name, None)
            except ProtocolError:  # noqa: PERF203 - one bad body says nothing about the others
                continue
    return FormerLife(step + 1, fields, config, summary) if found else None


def _ended(directory: str) -> List[_Stream]:
    """Return the streams of former lives, the one that was written to last at the end."""
    own = {stream for run in _session.open_runs() for stream in run.streams()}
    ended = []
    begun = INT_MAX
    for each in _streams(directory):
        stream = each.header.stream
        if each.header.role in (HELPER, SUPERVISOR):
            continue  # they tell nothing of steps, and may outlive the training
        # A lock of one's own must not be asked about: that would drop it.
        if stream in own or path_lock_holder(os.path.join(directory, live_name(stream))) is not None:
            begun = min(begun, each.header.started)
        else:
            ended.append(each)
    # What ended since the oldest living writer began is of its life, such as a rank that was faster.
    return sorted((each for each in ended if each.written < begun), key=lambda each: each.written)


def _streams(directory: str) -> List[_Stream]:
    """Return the newest streams in a directory, those whose beginning can be read."""
    segments: Dict[bytes, List[int]] = {}
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    for name in names:
        parsed = parse_segment_name(name)
        if parsed is not None:
            segments.setdefault(parsed[0], []).append(parsed[1])
    written = sorted(
        (_modified(os.path.join(directory, segment_name(stream, max(numbers)))), stream)
        for stream, numbers in segments.items()
    )
    found = []
    for modified, stream in written[-STREAMS_MAX:]:
        numbers = sorted(segments[stream])
        try:
            front, _ = _read(directory, stream, numbers[0], 0, HEADER_BYTES_MAX)
            found.append(_Stream(read_header(front)[0], numbers, modified))
        except (OSError, ProtocolError):
            continue
    return found


def _modified(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _read_lines(directory: str, stream: bytes, segments: List[int]) -> List[Line]:
    """Return the lines at the beginning and at the end of a stream; none where it cannot be read."""
    lines: List[Line] = []
    first, last = segments[0], segments[-1]
    try:
        front, size = _read(directory, stream, first, 0, FRONT_BYTES)
        end = read_header(front)[1]
        lines += scan_lines(front[end:], Seeds(stream, first)).lines
        if first != last or size > FRONT_BYTES:
            lines += _read_tail(directory, stream, last)
    except (OSError, ProtocolError):
        pass
    return lines


def _read_tail(directory: str, stream: bytes, segment: int) -> List[Line]:
    seeds = Seeds(stream, segment)
    reach = TAIL_BYTES
    while True:
        data, size = _read(directory, stream, segment, -reach, reach)
        position = find_line(data, 0, seeds)
        lines: List[Line] = []
        while position is not None:
            scanned = scan_lines(data[position:], seeds)
            lines += scanned.lines
            position = find_line(data, position + max(scanned.end, 1), seeds)
        if lines or reach >= min(size, LINE_BYTES_MAX + TAIL_BYTES):
            return lines
        reach *= 16


def _read(directory: str, stream: bytes, segment: int, offset: int, count: int) -> Tuple[bytes, int]:
    """Return bytes of a segment from an offset on (below 0: from its end), and its size."""
    flags = os.O_RDONLY
    for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
        flags |= getattr(os, name, 0)
    with open(os.open(os.path.join(directory, segment_name(stream, segment)), flags), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(offset if offset >= 0 else max(size + offset, 0))
        return file.read(count), size


def auto_file() -> str:
    """Return the path of the file that resume="auto" uses."""
    return os.path.abspath(AUTO_FILE)


def read_auto_id(path: str) -> Optional[str]:
    """Return the id of the run that did not end well here, None where there is none."""
    from .protocol.header import valid_run_id

    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(200).strip()
    except (OSError, ValueError):
        return None
    return text if valid_run_id(text) else None


def keep_auto_id(path: str, run_id: str) -> bool:
    """Write the id for the next start; return whether that worked."""
    temporary = "%s.%d" % (path, os.getpid())
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(run_id + "\n")
        os.replace(temporary, path)
    except OSError:
        return False
    return True


def forget_auto_id(path: str, run_id: str) -> None:
    """Remove the file, where it is still about this run."""
    if read_auto_id(path) == run_id:
        os.unlink(path)
