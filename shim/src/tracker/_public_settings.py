"""Settings: what scripts hand to init(settings=…) and read from run.settings."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator


#: What wandb's settings call the arguments of init().
ARGUMENTS = {
    "run_id": "id",
    "run_name": "name",
    "run_notes": "notes",
    "run_tags": "tags",
    "run_group": "group",
    "run_job_type": "job_type",
    "root_dir": "dir",
    "username": "account",
    "start_time": "start_time",
}


class Settings:
    """Named values; those that nobody set are None. Any name is taken, as scripts set many."""

    def __init__(self, **values: "Any") -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> "Any":
        if name.startswith("__"):
            raise AttributeError(name)
        other = ARGUMENTS.get(name)
        return self.__dict__.get(other) if other else None

    def __iter__(self) -> "Iterator[Any]":
        return iter(self.__dict__.items())

    def __contains__(self, name: str) -> bool:
        return name in self.__dict__

    def __repr__(self) -> str:
        shown = {name: value for name, value in self.__dict__.items() if name != "api_key"}
        return "Settings(%s)" % ", ".join("%s=%r" % pair for pair in sorted(shown.items()))


def arguments_in(settings: "Any") -> "Dict[str, Any]":
    """Return what a dict or an object of settings says, by the names of init()'s arguments."""
    if settings is None:
        return {}
    if isinstance(settings, dict):
        found = dict(settings)
    elif isinstance(settings, Settings):
        found = dict(vars(settings))
    else:
        if isinstance(settings, (str, bytes, int, float, list, tuple)):
            raise TypeError("no settings")
        found = {name: getattr(settings, name, None) for name in dir(settings) if name[0] != "_"}
    return {
        ARGUMENTS.get(name, name): value
        for name, value in found.items()
        if value is not None and not callable(value)
    }


def settings_shown(settings: "Any", run: "Any") -> "Dict[str, Any]":
    """Return what run.settings shows. The API key is nobody's business."""
    hidden = ("api_key", "problems", "role")
    found = {name: value for name, value in vars(settings).items() if name[0] != "_"}
    shown = {name: value for name, value in found.items() if name not in hidden}
    shown.update(id=run.id, name=run.name, project=run.project, entity=run.entity, mode=run.mode)
    return shown
