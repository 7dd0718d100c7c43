"""A TOML file of settings: its values, the line of each, and all that is wrong with them, said at once.

The agent and the server both have this file, with the same text: neither imports the other.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

#: How bad a problem is: the program does not start; it starts, but not all is well; only good to know.
ERROR, WARNING, NOTE = "error", "warning", "note"

#: What the TOML parser says, and what to do about it.
_TOML_REMEDIES = (
    ("Cannot overwrite a value", "the setting is there twice: keep one"),
    ("Cannot declare", "the section is there twice: put its settings together"),
    ("Unclosed array", "a list ends with ]"),
    ("Unterminated string", "a text begins and ends with a quote"),
    ("Illegal character", "a text begins and ends with a quote, in one line"),
    ("Unescaped", "write \\\\ for a backslash, or put the text in single quotes"),
    ("Expected '='", "a setting is written NAME = VALUE"),
    ("Expected newline", "one setting in a line; a # begins a comment"),
    ("Invalid value", 'texts stand in quotes, as in url = "https://HOST"; numbers, true and false without'),
)


@dataclass(frozen=True)
class Source:
    """Where a value was given: a line of a file, a variable, the command line."""

    name: str
    line: int | None = None
    kind: str = "file"

    def __str__(self) -> str:
        return self.name if self.line is None else f"{self.name}, line {self.line}"


def of_variable(name: str) -> Source:
    """Return the source of what a variable of the environment says."""
    return Source(f"the variable {name}", kind="variable")


COMMAND_LINE = Source("the command line", kind="flag")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: what, what to do about it, and where."""

    what: str
    todo: str
    source: Source | None = None
    setting: str = ""  #: as "server.url"
    level: str = ERROR

    def __str__(self) -> str:
        where = f"{self.source}: " if self.source is not None else ""
        return f"{where}{self.what}; {self.todo}"

    def to_json(self) -> dict[str, Any]:
        """Return it for programs."""
        source = self.source
        return {
            "level": self.level,
            "setting": self.setting or None,
            "source": str(source) if source else None,
            "file": source.name if source and source.kind == "file" else None,
            "line": source.line if source else None,
            "problem": self.what,
            "remedy": self.todo,
        }


class ConfigError(Exception):
    """Settings that cannot be used: each problem is a line that says where, what and what to do."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def refusal(what: str, todo: str, source: Source | None = None, setting: str = "") -> ConfigError:
    """Return the error of one problem."""
    return ConfigError(Problem(what, todo, source, setting))


class Problems:
    """Collects what is wrong, so that a person who mends it hears of everything at once."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Take note of a ConfigError and go on behind the block."""
        try:
            yield
        except ConfigError as error:
            self.found += error.problems

    def warn(self, what: str, todo: str, source: Source | None = None, setting: str = "") -> None:
        """Take note of what can be used, but should be looked at."""
        self.found.append(Problem(what, todo, source, setting, WARNING))

    @property
    def errors(self) -> list[Problem]:
        """What keeps the program from starting."""
        return [each for each in self.found if each.level == ERROR]

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The rest."""
        return tuple(each for each in self.found if each.level != ERROR)


def as_warnings(problems: list[Problem]) -> list[Problem]:
    """Return problems as such that keep nothing from starting."""
    return [replace(each, level=WARNING) for each in problems]


class TomlFile:
    """The text of a config file and what it says: {section: {name: value}}."""

    def __init__(self, name: str, text: str) -> None:
        """Parse. Raise ConfigError."""
        self._name = name
        self._lines = text.splitlines()
        try:
            self.document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise self._syntax_error(str(error)) from error

    def source(self, section: str, name: str | None = None) -> Source:
        """Return where a setting stands, or a section. tomllib keeps no positions: spellings are searched."""
        current, of_section = "", None
        for number, line in enumerate(self._lines, 1):
            heading = re.match(r"\s*\[\[?\s*([\w.\"' -]+?)\s*\]", line)
            if heading:
                current = re.sub(r"[\"' ]", "", heading.group(1))
            within = current == section or current.startswith(f"{section}.")
            if of_section is None and (within or self._begins(line, section, "[=.]")):
                of_section = number
                if name is None:
                    break
            if name is not None:
                here = current == section and self._begins(line, name, "=")
                here = here or (bool(heading) and current == f"{section}.{name}")
                dotted = not current and self._begins(
                    line, section, rf"\.\s*[\"']?{re.escape(name)}[\"']?\s*="
                )
                if here or dotted:
                    return Source(self._name, number)
        return Source(self._name, of_section)

    @staticmethod
    def _begins(line: str, word: str, rest: str) -> bool:
        return bool(re.match(rf"\s*[\"']?{re.escape(word)}[\"']?\s*{rest}", line))

    def _syntax_error(self, message: str) -> ConfigError:
        said, _, where = message.rpartition(" (at ")
        line = re.match(r"line (\d+), column (\d+)", where)
        number = int(line.group(1)) if line else max(1, len(self._lines))
        place = f" (column {line.group(2)})" if line else " (at the end)"
        todo = next((todo for begin, todo in _TOML_REMEDIES if said.startswith(begin)), "mend that line")
        todo = todo if line else "a list ends with ], a text with a quote"
        return refusal(f"not valid TOML: {said or message}{place}", todo, Source(self._name, number))


def read_toml(file: Path) -> TomlFile:
    """Read and parse a config file. Raise ConfigError."""
    source = Source(str(file))
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise refusal("there is no such config file", "check the path", source) from error
    except OSError as error:
        said = error.strerror or error
        raise refusal(f"cannot read the config file: {said}", "check path and permissions", source) from error
    except UnicodeDecodeError as error:
        raise refusal(f"not UTF-8 text (byte {error.start})", "save the file as UTF-8", source) from error
    if text.startswith("\ufeff"):
        raise refusal("begins with a byte order mark", "save the file as UTF-8 without one", source)
    return TomlFile(str(file), text)


def suggestion(word: str, known: list[str]) -> str:
    """Return what to do about an unknown word: the known one that it looks like, or all."""
    close = difflib.get_close_matches(word, known, 1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
