"""wandb.sdk: the classes and functions behind wandb's names."""

from .._lazy import lookup

_SUBMODULES = frozenset(
    [
        "artifacts",
        "data_types",
        "lib",
        "wandb_artifacts",
        "wandb_config",
        "wandb_init",
        "wandb_login",
        "wandb_run",
        "wandb_settings",
        "wandb_setup",
        "wandb_summary",
        "wandb_watch",
    ]
)
_TRACKERS = frozenset(
    [
        "Artifact",
        "Config",
        "Run",
        "Settings",
        "Summary",
        "finish",
        "init",
        "login",
        "setup",
        "teardown",
        "unwatch",
        "watch",
    ]
)

__getattr__ = lookup(__name__, _SUBMODULES, _TRACKERS)
