"""What each module of our packages imports, read from the source without running it."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("shim/src", "agent/src", "server/src")


class Import(NamedTuple):
    """One import, as in `importer` (a dotted module) imports `imported` (a dotted module or name in one)."""

    importer: str
    imported: str
    place: str


class Module(NamedTuple):
    """A source file of ours."""

    name: str
    path: Path
    tree: ast.Module


@functools.cache
def our_modules() -> tuple[Module, ...]:
    """Return every module of the three packages."""
    return tuple(module for source in SOURCES for module in read_modules(ROOT / source))


def read_modules(source: Path) -> list[Module]:
    """Return the modules below a directory of packages."""
    modules = []
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules.append(Module(name, path, ast.parse(path.read_text(), str(path))))
    return modules


def imports_of(module: Module) -> Iterator[Import]:
    """Yield all imports of a module, those inside functions too, relative ones made absolute."""
    package = module.name.split(".")
    if module.path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(module.tree):
        place = f"{module.path.name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module.name, alias.name, place)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(module.name, f"{origin}.{alias.name}", place)


def is_in(module: str, package: str) -> bool:
    """Return whether a dotted name is that package or something below it."""
    return module == package or module.startswith(package + ".")
