"""`tracker restore RUN`: brings back what is kept of a run: commit, patch, config and files.

From the run's directory on this machine, else from its server. What comes back goes into a directory of its
own; neither the working tree nor the branch one stands in is touched.
"""

import json
import os
import re
import subprocess
from typing import Any, Dict, List, Optional

from ._commands.found import NotFound, find_run
from ._commands.printing import complain, parser, printable, say
from ._copying import ensure_directory, write_file
from ._errors import CommError, Error
from ._git_files import find_repository
from ._kept import KeptRun, LocalRun, kept_runs, parse_run_path, settings_of

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_TIMEOUT_S = 600.0
PATCH = "files/diff.patch"


class Restored:
    """What was brought back, and what was not, and why."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.files = 0
        self.source = ""
        self.problems: List[str] = []


def main(argv: List[str]) -> int:
    """Bring back a run; return the exit status."""
    arguments = parser(
        "restore",
        "Bring back what is kept of a run: its files, its config, and its code as it was, that is the commit "
        "with what was not committed. Everything goes into a new directory.",
        "    tracker restore k2v9x0p1ab\n"
        "    tracker restore vision/k2v9x0p1ab --into before-the-fix\n\n"
        "DIR/files and DIR/media are the run's files, DIR/config.json its config,\n"
        "DIR/run.json its description, DIR/source its code.\n"
        "Exit codes: 0: all is there, 1: something is missing, and what, 2: wrong arguments.",
    )
    arguments.add_argument(
        "run", metavar="RUN", help="its directory, id or name, project/id or entity/project/id"
    )
    arguments.add_argument("--into", metavar="DIR", help="a directory that does not exist yet; default: RUN")
    arguments.add_argument(
        "--repository", metavar="DIR", default=".", help="a clone that has the commit; default: this one"
    )
    arguments.add_argument("--no-code", action="store_true", help="leave out the code")
    arguments.add_argument("--server", metavar="URL", help="the server to ask")
    options = arguments.parse_args(argv)
    settings = settings_of(None)
    if options.server:
        settings.server = options.server.rstrip("/")
    try:
        kept = find_kept(options.run, settings)
        target = os.path.abspath(options.into or os.path.basename(options.run.rstrip("/")))
        restored = restore_run(kept, target, None if options.no_code else options.repository)
    except (Error, OSError) as error:
        complain("tracker restore: %s" % error)
        return 1
    say("%s: %d files" % (printable(os.path.relpath(target)), restored.files))
    if restored.source:
        say("%s: the code" % printable(os.path.relpath(restored.source)))
    for problem in restored.problems:
        complain("tracker restore: %s" % problem)
    return 1 if restored.problems else 0


def find_kept(text: str, settings: Any) -> KeptRun:
    """Return where a run is kept, this machine first. Raise Error."""
    try:
        return LocalRun(find_run(text, os.environ))
    except NotFound as error:
        if os.path.isdir(text) or text.startswith((".", "/", "~")):
            raise Error(str(error)) from error
    path = parse_run_path(text)
    try:
        return next(kept_runs(path, settings, os.environ))
    except CommError as error:
        raise Error("there is no run %s on this machine; %s" % (text, error)) from error


def restore_run(kept: KeptRun, target: str, repository: Optional[str] = ".") -> Restored:
    """Bring a run into a directory, which must not exist yet. Raise Error or OSError when nothing can be.

    repository: a directory in a clone that may have the commit; None: leave the code out.
    """
    if os.path.lexists(target):
        raise Error("%s is there already; give another directory by --into" % target)
    description = kept.description()
    os.makedirs(target)
    restored = Restored(target)
    for path in kept.files():
        try:
            directory, _, name = _checked(path).rpartition("/")
            kept.fetch(path, os.path.join(ensure_directory(target, directory), name))
            restored.files += 1
        except (Error, OSError, ValueError) as error:  # noqa: PERF203 - the others are wanted all the same
            restored.problems.append("%s: %s" % (path, error))
    for name, value in (("config.json", description["config"]), ("run.json", description["fields"])):
        text = json.dumps(value, indent=1, sort_keys=True, default=str) + "\n"
        write_file(os.path.join(target, name), text.encode("utf-8", "surrogatepass"))
    code = description["fields"].get("code")
    if repository is not None and isinstance(code, dict):
        _bring_code(restored, code, repository)
    return restored


def _bring_code(restored: Restored, code: Dict[str, Any], repository: str) -> None:
    """Make a working tree of the run's commit, with its patch."""
    commit = str(code.get("commit", ""))
    if not _COMMIT.match(commit):
        restored.problems.append("no commit is known of its code")
        return
    patch = os.path.join(restored.directory, *PATCH.split("/"))
    source = os.path.join(restored.directory, "source")
    found = find_repository(repository)
    if found is None or _git(found.root, "cat-file", "-e", commit + "^{commit}"):
        restored.problems.append(
            "the commit %s is not in the repository at %s. Where it is to be had: "
            "git clone %s source && git -C source checkout --detach %s%s"
            % (
                commit,
                os.path.abspath(repository),
                code.get("remote") or "REPOSITORY",
                commit,
                " && git -C source apply --binary " + patch if os.path.exists(patch) else "",
            )
        )
        return
    problem = _git(
        found.root, "-c", "core.hooksPath=/dev/null", "worktree", "add", "--detach", source, commit
    )
    if not problem and os.path.exists(patch):
        problem = _git(source, "apply", "--binary", "--whitespace=nowarn", patch)
    if problem:
        restored.problems.append("the code: %s" % problem)
    else:
        restored.source = source
    if code.get("left_out") or code.get("problem"):
        restored.problems.append(
            "not everything that was changed is in the patch: %s"
            % (code.get("problem") or ", ".join(map(str, code["left_out"])))
        )


def _git(directory: str, *command: str) -> str:
    """Run git in a directory; return what is wrong, "" where nothing is."""
    try:
        done = subprocess.run(
            ["git"] + list(command),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    if not done.returncode:
        return ""
    return done.stderr.decode("utf-8", "replace").strip() or "git ended with status %d" % done.returncode


def _checked(path: str) -> str:
    """Return a path of a run's file. Raise ValueError for another: a server may say anything."""
    parts = path.split("/")
    if parts[0] not in ("files", "media") or len(parts) < 2 or {"", ".", ".."} & set(parts) or "\0" in path:
        raise ValueError("is no path of a run's file")
    return path
