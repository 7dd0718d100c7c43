"""What the long benchmarks watch while they run: memory and descriptors of processes, and how late
records are."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from tests.support.server_process import ServerError, ServerProcess

#: Of a run's beginning, where caches fill and pools grow, the slope is not taken.
WARM_UP = 0.25
#: Flat: over the rest of the time the line through the samples rises by no more than this.
RISE_MIB_MAX = 4.0
RISE_SHARE_MAX = 0.04


@dataclass
class Gauge:
    """Memory, descriptors and CPU of one process, over time."""

    pid: int
    times: list[float] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def sample(self, now: float) -> None:
        """Look once."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
            fds = len(os.listdir(f"/proc/{self.pid}/fd"))
        except OSError:
            return
        self.times.append(now)
        self.rss_mib.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
        self.fds.append(fds)
        self.cpu_s.append((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))

    def figures(self) -> dict[str, Any]:
        """Return what is worth recording."""
        start = int(len(self.times) * WARM_UP)
        times, rss, fds = (np.array(each[start:]) for each in (self.times, self.rss_mib, self.fds))
        span_s = times[-1] - times[0]
        slope = np.polyfit(times, rss, 1)[0] if len(times) > 2 else 0.0
        rise = float(slope * span_s)
        fd_slope = np.polyfit(times, fds, 1)[0] if len(times) > 2 else 0.0
        return {
            "rss_mib_max": round(max(self.rss_mib), 1),
            "rss_mib_mean": round(float(rss.mean()), 1),
            "rss_slope_mib_per_h": round(float(slope) * 3600, 2),
            "rss_rise_mib": round(rise, 2),
            "rss_flat": bool(rise <= max(RISE_MIB_MAX, RISE_SHARE_MAX * float(rss.mean()))),
            "fds_max": int(max(self.fds)),
            "fds_rise": round(float(fd_slope * span_s), 1),
            "cpu_percent": round(100 * (self.cpu_s[-1] - self.cpu_s[start]) / max(span_s, 1e-9), 1),
        }


class Lateness:
    """Seconds from the write of a record to the moment the server's API has it, of one run's steps."""

    def __init__(
        self, server: ServerProcess, run: str, written_at: Callable[[int], float | None], every_s: float = 0.1
    ) -> None:
        self.seconds: list[float] = []
        self._server = server
        self._path = f"/api/v1/runs/default/bench/{run}/points"
        self._written_at = written_at
        self._every_s = every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lateness", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        cursor = "0"
        while not self._over.wait(self._every_s):
            try:
                answer = self._server.get(self._path, {"metric": "loss", "after": cursor})
            except (ServerError, OSError):
                continue
            now = time.time()
            cursor = answer["cursor"]
            for step in answer["points"].get("loss", {"step": []})["step"]:
                at = self._written_at(step)
                if at is not None:
                    self.seconds.append(now - at)

    def figures(self) -> dict[str, Any]:
        """Return the percentiles."""
        if not self.seconds:
            return {"records": 0}
        late = np.array(self.seconds)
        percentiles = {f"p{p}_s": round(float(np.percentile(late, p)), 3) for p in (50, 90, 99)}
        return {"records": len(late), **percentiles, "max_s": round(float(late.max()), 3)}
