"""Artifact: files and references under a name, a type and a version, with what its maker says about them.

Files are copied (by reflink where possible) when they are added: scripts delete or overwrite them right
after. What goes wrong while one is put together is said on the terminal and counted in `lost`.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import weakref
from typing import Any, Dict, Iterator, List, Optional
from urllib.parse import unquote, urlparse

from . import _loading, _session
from ._artifact_contents import MANIFEST, Contents, Entry, digest_of
from ._copying import UNFINISHED_PREFIX, copy_file, ensure_directory, write_file
from ._errors import Error
from ._names import random_id
from ._values import to_plain


class Artifact(Contents):
    """A version of something that runs make and use: a data set, a model."""

    def __init__(
        self,
        name: str,
        type: str = "unspecified",  # noqa: A002 - the name that scripts use
        description: Optional[str] = None,
        metadata: Any = None,
        incremental: bool = False,
        use_as: Optional[str] = None,
        storage_region: Optional[str] = None,  # noqa: ARG002 - known from scripts, without meaning here
    ) -> None:
        super().__init__(str(name), str(type))
        if self._name != name:
            self._warn("the name %r is recorded as %r: letters, digits, . _ -" % (name, self._name))
        self.description = description
        self.metadata = dict(metadata or {})
        self.incremental = incremental
        self.use_as = use_as
        self.ttl: Any = None
        #: What could not be added.
        self.lost = 0

    # Putting one together

    def add_file(
        self,
        local_path: Any,
        name: Optional[str] = None,
        is_tmp: Optional[bool] = False,  # noqa: ARG002 - no name of ours is made from the content
        skip_cache: Optional[bool] = False,  # noqa: ARG002 - there is no cache
        policy: Optional[str] = "mutable",  # noqa: ARG002 - it is copied always
        overwrite: bool = False,  # noqa: ARG002 - a file added again replaces the former
    ) -> Optional[Entry]:
        """Add a copy of a file, under its own name by default."""
        try:
            source = os.fsdecode(local_path)
            path = self._checked(name or os.path.basename(source))
            target = self._place(path)
            copy_file(source, target)
            return self._enter(path, target)
        except (OSError, ValueError, TypeError) as error:
            self._lose("add_file(%r)" % (local_path,), error)
            return None

    def add_dir(
        self,
        local_path: Any,
        name: Optional[str] = None,
        skip_cache: Optional[bool] = False,  # noqa: ARG002
        policy: Optional[str] = "mutable",
        merge: bool = False,  # noqa: ARG002 - files of one name replace each other
    ) -> None:
        """Add copies of all files below a directory, under their paths in it, with `name` before."""
        root = os.fsdecode(local_path)
        if not os.path.isdir(root):
            self._lose("add_dir(%r)" % (local_path,), ValueError("it is not a directory"))
            return
        for directory, below, names in os.walk(root):
            below.sort()
            for each in sorted(names):
                source = os.path.join(directory, each)
                path = os.path.relpath(source, root).replace(os.sep, "/")
                self.add_file(source, "%s/%s" % (name.rstrip("/"), path) if name else path, policy=policy)

    @contextlib.contextmanager
    def new_file(self, name: str, mode: str = "x", encoding: Optional[str] = None) -> Iterator[Any]:
        """Give an open file, and add it under a name when it is closed."""
        fd, path = tempfile.mkstemp(prefix=UNFINISHED_PREFIX, dir=self._staging_directory())
        os.close(fd)
        try:
            with open(path, mode.replace("x", "w"), encoding=encoding) as file:
                yield file
            self.add_file(path, name)
        finally:
            os.unlink(path)

    def add_reference(
        self,
        uri: Any,
        name: Optional[str] = None,
        checksum: bool = True,
        max_objects: Optional[int] = None,  # noqa: ARG002
    ) -> List[Entry]:
        """Add an address. Of a file:// address the content is digested, unless checksum=False."""
        address = uri.ref_url() if isinstance(uri, Entry) else str(uri)
        parsed = urlparse(address)
        path = name or os.path.basename(parsed.path.rstrip("/")) or parsed.netloc
        try:
            path = self._checked(path)
            digest, size = hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest(), 0
            if parsed.scheme == "file" and checksum:
                local = unquote(parsed.path)
                digest, size = digest_of(local), os.path.getsize(local)
        except (OSError, ValueError) as error:
            self._lose("add_reference(%r)" % address, error)
            return []
        self._entries[path] = Entry(self, path, digest, size, address)
        return [self._entries[path]]

    def add(self, obj: Any, name: str, overwrite: bool = False) -> Optional[Entry]:  # noqa: ARG002
        """Add a rich value: what log() would record of it, as NAME.TYPE.json, and the files it names."""
        with _loading.lock:
            from . import _rich

        staging = self._staging_directory()
        try:
            data = _rich.to_summary(obj, staging, name)
            if data is None:
                raise TypeError("%s is no rich value" % type(obj).__name__)
            for directory, _, names in os.walk(os.path.join(staging, "media")):
                for each in names:
                    source = os.path.join(directory, each)
                    self.add_file(source, os.path.relpath(source, staging).replace(os.sep, "/"))
            shutil.rmtree(os.path.join(staging, "media"), ignore_errors=True)
            path = self._checked("%s.%s.json" % (name, data["_type"]))
            target = self._place(path)
            write_file(target, json.dumps(data).encode("utf-8", "surrogatepass"))
            return self._enter(path, target)
        except Exception as error:  # noqa: BLE001 - a rich value is foreign code
            self._lose("add(%r)" % name, error)
            return None

    def remove(self, item: Any) -> None:
        """Take out a file, or all files below a path."""
        path = item.path if isinstance(item, Entry) else str(item)
        for each in [each for each in self._entries if each == path or each.startswith(path + "/")]:
            del self._entries[each]

    def finalize(self) -> None:
        """Do nothing: nothing has to be said before it is logged."""

    def save(self, project: Optional[str] = None, settings: Any = None) -> None:  # noqa: ARG002
        """Log it in the current run."""
        run = _session.current()
        if run is None:
            self._warn("save() before init(): it is not kept; call tracker.init() first")
        else:
            run.log_artifact(self)

    def link(self, target_path: str, aliases: Optional[List[str]] = None) -> None:
        """Note that it belongs to a collection (see Run.link_artifact)."""
        run = _session.current()
        if run is not None:
            run.link_artifact(self, target_path, aliases)

    def wait(self, timeout: Optional[float] = None) -> "Artifact":  # noqa: ARG002
        """Return this artifact: what is logged is kept already."""
        return self

    def is_draft(self) -> bool:
        """Return whether it is not logged yet."""
        return not self._version

    # For _artifacts.py

    def document(self) -> Dict[str, Any]:
        """Return the contents of its manifest.json."""
        entries = {}
        for path, entry in sorted(self._entries.items()):
            entries[path] = {"sha256": entry.digest, "size": entry.size}
            if entry.ref is not None:
                entries[path]["ref"] = entry.ref
        return {
            "name": self._name,
            "type": self.type,
            "description": self.description,
            "metadata": to_plain(self.metadata),
            "aliases": self.aliases,
            "tags": self.tags,
            "links": self.links,
            "digest": self.digest,
            "entries": entries,
        }

    def staged(self) -> Optional[str]:
        """Return the directory with copies of its files, None where it holds only references."""
        return os.path.join(self._staging, "files") if self._staging is not None else None

    def settle(self, version: str, kept: Any, base: str) -> None:
        """Note where it is kept from now on."""
        self._version, self._kept, self._base = version, kept, base
        staging, self._staging = self._staging, None
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)

    @classmethod
    def from_document(cls, document: Dict[str, Any], version: str, kept: Any, base: str) -> "Artifact":
        """Return one that is kept. Raise Error for a document that makes no sense."""
        try:
            found = cls(
                str(document["name"]), str(document["type"]), document["description"], document["metadata"]
            )
            found.aliases, found.tags = list(document["aliases"]), list(document["tags"])
            for path, each in document["entries"].items():
                found._entries[found._checked(path)] = Entry(
                    found, path, str(each["sha256"]), int(each["size"]), each.get("ref")
                )
            found.created_at = document.get("created")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Error("%s%s is no manifest of an artifact" % (base, MANIFEST)) from error
        found.settle(version, kept, base)
        return found

    def _checked(self, path: str) -> str:
        path = str(path).replace(os.sep, "/")
        if not path or path.startswith("/") or "\0" in path or ".." in path.split("/"):
            raise ValueError("%r is no path within an artifact" % path)
        return os.path.normpath(path).replace(os.sep, "/")

    def _place(self, path: str) -> str:
        directory, _, name = path.rpartition("/")
        return os.path.join(
            ensure_directory(os.path.join(self._staging_directory(), "files"), directory), name
        )

    def _enter(self, path: str, file: str) -> Entry:
        self._entries[path] = Entry(self, path, digest_of(file), os.path.getsize(file))
        return self._entries[path]

    def _staging_directory(self) -> str:
        """Return a directory for copies: in the run, from where they need only be renamed."""
        if self._staging is None:
            run = _session.current()
            root = run.directory if run is not None and not run.disabled else None
            if root is not None and os.path.isdir(root):
                self._staging = os.path.join(root, UNFINISHED_PREFIX + random_id())
                os.mkdir(self._staging, 0o770)
            else:
                self._staging = tempfile.mkdtemp(prefix="tracker-")
            weakref.finalize(self, _remove_tree, self._staging, os.getpid())
        return self._staging

    def _lose(self, what: str, error: Exception) -> None:
        self.lost += 1
        self._warn("%s: %s" % (what, getattr(error, "strerror", None) or error))

    def _warn(self, text: str) -> None:
        _session.terminal().warn("artifact", "artifact %s: %s" % (self._name, text))


def _remove_tree(path: str, pid: int) -> None:
    if os.getpid() == pid:  # a fork's copy of an artifact is not the one that owns the files
        shutil.rmtree(path, ignore_errors=True)
