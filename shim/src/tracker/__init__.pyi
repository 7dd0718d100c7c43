# What is public, with types: the code itself is written for Python 3.6 and loads most of it late.

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, TypeAlias

from . import plot as plot
from ._absent import agent as agent
from ._absent import controller as controller
from ._absent import sweep as sweep
from ._api import Api as Api
from ._artifacts import Artifact as Artifact
from ._config import Config as Config
from ._define import Metric
from ._errors import AlertLevel as AlertLevel
from ._errors import CommError as CommError
from ._errors import ConfigError as ConfigError
from ._errors import Error as Error
from ._errors import UsageError as UsageError
from ._handover import _attach as _attach
from ._handover import attach as attach
from ._public_settings import Settings as Settings
from ._rich import Audio as Audio
from ._rich import Bokeh as Bokeh
from ._rich import Chart as Chart
from ._rich import Classes as Classes
from ._rich import Histogram as Histogram
from ._rich import Html as Html
from ._rich import Image as Image
from ._rich import JoinedTable as JoinedTable
from ._rich import Molecule as Molecule
from ._rich import Object3D as Object3D
from ._rich import Plotly as Plotly
from ._rich import Table as Table
from ._rich import Video as Video
from ._rich import box3d as box3d
from ._run import Run as Run
from ._summary import Summary as Summary
from .plot import plot_table as plot_table

__version__: str

run: Run | None
config: Config
summary: Summary

patched: dict[str, Any]

_Path: TypeAlias = str | PathLike[str]
_Policy: TypeAlias = Literal["live", "now", "end"]

def init(
    entity: str | None = None,
    project: str | None = None,
    dir: _Path | None = None,  # noqa: A002
    id: str | None = None,  # noqa: A002
    name: str | None = None,
    notes: str | None = None,
    tags: Sequence[str] | str | None = None,
    config: Mapping[str, Any] | object | None = None,
    config_exclude_keys: Sequence[str] | str | None = None,
    config_include_keys: Sequence[str] | str | None = None,
    allow_val_change: bool | None = None,
    group: str | None = None,
    job_type: str | None = None,
    mode: Literal["online", "offline", "dryrun", "disabled", "shared"] | None = None,
    force: bool | None = None,
    reinit: bool | Literal["default", "return_previous", "finish_previous", "create_new"] | None = None,
    resume: bool | Literal["allow", "must", "never", "auto"] | None = None,
    resume_from: str | None = None,
    fork_from: str | None = None,
    save_code: bool | None = None,
    tensorboard: bool | None = None,
    sync_tensorboard: bool | None = None,
    monitor_gym: bool | None = None,
    settings: Settings | Mapping[str, Any] | None = None,
    anonymous: object = None,
    allow_stop: bool | None = None,
    **unknown: object,
) -> Run: ...
def log(
    data: Mapping[str, Any], step: int | None = None, commit: bool | None = None, sync: bool | None = None
) -> None: ...
def finish(exit_code: int | None = None, quiet: bool | None = None) -> None: ...
def login(
    anonymous: object = None,
    key: str | None = None,
    relogin: bool | None = None,
    host: str | None = None,
    force: bool | None = None,
    timeout: int | None = None,
    verify: bool = False,
    referrer: str | None = None,
    **unknown: object,
) -> bool: ...
def setup(settings: object = None) -> None: ...
def teardown(exit_code: int | None = None) -> None: ...
def require(requirement: object = None, experiment: object = None) -> None: ...
def termsetup(settings: object = None, logger: object = None) -> None: ...
def termlog(string: str = "", newline: bool = True, repeat: bool = True, prefix: bool = True) -> None: ...
def termwarn(string: str, newline: bool = True, repeat: bool = True, prefix: bool = True) -> None: ...
def termerror(string: str, newline: bool = True, repeat: bool = True, prefix: bool = True) -> None: ...
def save(
    glob_str: _Path | None = None,
    base_path: _Path | None = None,
    policy: _Policy = "live",
    glob: bool = True,
    block: bool = False,
) -> list[str]: ...
def restore(
    name: str, run_path: str | None = None, replace: bool = False, root: _Path | None = None
) -> Any: ...
def log_code(
    root: str | None = ".",
    name: str | None = None,
    include_fn: Callable[..., bool] | None = None,
    exclude_fn: Callable[..., bool] | None = None,
) -> Any: ...
def log_artifact(
    artifact_or_path: Any,
    name: str | None = None,
    type: str | None = None,  # noqa: A002
    aliases: list[str] | None = None,
    tags: list[str] | None = None,
) -> Any: ...
def use_artifact(
    artifact_or_name: Any,
    type: str | None = None,  # noqa: A002
    aliases: list[str] | None = None,
    use_as: str | None = None,
) -> Any: ...
def upsert_artifact(
    artifact_or_path: Any,
    name: str | None = None,
    type: str | None = None,  # noqa: A002
    aliases: list[str] | None = None,
    distributed_id: str | None = None,
) -> Any: ...
def finish_artifact(
    artifact_or_path: Any,
    name: str | None = None,
    type: str | None = None,  # noqa: A002
    aliases: list[str] | None = None,
    distributed_id: str | None = None,
) -> Any: ...
def link_artifact(artifact: Any, target_path: str, aliases: list[str] | None = None) -> Any: ...
def log_model(path: _Path, name: str | None = None, aliases: list[str] | None = None) -> Any: ...
def use_model(name: str) -> str: ...
def link_model(
    path: _Path, registered_model_name: str, name: str | None = None, aliases: list[str] | None = None
) -> Any: ...
def watch(
    models: Any,
    criterion: Any = None,
    log: Literal["gradients", "parameters", "all"] | None = "gradients",
    log_freq: int = 1000,
    idx: int | None = None,
    log_graph: bool = False,
) -> list[Any]: ...
def unwatch(models: Any = None) -> None: ...
def define_metric(
    name: str,
    step_metric: str | Metric | None = None,
    step_sync: bool | None = None,
    hidden: bool | None = None,
    summary: str | None = None,
    goal: Literal["minimize", "maximize"] | None = None,
    overwrite: bool | None = None,
) -> Metric | None: ...
def write_logs(text: str) -> None: ...
def alert(
    title: str, text: str, level: AlertLevel | str | None = None, wait_duration: float | object | None = None
) -> None: ...
def mark_preempting() -> None: ...
def pin_config_keys(keys: Sequence[str]) -> None: ...
