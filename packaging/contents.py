"""What a package is made of, as nfpm wants to be told: files with their owners, modes and times."""

import gzip
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Contents:
    """The files of one package. Texts made here lie in a scratch directory until nfpm has read them."""

    def __init__(self, scratch: Path, epoch: int) -> None:
        self.entries: list[dict[str, Any]] = []
        self._scratch = scratch
        self._time = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
        scratch.mkdir(parents=True)

    @property
    def time(self) -> str:
        """The one time that all files have."""
        return self._time

    def file(
        self, place: str, content: str | bytes | Path, mode: int = 0o644, kind: str = "", group: str = "root"
    ) -> None:
        """Add a file: what a path has, or a text or bytes."""
        source = content if isinstance(content, Path) else self.written(content)
        self._add(place, kind, mode, group, src=str(source))

    def compressed(self, place: str, content: str | Path) -> None:
        """Add a document as Debian wants it: compressed, and the same bytes each time."""
        data = content.read_bytes() if isinstance(content, Path) else content.encode()
        self.file(place + ".gz", gzip.compress(data, 9, mtime=0))

    def directory(self, place: str) -> None:
        """Add an empty directory."""
        self._add(place, "dir", 0o755, "root")

    def link(self, place: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(place, "symlink", 0o777, "root", src=target)

    def tree(self, place: str, source: Path) -> None:
        """Add a directory with all that is in it, as it is there."""
        self.entries.append({"src": str(source), "dst": place, "type": "tree"})

    def written(self, content: str | bytes) -> Path:
        """Return a file with this content that lives as long as the scratch directory."""
        path = self._scratch / str(len(list(self._scratch.iterdir())))
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def _add(self, place: str, kind: str, mode: int, group: str, **more: str) -> None:
        rights = {"mode": mode, "owner": "root", "group": group, "mtime": self._time}
        entry = {"dst": place, "file_info": rights, **more}
        self.entries.append({**entry, "type": kind} if kind else entry)


def filled_in(template: Path, values: Mapping[str, str]) -> str:
    """Return a script with its @NAMES@ replaced."""
    text = template.read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    assert "@" not in text.replace('"$@"', ""), f"{template}: a name in it has no value"
    return text
