"""The verifier: what the streams in a directory hold, and what is wrong with them.

report = verify_directory("/var/spool/tracker/1000/k2v9x0p1ab")
status = main(["--json", directory])        # what `tracker verify` calls
"""

import argparse
import json
import os
import sys
from typing import Any, Dict, List, Optional, Sequence, TextIO, Union

from . import bodies, kinds
from .errors import BodyError
from .header import Header
from .layout import live_name, parse_segment_name
from .lock import path_lock_holder
from .reader import TORN_TAIL
from .stream import DivergedError, Hole, Record, Segment, StreamReader

#: One report of a stream names this many faults of each sort; further ones are only counted.
FAULTS_MAX = 100

WHOLE = "whole"  #: every byte is a record
TORN = "torn"  #: whole but for a last line that was cut short: nothing acknowledged is missing
DAMAGED = "damaged"  #: records are missing or cannot be understood


class StreamReport:
    """What one stream holds. The attributes are the keys of its JSON form."""

    def __init__(self, directory: str, stream: bytes) -> None:
        self.directory = directory
        self.stream = stream.hex()
        self.state = WHOLE
        self.run: Optional[str] = None
        self.machine: Optional[str] = None
        self.host: Optional[str] = None
        self.pid: Optional[int] = None
        self.writer: Optional[str] = None
        self.version: Optional[int] = None
        self.live = False
        self.bytes = 0
        self.unfinished = 0  #: bytes at the end of a live stream that are no whole line yet
        self.segments: List[int] = []
        self.records: Dict[str, int] = {}
        self.exit_code: Optional[int] = None
        self.lost = 0  #: records the writer says it had to drop
        self.gaps: List[Dict[str, Union[int, str]]] = []
        self.gap_bytes = 0
        self.malformed: List[Dict[str, Union[int, str]]] = []
        self.malformed_records = 0
        self.problems: List[str] = []

    def _note(self, state: str) -> None:
        if self.state != DAMAGED:
            self.state = state

    def add_segment(self, segment: Segment) -> None:
        """Count a segment and check what its HEADER says against the earlier ones."""
        self.segments.append(segment.number)
        header = segment.header
        if segment.torn:
            self._note(TORN)
        elif header is None:
            self.add_problem("segment %06d has no valid HEADER" % segment.number)
        elif self.version is None:
            self._adopt(header)
        elif (header.run, header.machine, header.pid) != (self.run, self.machine, self.pid):
            self.add_problem("segment %06d names another run, machine or pid" % segment.number)

    def _adopt(self, header: Header) -> None:
        self.run = header.run
        self.machine = header.machine
        self.host = header.host
        self.pid = header.pid
        self.writer = header.writer
        self.version = header.version

    def add_problem(self, text: str) -> None:
        """Take down something wrong with the stream as a whole."""
        self._note(DAMAGED)
        self.problems.append(text)

    def add_hole(self, hole: Hole) -> None:
        """Take down bytes that are missing or no data."""
        self._note(TORN if hole.reason == TORN_TAIL else DAMAGED)
        self.gap_bytes += hole.bytes
        if len(self.gaps) < FAULTS_MAX:
            self.gaps.append({"offset": hole.offset, "bytes": hole.bytes, "reason": hole.reason})

    def add_record(self, record: Record) -> None:
        """Count a record and check its body."""
        name = kinds.NAMES.get(record.kind, "kind %d" % record.kind)
        self.records[name] = self.records.get(name, 0) + 1
        try:
            if record.kind == kinds.EXIT:
                self.exit_code = bodies.decode_exit(record.body).code
            elif record.kind == kinds.LOST:
                self.lost += bodies.decode_lost(record.body).records
            elif record.kind in bodies.DECODERS:
                bodies.DECODERS[record.kind](record.body)
        except BodyError as error:
            self._note(DAMAGED)
            self.malformed_records += 1
            if len(self.malformed) < FAULTS_MAX:
                self.malformed.append({"offset": record.offset, "kind": name, "reason": str(error)})

    def lines(self) -> List[str]:
        """Return the report for a person."""
        counts = ", ".join("%d %s" % (count, name) for name, count in sorted(self.records.items()))
        ended = "live" if self.live else "no EXIT" if self.exit_code is None else "exit %d" % self.exit_code
        text = ["%s  %s  (run %s, %s)" % (self.stream, self.state, self.run or "-", ended)]
        sizes = "%d segments, %d bytes" % (len(self.segments), self.bytes)
        text.append("    %s: %s" % (sizes, counts or "no records"))
        if self.unfinished:
            text.append("    %d bytes at the end are still being written" % self.unfinished)
        if self.lost:
            text.append("    the writer dropped %d records" % self.lost)
        text.extend("    " + problem for problem in self.problems)
        text.extend("    {reason}: {bytes} bytes at offset {offset}".format(**gap) for gap in self.gaps)
        text.extend("    malformed {kind} at offset {offset}: {reason}".format(**x) for x in self.malformed)
        return text


