"""reference/shim-settings.md: every setting of a run: argument of init(), variable, key of a settings file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import tracker
from tracker import _settings_file

from .settings_page import Shown, entry

_SOURCE = Path(tracker.__file__).parent
_VARIABLE = re.compile(r"TRACKER_[A-Z_]+[A-Z]")
#: Set by `tracker run` for the program it starts; nobody else's business.
_OURS = {"TRACKER_SUPERVISED"}
#: Arguments that init() takes in settings={…} only.
_IN_SETTINGS = {
    "base_url",
    "api_key",
    "account",
    "console",
    "disable_code",
    "disable_git",
    "ignore_globs",
    "silent",
}

_HEAD = """\
# Settings of a run

What a training script is told from outside. An argument of `tracker.init()` stands before its variable of the environment, that before
the settings files of the directory and of the user ([how those are written](../command.md#settings-files)), those before the
default. What cannot be used is replaced and said, once, on stderr: a typing mistake in a job script costs no job.
[What init() takes besides](../shim.md#init): `config`, `resume`, `reinit` and more.

"""
#: What each is for, and its default.
_TEXTS = {
    "project": ("Name of the project that the run belongs to: at most 128 characters, none of `/ \\ # ? % :`.", "`uncategorized`"),
    "name": ("Name of the run, for people.", "a random one, such as brisk-otter-417"),
    "id": ("Id of the run, 1 to 64 of `A-Z a-z 0-9 . _ -`, no dot first. Processes that are given the same id write one run.", "10 random letters and digits"),
    "entity": ("Entity (team) that the run belongs to.", "that of the key it is shipped with"),
    "notes": ("Notes about the run.", "none"),
    "group": ("Runs of one group are shown together: folds, ranks with ids of their own, stages.", "none"),
    "job_type": ("What sort of run it is within its group, such as `train` or `eval`.", "none"),
    "tags": ("Tags of the run; in a variable or file separated by commas.", "none"),
    "mode": ("`online`: an agent ships the run. `offline` (or `dryrun`): the files stay until [`tracker sync`](../command.md#shipping). `disabled`: nothing is recorded, every call works.", "`online`"),
    "disabled": ("The mode `disabled`, for scripts that ask for no mode; what `tracker off` sets.", "no"),
    "dir": ("The spool that the run is recorded in ([where records go](../shim.md#where-records-go)).", "`/var/spool/tracker` where it may be written, else `~/.local/state/tracker/spool`"),
    "base_url": ("Server that the run is for, one of those that the operator of the agent lists.", "the agent's default server"),
    "api_key": ("Key that the run is shipped with. `init` puts it into your own file in the spool, for the agent alone ([servers and keys](../shim.md#servers-and-keys)).", "that of `tracker login`, else the agent's own"),
    "account": ("Name under which the key is kept, and by which the run names it.", "the public part of the key"),
    "allow_stop": ("Whether the run may be [stopped from its page](../shim.md#stopping-a-run-from-elsewhere).", "no"),
    "resume": ("Whether the run [goes on from an earlier one](../shim.md#resuming): `allow`, `must`, `never` or `auto`.", "no"),
    "console": ("How [the console](../console.md) is recorded: `auto`, `redirect`, `wrap` or `off`.", "`auto`"),
    "disable_code": ("Record neither git state nor the list of packages.", "no: they are recorded"),
    "disable_git": ("Record no git state.", "no"),
    "ignore_globs": ("Files of the run that are not kept, as patterns; in a variable or file separated by commas.", "none"),
    "silent": ("Write nothing to the terminal.", "no"),
}  # fmt: skip


def page() -> str:
    """Return the page."""
    return "".join(_lines())


def variables() -> dict[str, str]:
    """Return the variable of each setting, as the code asks for them."""
    found: dict[str, str] = {"dir": "TRACKER_DIR"}
    for node in ast.walk(ast.parse((_SOURCE / "_settings.py").read_text())):
        if isinstance(node, ast.Call) and len(node.args) == 2:
            texts = [each.value for each in node.args if isinstance(each, ast.Constant)]
            if len(texts) == 2 and isinstance(texts[1], str) and _VARIABLE.fullmatch(texts[1]):
                found[str(texts[0])] = texts[1]
    return found


def variables_anywhere() -> set[str]:
    """Return every TRACKER_ variable that the shim's code names."""
    found = {name for file in _SOURCE.rglob("*.py") for name in _VARIABLE.findall(file.read_text())}
    return found - _OURS


def _lines() -> Iterator[str]:
    yield _HEAD
    known = variables()
    if set(known) != set(_TEXTS) or variables_anywhere() - set(known.values()):
        undescribed = set(known) ^ set(_TEXTS) | variables_anywhere() - set(known.values())
        raise SystemExit(f"docs/generator/shim_settings.py: say what these are for: {sorted(undescribed)}")
    yield "## For a run { #run }\n\n"
    for name, (text, default) in _TEXTS.items():
        argument = f'`settings={{"{name}": …}}`' if name in _IN_SETTINGS else f"`{name}`"
        facts = [("default", default)]
        if name != "disabled":
            facts.append(("argument of `init`", argument))
        facts.append(("variable", f"`{known[name]}`"))
        if name in _settings_file.KEYS:
            others = "" if name in _settings_file.KEYS_OF_OTHERS else ", in a file of your own or root's"
            facts.append(("settings file", f"`{name} = …`{others}"))
        yield from entry(Shown(name, text, facts))
