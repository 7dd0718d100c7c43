"""A database of the first schema with data of every kind in it, as an SQL dump, and what it reads as.

    python -m tests.golden.database.generate

writes the files when they are missing. Code of today cannot write the first schema once it has moved
on, so the files are kept as they are for ever.
"""

from __future__ import annotations

import gzip
import json
import random
import sqlite3
import tempfile
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from tests.support.stores import Committer, add_principal, open_in
from tests.support.streams import StreamBytes
from tracker.protocol import bodies, kinds
from tracker_server.ingest.commit import GapEntry
from tracker_server.store.store import Store

#: Fields by class that the first schema knew nothing of.
LATER = {"Run": {"cause"}, "Stream": {"ending", "machine", "stop", "gpus", "parent", "role"}}
DUMP = Path(__file__).with_name("first.sql.gz")


def fill(store: Store) -> None:
    """Put something into every table of the first schema that ingest writes."""
    alice = Committer(store, add_principal(store))
    agent = Committer(store, add_principal(store, "agent", kind="service"), uid=0)
    run = StreamBytes(b"r" * 16, run="golden", fields={"name": "Golden", "tags": ["old"]})
    rng = random.Random(1)
    for _ in range(300):
        run.log({"loss": rng.random(), "nan": float("nan")} | ({"val": 0.5} if rng.random() < 0.1 else {}))
    run.config({"lr": 0.1})
    run.summary({"best": 1})
    run.print("hello", "wörld")
    alice.send(run)
    store.fold_all(store.runs.find(alice.principal.entity_id, "golden").points_id)
    run.log({"loss": 0.25}, step=1000)
    run.add(kinds.VALUE, bodies.Value(1, 4, "note", "text", "hello").encode())
    run.add(kinds.LOST, bodies.Lost(5, 17, "disk full").encode())
    run.add(kinds.METRICS, b"\xc1")
    alice.send(run)
    alice.commit(GapEntry(1000, "u", run.stream, run.end, 10, "torn"))
    own = StreamBytes(b"h" * 16, run=None)
    own.sample({"cpu": (2.0, 1.0, 3.0, 2.5, 15)})
    own.add(kinds.HOST, bodies.Host(1, {"cpus": 8}).encode())
    own.observed(run, "gone")
    own.observed(StreamBytes(b"u" * 16), "live")
    agent.send(own)


def observe(store: Store) -> Any:
    """Return what the store answers about that data, as JSON values."""
    detail = store.runs.detail(store.runs.find(1, "golden"))
    points_id = detail.run.points_id
    cursor, series = store.points.series(points_id, ["loss", "nan", "val"], buckets=20)
    host = store.hosts.get(1, "m" * 32)
    return {
        "epoch": store.epoch,
        "run": _as_at_first(detail),
        "metrics": [repr(each) for each in store.points.metrics(points_id)],
        "cursor": cursor,
        "series": {name: repr(_plain(each)) for name, each in series.items()},
        "points": {
            name: repr(_plain(each)) for name, each in store.points.points(points_id, ["val"]).points.items()
        },
        "console": repr(store.console.read(detail.run.id)),
        "values": repr(store.runs.values(detail.run)),
        "host": repr(host),
        "samples": {name: repr(_plain(each)) for name, each in store.hosts.series(host, ["cpu"])[1].items()},
    }


def _as_at_first(value: Any) -> str:
    """Return the repr of a value, without fields that came later."""
    if isinstance(value, list):
        return "[" + ", ".join(_as_at_first(each) for each in value) + "]"
    if not is_dataclass(value):
        return repr(value)
    kind = type(value).__name__
    shown = [each.name for each in fields(value) if each.name not in LATER.get(kind, ())]
    return kind + "(" + ", ".join(f"{name}={_as_at_first(getattr(value, name))}" for name in shown) + ")"


def _plain(columns: Any) -> dict[str, list[Any]]:
    return {name: column.tolist() for name, column in vars(columns).items()}


def main() -> None:
    """Write the files when they are missing: possible while only run_grants is newer than the first."""
    if DUMP.exists():
        return
    with tempfile.TemporaryDirectory() as directory:
        store = open_in(Path(directory))
        fill(store)
        observed = observe(store)
        store.close()
        connection = sqlite3.connect(Path(directory) / "tracker.db")
        connection.executescript("DROP TABLE run_grants; UPDATE alembic_version SET version_num = '0001';")
        lines = [line for line in connection.iterdump() if "sqlite_sequence" not in line]
        connection.close()
    DUMP.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    DUMP.with_name("first.json").write_text(json.dumps(observed, indent=1) + "\n")


if __name__ == "__main__":
    main()
