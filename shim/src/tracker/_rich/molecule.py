"""Molecule: a structure from a file."""

from typing import Any, Dict, Optional

from .._values import UnsupportedError, to_plain
from .media import Media, as_path, extension_of
from .value import RichValue

FORMATS = ("pdb", "pqr", "mmcif", "mcif", "cif", "sdf", "sd", "gro", "mol2", "mmtf")


class Molecule(RichValue):
    """A structure, kept as the file that it was."""

    _type = "molecule"

    def __init__(self, data_or_path: Any, caption: Any = None, file_type: Optional[str] = None) -> None:
        """data_or_path: a file, or an open one with its file_type."""
        self.caption = None if caption is None else str(to_plain(caption))
        self._path: Optional[str] = None
        self._content = b""
        self._format = ""
        with self._noting_problems():
            self._take(data_or_path, (file_type or "").lower().lstrip("."))

    def _take(self, given: Any, wanted: str) -> None:
        self._path = as_path(given)
        self._format = wanted or extension_of(self._path or "")
        if self._format not in FORMATS:
            raise UnsupportedError(
                "a molecule is one of %s, not %r; file_type=… says which" % (", ".join(FORMATS), self._format)
            )
        if self._path is None:
            if not callable(getattr(given, "read", None)):
                raise UnsupportedError(
                    "a molecule is a path or an open file, not a %s" % type(given).__name__
                )
            content = given.read()
            self._content = content.encode("utf-8") if isinstance(content, str) else bytes(content)

    def _encode(self, media: Media) -> Dict[str, Any]:
        if self._path is not None:
            data = media.copy("molecules", self._format, self._path)
        else:
            data = media.write("molecules", self._format, [self._content])
        data["format"] = self._format
        if self.caption is not None:
            data["caption"] = self.caption
        return data
