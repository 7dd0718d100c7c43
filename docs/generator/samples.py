"""What the sample configurations in deploy/ say of each setting: the comment in front of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
_SECTION = re.compile(r"\[([\w.]+)\]$")
_SETTING = re.compile(r"(?:# )?(\w+) = ")
#: Whether a change needs a restart stands beside each setting anyway.
_RESTART = re.compile(r"\s*\(restart\)")


def texts(sample: str) -> Mapping[tuple[str, str], str]:
    """Return the comment of every setting by (section, name); settings of one paragraph share theirs."""
    found: dict[tuple[str, str], str] = {}
    section, comment, names = "", [""], [""]
    for line in [*(DEPLOY / sample).read_text().splitlines(), ""]:
        heading, setting = _SECTION.match(line), _SETTING.match(line)
        if setting:
            names.append(setting.group(1))
        elif line.startswith("#") and not line.startswith("#     "):
            if names:  # a comment behind settings begins a new paragraph
                comment, names = [], []
            comment.append(line.lstrip("# "))
        for name in names:
            found[section, name] = _RESTART.sub("", " ".join(comment)).strip()
        if heading:
            section, comment, names = heading.group(1), [], []
        elif not line:
            comment, names = [], []
    return found
