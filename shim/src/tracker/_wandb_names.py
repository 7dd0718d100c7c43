"""WANDB_* variables, for scripts that know this package by the name wandb."""

from typing import Dict, Mapping

#: TRACKER_ variables by the WANDB_ ones that mean the same.
VARIABLES = {
    "WANDB_MODE": "TRACKER_MODE",
    "WANDB_PROJECT": "TRACKER_PROJECT",
    "WANDB_ENTITY": "TRACKER_ENTITY",
    "WANDB_NAME": "TRACKER_NAME",
    "WANDB_NOTES": "TRACKER_NOTES",
    "WANDB_TAGS": "TRACKER_TAGS",
    "WANDB_RUN_GROUP": "TRACKER_GROUP",
    "WANDB_JOB_TYPE": "TRACKER_JOB_TYPE",
    "WANDB_RUN_ID": "TRACKER_RUN_ID",
    "WANDB_RESUME": "TRACKER_RESUME",
    "WANDB_SILENT": "TRACKER_SILENT",
    "WANDB_CONSOLE": "TRACKER_CONSOLE",
    "WANDB_DISABLE_CODE": "TRACKER_DISABLE_CODE",
    "WANDB_DISABLE_GIT": "TRACKER_DISABLE_GIT",
    "WANDB_IGNORE_GLOBS": "TRACKER_IGNORE_GLOBS",
    "WANDB_BASE_URL": "TRACKER_BASE_URL",
    "WANDB_API_KEY": "TRACKER_API_KEY",
}
_YES = ("1", "true", "yes", "on")
#: What keys of Tracker start with.
KEY_PREFIX = "tk_"


def with_wandb_variables(environ: Mapping[str, str]) -> Dict[str, str]:
    """Return the environment with TRACKER_ variables from WANDB_ ones where they are not set."""
    found = dict(environ)
    for theirs, ours in VARIABLES.items():
        value = environ.get(theirs)
        if value and not environ.get(ours) and _is_for_us(theirs, value):
            found[ours] = value
    if environ.get("WANDB_DISABLED", "").lower() in _YES and not environ.get("TRACKER_MODE"):
        found["TRACKER_MODE"] = "disabled"
    return found


def _is_for_us(name: str, value: str) -> bool:
    """A key and an address of wandb's own service would keep the run waiting for ever."""
    if name == "WANDB_API_KEY":
        return value.startswith(KEY_PREFIX)
    if name == "WANDB_BASE_URL":
        return not value.rstrip("/").endswith("wandb.ai")
    return True
