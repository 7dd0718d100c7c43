"""The built UI: its files, and index.html for every other path, since the UI routes by itself."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

BUILT_UI = Path(__file__).with_name("static")

_NOT_BUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Tracker</title>
<h1>Tracker runs, but its web UI is not built</h1>
<p>From a checkout: <code>make ui</code>, then reload this page. The API works without it:
<a href="/api/v1/openapi.json">openapi.json</a>.</p>
</html>
"""


class Ui:
    """Serves files below one directory and nothing else."""

    def __init__(self, directory: Path = BUILT_UI) -> None:
        self._directory = directory.resolve()

    def respond(self, path: str) -> web.StreamResponse:
        """Return the file a URL path names, or index.html."""
        file = self._try_file(path.removeprefix("/"))
        if file is not None:
            response = web.FileResponse(file)
            # File names below assets/ carry a hash of their content.
            immutable = path.startswith("/assets/")
            response.headers["Cache-Control"] = (
                "public, max-age=31536000, immutable" if immutable else "no-cache"
            )
            return response
        if path.startswith("/assets/"):
            return web.Response(status=404, text="no such file\n")
        index = self._directory / "index.html"
        if not index.is_file():
            return web.Response(text=_NOT_BUILT, content_type="text/html", status=200)
        return web.FileResponse(index, headers={"Cache-Control": "no-cache"})

    def _try_file(self, name: str) -> Path | None:
        if not name or "\0" in name:
            return None
        try:
            file = (self._directory / name).resolve()
            inside = file.is_relative_to(self._directory) and file.is_file()
        except (OSError, ValueError):
            return None
        return file if inside else None
