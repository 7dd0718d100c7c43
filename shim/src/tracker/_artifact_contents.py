"""What an artifact holds, and how it is read: names, entries, contents.

Reading one raises, since nobody can go on without what he asked for.
"""

import hashlib
import json
import os
import tempfile
from typing import Any, Dict, List, NamedTuple, Optional
from urllib.parse import unquote, urlparse

from ._copying import copy_file, ensure_directory
from ._errors import CommError, Error

NAME_CHARACTERS_MAX = 128
#: What the manifest of a version is called, behind the version.
MANIFEST = ".json"
_NAME = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_BLOCK_BYTES = 1024 * 1024


class Entry(NamedTuple):
    """One file of an artifact, or one reference."""

    artifact: "Contents"
    path: str  #: within the artifact
    digest: (
        str  #: SHA-256 of the content in hex; of the address, for a reference that is no file of this machine
    )
    size: int
    ref: Optional[str] = None  #: where the content is, when it is not here

    def download(self, root: Optional[str] = None, skip_cache: Optional[bool] = None) -> str:  # noqa: ARG002
        """Bring the file below root; return its path. Raise Error."""
        return self.artifact.fetch(self, root or self.artifact.default_root())

    def ref_target(self) -> str:
        """Return the address of a reference. Raise ValueError for a file."""
        if self.ref is None:
            raise ValueError("%s is no reference" % self.path)
        return self.ref

    def ref_url(self) -> str:
        """Return an address of this entry."""
        return self.ref or "%s/%s" % (self.artifact.qualified_name, self.path)

    @property
    def local_path(self) -> Optional[str]:
        """Where the content is on this machine, None where it is not."""
        return self.artifact.path_of(self)


class Manifest(NamedTuple):
    """What an artifact holds."""

    entries: Dict[str, Entry]


