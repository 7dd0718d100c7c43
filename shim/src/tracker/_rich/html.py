"""Html and Bokeh: a page, from text or a file."""

import os
from typing import Any, Dict, Optional

from .._values import UnsupportedError
from .libraries import needed
from .media import INLINE_BYTES_MAX, Media, as_path
from .value import RichValue


class Html(RichValue):
    """A page. It is shown apart from everything else, without rights."""

    _type = "html"

    def __init__(self, data: Any, inject: bool = True, data_is_not_path: bool = False) -> None:  # noqa: ARG002
        """data: the page, the path of a file that exists, or an open file.

        inject is accepted and means nothing: pages are kept as they are.
        """
        self.html = ""
        self._path: Optional[str] = None
        with self._noting_problems():
            if callable(getattr(data, "read", None)):
                data = data.read()
            if isinstance(data, (bytes, bytearray)):
                data = bytes(data).decode("utf-8", "replace")
            path = None if data_is_not_path else as_path(data)
            if path is not None and (not isinstance(data, str) or _is_file(path)):
                self._path = path
            elif isinstance(data, str):
                self.html = str(data)
            else:
                raise UnsupportedError("a page is text, a path or a file, not a %s" % type(data).__name__)

    def _encode(self, media: Media) -> Dict[str, Any]:
        if self._path is not None:
            return media.copy("html", "html", self._path)
        content = self.html.encode("utf-8", "backslashreplace")
        if len(content) <= INLINE_BYTES_MAX:
            return {"html": self.html}
        return media.write("html", "html", [content])


class Bokeh(Html):
    """A plot of bokeh, kept as the page that bokeh makes of it."""

    def __init__(self, data: Any) -> None:
        """data: a plot or layout of bokeh."""
        super().__init__("", data_is_not_path=True)
        with self._noting_problems():
            embed = needed("bokeh.embed", "a plot of bokeh")
            resources = needed("bokeh.resources", "a plot of bokeh")
            self.html = embed.file_html(data, resources.CDN)


def _is_file(text: str) -> bool:
    # Most pages are no path at all: too long, with line breaks, or with a NUL.
    try:
        return len(text) < 4096 and os.path.isfile(text)
    except (OSError, ValueError):
        return False
