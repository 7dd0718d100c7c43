"""Plotly: a figure of plotly, as the JSON that plotly draws it from."""

import json
from typing import Any, Dict

from .._values import UnsupportedError, is_mapping, to_plain
from .image import figure_of, is_matplotlib
from .libraries import needed
from .media import INLINE_BYTES_MAX, Media
from .value import RichValue


class Plotly(RichValue):
    """A figure: one of plotly, a dict in its form, or one of matplotlib that plotly translates."""

    _type = "plotly"

    def __init__(self, val: Any) -> None:
        """val: the figure."""
        self.json = ""
        with self._noting_problems():
            if is_matplotlib(val):
                val = needed("plotly.tools", "an interactive figure of matplotlib").mpl_to_plotly(
                    figure_of(val)
                )
            if callable(getattr(val, "to_json", None)):
                self.json = str(val.to_json())
            elif is_mapping(val):
                self.json = json.dumps(_for_json(val))
            else:
                raise UnsupportedError("a figure of plotly, not a %s" % type(val).__name__)

    def _encode(self, media: Media) -> Dict[str, Any]:
        content = self.json.encode("utf-8", "backslashreplace")
        if len(content) <= INLINE_BYTES_MAX:
            return {"json": self.json}
        return media.write("plotly", "json", [content])


def _for_json(value: Any) -> Any:
    """Return a figure's data with arrays as lists, and None where JSON has no number: NaN, infinities."""
    if callable(getattr(value, "tolist", None)):
        value = value.tolist()
    if isinstance(value, float):
        return float(value) if value - value == 0 else None
    if is_mapping(value):
        return {str(name): _for_json(value[name]) for name in list(value.keys())}
    if isinstance(value, (list, tuple)):
        return [_for_json(element) for element in value]
    return to_plain(value)
