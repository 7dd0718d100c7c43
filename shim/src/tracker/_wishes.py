"""What a call of init() asks for, from all the places where that may stand.

Arguments first, then `settings=`, then TRACKER_* variables (WANDB_* after them, where this package is called
wandb), then settings files, then defaults.
"""

import builtins
import os
import sys

from ._public_settings import arguments_in
from ._settings import Settings
from ._settings_file import read_settings
from ._values import UnsupportedError, to_mapping, to_plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping


REINITS = ("return_previous", "finish_previous", "create_new")

#: Arguments of wandb.init() without effect here.
_WITHOUT_EFFECT = frozenset(["magic", "sync", "monitor", "sweep_id"])

#: Settings that every run in a working directory begins with.
CONFIG_DEFAULTS = "config-defaults.yaml"

#: In `tracker run` the supervisor has begun the run already: what it says stands before the arguments.
SUPERVISED = "TRACKER_SUPERVISED"


class Wishes:
    """The settings of a run to begin, its first config, and what becomes of a run that is open."""

    def __init__(
        self,
        arguments: "Mapping[str, Any]",
        unknown: "Mapping[str, Any]",
        wandb: bool,
        environ: "Mapping[str, str]" = os.environ,
    ) -> None:
        """arguments: those of init(), None where not given. wandb: its variables and defaults count."""
        self.wandb = wandb
        self.environ = environ
        self.problems: List[str] = []
        if wandb:
            from ._wandb_names import with_wandb_variables

            self.environ = environ = with_wandb_variables(environ)
        given = self._settings_argument(arguments)
        given.update((name, value) for name, value in arguments.items() if value is not None)
        self.reinit = self._reinit(given.pop("reinit", None))
        mode = given.get("mode", environ.get("TRACKER_MODE"))
        if wandb and not (isinstance(mode, str) and mode in ("offline", "dryrun")):
            # There it is where logs are kept, and frameworks always give it; here the agent would not look.
            given.pop("dir", None)
        self._obey_supervisor(given)
        self.settings = Settings(given, environ, self._file(environ))
        self.problems += self.settings.problems
        self.given = given
        strange = sorted(set(unknown) - _WITHOUT_EFFECT)
        if strange:
            self.problems.append("init() does not know %s; ignored" % ", ".join(strange))

    def config(self) -> "Dict[str, Any]":
        """Return the config to begin with. Raise nothing; what is wrong goes to problems."""
        source = self.given.get("config")
        values: Dict[str, Any] = {}
        try:
            is_path = isinstance(source, (str, bytes)) or hasattr(source, "__fspath__")
            if is_path or os.path.isfile(CONFIG_DEFAULTS):
                from ._config_files import read_config, read_defaults

                values.update(read_defaults(CONFIG_DEFAULTS, self.problems))
                source = read_config(os.fsdecode(source)) if is_path else source  # type: ignore[arg-type]
            values.update(to_mapping(source))
        except UnsupportedError as error:
            self.problems.append(str(error))
        except Exception as error:  # noqa: BLE001 - objects of all kinds, and the directory may be gone
            self.problems.append("the config cannot be read: %s: %s" % (type(error).__name__, error))
        only, without = self._names("config_include_keys"), self._names("config_exclude_keys")
        if only and without:
            self.problems.append("config_include_keys and config_exclude_keys: only the former counts")
        if only:
            return {name: value for name, value in values.items() if name in only}
        return {name: value for name, value in values.items() if name not in without}

    def _names(self, argument: str) -> "List[str]":
        given = to_plain(self.given.get(argument))
        if isinstance(given, str):
            return [name.strip() for name in given.split(",")]
        return [str(name) for name in given] if isinstance(given, list) else []

    def _settings_argument(self, arguments: "Mapping[str, Any]") -> "Dict[str, Any]":
        try:
            return arguments_in(arguments.get("settings"))
        except TypeError:  # an object without attributes
            self.problems.append("settings is a dict or tracker.Settings(...); ignored")
            return {}

    def _file(self, environ: "Mapping[str, str]") -> "Dict[str, str]":
        try:
            return read_settings(environ, os.getcwd(), self.problems)
        except OSError:  # the working directory is gone
            return {}

    def _obey_supervisor(self, given: "Dict[str, Any]") -> None:
        run_id = self.environ.get(SUPERVISED)
        if not run_id or self.environ.get("TRACKER_RUN_ID") != run_id:
            return
        if str(to_plain(given.get("id", run_id))) != run_id:
            return  # a run of its own, beside the one of `tracker run`
        for name, variable in (("project", "TRACKER_PROJECT"), ("entity", "TRACKER_ENTITY")):
            theirs = self.environ.get(variable)
            if name in given and str(to_plain(given[name])) != theirs:
                self.problems.append(
                    "`tracker run` began this run in the %s %s; %s=%r is ignored"
                    % (name, theirs or "of the agent's key", name, to_plain(given.pop(name)))
                )

    def _reinit(self, given: "Any") -> str:
        if isinstance(given, bool):
            return "finish_previous" if given else "return_previous"
        given = to_plain(given)
        if isinstance(given, str) and given in REINITS:
            return given
        if given is not None and given != "default":
            self.problems.append("reinit %r is not one of default, %s" % (given, ", ".join(REINITS)))
        # A cell that is run again begins a new run; wandb's scripts count on getting the open one.
        return "return_previous" if self.wandb and not in_notebook() else "finish_previous"


def in_notebook() -> bool:
    """Return whether this is a Jupyter kernel."""
    return "ipykernel" in sys.modules and hasattr(builtins, "__IPYTHON__")
