"""A run's metrics as CSV: a row for each record of numbers, a column for each metric."""

import csv
from typing import Any, Dict, Iterator, List, Sequence, TextIO

from .record_flow import Entry, RunFlow


def write_csv(directory: str, output: TextIO) -> None:
    """Write step, time (seconds since 1970), stream where there are several, and all metrics by name.

    The directory is read twice, for the columns and for the rows: memory does not grow with the run. Of a
    record without a step, that is one more than the greatest of its stream so far.
    """
    names: Dict[str, None] = {}
    streams = set()
    for entry in _metrics(directory):
        streams.add(entry.stream)
        names.update(dict.fromkeys(entry.fields["values"]))
    several = len(streams) > 1
    rows = csv.writer(output, lineterminator="\n")
    columns = list(names)
    rows.writerow(
        ["step", "time"] + (["stream"] if several else []) + [_encodable(c, output) for c in columns]
    )
    greatest: Dict[bytes, int] = {}
    for entry in _metrics(directory):
        step = entry.fields["step"]
        before = greatest.get(entry.stream, -1)
        step = before + 1 if step is None else step
        greatest[entry.stream] = max(before, step)
        # What was written between the two passes may have new names; they are left out.
        rows.writerow(_row(entry, step, several, columns))


def _metrics(directory: str) -> Iterator[Entry]:
    return (entry for entry in RunFlow(directory, damage_wait_s=0.0).entries() if entry.kind == "METRICS")


def _row(entry: Entry, step: int, several: bool, columns: Sequence[str]) -> List[Any]:
    time = entry.time or 0
    values = entry.fields["values"]
    row: List[Any] = [step, "%d.%09d" % divmod(time, 10**9)]
    if several:
        row.append(entry.stream.hex())
    return row + [repr(values[name]) if name in values else "" for name in columns]


def _encodable(name: str, output: TextIO) -> str:
    encoding = getattr(output, "encoding", None) or "utf-8"
    return name.encode(encoding, "backslashreplace").decode(encoding)
