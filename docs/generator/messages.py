"""reference/messages.md: what the three programs say when something is wrong, gathered from their code.

Whoever has a message and not the page that explains it searches for its words. "…" stands for what differs from
one time to the next. The page is made when the site is built (site_hooks.py), not kept: else whoever mends a
message would have to make it anew. It reads source files and imports none of our packages.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
AGENT, SERVER, SHIM = "agent/src/tracker_agent", "server/src/tracker_server", "shim/src/tracker"

_HEAD = """\
# Messages

What the programs say when something is wrong, by where it is said, gathered from the code: search for the words of a message.
"…" stands for names, numbers and paths. Messages say what to do themselves; [Troubleshooting](../troubleshooting.md) tells more
about each symptom.

"""


class Topic(NamedTuple):
    """Messages of one sort: a heading, where they show and which page explains them, and the code that says them."""

    heading: str
    text: str
    modules: tuple[str, ...]


TOPICS = (
    Topic(
        "Settings of the agent",
        "At the start, by `tracker-agent check-config`, or in the log and `status` after a reload "
        "([what to do](../troubleshooting.md#the-unit-failed-with-status-2)).",
        tuple(f"{AGENT}/{name}" for name in (
            "config.py", "settings.py", "setting_values.py", "server_settings.py", "places_check.py", "commands/check_config.py",
        )),
    ),
    Topic(
        "Certificates, proxies and connections",
        "In `tracker-agent status`, the log and `check-config` "
        "([what to do](../troubleshooting.md#cannot-be-reached)).",
        tuple(f"{AGENT}/{name}" for name in ("tls.py", "certificates.py", "connection_errors.py", "answers.py", "transport.py")),
    ),
    Topic(
        "Keys and who owns a run",
        "In `tracker-agent status`, behind `parked: … no key` ([what to do](../troubleshooting.md#no-key)).",
        (f"{AGENT}/credentials.py", f"{AGENT}/watched_file.py"),
    ),
    Topic(
        "Streams that the server does not take",
        "In `tracker-agent status`, behind `parked:` ([what to do](../troubleshooting.md#parked)).",
        tuple(f"{AGENT}/{name}" for name in ("uploader.py", "lane.py", "positions.py", "roster.py", "attention.py")),
    ),
    Topic(
        "Files and directories in a spool",
        "In `tracker-agent status`, behind `ignored:`, `spool …:` or `unread` "
        "([what to do](../troubleshooting.md#ignored)).",
        tuple(f"{AGENT}/{name}" for name in (
            "opening.py", "segments.py", "scanner.py", "catalogue.py", "spool_users.py", "spool_keeper.py", "removal.py",
            "trimmer.py", "file_tree.py", "file_watch.py", "agent_file.py", "stop_file.py",
        )),
    ),
    Topic(
        "Starting and asking the agent",
        "On stderr of `tracker-agent` ([what to do](../troubleshooting.md#the-agent-does-not-start)).",
        tuple(f"{AGENT}/{name}" for name in (
            "state_lock.py", "metrics_endpoint.py", "app.py", "control.py", "commands/command.py", "commands/run.py",
            "commands/agent_connection.py", "commands/status.py", "commands/replay.py", "commands/sync.py", "commands/pause_gpu.py",
            "commands/support_bundle.py", "sync.py", "adoption.py", "handovers.py",
        )),
    ),
    Topic(
        "The server's start and settings",
        "On stderr of `tracker-server`, with exit status 2 ([what to do](../troubleshooting.md#the-server-does-not-start)).",
        tuple(f"{SERVER}/{name}" for name in (
            "config.py", "cli.py", "app.py", "auth.py", "data_directory.py", "store/accounts.py", "store/engine.py", "store/store.py",
            "store/errors.py",
        )),
    ),
    Topic(
        "Answers of the server",
        "The field `reason` of an error; the agent shows it in `status` ([the codes](../api.md#in-general)).",
        tuple(f"{SERVER}/web/{name}" for name in (
            "errors.py", "authenticator.py", "security.py", "byte_budget.py", "endpoint.py", "ingest_api.py", "blobs_api.py",
            "files_api.py", "accounts_api.py", "stop_api.py", "runs_api.py", "points_api.py", "machine_api.py",
        )) + (f"{SERVER}/ingest/commit.py", f"{SERVER}/ingest/decode.py", f"{SERVER}/ingest/position.py", f"{SERVER}/ingest/files.py"),
    ),
    Topic(
        "In a training's output",
        "On stderr of the training, behind `tracker: warning:`, once for each line of code. The training goes on "
        "([what to do](../troubleshooting.md#tracker-warning)).",
        tuple(f"{SHIM}/{name}" for name in (
            "_settings.py", "_settings_file.py", "_start.py", "_spool.py", "_run.py", "_run_calls.py", "_run_state.py", "_session.py",
            "_resume.py", "_console.py", "_files.py", "_copies.py", "_artifact.py", "_define.py", "_config.py", "_summary.py",
            "_helper_client.py", "_sign_in.py", "_credentials.py", "_handover.py", "_watch.py", "_wrap.py", "_supervise.py", "_restore.py",
        )),
    ),
)  # fmt: skip

#: A sentence has so many words; what is shorter is a name or a part of something.
_WORDS_MIN = 4
_CHARACTERS_MAX = 300
#: Texts for other programs: types, statements, headers, code.
_FOR_PROGRAMS = re.compile(
    r"^\w+\[|^(PRAGMA|UPDATE|SELECT|INSERT|CREATE|import|default-src|sandbox|attachment)\b"
)
#: Calls whose texts are the log's, or declare something.
_SAY_NOTHING = {
    "debug", "info", "warning", "error", "setting", "add_argument", "add_parser", "parser", "compile", "Command", "Route",
}  # fmt: skip
_DECLARES = {"help", "metavar", "description", "summary", "usage", "epilog"}


def page() -> str:
    """Return the page."""
    return _HEAD + "".join(line for topic in TOPICS for line in _section(topic))


def _section(topic: Topic) -> Iterator[str]:
    yield f"## {topic.heading}\n\n{topic.text}\n\n"
    found: dict[str, None] = {}
    for module in topic.modules:
        if (ROOT / module).exists():
            found.update(dict.fromkeys(sentences(ROOT / module)))
    for text in found:
        yield f"- {_escaped(text)}\n"
    yield "\n"


def sentences(file: Path, words_min: int = _WORDS_MIN) -> list[str]:
    """Return what one module says, in the order of its code."""
    tree = ast.parse(file.read_text())
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
        and isinstance(node.body[0].value, ast.Constant)
    }
    gathered = _Gatherer(documented)
    gathered.visit(tree)
    return [
        text
        for text in gathered.texts
        if len(re.findall(r"[A-Za-z]{2,}", text)) >= words_min
        and len(text) <= _CHARACTERS_MAX
        and not _FOR_PROGRAMS.match(text)
    ]


class _Gatherer(ast.NodeVisitor):
    """Gathers texts that are said: raised, returned, yielded, warned of, or kept as a reason."""

    def __init__(self, documented: set[int]) -> None:
        self.texts: list[str] = []
        self._documented = documented

    def visit_Expr(self, node: ast.Expr) -> None:
        if id(node.value) not in self._documented:
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name not in _SAY_NOTHING:
            self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg not in _DECLARES:
            self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> None:
        """Leave out what a dict declares, as keyword arguments do."""
        for key, value in zip(node.keys, node.values, strict=True):
            if not (isinstance(key, ast.Constant) and key.value in _DECLARES):
                self.visit(value)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self._say(node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self._say("".join(str(each.value) if isinstance(each, ast.Constant) else "…" for each in node.values))

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Join what is added up; of "%s" % value take the left side."""
        if isinstance(node.op, ast.Mod) and isinstance(node.left, ast.Constant):
            self.visit(node.left)
        elif isinstance(node.op, ast.Add) and (text := _joined(node)).strip("…"):
            self._say(text)
        else:
            self.generic_visit(node)

    def _say(self, text: str) -> None:
        text = re.sub(r"%(?:[-0-9.]*[sdrgfx])", "…", text).replace("%%", "%")
        text = " ".join(text.split()).strip(" ;→")
        if " " in text and text not in self.texts:
            self.texts.append(text)


def _joined(node: ast.expr) -> str:
    """Return the text of a sum of texts; "…" where it is none."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _joined(node.left) + _joined(node.right)
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else "…"
    if isinstance(node, ast.JoinedStr):
        return "".join(str(each.value) if isinstance(each, ast.Constant) else "…" for each in node.values)
    return "…"


def _escaped(text: str) -> str:
    """Keep signs of Markdown as they are; words in backquotes stay code."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([\\*_<\[\]#|{}])", r"\\\1", part) for part in parts
    )
