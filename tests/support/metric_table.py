"""Whether collectors bring what their table of metrics says."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tracker_agent.collectors.collector import Collector


def undeclared(kind: type[Collector], names: Iterable[str]) -> list[str]:
    """Return the names that stand in no line of the table; `#` there is a device of any name without dots."""
    patterns = [re.escape(metric.name).replace(r"\#", "#").replace("#", r"[^.]+") for metric in kind.metrics]
    table = re.compile("|".join(patterns))
    return [name for name in names if not table.fullmatch(name)]