def verify_stream(directory: str, stream: bytes, live: bool = False) -> StreamReport:
    """Read one stream to its end. live: its writer is alive, so an incomplete last line is no fault."""
    report = StreamReport(directory, stream)
    report.live = live
    reader = StreamReader(directory, stream, live=lambda: live, damage_wait_s=0.0)
    try:
        for item in reader.read():
            if isinstance(item, Record):
                report.add_record(item)
            elif isinstance(item, Hole):
                report.add_hole(item)
            else:
                report.add_segment(item)
    except DivergedError as error:
        report.add_problem(str(error))
    except OSError as error:
        report.add_problem("cannot be read: %s" % error)
    report.bytes = reader.position
    report.unfinished = reader.waiting if live else 0
    return report


class DirectoryReport:
    """What verify_directory found."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.streams: List[StreamReport] = []
        self.problems: List[str] = []

    @property
    def state(self) -> str:
        """The worst state of all streams."""
        states = {stream.state for stream in self.streams}
        if self.problems or DAMAGED in states:
            return DAMAGED
        return TORN if TORN in states else WHOLE

    def lines(self) -> List[str]:
        """Return the report for a person."""
        text = [line for stream in self.streams for line in stream.lines()] + self.problems
        if self.streams:
            return text + ["%d streams: %s" % (len(self.streams), self.state)]
        return text + ["no streams in %s" % self.path]

    def to_json(self) -> Dict[str, Any]:
        """Return the report as plain JSON values."""
        streams = [vars(stream) for stream in self.streams]
        return {"path": self.path, "state": self.state, "problems": self.problems, "streams": streams}


def verify_directory(path: str) -> DirectoryReport:
    """Verify all streams in a directory and below: a run's, a user's, or a whole spool.

    Whether a writer is alive is asked of its lock, so never call this in a process that writes
    one of these streams (see lock.py).
    """
    report = DirectoryReport(path)

    def cannot_list(error: OSError) -> None:
        report.problems.append("cannot be listed: %s" % error)

    for directory, subdirectories, names in os.walk(path, onerror=cannot_list):
        subdirectories.sort()
        streams = set()
        for name in names:
            parsed = parse_segment_name(name)
            if parsed is not None:
                streams.add(parsed[0])
            elif name.endswith(".mpl"):
                report.problems.append("%s is not named like a segment" % os.path.join(directory, name))
        for stream in sorted(streams):
            live = path_lock_holder(os.path.join(directory, live_name(stream))) is not None
            report.streams.append(verify_stream(directory, stream, live))
    return report


def main(argv: Optional[Sequence[str]] = None, output: Optional[TextIO] = None) -> int:
    """Run `tracker verify`. Return 0: nothing is missing, 1: damaged, 2: no streams there."""
    parser = argparse.ArgumentParser(prog="tracker verify", description="Check the streams in a directory.")
    parser.add_argument("directory", help="a run's directory, or one above: all below is checked")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(argv)
    output = output or sys.stdout

    def say(line: str) -> None:
        encoding = getattr(output, "encoding", None) or "utf-8"
        print(line.encode(encoding, "backslashreplace").decode(encoding), file=output)

    report = verify_directory(options.directory)
    if options.json:
        say(json.dumps(report.to_json(), indent=2, sort_keys=True))
    else:
        for line in report.lines():
            say(line)
    if not report.streams:
        return 2
    return 1 if report.state == DAMAGED else 0
