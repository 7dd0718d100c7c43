"""What mkdocs is told beyond mkdocs.yml: a page of all messages; links out of docs/ become text, drawings part of the page.

README, examples and sample configurations are part of the source and not of the site; a link there would be
dead on a site that is read without the source. tests/test_documents.py checks that they lead somewhere.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from docs.generator import messages

_DOCS = Path(__file__).resolve().parents[1]
_OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)\s#]+)(?:#[^)]*)?\)")
_DRAWING = re.compile(r'<img alt="([^"]*)" src="([^"]+\.svg)"[^>]*>')
_NOTICE = re.compile(r"^Made from the code by `[^`]+`; change it there\.\n+", re.MULTILINE)


def on_files(files: Files, *, config: Any, **_: Any) -> Files:
    """Add the page that is made of the code and not kept."""
    files.append(File.generated(config, "reference/messages.md", content=messages.page()))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Replace links that lead out of docs/ by their text and the path in the source."""
    directory = (_DOCS / page.file.src_uri).parent

    def outside(match: re.Match[str]) -> str:
        text, target = match.groups()
        path = (directory / target).resolve()
        if path.is_relative_to(_DOCS):
            return match.group()
        name = path.relative_to(_DOCS.parent).as_posix() + ("/" if path.is_dir() else "")
        return f"`{name}`" if text.strip("`/") == name.strip("/") else f"{text} (`{name}`)"

    return _NOTICE.sub("", _OUTSIDE.sub(outside, markdown))


def on_page_content(html: str, *, page: Any, **_: Any) -> str:
    """Put drawings into the page itself, where they take the colours of its text."""
    directory = (_DOCS / page.file.src_uri).parent

    def drawing(match: re.Match[str]) -> str:
        alternative, source = match.groups()
        text = (directory / source).read_text()
        svg = text[text.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{alternative}"', 1)
        return f'<span class="drawing">{svg}</span>'

    return _DRAWING.sub(drawing, html)


#: What a browser fetches by itself: not links that people follow.
_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*\ssrc=["']?(?:https?:)?//"""
    r"""|<link\b(?![^>]*rel=["']?(?:canonical|alternate|next|prev))[^>]*\shref=["']?(?:https?:)?//"""
    r"""|@import\s+(?:url\()?["']?(?:https?:)?//|url\(["']?(?:https?:)?//"""
)


def on_post_build(*, config: Any, **_: Any) -> None:
    """Fail where a page would fetch something from elsewhere: it must work offline, and tell nobody."""
    site = Path(config["site_dir"])
    found = [
        f"{file.relative_to(site)}: {match.group()}"
        for file in sorted([*site.rglob("*.html"), *site.rglob("*.css")])
        for match in _FETCHED.finditer(file.read_text())
    ]
    if found:
        raise SystemExit("the site would fetch from elsewhere:\n" + "\n".join(found[:20]))
