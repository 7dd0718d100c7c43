"""Runs and artifacts: log_artifact(), use_artifact() and what goes with them.

A version lies in the run's directory as files/artifacts/NAME/VERSION/ with VERSION.json beside it, so the
agent ships it like everything there. Versions are counted by the run that makes them: v0, v1, …; the same
content is the same version. One is found by name in this run, in others of this machine, on the server.
"""

import errno
import json
import os
import shutil
import tempfile
import time
from typing import Any, Callable, Iterator, List, Optional, Tuple

from . import _loading
from ._artifact import Artifact
from ._artifact_contents import MANIFEST, clean_name
from ._copying import UNFINISHED_PREFIX, copy_file, ensure_directory, write_file
from ._errors import CommError, Error, UsageError
from ._names import random_id
from .protocol.bodies import Value
from .protocol.kinds import VALUE

__all__ = ["Artifact"]

#: Below files/ of a run.
ROOT = "files/artifacts"
VERSIONS_MAX = 100000
#: Runs of a project that are searched on the server, newest first.
RUNS_SEARCHED_MAX = 50
_MANIFEST_BYTES_MAX = 64 * 1024 * 1024
_SOURCES = (".py", ".ipynb")


def log_artifact(
    run: Any,
    artifact_or_path: Any,
    name: Optional[str] = None,
    type: Optional[str] = None,  # noqa: A002 - the name that scripts use
    aliases: Optional[List[str]] = None,
    tags: Optional[List[str]] = None,
) -> Artifact:
    """Keep a version of an artifact with the run (see Run.log_artifact)."""
    artifact = _as_artifact(run, artifact_or_path, name, type)
    artifact.aliases = _merged(artifact.aliases, aliases)
    artifact.tags = _merged(artifact.tags, tags)
    _keep(run, artifact)
    _record(run, artifact, "output")
    return artifact


def use_artifact(
    run: Any,
    artifact_or_name: Any,
    type: Optional[str] = None,  # noqa: A002
    aliases: Optional[List[str]] = None,
    use_as: Optional[str] = None,
) -> Artifact:
    """Return an artifact and note that the run uses it (see Run.use_artifact). Raise Error."""
    if isinstance(artifact_or_name, Artifact):
        artifact = artifact_or_name
        if artifact.is_draft():
            artifact.aliases = _merged(artifact.aliases, aliases)
            _keep(run, artifact)
    else:
        artifact = find_artifact(run, str(artifact_or_name))
    if type is not None and artifact.type != type:
        raise UsageError("the artifact %s has the type %s, not %s" % (artifact.name, artifact.type, type))
    artifact.use_as = use_as or artifact.use_as
    _record(run, artifact, "input")
    return artifact


def upsert_artifact(
    run: Any,
    artifact_or_path: Any,
    name: Optional[str] = None,
    type: Optional[str] = None,  # noqa: A002
    aliases: Optional[List[str]] = None,
    distributed_id: Optional[str] = None,
) -> Artifact:
    """Add to a version that several processes of this run make together; finish_artifact() ends it."""
    artifact = _as_artifact(run, artifact_or_path, name, type)
    artifact.aliases = _merged(artifact.aliases, aliases)
    shared = _shared_directory(run, artifact, distributed_id)
    staged = artifact.staged()
    for entry in artifact.files():
        if entry.ref is None and staged is not None:
            directory, _, last = entry.path.rpartition("/")
            copy_file(
                os.path.join(staged, *entry.path.split("/")),
                os.path.join(ensure_directory(shared, directory), last),
            )
    return artifact


def finish_artifact(
    run: Any,
    artifact_or_path: Any,
    name: Optional[str] = None,
    type: Optional[str] = None,  # noqa: A002
    aliases: Optional[List[str]] = None,
    distributed_id: Optional[str] = None,
) -> Artifact:
    """Make what upsert_artifact() gathered, and what comes now, a version."""
    artifact = _as_artifact(run, artifact_or_path, name, type)
    shared = _shared_directory(run, artifact, distributed_id)
    artifact.add_dir(shared)
    logged = log_artifact(run, artifact, aliases=aliases)
    shutil.rmtree(shared, ignore_errors=True)
    return logged


def link_artifact(
    run: Any, artifact: Artifact, target_path: str, aliases: Optional[List[str]] = None
) -> Artifact:
    """Note that an artifact belongs to a collection, such as a model registry's."""
    if artifact.is_draft():
        log_artifact(run, artifact)
    artifact.links = _merged(artifact.links, [str(target_path)])
    _record(run, artifact, "link", target=str(target_path), aliases=list(aliases or []))
    return artifact


def log_model(
    run: Any, path: Any, name: Optional[str] = None, aliases: Optional[List[str]] = None
) -> Artifact:
    """Keep a model (see Run.log_model)."""
    return log_artifact(run, path, name, "model", aliases)


