"""What the files of a git repository say without asking git: where it is, its commit, branch and remote."""

import os
import re
import stat
from typing import Dict, NamedTuple, Optional, Tuple

from ._secrets import without_secrets_in

_UPWARDS_MAX = 100
_TEXT_BYTES_MAX = 1024 * 1024
_HEX = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")


class Repository(NamedTuple):
    """Where the code is kept."""

    root: str  #: top of the working tree
    directory: str  #: .git
    common: str  #: where refs and configuration are


def find_repository(directory: str) -> Optional[Repository]:
    """Return the repository that a directory is in, None where it is in none."""
    path = os.path.abspath(directory)
    for _ in range(_UPWARDS_MAX):
        inside = os.path.join(path, ".git")
        if os.path.isdir(inside) or os.path.isfile(inside):
            found = inside if os.path.isdir(inside) else _linked(path, inside)
            if found and os.path.isfile(os.path.join(found, "HEAD")):
                common = _read(os.path.join(found, "commondir")).strip()
                return Repository(path, found, os.path.normpath(os.path.join(found, common or ".")))
        parent = os.path.dirname(path)
        if parent == path:
            return None
        path = parent
    return None


def head_of(repository: Repository) -> Tuple[str, str]:
    """Return (commit, branch) as the files of a repository say; "" for what there is not."""
    head = _read(os.path.join(repository.directory, "HEAD")).strip()
    if not head.startswith("ref:"):
        return (head if _HEX.match(head) else ""), ""
    name = head[4:].strip()
    branch = name[len("refs/heads/") :] if name.startswith("refs/heads/") else ""
    if ".." in name.split("/") or not name.startswith("refs/"):
        return "", ""
    for directory in (repository.directory, repository.common):
        commit = _read(os.path.join(directory, *name.split("/"))).strip()
        if _HEX.match(commit):
            return commit, branch
    for line in _read(os.path.join(repository.common, "packed-refs")).splitlines():
        commit, _, packed = line.partition(" ")
        if packed == name and _HEX.match(commit):
            return commit, branch
    return "", branch


def remote_of(repository: Repository) -> str:
    """Return the address of origin, or of the first remote, without user name, password and the like."""
    urls: Dict[str, str] = {}
    section = ""
    for line in _read(os.path.join(repository.common, "config")).splitlines():
        line = line.strip()
        header = re.match(r'\[remote "(.*)"\]', line)
        if line.startswith("["):
            section = header.group(1) if header else ""
        elif section and line.startswith("url"):
            name, _, value = line.partition("=")
            if name.strip() == "url":
                urls.setdefault(section, value.strip().strip('"'))
    url = urls.get("origin") or next(iter(urls.values()), "")
    return without_secrets_in(url)[:2048]


def _linked(path: str, file: str) -> str:
    """Return the directory that a file .git names, as worktrees and submodules have it."""
    text = _read(file).strip()
    return os.path.normpath(os.path.join(path, text[7:].strip())) if text.startswith("gitdir:") else ""


def _read(path: str) -> str:
    """Return the text of a regular file, "" where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except (OSError, ValueError):
        return ""
    with open(fd, "rb") as file:
        try:
            data = file.read(_TEXT_BYTES_MAX) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
            return data.decode("utf-8", "surrogateescape")
        except OSError:
            return ""
