"""wandb.sdk: the classes behind wandb's names."""

from tracker import (
    Artifact,
    Config,
    Run,
    Settings,
    Summary,
    finish,
    init,
    login,
    setup,
    teardown,
    unwatch,
    watch,
)

__all__ = [
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