def use_model(run: Any, name: str) -> str:
    """Return the path of a model's file, or of its directory where it has several. Raise Error."""
    artifact = use_artifact(run, name)
    if "model" not in artifact.type.lower():
        raise UsageError("%s is no model: it has the type %s" % (artifact.name, artifact.type))
    return artifact.file() if artifact.file_count == 1 else artifact.download()


def link_model(
    run: Any,
    path: Any,
    registered_model_name: str,
    name: Optional[str] = None,
    aliases: Optional[List[str]] = None,
) -> Artifact:
    """Keep a model and note that it belongs to a registered one (see Run.link_model)."""
    return link_artifact(run, log_model(run, path, name, aliases), registered_model_name, aliases)


def log_code(
    run: Any,
    root: Optional[str] = ".",
    name: Optional[str] = None,
    include_fn: Optional[Callable[..., bool]] = None,
    exclude_fn: Optional[Callable[..., bool]] = None,
) -> Optional[Artifact]:
    """Keep the source files below a directory (see Run.log_code); None where there are none."""
    top = os.path.abspath(root or ".")
    artifact = Artifact(name or "source-%s" % run.project, "code")
    own = os.path.realpath(run.directory)
    for directory, below, names in os.walk(top):
        below[:] = sorted(
            each
            for each in below
            if not each.startswith(".") and os.path.realpath(os.path.join(directory, each)) != own
        )
        for each in sorted(names):
            path = os.path.join(directory, each)
            if include_fn is None:
                wanted = each.endswith(_SOURCES)
            else:
                wanted = _ask(include_fn, path, top)
            if wanted and not (exclude_fn is not None and _ask(exclude_fn, path, top)):
                artifact.add_file(path, os.path.relpath(path, top))
    return log_artifact(run, artifact) if artifact.file_count else None


def find_artifact(run: Any, name: str) -> Artifact:
    """Return an artifact by [[ENTITY/]PROJECT/]NAME[:VERSION or alias]. Raise Error."""
    where, _, rest = name.rpartition("/")
    base, _, version = rest.partition(":")
    wanted = version or "latest"
    problem = ""
    try:
        for kept in _places(run, where):
            found = _versions_in(kept, clean_name(base))
            for each in sorted(found, key=lambda pair: pair[0], reverse=True):
                if wanted in (each[1].version, "latest") or wanted in each[1].aliases:
                    return each[1]
                if len(wanted) >= 8 and each[1].digest.startswith(wanted):
                    return each[1]
    except CommError as error:
        problem = "; the server: %s" % error
    raise CommError("there is no artifact %s in this run, or in others known here%s" % (name, problem))


def _places(run: Any, where: str) -> Iterator[Any]:
    """Yield the runs that may have an artifact: this one, those of the project here, those on the server."""
    with _loading.lock:
        from ._commands.found import runs_of_user
        from ._kept import LocalRun, RemoteRun, RunPath, settings_of
        from ._remote import find_remote

    project = where.rpartition("/")[2] or run.project
    if project == run.project:
        yield LocalRun(run.directory)
    listed = [each for each in runs_of_user(os.environ) if each.project == project]
    for each in sorted(listed, key=lambda each: each.started, reverse=True):
        if os.path.realpath(each.directory) != os.path.realpath(run.directory):
            yield LocalRun(each.directory)
    remote = find_remote(settings_of(run), os.environ)
    page = remote.get("/api/v1/runs", project=project, sort="-created", limit=RUNS_SEARCHED_MAX)
    for row in page["runs"]:
        yield RemoteRun(remote, RunPath(row["entity"], row["project"], row["run"]))


def _versions_in(kept: Any, name: str) -> List[Tuple[str, Artifact]]:
    """Return (when it was made, artifact) of all versions of a name in a run."""
    found = []
    prefix = "%s/%s/" % (ROOT, name)
    for path in kept.files():
        last = path[len(prefix) :] if path.startswith(prefix) else ""
        if last.endswith(MANIFEST) and "/" not in last:
            artifact = _read(kept, path[: -len(MANIFEST)])
            found.append((artifact.created_at or "", artifact))
    return found


def _read(kept: Any, base: str) -> Artifact:
    """Return the artifact whose manifest is kept below a path. Raise Error."""
    with tempfile.TemporaryDirectory() as directory:
        copy = os.path.join(directory, "copy")
        kept.fetch(base + MANIFEST, copy)
        try:
            with open(copy, "rb") as file:
                document = json.loads(file.read(_MANIFEST_BYTES_MAX).decode("utf-8", "replace"))
        except ValueError as error:
            raise Error("%s%s is no JSON" % (base, MANIFEST)) from error
    return Artifact.from_document(document, base.rpartition("/")[2], kept, base)


