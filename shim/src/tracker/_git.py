"""What git knows of the code that runs: commit, branch, remote, what is not committed.

A repository can be anybody's, and git runs programs that its configuration names: file system monitors,
hooks, filters, drivers for diffs, transports. None of these may run here, so nothing is asked without
taking them away; and where git is missing, or refuses, the commit is read from the files that hold it.
Everything has a limit.
"""

import os
import re
import signal
import stat
import subprocess
import threading
import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ._git_files import Repository
from ._matching import is_ignored
from ._secrets import without_secrets_in

#: All that git is asked for one run takes no longer.
TIMEOUT_S = 60.0
#: A larger patch is not kept, nor is a larger file part of one.
PATCH_BYTES_MAX = 16 * 1024 * 1024
FILE_BYTES_MAX = 4 * 1024 * 1024
UNTRACKED_MAX = 2000
SUBMODULES_MAX = 50
_OUTPUT_BYTES_MAX = 16 * 1024 * 1024
#: Files that a command line may leave out; with more the patch is not kept.
_EXCLUDED_MAX = 500
_CHANGES_MAX = 20000
_TEXT_BYTES_MAX = 1024 * 1024

#: Of the environment's GIT_… these alone are passed on: others name programs, files to write, repositories.
_KEPT_VARIABLES = frozenset(
    "GIT_CONFIG_GLOBAL GIT_CONFIG_SYSTEM GIT_CONFIG_NOSYSTEM GIT_CEILING_DIRECTORIES GIT_EXEC_PATH".split()  # noqa: SIM905
)
_OPTIONS = (
    "--no-pager",
    "-c", "core.fsmonitor=false",
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.untrackedCache=false",
    "-c", "core.bigFileThreshold=%d" % FILE_BYTES_MAX,
    "-c", "diff.relative=false",
    "-c", "core.safecrlf=false",
    "-c", "protocol.allow=never",
)  # fmt: skip
_DIFF = (
    "diff",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-renames",
    # Looking into a submodule would start a git there, with the submodule's configuration.
    "--ignore-submodules=dirty",
    "--submodule=short",
)


class GitError(Exception):
    """Something cannot be found out; str() says why."""


class State(NamedTuple):
    """What is not committed."""

    dirty: bool
    patch: bytes  #: b"" where there is none to keep
    left_out: List[str]  #: changed files that the patch leaves out, for their size
    untracked: List[str]
    problem: str


