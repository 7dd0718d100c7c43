"""Lists the packages that a training can import, from the directories of its sys.path.

Reads the metadata that installers leave, and imports nothing: the same for every version of Python, and for
environments whose own tools are broken.
"""

import json
import os
import re
from typing import Dict, List, Optional, Sequence, Tuple

from ._secrets import without_secrets_in

PACKAGES_MAX = 20000
_METADATA_BYTES_MAX = 64 * 1024
_SEPARATORS = re.compile(r"[-_.]+")


def list_packages(path: Sequence[str]) -> List[str]:
    """Return a line name==version for each package, as requirements.txt has them, sorted by name.

    A package that did not come from an index gets a comment with its source. Of several versions the first on
    the path counts, as it does for `import`.
    """
    found: Dict[str, str] = {}
    for directory in path:
        for name in _names_in(directory):
            if len(found) >= PACKAGES_MAX:
                break
            read = _read_package(os.path.join(directory, name))
            if read is not None:
                found.setdefault(_SEPARATORS.sub("-", read[0]).lower(), "%s==%s%s" % read)
    return [found[name] for name in sorted(found)]


def _names_in(directory: str) -> List[str]:
    try:
        listed = os.listdir(directory or ".")
    except OSError:  # a zip file, or nothing
        return []
    return sorted(name for name in listed if name.endswith((".dist-info", ".egg-info")))


def _read_package(path: str) -> Optional[Tuple[str, str, str]]:
    """Return name, version and a comment."""
    if path.endswith(".dist-info"):
        text = _read(os.path.join(path, "METADATA"))
    else:
        text = _read(os.path.join(path, "PKG-INFO")) if os.path.isdir(path) else _read(path)
    if text is None:
        return None
    fields: Dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            break  # the description begins
        name, separator, value = line.partition(":")
        if separator and name in ("Name", "Version"):
            fields.setdefault(name, value.strip())
    if len(fields) < 2:
        return None
    return fields["Name"], fields["Version"], _source(_read(os.path.join(path, "direct_url.json")))


def _source(text: Optional[str]) -> str:
    try:
        facts = json.loads(text or "{}")
        url = str(facts.get("url", ""))
        commit = str((facts.get("vcs_info") or {}).get("commit_id", ""))
        editable = bool((facts.get("dir_info") or {}).get("editable"))
    except (ValueError, AttributeError):
        return ""
    if not url:
        return ""
    source = without_secrets_in(url) + (commit and "@" + commit)
    return "  # %sfrom %s" % ("editable, " if editable else "", " ".join(source.split()))


def _read(path: str) -> Optional[str]:
    try:
        with open(path, "rb") as file:
            return file.read(_METADATA_BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        return None
