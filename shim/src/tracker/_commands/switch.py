"""`tracker off` and `tracker on`: whether what runs in a directory is recorded."""

import os
from typing import List

from .._settings_file import read_settings
from .printing import parser, say
from .settings_edit import change_settings, file_to_change

_MORE = (
    "This is the setting `disabled` in the nearest .tracker/settings, of this directory\n"
    "or one above; a new file is made here where there is none. The argument `mode` of\n"
    "tracker.init() and TRACKER_MODE stand before it. Runs under way are not concerned.\n\n"
    "Exit codes: 0, 1: the file cannot be written."
)


def turn_off(argv: List[str]) -> int:
    """Record nothing of what runs in this directory; return the exit status."""
    parser(
        "off",
        "Record nothing of what runs in this directory or below: tracker.init() acts as mode disabled.",
        _MORE,
    ).parse_args(argv)
    path = file_to_change(os.getcwd())
    change_settings(path, {"disabled": "true"})
    say("off: nothing that runs in %s is recorded (%s)" % (os.path.dirname(os.path.dirname(path)), path))
    return 0


def turn_on(argv: List[str]) -> int:
    """Record what runs in this directory again; return the exit status."""
    parser(
        "on", "Record what runs in this directory or below: the opposite of `tracker off`.", _MORE
    ).parse_args(argv)
    if not is_off(read_settings(os.environ, os.getcwd()).get("disabled", "")):
        say("on: nothing is switched off here")
        return 0
    path = file_to_change(os.getcwd())
    # Removed would not do where the user's own file says `disabled = true`.
    change_settings(path, {"disabled": "false"})
    say("on: what runs in %s is recorded (%s)" % (os.path.dirname(os.path.dirname(path)), path))
    return 0


def is_off(disabled: str) -> bool:
    """Return whether a value of the setting `disabled` means yes."""
    return disabled.lower() in ("1", "true", "yes", "on")