class Git:
    """Asks git about one repository, within a time for all questions together."""

    def __init__(
        self,
        repository: Repository,
        environ: Mapping[str, str],
        ignored: Sequence[str] = (),
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._root = repository.root
        self._ignored = ignored
        self._deadline = time.monotonic() + timeout_s
        self._program = _find_program("git", environ.get("PATH", os.defpath))
        self._environ = {
            name: value
            for name, value in environ.items()
            if not name.startswith("GIT_") or name in _KEPT_VARIABLES
        }
        self._environ.update(
            GIT_OPTIONAL_LOCKS="0",
            GIT_TERMINAL_PROMPT="0",
            GIT_ALLOW_PROTOCOL="none",
            GIT_NO_LAZY_FETCH="1",
            GIT_ASKPASS="",
            LC_ALL="C",
        )
        self._without_filters: List[str] = []

    def commit(self) -> str:
        """Return the commit that is checked out, for repositories whose files do not tell. Raise GitError."""
        if not self._program:
            raise GitError("there is no program git")
        return _text(self._run(self._root, [], ("rev-parse", "--verify", "HEAD"), _TEXT_BYTES_MAX)).strip()

    def state(self) -> State:
        """Return what is not committed. Raise GitError."""
        if not self._program:
            raise GitError("there is no program git")
        self._without_filters = self._filters_off()
        patch, left_out, problem, dirty = self._patch(self._root, "")
        room = PATCH_BYTES_MAX - len(patch)
        for path in self._submodules():
            inside = os.path.join(self._root, *path.split("/"))
            if not os.path.lexists(os.path.join(inside, ".git")):
                continue  # it was never fetched
            try:
                more, out, trouble, changed = self._patch(inside, path + "/")
            except GitError as error:
                problem = problem or "submodule %s: %s" % (path, error)
                continue
            dirty = dirty or changed
            left_out += out
            problem = problem or trouble
            if len(more) <= room:
                patch += more
                room -= len(more)
            else:
                problem = problem or "the patch has more than %d bytes" % PATCH_BYTES_MAX
        untracked = self._listed("ls-files", "--others", "--exclude-standard", "-z")
        return State(dirty, patch, left_out, untracked[:UNTRACKED_MAX], problem)

    def _patch(self, directory: str, prefix: str) -> Tuple[bytes, List[str], str, bool]:
        """Return a working tree's patch, what it leaves out, what is wrong with it, whether it is dirty."""
        filters = self._filters_off(directory) if prefix else self._without_filters
        top = self._run(directory, filters, ("rev-parse", "--show-toplevel"), _TEXT_BYTES_MAX)
        if os.path.realpath(_text(top).rstrip("\n")) != os.path.realpath(directory):
            raise GitError("its configuration puts the working tree elsewhere")
        raw = self._run(
            directory, filters, _DIFF + ("--raw", "-z", "--no-abbrev", "HEAD", "--"), _OUTPUT_BYTES_MAX
        )
        changes = _parse_raw(raw)
        if not changes:
            return b"", [], "", False
        if len(changes) > _CHANGES_MAX:
            return b"", [], "%d files are changed" % len(changes), True
        sizes = self._blob_sizes(directory, filters, [old for _, old in changes])
        left_out = [
            path
            for path, old in changes
            if max(sizes.get(old, 0), _size(os.path.join(directory, path))) > FILE_BYTES_MAX
            or is_ignored(prefix + path, self._ignored)
        ]
        if len(left_out) > _EXCLUDED_MAX:
            return b"", left_out[:_EXCLUDED_MAX], "%d changed files are too large" % len(left_out), True
        kept = [path for path, _ in changes if path not in set(left_out)]
        named = [prefix + path for path in left_out]
        if not kept:
            return b"", named, "", True
        command: Tuple[str, ...] = _DIFF + (
            "--binary", "--unified=3", "--src-prefix=a/" + prefix, "--dst-prefix=b/" + prefix, "HEAD", "--"
        )  # fmt: skip
        excluded = [":(top,exclude,literal)" + path for path in left_out]
        command += tuple([":(top)"] + excluded if excluded else [])
        try:
            patch = self._run(directory, filters, command, PATCH_BYTES_MAX)
        except GitError as error:
            return b"", named, str(error), True
        return patch, named, "", True

    def _submodules(self) -> List[str]:
        listed = self._listed("ls-files", "--stage", "-z")
        found = [line.partition("\t")[2] for line in listed if line.startswith("160000 ")]
        return found[:SUBMODULES_MAX]

    def _blob_sizes(self, directory: str, filters: List[str], blobs: List[str]) -> Dict[str, int]:
        """Return the sizes of contents by their ids; those that are not there have none."""
        wanted = "".join(blob + "\n" for blob in blobs if blob.strip("0"))
        if not wanted:
            return {}
        command = ("cat-file", "--batch-check=%(objectname) %(objectsize)")
        answer = self._run(directory, filters, command, _OUTPUT_BYTES_MAX, wanted.encode())
        fields = [line.split() for line in answer.decode("ascii", "replace").splitlines()]
        return {each[0]: int(each[1]) for each in fields if len(each) == 2 and each[1].isdigit()}

    def _filters_off(self, directory: Optional[str] = None) -> List[str]:
        """Return options that take away all programs which git would put files through."""
        config = self._run(
            directory or self._root, [], ("config", "--name-only", "--list", "-z"), _TEXT_BYTES_MAX
        )
        names = set()
        for key in _text(config).split("\0"):
            match = re.match(r"filter\.(.*)\.[a-z]+\Z", key, re.DOTALL | re.IGNORECASE)
            if match:
                names.add(match.group(1))
        found = []
        for name in sorted(names):
            if "=" in name:  # cannot be set from here
                raise GitError("a filter has a name with = in it")
            for key in ("clean=", "smudge=", "process=", "required=false"):
                found += ["-c", "filter.%s.%s" % (name, key)]
        return found

    def _listed(self, *command: str) -> List[str]:
        data = self._run(self._root, self._without_filters, command, _OUTPUT_BYTES_MAX)
        return [each for each in _text(data).split("\0") if each]

    def _run(
        self, directory: str, options: List[str], command: Sequence[str], limit: int, given: bytes = b""
    ) -> bytes:
        """Return what git writes. Raise GitError when it fails, takes too long or writes too much."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise GitError("git takes longer than %g s" % TIMEOUT_S)
        argv = [self._program] + list(_OPTIONS) + options + list(command)
        process = subprocess.Popen(
            [_bytes(each) for each in argv],
            cwd=directory,
            env=self._environ,
            stdin=subprocess.PIPE if given else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        late = threading.Timer(left, _kill, (process.pid,))
        late.daemon = True
        late.start()
        try:
            return _outcome(process, given, limit)
        finally:
            late.cancel()
            _kill(process.pid)
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


def _outcome(process: "subprocess.Popen[bytes]", given: bytes, limit: int) -> bytes:
    said: List[bytes] = []
    threads = [threading.Thread(target=_drain, args=(process.stderr, said), daemon=True)]
    if given:
        threads.append(threading.Thread(target=_feed, args=(process.stdin, given), daemon=True))
    for thread in threads:
        thread.start()
    assert process.stdout is not None
    parts = []
    size = 0
    while True:
        part = process.stdout.read(64 * 1024)
        if not part:
            break
        size += len(part)
        if size > limit:
            raise GitError("git answers with more than %d bytes" % limit)
        parts.append(part)
    code = process.wait()
    for thread in threads:
        thread.join(1.0)
    if code == -signal.SIGKILL:
        raise GitError("git took longer than %g s" % TIMEOUT_S)
    if code:
        raise GitError(_complaint(b"".join(said)) or "git ended with status %d" % code)
    return b"".join(parts)


def _drain(pipe: Any, said: List[bytes]) -> None:
    try:
        said.append(pipe.read(4096))
        while pipe.read(64 * 1024):
            pass
    except (OSError, ValueError):  # closed under our hands
        pass


def _feed(pipe: Any, given: bytes) -> None:
    try:
        pipe.write(given)
        pipe.close()
    except (OSError, ValueError):  # it ended early; its status says so
        pass


def _kill(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass


def _complaint(said: bytes) -> str:
    """Return the line of git's messages that says what is wrong, "" where there is none."""
    lines = said.decode("utf-8", "replace").strip().splitlines()
    found = [line for line in lines if line.startswith("fatal:")] or lines or [""]
    return "".join(c if c.isprintable() else "?" for c in without_secrets_in(found[0]))[:300]


def _parse_raw(raw: bytes) -> List[Tuple[str, str]]:
    """Return (path, id of the committed content) of each changed file."""
    fields = _text(raw).split("\0")
    return [
        (path, about.split()[2]) for about, path in zip(fields[::2], fields[1::2]) if about.startswith(":")
    ]


def _find_program(name: str, path: str) -> str:
    """Return where a program is. Relative directories do not count: the code's own may hold anything."""
    for directory in path.split(os.pathsep):
        candidate = os.path.join(directory, name)
        if os.path.isabs(directory) and os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    return ""


def _size(path: str) -> int:
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    # Not os.fsencode(): in the C locale old Pythons cannot write what git calls a file.
    return text.encode("utf-8", "surrogateescape")
