"""RunFacts: what scripts made for wandb ask a run about itself, besides what RunState tells."""

import os

from . import _loading
from ._run_state import RunState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional


class RunFacts(RunState):
    """A run's settings, addresses and former life."""

    @property
    def dir(self) -> str:
        """The run's directory; where this package is called wandb, the directory of its files in it."""
        return self._files_directory or self.directory

    def use_files_directory(self) -> None:
        """Make the directory whose files are shipped without a call, and give it out as `dir`."""
        path = os.path.join(self.directory, "files")
        try:
            os.makedirs(path, 0o770, exist_ok=True)
        except OSError as error:
            self._warn("files", "%s cannot be made: %s" % (path, error.strerror or error))
            return
        self._files_directory = path

    @property
    def sync_dir(self) -> str:
        """The run's directory."""
        return self.directory

    @property
    def path(self) -> str:
        """Entity, project and id, joined by slashes."""
        return "/".join(part for part in (self.entity, self.project, self.id) if part)

    def project_name(self) -> str:
        """Return project."""
        return self.project

    @property
    def project_url(self) -> "Optional[str]":
        """Where to see the project's runs; None while no agent has told."""
        if self._url is None:
            return None
        base, _, rest = self._url.rpartition("/runs/")
        return "%s/?%s" % (base, rest.partition("?")[2])

    def get_project_url(self) -> "Optional[str]":
        """Return project_url."""
        return self.project_url

    @property
    def sweep_id(self) -> "Optional[str]":
        """None: there are no sweeps."""
        return None

    @property
    def sweep_url(self) -> "Optional[str]":
        """None: there are no sweeps."""
        return None

    @property
    def start_time(self) -> float:
        """When the run began in this process, in seconds since 1970."""
        return self._start_time_ns / 1e9

    @property
    def starting_step(self) -> int:
        """The step this process began at: above 0 where the run was resumed."""
        return self._starting_step

    @property
    def resumed(self) -> bool:
        """Whether the run goes on from what a former process recorded."""
        return self._resumed

    @property
    def config_static(self) -> "Dict[str, Any]":
        """A copy of the config as plain data."""
        return self._config.as_dict()

    @property
    def mode(self) -> str:
        """online, offline or disabled."""
        return "disabled" if self._disabled else "offline" if self.offline else "online"

    @property
    def settings(self) -> "Any":
        """The settings that the run began with, by the names of init()'s arguments."""
        with _loading.lock:
            from ._public_settings import Settings, settings_shown

        if self._settings is None:  # a run that was begun by another process, or none
            with _loading.lock:
                from ._wishes import Wishes

            self._settings = Wishes({}, {}, False).settings
        return Settings(**settings_shown(self._settings, self))

    @settings.setter
    def settings(self, settings: "Any") -> None:
        self._settings = settings

    @property
    def _attach_id(self) -> str:
        with _loading.lock:
            from ._handover import attach_id

        return attach_id(self)  # type: ignore[arg-type]  # every run is a Run

    def _label(self, *names: "Any", **labels: "Any") -> None:
        """Do nothing: frameworks tell wandb here who they are."""
