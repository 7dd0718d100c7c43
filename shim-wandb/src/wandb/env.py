"""wandb.env: names of the variables, and what they say just now."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional

API_KEY = "WANDB_API_KEY"
BASE_URL = "WANDB_BASE_URL"
CONSOLE = "WANDB_CONSOLE"
DIR = "WANDB_DIR"
DISABLE_CODE = "WANDB_DISABLE_CODE"
DISABLE_GIT = "WANDB_DISABLE_GIT"
ENTITY = "WANDB_ENTITY"
IGNORE = "WANDB_IGNORE_GLOBS"
JOB_TYPE = "WANDB_JOB_TYPE"
MODE = "WANDB_MODE"
NAME = "WANDB_NAME"
NOTES = "WANDB_NOTES"
PROJECT = "WANDB_PROJECT"
RESUME = "WANDB_RESUME"
RUN_GROUP = "WANDB_RUN_GROUP"
RUN_ID = "WANDB_RUN_ID"
SILENT = "WANDB_SILENT"
TAGS = "WANDB_TAGS"


def get_project(default: "Optional[str]" = None, env: "Optional[Dict[str, str]]" = None) -> "Optional[str]":
    """Return WANDB_PROJECT."""
    return _get(PROJECT, default, env)


def get_entity(default: "Optional[str]" = None, env: "Optional[Dict[str, str]]" = None) -> "Optional[str]":
    """Return WANDB_ENTITY."""
    return _get(ENTITY, default, env)


def get_run(default: "Optional[str]" = None, env: "Optional[Dict[str, str]]" = None) -> "Optional[str]":
    """Return WANDB_RUN_ID."""
    return _get(RUN_ID, default, env)


def get_run_group(default: "Optional[str]" = None, env: "Optional[Dict[str, str]]" = None) -> "Optional[str]":
    """Return WANDB_RUN_GROUP."""
    return _get(RUN_GROUP, default, env)


def get_name(default: "Optional[str]" = None, env: "Optional[Dict[str, str]]" = None) -> "Optional[str]":
    """Return WANDB_NAME."""
    return _get(NAME, default, env)


def get_base_url(default: "Optional[str]" = None, env: "Optional[Dict[str, str]]" = None) -> "Optional[str]":
    """Return WANDB_BASE_URL."""
    return _get(BASE_URL, default, env)


def get_dir(default: "Optional[str]" = None, env: "Optional[Dict[str, str]]" = None) -> "Optional[str]":
    """Return WANDB_DIR, which has no say in where Tracker records."""
    return _get(DIR, default, env)


def get_tags(default: str = "", env: "Optional[Dict[str, str]]" = None) -> "List[str]":
    """Return the tags in WANDB_TAGS."""
    return [tag for tag in (_get(TAGS, default, env) or "").split(",") if tag]


def is_offline(env: "Optional[Dict[str, str]]" = None) -> bool:
    """Return whether WANDB_MODE keeps runs on this machine."""
    return _get(MODE, "", env) in ("offline", "dryrun")


def _get(name: str, default: "Optional[str]", env: "Optional[Dict[str, str]]") -> "Optional[str]":
    return (os.environ if env is None else env).get(name, default)