class Contents:
    """The part of Artifact that is read."""

    def __init__(self, name: str, type: str) -> None:  # noqa: A002 - the name that scripts use
        self._name = clean_name(name)
        self.type = type
        self.description: Optional[str] = None
        self.metadata: Dict[str, Any] = {}
        self.aliases: List[str] = []
        self.tags: List[str] = []
        self.links: List[str] = []
        self.created_at: Optional[str] = None
        self._version = ""
        self._entries: Dict[str, Entry] = {}
        #: Where copies of its files are before it is kept.
        self._staging: Optional[str] = None
        #: Where a logged or found one is kept, and under which path there (see _kept.py).
        self._kept: Any = None
        self._base = ""

    # What it is called

    @property
    def name(self) -> str:
        """The name, with the version once there is one."""
        return "%s:%s" % (self._name, self._version) if self._version else self._name

    @property
    def collection(self) -> str:
        """The name without a version."""
        return self._name

    @property
    def version(self) -> str:
        """The version in the run that made it, such as v0; "" before it is logged."""
        return self._version

    @property
    def source_version(self) -> str:
        """The version."""
        return self._version

    @property
    def source_name(self) -> str:
        """The name with the version."""
        return self.name

    @property
    def qualified_name(self) -> str:
        """The name with the run or project it was found in."""
        return "%s/%s" % (self._kept.where, self.name) if self._kept is not None else self.name

    @property
    def id(self) -> str:
        """A name that no other content has."""
        return self.digest

    @property
    def state(self) -> str:
        """COMMITTED once it is logged, PENDING before."""
        return "COMMITTED" if self._version else "PENDING"

    @property
    def digest(self) -> str:
        """SHA-256 over all paths and their digests."""
        whole = hashlib.sha256()
        for path in sorted(self._entries):
            text = "%s\0%s\n" % (path, self._entries[path].digest)
            whole.update(text.encode("utf-8", "surrogatepass"))
        return whole.hexdigest()

    @property
    def manifest(self) -> Manifest:
        """What it holds."""
        return Manifest(dict(self._entries))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self._entries.values())

    @property
    def file_count(self) -> int:
        """How many files and references it holds."""
        return len(self._entries)

    def __repr__(self) -> str:
        return "<tracker artifact %s (%s)>" % (self.name, self.type)

    # Reading one

    def get_entry(self, name: Any) -> Entry:
        """Return a file by its path. Raise KeyError where there is none."""
        path = str(name)
        if path not in self._entries:
            raise KeyError("the artifact %s holds no %s" % (self.name, path))
        return self._entries[path]

    get_path = get_entry

    def get(self, name: str) -> Any:
        """Return what add() kept under a name, as plain data; None where there is none."""
        for path in sorted(self._entries):
            if path.startswith(name + ".") and path.endswith(".json"):
                with tempfile.TemporaryDirectory() as root, open(
                    self.fetch(self._entries[path], root), encoding="utf-8"
                ) as file:
                    return json.load(file)
        return None

    def get_added_local_path_name(self, local_path: str) -> Optional[str]:
        """Return the path in the artifact of a file that is kept there; None where there is none."""
        name = os.path.basename(local_path)
        return name if name in self._entries else None

    def files(self, names: Optional[List[str]] = None, per_page: int = 50) -> List[Entry]:  # noqa: ARG002
        """Return the files, or those of these names."""
        return [self._entries[path] for path in sorted(self._entries) if names is None or path in names]

    def file(self, root: Optional[str] = None) -> str:
        """Bring the one file of this artifact below root; return its path. Raise Error for more files."""
        if len(self._entries) != 1:
            raise Error("%s holds %d files, not one; use download()" % (self.name, len(self._entries)))
        return next(iter(self._entries.values())).download(root)

    def download(
        self,
        root: Optional[str] = None,
        allow_missing_references: bool = False,
        skip_cache: Optional[bool] = None,  # noqa: ARG002
        path_prefix: Optional[str] = None,
        multipart: Optional[bool] = None,  # noqa: ARG002
    ) -> str:
        """Bring all files below a directory (./artifacts/NAME:VERSION); return that. Raise Error."""
        root = os.fsdecode(root) if root is not None else self.default_root()
        os.makedirs(root, exist_ok=True)
        for path in sorted(self._entries):
            entry = self._entries[path]
            if path_prefix and not path.startswith(path_prefix):
                continue
            if entry.ref is not None and not entry.ref.startswith("file://"):
                if not allow_missing_references:
                    raise Error("%s is at %s, which is not fetched from here" % (path, entry.ref))
                continue
            self.fetch(entry, root)
        return root

    def checkout(self, root: Optional[str] = None) -> str:
        """Do as download(), and remove from the directory what does not belong to it."""
        root = self.download(root)
        for directory, _, names in os.walk(root, topdown=False):
            for each in names:
                path = os.path.join(directory, each)
                if os.path.relpath(path, root).replace(os.sep, "/") not in self._entries:
                    os.unlink(path)
            if directory != root and not os.listdir(directory):
                os.rmdir(directory)
        return root

    def verify(self, root: Optional[str] = None) -> None:
        """Raise ValueError unless a directory holds these files with these contents."""
        root = root or self.default_root()
        for path, entry in self._entries.items():
            local = os.path.join(root, *path.split("/"))
            if entry.ref is None and (not os.path.isfile(local) or digest_of(local) != entry.digest):
                raise ValueError("%s is not what %s holds under this name" % (local, self.name))

    def default_root(self) -> str:
        """Return where download() puts it by default."""
        return os.path.join("artifacts", self.name)

    def fetch(self, entry: Entry, root: str) -> str:
        """Bring one file below a directory; return its path. Raise Error."""
        try:
            directory, _, name = entry.path.rpartition("/")
            os.makedirs(root, exist_ok=True)
            target = os.path.join(ensure_directory(os.path.abspath(root), directory), name)
            local = self.path_of(entry)
            if local is not None:
                copy_file(local, target)
            elif self._kept is not None and entry.ref is None:
                self._kept.fetch("%s/%s" % (self._base, entry.path), target)
            else:
                raise CommError("its content is not here")
        except OSError as error:
            raise Error("%s of %s: %s" % (entry.path, self.name, error.strerror or error)) from error
        return target

    def path_of(self, entry: Entry) -> Optional[str]:
        """Return where an entry's content is on this machine, None where it is not."""
        if entry.ref is not None:
            parsed = urlparse(entry.ref)
            return unquote(parsed.path) if parsed.scheme == "file" else None
        directory = getattr(self._kept, "directory", None)
        if directory is not None:
            return os.path.join(directory, *(self._base + "/" + entry.path).split("/"))
        if self._staging is not None:
            return os.path.join(self._staging, "files", *entry.path.split("/"))
        return None


def clean_name(name: str) -> str:
    """Return a name with what the name of an artifact may not hold replaced by "-"."""
    cleaned = "".join(c if c in _NAME else "-" for c in name)[:NAME_CHARACTERS_MAX]
    return cleaned if cleaned.strip(".") else "artifact"


def digest_of(path: str) -> str:
    """Return the SHA-256 of a file's content in hex. Raise OSError."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while True:
            block = file.read(_BLOCK_BYTES)
            if not block:
                return digest.hexdigest()
            digest.update(block)
