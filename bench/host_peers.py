"""Other programs that measure the machine, run beside ours: sysstat and prometheus-node-exporter.

Both come from Debian; `make deps` installs them. Nothing of them stays running.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

NODE_EXPORTER = "prometheus-node-exporter"
#: sadc is not for people, so it is not on PATH.
SADC = "/usr/lib/sysstat/sadc"
SYSSTAT = ("mpstat", "iostat", "sadf", SADC)
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
START_S_MAX = 20.0


def need(*programs: str) -> None:
    """End the benchmark with a message where a program is missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        sys.exit(f"not on this machine: {', '.join(missing)} (Debian: sysstat, {NODE_EXPORTER}; make deps)")


class Scrape(NamedTuple):
    """What the exporter said at a time (monotonic, s)."""

    at: float
    values: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    def sum(self, name: str, **labels: str) -> float | None:
        """Return the sum of all series of a name that have these labels; None where there are none."""
        wanted = set(labels.items())
        found = [value for (each, own), value in self.values.items() if each == name and wanted <= own]
        return sum(found) if found else None


class NodeExporter:
    """A prometheus-node-exporter on a port of its own, as Debian sets it up by default."""

    def __init__(self, root: Path = Path("/"), arguments: Sequence[str] = ()) -> None:
        need(NODE_EXPORTER)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        arguments = [*arguments, f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
        if root != Path("/"):
            arguments += [f"--path.procfs={root}/proc", f"--path.sysfs={root}/sys"]
        self._url = f"http://127.0.0.1:{port}/metrics"
        self.process = subprocess.Popen([NODE_EXPORTER, *arguments], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_S_MAX
        while True:
            try:
                self.scrape()
                return
            except OSError:
                if time.monotonic() > deadline:
                    self.close()
                    raise
                time.sleep(0.05)

    def raw(self) -> bytes:
        """Return what it answers."""
        with urllib.request.urlopen(self._url, timeout=20) as answer:
            body: bytes = answer.read()
            return body

    def scrape(self) -> Scrape:
        """Return what it answers, read."""
        before = time.monotonic()
        text = self.raw().decode()
        at = (before + time.monotonic()) / 2
        values = {}
        for line in text.splitlines():
            match = _SAMPLE.match(line)
            if match:
                values[(match[1], frozenset(_LABEL.findall(match[2] or "")))] = float(match[3])
        return Scrape(at, values)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)


class Sysstat:
    """mpstat, iostat and sadc (which sar reads), each over the same windows."""

    def __init__(self, directory: Path, window_s: int, windows: int) -> None:
        need(*SYSSTAT)
        self._file = directory / "sar"
        self._windows = windows
        times = [str(window_s), str(windows)]
        environment = os.environ | {"LC_ALL": "C", "S_TIME_FORMAT": "ISO"}

        def start(*command: str) -> subprocess.Popen[str]:
            return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

        self._mpstat = start("mpstat", "-o", "JSON", "-P", "ALL", *times)
        self._iostat = start("iostat", "-o", "JSON", "-d", "-k", "-y", *times)
        self._sadc = start(SADC, "-S", "XALL", str(window_s), str(windows + 1), str(self._file))

    def results(self) -> dict[str, Sequence[Any]]:
        """Wait for the last window; return what each program says of each, by program."""
        mpstat = json.loads(self._mpstat.communicate(timeout=60)[0])
        iostat = json.loads(self._iostat.communicate(timeout=60)[0])
        self._sadc.communicate(timeout=60)
        command = [
            "sadf",
            "-j",
            str(self._file),
            "--",
            "-u",
            "ALL",
            "-r",
            "ALL",
            "-B",
            "-W",
            "-w",
            "-n",
            "DEV",
        ]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        return {
            "mpstat": _statistics(mpstat),
            "iostat": _statistics(iostat),
            "sar": [
                each for each in _statistics(json.loads(said)) if "cpu-load-all" in each or "cpu-load" in each
            ],
        }

    def close(self) -> None:
        for process in (self._mpstat, self._iostat, self._sadc):
            process.kill()
            process.wait()


def _statistics(said: Mapping[str, Any]) -> Sequence[Any]:
    found: Sequence[Any] = said["sysstat"]["hosts"][0]["statistics"]
    return found
