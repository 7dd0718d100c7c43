"""What is kept of a run: files, config, description; in its directory on this machine, else on its server."""

import os
import urllib.parse
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional

from . import _loading
from ._copying import UNFINISHED_PREFIX, copy_file
from ._errors import CommError
from ._remote import NotThereError, Remote, find_remote

TREES = ("files", "media")


class RunPath(NamedTuple):
    """Which run is meant. "" where that is left open."""

    entity: str
    project: str
    run: str


class KeptRun:
    """What both places have."""

    #: For messages.
    where = ""

    def files(self) -> List[str]:
        """Return the paths of the files, such as files/model.bin."""
        raise NotImplementedError

    def fetch(self, path: str, target: str) -> None:
        """Copy a file to a path whose directory exists. Raise NotThereError or another CommError."""
        raise NotImplementedError

    def description(self) -> Dict[str, Any]:
        """Return {"fields": what RUN records say, "config": …}."""
        raise NotImplementedError


class LocalRun(KeptRun):
    """A run directory on this machine."""

    def __init__(self, directory: str) -> None:
        self.directory = self.where = directory

    def files(self) -> List[str]:
        found = []
        for tree in TREES:
            for directory, below, names in os.walk(os.path.join(self.directory, tree)):
                below[:] = sorted(each for each in below if not each.startswith(UNFINISHED_PREFIX))
                for name in sorted(names):
                    if not name.startswith(UNFINISHED_PREFIX):
                        path = os.path.relpath(os.path.join(directory, name), self.directory)
                        found.append(path.replace(os.sep, "/"))
        return found

    def fetch(self, path: str, target: str) -> None:
        source = os.path.join(self.directory, *path.split("/"))
        if not os.path.isfile(source):
            raise NotThereError("there is no %s in %s" % (path, self.directory))
        try:
            copy_file(source, target)
        except OSError as error:
            raise CommError("%s cannot be copied: %s" % (source, error.strerror or error), error) from error

    def description(self) -> Dict[str, Any]:
        with _loading.lock:
            from ._commands.record_flow import RunFlow

        found: Dict[str, Any] = {"fields": {}, "config": {}}
        for entry in RunFlow(self.directory).entries():
            if entry.kind == "RUN":
                found["fields"].update(entry.fields["fields"])
            elif entry.kind == "CONFIG":
                found["config"].update(entry.fields["set"])
                for name in entry.fields["removed"]:
                    found["config"].pop(name, None)
        return found


class RemoteRun(KeptRun):
    """A run on a server."""

    def __init__(self, remote: Remote, path: RunPath) -> None:
        self._remote = remote
        self.base = "/api/v1/runs/" + "/".join(urllib.parse.quote(part, safe="") for part in path)
        self._digests: Optional[Dict[str, str]] = None
        self.where = "%s (%s)" % ("/".join(path), remote.server)

    def files(self) -> List[str]:
        return sorted(self._listed())

    def fetch(self, path: str, target: str) -> None:
        digest = self._listed().get(path)
        if digest is None:
            raise NotThereError("there is no %s in %s" % (path, self.where))
        self._remote.download(self.base + "/file", target, digest, path=path)

    def description(self) -> Dict[str, Any]:
        detail = self._remote.get(self.base)
        fields = dict(detail["fields"])
        fields.update((name, detail[name]) for name in ("entity", "project", "name"))
        return {"fields": fields, "config": detail["config"]}

    def _listed(self) -> Dict[str, str]:
        if self._digests is None:
            newest: Dict[str, Any] = {}
            for each in self._remote.pages(self.base + "/files", "files", limit=1000):
                former = newest.get(each["path"])
                if former is None or former["updated"] <= each["updated"]:
                    newest[each["path"]] = each
            self._digests = {path: each["sha256"] for path, each in newest.items()}
        return self._digests


def parse_run_path(text: str) -> RunPath:
    """Return what entity/project/run, project/run or run means. Raise CommError."""
    parts = [part for part in text.strip().split("/") if part]
    if not 1 <= len(parts) <= 3:
        raise CommError("%r is not a run: give its id, project/id or entity/project/id" % text)
    return RunPath(*([""] * (3 - len(parts)) + parts))


def kept_runs(path: RunPath, settings: Any, environ: Mapping[str, str]) -> Iterator[KeptRun]:
    """Yield the places that have a run, nearest first. The server is asked when it is its turn: CommError."""
    for directory in local_directories(path, settings, environ):
        yield LocalRun(directory)
    yield remote_run(path, find_remote(settings, environ))


def local_directories(path: RunPath, settings: Any, environ: Mapping[str, str]) -> List[str]:
    """Return the directories of a run on this machine."""
    with _loading.lock:
        from ._commands.found import directories_of_run, read_run
        from ._spool import candidate_roots

    found = []
    for root, _ in candidate_roots(settings.dir, settings.dir_variable, environ):
        for directory in directories_of_run(root, path.run):
            run = read_run(directory)
            if run is not None and path.project in ("", run.project) and directory not in found:
                found.append(directory)
    return found


def remote_run(path: RunPath, remote: Remote) -> RemoteRun:
    """Return a run on a server; what its path leaves open is asked for."""
    if not path.entity:
        found = remote.get("/api/v1/find", run=path.run, project=path.project or None)
        path = RunPath(found["entity"], found["project"], path.run)
    return RemoteRun(remote, path)


def settings_of(run: Any) -> Any:
    """Return the settings of a run, of this process's environment where there is none."""
    settings = getattr(run, "settings", None)
    if settings is None:
        with _loading.lock:
            from ._wishes import Wishes

        settings = Wishes({}, {}, False).settings
    return settings
