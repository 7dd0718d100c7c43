"""Store: everything the server keeps, behind one object. open_store() is the way to get one.

All methods are synchronous and may be called from any thread. One thread at a time writes;
readers use connections of their own and never wait for it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

# class Store:
#     url: str
#     epoch: str                       random hex, made with the database
#     runs: RunStore                   store/runs.py
#         .list(entity_id, *, project=None, state=None, q=None, sort="-created", limit=50, cursor=None) -> RunPage
#         .projects(entity_id) -> list[Project]
#         .find(entity_id, run, project=None) -> Run            raises NotFound
#         .get(entity_id, project, run) -> Run                  raises NotFound
#         .detail(run: Run) -> RunDetail
#         .stream_ids(run: Run) -> list[str]                    hex, by ordinal
#         .values(run: Run, *, name=None, limit=1000) -> list[Value]
#         .grant(run: Run, principal_id, uid, granted_by, now)
#     points: PointStore               store/points.py; use run.points_id / host.points_id
#     console: ConsoleStore            .read(run_id, after=0, limit=1000) -> ConsolePage
#     hosts: HostStore                 .list(entity_id), .get(entity_id, machine), .metrics(host),
#                                      .series(host, names, start=, end=, buckets=), .touch(...)
#     blobs: BlobDirectory             .has(project_id, sha256), .put(project_id, sha256, chunks)
#     offsets(principal, [(uid, stream id)]) -> list[Offset]
#     write() / read()                 context managers yielding a Connection (store/ only)
#     fold_due() -> int                one round of background folding; call it off the request path
#     close()
#
# def open_store(url: str, blobs: Path | None = None) -> Store    creates and migrates; SchemaTooNew, StoreUnavailable, StoreDamaged

__all__ = ["Connection", "Engine", "Iterator", "contextmanager"]
