"""Which files a pattern of save() means, under which names they are kept, and which it may not name.

Decides by paths alone; used by the training and, for what appears later, by the helper process.
"""

import fnmatch
import glob
import os
import stat
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

#: One call keeps no more: the agent ships so many files of a run.
FILES_MAX = 10000
DEPTH_MAX = 15
#: Problems told of one call.
_PROBLEMS_MAX = 5
_ELSEWHERE = ("gs://", "s3://", "http://", "https://")


class Pattern(NamedTuple):
    """A pattern, checked: absolute, and below base."""

    base: str
    path: str
    is_glob: bool


class Matches(NamedTuple):
    """Files as (absolute path, name below files/), and what was refused."""

    files: List[Tuple[str, str]]
    problems: List[str]


def parse_pattern(text: str, base_path: Optional[str], is_glob: bool, directory: str) -> Pattern:
    """Return what a pattern means in a directory. Raise ValueError, with a message for the user."""
    if text.startswith(_ELSEWHERE):
        raise ValueError("%s is an address; only files of this machine can be kept" % text)
    if "\0" in text:
        raise ValueError("a path holds no NUL")
    text = os.path.expanduser(text)
    if base_path is not None:
        base = os.path.join(directory, os.path.expanduser(base_path))
    elif os.path.isabs(text):
        # Without base_path the name of an absolute path is its last part, or what begins with the wildcard.
        base = os.path.dirname(text.rstrip("/"))
        while is_glob and glob.has_magic(base) and not os.path.exists(base):
            base = os.path.dirname(base)
    else:
        base = directory
    base = os.path.normpath(base)
    path = os.path.normpath(os.path.join(directory, text))
    if _is_outside(os.path.relpath(path, base)):  # from base_path, where it does not lead there by itself
        path = os.path.normpath(os.path.join(base, text))
    if _is_outside(os.path.relpath(path, base)):
        raise ValueError("%s leads out of %s: give a base_path that holds it" % (text, base))
    return Pattern(base, path, is_glob)


def find_files(pattern: Pattern, ignored: Sequence[str] = ()) -> Matches:
    """Return the files that a pattern means now. Directories stand for all that is in them."""
    files: List[Tuple[str, str]] = []
    problems: List[str] = []
    seen = set()
    for path, anchor in _paths(pattern):
        # "/" in names on every system.
        name = os.path.relpath(path, pattern.base).replace(os.sep, "/")
        if path in seen or is_ignored(name, ignored):
            continue
        seen.add(path)
        problem = _refusal(path, anchor)
        if problem:
            problems.append("%s %s" % (path, problem))
        elif len(files) >= FILES_MAX:
            problems.append("more than %d files; the rest is left out" % FILES_MAX)
            break
        else:
            files.append((path, name))
    left = len(problems) - _PROBLEMS_MAX
    return Matches(files, problems[:_PROBLEMS_MAX] + (["and %d more" % left] if left > 0 else []))


def is_ignored(name: str, ignored: Sequence[str]) -> bool:
    """Return whether TRACKER_IGNORE_GLOBS names a file: by its whole name, its last part or a directory."""
    parts = name.split("/")
    return any(
        fnmatch.fnmatchcase(candidate, each)
        for each in ignored
        for candidate in [name, "files/" + name] + parts
    )


def _paths(pattern: Pattern) -> Iterator[Tuple[str, str]]:
    """Yield (path, directory that it must really be in; "" for a file that was named as it is)."""
    anchor = os.path.realpath(pattern.base)
    if not pattern.is_glob or os.path.lexists(pattern.path) or not glob.has_magic(pattern.path):
        found = [pattern.path]
        anchor = os.path.realpath(pattern.path)
    else:
        below = os.path.relpath(pattern.path, pattern.base)
        found = sorted(glob.glob(os.path.join(glob.escape(pattern.base), below), recursive=True))
    for path in found:
        if not os.path.isdir(path):
            yield path, "" if path == pattern.path else anchor
            continue
        for directory, directories, names in os.walk(path):
            directories.sort()
            if directory.count(os.sep) - path.count(os.sep) >= DEPTH_MAX:
                directories[:] = []
            for name in sorted(names):
                yield os.path.join(directory, name), anchor


def _refusal(path: str, anchor: str) -> str:
    """Return why a file is not kept, "" where it is."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        return "cannot be read: %s" % (getattr(error, "strerror", None) or error)
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    # Who names a link means what it leads to. A wildcard or a directory does not mean files elsewhere.
    if anchor and _is_outside(os.path.relpath(os.path.realpath(path), anchor)):
        return "is a link that leads out of %s; name it, to keep what it leads to" % anchor
    return ""


def _is_outside(relative: str) -> bool:
    return relative == ".." or relative.startswith(".." + os.sep) or os.path.isabs(relative)
