"""Configs in YAML files: the path given to init(config=…), and config-defaults.yaml in the working directory.

YAML is read where PyYAML is installed, and only when there is such a file. Each value stands for itself
or, as wandb writes them, under `value` beside a description.
"""

import importlib
import os
from typing import Any, Dict, List

from ._values import UnsupportedError, is_mapping

FILE_BYTES_MAX = 10 * 1024 * 1024


def read_config(path: str) -> Dict[str, Any]:
    """Return the settings in a YAML file. Raise UnsupportedError where it cannot be read."""
    try:
        yaml: Any = importlib.import_module("yaml")
    except ImportError:
        raise UnsupportedError(
            "config %r is the name of a file, which takes PyYAML to read: pip install pyyaml" % path
        ) from None
    try:
        with open(path, "rb") as file:
            document = yaml.safe_load(file.read(FILE_BYTES_MAX))
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise UnsupportedError("config %r cannot be read: %s" % (path, error)) from error
    if document is None:
        return {}
    if not is_mapping(document):
        raise UnsupportedError("config %r holds no settings by name" % path)
    return {
        str(name): _without_description(value)
        for name, value in document.items()
        if str(name) not in ("wandb_version", "_wandb")
    }


def read_defaults(path: str, problems: List[str]) -> Dict[str, Any]:
    """Return what a file of defaults says; nothing where there is none."""
    if not os.path.isfile(path):
        return {}
    try:
        return read_config(path)
    except UnsupportedError as error:
        problems.append(str(error))
        return {}


def _without_description(value: Any) -> Any:
    described = is_mapping(value) and "value" in value and not set(value) - {"value", "desc"}
    return value["value"] if described else value