def _as_artifact(run: Any, given: Any, name: Optional[str], type: Optional[str]) -> Artifact:  # noqa: A002
    if isinstance(given, Artifact):
        return given
    path = os.fsdecode(given)
    if not os.path.exists(path):
        raise UsageError("there is no file %s" % path)
    last = os.path.basename(os.path.abspath(path))
    artifact = Artifact(name or "run-%s-%s" % (run.id, last), type or "unspecified")
    if os.path.isdir(path):
        artifact.add_dir(path)
    else:
        artifact.add_file(path)
    return artifact


def _keep(run: Any, artifact: Artifact) -> None:
    """Make what is staged a version in the run's directory. Raise OSError."""
    with _loading.lock:
        from ._kept import LocalRun

    if not artifact.is_draft():
        return  # kept before, here or elsewhere
    kept = LocalRun(run.directory)
    base = "%s/%s/" % (ROOT, artifact.collection)
    for _, same in _versions_in(kept, artifact.collection):
        if same.digest == artifact.digest:
            artifact.aliases = _merged(same.aliases, artifact.aliases)
            _write_manifest(run, artifact, base + same.version)
            artifact.settle(same.version, kept, base + same.version)
            return
    above = ensure_directory(run.directory, base)
    fresh = os.path.join(above, UNFINISHED_PREFIX + random_id())
    staged = artifact.staged()
    try:
        if staged is None:
            os.mkdir(fresh, 0o770)
        else:
            _bring(staged, fresh)
            _forget_removed(fresh, artifact)
        version = _take_number(above, fresh)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    # With its manifest it is there: last, and at one go.
    _write_manifest(run, artifact, base + version)
    artifact.settle(version, kept, base + version)


def _write_manifest(run: Any, artifact: Artifact, base: str) -> None:
    now = time.time()
    artifact.created_at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + ".%06dZ" % (now % 1 * 1e6)
    document = artifact.document()
    document["created"] = artifact.created_at
    document["run"] = {"id": run.id, "project": run.project, "name": run.name}
    data = json.dumps(document, indent=1).encode("utf-8", "surrogatepass")
    write_file(os.path.join(run.directory, *(base + MANIFEST).split("/")), data)


def _bring(staged: str, fresh: str) -> None:
    try:
        os.rename(staged, fresh)
    except OSError:  # another file system: it was made before there was a run
        for directory, _, names in os.walk(staged):
            below = ensure_directory(fresh, os.path.relpath(directory, staged).replace(os.sep, "/"))
            for name in names:
                copy_file(os.path.join(directory, name), os.path.join(below, name))


def _forget_removed(directory: str, artifact: Artifact) -> None:
    kept = {entry.path for entry in artifact.files() if entry.ref is None}
    for above, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(above, name)
            if os.path.relpath(path, directory).replace(os.sep, "/") not in kept:
                os.unlink(path)


def _take_number(above: str, fresh: str) -> str:
    """Rename a directory to the next version that nobody has taken."""
    taken = [int(name[1:]) for name in os.listdir(above) if name[:1] == "v" and name[1:].isdigit()]
    for number in range(max(taken, default=-1) + 1, VERSIONS_MAX):
        version = "v%d" % number
        if os.path.lexists(os.path.join(above, version)):
            continue  # another rank was faster
        try:
            os.rename(fresh, os.path.join(above, version))
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            continue
        return version
    raise Error("%s has %d versions" % (above, VERSIONS_MAX))


def _shared_directory(run: Any, artifact: Artifact, distributed_id: Optional[str]) -> str:
    name = UNFINISHED_PREFIX + "shared-" + clean_name(distributed_id or run.group or run.id)
    return ensure_directory(run.directory, "%s/%s/%s" % (ROOT, artifact.collection, name))


def _record(run: Any, artifact: Artifact, role: str, **more: Any) -> None:
    """Record that the run made, used or linked an artifact."""
    data = dict(
        {
            "role": role,
            "artifact": artifact.collection,
            "version": artifact.version,
            "type": artifact.type,
            "digest": artifact.digest,
            "aliases": artifact.aliases,
            "size": artifact.size,
            "files": artifact.file_count,
        },
        **more,
    )
    name = "artifact/" + artifact.collection
    run.record(
        VALUE, lambda recorder: Value(recorder.time(), run.step, name, "artifact", data).encode(), "artifact"
    )


def _ask(function: Callable[..., bool], path: str, root: str) -> bool:
    try:
        return bool(function(path, root))
    except TypeError:  # of the older kind, that takes the path alone
        return bool(function(path))


def _merged(some: List[str], more: Any) -> List[str]:
    given = [more] if isinstance(more, str) else list(more or [])
    return list(dict.fromkeys([str(each) for each in list(some) + given]))
