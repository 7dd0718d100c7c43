"""save() and restore(): files kept with a run, under files/ of its directory.

Whatever lies there is shipped by the agent; nothing here sends anything (docs/files.md).
"""

import os
from typing import Any, Dict, List, Optional, Sequence, Tuple

from . import _copying, _loading
from ._errors import CommError
from ._matching import Matches, Pattern, find_files, is_ignored, parse_pattern
from .protocol.bodies import Lost
from .protocol.kinds import LOST

POLICIES = ("live", "now", "end")
#: Files that travel with one message to the helper process.
_FILES_PER_MESSAGE = 32
DIRECTORY = "files"


def save(
    run: Any,
    glob_str: Any = None,
    base_path: Any = None,
    policy: str = "live",
    glob: bool = True,
    block: bool = False,
) -> List[str]:
    """Keep what a pattern means with the run; return the paths of the copies (see Run.save)."""
    if policy not in POLICIES:
        run.terminal.warn("save", "policy %r is none of %s; live is used" % (policy, ", ".join(POLICIES)))
        policy = "live"
    try:
        base = None if base_path is None else os.fsdecode(base_path)
        pattern = parse_pattern(os.fsdecode(glob_str), base, glob, os.getcwd())
    except (TypeError, ValueError) as error:
        run.terminal.warn("save", "save() keeps nothing: %s" % error)
        return []
    helped = run.helper is not None and run.helper.alive()
    matches = find_files(pattern, ignored_globs(run))
    if not (helped and policy != "now"):
        _warn_of_missing(run, pattern, matches)
    elif os.path.lexists(pattern.path) and matches.problems:
        # What is not there yet is looked for later, and missed at the end.
        _warn_of_missing(run, pattern, matches)
    if policy != "now" and not helped:
        run.terminal.warn(
            "save-policy", "no helper process runs beside this one: files are kept as they are now, once"
        )
        policy = "now"
    root = os.path.join(run.directory, DIRECTORY)
    files = [(source, name) for source, name in matches.files if not _lies_there(source, root, name)]
    copied: Dict[str, _copying.Signature] = {}
    if policy != "end" and (block or not helped):
        for source, name in files:
            signature = _copy_now(run, root, source, name)
            if signature is not None:
                copied[name] = signature
    elif policy == "now":
        _hand_over(run, root, files, "now", copied)
    if policy != "now":
        _hand_over(run, root, files, policy, copied)
        if pattern.path not in [source for source, _ in matches.files]:
            _watch_for_more(run, root, pattern, policy)
    return [os.path.join(root, *name.split("/")) for _, name in matches.files]


def _warn_of_missing(run: Any, pattern: Pattern, matches: Matches) -> None:
    if matches.problems:
        run.terminal.warn("save", "save() leaves out: %s" % "; ".join(matches.problems))
    elif not matches.files:
        run.terminal.warn("save", "save() keeps nothing: no file matches %s" % pattern.path)


def keep(run: Any, source: str, name: str) -> bool:
    """Copy one file to a name below files/ now; return whether that was done."""
    if is_ignored(name, ignored_globs(run)):
        return False
    return _copy_now(run, os.path.join(run.directory, DIRECTORY), source, name) is not None


def ignored_globs(run: Any) -> Sequence[str]:
    """Return the patterns of files that are never kept."""
    return getattr(getattr(run, "settings", None), "ignore_globs", None) or ()


def restore(
    run: Any,
    name: Any,
    run_path: Optional[str] = None,
    replace: bool = False,
    root: Optional[str] = None,
) -> Any:
    """Return an open file that was kept with a run, brought to root (see Run.restore)."""
    from . import _session

    terminal = run.terminal if run is not None else _session.terminal()
    wanted = os.fsdecode(name).replace(os.sep, "/")
    if _leads_out(wanted):
        terminal.warn("restore", "restore(%r): a name must not lead out of the run's files" % wanted)
        return None
    target = os.path.abspath(os.path.join(os.getcwd() if root is None else os.fsdecode(root), wanted))
    if os.path.exists(target) and not replace:
        return open(target, encoding="utf-8")
    try:
        _fetch(run, wanted, run_path, target)
    except (CommError, OSError) as error:
        terminal.warn("restore", "restore(%r): %s" % (wanted, error))
        return None
    return open(target, encoding="utf-8")


def _fetch(run: Any, name: str, run_path: Optional[str], target: str) -> None:
    """Bring a file from the nearest place that has it. Raise CommError."""
    with _loading.lock:
        from ._kept import LocalRun, kept_runs, parse_run_path, settings_of
        from ._remote import NotThereError

    if run_path is None and run is None:
        raise CommError("give run_path, or call init() first")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    names = [name] if name.startswith(("files/", "media/")) else ["files/" + name, name]
    if run_path is None:
        try:
            return LocalRun(run.directory).fetch(names[0], target)
        except NotThereError:
            pass
    path = parse_run_path(run.path if run_path is None else run_path)
    missing: Optional[CommError] = None
    for place in kept_runs(path, settings_of(run), os.environ):
        for each in names:
            try:
                return place.fetch(each, target)
            except NotThereError as error:  # noqa: PERF203 - the next place may have it
                missing = missing or error
    raise missing or CommError("there is no such run")


def _leads_out(name: str) -> bool:
    return not name or name.startswith("/") or os.path.isabs(name) or ".." in name.split("/") or "\0" in name


def _lies_there(source: str, root: str, name: str) -> bool:
    """Return whether a file is already where it would be copied to."""
    target = _copying.signature_of(os.path.join(root, *name.split("/")))
    return target is not None and target == _copying.signature_of(source)


def _copy_now(run: Any, root: str, source: str, name: str) -> Optional[_copying.Signature]:
    directory, _, last = name.rpartition("/")
    try:
        target = os.path.join(_copying.ensure_directory(root, directory), last)
        return _copying.copy_file(source, target)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        lose(run, "%s was not kept as files/%s: %s" % (source, name, reason))
        return None


def lose(run: Any, text: str) -> None:
    """Count something that could not be kept, in the run's records, and tell the user."""
    run.terminal.warn("save-lost", text)
    run.record(LOST, lambda recorder: Lost(recorder.time(), 1, text).encode(), "save")


def _hand_over(
    run: Any,
    root: str,
    files: List[Tuple[str, str]],
    policy: str,
    copied: Dict[str, _copying.Signature],
) -> None:
    """Have the helper copy files, but for those copied already, and watch them where the policy says so.

    The first of them it gets open, so that they may be deleted at once.
    """
    given: List[Any] = [[source, name, copied.get(name)] for source, name in files]
    for first in range(0, len(given), _FILES_PER_MESSAGE):
        part = given[first : first + _FILES_PER_MESSAGE]
        opened: List[int] = []
        if policy != "end" and first == 0 and not copied:
            for source, _, _ in part:
                found = _copying.try_open(source)
                if not found:
                    break  # they are told by their order
                opened += found
        try:
            message = {"files": part, "root": root, "policy": policy}
            if run.helper.send("copies", message, opened):
                continue
        finally:
            for fd in opened:
                os.close(fd)
        for each in part:  # it takes no more, or paths are very long
            if not run.helper.send("copies", dict(message, files=[each])) and not each[2]:
                _copy_now(run, root, each[0], each[1])


def _watch_for_more(run: Any, root: str, pattern: Pattern, policy: str) -> None:
    run.helper.send("copies", {"pattern": list(pattern), "root": root, "policy": policy})
