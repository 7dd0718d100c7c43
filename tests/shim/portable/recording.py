"""What the portable tests share: scripts run in processes of their own, and their records read back."""

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unittest

from tracker.protocol import bodies, kinds
from tracker.protocol.codec import Seeds, scan_lines
from tracker.protocol.errors import IncompleteError
from tracker.protocol.header import read_header


class Stream:
    """One stream as it lies on the disk: the header of its first segment, then its records."""

    def __init__(self, header, records):
        self.header = header
        self.records = records

    def of(self, kind):
        return [body for found, body in self.records if found == kind]

    @property
    def metrics(self):
        return [(record.step, record.values) for record in self.of(kinds.METRICS)]

    @property
    def exits(self):
        return [record.code for record in self.of(kinds.EXIT)]


def read_streams(root, stubs=False):
    """Return every stream below a directory, by start; every byte of it must be whole records.

    stubs: segments cut short within their HEADER are passed over.
    """
    segments = []
    for directory, _, names in os.walk(str(root)):
        segments += [os.path.join(directory, name) for name in names if name.endswith(".mpl")]
    streams = {}
    for path in sorted(segments):
        with open(path, "rb") as file:
            data = file.read()
        try:
            header, size = read_header(data)
        except IncompleteError:
            if stubs:
                continue
            raise
        scanned = scan_lines(data[size:], Seeds(header.stream, header.segment))
        assert not scanned.bad and size + scanned.end == len(data), "%s ends in other bytes" % path
        records = [(kind, bodies.DECODERS[kind](body)) for kind, _, body in scanned.lines]
        stream = streams.setdefault(header.stream, Stream(header, []))
        stream.records += records
    return sorted(streams.values(), key=lambda stream: stream.header.started)


class Recording(unittest.TestCase):
    """A test with a spool of its own, and no TRACKER_ variables from outside."""

    def setUp(self):
        self.spool = tempfile.mkdtemp(prefix="tracker-test-")
        self.addCleanup(shutil.rmtree, self.spool)

    def environ(self, **environment):
        """Return the environment of a script."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("TRACKER_")}
        environ["TRACKER_DIR"] = os.path.join(self.spool, "spool")
        environ["XDG_STATE_HOME"] = os.path.join(self.spool, "state")  # what others left at home is not ours
        environ["PYTHONIOENCODING"] = "utf-8"
        # Off where a test is not about them: they start a process beside the training.
        environ["TRACKER_CONSOLE"] = "off"
        environ["TRACKER_DISABLE_CODE"] = "1"
        environ.update(environment)
        return environ

    def run_script(self, script, code=0, **environment):
        """Run a script in a process of its own; return what it wrote to (stdout, stderr)."""
        path = os.path.join(self.spool, "script.py")
        with open(path, "w") as file:
            file.write(textwrap.dedent(script))
        environ = self.environ(**environment)
        process = subprocess.Popen(
            [sys.executable, path],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environ,
            cwd=self.spool,
        )
        try:
            out, err = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            self.fail("the script hangs; it wrote %r and %r" % (out, err))
        out, err = out.decode("utf-8"), err.decode("utf-8")
        self.assertEqual(process.returncode, code, err)
        return out, err

    def streams(self, stubs=False):
        return read_streams(os.path.join(self.spool, "spool"), stubs)

    def stream(self):
        """Return the only stream."""
        streams = self.streams()
        self.assertEqual(len(streams), 1)
        return streams[0]
