"""The helper's task that records what code runs, and where: git, packages, the program, its command line.

Written as fields of RUN records (docs/record-format.md) and as files: requirements.txt, diff.patch,
untracked.txt, code/. In the helper process, since git may take long and a package listing reads hundreds of
files.
"""

import os
import socket
from typing import Any, Callable, Dict, List, Mapping, Optional

from . import _copying
from ._git import Git, GitError
from ._git_files import Repository, find_repository, head_of, remote_of
from ._helper_stream import lose, record
from ._matching import is_ignored
from ._packages import list_packages
from ._recorder import Recorder
from ._secrets import without_secrets
from .protocol.bodies import Run
from .protocol.kinds import RUN

PROGRAM_BYTES_MAX = 1024 * 1024
#: Which job and which process of it this is, as schedulers and launchers say. No other variable is recorded.
LAUNCHER_VARIABLES = (
    "SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_JOB_PARTITION", "SLURM_JOB_ACCOUNT", "SLURM_JOB_NODELIST",
    "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_STEP_ID", "SLURM_CLUSTER_NAME", "SLURM_RESTART_COUNT",
    "SLURM_NNODES", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID",
    "PBS_JOBID", "LSB_JOBID", "JOB_ID", "FLUX_JOB_ID", "RAY_JOB_ID",
    "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "RANK", "WORLD_SIZE", "LOCAL_RANK",
    "LOCAL_WORLD_SIZE", "GROUP_RANK", "NODE_RANK", "MASTER_ADDR", "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE",
    "POD_NAME", "POD_NAMESPACE", "NODE_NAME", "JOB_COMPLETION_INDEX",
)  # fmt: skip
_VALUE_CHARACTERS_MAX = 1024
_NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"


def run(spec: Dict[str, Any], recorder: Recorder, stop: Any) -> None:  # noqa: ARG001 - a task's entry
    """Record the code's state. Once for a run: the first of several ranks does it."""
    if recorder.place.rank:
        return
    process = spec["process"]
    keeper = Keeper(recorder, spec["ignore_globs"], spec["report"])
    directory = process["directory"]  # "" where it was removed
    repository = find_repository(directory) if directory and not spec["disable_git"] else None
    code: Dict[str, Any] = {}
    if repository is not None:
        commit, branch = head_of(repository)
        code = {"commit": commit, "branch": branch, "remote": remote_of(repository)}
        code["directory"] = os.path.relpath(directory, repository.root)
    _describe(recorder, dict({"code": code} if code else {}, origin=origin_of(process, os.environ)))
    lines = list_packages(process["path"])
    keeper.keep("requirements.txt", ("".join(line + "\n" for line in lines)).encode("utf-8", "replace"))
    program = _keep_program(keeper, process, repository)
    if program:
        code["program"] = program
    if repository is not None:
        code.update(_uncommitted(keeper, Git(repository, os.environ, spec["ignore_globs"]), code["commit"]))
    if code:
        _describe(recorder, {"code": code})


def origin_of(process: Mapping[str, Any], environ: Mapping[str, str]) -> Dict[str, Any]:
    """Return where a run comes from: machine, user, command."""
    found: Dict[str, Any] = {
        "host": socket.gethostname(),
        "user": _user_name(),
        "pid": process["pid"],
        "command": without_secrets(process["arguments"]),
        "program": process["program"],
        "directory": process["directory"],
        "executable": process["executable"],
        "python": process["python"],
        "implementation": process["implementation"],
        "platform": _platform(),
    }
    launcher = {
        name: environ[name][:_VALUE_CHARACTERS_MAX] for name in LAUNCHER_VARIABLES if environ.get(name)
    }
    if "KUBERNETES_SERVICE_HOST" in environ:
        # A pod's host name is its own name, unless somebody gave it another.
        launcher.setdefault("POD_NAME", socket.gethostname())
        launcher.setdefault("POD_NAMESPACE", _first_line_of(_NAMESPACE_FILE))
    if launcher:
        found["launcher"] = launcher
    return {name: value for name, value in found.items() if value not in ("", None)}


class Keeper:
    """Writes files below files/ of the run, whole or not at all, and counts those that it cannot."""

    def __init__(self, recorder: Recorder, ignored: List[str], report: Callable[[str], None]) -> None:
        self._recorder = recorder
        self._root = os.path.join(recorder.place.directory, "files")
        self._ignored = ignored
        self._report = report

    def keep(self, name: str, data: bytes) -> bool:
        """Write a file; return whether it is there."""
        return self._try(name, lambda target: _copying.write_file(target, data))

    def copy(self, name: str, source: str) -> bool:
        """Copy a file; return whether it is there."""
        return self._try(name, lambda target: _copying.copy_file(source, target))

    def _try(self, name: str, make: Callable[[str], Any]) -> bool:
        if is_ignored(name, self._ignored):
            return False
        directory, _, last = name.rpartition("/")
        try:
            make(os.path.join(_copying.ensure_directory(self._root, directory), last))
        except (OSError, ValueError) as error:
            reason = "files/%s was not kept: %s" % (name, getattr(error, "strerror", None) or error)
            lose(self._recorder, reason)
            self._report(reason)
            return False
        return True


def _describe(recorder: Recorder, fields: Dict[str, Any]) -> None:
    record(recorder, RUN, lambda time: Run(time, fields).encode())


def _keep_program(keeper: Keeper, process: Mapping[str, Any], repository: Optional[Repository]) -> str:
    """Keep the source of the program that was started; return its name in the repository."""
    program = process["program"]
    signature = _copying.signature_of(program) if program else None
    if signature is None or signature.size > PROGRAM_BYTES_MAX:
        return ""
    above = repository.root if repository is not None else process["directory"]
    name = os.path.relpath(program, above or "/").replace(os.sep, "/")
    if name.startswith("../"):
        name = os.path.basename(program)
    keeper.copy("code/" + name, program)
    return name


def _uncommitted(keeper: Keeper, git: Git, commit: str) -> Dict[str, Any]:
    """Keep what is not committed, and return what the RUN record says of it."""
    found: Dict[str, Any] = {}
    try:
        if not commit:
            found["commit"] = git.commit()
        state = git.state()
    except (GitError, OSError) as error:
        return dict(found, problem=str(error))
    found["dirty"] = state.dirty
    if state.patch and keeper.keep("diff.patch", state.patch):
        found["patch"] = "files/diff.patch"
    if state.untracked:
        found["untracked"] = len(state.untracked)
        text = "".join(name + "\n" for name in state.untracked)
        keeper.keep("untracked.txt", text.encode("utf-8", "surrogateescape"))
    if state.left_out:
        found["left_out"] = state.left_out[:100]
    if state.problem:
        found["problem"] = state.problem
    return found


def _platform() -> str:
    # The module platform starts programs to find out more.
    return "%s-%s-%s" % (os.uname().sysname, os.uname().release, os.uname().machine)


def _user_name() -> str:
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError, OSError):  # a container may have no entry for the number it runs under
        return str(os.getuid()) if hasattr(os, "getuid") else ""


def _first_line_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline(_VALUE_CHARACTERS_MAX).strip()
    except OSError:
        return ""
