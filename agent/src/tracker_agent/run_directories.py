"""Finds the run directories that someone means by a path: one run, one user's runs, or a whole spool.

For `sync`: the path may lie on a disk that was carried over from another machine. Whose the records are is
told by who owns each run directory, as always.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from tracker.protocol.layout import parse_segment_name, parse_user_directory

from .opening import Place


class NoRuns(Exception):
    """There is nothing to ship. str() says what was looked for, and where."""


def find_runs(path: str) -> list[Place]:
    """Return the run directories in or at a path. Raise NoRuns, also for a path that cannot be read."""
    path = os.path.realpath(path)
    try:
        runs = list(_find(path))
    except OSError as error:
        raise NoRuns(f"{error.filename or path}: {error.strerror}") from error
    if not runs:
        raise NoRuns(
            f"{path} holds no run: name a run directory (with .mpl files), a directory of runs, or a spool"
        )
    return runs


def _find(path: str) -> Iterator[Place]:
    if _is_run(path):
        yield _place(path)
        return
    for name in sorted(os.listdir(path)):
        below = os.path.join(path, name)
        if not os.path.isdir(below) or os.path.islink(below):
            continue
        if _is_run(below):
            yield _place(below)
        elif parse_user_directory(name) is not None:
            yield from (_place(run) for run in _directories(below) if _is_run(run))


def _directories(path: str) -> list[str]:
    with os.scandir(path) as listing:
        return sorted(item.path for item in listing if item.is_dir(follow_symlinks=False))


def _is_run(path: str) -> bool:
    with os.scandir(path) as listing:
        return any(parse_segment_name(item.name) is not None for item in listing)


def _place(path: str) -> Place:
    parent, name = os.path.split(path)
    return Place(parent, "", name, os.stat(path, follow_symlinks=False).st_uid)
