"""Chart: a table, and how a chart shows it."""

from typing import Any, Dict, Optional

from .._values import UnsupportedError, is_mapping, to_plain
from .media import Media
from .table import Table
from .value import RichValue


class Chart(RichValue):
    """What the functions of tracker.plot return."""

    _type = "chart"

    def __init__(self, chart: str, table: Any, fields: Any, strings: Any = None, problem: str = "") -> None:
        """chart: its kind. fields: {role: column}. strings: {role: text}, such as the title.

        problem: why there is nothing to show after all.
        """
        self.chart = str(to_plain(chart))
        self.table: Optional[Table] = None
        self.fields: Dict[str, Any] = {}
        self.strings: Dict[str, Any] = {}
        with self._noting_problems():
            if problem:
                raise UnsupportedError(problem)
            if not isinstance(table, Table):
                raise UnsupportedError("a chart is made of a Table, not of a %s" % type(table).__name__)
            self.table = table
            self.fields = _texts(fields, "fields")
            self.strings = _texts(strings or {}, "string_fields")
            missing = [name for name in self.fields.values() if name not in table.columns]
            if missing:
                raise UnsupportedError("the table has no column %s" % ", ".join(missing))

    def _encode(self, media: Media) -> Dict[str, Any]:
        assert self.table is not None
        return {
            "chart": self.chart,
            "fields": self.fields,
            "strings": self.strings,
            "table": self.table.to_record(media).data,
        }


def _texts(given: Any, what: str) -> Dict[str, str]:
    if not is_mapping(given):
        raise UnsupportedError("%s of a chart is a dict of strings" % what)
    return {str(name): str(to_plain(given[name])) for name in given}
