"""The dependency rules of the architecture: who may import whom, and through which door libraries come in.

tracker.protocol is what tracker._*, tracker_agent and tracker_server share; none of these imports another.
"""

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.imports import Import, Module, imports_of, is_in, our_modules, read_modules

#: The one module through which each outside library comes in.
DOORS = {
    "watchdog": ("tracker_agent.watcher",),
    "pynvml": ("tracker_agent.collectors.nvidia_calls",),
    "systemd": ("tracker_agent.systemd", "tracker_server.systemd"),
    "sqlalchemy": ("tracker_server.store",),
    "alembic": ("tracker_server.store",),
    "obstore": ("tracker_server.store",),
    "prometheus_client": (
        "tracker_agent.collectors.openmetrics",
        "tracker_agent.gpu_figures",
        "tracker_agent.host_figures",
        "tracker_agent.node_figures",
        "tracker_agent.telemetry",
        "tracker_server.telemetry",
    ),
}
#: aiohttp's client alone; its server half is the server's framework.
CLIENT_NAMES = tuple(
    f"aiohttp.{name}"
    for name in ("ClientSession", "ClientTimeout", "TCPConnector", "ClientResponse", "request")
)
CLIENT_DOORS = ("tracker_agent.transport",)
#: Modules that may read the environment when called.
CONFIG_DOORS = ("tracker_agent.config", "tracker_server.config", "tracker._settings")


def all_imports(modules: tuple[Module, ...]) -> Iterator[Import]:
    for module in modules:
        yield from imports_of(module)


def protocol_needs_only_msgpack(modules: tuple[Module, ...]) -> list[Import]:
    allowed = sys.stdlib_module_names | {"msgpack"}
    return [
        each
        for each in all_imports(modules)
        if is_in(each.importer, "tracker.protocol")
        and not is_in(each.imported, "tracker.protocol")
        and each.imported.split(".")[0] not in allowed
    ]


def packages_meet_only_in_the_protocol(modules: tuple[Module, ...]) -> list[Import]:
    ours = ("tracker", "tracker_agent", "tracker_server")
    return [
        each
        for each in all_imports(modules)
        for other in ours
        if is_in(each.imported, other)
        and not is_in(each.importer, other)
        and not is_in(each.imported, "tracker.protocol")
    ]


def shim_needs_only_msgpack(modules: tuple[Module, ...]) -> list[Import]:
    # What a user's script may have brought along (NumPy, TensorFlow) is looked at only if it is there.
    allowed = sys.stdlib_module_names | {"msgpack", "tracker"}
    return [
        each
        for each in all_imports(modules)
        if is_in(each.importer, "tracker") and each.imported.split(".")[0] not in allowed
    ]


def nobody_imports_cli_or_app(modules: tuple[Module, ...]) -> list[Import]:
    found = []
    for each in all_imports(modules):
        package = each.importer.split(".")[0]
        own_cli, own_app, own_commands = (f"{package}.{part}" for part in ("cli", "app", "commands"))
        if (
            each.importer == f"{package}.__main__"
            or is_in(each.importer, own_cli)
            or is_in(each.importer, own_commands)
        ):
            continue
        if is_in(each.imported, own_cli) or is_in(each.imported, own_app):
            found.append(each)
    return found


def each_library_has_one_door(modules: tuple[Module, ...]) -> list[Import]:
    found = []
    for each in all_imports(modules):
        for library, doors in DOORS.items():
            if is_in(each.imported, library) and not any(is_in(each.importer, door) for door in doors):
                found.append(each)
    return found


def only_the_transport_is_an_http_client(modules: tuple[Module, ...]) -> list[Import]:
    found = [
        each
        for each in all_imports(modules)
        if any(is_in(each.imported, name) for name in CLIENT_NAMES) and each.importer not in CLIENT_DOORS
    ]
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id}.{node.attr}"
                if name in CLIENT_NAMES and module.name not in CLIENT_DOORS:
                    found.append(Import(module.name, name, f"{module.path.name}:{node.lineno}"))
    return found


def environment_is_not_read_at_import(modules: tuple[Module, ...]) -> list[Import]:
    """At module level no one reads it; config alone may, and does so in functions."""
    found = []
    for module in modules:
        for node in _outside_functions(module.tree):
            is_read = isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv")
            if is_read and isinstance(node.value, ast.Name) and node.value.id == "os":
                found.append(Import(module.name, f"os.{node.attr}", f"{module.path.name}:{node.lineno}"))
    return found


def _outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(tree):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from _outside_functions(child)


Rule = Callable[[tuple[Module, ...]], list[Import]]
RULES: tuple[tuple[Rule, str, str], ...] = (
    # rule, the file of an invented module that breaks it, and what that module says
    (protocol_needs_only_msgpack, "tracker/protocol/codec.py", "import numpy"),
    (protocol_needs_only_msgpack, "tracker/protocol/codec.py", "from .._run import Run"),
    (
        packages_meet_only_in_the_protocol,
        "tracker_agent/tailer.py",
        "def f():\n    import tracker_server.store",
    ),
    (packages_meet_only_in_the_protocol, "tracker_server/ingest.py", "from tracker import _writer"),
    (shim_needs_only_msgpack, "tracker/_values.py", "import numpy"),
    (nobody_imports_cli_or_app, "tracker_agent/tailer.py", "from .app import build"),
    (nobody_imports_cli_or_app, "tracker_server/store/sql.py", "from tracker_server import cli"),
    (each_library_has_one_door, "tracker_agent/scanner.py", "from watchdog.observers import Observer"),
    (each_library_has_one_door, "tracker_server/query/runs.py", "import sqlalchemy as sa"),
    (
        only_the_transport_is_an_http_client,
        "tracker_agent/uploader.py",
        "import aiohttp\naiohttp.ClientSession()",
    ),
    (only_the_transport_is_an_http_client, "tracker_server/app.py", "from aiohttp import ClientSession"),
    (environment_is_not_read_at_import, "tracker_agent/scanner.py", "import os\nHOME = os.environ['HOME']"),
    (environment_is_not_read_at_import, "tracker/_run.py", "import os\nclass A:\n    b = os.getenv('B')"),
)


@pytest.mark.parametrize("rule", dict.fromkeys(rule for rule, _, _ in RULES), ids=lambda rule: rule.__name__)
def test_source_keeps_the_rule(rule: Rule) -> None:
    broken = [f"{each.importer} ({each.place}) uses {each.imported}" for each in rule(our_modules())]

    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(("rule", "file", "text"), RULES, ids=lambda value: getattr(value, "__name__", None))
def test_rule_notices_who_breaks_it(rule: Rule, file: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(text)

    broken = rule(tuple(read_modules(tmp_path)))

    assert broken
