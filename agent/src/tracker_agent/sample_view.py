"""One sample of a collector, taken in the foreground, and how it is shown: a table or a line of JSON."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .collectors.collector import Collector, CollectorError, Metric, NothingHere, Reading
from .readable import printable

#: Columns where there is no terminal to ask.
PLAIN_COLUMNS = 140


@dataclass(frozen=True)
class Taken:
    """What one sample brought: a reading, or why there is none."""

    name: str
    metrics: tuple[Metric, ...]
    time_ns: int
    cost_s: float  #: processor time of this thread; children have their own
    took_s: float
    reading: Reading | None
    state: str = "ok"  #: as the agent's status has it: ok, degraded, nothing here, failing
    reason: str = ""


def take(collector: Collector) -> Taken:
    """Ask a collector once. What it raises is part of the answer."""
    time_ns, before, began = time.time_ns(), time.thread_time(), time.monotonic()
    reading, state, reason = None, "ok", ""
    try:
        reading = collector.sample()
        state = "degraded" if reading.problems else "ok"
        reason = "; ".join(reading.problems)
    except NothingHere as error:
        state, reason = "nothing here", str(error)
    except CollectorError as error:
        state, reason = "failing", str(error)
    except Exception as error:  # noqa: BLE001 (as in the agent: a collector with a bug is one that fails)
        state, reason = "failing", f"{type(error).__name__}: {error}"
    cost_s, took_s = time.thread_time() - before, time.monotonic() - began
    return Taken(collector.name, collector.metrics, time_ns, cost_s, took_s, reading, state, reason)


def print_json(samples: Sequence[Taken]) -> None:
    """Print each sample as one line."""
    for taken in samples:
        shown: dict[str, Any] = {
            "collector": taken.name,
            "time": taken.time_ns,
            "state": taken.state,
            "reason": taken.reason,
            "cost_ms": round(1000 * taken.cost_s, 3),
            "took_ms": round(1000 * taken.took_s, 3),
        }
        if taken.reading is not None:
            shown |= {
                "values": dict(taken.reading.values),
                "problems": list(taken.reading.problems),
                "events": [event._asdict() for event in taken.reading.events],
                "runs": [
                    {"uid": uid, "stream": stream.hex(), "values": dict(values)}
                    for (uid, stream), values in taken.reading.runs.items()
                ],
                "inventory": taken.reading.inventory,
            }
        print(json.dumps(shown, ensure_ascii=False, default=str))
    sys.stdout.flush()


def print_table(samples: Sequence[Taken]) -> None:
    """Print values with unit and meaning below a line on each collector."""
    console = Console(highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_COLUMNS)
    for taken in samples:
        console.print(
            f"[bold]{taken.name}[/bold]  {taken.state}  "
            f"{1000 * taken.cost_s:.2f} ms of processor time, {1000 * taken.took_s:.2f} ms in all"
        )
        if taken.reason:
            console.print(Text(f"  {printable(taken.reason)}"))
        if taken.reading is None:
            continue
        console.print(_values(taken.metrics, taken.reading))
        for event in taken.reading.events:
            console.print(Text(printable(f"  {event.level}: {event.title}: {event.text}")))


def _values(metrics: Iterable[Metric], reading: Reading) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(style="dim")
    declared = [(metric_pattern(metric), metric) for metric in metrics]
    for name, value in reading.values.items():
        metric = next((metric for pattern, metric in declared if pattern.fullmatch(name)), None)
        unit, meaning = (metric.unit, metric.meaning) if metric is not None else ("", "")
        table.add_row(Text(printable(name)), _number(value), unit, meaning)
    for (uid, stream), values in reading.runs.items():
        for name, value in values.items():
            table.add_row(Text(printable(f"{uid} {stream.hex()[:8]} {name}")), _number(value), "", "")
    return table


def metric_pattern(metric: Metric) -> re.Pattern[str]:
    """Return what the names of a metric look like: # stands for a device."""
    return re.compile(re.escape(metric.name).replace(r"\#", ".+"))


def _number(value: float) -> str:
    """Return a number that people can read: 1,234,567 or 12.35."""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.4g}"
